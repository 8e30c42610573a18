//! The audit log as a file of JSON lines. `FORMAT.md` describes it byte by byte.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use evoseal_types::{Clock, checked_line};
use rustix::fs::{FlockOperation, flock};

use crate::audit::{AuditEvent, AuditLog, AuditRecord, after, next_record};
use crate::audit_chain::{self, AuditDamage, AuditHead};
use crate::audit_verify::{AuditVerification, RememberedHead};
use crate::{Error, Result};

/// The longest note of where a log ends: a number, a space, a digest, a line feed.
const NOTE_LEN_MAX: u64 = 20 + 1 + 64 + 1;

/// An audit log in a file: one record per line, `<digest> <json>`, the digest being that of the JSON bytes.
///
/// Several processes may append at once: each append holds the file's lock. A last line that is not complete was never
/// acknowledged; it is dropped by the next append and passed over when reading.
///
/// Beside the log stands where it ends (`audit.head` beside `audit.jsonl`), so that records that were cut off its end are
/// noticed by every later process too. It may lag behind after a crash, and never leads.
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
    head: AuditHead,
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
        let record = next_record(checked.head, self.clock.now(), what);
        let (line, digest) = checked_line::encode(&record.encode()?.0);
        // Until the line is durable, what is known about the file is not.
        checked.stamp = None;
        if let Err(error) = self.write_line(&mut file, checked.len_bytes, &line) {
            // After a failed sync nobody knows what reached storage, and a later one would not tell. Cut off, the line is
            // written anew by the next append; where even that fails, the next append finds it whole or torn.
            let _ = file.set_len(checked.len_bytes);
            return Err(error);
        }
        checked.push(record.clone(), AuditHead { count: record.sequence, digest }, line.as_bytes());
        self.write_head(checked.head);
        checked.stamp = Some(Stamp::of(&file).map_err(self.io("look at"))?);
        Ok(record)
    }

    /// Makes a line durable where the log ends.
    fn write_line(&self, file: &mut File, len_bytes: u64, line: &str) -> Result<()> {
        file.set_len(len_bytes).map_err(self.io("shorten"))?;
        file.seek(SeekFrom::Start(len_bytes)).map_err(self.io("seek in"))?;
        file.write_all(line.as_bytes()).map_err(self.io("append to"))?;
        file.sync_data().map_err(self.io("sync"))?;
        if len_bytes == 0
            && let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty())
        {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(self.io("sync the folder of"))?;
        }
        Ok(())
    }

    /// The file beside the log that says where it ends.
    pub fn head_path(&self) -> PathBuf {
        self.path.with_extension("head")
    }

    /// Notes where the log ends, by rename and without a sync: an older note that survives a crash is as true as a new one.
    /// So is one that could not be written, and the record is durable by now, which is what the caller must hear.
    fn write_head(&self, head: AuditHead) {
        let (path, aside) = (self.head_path(), self.path.with_extension("head.tmp"));
        let _ = std::fs::write(&aside, format!("{head}\n")).and_then(|()| std::fs::rename(&aside, &path));
    }

    /// Where the log ended when it was noted last; `None` if nothing was noted, or a crash left the note without content.
    fn noted_head(&self) -> Result<Option<AuditHead>> {
        let path = self.head_path();
        let mut bytes = Vec::new();
        // A note that is longer than any is none, however long it is.
        match File::open(&path).and_then(|file| file.take(NOTE_LEN_MAX + 1).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::AuditIo { action: "read the end of", path, source }),
        }
        if bytes.len() as u64 <= NOTE_LEN_MAX && bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_suffix('\n'));
        let (count, digest) = text.and_then(|text| text.split_once(' ')).unwrap_or_default();
        if let (Ok(count), Ok(digest)) = (count.parse(), digest.parse()) {
            let head = AuditHead { count, digest };
            if Some(head.to_string().as_str()) == text {
                return Ok(Some(head));
            }
        }
        let problem = "it is not a number and a digest, with which the log ends".to_owned();
        Err(Error::AuditDamaged { path, sequence: 1, problem })
    }

    /// Checks the whole log, without keeping or trusting anything that was checked before: its chain, where it ended last,
    /// and what the caller remembers. A log that is damaged is no error here, but what the report says.
    ///
    /// # Errors
    ///
    /// [`Error::AuditIo`] if it cannot be read.
    pub async fn verify(&self, remembered: RememberedHead) -> Result<AuditVerification> {
        let log = self.clone();
        off_thread("reading the audit log", move || log.verify_blocking(remembered)).await
    }

    fn verify_blocking(&self, remembered: RememberedHead) -> Result<AuditVerification> {
        let mut bytes = Vec::new();
        let file = self.open_shared()?;
        if let Some(mut file) = file.as_ref() {
            file.read_to_end(&mut bytes).map_err(self.io("read"))?;
        }
        let noted = self.noted_head();
        // What a person remembers speaks first: it says more than a note that stands beside the log.
        let known = [Some(remembered), noted.as_ref().ok().and_then(|noted| noted.map(Into::into))];
        let mut report = AuditVerification::of(&bytes, &known.into_iter().flatten().collect::<Vec<_>>());
        match noted {
            Err(Error::AuditDamaged { path, sequence, problem }) if report.damage.is_none() => {
                let problem = format!("{}: {problem}", path.display());
                report.damage = Some(AuditDamage { record: sequence, problem });
            }
            Err(Error::AuditDamaged { .. }) | Ok(_) => {}
            Err(error) => return Err(error),
        }
        Ok(report)
    }

    /// The file, locked against writers; `None` if there is none.
    fn open_shared(&self) -> Result<Option<File>> {
        let file = match File::open(self.path.as_ref()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(self.io("open"))?,
        };
        flock(&file, FlockOperation::LockShared).map_err(|error| self.io("lock")(error.into()))?;
        Ok(Some(file))
    }

    fn records_blocking(&self, sequence: u64) -> Result<Vec<AuditRecord>> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut file) = self.open_shared()? else {
            let known = if checked.records.is_empty() { self.noted_head()? } else { Some(checked.head) };
            return match known.filter(|head| head.count > 0) {
                Some(_) => Err(self.damaged(1, "the log was removed")),
                None => Ok(Vec::new()),
            };
        };
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
        if !same {
            // Something that was checked has changed. Reading from the beginning finds the record, unless the whole was replaced.
            let damage = audit_chain::read(&bytes, AuditHead::default()).damage;
            let replaced = || AuditDamage {
                record: checked.head.count,
                problem: "the log was cut, removed or replaced while it was in use".to_owned(),
            };
            return Err(self.as_error(damage.unwrap_or_else(replaced)));
        }
        let chain = audit_chain::read(&bytes[known..], checked.head);
        if let Some(damage) = chain.damage {
            return Err(self.as_error(damage));
        }
        let end = chain.links.last().map_or(checked.head, |(_, head, _)| *head);
        let noted = self.noted_head()?.unwrap_or_default();
        if noted.count > end.count {
            let problem = format!("the log was cut: it had {} records and has {}", noted.count, end.count);
            return Err(self.damaged(end.count + 1, problem));
        }
        let ends = std::iter::once(checked.head).chain(chain.links.iter().map(|(_, head, _)| *head));
        if ends.into_iter().any(|head| head.count == noted.count && head.digest != noted.digest) {
            return Err(self.damaged(noted.count, "the log was rewritten: it ended with another record once"));
        }
        for (record, head, line) in chain.links {
            checked.push(record, head, line);
        }
        checked.stamp = Some(stamp);
        Ok(())
    }

    fn as_error(&self, damage: AuditDamage) -> Error {
        self.damaged(damage.record, damage.problem)
    }
}

impl Checked {
    /// Adds a checked record, where the log ends with it, and the bytes of its line.
    fn push(&mut self, record: AuditRecord, head: AuditHead, line: &[u8]) {
        self.records.push(record);
        self.head = head;
        self.len_bytes += line.len() as u64;
        self.hasher.update(line);
    }
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
