//! Looking after every pair.

use evoseal_types::{Direction, Threshold};
use serde::{Deserialize, Serialize};

use super::{NoiseKind, NoiseSource, Share};
use crate::statistics::paired_t_test;
use crate::{NoiseProfile, PlanSettings, Result, SampleKind, SequentialRule, SequentialTest, Verdict, plan};

/// What to simulate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeekSimulation {
    /// The shapes of noise.
    pub noises: Vec<NoiseKind>,
    /// Its coefficient of variation.
    pub cv: f64,
    /// The true changes, as fractions.
    pub effects: Vec<f64>,
    /// The tolerated change.
    pub threshold: f64,
    /// The most pairs.
    pub pairs_max: usize,
    /// How many runs of samples for each shape and change.
    pub trials: u64,
    /// The seed.
    pub seed: u64,
}

impl Default for PeekSimulation {
    fn default() -> Self {
        Self {
            noises: NoiseKind::ALL.to_vec(),
            cv: 0.05,
            effects: vec![0.0, 0.02, 0.05, 0.10],
            threshold: 0.0,
            pairs_max: 100,
            trials: 2000,
            seed: 1,
        }
    }
}

/// One shape of noise and one true change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeekRow {
    /// The shape.
    pub noise: NoiseKind,
    /// The true change.
    pub effect: f64,
    /// How often the sequential test said "regressed" at some look.
    pub regressed: Share,
    /// How often it said "improved".
    pub improved: Share,
    /// How often it said "equivalent".
    pub equivalent: Share,
    /// After how many pairs it stopped, on average.
    pub pairs_mean: f64,
    /// How often a paired t-test at 0.05, repeated after every pair from the fifth on, said at some look that something had
    /// changed.
    pub repeated_t_test: Share,
    /// How many pairs a plan with a fixed number needs to find this change with the same level and a power of 99 percent;
    /// `None` where nothing changed beyond the threshold.
    pub fixed_plan: Option<usize>,
}

/// Looks after every pair, one table row per shape of noise and true change.
pub fn simulate_peek(simulation: &PeekSimulation) -> Result<Vec<PeekRow>> {
    let mut rows = Vec::new();
    for (stream, noise) in (0..).zip(&simulation.noises) {
        for effect in &simulation.effects {
            rows.push(row(simulation, *noise, *effect, stream)?);
        }
    }
    Ok(rows)
}

fn row(simulation: &PeekSimulation, noise: NoiseKind, effect: f64, stream: u64) -> Result<PeekRow> {
    let threshold = Threshold::new("metric", simulation.threshold, Direction::Increase)?;
    let rule =
        SequentialRule { threshold, alpha: 0.025, kind: SampleKind::Mean, pairs_max: simulation.pairs_max };
    let mut source = NoiseSource::new(noise, simulation.seed, stream);
    let (mut regressed, mut improved, mut equivalent, mut repeated, mut pairs) = (0, 0, 0, 0, 0);
    for _ in 0..simulation.trials {
        let mut test = SequentialTest::new(rule)?;
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let mut was_significant = false;
        for n in 1..=simulation.pairs_max {
            old.push(source.value(1.0, simulation.cv));
            new.push(source.value(1.0 + effect, simulation.cv));
            if !test.is_finished() {
                test.push(old[n - 1], new[n - 1])?;
            }
            was_significant = was_significant || (n >= 5 && paired_t_test(&old, &new)?.p_value < 0.05);
            if test.is_finished() && was_significant {
                break;
            }
        }
        let report = test.report()?;
        regressed += u64::from(report.verdict == Verdict::Regressed);
        improved += u64::from(report.verdict == Verdict::Improved);
        equivalent += u64::from(report.verdict == Verdict::Equivalent);
        repeated += u64::from(was_significant);
        pairs += report.pairs;
    }
    let trials = simulation.trials;
    let fixed_plan = if effect > simulation.threshold {
        let settings = PlanSettings {
            effect,
            power: 0.99,
            samples_max: simulation.pairs_max,
            ..PlanSettings::for_threshold(simulation.threshold)
        };
        Some(plan(&NoiseProfile::stated(simulation.cv)?, &settings)?.samples)
    } else {
        None
    };
    Ok(PeekRow {
        noise,
        effect,
        regressed: Share::of(regressed, trials),
        improved: Share::of(improved, trials),
        equivalent: Share::of(equivalent, trials),
        pairs_mean: pairs as f64 / trials.max(1) as f64,
        repeated_t_test: Share::of(repeated, trials),
        fixed_plan,
    })
}
