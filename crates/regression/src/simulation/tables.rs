//! The tables of false regressions and of power.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

use super::peers::scores;
use super::{Cell, SimulationSettings, Trials, check, detector, is_regressed};
use crate::statistics::{Successes, wilson_interval};
use crate::{Error, Result, in_parallel};

/// The threshold at whose edge false regressions are counted as well.
const EDGE: f64 = 0.05;
/// The chance that a table calls any of its cells too high though all keep the level.
const TABLE_ERROR: f64 = 0.01;

/// False regressions in one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AaRow {
    /// The cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// The true harmful change, as a fraction; the detector's threshold is the same.
    pub true_change: f64,
    /// How many pairs of sides were judged.
    pub trials: u32,
    /// The share that was called a regression.
    pub false_regressions: f64,
    /// Wilson's 95 % interval of that share.
    pub interval: [f64; 2],
    /// What was allowed: half of alpha, for the interval errs on two sides and one of them is harm.
    pub allowed: f64,
    /// Whether the share is compatible with the allowed one: a binomial test does not call it higher, at 1 % for the whole
    /// table.
    pub holds: bool,
}

/// What is seen in one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PowerRow {
    /// The cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// The true harmful change, as a fraction; the detector's threshold is zero.
    pub true_change: f64,
    /// How many pairs of sides were judged.
    pub trials: u32,
    /// The share of unchanged pairs that was called a regression.
    pub false_regressions: f64,
    /// The share of changed pairs that was called a regression.
    pub power: f64,
    /// The classical test that sees most at the same share of false regressions.
    pub best_test: String,
    /// What that test sees.
    pub best_power: f64,
    /// `power - best_power` in percentage points.
    pub difference_points: f64,
}

/// Counts false regressions where nothing changed (threshold 0), and where the change is exactly the threshold (5 %).
///
/// One row per cell and true change, in the order of the cells. Cells are computed in parallel.
pub fn aa_table(cells: &[Cell], settings: &SimulationSettings) -> Result<Vec<AaRow>> {
    check(settings)?;
    let rows: Result<Vec<Vec<AaRow>>> =
        in_parallel(cells, |cell| aa_rows(*cell, settings, cells.len())).into_iter().collect();
    Ok(rows?.into_iter().flatten().collect())
}

fn aa_rows(cell: Cell, settings: &SimulationSettings, cells: usize) -> Result<Vec<AaRow>> {
    let changes = [0.0, EDGE];
    let tests = (cells * changes.len()) as f64;
    let mut rows = Vec::with_capacity(changes.len());
    let mut trials = Trials::new(cell, settings)?;
    for true_change in changes {
        let detector = detector(settings.alpha, true_change, cell.direction())?;
        let mut count = 0;
        for _ in 0..settings.trials {
            count += u64::from(is_regressed(&detector, &trials.draw(true_change))?);
        }
        let share = Successes::new(count, u64::from(settings.trials))?;
        let interval = wilson_interval(share, 0.95)?;
        let allowed = settings.alpha / 2.0;
        rows.push(AaRow {
            cell,
            true_change,
            trials: settings.trials,
            false_regressions: share.rate(),
            interval: [interval.low, interval.high],
            allowed,
            holds: at_least(share, allowed)? > TABLE_ERROR / tests,
        });
    }
    Ok(rows)
}

/// The probability of so many or more if each has the probability `allowed`.
fn at_least(share: Successes, allowed: f64) -> Result<f64> {
    let binomial = Binomial::new(allowed, share.trials)
        .map_err(|error| Error::Invalid { what: "alpha".to_owned(), reason: error.to_string() })?;
    Ok(share.passed.checked_sub(1).map_or(1.0, |fewer| binomial.sf(fewer)))
}

/// Counts how often changes of this size are called a regression by the detector with threshold 0, and by the best of Welch's
/// t, the U test and permutations (for pairs: t, signed ranks, sign flips) at the same error.
///
/// *At the same error:* each test rejects where its p-value is at most half of alpha, as its users do, or a smaller limit where
/// that rejects more of the unchanged trials than the detector called regressions. Tests see the means of the starts, as the detector
/// does. One row per cell and change.
pub fn power_table(cells: &[Cell], changes: &[f64], settings: &SimulationSettings) -> Result<Vec<PowerRow>> {
    check(settings)?;
    let rows: Result<Vec<Vec<PowerRow>>> =
        in_parallel(cells, |cell| power_rows(*cell, changes, settings)).into_iter().collect();
    Ok(rows?.into_iter().flatten().collect())
}

fn power_rows(cell: Cell, changes: &[f64], settings: &SimulationSettings) -> Result<Vec<PowerRow>> {
    let (detector, total) = (detector(settings.alpha, 0.0, cell.direction())?, f64::from(settings.trials));
    let mut trials = Trials::new(cell, settings)?;
    let (mut false_count, mut by_test) = (0_usize, Vec::<(&'static str, Vec<f64>)>::new());
    for _ in 0..settings.trials {
        let unchanged = trials.draw(0.0);
        false_count += usize::from(is_regressed(&detector, &unchanged)?);
        for (place, (name, score)) in scores(&unchanged)?.into_iter().enumerate() {
            if place == by_test.len() {
                by_test.push((name, Vec::new()));
            }
            by_test[place].1.push(score);
        }
    }
    // What a score has to exceed: so that at most `false_count` unchanged trials do.
    let cuts: Vec<(&str, f64)> = by_test
        .into_iter()
        .map(|(name, mut scores)| {
            scores.sort_unstable_by(f64::total_cmp);
            (name, scores[scores.len() - 1 - false_count.min(scores.len() - 1)])
        })
        .collect();
    // A hair of slack for what is computed as one minus a p-value.
    let nominal = 1.0 - settings.alpha / 2.0 * (1.0 + 1e-9);
    let mut rows = Vec::with_capacity(changes.len());
    for true_change in changes {
        let (mut found, mut found_by_test) = (0_u32, vec![0_u32; cuts.len()]);
        for _ in 0..settings.trials {
            let changed = trials.draw(*true_change);
            found += u32::from(is_regressed(&detector, &changed)?);
            for ((count, (_, score)), (_, cut)) in found_by_test.iter_mut().zip(scores(&changed)?).zip(&cuts)
            {
                *count += u32::from(score > *cut && score >= nominal);
            }
        }
        let best = found_by_test.iter().zip(&cuts).max_by_key(|(count, _)| **count);
        let (best_count, best_test) = best.map_or((0, "none"), |(count, (name, _))| (*count, *name));
        let (power, best_power) = (f64::from(found) / total, f64::from(best_count) / total);
        rows.push(PowerRow {
            cell,
            true_change: *true_change,
            trials: settings.trials,
            false_regressions: false_count as f64 / total,
            power,
            best_test: best_test.to_owned(),
            best_power,
            difference_points: 100.0 * (power - best_power),
        });
    }
    Ok(rows)
}
