//! The audit log as a file of JSON lines. `FORMAT.md` describes it byte by byte.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_types::{Clock, Digest};
use rustix::fs::{FlockOperation, flock};

use crate::audit::{AuditEvent, AuditLog, AuditRecord, next_record};
use crate::{Error, Result};

/// Hexadecimal digits of a digest at the start of each line.
const DIGEST_LEN: usize = 64;

/// An audit log in a file: one record per line, `<digest> <json>`, the digest being that of the JSON bytes.
///
/// Several processes may append at once: each append holds the file's lock. A last line that is not complete was never
/// acknowledged; it is dropped by the next append and passed over when reading.
#[derive(Debug, Clone)]
pub struct FileAuditLog {
    path: Arc<PathBuf>,
    clock: Arc<dyn Clock>,
}

impl FileAuditLog {
    /// The log at `path`, which is created by the first append.
    pub fn new(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { path: Arc::new(path.into()), clock }
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

    fn append_blocking(&self, what: AuditEvent) -> Result<AuditRecord> {
        let existed = self.path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path.as_ref())
            .map_err(self.io("open"))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| self.io("lock")(error.into()))?;
        let (records, complete_len) = self.read_checked(&mut file)?;
        let record = next_record(records.last(), self.clock.now(), what)?;
        let (json, digest) = record.encode()?;
        file.set_len(complete_len).map_err(self.io("shorten"))?;
        file.seek(SeekFrom::Start(complete_len)).map_err(self.io("seek in"))?;
        file.write_all(format!("{digest} {json}\n").as_bytes()).map_err(self.io("append to"))?;
        file.sync_data().map_err(self.io("sync"))?;
        if !existed && let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(self.io("sync the folder of"))?;
        }
        Ok(record)
    }

    fn records_blocking(&self) -> Result<Vec<AuditRecord>> {
        let mut file = match File::open(self.path.as_ref()) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.io("open")(error)),
        };
        flock(&file, FlockOperation::LockShared).map_err(|error| self.io("lock")(error.into()))?;
        self.read_checked(&mut file).map(|(records, _)| records)
    }

    /// All complete records, and where the last of them ends.
    fn read_checked(&self, file: &mut File) -> Result<(Vec<AuditRecord>, u64)> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(self.io("read"))?;
        let complete_len = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut records: Vec<AuditRecord> = Vec::new();
        let mut previous = Digest::of(b"");
        for (number, line) in (1_u64..).zip(bytes[..complete_len].split_inclusive(|byte| *byte == b'\n')) {
            let damaged = |problem: String| Error::AuditDamaged {
                path: self.path.as_ref().clone(),
                sequence: number,
                problem,
            };
            let (record, digest) = parse_line(&line[..line.len() - 1]).map_err(damaged)?;
            if record.sequence != number {
                return Err(damaged(format!("its number is {}", record.sequence)));
            }
            if record.previous != previous {
                return Err(damaged("it does not follow the record before it".to_owned()));
            }
            previous = digest;
            records.push(record);
        }
        Ok((records, complete_len as u64))
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
        off_thread("reading the audit log", move || log.records_blocking()).await
    }
}

/// Runs blocking work off the asynchronous threads.
pub(crate) async fn off_thread<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Interrupted { action })?
}
