//! Telling a disk that is full from a candidate that is bad.
//!
//! An agent that cannot write and a test that cannot write fail like any other. Held against the candidate, such a failure
//! would go into the history as a verdict, and a disk that stays full would refuse one candidate after the other. So whenever
//! something ended while the disk is full, what was written in the workspace meanwhile is undone, and the disk is looked at
//! once more: if that made room, whoever filled it answers for it; otherwise the run ends as it does for any other error of
//! the surroundings, and the next one goes on in the same place.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use evoseal_types::CheckpointId;

use crate::pipeline::{EvolutionPipeline, off_thread};
use crate::{Error, Result};

/// Below this a disk counts as full. Less than any build or test needs, so that a small disk is not taken for a full one.
const FREE_BYTES_MIN: u64 = 1 << 20;
/// The same for the number of files that can be made.
const FREE_FILES_MIN: u64 = 8;

impl EvolutionPipeline {
    /// Returns the workspace to `checkpoint` if the disk is full, and says whether that was what filled it: `false` if the disk
    /// was not full.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with the folder if it was full for another reason, even if there is room again by now.
    pub(crate) async fn made_room(&self, checkpoint: Option<CheckpointId>) -> Result<bool> {
        let Some(full) = self.full_folder().await? else { return Ok(false) };
        if self.gave_back(checkpoint).await? { Ok(true) } else { Err(full) }
    }

    /// Returns the workspace to `checkpoint`, and says whether that gave back so much that what stood there may be what a disk
    /// had no room for.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with the folder if the disk is full afterwards.
    pub(crate) async fn gave_back(&self, checkpoint: Option<CheckpointId>) -> Result<bool> {
        let before = self.taken().await?;
        if let Some(checkpoint) = checkpoint {
            self.restore_workspace(checkpoint).await?;
        }
        if let Some(full) = self.full_folder().await? {
            return Err(full);
        }
        let after = self.taken().await?;
        Ok(before.bytes.saturating_sub(after.bytes) >= FREE_BYTES_MIN
            || before.files.saturating_sub(after.files) >= FREE_FILES_MIN)
    }

    /// What the workspace takes on the disk.
    async fn taken(&self) -> Result<Taken> {
        let (workspace, state) = (self.parts.workspace.clone(), self.parts.state_directory.clone());
        off_thread("looking at the workspace", move || Ok(Taken::by(&workspace, &state))).await
    }

    /// The error that names the first of our folders that lies on a full disk.
    async fn full_folder(&self) -> Result<Option<Error>> {
        let folders = [self.parts.workspace.clone(), self.parts.state_directory.clone()];
        off_thread("looking at the disk", move || {
            for path in folders {
                let is_full = is_full(&path).map_err(|source| Error::Io {
                    action: "look at the disk of",
                    path: path.clone(),
                    source,
                })?;
                if is_full {
                    let source = io::ErrorKind::StorageFull.into();
                    return Ok(Some(Error::Io { action: "go on in", path, source }));
                }
            }
            Ok(None)
        })
        .await
    }
}

/// Space and files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    bytes: u64,
    files: u64,
}

impl Taken {
    /// What `root` takes without what is in `left_out`. What cannot be looked at does not count.
    fn by(root: &Path, left_out: &Path) -> Self {
        let mut taken = Self::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                let path = entry.path();
                if path != left_out {
                    taken.bytes += metadata.blocks() * 512;
                    taken.files += 1;
                    folders.extend(metadata.is_dir().then_some(path));
                }
            }
        }
        taken
    }
}

/// Whether nothing worth mentioning can be written there.
fn is_full(path: &Path) -> io::Result<bool> {
    let found = rustix::fs::statvfs(path)?;
    // File systems without a table of files say that there are none, and none left.
    let files_are_counted = found.f_files > 0;
    Ok(found.f_bavail.saturating_mul(found.f_frsize) < FREE_BYTES_MIN
        || (files_are_counted && found.f_favail < FREE_FILES_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_folder_is_not_full_and_one_that_is_gone_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_full(folder.path()).unwrap());
        is_full(&folder.path().join("gone")).unwrap_err();
        // A file system without blocks of its own has no room for anything.
        assert!(is_full(Path::new("/proc")).unwrap());
    }

    #[test]
    fn what_a_folder_takes_is_counted_without_what_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("journal"), vec![1; 1 << 20]).unwrap();
        let none = Taken::by(folder.path(), &state);
        assert_eq!(none, Taken::default());
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("deep/file"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();
        let some = Taken::by(folder.path(), &state);
        assert_eq!(some.files, 3);
        assert!((1 << 20..2 << 20).contains(&some.bytes), "{some:?}");
    }
}
