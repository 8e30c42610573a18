//! The rules that turn an interval into a verdict, a severity and a sentence.

use evoseal_types::{Direction, Severity, Threshold};

use crate::samples::Unit;
use crate::{DataProblem, Interval, Verdict};

/// Where the whole interval lies. The ends count as inside: a change of exactly the threshold is tolerated.
pub(crate) fn verdict(interval: Interval, threshold: &Threshold, relative: bool) -> Verdict {
    let (low, high) = harm(interval, threshold);
    // Any certain change away from zero exceeds every fraction of it.
    let tolerated = if relative { threshold.threshold() } else { 0.0 };
    if low > tolerated {
        Verdict::Regressed
    } else if high < 0.0 {
        Verdict::Improved
    } else if low >= -tolerated && high <= tolerated {
        Verdict::Equivalent
    } else {
        Verdict::Inconclusive
    }
}

/// The interval turned so that harm is positive.
fn harm(interval: Interval, threshold: &Threshold) -> (f64, f64) {
    let sign = threshold.direction().harm_sign();
    let (one, other) = (sign * interval.low, sign * interval.high);
    (one.min(other), one.max(other))
}

/// The published rule on the estimated change. A change from zero has no relative size and is critical. Where the
/// critical threshold is at most twice the threshold (the published rates), high is out of reach.
pub(crate) fn severity(change: Option<f64>, threshold: &Threshold) -> Severity {
    match change.map(f64::abs) {
        None => Severity::Critical,
        Some(size) if size >= threshold.critical() => Severity::Critical,
        Some(size) if size >= 2.0 * threshold.threshold() => Severity::High,
        Some(size) if size >= 1.5 * threshold.threshold() => Severity::Medium,
        Some(_) => Severity::Low,
    }
}

/// One step up, below critical: low becomes medium, medium becomes high.
pub(crate) fn raised(severity: Severity) -> Severity {
    match severity {
        Severity::Low => Severity::Medium,
        Severity::Medium => Severity::High,
        high_or_critical => high_or_critical,
    }
}

/// The sentence for a finding with an interval.
pub(crate) fn reason(
    verdict: Verdict,
    interval: Interval,
    change: Option<f64>,
    absolute_change: f64,
    threshold: &Threshold,
) -> String {
    let (amount, low, high) = match change {
        Some(change) => (percent(change), percent(interval.low), percent(interval.high)),
        None => (number(absolute_change), number(interval.low), number(interval.high)),
    };
    let from_zero = if change.is_none() { " from zero, where every lasting harm counts" } else { "" };
    let evidence = if high == low {
        String::new()
    } else {
        // Rounded to what can matter, without trailing zeros: 95, 99.5, 99.9375.
        let level = (interval.level * 1e6).round() / 1e4;
        format!(" ({low} to {high} at {level} % confidence)")
    };
    let harm = match threshold.direction() {
        Direction::Increase => "rise",
        Direction::Decrease => "fall",
    };
    let size = format!("{:.2} %", threshold.threshold() * 100.0);
    let conclusion = match verdict {
        Verdict::Regressed if change.is_none() => "which is harm".to_owned(),
        Verdict::Regressed => format!("beyond the tolerated {harm} of {size}"),
        Verdict::Improved => "all of it on the good side of zero".to_owned(),
        Verdict::Equivalent => format!("within {size} on both sides, a {harm} being harmful"),
        Verdict::Inconclusive => {
            format!(
                "which does not settle whether the tolerated {harm} of {size} is kept; more samples could"
            )
        }
        Verdict::InsufficientData => "which says nothing".to_owned(),
    };
    format!("changed by {amount}{from_zero}{evidence}, {conclusion}")
}

/// What has to be known about the samples, behind the sentence.
pub(crate) fn caveats(method: &str, units: (Unit, Unit), pairing_lost: bool) -> String {
    let mut text = String::new();
    match method {
        "exact" => text.push_str("; all samples of each side are equal, so they were compared exactly"),
        "threshold_only" => text.push_str("; means compared without statistics"),
        _ => {}
    }
    if units.0 == Unit::WithinOneStart || units.1 == Unit::WithinOneStart {
        text.push_str("; all samples of a side come from one process start, so differences between starts are not covered");
    }
    if pairing_lost {
        text.push_str("; the sides cannot be matched one to one, so they were not compared as pairs");
    }
    text
}

/// The sentence for a finding without an interval.
pub(crate) fn why_not(problem: DataProblem, side: &str) -> String {
    match problem {
        DataProblem::MissingInCandidate => format!("the candidate has no such metric, {side} has"),
        DataProblem::MissingInIncumbent => format!("{side} has no such metric, the candidate has"),
        DataProblem::NonFiniteInCandidate => "a sample of the candidate is NaN or infinite".to_owned(),
        DataProblem::NonFiniteInIncumbent => format!("a sample of {side} is NaN or infinite"),
        DataProblem::TooFewSamples => "too few samples".to_owned(),
        DataProblem::SpecMismatch => {
            format!("{side} and the candidate disagree about unit or harmful direction")
        }
    }
}

fn percent(fraction: f64) -> String {
    if fraction.abs() >= f64::MAX {
        return "beyond any bound".to_owned();
    }
    let percent = fraction * 100.0;
    if percent.abs() < 1e6 { format!("{percent:+.2} %") } else { format!("{percent:+.2e} %") }
}

fn number(value: f64) -> String {
    if value.abs() >= f64::MAX {
        return "beyond any bound".to_owned();
    }
    format!("{value:+.4e}")
}
