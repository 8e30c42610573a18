//! From samples to a verdict: is the candidate worse?

mod detector;
mod error;

pub use detector::{
    Anomaly, Assessment, Baseline, DataProblem, Detector, DetectorStatus, Finding, Interval, Measurements,
    RegressionSummary, Trend, TrendDirection, Verdict,
};
pub use error::{Error, Result};
