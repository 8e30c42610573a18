//! The rules that turn an interval into a verdict, a severity and a sentence.

use std::fmt::Write;

use evoseal_types::{Direction, Severity, Threshold};

use crate::samples::{Side, Starts, Unit};
use crate::statistics::{t_quantile, t_tail};
use crate::{DataProblem, Interval, Result, Verdict};

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
    power: Option<f64>,
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
            let power = power.map_or(String::new(), |power| {
                format!(
                    " (with so many a true change of that size is seen with {:.0} % probability)",
                    power * 100.0
                )
            });
            format!(
                "which does not settle whether the tolerated {harm} of {size} is kept; more samples could{power}"
            )
        }
        Verdict::InsufficientData => "which says nothing".to_owned(),
    };
    format!("changed by {amount}{from_zero}{evidence}, {conclusion}")
}

/// What has to be known about the samples, behind the sentence.
pub(crate) fn caveats(method: &str, sides: (&Side, &Side), pairing_lost: bool) -> String {
    let mut text = String::new();
    match method {
        "exact" => text.push_str(
            "; zero variance: all samples of each side are equal, so they were compared exactly",
        ),
        "threshold_only" => text.push_str("; means compared without statistics"),
        "welch_t_autocorrelated" | "paired_t_autocorrelated" => text.push_str(
            "; the values depend on their predecessors, so that they count for fewer; measuring in turn as pairs costs less",
        ),
        _ => {}
    }
    for (name, side) in [("incumbent", sides.0), ("candidate", sides.1)] {
        if let Some(starts) = side.starts {
            text.push_str(&starts_sentence(name, starts, side.values.len()));
        }
    }
    if pairing_lost {
        text.push_str("; the sides cannot be matched one to one, so they were not compared as pairs");
    }
    text
}

/// What the iterations of one side say about it.
fn starts_sentence(name: &str, starts: Starts, count: usize) -> String {
    let mut text = format!("; the {name}'s {} iterations count as {count} process starts", starts.iterations);
    if let Some(share) = starts.between_share {
        write!(text, ", {:.0} % of their variance lying between starts", share * 100.0)
            .expect("a string takes all text");
    }
    if starts.warm_up > 0 {
        write!(text, ", {} of them left out as warm-up", starts.warm_up).expect("a string takes all text");
    }
    if starts.unsteady > 0 {
        write!(text, ", {} starts never becoming steady", starts.unsteady).expect("a string takes all text");
    }
    text
}

/// Why so few values are too few.
pub(crate) fn too_few(sides: (&Side, &Side), needed: usize) -> String {
    let counts = (sides.0.values.len(), sides.1.values.len());
    let mut text =
        format!("too few samples: {} and {}, needed are {needed} on each side", counts.0, counts.1);
    if sides.0.unit == Unit::StartMean || sides.1.unit == Unit::StartMean {
        text.push_str(
            "; iterations of one process start count once, for no number of them shows how starts differ: measure more \
             starts",
        );
    }
    for (name, side) in [("incumbent", sides.0), ("candidate", sides.1)] {
        if let Some(Starts { iterations, effective: Some(effective), .. }) = side.starts {
            write!(text, "; the {name}'s {iterations} iterations are worth {effective:.1} independent ones of that start")
                .expect("a string takes all text");
        }
    }
    text
}

/// The sentence for a finding without an interval. `old` and `new` are the first samples of the sides that are no finite
/// numbers, with their places, as far as they are known.
pub(crate) fn why_not(problem: DataProblem, side: &str, [old, new]: [Option<(usize, f64)>; 2]) -> String {
    let not_finite = |side: &str, sample: Option<(usize, f64)>| match sample {
        Some((place, value)) => {
            let kind = if value.is_nan() { "NaN" } else { "infinite" };
            format!("{kind}: sample {place} of {side} is {kind}")
        }
        None => format!("a sample of {side} is NaN or infinite"),
    };
    match problem {
        DataProblem::MissingInCandidate => format!("missing: the candidate has no such metric, {side} has"),
        DataProblem::MissingInIncumbent => format!("missing: {side} has no such metric, the candidate has"),
        DataProblem::NonFiniteInCandidate => not_finite("the candidate", new),
        DataProblem::NonFiniteInIncumbent => not_finite(side, old),
        DataProblem::TooFewSamples => {
            "too few samples: it takes two a side, of process starts of their own".to_owned()
        }
        DataProblem::SpecMismatch => {
            format!("{side} and the candidate disagree about unit or harmful direction")
        }
    }
}

/// The probability that a true change of the threshold's size would have been told from none: that an interval as wide as
/// this one, around an estimate that scatters as this one does, lies beyond zero on that change's side.
///
/// With `w` half the width of the interval, `t` its quantile of Student's distribution with `degrees_of_freedom`, and the
/// standard error therefore `w / t`: the probability that Student's t exceeds `t - threshold t / w`, the usual shifted-t
/// approximation of the noncentral distribution. `None` where the interval has no finite width, and
/// for a threshold of zero.
pub(crate) fn power(interval: Interval, threshold: f64, degrees_of_freedom: f64) -> Result<Option<f64>> {
    let half = (interval.high / 2.0) - (interval.low / 2.0);
    if !(half > 0.0 && half < f64::MAX / 4.0 && threshold > 0.0 && interval.level > 0.0) {
        return Ok(None);
    }
    let quantile = t_quantile(interval.level, degrees_of_freedom)?;
    let power = t_tail(quantile - threshold * quantile / half, degrees_of_freedom)?;
    Ok(Some(power.clamp(0.0, 1.0)))
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
