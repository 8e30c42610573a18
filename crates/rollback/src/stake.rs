//! What a rollback puts at stake: it is in a checkpoint before anything is changed, and what a version that did not work
//! has brought along goes with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use evoseal_checkpoint::{Checkpoint, Entry, NewCheckpoint, RestoreMode, Root, Source};
use evoseal_types::{CheckpointId, Digest, EntryPath, ErrorClass, VersionId};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use crate::deadline::Deadline;
use crate::files::failed;
use crate::intent::Intent;
use crate::protocol::{Protocol, describe, unwind};
use crate::saving::{Paths, compared, has, source_with};
use crate::{Error, Result, RollbackMode};

/// A checkpoint that equals the workspace as a rollback or a recovery found it, and has of what is ignored in it all that
/// the targets would touch.
pub(crate) struct Held {
    pub(crate) checkpoint: CheckpointId,
    pub(crate) tree: Digest,
    pub(crate) is_new: bool,
    /// Targets of which nobody can say what they would touch, with the reason. They are not restored.
    pub(crate) unreadable: BTreeMap<CheckpointId, String>,
}

/// Whether what is the same in the workspace and in a target is held too. Then whatever the target has and the original
/// has not, has come with the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Same {
    Too,
    Not,
}

impl Protocol {
    /// Finds a checkpoint that holds all that is at stake with any of `targets`, or makes one.
    pub(crate) async fn hold(
        &self,
        checkpoints: &[Checkpoint],
        name: (&str, u64),
        note: String,
        targets: &[CheckpointId],
        same: Same,
        deadline: &Deadline,
    ) -> Result<Held> {
        let workspace = &self.workspace.path;
        let tree = deadline.within(self.store.tree_digest(workspace)).await?;
        let found = checkpoints.iter().rev().find(|checkpoint| checkpoint.tree == tree);
        let found = match found {
            // One whose list cannot be read is no way back.
            Some(found) => self.readable(found.id).await?.map(|entries| (found.id, tree, entries)),
            None => None,
        };
        let is_found = found.is_some();
        let (mut checkpoint, tree, entries) = if let Some(found) = found {
            found
        } else {
            let source = Source::Directory(workspace.clone());
            let saved = self.save(source, name, note.clone(), deadline).await?;
            (saved.id, saved.tree, self.store.entries(saved.id).await?)
        };
        let (mut at_stake, mut unreadable) = (Paths::new(), BTreeMap::new());
        for target in targets {
            match deadline.within(self.at_stake(*target, &entries, same)).await {
                Ok(paths) => at_stake.extend(paths),
                Err(error) if error.class() == ErrorClass::Corrupt => {
                    unreadable.insert(*target, describe(&error));
                }
                Err(error) => return Err(error),
            }
        }
        let is_new = !is_found || !at_stake.is_empty();
        if !at_stake.is_empty() {
            checkpoint =
                self.save(source_with(&self.workspace.path, at_stake), name, note, deadline).await?.id;
        }
        Ok(Held { checkpoint, tree, is_new, unreadable })
    }

    async fn save(
        &self,
        source: Source,
        (prefix, sequence): (&str, u64),
        note: String,
        deadline: &Deadline,
    ) -> Result<Checkpoint> {
        let version_id = VersionId::new(format!("{prefix}-{sequence}"))
            .expect("a short name of letters, digits and '-' is a version id");
        let details = NewCheckpoint { note, ..NewCheckpoint::of(version_id) };
        let save = async { self.store.create(source, details).await?.durable().await };
        deadline.within(save).await
    }

    /// What is there, in the target's way, and not `held`: files that are ignored now, and were not when the target was
    /// captured. Caches are not meant: nothing of them is saved.
    async fn at_stake(&self, target: CheckpointId, held: &[Entry], same: Same) -> Result<Paths> {
        let (changed, mut at_stake) = compared(&*self.store, &self.workspace.path, target).await?;
        if same == Same::Too {
            let entries = self.store.entries(target).await?.into_iter().map(|entry| entry.path);
            at_stake.extend(entries.filter(|path| !changed.contains(path)));
        }
        let caches = crate::caches::check(&self.settings.caches)?;
        at_stake.retain(|path| !has(held, path) && !is_below(&caches, path));
        Ok(at_stake)
    }

    /// The entries of a checkpoint, unless its list is damaged.
    async fn readable(&self, checkpoint: CheckpointId) -> Result<Option<Vec<Entry>>> {
        match self.store.entries(checkpoint).await {
            Ok(entries) => Ok(Some(entries)),
            Err(error) if error.class() == ErrorClass::Corrupt => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Everything before another target is tried: the workspace is what it was, and all that is at stake with this target
    /// is held. That is not done before the first fails, since an old version may ignore less, and whole caches would be
    /// saved for one that is hardly ever tried. The inner error is why the target cannot be tried.
    pub(crate) async fn begin_next(
        &self,
        intent: &mut Intent,
        target: CheckpointId,
        deadline: &Deadline,
    ) -> Result<Result<(), String>> {
        self.clear_beside(intent).await?;
        let is_back = match self.put_back(intent).await {
            // Without a way back there is all the more reason to try what is left.
            Err(error) if error.class() == ErrorClass::Corrupt => false,
            done => done.map(|()| true)?,
        };
        let entries = self.readable(intent.way_back()).await?.unwrap_or_default();
        let mut at_stake = deadline.within(self.at_stake(target, &entries, Same::Too)).await?;
        let is_held = at_stake.is_empty();
        if let Some(first) = at_stake.first()
            && !is_back
            && intent.mode == RollbackMode::Exchange
        {
            // Nobody could tell it, in the tree that is left behind, from what appears at the very moment.
            let count = at_stake.len();
            return Ok(Err(format!(
                "it would overwrite {first}, one of {count} entries that are ignored, and the checkpoint of the \
                 workspace as it was is damaged"
            )));
        }
        if !is_held {
            at_stake.extend(entries.into_iter().map(|entry| entry.path));
            let name = ("before-rollback", intent.after_sequence + 1);
            let note = format!("the workspace as it was before a rollback: {}", intent.request.reason);
            let saved = self.save(source_with(&self.workspace.path, at_stake), name, note, deadline).await?;
            intent.later = is_back.then_some(saved.id).or(intent.later);
        }
        if is_back || is_held {
            intent.held = intent.attempts.len() + 1;
        }
        self.keep(intent).await.map(Ok)
    }

    /// Takes out of the workspace what the targets that were tried have brought into it. A restore of what was there before
    /// would leave it where that ignores it, and might find it in its way.
    async fn take_out(&self, intent: &Intent) -> Result<()> {
        let Some(original) = self.readable(intent.way_back()).await? else { return Ok(()) };
        for target in intent.ladder.iter().take(intent.held.min(intent.attempts.len() + 1)) {
            // What cannot be read was not restored.
            let Some(entries) = self.readable(*target).await? else { continue };
            let changed = match compared(&*self.store, &self.workspace.path, *target).await {
                Err(error) if error.class() == ErrorClass::Corrupt => continue,
                compared => compared?.0,
            };
            let mut brought: Vec<EntryPath> = entries.into_iter().map(|entry| entry.path).collect();
            brought.retain(|path| !has(&original, path) && !changed.contains(path));
            let workspace = self.workspace.path.clone();
            unwind(tokio::task::spawn_blocking(move || remove(&workspace, &brought)).await)?;
        }
        Ok(())
    }

    /// Removes from the workspace, before the exchange for a target, what goes with it and is not in the original: what is in
    /// a cache, and what has come since a crash and is `held`. Nothing would tell it, in the tree that is left behind, from
    /// what appears at the very moment and is brought along.
    pub(crate) async fn clear_since(
        &self,
        intent: &Intent,
        held: &Held,
        goes: &BTreeSet<Vec<u8>>,
    ) -> Result<()> {
        let caches = crate::caches::check(&self.settings.caches)?;
        let mut since: Vec<EntryPath> = goes.iter().filter_map(|path| EntryPath::new(path).ok()).collect();
        if held.checkpoint == intent.original {
            since.retain(|path| is_below(&caches, path));
        } else {
            let original = self.store.entries(intent.way_back()).await?;
            let found = self.store.entries(held.checkpoint).await?;
            since.retain(|path| is_below(&caches, path) || has(&found, path) && !has(&original, path));
        }
        let workspace = self.workspace.path.clone();
        unwind(tokio::task::spawn_blocking(move || remove(&workspace, &since)).await)
    }

    /// Makes the workspace what it was before the rollback. An error leaves the intent on record.
    pub(crate) async fn put_back(&self, intent: &Intent) -> Result<()> {
        let workspace = &self.workspace.path;
        let is_back =
            async || Ok::<_, Error>(compared(&*self.store, workspace, intent.way_back()).await?.0.is_empty());
        self.take_out(intent).await?;
        // Where nothing has changed, it does not matter whether the way back is whole.
        if is_back().await? {
            return Ok(());
        }
        self.store.restore(intent.way_back(), workspace, RestoreMode::InPlace).await?;
        // Something ignored that has come since can make a folder one that is not part of the tree any more.
        if self.store.tree_digest(workspace).await? == intent.from_tree || is_back().await? {
            return Ok(());
        }
        let path = workspace.display().to_string();
        Err(evoseal_checkpoint::Error::NotRestored { target: workspace.clone(), path }.into())
    }
}

/// Whether the path is one of the caches or below one.
fn is_below(caches: &[EntryPath], path: &EntryPath) -> bool {
    caches.iter().any(|cache| path.as_path().starts_with(cache.as_path()))
}

/// Removes entries, sorted by path, from the last to the first, and of the folders those that are empty by then. Durable when
/// it returns.
fn remove(workspace: &Path, paths: &[EntryPath]) -> Result<()> {
    let (root, mut has_removed) = (Root::open(workspace)?, false);
    for path in paths.iter().rev() {
        let above = path.parent();
        let above = above.as_ref().map_or(&b""[..], EntryPath::as_bytes);
        // What is not a folder any more holds nothing of ours.
        let Ok(folder) = root.directory(above) else { continue };
        let name = OsStr::from_bytes(path.components().next_back().unwrap_or_default());
        let removed = match unlinkat(&folder, name, AtFlags::empty()) {
            // What the system says of a folder depends on the system.
            Err(error @ (Errno::ISDIR | Errno::PERM)) => {
                unlinkat(&folder, name, AtFlags::REMOVEDIR).map_err(|next| match next {
                    Errno::NOTDIR => error,
                    next => next,
                })
            }
            removed => removed,
        };
        match removed {
            Ok(()) => has_removed = true,
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => {
                let place = workspace.join(path.as_path());
                return Err::<(), Error>(failed("remove", &place)(error.into()));
            }
        }
    }
    if has_removed {
        root.sync()?;
    }
    Ok(())
}
