//! The few file operations that the state of a rollback needs, each durable when it returns.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::{Error, Result};

/// Called before each operation that changes a file, with its name. An error stands for the operation's failure.
pub(crate) type Probe = Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>;

/// Does the file operations; a test can put a [`Probe`] before each.
#[derive(Clone, Default)]
pub(crate) struct Files {
    pub(crate) probe: Option<Probe>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("probe", &self.probe.is_some()).finish()
    }
}

/// An operating system error on `path`.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

impl Files {
    /// Does one operation, unless the probe objects.
    pub(crate) fn step<T>(
        &self,
        action: &'static str,
        path: &Path,
        operation: impl FnOnce() -> io::Result<T>,
    ) -> Result<T> {
        let allowed = self.probe.as_ref().map_or(Ok(()), |probe| probe(action));
        allowed.and_then(|()| operation()).map_err(failed(action, path))
    }

    /// Makes a folder and those above it.
    pub(crate) fn create_folder(&self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_folder(parent)?;
        }
        match self.step("create folder", path, || fs::create_dir(path)) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.sync_folder_of(path),
        }
    }

    /// Gives `path` new content: after a crash it has the old or the new one, whole.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let aside = path.with_extension("tmp");
        let mut file = self.step("create", &aside, || File::create(&aside))?;
        self.step("write", &aside, || file.write_all(bytes))?;
        self.step("sync", &aside, || file.sync_all())?;
        self.step("rename", path, || fs::rename(&aside, path))?;
        self.sync_folder_of(path)
    }

    /// Removes a file that may be missing.
    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        match self.step("remove", path, || fs::remove_file(path)) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.sync_folder_of(path),
        }
    }

    /// Makes the names in the folder that holds `path` durable.
    pub(crate) fn sync_folder_of(&self, path: &Path) -> Result<()> {
        let folder = path.parent().expect("every path of ours has a file name");
        self.step("sync folder", folder, || File::open(folder)?.sync_all())
    }
}
