//! The run in a few lines.

use std::time::Duration;

use super::{TableOptions, UNPROTECTED, finish, mark, outcome_mark, pairs, wrap};
use crate::gain::{Gain, gain};
use crate::history::{RowOutcome, RunHistory};
use crate::number;
use crate::text::{CELL_CHARS_MAX, one_line, plural};

/// What the run gained: the objective from baseline to final version, absolute and relative, and whether the two were
/// measured side by side.
///
/// ```
/// # let history = evoseal_report::sample::history();
/// use evoseal_report::{TableOptions, gain_summary};
/// let text = gain_summary(&history, TableOptions::default());
/// assert!(text.starts_with("time: "));
/// ```
pub fn gain_summary(history: &RunHistory, options: TableOptions) -> String {
    let text = match gain(history) {
        Err(sentence) => sentence,
        Ok(gain) => {
            let worse = history.objective.as_ref().is_some_and(|goal| gain.is_worse(goal.direction));
            let worse = if worse { " The objective is worse than at the start." } else { "" };
            format!("{}: {} ({}).{worse}\n{}", gain.spec.name, gain.headline(), values(&gain), gain.caveat())
        }
    };
    let text = match &history.error_rate {
        Some(rate) => format!("{text}\n{}", one_line(rate, CELL_CHARS_MAX)),
        None => text,
    };
    finish(&wrap(&text, options.width()), options.color)
}

/// `12.9 ms → 11.3 ms, −1.6 ms, lower is better`.
pub(crate) fn values(gain: &Gain) -> String {
    let unit = &gain.spec.unit;
    format!(
        "{} → {}, {}, {}",
        number::value(gain.before, unit),
        number::value(gain.after, unit),
        number::signed_value(gain.after - gain.before, unit),
        number::better(gain.spec.direction)
    )
}

/// Where the run stands: state, counts, incumbent, last iteration, gain, and what is not protected.
///
/// ```
/// # let history = evoseal_report::sample::history();
/// use evoseal_report::{TableOptions, status_lines};
/// let text = status_lines(&history, TableOptions { width: Some(80), color: false });
/// assert!(text.contains("NOT PROTECTED"));
/// ```
pub fn status_lines(history: &RunHistory, options: TableOptions) -> String {
    let label = |text: &str| text.to_owned();
    let mut rows = vec![
        (label("run"), one_line(&history.title, CELL_CHARS_MAX)),
        (label("state"), state(history)),
        (label("iterations"), outcome_counts(history)),
        (label("incumbent"), incumbent(history)),
    ];
    if let Some(last) = history.iterations.last() {
        let change = one_line(&last.change, CELL_CHARS_MAX);
        rows.push((label("last"), format!("#{} {} · {change}", last.iteration, outcome_mark(last.outcome))));
    }
    let gained = match gain(history) {
        Err(sentence) => sentence,
        Ok(gain) => format!("{} {} ({})", gain.spec.name, gain.headline(), values(&gain)),
    };
    rows.push((label("gain"), gained));
    if let Some(rate) = &history.error_rate {
        rows.push((label("errors"), one_line(rate, CELL_CHARS_MAX)));
    }
    for missing in &history.unprotected {
        rows.push((mark(UNPROTECTED), one_line(missing, CELL_CHARS_MAX)));
    }
    finish(&pairs(options.width(), &rows), options.color)
}

/// How long the run has taken, as of its end or of the time the history was read.
pub(crate) fn elapsed(history: &RunHistory) -> Duration {
    history.ended_at.unwrap_or(history.generated_at).since(history.started_at)
}

pub(crate) fn state(history: &RunHistory) -> String {
    let elapsed = number::duration(elapsed(history));
    let reason = history.stop_reason.as_ref().map(|reason| one_line(reason, CELL_CHARS_MAX));
    match (history.ended_at, reason) {
        (Some(_), Some(reason)) => format!("ended after {elapsed}: {reason}"),
        (Some(_), None) => format!("ended after {elapsed}"),
        (None, Some(reason)) => format!("not ended, {elapsed} since the start: {reason}"),
        (None, None) => format!("not ended, {elapsed} since the start"),
    }
}

/// `9: 4 accepted, 3 rejected, …`, leaving out what did not occur.
pub(crate) fn outcome_counts(history: &RunHistory) -> String {
    let counts = history.counts();
    let parts: Vec<String> = RowOutcome::ALL
        .into_iter()
        .filter(|outcome| counts.of(*outcome) > 0)
        .map(|outcome| match outcome {
            RowOutcome::Error => plural(counts.errors, "error"),
            outcome => format!("{} {outcome}", number::number(counts.of(outcome) as f64)),
        })
        .collect();
    let total = number::number(counts.total() as f64);
    if parts.is_empty() { "none yet".to_owned() } else { format!("{total}: {}", parts.join(", ")) }
}

fn incumbent(history: &RunHistory) -> String {
    let version = one_line(history.final_version.as_str(), CELL_CHARS_MAX);
    let tree = history.final_tree.map_or_else(String::new, |tree| format!(", tree {}", tree.short()));
    let baseline = if history.final_version == history.baseline.version_id { " (the baseline)" } else { "" };
    format!("{version}{baseline}{tree}")
}
