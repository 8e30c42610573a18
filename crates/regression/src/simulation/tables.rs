//! The tables of false regressions and of power.

use std::collections::BTreeMap;

use evoseal_types::{Direction, MetricName};
use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

use super::Cell;
use super::cell::{METRIC, Trials};
use super::peers::scores;
use crate::settings::MetricThreshold;
use crate::statistics::{Successes, normal_quantile, wilson_interval};
use crate::{
    Detector, Error, Measurements, RegressionDetector, RegressionSettings, Result, Verdict, in_parallel,
};

/// The threshold at whose edge false regressions are counted as well.
const EDGE: f64 = 0.05;
/// How far the detector may see less than the best test.
const POWER_BELOW_MAX: f64 = 0.02;
/// The chance that a table calls any of its rows too high, or too weak, though none is.
const TABLE_ERROR: f64 = 0.01;

/// How the cells are simulated.
///
/// ```
/// use evoseal_regression::simulation::{Cell, CellSimulation, Noise, aa_table};
/// let settings = CellSimulation { trials: 50, ..CellSimulation::default() };
/// let cell = Cell { noise: Noise::Normal, coefficient_of_variation: 0.05, samples: 10, between_starts: false, in_turn: true };
/// let rows = aa_table(&[cell], &settings)?;
/// assert_eq!(rows, aa_table(&[cell], &settings)?, "the same seed gives the same table");
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CellSimulation {
    /// Pairs of sides per cell and true change; 1 to 1 000 000.
    pub trials: u32,
    /// Where the random numbers start.
    pub seed: u64,
    /// One minus the confidence level of the detector, strictly between 0 and 1.
    pub alpha: f64,
}

impl Default for CellSimulation {
    /// 10 000 trials have a standard error of 0.16 points at 2.5 %.
    fn default() -> Self {
        Self { trials: 10_000, seed: 1, alpha: 0.05 }
    }
}

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
    /// Whether the difference is compatible with at most two points below: at 1 % for the whole table.
    pub holds: bool,
}

/// Counts false regressions where nothing changed (threshold 0), and where the change is exactly the threshold (5 %).
///
/// One row per cell and true change, in the order of the cells. Cells are computed in parallel.
pub fn aa_table(cells: &[Cell], settings: &CellSimulation) -> Result<Vec<AaRow>> {
    check(settings)?;
    let rows: Result<Vec<Vec<AaRow>>> =
        in_parallel(cells, |cell| aa_rows(*cell, settings, cells.len())).into_iter().collect();
    Ok(rows?.into_iter().flatten().collect())
}

fn aa_rows(cell: Cell, settings: &CellSimulation, cells: usize) -> Result<Vec<AaRow>> {
    let changes = [0.0, EDGE];
    let tests = (cells * changes.len()) as f64;
    let mut rows = Vec::with_capacity(changes.len());
    let mut trials = Trials::new(cell, settings.seed)?;
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
pub fn power_table(cells: &[Cell], changes: &[f64], settings: &CellSimulation) -> Result<Vec<PowerRow>> {
    check(settings)?;
    let rows: Result<Vec<Vec<PowerRow>>> =
        in_parallel(cells, |cell| power_rows(*cell, changes, settings, cells.len())).into_iter().collect();
    Ok(rows?.into_iter().flatten().collect())
}

fn power_rows(cell: Cell, changes: &[f64], settings: &CellSimulation, cells: usize) -> Result<Vec<PowerRow>> {
    let (detector, total) = (detector(settings.alpha, 0.0, cell.direction())?, f64::from(settings.trials));
    let mut trials = Trials::new(cell, settings.seed)?;
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
        // As if both were counted in different trials, which is cautious in calling a row weak.
        let spread = ((power * (1.0 - power) + best_power * (1.0 - best_power)) / total).sqrt();
        let slack = spread * normal_quantile(1.0 - TABLE_ERROR / (cells * changes.len()) as f64);
        rows.push(PowerRow {
            cell,
            true_change: *true_change,
            trials: settings.trials,
            false_regressions: false_count as f64 / total,
            power,
            best_test: best_test.to_owned(),
            best_power,
            difference_points: 100.0 * (power - best_power),
            holds: power - best_power >= -POWER_BELOW_MAX - slack,
        });
    }
    Ok(rows)
}

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
fn check(settings: &CellSimulation) -> Result<()> {
    if (1..=1_000_000).contains(&settings.trials) {
        return Ok(());
    }
    let reason = format!("{} is not between 1 and 1000000", settings.trials);
    Err(Error::Invalid { what: "a number of trials".to_owned(), reason })
}
