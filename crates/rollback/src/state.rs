//! The state directory: the lock, the intent, the history and the known-good versions.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use evoseal_types::{CheckpointId, Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::files::{Files, failed};
use crate::intent::Intent;
use crate::log::{Log, LogEnd};
use crate::{Error, Result, RollbackRecord};

/// The files of one state directory. All methods block.
#[derive(Debug)]
pub(crate) struct State {
    folder: PathBuf,
    files: Files,
    history: Log,
    known_good: Log,
}

/// Held while a rollback runs; ends with the file, so a dead process never blocks.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// A line of the history.
#[derive(Debug, Serialize, Deserialize)]
struct HistoryLine {
    /// Which intent this record ends; `None` for a rollback that ended before it had one.
    intent: Option<Digest>,
    record: RollbackRecord,
}

/// A line of the list of known-good versions.
#[derive(Debug, Serialize, Deserialize)]
struct KnownGoodLine {
    checkpoint: CheckpointId,
    marked_at: Timestamp,
    /// Whether the version is taken out of the list again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    withdrawn: bool,
}

/// Whether a rollback is unfinished whose manager keeps its state in this directory: one look at one file.
///
/// It may also be one that another process is busy with; [`Rollback::recover`](crate::Rollback::recover) waits for its lock.
///
/// ```
/// let state = tempfile::tempdir()?;
/// assert!(!evoseal_rollback::is_interrupted(state.path()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn is_interrupted(state_directory: &Path) -> bool {
    // What cannot be looked at cannot be completed either; opening the directory says why.
    fs::symlink_metadata(state_directory.join(INTENT)).is_ok()
}

/// The name of the intent's file.
const INTENT: &str = "intent";

impl State {
    /// Makes the directory if need be. `folder` is resolved, so that a symlink put in its way later has no effect.
    pub(crate) fn open(folder: &Path, files: Files) -> Result<Self> {
        files.create_folder(folder)?;
        let folder = folder.canonicalize().map_err(failed("resolve", folder))?;
        let log = |name: &str, magic| Log::new(folder.join(name), magic, files.clone());
        let history = log("history.log", "evoseal-rollback-history");
        let known_good = log("known-good.log", "evoseal-rollback-known-good");
        Ok(Self { folder, files, history, known_good })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes the lock if nobody else holds it.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>> {
        self.files.create_folder(&self.folder)?;
        let path = self.folder.join("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = self.files.step("open", &path, || options.open(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }

    fn intent_path(&self) -> PathBuf {
        self.folder.join(INTENT)
    }

    /// The intent of an unfinished rollback.
    pub(crate) fn load_intent(&self) -> Result<Option<Intent>> {
        let path = self.intent_path();
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(failed("read", &path))?,
        };
        Intent::decode(&bytes).map(Some).map_err(|problem| Error::Damaged { path, problem })
    }

    /// Puts an intent on record, in place of the one before.
    pub(crate) fn store_intent(&self, intent: &Intent) -> Result<()> {
        self.files.replace(&self.intent_path(), &intent.encode())
    }

    pub(crate) fn clear_intent(&self) -> Result<()> {
        self.files.remove(&self.intent_path())
    }

    /// Moves an intent that cannot be read out of the way, for a person to look at.
    pub(crate) fn set_intent_aside(&self) -> Result<()> {
        let (path, aside) = (self.intent_path(), self.folder.join("intent.damaged"));
        self.files.step("rename", &path, || fs::rename(&path, &aside))?;
        self.files.sync_folder_of(&path)
    }

    pub(crate) fn history_end(&self) -> Result<LogEnd> {
        self.history.end()
    }

    /// Adds a record; `make` gets its number.
    pub(crate) fn append_record(
        &self,
        intent: Option<Digest>,
        make: impl FnOnce(u64) -> RollbackRecord,
    ) -> Result<()> {
        self.history.append(|sequence| HistoryLine { intent, record: make(sequence) }).map(drop)
    }

    /// Whether the rollback that `intent` began has its record.
    pub(crate) fn is_recorded(&self, intent: &Intent) -> Result<bool> {
        let (key, mut found) = (intent.key(), false);
        self.history.scan(intent.history_bytes, |line: HistoryLine| {
            found = line.intent == Some(key);
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// Hands every record to `each`, oldest first.
    pub(crate) fn records(&self, mut each: impl FnMut(RollbackRecord)) -> Result<()> {
        self.history.scan(0, |line: HistoryLine| {
            each(line.record);
            ControlFlow::Continue(())
        })
    }

    /// Adds a known-good version unless it is one already.
    pub(crate) fn mark_known_good(&self, checkpoint: CheckpointId, marked_at: Timestamp) -> Result<()> {
        if self.known_good()?.contains(&checkpoint) {
            return Ok(());
        }
        self.known_good.append(|_| KnownGoodLine { checkpoint, marked_at, withdrawn: false }).map(drop)
    }

    /// Takes a version out of the known-good ones if it is one.
    pub(crate) fn withdraw_known_good(&self, checkpoint: CheckpointId, marked_at: Timestamp) -> Result<()> {
        if !self.known_good()?.contains(&checkpoint) {
            return Ok(());
        }
        self.known_good.append(|_| KnownGoodLine { checkpoint, marked_at, withdrawn: true }).map(drop)
    }

    /// The known-good versions in the order in which they were first marked, or marked again after they were withdrawn.
    pub(crate) fn known_good(&self) -> Result<Vec<CheckpointId>> {
        let (mut ids, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
        self.known_good.scan(0, |line: KnownGoodLine| {
            if line.withdrawn {
                seen.remove(&line.checkpoint);
                ids.retain(|id| *id != line.checkpoint);
                return ControlFlow::Continue(());
            }
            // Two processes that mark the same version at once may both write it.
            if seen.insert(line.checkpoint) {
                ids.push(line.checkpoint);
            }
            ControlFlow::Continue(())
        })?;
        Ok(ids)
    }
}
