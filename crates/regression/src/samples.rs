//! From samples as they were measured to values that are independent of each other.

use evoseal_types::{MetricSamples, Sample};

use crate::statistics::{effective_sample_size, mean, steady_state, variance_components};
use crate::{DataProblem, Result};

/// What the independent values of one side are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// One sample per process start.
    Sample,
    /// The mean of each process start's steady iterations.
    StartMean,
}

/// The independent values of one side, in the order in which they were measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Side {
    pub(crate) values: Vec<f64>,
    pub(crate) unit: Unit,
    /// Known where starts have more than one iteration.
    pub(crate) starts: Option<Starts>,
}

/// What the iterations within the process starts say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Starts {
    /// Iterations of all starts, warm-up included.
    pub(crate) iterations: usize,
    /// Iterations that were left out as warm-up.
    pub(crate) warm_up: usize,
    /// Starts that did not become steady within their first half.
    pub(crate) unsteady: usize,
    /// The share of the variance that lies between starts; unknown for one start.
    pub(crate) between_share: Option<f64>,
    /// How many independent values the iterations of the only start are worth; known only for one start.
    pub(crate) effective: Option<f64>,
}

impl Side {
    /// Reduces finite samples. Values of one process start share its luck with memory layout and the like, so that a
    /// start counts once however many iterations it has, by the mean of those after its warm-up.
    pub(crate) fn of(samples: &MetricSamples) -> Result<Self> {
        if has_one_sample_per_start(&samples.samples) {
            return Ok(Self { values: samples.values(), unit: Unit::Sample, starts: None });
        }
        let mut groups = by_start_in_order(&samples.samples);
        let iterations = samples.samples.len();
        let (mut warm_up, mut unsteady) = (0, 0);
        for group in &mut groups {
            let steady = steady_state(group)?;
            group.drain(..steady.first);
            warm_up += steady.first;
            unsteady += usize::from(!steady.reached);
        }
        let values: Result<Vec<f64>> = groups.iter().map(|group| mean(group)).collect();
        let starts = Starts {
            iterations,
            warm_up,
            unsteady,
            between_share: variance_components(&groups).ok().map(|parts| parts.intraclass_correlation),
            effective: if groups.len() == 1 { effective_sample_size(&groups[0]).ok() } else { None },
        };
        Ok(Self { values: values?, unit: Unit::StartMean, starts: Some(starts) })
    }
}

/// Whether starts never repeat; the usual rising numbers need no table.
fn has_one_sample_per_start(samples: &[Sample]) -> bool {
    if samples.windows(2).all(|pair| pair[0].start < pair[1].start) {
        return true;
    }
    let mut starts: Vec<u32> = samples.iter().map(|sample| sample.start).collect();
    starts.sort_unstable();
    starts.windows(2).all(|pair| pair[0] < pair[1])
}

/// The independent values of a side in the order of their measurement: its samples where each has a process start of its
/// own, else the mean of each start's iterations after its warm-up.
///
/// Values of one start share its luck with memory layout and the like and count once. So do those of a single start: they
/// become one value, too few to compare two versions by, for what differs between starts cannot be seen in them. Every
/// sample has to be finite.
///
/// ```
/// use evoseal_regression::independent_values;
/// use evoseal_types::{Direction, MetricSamples, MetricSpec, Sample};
/// let spec = MetricSpec::new("latency", "ms", Direction::Increase)?;
/// let samples = vec![Sample::new(0, 0, 1.0), Sample::new(0, 1, 3.0), Sample::new(1, 0, 5.0)];
/// assert_eq!(independent_values(&MetricSamples::new(spec.clone(), samples))?, vec![2.0, 5.0]);
/// // One start, however often it was measured, is one value.
/// let alone = vec![Sample::new(0, 0, 1.0), Sample::new(0, 1, 3.0)];
/// assert_eq!(independent_values(&MetricSamples::new(spec, alone))?, vec![2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn independent_values(samples: &MetricSamples) -> Result<Vec<f64>> {
    Side::of(samples).map(|side| side.values)
}

/// Groups by process start, starts in the order of their first sample, so that pairs stay pairs.
fn by_start_in_order(samples: &[Sample]) -> Vec<Vec<f64>> {
    let mut groups: Vec<Vec<f64>> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for sample in samples {
        let place = *places.entry(sample.start).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(sample.value);
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
    if old.spec != new.spec {
        Some(DataProblem::SpecMismatch)
    } else if first_non_finite(new).is_some() {
        Some(DataProblem::NonFiniteInCandidate)
    } else if first_non_finite(old).is_some() {
        Some(DataProblem::NonFiniteInIncumbent)
    } else {
        None
    }
}

/// The first sample that is no finite number, and its place.
pub(crate) fn first_non_finite(side: &MetricSamples) -> Option<(usize, f64)> {
    non_finite(side.samples.iter().map(|sample| sample.value))
}

/// The first value that is no finite number, and its place.
pub(crate) fn non_finite(values: impl IntoIterator<Item = f64>) -> Option<(usize, f64)> {
    values.into_iter().enumerate().find(|(_, value)| !value.is_finite())
}
