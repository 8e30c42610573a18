//! The standard choice of targets.

use std::collections::BTreeSet;

use evoseal_checkpoint::Checkpoint;
use evoseal_types::{CheckpointId, Direction, MetricSamples, Objective};

use crate::{Error, Result, Target, TargetSelector};

/// The requested version first, then the known-good versions that are older than it, newest first.
///
/// "Older" is the order in which versions were marked as known-good; a requested version that is not among them is
/// compared by the order in which checkpoints were made. A version is good because it was *accepted*: how often it was
/// rolled back to says nothing. Known-good versions whose checkpoint is gone are passed over.
///
/// ```
/// use evoseal_rollback::{KnownGoodLadder, Target, TargetSelector};
/// let error = KnownGoodLadder.select(&Target::LastKnownGood, &[], &[]).unwrap_err();
/// assert_eq!(error.to_string(), "no version to roll back to: no version is known to be good");
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct KnownGoodLadder;

impl TargetSelector for KnownGoodLadder {
    fn select(
        &self,
        target: &Target,
        checkpoints: &[Checkpoint],
        known_good: &[CheckpointId],
    ) -> Result<Vec<CheckpointId>> {
        let position = |id: CheckpointId| checkpoints.iter().position(|checkpoint| checkpoint.id == id);
        let good: Vec<CheckpointId> =
            known_good.iter().copied().filter(|id| position(*id).is_some()).collect();
        let first = requested(target, checkpoints, &good)?;
        let before: &[CheckpointId] = match good.iter().position(|id| *id == first) {
            Some(place) => &good[..place],
            None => &good,
        };
        let is_older = |id: &CheckpointId| good.contains(&first) || position(*id) < position(first);
        let older = before.iter().rev().copied().filter(is_older);
        let mut seen = BTreeSet::new();
        Ok(std::iter::once(first).chain(older).filter(|id| seen.insert(*id)).collect())
    }
}

/// The checkpoint that `target` names. `good` are the known-good ones that still exist.
fn requested(target: &Target, checkpoints: &[Checkpoint], good: &[CheckpointId]) -> Result<CheckpointId> {
    let none = |reason: String| Error::NoTarget { reason };
    let existing = |id: CheckpointId| {
        let found = checkpoints.iter().any(|checkpoint| checkpoint.id == id);
        if found { Ok(id) } else { Err(none(format!("there is no checkpoint {id}"))) }
    };
    let newest_good =
        || good.last().copied().ok_or_else(|| none("no version is known to be good".to_owned()));
    match target {
        Target::Checkpoint(id) | Target::Baseline { checkpoint: id, .. } => existing(*id),
        Target::Undo => Err(none("only the history knows what there was before".to_owned())),
        Target::Best(objective) => best(objective, checkpoints, good).ok_or_else(|| {
            none(format!("no version that is known to be good has samples of {}", objective.metric))
        }),
        Target::Version(version) => {
            let newest =
                checkpoints.iter().rev().find(|checkpoint| checkpoint.details.version_id == *version);
            newest
                .map(|checkpoint| checkpoint.id)
                .ok_or_else(|| none(format!("there is no checkpoint of version {version}")))
        }
        Target::LastKnownGood => newest_good(),
        Target::Parent => {
            let newest = newest_good()?;
            let parent = checkpoints.iter().find(|checkpoint| checkpoint.id == newest);
            let parent = parent.and_then(|checkpoint| checkpoint.details.parent);
            existing(parent.ok_or_else(|| none(format!("checkpoint {} has no parent", newest.short())))?)
        }
    }
}

/// The known-good version with the best mean of the objective's metric; of equals, the one that was marked last.
fn best(objective: &Objective, checkpoints: &[Checkpoint], good: &[CheckpointId]) -> Option<CheckpointId> {
    let mean = |id: &CheckpointId| {
        let checkpoint = checkpoints.iter().find(|checkpoint| checkpoint.id == *id)?;
        let metrics = checkpoint.details.metrics.iter();
        let of_metric = metrics.filter(|metric| metric.spec.name == objective.metric);
        let values: Vec<f64> =
            of_metric.flat_map(MetricSamples::values).filter(|value| value.is_finite()).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let ranked = good.iter().filter_map(|id| mean(id).map(|mean| (*id, mean)));
    let is_better = |left: f64, right: f64| match objective.direction {
        Direction::Increase => left <= right,
        Direction::Decrease => left >= right,
    };
    let better = |best: (CheckpointId, f64), next: (CheckpointId, f64)| {
        if is_better(next.1, best.1) { next } else { best }
    };
    ranked.reduce(better).map(|(id, _)| id)
}
