//! How often the detector is wrong, and what it sees: by simulation of noise whose truth is known.
//!
//! [`aa_table`] counts false regressions where nothing changed, and where the change is exactly the threshold. [`power_table`]
//! counts how often a harmful change is called a regression, beside the best classical test at the same error. Both run the whole
//! default detector over the same grid of [`Cell`]s; equal settings give equal tables on every machine.
//!
//! **Layout.** Without variance between starts a side is `samples` process starts of one iteration; with it, `samples` starts
//! of [`ITERATIONS`] iterations, and each start has a factor of its own that scatters as much as the iterations. Autocorrelated
//! noise is a drift of the machine over the time of measuring: there both sides are measured in turn and paired, which is the
//! default plan of a run. (Within starts of their own, autocorrelated iterations need no pairs.)
//!
//! ```
//! use evoseal_regression::simulation::{Cell, Noise, SimulationSettings, aa_table};
//! let settings = SimulationSettings { trials: 50, ..SimulationSettings::default() };
//! let cell = Cell { noise: Noise::Normal, coefficient_of_variation: 0.05, samples: 10, between_starts: false };
//! let rows = aa_table(&[cell], &settings)?;
//! assert_eq!(rows, aa_table(&[cell], &settings)?, "the same seed gives the same table");
//! # Ok::<(), evoseal_regression::Error>(())
//! ```

mod noise;
mod peers;
mod tables;

use std::collections::BTreeMap;

use evoseal_types::{Direction, MetricName, MetricSamples, MetricSpec, Sample};
use serde::{Deserialize, Serialize};

use crate::settings::MetricThreshold;
use crate::{Detector, Error, Measurements, RegressionDetector, RegressionSettings, Result, Verdict};

pub use noise::{Noise, NoiseSource};
pub use tables::{AaRow, PowerRow, aa_table, power_table};

/// Iterations of a process start where starts differ.
pub const ITERATIONS: u32 = 5;

/// One kind of measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The shape of the noise.
    pub noise: Noise,
    /// Its standard deviation as a share of the mean.
    pub coefficient_of_variation: f64,
    /// Independent values on each side.
    pub samples: u32,
    /// Whether each of them is a process start of several iterations with a factor of its own.
    pub between_starts: bool,
}

/// How a simulation is run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SimulationSettings {
    /// Pairs of sides per cell and true change; 1 to 1 000 000.
    pub trials: u32,
    /// Where the random numbers start.
    pub seed: u64,
    /// One minus the confidence level of the detector, between 0 and 1.
    pub alpha: f64,
}

impl Default for SimulationSettings {
    /// 10 000 trials have a standard error of 0.16 points at 2.5 %.
    fn default() -> Self {
        Self { trials: 10_000, seed: 1, alpha: 0.05 }
    }
}

impl Cell {
    /// Every noise, with CV of 1, 5 and 10 %, with 5, 10 and 30 samples, without and with variance between starts.
    pub fn grid() -> Vec<Self> {
        let mut cells = Vec::new();
        for between_starts in [false, true] {
            for noise in Noise::ALL {
                for coefficient_of_variation in [0.01, 0.05, 0.1] {
                    for samples in [5, 10, 30] {
                        cells.push(Self { noise, coefficient_of_variation, samples, between_starts });
                    }
                }
            }
        }
        cells
    }

    /// Whether both sides are measured in turn.
    pub fn is_paired(&self) -> bool {
        self.noise == Noise::Ar1 && !self.between_starts
    }

    /// A pass rate is harmed by a fall, everything else by a rise.
    pub fn direction(&self) -> Direction {
        if self.noise == Noise::PassRate { Direction::Decrease } else { Direction::Increase }
    }
}

/// Draws measurements of one cell, one trial after the other.
struct Trials {
    cell: Cell,
    spec: MetricSpec,
    source: NoiseSource,
}

impl Trials {
    /// Each cell has its own stream, which does not depend on the other cells.
    fn new(cell: Cell, settings: &SimulationSettings) -> Result<Self> {
        let mut seed = settings.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let parts = [
            cell.noise as u64,
            cell.coefficient_of_variation.to_bits(),
            u64::from(cell.samples),
            u64::from(cell.between_starts),
        ];
        for part in parts {
            seed = (seed ^ part).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(31);
        }
        let source = NoiseSource::new(cell.noise, cell.coefficient_of_variation, seed);
        Ok(Self { cell, spec: MetricSpec::new(METRIC, "", cell.direction())?, source })
    }

    /// Both sides, the candidate being worse by `harm`.
    fn draw(&mut self, harm: f64) -> Measurements {
        let level = 1.0 + self.cell.direction().harm_sign() * harm;
        let (mut old, mut new) = (Vec::new(), Vec::new());
        // In turns, so that what wanders with time wanders through both.
        for start in 0..self.cell.samples {
            for (side, level) in [(&mut old, 1.0), (&mut new, level)] {
                if self.cell.between_starts {
                    let level = level * self.source.start();
                    let iterations =
                        (0..ITERATIONS).map(|i| Sample::new(start, i, self.source.sample(level)));
                    side.extend(iterations);
                } else {
                    side.push(Sample::new(start, 0, self.source.sample(level)));
                }
            }
        }
        Measurements {
            incumbent: vec![MetricSamples::new(self.spec.clone(), old)],
            candidate: vec![MetricSamples::new(self.spec.clone(), new)],
            paired: self.cell.is_paired(),
            history: BTreeMap::new(),
            baselines: Vec::new(),
        }
    }
}

const METRIC: &str = "value";

/// The default detector with this threshold.
fn detector(alpha: f64, threshold: f64, direction: Direction) -> Result<RegressionDetector> {
    let mut settings = RegressionSettings::default();
    settings.statistical_analysis.confidence_level = 1.0 - alpha;
    let rule = MetricThreshold {
        threshold: Some(threshold),
        direction: Some(direction),
        ..MetricThreshold::default()
    };
    settings.metric_thresholds = BTreeMap::from([(MetricName::new(METRIC)?, rule)]);
    RegressionDetector::new(&settings)
}

/// Whether the only metric regressed.
fn is_regressed(detector: &RegressionDetector, measurements: &Measurements) -> Result<bool> {
    let assessment = detector.assess(measurements)?;
    Ok(assessment.findings.iter().any(|finding| finding.verdict == Verdict::Regressed))
}

/// Refuses settings out of range.
fn check(settings: &SimulationSettings) -> Result<()> {
    if (1..=1_000_000).contains(&settings.trials) {
        return Ok(());
    }
    let reason = format!("{} is not between 1 and 1000000", settings.trials);
    Err(Error::Invalid { what: "a number of trials".to_owned(), reason })
}
