//! What is reported about an iteration, in values and in words.

use evoseal_types::MetricName;
use serde::{Deserialize, Serialize};

use super::confirm::Confirmed;
use super::{GainEstimate, ScreenOutcome, ScreenReport};
use crate::{DataProblem, DriftAlarm, Interval, Verdict};

/// What is to be done with a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IterationDecision {
    /// Nothing speaks against it.
    Accept,
    /// It is worse, or the lineage has become worse bit by bit.
    Rollback,
    /// It can neither be called worse nor be cleared.
    Inconclusive,
    /// It is suspicious: measure incumbent and candidate anew, side by side, and judge again. Nothing was recorded.
    Confirm,
}

/// Which stage had the last word about a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing could be compared.
    None,
    /// Stage one.
    Screen,
    /// Stage two, on fresh pairs.
    Confirmation,
    /// The iteration's own samples, where no fresh ones can be had.
    OwnSamples,
    /// Values without any scatter, compared as they are.
    Exact,
}

impl Stage {
    /// How the stage came to its verdict, in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Screen => "screen against the accepted versions",
            Self::Confirmation => "sequential test on fresh pairs",
            Self::OwnSamples => "own samples at the run's level",
            Self::Exact => "exact comparison",
        }
    }
}

/// What was found about one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricReport {
    /// The metric.
    pub metric: MetricName,
    /// The verdict. After stage one alone never [`Verdict::Regressed`].
    pub verdict: Verdict,
    /// The stage that gave it.
    pub stage: Stage,
    /// The relative change (absolute where the incumbent is zero): against the accepted versions after stage one, on the
    /// pairs after stage two.
    pub change: Option<f64>,
    /// Its interval: at 95 percent after stage one, anytime-valid at the decision's level after stage two.
    pub interval: Option<Interval>,
    /// The e-value against "the harm is at most the threshold", from fresh pairs.
    pub e_value: Option<f64>,
    /// The p-value of "the harm is at most the threshold": one over the e-value, or that of the iteration's own samples.
    pub p_value: Option<f64>,
    /// How many values of the candidate, or pairs, it took.
    pub samples: usize,
    /// The screening.
    pub screen: Option<ScreenReport>,
    /// Why nothing could be compared.
    pub problem: Option<DataProblem>,
    /// What an accepted candidate that seemed better really gained.
    pub gain: Option<GainEstimate>,
    /// One sentence.
    pub reason: String,
}

/// A drift of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftFinding {
    /// The metric.
    pub metric: MetricName,
    /// The baseline measured beside; `None` for the run's own start, or its last certain improvement.
    pub baseline: Option<String>,
    /// What was found.
    pub alarm: DriftAlarm,
}

/// What was found in one iteration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IterationReport {
    /// The decision.
    pub decision: IterationDecision,
    /// Why, in a sentence.
    pub reason: String,
    /// The level of this iteration's decision on pairs; `None` where there was none.
    pub level: Option<f64>,
    /// How many fresh pairs were looked at, or are wanted where the decision is [`IterationDecision::Confirm`].
    pub pairs: usize,
    /// The metrics, sorted by name.
    pub metrics: Vec<MetricReport>,
    /// The drifts that became certain.
    pub drift: Vec<DriftFinding>,
    /// The run so far, this iteration included.
    pub totals: RunTotals,
}

/// The run so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RunTotals {
    /// How many iterations were judged.
    pub iterations: u64,
    /// How many candidates were accepted: really, where [`Iteration::accepted`](crate::Iteration::accepted) says so, else by the judge's advice.
    pub accepted: u64,
    /// How many were rolled back, for drift too.
    pub rollbacks: u64,
    /// How many could not be decided.
    pub inconclusive: u64,
    /// How many decisions on pairs spent of the budget.
    pub decisions: u64,
    /// At most so many false rollbacks are expected in this run so far: the levels of all decisions, and the share of the guards against drift.
    pub false_rollbacks_max: f64,
    /// The harm that the screening of an accepted candidate could see, on average: the smallest one of the settings, unless noise
    /// hides it from the samples that there were.
    pub visible_harm: f64,
    /// At most so many candidates with that harm are expected among the accepted ones: with the mean miss rate `b` of
    /// the accepted candidates and the upper 95 percent limit `R` of the expected number of rollbacks (Garwood 1936),
    /// `R b / (1 - b)`, for of the harmful ones at least the share `1 - b` is rolled back.
    pub false_acceptances_max: f64,
}

impl RunTotals {
    /// How many decisions of the run are expected to be wrong at most, in a sentence.
    ///
    /// ```
    /// use evoseal_regression::RunTotals;
    /// let totals = RunTotals { false_rollbacks_max: 0.05, visible_harm: 0.05, ..RunTotals::default() };
    /// assert!(totals.expected_errors().starts_with("at most 0.050 false rollbacks"));
    /// ```
    pub fn expected_errors(&self) -> String {
        let which = if self.accepted == 0 {
            String::new()
        } else {
            format!(" (of candidates {:.1} % worse)", self.visible_harm * 100.0)
        };
        format!(
            "at most {:.3} false rollbacks and {:.1} false acceptances{which} are to be expected in this run",
            self.false_rollbacks_max, self.false_acceptances_max
        )
    }
}

/// Whether stage one suspects the metric, and no later stage has spoken.
pub(super) fn is_suspicious(report: &MetricReport) -> bool {
    report.stage == Stage::Screen
        && report.screen.is_some_and(|screen| screen.outcome == ScreenOutcome::Suspicious)
}

/// What the outcome of stage two says about its metric.
pub(super) fn put_in(report: &mut MetricReport, end: Confirmed) {
    let Confirmed { report: found, is_cleared } = end;
    let change = found.change.map_or("a change from zero".to_owned(), percent);
    let conclusion = match found.verdict {
        Verdict::Regressed => "confirms the harm",
        Verdict::Improved => "is an improvement after all",
        Verdict::Equivalent => "is within what is tolerated",
        _ if found.is_tolerable => "is no more than tolerated",
        _ if is_cleared => "shows no sign of the harm",
        _ => "does not settle it",
    };
    report.reason = format!("{}: {change} on {} fresh pairs {conclusion}", report.metric, found.pairs);
    report.stage = Stage::Confirmation;
    let is_settled = found.is_tolerable || is_cleared;
    report.verdict = found.verdict;
    report.change = found.change.or(report.change);
    report.interval = found.interval;
    report.e_value = Some(found.e_value);
    report.p_value = Some((1.0 / found.e_value.max(1.0)).min(1.0));
    report.samples = found.pairs;
    if is_settled && let Some(screen) = &mut report.screen {
        screen.outcome = ScreenOutcome::Cleared;
    }
}

/// The decision that the reports of all metrics make together.
pub(super) fn decision_of(reports: &[MetricReport]) -> IterationDecision {
    let is_doubtful = |report: &MetricReport| match report.verdict {
        Verdict::InsufficientData => true,
        Verdict::Inconclusive => {
            report.screen.is_some_and(|screen| screen.outcome == ScreenOutcome::Suspicious)
        }
        _ => false,
    };
    if reports.iter().any(|report| report.verdict == Verdict::Regressed) {
        IterationDecision::Rollback
    } else if reports.iter().any(is_doubtful) {
        IterationDecision::Inconclusive
    } else {
        IterationDecision::Accept
    }
}

/// Why it was decided so, in a sentence.
pub(super) fn reason(
    decision: IterationDecision,
    reports: &[MetricReport],
    drift: &[DriftFinding],
) -> String {
    let mut told: Vec<String> = drift
        .iter()
        .map(|found| {
            let against =
                found.baseline.as_deref().map_or("its start".to_owned(), |name| format!("baseline {name}"));
            let change = percent(found.alarm.change);
            format!(
                "{}: {change} against {against} since step {}, bit by bit",
                found.metric, found.alarm.since
            )
        })
        .collect();
    let speaks = |report: &&MetricReport| match decision {
        IterationDecision::Rollback => report.verdict == Verdict::Regressed,
        _ => {
            report.verdict == Verdict::InsufficientData
                || report.screen.is_some_and(|screen| screen.outcome == ScreenOutcome::Suspicious)
        }
    };
    told.extend(reports.iter().filter(speaks).map(|report| report.reason.clone()));
    if told.is_empty() { "nothing speaks against the candidate".to_owned() } else { told.join("; ") }
}

/// The most fresh pairs that were looked at for one metric.
pub(super) fn pairs_used(reports: &[MetricReport]) -> usize {
    let on_pairs = |report: &&MetricReport| report.stage == Stage::Confirmation;
    reports.iter().filter(on_pairs).map(|report| report.samples).max().unwrap_or(0)
}

pub(super) fn percent(fraction: f64) -> String {
    format!("{:+.2} %", fraction * 100.0)
}
