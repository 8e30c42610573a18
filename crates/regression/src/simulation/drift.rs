//! A slow drift, and flat runs.

use evoseal_types::Direction;
use serde::{Deserialize, Serialize};

use super::{NoiseKind, NoiseSource, Share};
use crate::statistics::percentile;
use crate::{DriftGuard, Result};

/// After so many steps a drift too slow to reach its limit ends.
const STEPS_MAX: usize = 100_000;

/// What a step measures besides its candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// The version before the candidate, all of its samples before those of the candidate.
    Incumbent,
    /// The first version, in turn with the candidate: the guard sees both ([`DriftGuard::observe_beside`]).
    Baseline,
}

/// What to simulate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftSimulation {
    /// The shape of the noise.
    pub noise: NoiseKind,
    /// Its coefficient of variation.
    pub cv: f64,
    /// How many samples of each version in each step.
    pub samples: usize,
    /// By how much each step is worse than the one before it, as a fraction.
    pub slope: f64,
    /// How much may accumulate at most, as a fraction.
    pub limit: f64,
    /// After how many flat steps the drift begins, one row each.
    pub flat_before: Vec<usize>,
    /// What each step measures besides the candidate.
    pub beside: Beside,
    /// How many steps a flat run has.
    pub flat_steps: usize,
    /// The error rate of the guard.
    pub alpha: f64,
    /// How many runs of either kind.
    pub trials: u64,
    /// The seed.
    pub seed: u64,
}

impl Default for DriftSimulation {
    fn default() -> Self {
        Self {
            noise: NoiseKind::Normal,
            cv: 0.05,
            samples: 10,
            slope: 0.002,
            limit: 0.05,
            flat_before: vec![0, 64],
            beside: Beside::Incumbent,
            flat_steps: 1000,
            alpha: 0.05,
            trials: 1000,
            seed: 1,
        }
    }
}

/// One start of the drift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftRow {
    /// After how many flat steps the drift began.
    pub flat_before: usize,
    /// How often it was caught before the limit had accumulated, and after its beginning.
    pub caught: Share,
    /// How often there was an alarm before it began.
    pub early_alarms: Share,
    /// The true change at the alarm: the median and the 95th percentile of the runs that had one within twice the limit.
    pub change_at_alarm: [f64; 2],
    /// How many runs without any drift had an alarm; the same runs in each row.
    pub false_alarms: Share,
}

/// Drifts, one table row per beginning.
pub fn simulate_drift(simulation: &DriftSimulation) -> Result<Vec<DriftRow>> {
    let mut false_alarms = 0;
    for trial in 0..simulation.trials {
        let mut source = NoiseSource::new(simulation.noise, simulation.seed, trial);
        let alarm = first_alarm(simulation, &mut source, simulation.flat_steps, |_| 1.0)?;
        false_alarms += u64::from(alarm.is_some());
    }
    let false_alarms = Share::of(false_alarms, simulation.trials);
    simulation.flat_before.iter().map(|flat_before| row(simulation, *flat_before, false_alarms)).collect()
}

fn row(simulation: &DriftSimulation, flat_before: usize, false_alarms: Share) -> Result<DriftRow> {
    let level = |step: usize| (1.0 + simulation.slope).powf(step.saturating_sub(flat_before) as f64);
    // Twice the limit ends a run: from there on the guard has failed.
    let until = std::iter::successors(Some(flat_before), |step| Some(step + 1))
        .take(STEPS_MAX)
        .find(|step| level(*step) > 1.0 + 2.0 * simulation.limit)
        .unwrap_or(flat_before + STEPS_MAX);
    let (mut caught, mut early, mut changes) = (0, 0, Vec::new());
    for trial in 0..simulation.trials {
        let stream = simulation.trials * (flat_before as u64 + 1) + trial;
        let mut source = NoiseSource::new(simulation.noise, simulation.seed, stream);
        match first_alarm(simulation, &mut source, until, level)? {
            Some(step) if step < flat_before => early += 1,
            Some(step) => {
                caught += u64::from(level(step) <= 1.0 + simulation.limit);
                changes.push(level(step) - 1.0);
            }
            None => changes.push(2.0 * simulation.limit),
        }
    }
    let at = |share: f64| if changes.is_empty() { Ok(0.0) } else { percentile(&changes, share) };
    Ok(DriftRow {
        flat_before,
        caught: Share::of(caught, simulation.trials),
        early_alarms: Share::of(early, simulation.trials),
        change_at_alarm: [at(50.0)?, at(95.0)?],
        false_alarms,
    })
}

/// The step of the first alarm; step 0 measures the first version.
fn first_alarm(
    simulation: &DriftSimulation,
    source: &mut NoiseSource,
    steps: usize,
    level: impl Fn(usize) -> f64,
) -> Result<Option<usize>> {
    let mut guard = DriftGuard::new(Direction::Increase, simulation.alpha)?;
    let (samples, cv) = (simulation.samples, simulation.cv);
    for step in 0..steps {
        if simulation.beside == Beside::Incumbent && step > 0 {
            let incumbent = source.values(samples, level(step - 1), cv);
            if guard.observe(&incumbent)?.is_some() {
                return Ok(Some(step));
            }
        }
        let alarm = if simulation.beside == Beside::Baseline {
            let (baseline, values): (Vec<f64>, Vec<f64>) =
                (0..samples).map(|_| (source.value(1.0, cv), source.value(level(step), cv))).unzip();
            guard.observe_beside(&baseline, &values)?
        } else {
            guard.observe(&source.values(samples, level(step), cv))?
        };
        if alarm.is_some() {
            return Ok(Some(step));
        }
    }
    Ok(None)
}
