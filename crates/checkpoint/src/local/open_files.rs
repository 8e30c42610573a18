//! Objects that are read piece by piece stay open for a while.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files that are kept open at most: a reader goes back and forth between a few packs.
const OPEN_FILES_MAX: usize = 16;

/// The objects that were read last, open; the newest stands at the back.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    files: Mutex<VecDeque<(String, Arc<File>)>>,
}

impl OpenFiles {
    /// The object's file and its size. A file whose name is gone, whoever removed it, is opened anew.
    pub(super) fn open(&self, name: &str, path: &Path) -> io::Result<(Arc<File>, u64)> {
        if let Some(file) = self.take(name) {
            let metadata = file.metadata()?;
            if metadata.nlink() > 0 {
                self.keep(name, &file);
                return Ok((file, metadata.len()));
            }
        }
        // Opened outside the mutex: several readers may open the same file at once, and one of them is kept.
        let file = Arc::new(File::open(path)?);
        let size = file.metadata()?.len();
        self.keep(name, &file);
        Ok((file, size))
    }

    pub(super) fn forget(&self, name: &str) {
        self.take(name);
    }

    fn keep(&self, name: &str, file: &Arc<File>) {
        let mut files = self.files();
        if files.iter().any(|(kept, _)| kept == name) {
            return;
        }
        if files.len() == OPEN_FILES_MAX {
            files.pop_front();
        }
        files.push_back((name.to_owned(), Arc::clone(file)));
    }

    fn take(&self, name: &str) -> Option<Arc<File>> {
        let mut files = self.files();
        let place = files.iter().position(|(kept, _)| kept == name)?;
        files.remove(place).map(|(_, file)| file)
    }

    fn files(&self) -> MutexGuard<'_, VecDeque<(String, Arc<File>)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn no_more_files_stay_open_than_allowed_and_a_removed_one_does_not_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let open = OpenFiles::default();
        let path = |number: usize| folder.path().join(number.to_string());
        for number in 0..OPEN_FILES_MAX + 3 {
            fs::write(path(number), "x".repeat(number)).unwrap();
            let (_, size) = open.open(&number.to_string(), &path(number)).unwrap();
            assert_eq!(size, number as u64);
        }
        assert_eq!(open.files().len(), OPEN_FILES_MAX);
        let last = OPEN_FILES_MAX + 2;
        fs::remove_file(path(last)).unwrap();
        let error = open.open(&last.to_string(), &path(last)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        fs::write(path(last), "anew").unwrap();
        assert_eq!(open.open(&last.to_string(), &path(last)).unwrap().1, 4);
    }
}
