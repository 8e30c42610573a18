//! Noise with recorded seeds.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// The shape of noise. Each has mean zero and standard deviation one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseKind {
    /// Normal.
    Normal,
    /// Logarithmic normal with the skew that a coefficient of variation of 0.3 has: a long tail of slow runs.
    LogNormal,
    /// Student's t with 3 degrees of freedom: outliers on both sides.
    HeavyTailed,
    /// Each value depends on the one before it: autoregressive with coefficient 0.7, over all that is measured in turn.
    Autoregressive,
    /// The same with coefficient 0.3, which hides in short lists.
    WeaklyAutoregressive,
    /// Two modes, 70 and 30 percent, two standard deviations apart.
    TwoModes,
}

impl NoiseKind {
    /// All shapes.
    pub const ALL: [Self; 6] = [
        Self::Normal,
        Self::LogNormal,
        Self::HeavyTailed,
        Self::Autoregressive,
        Self::WeaklyAutoregressive,
        Self::TwoModes,
    ];
}

/// A stream of noise.
#[derive(Debug, Clone)]
pub(crate) struct NoiseSource {
    random: ChaCha8Rng,
    kind: NoiseKind,
    last: f64,
    spare: Option<f64>,
}

impl NoiseSource {
    /// Stream `stream` of a seed: different streams are independent.
    pub(crate) fn new(kind: NoiseKind, seed: u64, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Self { random, kind, last: 0.0, spare: None }
    }

    /// A uniform number from 0 to below 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.random.random()
    }

    /// A value around `level` with the coefficient of variation `cv`.
    pub(crate) fn value(&mut self, level: f64, cv: f64) -> f64 {
        level * (1.0 + cv * self.standard())
    }

    pub(crate) fn values(&mut self, count: usize, level: f64, cv: f64) -> Vec<f64> {
        (0..count).map(|_| self.value(level, cv)).collect()
    }

    /// The next number of mean zero and standard deviation one.
    pub(crate) fn standard(&mut self) -> f64 {
        match self.kind {
            NoiseKind::Normal => self.normal(),
            NoiseKind::LogNormal => {
                let variance = 0.3_f64.powi(2).ln_1p();
                let value = (variance.sqrt() * self.normal() - variance / 2.0).exp();
                (value - 1.0) / 0.3
            }
            NoiseKind::HeavyTailed => {
                let (z, chi) = (self.normal(), (0..3).map(|_| self.normal().powi(2)).sum::<f64>());
                z / (chi / 3.0).sqrt() / 3.0_f64.sqrt()
            }
            NoiseKind::Autoregressive => self.autoregression(0.7),
            NoiseKind::WeaklyAutoregressive => self.autoregression(0.3),
            NoiseKind::TwoModes => {
                // Modes 2 apart around mean 0 have the variance 4 * 0.3 * 0.7 = 0.84; the rest is within them.
                let mode = if self.uniform() < 0.7 { -0.6 } else { 1.4 };
                mode + 0.4 * self.normal()
            }
        }
    }

    fn autoregression(&mut self, coefficient: f64) -> f64 {
        self.last = coefficient * self.last + (1.0 - coefficient * coefficient).sqrt() * self.normal();
        self.last
    }

    /// A standard normal number (Box and Muller 1958), two at a time.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (u, v) = (self.uniform(), self.uniform());
        let radius = (-2.0 * (1.0 - u).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * v).sin_cos();
        self.spare = Some(radius * sine);
        radius * cosine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_mean_zero_and_standard_deviation_one() {
        for kind in NoiseKind::ALL {
            let mut noise = NoiseSource::new(kind, 1, 0);
            let values = noise.values(200_000, 1.0, 1.0);
            let mean = values.iter().sum::<f64>() / 200_000.0;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 200_000.0;
            assert!((mean - 1.0).abs() < 0.02 && (variance - 1.0).abs() < 0.1, "{kind:?}: {mean} {variance}");
        }
    }

    #[test]
    fn one_seed_gives_one_stream() {
        let values = |stream| NoiseSource::new(NoiseKind::Normal, 7, stream).values(5, 1.0, 1.0);
        assert!(values(0) == values(0) && values(0) != values(1));
    }
}
