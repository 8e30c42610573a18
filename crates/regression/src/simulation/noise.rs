//! Noise of a known shape.

use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How samples scatter around their mean. Each shape has the mean 0 and the variance 1 before it is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noise {
    /// Normal.
    Normal,
    /// Log-normal.
    LogNormal,
    /// Student's t with 3 degrees of freedom: heavy tails.
    StudentT3,
    /// A normal first-order autoregression with coefficient 0.7 over the time of measuring.
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

    /// The published table's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::LogNormal => "log-normal",
            Self::StudentT3 => "t3",
            Self::Ar1 => "AR(1) 0.7",
            Self::Bimodal => "bimodal 70/30",
            Self::PassRate => "pass rate",
        }
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A stream of noise from a seed (ChaCha with eight rounds).
#[derive(Debug, Clone)]
pub struct NoiseSource {
    random: ChaCha8Rng,
    noise: Noise,
    coefficient_of_variation: f64,
    /// The autoregression's last value.
    last: Option<f64>,
}

const AR_COEFFICIENT: f64 = 0.7;
/// Standard deviation within a mode: 0.21 times the squared distance of two is 0.84, which leaves 0.16.
const MODE_STD_DEV: f64 = 0.4;
const PASS_TRIALS: u32 = 100;

impl NoiseSource {
    /// Samples whose standard deviation is this share of their mean.
    pub fn new(noise: Noise, coefficient_of_variation: f64, seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), noise, coefficient_of_variation, last: None }
    }

    /// The next sample of something whose mean is `level` times that of the unchanged code (1, or the pass probability).
    pub fn sample(&mut self, level: f64) -> f64 {
        let cv = self.coefficient_of_variation;
        let standard = match self.noise {
            Noise::Normal => self.normal(),
            Noise::LogNormal => {
                let spread = (cv * cv).ln_1p().sqrt();
                return level * (spread * self.normal() - spread * spread / 2.0).exp();
            }
            Noise::StudentT3 => {
                let squares: f64 = (0..3).map(|_| self.normal().powi(2)).sum();
                // The variance of t with 3 degrees of freedom is 3, and t = z sqrt(3 / squares).
                self.normal() / squares.sqrt()
            }
            Noise::Ar1 => {
                let fresh = self.normal();
                let next = self.last.map_or(fresh, |last| {
                    AR_COEFFICIENT * last + (1.0 - AR_COEFFICIENT * AR_COEFFICIENT).sqrt() * fresh
                });
                self.last = Some(next);
                next
            }
            Noise::Bimodal => {
                let mode = if self.random.random::<f64>() < 0.3 { 1.4 } else { -0.6 };
                mode + MODE_STD_DEV * self.normal()
            }
            Noise::PassRate => {
                let probability = (pass_probability(cv) * level).clamp(0.0, 1.0);
                let passed = (0..PASS_TRIALS).filter(|_| self.random.random::<f64>() < probability).count();
                return passed as f64 / f64::from(PASS_TRIALS);
            }
        };
        level * (1.0 + cv * standard)
    }

    /// By what the mean of a new process start differs: a normal factor with the same coefficient of variation.
    pub fn start(&mut self) -> f64 {
        // Another process has another past.
        self.last = None;
        (1.0 + self.coefficient_of_variation * self.normal()).max(0.0)
    }

    /// Box and Muller (1958).
    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (self.random.random(), self.random.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// The probability for which the share of 100 trials scatters by this coefficient of variation: `(1 - p) / (100 p) = cv^2`.
fn pass_probability(cv: f64) -> f64 {
    1.0 / (1.0 + f64::from(PASS_TRIALS) * cv * cv)
}

#[cfg(test)]
mod tests {
    use super::{Noise, NoiseSource};
    use crate::statistics::{lag_one_autocorrelation, mean, std_dev};

    #[test]
    fn every_shape_has_the_mean_and_the_scatter_that_it_says() {
        for noise in Noise::ALL {
            let mut source = NoiseSource::new(noise, 0.05, 3);
            let values: Vec<f64> = (0..40_000).map(|_| source.sample(1.0)).collect();
            let (mean, std_dev) = (mean(&values).expect("values"), std_dev(&values).expect("values"));
            let expected = if noise == Noise::PassRate { 0.8 } else { 1.0 };
            assert!((mean - expected).abs() < 0.003, "{noise}: {mean}");
            // The fourth moment of t3 is infinite, so that its variance converges slowly.
            let tolerance = if noise == Noise::StudentT3 { 0.2 } else { 0.03 };
            assert!((std_dev / mean / 0.05 - 1.0).abs() < tolerance, "{noise}: {std_dev}");
            let r = lag_one_autocorrelation(&values).expect("values");
            let expected = if noise == Noise::Ar1 { 0.7 } else { 0.0 };
            assert!((r - expected).abs() < 0.02, "{noise}: {r}");
        }
    }
}
