//! What a harness that was killed has left running, and how the next one finds it.
//!
//! The descent of a command dies with its harness: *init* sees the end of the control pipe and kills everything, and where
//! there is a PID name space the kernel does so as well. Two questions remain for whoever starts next. *Is it over?* The
//! descent needs a few milliseconds, in which it can still write into the workspace. And *is that all?* Without a PID name
//! space a candidate that kills its keeper can get away.
//!
//! A [`Tether`] answers both. It is a file in the harness's folder, locked by the harness and by the *init* of each of its
//! commands: as long as the lock is taken, something is not over. And it holds a random mark that each command finds in its
//! environment, where it can be seen from outside: a process with that mark is ours, whatever its number was used for before,
//! and a process without it, or below one that has it, is never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::rand::{GetRandomFlags, getrandom};

use super::plan::Temporary;
use crate::{Error, Result};

/// The variable that bears the mark in the environment of every command.
pub const MARK_VARIABLE: &str = "EVOSEAL_MARK";
/// How often to look whether it is over.
const LOOK: Duration = Duration::from_millis(5);
/// How long the orderly end may take before the marked processes are killed one by one.
const ORDERLY_MAX: Duration = Duration::from_millis(500);
/// Bytes of a mark.
const MARK_LEN: usize = 16;
/// What is shown of a command line.
const COMMAND_CHARS_MAX: usize = 120;

/// Ties the commands of one harness to its folder, so that the next harness there finds what this one leaves if it is killed.
///
/// One harness at a time may hold it: take it under a lock of your own, such as a run lock.
///
/// ```
/// # async fn example() -> evoseal_sandbox::Result<()> {
/// use std::time::Duration;
///
/// use evoseal_sandbox::{CommandSpec, LinuxSandbox, Sandbox, Tether};
///
/// let folder = tempfile::tempdir().expect("a folder");
/// let (tether, ended) = Tether::take(folder.path(), "/tmp", Duration::from_secs(10))?;
/// assert_eq!(ended, [], "nobody was here before");
/// let sandbox = LinuxSandbox::detect().tethered(tether);
/// let mut command = CommandSpec::new("/bin/sh", "/");
/// command.args = vec!["-c".into(), "echo ${#EVOSEAL_MARK}".into()];
/// assert_eq!(sandbox.run(&command).await?.stdout.text(), "32\n");
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Tether {
    file: Arc<File>,
    mark: String,
    temporary_root: PathBuf,
}

/// A process that a killed harness has left.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Leftover {
    /// Its number.
    pub process: u32,
    /// Its command line, cut to a readable length.
    pub command: String,
}

impl Tether {
    /// Waits until the commands of the harness that held the tether in `folder` before are dead, ends those that have got
    /// away from their keepers, removes their private temporary folders below `temporary_root`, where those of this harness
    /// will lie too, and takes it. Gives the processes that had to be ended.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file `commands.lock` in `folder` cannot be used, or if after `patience` something still lives;
    /// the latter names one of the processes.
    pub fn take(
        folder: &Path,
        temporary_root: impl Into<PathBuf>,
        patience: Duration,
    ) -> Result<(Self, Vec<Leftover>)> {
        let temporary_root = temporary_root.into();
        let path = path_in(folder);
        let io = |action| {
            let path = path.clone();
            move |source| Error::Io { action, path, source }
        };
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(flags)
            .open(&path)
            .map_err(io("open"))?;
        let old = read_mark(&mut file);
        let ended = settle(&file, old.as_deref(), patience).map_err(io("take over"))?;
        if let Some(old) = &old {
            Temporary::remove_all(&temporary_root, &prefix(old));
        }
        let mark = new_mark().map_err(io("make a mark for"))?;
        // Nothing here needs to survive a power cut: no process does.
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(mark.as_bytes()))
            .map_err(io("write"))?;
        Ok((Self { file: Arc::new(file), mark, temporary_root }, ended))
    }

    /// The processes that bear the mark of whoever holds or held the tether in `folder`, and their descendants: while a
    /// harness works they are its commands, otherwise a killed one has left them. Changes nothing.
    pub fn leftovers(folder: &Path) -> Vec<Leftover> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path_in(folder));
        let mark = file.ok().and_then(|mut file| read_mark(&mut file));
        mark.map_or(Vec::new(), |mark| marked(&mark))
    }

    /// What each command finds in its environment.
    pub(super) fn variable(&self) -> (&'static str, &str) {
        (MARK_VARIABLE, &self.mark)
    }

    /// Where the private temporary folders of commands lie.
    pub(super) fn temporary_root(&self) -> &Path {
        &self.temporary_root
    }

    /// How the names of private temporary folders begin.
    pub(super) fn temporary_prefix(&self) -> String {
        prefix(&self.mark)
    }

    /// A descriptor that holds the lock for as long as it is open, whoever has it.
    pub(super) fn hold(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }
}

fn prefix(mark: &str) -> String {
    format!("{}{mark}-", Temporary::PREFIX)
}

fn path_in(folder: &Path) -> PathBuf {
    folder.join("commands.lock")
}

/// Takes the lock once nothing of the old mark lives.
fn settle(file: &File, old: Option<&str>, patience: Duration) -> io::Result<Vec<Leftover>> {
    let started = Instant::now();
    let mut ended = BTreeSet::new();
    loop {
        let is_free = match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(rustix::io::Errno::WOULDBLOCK) => false,
            Err(error) => return Err(error.into()),
        };
        let left = old.map_or(Vec::new(), marked);
        if is_free && left.is_empty() {
            return Ok(ended.into_iter().collect());
        }
        if started.elapsed() > patience {
            let who = left.first().map_or("a keeper of commands".to_owned(), |left| {
                format!("process {} ({})", left.process, left.command)
            });
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{who} of a killed run does not end"),
            ));
        }
        // Whose keeper is gone is not ended by anybody else.
        if let Some(mark) = old
            && (is_free || started.elapsed() > ORDERLY_MAX)
        {
            for process in left {
                if end(&process, mark) {
                    ended.insert(process);
                }
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// Kills one process, unless its number has come to stand for another that is not ours. True if a signal was sent.
fn end(process: &Leftover, mark: &str) -> bool {
    let Some(pid) = i32::try_from(process.process).ok().and_then(Pid::from_raw) else { return false };
    // From here on the descriptor means one process, and what is looked up now is about it, or about one that came after
    // it; to the latter nothing is sent through the descriptor.
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    marked(mark).contains(process) && pidfd_send_signal(handle, Signal::KILL).is_ok()
}

/// Every process with this mark in its environment, and everything below one, except this process and those above it.
fn marked(mark: &str) -> Vec<Leftover> {
    let processes: BTreeMap<u32, u32> = processes().collect();
    let word = format!("{MARK_VARIABLE}={mark}");
    let bears = |process: &u32| {
        std::fs::read(format!("/proc/{process}/environ")).is_ok_and(|environment| {
            environment.split(|byte| *byte == 0).any(|entry| entry == word.as_bytes())
        })
    };
    let own = above(std::process::id(), &processes);
    let bearers: BTreeSet<u32> =
        processes.keys().copied().filter(|process| !own.contains(process) && bears(process)).collect();
    if bearers.is_empty() {
        return Vec::new();
    }
    let is_below = |process: &u32| above(*process, &processes).iter().any(|one| bearers.contains(one));
    let found = processes.keys().filter(|process| !own.contains(process) && is_below(process));
    found.filter_map(|process| Some(Leftover { process: *process, command: command_of(*process)? })).collect()
}

/// A process and all above it.
fn above(process: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut line = vec![process];
    while let Some(parent) = line.last().and_then(|process| parents.get(process))
        // The list is not of one instant: a number that was used again could close a circle.
        && !line.contains(parent)
    {
        line.push(*parent);
    }
    line
}

/// Every process and its parent.
fn processes() -> impl Iterator<Item = (u32, u32)> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    names.filter_map(|name| {
        let process = name.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        // What has ended and was not waited for does nothing any more.
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        (state != "Z" && state != "X").then_some((process, parent))
    })
}

/// The command line of a process; `None` if it is gone.
fn command_of(process: u32) -> Option<String> {
    let words = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&words).replace('\0', " ");
    let text: String =
        text.trim().chars().filter(|char| !char.is_control()).take(COMMAND_CHARS_MAX).collect();
    Some(text)
}

fn read_mark(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(MARK_LEN as u64 * 2 + 1).read_to_string(&mut text).ok()?;
    let is_whole = text.len() == MARK_LEN * 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_whole.then_some(text)
}

fn new_mark() -> io::Result<String> {
    let mut bytes = [0_u8; MARK_LEN];
    if getrandom(&mut bytes, GetRandomFlags::empty())? != MARK_LEN {
        return Err(io::Error::other("the kernel gave too little randomness"));
    }
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tether_is_taken_over_with_a_new_mark_and_held_by_every_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (first, ended) = Tether::take(folder.path(), folder.path(), Duration::ZERO).unwrap();
        assert_eq!(ended, []);
        let copy = first.hold().unwrap();
        let mark = first.mark.clone();
        drop(first);
        let error = Tether::take(folder.path(), folder.path(), Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("commands.lock"), "{error}");
        drop(copy);
        let (second, _) = Tether::take(folder.path(), folder.path(), Duration::from_millis(20)).unwrap();
        assert_ne!(second.mark, mark);
    }

    #[test]
    fn garbage_in_the_file_is_no_mark() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "zz", "\0\0\0", &"g".repeat(32), &"a".repeat(33), &"a".repeat(1 << 16)] {
            std::fs::write(path_in(folder.path()), text).unwrap();
            assert_eq!(Tether::leftovers(folder.path()), []);
            Tether::take(folder.path(), folder.path(), Duration::ZERO).unwrap();
        }
    }

    #[test]
    fn a_process_and_those_above_it_are_found_whatever_the_list_says() {
        let parents = BTreeMap::from([(5, 4), (4, 1), (1, 0), (8, 9), (9, 8)]);
        assert_eq!(above(5, &parents), [5, 4, 1, 0]);
        assert_eq!(above(8, &parents), [8, 9]);
        assert_eq!(above(7, &parents), [7]);
        assert!(processes().any(|(process, _)| process == std::process::id()));
    }
}
