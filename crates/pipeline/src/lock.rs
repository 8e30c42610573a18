//! One run at a time on a workspace.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::{Error, Result};

/// Holds a workspace's run lock. The kernel gives it back when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock in `state_directory`, or says who has it.
    pub fn acquire(state_directory: &Path) -> Result<Self> {
        let path = state_directory.join("run.lock");
        let io = |action| move |source: std::io::Error| (action, source);
        let fail = |(action, source)| Error::Io { action, path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io("open"))
            .map_err(fail)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = file.take(200).read_to_string(&mut holder);
                return Err(Error::Locked { holder: holder.trim().to_owned() });
            }
            Err(error) => return Err(fail(("lock", error.into()))),
        }
        let text = format!("process {}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(text.as_bytes()))
            .map_err(io("write"))
            .map_err(fail)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_told_who_has_the_workspace() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunLock::acquire(folder.path()).unwrap();
        let Err(Error::Locked { holder }) = RunLock::acquire(folder.path()) else {
            panic!("it was locked twice")
        };
        assert_eq!(holder, format!("process {}", std::process::id()));
        drop(first);
        RunLock::acquire(folder.path()).unwrap();
    }
}
