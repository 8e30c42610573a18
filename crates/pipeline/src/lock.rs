//! One run at a time on a workspace.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evoseal_types::Timestamp;
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How long the lock of a process that is gone may still be held. The copies of a killed process that have not yet
/// executed their program hold it until they find that it is dead, which takes milliseconds.
const LETTING_GO_MAX: Duration = Duration::from_secs(2);
/// How often to look meanwhile.
const LOOK: Duration = Duration::from_millis(5);
/// More than any holder writes.
const LEN_MAX: u64 = 4096;

/// Holds a workspace's run lock. The kernel gives it back when the process ends, however it ends; commands that the process
/// has started do not inherit it.
///
/// ```
/// use evoseal_pipeline::{Error, RunLock};
/// let state = tempfile::tempdir()?;
/// let lock = RunLock::acquire(state.path())?;
/// let Err(Error::Locked { holder }) = RunLock::acquire(state.path()) else { panic!("locked twice") };
/// assert!(holder.starts_with(&format!("process {} (", std::process::id())), "{holder}");
/// assert_eq!(RunLock::holder(state.path()).map(|holder| holder.process), Some(std::process::id()));
/// drop(lock);
/// RunLock::acquire(state.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

/// Who holds a run lock, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Its process.
    pub process: u32,
    /// When the process began, in clock ticks since the machine was started: tells it from a later one with its number.
    began_ticks: u64,
    /// The program's name.
    pub program: String,
    /// The machine.
    pub host: String,
    /// When it took the lock, by the clock of the file system.
    #[serde(skip)]
    pub since: Option<Timestamp>,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({} on {}", self.process, self.program, self.host)?;
        if let Some(since) = self.since {
            write!(f, ", since {since}")?;
        }
        f.write_str(")")
    }
}

impl RunLock {
    /// Takes the lock in `state_directory`, or says who has it.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if a process that lives has it, [`Error::Io`] if the lock cannot be taken, also because something
    /// other than a file stands in its place: a symlink is not followed.
    pub fn acquire(state_directory: &Path) -> Result<Self> {
        let path = Self::path(state_directory);
        let asked = Instant::now();
        loop {
            let mut file = open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    if !is_at(&file, &path) {
                        // It was removed or replaced between opening and locking: this lock keeps nobody away.
                        continue;
                    }
                    write_holder(&mut file).map_err(|source| Error::Io {
                        action: "write",
                        path: path.clone(),
                        source,
                    })?;
                    return Ok(Self { file });
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let holder = read_holder(&mut file);
                    let is_gone = holder.as_ref().is_none_or(|holder| !holder.lives());
                    if !is_gone || asked.elapsed() > LETTING_GO_MAX {
                        let holder = holder
                            .map_or("it does not say who it is".to_owned(), |holder| holder.to_string());
                        return Err(Error::Locked { holder });
                    }
                    std::thread::sleep(LOOK);
                }
                Err(error) => return Err(Error::Io { action: "lock", path, source: error.into() }),
            }
        }
    }

    /// The living process that says of itself that it holds the lock in `state_directory`. Nothing is locked or written, and
    /// the answer may be old when it arrives: for showing only.
    pub fn holder(state_directory: &Path) -> Option<LockHolder> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(Self::path(state_directory));
        read_holder(&mut file.ok()?).filter(LockHolder::lives)
    }

    fn path(state_directory: &Path) -> PathBuf {
        state_directory.join("run.lock")
    }
}

impl Drop for RunLock {
    /// Nobody shall be told of a holder that has let go.
    fn drop(&mut self) {
        // What cannot be written is found to be out of date by the number of the process, or by the lock itself.
        let _ = self.file.set_len(0);
    }
}

impl LockHolder {
    /// This process.
    fn own() -> Self {
        let process = std::process::id();
        let program = std::env::current_exe().ok();
        let program =
            program.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            process,
            began_ticks: began_ticks(process).unwrap_or_default(),
            program: program.unwrap_or_else(|| "unknown program".to_owned()),
            host,
            since: None,
        }
    }

    /// Whether the process lives on this machine, as far as can be seen from here.
    fn lives(&self) -> bool {
        began_ticks(self.process) == Some(self.began_ticks)
    }
}

/// When a process began, in clock ticks since the machine was started; `None` if there is none with this number.
fn began_ticks(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in brackets and may hold anything; the fields after it are numbers.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Opens or creates the lock's file. What is no file is refused without being waited for or followed.
fn open(path: &Path) -> Result<File> {
    let refuse = |source| Error::Io { action: "open", path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(refuse)?;
    if !file.metadata().map_err(refuse)?.is_file() {
        return Err(refuse(std::io::Error::other("it is not a regular file")));
    }
    Ok(file)
}

/// Whether `path` names this very file.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(named)) => id(ours) == id(named),
        _ => false,
    }
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    let line = serde_json::to_string(&LockHolder::own()).map_err(std::io::Error::other)?;
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// What the file says; `None` if it says nothing that can be understood.
fn read_holder(file: &mut File) -> Option<LockHolder> {
    let since = file.metadata().ok()?.modified().ok()?;
    let mut line = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(LEN_MAX).read_to_string(&mut line).ok()?;
    let holder: LockHolder = serde_json::from_str(&line).ok()?;
    let since = since.duration_since(std::time::UNIX_EPOCH).ok()?;
    let since = i64::try_from(since.as_secs()).ok().map(|seconds| seconds * 1_000_000_000);
    Some(LockHolder { since: since.map(Timestamp::from_unix_ns), ..holder })
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
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let program = std::env::current_exe().unwrap();
        let program = program.file_name().unwrap().to_str().unwrap();
        let expected = format!("process {} ({program} on {}, since 2", std::process::id(), host.trim());
        assert!(holder.starts_with(&expected), "{holder:?} does not begin with {expected:?}");
        drop(first);
        assert_eq!(RunLock::holder(folder.path()), None);
        RunLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn what_a_dead_owner_wrote_is_replaced_and_a_reused_number_is_not_taken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.lock");
        let other = LockHolder { began_ticks: u64::MAX, ..LockHolder::own() };
        for text in [serde_json::to_string(&other).unwrap(), "\0garbage".to_owned(), "x".repeat(9000)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(RunLock::holder(folder.path()), None);
            let lock = RunLock::acquire(folder.path()).unwrap();
            assert_eq!(RunLock::holder(folder.path()).unwrap().process, std::process::id());
            drop(lock);
        }
    }

    #[test]
    fn a_lock_that_nobody_alive_owns_is_waited_for_and_then_refused() {
        let folder = tempfile::tempdir().unwrap();
        let lock = RunLock::acquire(folder.path()).unwrap();
        let dead = LockHolder { began_ticks: u64::MAX, ..LockHolder::own() };
        std::fs::write(folder.path().join("run.lock"), serde_json::to_string(&dead).unwrap()).unwrap();
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| RunLock::acquire(folder.path()));
            std::thread::sleep(LOOK * 4);
            drop(lock);
            waiting.join().unwrap()
        });
        waiting.unwrap();
    }

    #[test]
    fn whatever_stands_in_the_place_of_the_lock_is_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.lock");
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, "precious").unwrap();
        let make: [&dyn Fn(); 3] = [
            &|| std::os::unix::fs::symlink(&elsewhere, &path).unwrap(),
            &|| std::fs::create_dir(&path).unwrap(),
            &|| {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            },
        ];
        for make in make {
            make();
            let error = RunLock::acquire(folder.path()).unwrap_err();
            assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error:?}");
            assert_eq!(RunLock::holder(folder.path()), None);
            let _ = std::fs::remove_dir(&path);
            let _ = std::fs::remove_file(&path);
        }
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
    }

    #[test]
    fn a_lock_whose_file_was_removed_does_not_keep_the_next_owner_of_the_name_away() {
        let folder = tempfile::tempdir().unwrap();
        let _first = RunLock::acquire(folder.path()).unwrap();
        std::fs::remove_file(folder.path().join("run.lock")).unwrap();
        // Two owners of two files: nothing can be done about what was removed, but the new name is locked properly.
        let _second = RunLock::acquire(folder.path()).unwrap();
        assert!(matches!(RunLock::acquire(folder.path()), Err(Error::Locked { .. })));
    }
}
