//! What a run gained: the objective from baseline to final version.

use evoseal_regression::Interval;
use evoseal_types::{Direction, MetricSpec};

use crate::history::{RunHistory, find_metric};
use crate::number;
use crate::text::plural;

/// The objective from baseline to final version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gain {
    /// The objective's metric.
    pub(crate) spec: MetricSpec,
    /// The baseline's value.
    pub(crate) before: f64,
    /// The final version's value.
    pub(crate) after: f64,
    /// Relative change; `None` where it does not exist.
    pub(crate) change: Option<f64>,
    /// Interval of the relative change; only with a side-by-side measurement.
    pub(crate) interval: Option<Interval>,
    /// Whether both values come from one side-by-side measurement.
    pub(crate) remeasured: bool,
}

impl Gain {
    /// Whether the objective moved in the harmful direction; `false` if it did not move.
    pub(crate) fn is_worse(&self, harmful: Direction) -> bool {
        harmful.harm_sign() * (self.after - self.before) > 0.0
    }
}

/// How much the objective moved, or why that cannot be said.
pub(crate) fn gain(history: &RunHistory) -> Result<Gain, String> {
    let counts = history.counts();
    let Some(objective) = &history.objective else {
        let verb = if counts.total() == 1 { "change was" } else { "changes were" };
        return Err(format!(
            "The run has no objective: {} of {} {verb} accepted.",
            counts.accepted,
            counts.total()
        ));
    };
    if history.final_version == history.baseline.version_id {
        return Err(format!(
            "Nothing was gained: after {} the final version is the baseline.",
            plural(counts.total(), "iteration")
        ));
    }
    let name = &objective.metric;
    let side_by_side = history.remeasured.iter().find(|finding| finding.metric.name == *name);
    if let Some(finding) = side_by_side
        && let (Some(before), Some(after)) = (finding.old_value, finding.new_value)
    {
        return Ok(Gain {
            spec: finding.metric.clone(),
            before,
            after,
            change: finding.change,
            interval: finding.change.and(finding.interval),
            remeasured: true,
        });
    }
    let before = find_metric(&history.baseline.metrics, name);
    let after = find_metric(history.final_metrics(), name);
    let (Some(before), Some(after)) = (before, after) else {
        return Err(format!(
            "The gain is unknown: {name} was not measured of both baseline and final version."
        ));
    };
    let change = (before.mean != 0.0).then(|| (after.mean - before.mean) / before.mean.abs());
    Ok(Gain {
        spec: after.spec.clone(),
        before: before.mean,
        after: after.mean,
        change,
        interval: None,
        remeasured: false,
    })
}

impl Gain {
    /// The change in as few words as possible: relative if there is one, else absolute.
    pub(crate) fn headline(&self) -> String {
        match self.change {
            Some(change) => number::relative(change, self.interval),
            None => number::signed_value(self.after - self.before, &self.spec.unit),
        }
    }

    /// How far the numbers can be trusted, as a sentence.
    pub(crate) fn caveat(&self) -> String {
        match (self.remeasured, self.interval) {
            (true, Some(interval)) => format!(
                "Baseline and final version were measured side by side at the end; the brackets hold the {} interval.",
                number::tolerance(interval.level)
            ),
            (true, None) => {
                "Baseline and final version were measured side by side at the end, without an interval."
                    .to_owned()
            }
            (false, _) => {
                "Not measured again side by side: the two values come from different times, so drift of \
                           the machine is part of the difference."
                    .to_owned()
            }
        }
    }
}
