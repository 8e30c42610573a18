//! One kind of measurement, and measurements drawn of it.

use std::fmt;

use std::collections::BTreeMap;

use evoseal_types::{Direction, MetricSamples, MetricSpec, Sample};
use serde::{Deserialize, Serialize};

use super::{NoiseKind, NoiseSource};
use crate::{Measurements, Result};

/// The noise of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noise {
    /// Normal.
    Normal,
    /// Log-normal, with the skew that a coefficient of variation of 0.3 has.
    LogNormal,
    /// Student's t with 3 degrees of freedom: heavy tails.
    StudentT3,
    /// A first-order autoregression with coefficient 0.7 over the time of measuring.
    Ar1,
    /// Two modes, 70 and 30 percent, two standard deviations apart.
    Bimodal,
    /// Shares of 100 trials that pass, with the probability that has the wanted scatter.
    PassRate,
}

impl Noise {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Normal, Self::LogNormal, Self::StudentT3, Self::Ar1, Self::Bimodal, Self::PassRate];

    /// Its shape; pass rates are binomial and drawn from uniform numbers.
    const fn kind(self) -> NoiseKind {
        match self {
            Self::Normal | Self::PassRate => NoiseKind::Normal,
            Self::LogNormal => NoiseKind::LogNormal,
            Self::StudentT3 => NoiseKind::HeavyTailed,
            Self::Ar1 => NoiseKind::Autoregressive,
            Self::Bimodal => NoiseKind::TwoModes,
        }
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Normal => "normal",
            Self::LogNormal => "log-normal",
            Self::StudentT3 => "t3",
            Self::Ar1 => "AR(1) 0.7",
            Self::Bimodal => "bimodal 70/30",
            Self::PassRate => "pass rate",
        })
    }
}

/// Trials behind one share of a pass rate.
const PASS_TRIALS: u32 = 100;

/// Iterations of a process start where starts differ.
pub const ITERATIONS: u32 = 5;

/// One kind of measurement.
///
/// **Layout.** Without variance between starts a side is `samples` process starts of one iteration; with it, `samples` starts
/// of [`ITERATIONS`] iterations, and each start has a factor of its own that scatters as much as the iterations. Autocorrelated
/// noise without it is a drift of the machine over the time of measuring: there both sides are measured in turn and paired, which is
/// the default plan of a run (`in_turn`). With it, the iterations of each start are autocorrelated among themselves.
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
    /// Whether both sides are measured in turn, or all of one before all of the other.
    pub in_turn: bool,
}

impl Cell {
    /// Every noise, with CV of 1, 5 and 10 %, with 5, 10 and 30 samples, without and with variance between starts.
    pub fn grid() -> Vec<Self> {
        let mut cells = Vec::new();
        for between_starts in [false, true] {
            for noise in Noise::ALL {
                for coefficient_of_variation in [0.01, 0.05, 0.1] {
                    for samples in [5, 10, 30] {
                        let in_turn = true;
                        cells.push(Self {
                            noise,
                            coefficient_of_variation,
                            samples,
                            between_starts,
                            in_turn,
                        });
                    }
                }
            }
        }
        cells
    }

    /// What happens without the default plan: wandering noise, and all of one side measured before all of the other.
    pub fn in_blocks() -> Vec<Self> {
        let wanders = |cell: &Self| cell.noise == Noise::Ar1 && !cell.between_starts;
        Self::grid().into_iter().filter(wanders).map(|cell| Self { in_turn: false, ..cell }).collect()
    }

    /// Whether values of both sides at one place belong together: where noise wanders with time and both are measured in turn.
    pub fn is_paired(&self) -> bool {
        self.noise == Noise::Ar1 && !self.between_starts && self.in_turn
    }

    /// A pass rate is harmed by a fall, everything else by a rise.
    pub fn direction(&self) -> Direction {
        if self.noise == Noise::PassRate { Direction::Decrease } else { Direction::Increase }
    }
}

/// Draws measurements of one cell, one trial after the other.
pub(super) struct Trials {
    cell: Cell,
    spec: MetricSpec,
    seed: u64,
    /// Streams that were begun.
    streams: u64,
    source: NoiseSource,
}

impl Trials {
    /// Each cell has its own stream, which does not depend on the other cells.
    pub(super) fn new(cell: Cell, seed: u64) -> Result<Self> {
        let mut mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let parts = [
            cell.noise as u64,
            cell.coefficient_of_variation.to_bits(),
            u64::from(cell.samples),
            u64::from(cell.between_starts),
        ];
        for part in parts {
            mixed = (mixed ^ part).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(31);
        }
        let source = NoiseSource::new(cell.noise.kind(), mixed, 0);
        Ok(Self {
            cell,
            spec: MetricSpec::new(METRIC, "", cell.direction())?,
            seed: mixed,
            streams: 0,
            source,
        })
    }

    /// Both sides, the candidate being worse by `harm`.
    pub(super) fn draw(&mut self, harm: f64) -> Measurements {
        let level = 1.0 + self.cell.direction().harm_sign() * harm;
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for start in 0..self.cell.samples {
            self.measure(&mut old, start, 1.0);
            if self.cell.in_turn {
                // What wanders with time wanders through both.
                self.measure(&mut new, start, level);
            }
        }
        let later = if self.cell.in_turn { 0 } else { self.cell.samples };
        for start in 0..later {
            self.measure(&mut new, start, level);
        }
        Measurements {
            incumbent: vec![MetricSamples::new(self.spec.clone(), old)],
            candidate: vec![MetricSamples::new(self.spec.clone(), new)],
            paired: self.cell.is_paired(),
            history: BTreeMap::new(),
            baselines: Vec::new(),
            run: None,
        }
    }

    /// Adds one process start to a side.
    fn measure(&mut self, side: &mut Vec<Sample>, start: u32, level: f64) {
        let (level, iterations) =
            if self.cell.between_starts { (level * self.new_start(), ITERATIONS) } else { (level, 1) };
        let values = self.values(iterations, level);
        side.extend((0..iterations).zip(values).map(|(i, value)| Sample::new(start, i, value)));
    }

    /// By what the mean of the next process start differs: a normal factor with the cell's coefficient of variation.
    fn new_start(&mut self) -> f64 {
        self.streams += 1;
        let mut between = NoiseSource::new(NoiseKind::Normal, self.seed, 2 * self.streams);
        // Another process has another past.
        self.source = NoiseSource::new(self.cell.noise.kind(), self.seed, 2 * self.streams + 1);
        between.value(1.0, self.cell.coefficient_of_variation).max(0.0)
    }

    /// The next samples of something whose mean is `level` times that of the unchanged code.
    fn values(&mut self, count: u32, level: f64) -> Vec<f64> {
        let cv = self.cell.coefficient_of_variation;
        if self.cell.noise != Noise::PassRate {
            return self.source.values(count as usize, level, cv);
        }
        let probability = (pass_probability(cv) * level).clamp(0.0, 1.0);
        let mut passes = || (0..PASS_TRIALS).filter(|_| self.source.uniform() < probability).count();
        (0..count).map(|_| passes() as f64 / f64::from(PASS_TRIALS)).collect()
    }
}

/// The probability for which the share of 100 trials scatters by this coefficient of variation: `(1 - p) / (100 p) = cv^2`.
fn pass_probability(cv: f64) -> f64 {
    1.0 / (1.0 + f64::from(PASS_TRIALS) * cv * cv)
}

/// The metric of every cell.
pub(super) const METRIC: &str = "value";

#[cfg(test)]
mod tests {
    use super::{Cell, ITERATIONS, Noise, Trials};
    use crate::statistics::{mean, std_dev, variance_components};

    #[test]
    fn samples_scatter_as_much_as_their_cell_says_within_and_between_starts() {
        for noise in Noise::ALL {
            let cell = Cell {
                noise,
                coefficient_of_variation: 0.05,
                samples: 4000,
                between_starts: false,
                in_turn: true,
            };
            let drawn = Trials::new(cell, 1).expect("a cell").draw(0.1);
            let values = drawn.incumbent[0].values();
            let (centre, scatter) = (mean(&values).expect("values"), std_dev(&values).expect("values"));
            // The fourth moment of t3 is infinite, so that its variance converges slowly.
            assert!((scatter / centre / 0.05 - 1.0).abs() < 0.15, "{noise}: {scatter}");
            let changed = mean(&drawn.candidate[0].values()).expect("values") / centre - 1.0;
            let harm = cell.direction().harm_sign() * 0.1;
            assert!((changed - harm).abs() < 0.01, "{noise}: {changed}");

            let starts = Trials::new(Cell { between_starts: true, ..cell }, 1).expect("a cell").draw(0.0);
            let groups = starts.incumbent[0].by_start();
            assert!(groups.len() == 4000 && groups[0].len() == ITERATIONS as usize);
            let between = variance_components(&groups).expect("starts").between.sqrt() / centre;
            // What wanders within a start is taken for the start's own factor.
            let most = if noise == Noise::Ar1 { 0.09 } else { 0.06 };
            assert!(between > 0.04 && between < most, "{noise}: {between}");
        }
    }
}
