//! From samples as they were measured to values that are independent of each other.

use evoseal_types::{MetricSamples, Sample};

use crate::statistics::mean;
use crate::{DataProblem, Result};

/// What the independent values of one side are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// One sample per process start.
    Sample,
    /// The mean of each process start's samples.
    StartMean,
    /// The samples of the only process start: they are not independent, but there is nothing else.
    WithinOneStart,
}

/// The independent values of one side, in the order in which they were measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Side {
    pub(crate) values: Vec<f64>,
    pub(crate) unit: Unit,
}

impl Side {
    /// Reduces finite samples. Values of one process start share its luck with memory layout and the like, so that a
    /// start counts once however many samples it has.
    pub(crate) fn of(samples: &MetricSamples) -> Result<Self> {
        let groups = by_start_in_order(&samples.samples);
        if groups.len() == samples.samples.len() {
            return Ok(Self { values: samples.values(), unit: Unit::Sample });
        }
        if groups.len() == 1 {
            return Ok(Self { values: samples.values(), unit: Unit::WithinOneStart });
        }
        let means: Result<Vec<f64>> = groups.iter().map(|(_, values)| mean(values)).collect();
        Ok(Self { values: means?, unit: Unit::StartMean })
    }
}

/// The independent values of a side in the order of their measurement: its samples, or the mean of each process start where
/// starts have several.
///
/// Values of one start share its luck with memory layout and the like and count once. The samples of a single start are
/// returned as they are, for there is nothing else; what differs between starts is then not covered.
///
/// ```
/// use evoseal_regression::independent_values;
/// use evoseal_types::{Direction, MetricSamples, MetricSpec, Sample};
/// let spec = MetricSpec::new("latency", "ms", Direction::Increase)?;
/// let samples = vec![Sample::new(0, 0, 1.0), Sample::new(0, 1, 3.0), Sample::new(1, 0, 5.0)];
/// assert_eq!(independent_values(&MetricSamples::new(spec, samples))?, vec![2.0, 5.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn independent_values(samples: &MetricSamples) -> Result<Vec<f64>> {
    Side::of(samples).map(|side| side.values)
}

/// Groups by process start, starts in the order of their first sample, so that pairs stay pairs.
fn by_start_in_order(samples: &[Sample]) -> Vec<(u32, Vec<f64>)> {
    let mut groups: Vec<(u32, Vec<f64>)> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for sample in samples {
        let place = *places.entry(sample.start).or_insert_with(|| {
            groups.push((sample.start, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(sample.value);
    }
    groups
}

/// The first of the problems that keep two sides from being compared.
pub(crate) fn problem(
    incumbent: Option<&MetricSamples>,
    candidate: Option<&MetricSamples>,
) -> Option<DataProblem> {
    let (Some(old), Some(new)) = (incumbent, candidate) else {
        return Some(if candidate.is_none() {
            DataProblem::MissingInCandidate
        } else {
            DataProblem::MissingInIncumbent
        });
    };
    let has_non_finite = |side: &MetricSamples| side.samples.iter().any(|sample| !sample.value.is_finite());
    if old.spec != new.spec {
        Some(DataProblem::SpecMismatch)
    } else if has_non_finite(new) {
        Some(DataProblem::NonFiniteInCandidate)
    } else if has_non_finite(old) {
        Some(DataProblem::NonFiniteInIncumbent)
    } else {
        None
    }
}
