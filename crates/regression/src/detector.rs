//! The component trait of this crate, and what goes in and comes out of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use evoseal_types::{MetricName, MetricSamples, MetricSpec, Recommendation, Severity, Threshold, VersionId};
use serde::{Deserialize, Serialize};

use crate::{FurtherSamples, Result, RunAssessment, RunContext, RunMemory};

/// Everything that was measured and that a detector judges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    /// The accepted version.
    pub incumbent: Vec<MetricSamples>,
    /// The version that is judged.
    pub candidate: Vec<MetricSamples>,
    /// Whether sample `i` of the incumbent and sample `i` of the candidate were measured side by side.
    pub paired: bool,
    /// For each metric one value (the mean) per earlier accepted version, oldest first, the incumbent included.
    pub history: BTreeMap<MetricName, Vec<f64>>,
    /// Named, pinned versions that the candidate is compared with besides the incumbent, so that many small losses do
    /// not pass. These samples were taken at another time and are never paired.
    pub baselines: Vec<Baseline>,
    /// The run that the comparison is one of; `None` for a comparison by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunContext>,
}

/// A named, pinned version and its measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The baseline's name: `release`, `start`.
    pub name: String,
    /// The version that it pins.
    pub version_id: VersionId,
    /// What was measured of it.
    pub metrics: Vec<MetricSamples>,
}

/// What the comparison of one metric says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval lies on the good side of zero.
    Improved,
    /// The whole interval lies within the threshold on both sides.
    Equivalent,
    /// The whole interval lies beyond the threshold in the harmful direction.
    Regressed,
    /// The interval crosses a threshold: more samples could decide.
    Inconclusive,
    /// There is nothing to compute an interval from; [`Finding::problem`] says why.
    InsufficientData,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Improved => "improved",
            Self::Equivalent => "equivalent",
            Self::Regressed => "regressed",
            Self::Inconclusive => "inconclusive",
            Self::InsufficientData => "insufficient data",
        })
    }
}

/// Why a metric could not be compared. None of these is ever "no regression".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataProblem {
    /// The incumbent has the metric and the candidate does not.
    MissingInCandidate,
    /// The candidate has the metric and the incumbent does not.
    MissingInIncumbent,
    /// A sample of the candidate is NaN or infinite.
    NonFiniteInCandidate,
    /// A sample of the incumbent is NaN or infinite.
    NonFiniteInIncumbent,
    /// Fewer samples than the method needs.
    TooFewSamples,
    /// Incumbent and candidate disagree about unit or harmful direction.
    SpecMismatch,
}

/// An interval for the relative change.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The confidence level, a probability. Where an assessment has several comparisons it is the one at which this
    /// comparison was decided; see [`RegressionDetector`](crate::RegressionDetector).
    pub level: f64,
}

/// What was found about one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The metric.
    pub metric: MetricSpec,
    /// The name of the baseline that the candidate was compared with; `None` for the incumbent.
    pub baseline: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// How bad it is; set exactly when the verdict is [`Verdict::Regressed`].
    pub severity: Option<Severity>,
    /// Why there is no interval; set exactly when the verdict is [`Verdict::InsufficientData`].
    pub problem: Option<DataProblem>,
    /// The incumbent's location estimate (the mean, unless the method says otherwise), in the metric's unit.
    pub old_value: Option<f64>,
    /// The candidate's location estimate, in the metric's unit.
    pub new_value: Option<f64>,
    /// `new_value - old_value`.
    pub absolute_change: Option<f64>,
    /// `(new_value - old_value) / |old_value|`; `None` where the old value is zero.
    pub change: Option<f64>,
    /// The interval for the relative change; for the absolute change where the old value is zero.
    pub interval: Option<Interval>,
    /// Two-sided p-value of "no difference".
    pub p_value: Option<f64>,
    /// The probability that, with this noise and so many samples, a true change of the threshold's size would have given an
    /// interval beyond zero; `None` where there is no interval with a width, or no relative change.
    #[serde(default)]
    pub power: Option<f64>,
    /// The threshold that applied.
    pub threshold: Threshold,
    /// How many samples of incumbent and candidate were used.
    pub sample_counts: (usize, usize),
    /// The method that computed the interval.
    pub method: String,
    /// Unusual about the candidate's value against the history, harmful direction only.
    pub anomalies: Vec<Anomaly>,
    /// How the metric moved over the accepted versions; `None` for a short history.
    pub trend: Option<Trend>,
    /// One sentence for people.
    pub reason: String,
}

/// A value that stands out from its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    /// The method: `zscore`, `iqr`, `pattern_spike`.
    pub method: String,
    /// How bad.
    pub severity: Severity,
    /// The method's own measure of distance (z-score; distance over IQR; relative step).
    pub score: f64,
    /// The zero-based index of the value in its series.
    pub index: usize,
}

/// A straight line through a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Change per step, in the metric's unit.
    pub slope: f64,
    /// Interval of the slope at the detector's confidence level.
    pub slope_interval: Interval,
    /// Share of the variance that the line explains, 0 to 1.
    pub r_squared: f64,
    /// Which way the line goes, `stable` where the interval of the slope holds zero.
    pub direction: TrendDirection,
    /// The line's value one step after the series.
    pub predicted_next: f64,
}

/// Which way a trend goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrendDirection {
    /// Significantly rising.
    Increasing,
    /// Significantly falling.
    Decreasing,
    /// Neither.
    Stable,
}

/// All findings on one candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// One finding per metric and comparison partner: first against the incumbent, then against each baseline; each
    /// group sorted by metric name.
    pub findings: Vec<Finding>,
    /// What the detector advises, by the published rule over the severities.
    pub recommendation: Recommendation,
    /// The published summary.
    pub summary: RegressionSummary,
    /// What the judge of the run found; `None` for a comparison by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Box<RunAssessment>>,
}

impl Assessment {
    /// Whether any finding is a regression.
    pub fn regression_detected(&self) -> bool {
        self.regressions().next().is_some()
    }

    /// The findings that are regressions.
    pub fn regressions(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Regressed)
    }

    /// The finding on `metric` against the incumbent.
    pub fn against_incumbent(&self, metric: &MetricName) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.baseline.is_none() && finding.metric.name == *metric)
    }
}

/// Counts over an assessment, with the published names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegressionSummary {
    /// How many findings are regressions.
    pub total_regressions: usize,
    /// How many of each severity.
    pub severity_counts: BTreeMap<Severity, usize>,
    /// The metrics with a critical regression, sorted.
    pub critical_regressions: Vec<MetricName>,
    /// The metrics with a regression, sorted.
    pub affected_metrics: Vec<MetricName>,
}

/// How a detector is set up, for status pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectorStatus {
    /// The global threshold, as a fraction.
    pub threshold: f64,
    /// The confidence level of intervals.
    pub confidence_level: f64,
    /// The metrics with a threshold of their own, sorted.
    pub metrics_tracked: Vec<MetricName>,
    /// The names of the known baselines, sorted.
    pub baselines: Vec<String>,
}

/// Turns measurements into an assessment.
///
/// # Contract
///
/// - *Pure.* Equal measurements give equal assessments, byte for byte when serialised. No I/O.
/// - *Complete.* Each metric that incumbent or candidate has gets exactly one finding against the incumbent, and each
///   metric of a baseline exactly one against it. What cannot be compared is [`Verdict::InsufficientData`] with its
///   problem, never left out.
/// - *Honest.* [`Verdict::Regressed`] only where the whole interval lies beyond the threshold in the harmful direction;
///   improvements are never harm.
/// - *A run is judged as one.* Where [`Measurements::run`] is set, error rates are those of the run as far as the detector
///   knows how to: it says which further samples it needs, and learns from what was decided. All three methods are pure; the
///   memory that `remember` gives is all that passes from one iteration to the next.
/// - *Errors* are for measurements that contradict themselves (a metric named twice) and for bugs. A caller must treat
///   an error as a denial.
pub trait Detector: fmt::Debug + Send + Sync {
    /// Judges a candidate.
    fn assess(&self, measurements: &Measurements) -> Result<Assessment>;

    /// What has to be measured before there can be a verdict; `None` where the samples suffice, no others can be had, or the
    /// measurements belong to no run. Asked again with the further samples until it wants no more.
    fn further_samples(&self, measurements: &Measurements) -> Result<Option<FurtherSamples>> {
        let _ = measurements;
        Ok(None)
    }

    /// What to hand in with the next iteration's measurements as [`RunContext::memory`], once it is known whether this
    /// iteration's candidate was accepted. `None` for a detector that learns nothing.
    fn remember(&self, measurements: &Measurements, accepted: bool) -> Result<Option<RunMemory>> {
        let _ = (measurements, accepted);
        Ok(None)
    }

    /// How this detector is set up.
    fn status(&self) -> DetectorStatus;
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_detector {
    ($pointer:ident) => {
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<D: Detector + ?Sized> Detector for $pointer<D> {
            fn assess(&self, measurements: &Measurements) -> Result<Assessment> {
                (**self).assess(measurements)
            }

            fn further_samples(&self, measurements: &Measurements) -> Result<Option<FurtherSamples>> {
                (**self).further_samples(measurements)
            }

            fn remember(&self, measurements: &Measurements, accepted: bool) -> Result<Option<RunMemory>> {
                (**self).remember(measurements, accepted)
            }

            fn status(&self) -> DetectorStatus {
                (**self).status()
            }
        }
    };
}

forward_detector!(Arc);
forward_detector!(Box);
