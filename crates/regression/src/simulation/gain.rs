//! The winner's curse.

use serde::{Deserialize, Serialize};

use super::{NoiseKind, NoiseSource, Share};
use crate::{FreshPairs, Result, gain_of_fresh_pairs};

/// What to simulate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GainSimulation {
    /// The shape of the noise.
    pub noise: NoiseKind,
    /// Its coefficient of variation.
    pub cv: f64,
    /// Out of how many candidates the best is chosen, one row each.
    pub candidates: Vec<usize>,
    /// On how many samples each it is chosen.
    pub samples: usize,
    /// On how many fresh pairs its gain is estimated again.
    pub fresh_pairs: usize,
    /// The true gains of the candidates are drawn evenly from zero to this, as a fraction.
    pub gain_max: f64,
    /// How many choices.
    pub trials: u64,
    /// The seed.
    pub seed: u64,
}

impl Default for GainSimulation {
    fn default() -> Self {
        Self {
            noise: NoiseKind::Normal,
            cv: 0.05,
            candidates: vec![1, 3, 10],
            samples: 1,
            fresh_pairs: 10,
            gain_max: 0.02,
            trials: 4000,
            seed: 1,
        }
    }
}

/// One number of candidates. Gains are positive for what is better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GainRow {
    /// Out of how many candidates the best was chosen.
    pub candidates: usize,
    /// The mean true gain of the chosen.
    pub true_gain: f64,
    /// By how much the gain measured at the choice overstates it, on average.
    pub claimed_bias: f64,
    /// By how much the gain on fresh pairs does, on average.
    pub fresh_bias: f64,
    /// The standard error of `fresh_bias` in this simulation.
    pub fresh_bias_error: f64,
    /// How often the interval on fresh pairs holds the true gain.
    pub coverage: Share,
}

/// Chooses the best of several, one table row per number of candidates.
pub fn simulate_gain(simulation: &GainSimulation) -> Result<Vec<GainRow>> {
    (0..)
        .zip(&simulation.candidates)
        .map(|(stream, candidates)| row(simulation, *candidates, stream))
        .collect()
}

fn row(simulation: &GainSimulation, candidates: usize, stream: u64) -> Result<GainRow> {
    let mut source = NoiseSource::new(simulation.noise, simulation.seed, stream);
    let (cv, trials) = (simulation.cv, simulation.trials.max(1) as f64);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mut true_gains, mut claimed, mut biases, mut held) = (0.0, 0.0, Vec::new(), 0);
    for _ in 0..simulation.trials {
        let mut best = (f64::INFINITY, 0.0);
        for _ in 0..candidates {
            let gain = simulation.gain_max * source.uniform();
            let measured = mean(&source.values(simulation.samples, 1.0 - gain, cv));
            if measured < best.0 {
                best = (measured, gain);
            }
        }
        let incumbent = mean(&source.values(simulation.samples, 1.0, cv));
        let (change, gain) = (best.0 / incumbent - 1.0, best.1);
        let mut fresh = FreshPairs::default();
        for _ in 0..simulation.fresh_pairs {
            fresh.incumbent.push(source.value(1.0, cv));
            fresh.candidate.push(source.value(1.0 - gain, cv));
        }
        let again = gain_of_fresh_pairs(change, &fresh)?;
        let (estimate, interval) = (again.fresh.unwrap_or(0.0), again.interval);
        true_gains += gain;
        claimed += -change - gain;
        biases.push(-estimate - gain);
        held += u64::from(interval.is_some_and(|interval| (interval.low..=interval.high).contains(&-gain)));
    }
    let fresh_bias = mean(&biases);
    let variance =
        biases.iter().map(|bias| (bias - fresh_bias).powi(2)).sum::<f64>() / (trials - 1.0).max(1.0);
    Ok(GainRow {
        candidates,
        true_gain: true_gains / trials,
        claimed_bias: claimed / trials,
        fresh_bias,
        fresh_bias_error: (variance / trials).sqrt(),
        coverage: Share::of(held, simulation.trials),
    })
}
