//! `evoseal rollback --drill`: proves on copies that there is something to roll back to.

use std::collections::BTreeSet;

use evoseal_checkpoint::{CheckpointStore, RestoreMode};
use evoseal_rollback::{DigestVerifier, Rollback, Verifier};
use evoseal_types::{CheckpointId, VersionId};
use serde::Serialize;

use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::{Project, Stores};

/// What came of one version.
#[derive(Debug, Serialize)]
struct Rehearsal {
    version_id: Option<VersionId>,
    checkpoint: CheckpointId,
    is_incumbent: bool,
    /// Why it could not be restored, or is not fit for use; nothing if it is.
    error: Option<String>,
}

/// Restores the accepted version and the newest `count` known-good ones, each into a temporary folder of its own, and looks
/// at what is then there. The workspace is not touched.
pub(crate) async fn run(count: usize, project: &Project, stores: &Stores, output: Output) -> Result<Exit> {
    let incumbent = project.run_state()?.incumbent.and_then(|(version, _)| version.checkpoint);
    let known_good = stores.rollback.known_good().await?;
    let newest = known_good.iter().rev().copied().take(count);
    let mut seen = BTreeSet::new();
    let mut rehearsals = Vec::new();
    for checkpoint in incumbent.into_iter().chain(newest).filter(|id| seen.insert(*id)) {
        let version = stores.checkpoints.load(checkpoint).await;
        let error = rehearse(checkpoint, project, stores).await?;
        rehearsals.push(Rehearsal {
            version_id: version.ok().map(|found| found.details.version_id),
            checkpoint,
            is_incumbent: Some(checkpoint) == incumbent,
            error,
        });
    }
    if rehearsals.is_empty() {
        return Err(Failure::usage("there is no accepted version yet").hint("`evoseal run` makes one"));
    }
    output.data(&rehearsals, || {
        let line = |rehearsal: &Rehearsal| {
            let version = rehearsal.version_id.as_ref().map_or("?".to_owned(), ToString::to_string);
            let accepted = if rehearsal.is_incumbent { " (accepted)" } else { "" };
            let outcome = rehearsal.error.as_deref().unwrap_or("restores and verifies");
            format!("{}  {version}{accepted}: {outcome}", rehearsal.checkpoint.short())
        };
        rehearsals.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    let is_fit = rehearsals.iter().all(|rehearsal| rehearsal.error.is_none());
    Ok(if is_fit { Exit::Done } else { Exit::Damaged })
}

/// Why one version does not come back, or is not fit for use.
async fn rehearse(id: CheckpointId, project: &Project, stores: &Stores) -> Result<Option<String>> {
    let folder = tempfile::Builder::new().prefix("evoseal-drill-").tempdir();
    let folder = folder.map_err(|error| Failure::io("make a folder in", &std::env::temp_dir(), &error))?;
    let place = folder.path().join("workspace");
    let restored = stores.checkpoints.restore(id, &place, RestoreMode::Empty).await;
    let checkpoint = match restored {
        Ok(_) => stores.checkpoints.load(id).await?,
        Err(error) => return Ok(Some(Failure::from(error).message)),
    };
    let digest = DigestVerifier::new(std::sync::Arc::clone(&stores.checkpoints) as _);
    let own = project.health_verifier()?;
    let verifiers = [Some(&digest as &dyn Verifier), own.as_deref()];
    for verifier in verifiers.into_iter().flatten() {
        match verifier.verify(&place, &checkpoint).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Ok(Some(reason)),
            Err(error) => return Ok(Some(Failure::from(error).message)),
        }
    }
    Ok(None)
}
