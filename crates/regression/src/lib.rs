//! From samples to a verdict: is the candidate worse?

mod analyzer;
mod baselines;
mod comparisons;
mod config;
mod detector;
mod error;
mod history;
mod regression_detector;
mod samples;
mod settings;
pub mod statistics;
mod verdict;

pub use analyzer::{Analyzer, Comparison, Estimate, RankShift, TInterval, ThresholdOnly};
pub use baselines::Baselines;
pub use detector::{
    Anomaly, Assessment, Baseline, DataProblem, Detector, DetectorStatus, Finding, Interval, Measurements,
    RegressionSummary, Trend, TrendDirection, Verdict,
};
pub use error::{Error, Result};
pub use regression_detector::{AlertCallback, MetricStatistics, RegressionDetector};
pub use settings::{
    AnomalyAlgorithm, AnomalySettings, MetricThreshold, RegressionSettings, Sensitivity, StatisticalSettings,
};
