//! The audit log as a file of JSON lines. `FORMAT.md` describes it byte by byte.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use evoseal_types::{Clock, Digest};
use rustix::fs::{FlockOperation, flock};

use crate::audit::{AuditEvent, AuditLog, AuditRecord, after, next_record};
use crate::{Error, Result};

/// Hexadecimal digits of a digest at the start of each line.
const DIGEST_LEN: usize = 64;

/// An audit log in a file: one record per line, `<digest> <json>`, the digest being that of the JSON bytes.
///
/// Several processes may append at once: each append holds the file's lock. A last line that is not complete was never
/// acknowledged; it is dropped by the next append and passed over when reading.
///
/// The first use reads and checks the whole file. From then on the log keeps what it has checked. As long as the file's
/// identity, size and times are as this log left them, nothing is read again; when they differ, the checked bytes are
/// hashed again and only what follows them is parsed. A file that no longer begins with the checked bytes is
/// [`Error::AuditDamaged`], also when it is a good log by itself. Clones share what is known.
#[derive(Debug, Clone)]
pub struct FileAuditLog {
    path: Arc<PathBuf>,
    clock: Arc<dyn Clock>,
    checked: Arc<Mutex<Checked>>,
}

/// What is known about the file: its complete lines, all of them checked.
#[derive(Debug, Default)]
struct Checked {
    records: Vec<AuditRecord>,
    /// Digest of the last line's JSON; of no bytes if there is none.
    last: Option<Digest>,
    /// Where the last complete line ends.
    len_bytes: u64,
    /// Over the bytes of all complete lines.
    hasher: blake3::Hasher,
    /// How the file looked when this was learnt; `None` if it has to be looked at again.
    stamp: Option<Stamp>,
}

/// Device, inode, size, time of the last change of content and of status: what cannot stay the same when a file is
/// changed or replaced, but for two changes within one tick of the file system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([i64; 2], [u64; 3], [i64; 2]);

impl Stamp {
    fn of(file: &File) -> std::io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self(
            [found.mtime(), found.ctime()],
            [found.dev(), found.ino(), found.size()],
            [found.mtime_nsec(), found.ctime_nsec()],
        ))
    }
}

impl FileAuditLog {
    /// The log at `path`, which is created by the first append.
    pub fn new(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { path: Arc::new(path.into()), clock, checked: Arc::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says what was tried when the operating system refused.
    fn io(&self, action: &'static str) -> impl Fn(std::io::Error) -> Error {
        let path = self.path.as_ref().clone();
        move |source| Error::AuditIo { action, path: path.clone(), source }
    }

    fn damaged(&self, sequence: u64, problem: impl Into<String>) -> Error {
        Error::AuditDamaged { path: self.path.as_ref().clone(), sequence, problem: problem.into() }
    }

    fn append_blocking(&self, what: AuditEvent) -> Result<AuditRecord> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path.as_ref())
            .map_err(self.io("open"))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| self.io("lock")(error.into()))?;
        self.catch_up(&mut file, &mut checked)?;
        let record = next_record(checked.records.len() as u64, checked.last, self.clock.now(), what);
        let (json, digest) = record.encode()?;
        let line = format!("{digest} {json}\n");
        // Until the line is durable, what is known about the file is not.
        checked.stamp = None;
        file.set_len(checked.len_bytes).map_err(self.io("shorten"))?;
        file.seek(SeekFrom::Start(checked.len_bytes)).map_err(self.io("seek in"))?;
        file.write_all(line.as_bytes()).map_err(self.io("append to"))?;
        file.sync_data().map_err(self.io("sync"))?;
        if checked.records.is_empty()
            && let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty())
        {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(self.io("sync the folder of"))?;
        }
        checked.push(record.clone(), digest, line.as_bytes());
        checked.stamp = Some(Stamp::of(&file).map_err(self.io("look at"))?);
        Ok(record)
    }

    fn records_blocking(&self, sequence: u64) -> Result<Vec<AuditRecord>> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match File::open(self.path.as_ref()) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && checked.records.is_empty() => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(self.io("open")(error)),
        };
        flock(&file, FlockOperation::LockShared).map_err(|error| self.io("lock")(error.into()))?;
        self.catch_up(&mut file, &mut checked)?;
        Ok(after(&checked.records, sequence).to_vec())
    }

    /// Learns what has become of the file since it was last looked at. An error leaves what was known as it was.
    fn catch_up(&self, file: &mut File, checked: &mut Checked) -> Result<()> {
        let stamp = Stamp::of(file).map_err(self.io("look at"))?;
        if checked.stamp == Some(stamp) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(self.io("seek in"))?;
        file.read_to_end(&mut bytes).map_err(self.io("read"))?;
        let known = usize::try_from(checked.len_bytes).unwrap_or(usize::MAX);
        let same = bytes.get(..known).is_some_and(|prefix| blake3::hash(prefix) == checked.hasher.finalize());
        if same {
            for (record, digest, line) in
                self.read_lines(&bytes[known..], checked.records.len(), checked.last)?
            {
                checked.push(record, digest, line);
            }
            checked.stamp = Some(stamp);
            return Ok(());
        }
        // Something that was checked has changed. Reading from the beginning finds the record, unless the whole was replaced.
        self.read_lines(&bytes, 0, None)?;
        Err(self.damaged(
            checked.records.len() as u64,
            "the log was cut, removed or replaced while it was in use",
        ))
    }

    /// Checks complete lines that follow `known` others, of which the last has the digest `last`.
    fn read_lines<'a>(
        &self,
        bytes: &'a [u8],
        known: usize,
        last: Option<Digest>,
    ) -> Result<Vec<(AuditRecord, Digest, &'a [u8])>> {
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut previous = last.unwrap_or_else(|| Digest::of(b""));
        let mut read = Vec::new();
        let lines = bytes[..complete].split_inclusive(|byte| *byte == b'\n');
        for (number, line) in (known as u64 + 1..).zip(lines) {
            let (record, digest) =
                parse_line(&line[..line.len() - 1]).map_err(|problem| self.damaged(number, problem))?;
            if record.sequence != number {
                return Err(self.damaged(number, format!("its number is {}", record.sequence)));
            }
            if record.previous != previous {
                return Err(self.damaged(number, "it does not follow the record before it"));
            }
            previous = digest;
            read.push((record, digest, line));
        }
        Ok(read)
    }
}

impl Checked {
    /// Adds a checked record and the bytes of its line.
    fn push(&mut self, record: AuditRecord, digest: Digest, line: &[u8]) {
        self.records.push(record);
        self.last = Some(digest);
        self.len_bytes += line.len() as u64;
        self.hasher.update(line);
    }
}

/// One line without its end, checked against its own digest.
fn parse_line(line: &[u8]) -> std::result::Result<(AuditRecord, Digest), String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    let (digest, json) = text.split_at_checked(DIGEST_LEN).ok_or("it is too short")?;
    let json = json.strip_prefix(' ').ok_or("there is no space after the digest")?;
    let digest: Digest = digest.parse().map_err(|error: evoseal_types::Error| error.to_string())?;
    if Digest::of(json.as_bytes()) != digest || digest.to_string() != text[..DIGEST_LEN] {
        return Err("its digest does not match".to_owned());
    }
    serde_json::from_str(json).map(|record| (record, digest)).map_err(|error| error.to_string())
}

#[async_trait]
impl AuditLog for FileAuditLog {
    async fn append(&self, what: AuditEvent) -> Result<AuditRecord> {
        let log = self.clone();
        off_thread("writing the audit log", move || log.append_blocking(what)).await
    }

    async fn records(&self) -> Result<Vec<AuditRecord>> {
        let log = self.clone();
        off_thread("reading the audit log", move || log.records_blocking(0)).await
    }

    async fn records_after(&self, sequence: u64) -> Result<Vec<AuditRecord>> {
        let log = self.clone();
        off_thread("reading the audit log", move || log.records_blocking(sequence)).await
    }
}

/// Runs blocking work off the asynchronous threads.
pub(crate) async fn off_thread<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Interrupted { action })?
}
