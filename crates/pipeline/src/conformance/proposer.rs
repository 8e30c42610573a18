//! The contract of [`Proposer`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use evoseal_types::VersionId;

use super::{Verdict, ensure, suite, wrong};
use crate::{Brief, Proposal, ProposalContext, Proposer};

/// A proposer and what it can do.
#[derive(Debug)]
pub struct ProposerInPlace {
    /// The proposer.
    pub proposer: Box<dyn Proposer>,
    /// Whether equal seeds give equal proposals.
    pub repeatable: bool,
}

/// Writes a version that can be edited into an empty directory, and makes a proposer for it.
pub type Fixture<'a> = &'a dyn Fn(&Path) -> ProposerInPlace;

suite! { $ proposer_conformance proposer Fixture<'_>,
    proposes_or_says_why_not
    edits_in_the_workspace_and_the_run_directory_only
    proposes_the_same_for_the_same_seed
    stops_editing_when_it_is_dropped
}

/// A workspace, a run directory, and something that is none of the proposer's business.
struct Scene {
    folder: tempfile::TempDir,
    place: ProposerInPlace,
}

impl Scene {
    fn new(fixture: Fixture<'_>) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(wrong)?;
        for name in ["workspace", "run", "other"] {
            fs::create_dir(folder.path().join(name)).map_err(wrong)?;
        }
        fs::write(folder.path().join("other/file"), "other").map_err(wrong)?;
        let place = fixture(&folder.path().join("workspace"));
        Ok(Self { folder, place })
    }

    fn context(&self) -> Result<ProposalContext, String> {
        Ok(ProposalContext {
            workspace: self.folder.path().join("workspace"),
            run_directory: self.folder.path().join("run"),
            iteration: 1,
            seed: 7,
            brief: Brief {
                objective: None,
                incumbent: VersionId::new("v0").map_err(wrong)?,
                incumbent_metrics: BTreeMap::new(),
                outcomes: Vec::new(),
            },
        })
    }

    fn tree(&self, name: &str) -> Result<BTreeMap<PathBuf, Vec<u8>>, String> {
        files_below(&self.folder.path().join(name)).map_err(wrong)
    }
}

/// Every file below a folder, by its path from there, with its content; of a link, where it leads to.
fn files_below(root: &Path) -> std::io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let kind = fs::symlink_metadata(&path)?.file_type();
            let name = path.strip_prefix(root).unwrap_or(&path).to_owned();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                files.insert(name, fs::read_link(path)?.into_os_string().into_encoded_bytes());
            } else {
                files.insert(name, fs::read(path)?);
            }
        }
    }
    Ok(files)
}

/// An edit has a summary and has edited; an end has a reason. Errors are allowed, and are failed iterations.
pub async fn proposes_or_says_why_not(fixture: Fixture<'_>) -> Verdict {
    let scene = Scene::new(fixture)?;
    let before = scene.tree("workspace")?;
    match scene.place.proposer.propose(&scene.context()?).await {
        Ok(Proposal::Edited { summary }) => {
            ensure(!summary.trim().is_empty(), || "an edit has no summary".to_owned())?;
            let after = scene.tree("workspace")?;
            ensure(before != after, || format!("it says {summary:?} and changed nothing"))
        }
        Ok(Proposal::Exhausted { reason }) => {
            ensure(!reason.trim().is_empty(), || "it is exhausted and does not say why".to_owned())
        }
        Err(error) => ensure(!error.to_string().is_empty(), || "an error says nothing".to_owned()),
    }
}

/// What lies beside the two stays as it was, and nothing appears there.
pub async fn edits_in_the_workspace_and_the_run_directory_only(fixture: Fixture<'_>) -> Verdict {
    let scene = Scene::new(fixture)?;
    let _ = scene.place.proposer.propose(&scene.context()?).await;
    let entries = fs::read_dir(scene.folder.path()).map_err(wrong)?;
    let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.sort();
    ensure(names == ["other", "run", "workspace"], || format!("beside the workspace it left {names:?}"))?;
    let other = scene.tree("other")?;
    let expected = BTreeMap::from([(PathBuf::from("file"), b"other".to_vec())]);
    ensure(other == expected, || format!("it changed what is not its business: {other:?}"))
}

/// For proposers that say so: the same iteration of the same seed proposes the same candidate.
pub async fn proposes_the_same_for_the_same_seed(fixture: Fixture<'_>) -> Verdict {
    let (first, second) = (Scene::new(fixture)?, Scene::new(fixture)?);
    if !first.place.repeatable {
        return Ok(());
    }
    let proposed = [
        first.place.proposer.propose(&first.context()?).await.map_err(wrong)?,
        second.place.proposer.propose(&second.context()?).await.map_err(wrong)?,
    ];
    ensure(proposed[0] == proposed[1], || format!("equal seeds propose {proposed:?}"))?;
    let (one, other) = (first.tree("workspace")?, second.tree("workspace")?);
    ensure(one == other, || format!("equal seeds leave {one:?} and {other:?}"))
}

/// After its future was dropped the workspace holds still.
pub async fn stops_editing_when_it_is_dropped(fixture: Fixture<'_>) -> Verdict {
    let scene = Scene::new(fixture)?;
    let context = scene.context()?;
    {
        let mut proposing = std::pin::pin!(scene.place.proposer.propose(&context));
        // One poll is enough to start whatever it starts.
        let _ = std::future::poll_fn(|task| std::task::Poll::Ready(proposing.as_mut().poll(task).is_ready()))
            .await;
    }
    let dropped = scene.tree("workspace")?;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let later = scene.tree("workspace")?;
    ensure(dropped == later, || "it went on editing after it was dropped".to_owned())
}
