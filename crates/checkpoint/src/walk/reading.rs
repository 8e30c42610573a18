//! Reading what is not known yet: contents, and ignore files.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use evoseal_types::Digest;
use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::{ATTEMPTS, CHUNKS_WAITING_MAX, Folder, LargeFile, Name, Task, Trouble, Worker};
use crate::content::{self, ReadError};
use crate::ignore_rules::{IGNORE_FILE_LEN_MAX, IGNORE_FILES, IgnoreRules};
use crate::objects::{RecipePart, WHOLE_LEN_MAX, encode_recipe};
use crate::workspace::{FileStat, join};
use crate::{Error, Result};

impl Worker<'_, '_, '_> {
    /// Reads a file until its stat data before and after agree.
    pub(super) fn read_settled(
        &mut self,
        folder: &Folder<'_>,
        name: Name,
    ) -> Result<(FileStat, Digest), Trouble> {
        let full = join(folder.path, self.name(name).to_bytes());
        let shown = self.shared.plan.root.shown(&full);
        let fail = |source| Trouble::Failed(Error::Io { action: "read", path: shown.clone(), source });
        for _ in 0..ATTEMPTS {
            let flags =
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let file = match openat(folder.fd, self.name(name), flags, Mode::empty()) {
                Ok(file) => File::from(file),
                // Gone, or a symlink, a folder or a socket now: it changed since it was listed.
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => {
                    return Err(Trouble::Changed(full));
                }
                Err(error) => return Err(self.interrupt("open", &full, error)),
            };
            let before = FileStat::of(&fstat(&file).map_err(|error| fail(error.into()))?);
            if !before.is_regular() {
                return Err(Trouble::Changed(full));
            }
            let (digest, length) = match self.read_content(&file, before.size_bytes) {
                Ok(read) => read,
                Err(ReadError::Read(error)) => return Err(fail(error)),
                Err(ReadError::Store(error)) => return Err(Trouble::Failed(error)),
            };
            let after = FileStat::of(&fstat(&file).map_err(|error| fail(error.into()))?);
            if after == before && length == before.size_bytes {
                return Ok((before, digest));
            }
        }
        Err(Trouble::Failed(Error::Unstable { path: shown, attempts: ATTEMPTS }))
    }

    /// Digest and length of what can be read.
    pub(super) fn read_content(&mut self, file: &File, size_bytes: u64) -> Result<(Digest, u64), ReadError> {
        if size_bytes > WHOLE_LEN_MAX {
            return self.read_large(file, size_bytes);
        }
        let size = usize::try_from(size_bytes).expect("it is a mebibyte at the most");
        content::read_whole(file, size, &mut self.buffer).map_err(ReadError::Read)?;
        let digest = Digest::of(&self.buffer);
        if let Some(sink) = self.shared.plan.sink
            && self.buffer.len() == size
        {
            sink.add_content(&mut self.builder, digest, &self.buffer)?;
        }
        Ok((digest, self.buffer.len() as u64))
    }

    /// Cuts a large file; its chunks are hashed and stored by all threads.
    pub(super) fn read_large(&mut self, file: &File, size_bytes: u64) -> Result<(Digest, u64), ReadError> {
        let large = Arc::new(LargeFile::default());
        let shared = self.shared;
        let (parts, length) =
            content::cut_file(file, size_bytes, shared.plan.chunking, &mut |number, bytes| {
                if shared.queue.is_closed() {
                    return Err(Error::Interrupted { action: "reading a large file" });
                }
                if large.waiting.load(Ordering::Acquire) >= CHUNKS_WAITING_MAX {
                    return self.chunk_of(bytes, number, &large);
                }
                large.waiting.fetch_add(1, Ordering::AcqRel);
                shared.queue.push([Task::Chunk { bytes: bytes.to_vec(), number, file: Arc::clone(&large) }]);
                Ok(())
            })?;
        // Whatever nobody has taken yet is done here; what others have taken will be done soon.
        while large.waiting.load(Ordering::Acquire) > 0 {
            match shared.queue.take_if(|task| matches!(task, Task::Chunk { .. })) {
                Some(Task::Chunk { bytes, number, file }) => {
                    let done = self.chunk(&bytes, number, &file);
                    shared.queue.done();
                    done?;
                }
                _ if shared.queue.is_closed() => {
                    return Err(Error::Interrupted { action: "reading a large file" }.into());
                }
                _ => std::thread::yield_now(),
            }
        }
        let chunks = std::mem::take(&mut *large.chunks.lock().unwrap_or_else(PoisonError::into_inner));
        // A chunk is missing only if the thread that had it has failed, which then is the trouble to report.
        let parts =
            content::complete(parts, chunks).ok_or(Error::Interrupted { action: "reading a large file" })?;
        let digest = match shared.plan.sink {
            Some(sink) if length == size_bytes => sink.add_recipe(&mut self.builder, &parts)?,
            _ => Digest::of(&encode_recipe(&parts)),
        };
        Ok((digest, length))
    }

    /// A chunk that was waiting.
    pub(super) fn chunk(&mut self, bytes: &[u8], number: usize, file: &LargeFile) -> Result<()> {
        let done = self.chunk_of(bytes, number, file);
        file.waiting.fetch_sub(1, Ordering::AcqRel);
        done
    }

    pub(super) fn chunk_of(&mut self, bytes: &[u8], number: usize, file: &LargeFile) -> Result<()> {
        let part = content::chunk_part(bytes);
        if let (Some(sink), RecipePart::Chunk { digest, .. }) = (self.shared.plan.sink, part) {
            sink.add_content(&mut self.builder, digest, bytes)?;
        }
        file.chunks.lock().unwrap_or_else(PoisonError::into_inner).push((number, part));
        Ok(())
    }

    /// The rules that hold in a folder.
    pub(super) fn rules_inside(
        &self,
        path: &[u8],
        fd: &OwnedFd,
        above: &IgnoreRules,
    ) -> Result<IgnoreRules, Trouble> {
        let files = if let Some(files) = self.shared.plan.rules.ignore_files(path) {
            files
        } else {
            let mut files = Vec::new();
            for wanted in IGNORE_FILES {
                let place = self
                    .order
                    .binary_search_by(|name| self.names[name.start..name.start + name.len].cmp(wanted));
                if let Ok(place) = place {
                    files.extend(self.read_ignore_file(fd, path, self.order[place])?);
                }
            }
            files
        };
        Ok(if files.is_empty() { above.clone() } else { above.inside(path, &files) })
    }

    /// The content of an ignore file; `None` if it is no regular file. A symlink is not followed, as in git.
    pub(super) fn read_ignore_file(
        &self,
        fd: &OwnedFd,
        path: &[u8],
        name: Name,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let full = join(path, self.name(name).to_bytes());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(fd, self.name(name), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(error) => return Err(self.interrupt("open", &full, error)),
        };
        let fail = |source| Error::Io { action: "read", path: self.shared.plan.root.shown(&full), source };
        if !file.metadata().map_err(fail)?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(IGNORE_FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > IGNORE_FILE_LEN_MAX {
            return Err(Trouble::Failed(Error::TooLarge {
                what: format!("ignore file {}", self.shared.plan.root.shown(&full).display()),
                actual: bytes.len() as u64,
                limit: IGNORE_FILE_LEN_MAX,
            }));
        }
        Ok(Some(bytes))
    }
}
