//! The journal as a file of checked JSON lines. `FORMAT.md` describes it byte by byte.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use evoseal_types::Digest;

use crate::journal::JournalEntry;
use crate::{Error, Result};

/// Hexadecimal digits of a digest at the start of each line.
const DIGEST_LEN: usize = 64;

/// Where journal entries go. One process at a time writes, under the workspace's run lock.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens or creates the journal at `path` and reads what is in it. An incomplete last line was never relied on and
    /// is cut off.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] with the line number if a complete line does not match its digest.
    pub fn open(path: &Path) -> Result<(Self, Vec<JournalEntry>)> {
        let io = |action| move |source| Error::Io { action, path: path.to_owned(), source };
        let existed = path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io("open"))?;
        if !existed && let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync the folder of"))?;
        }
        let (entries, complete_len) = read_lines(path, &mut file)?;
        file.set_len(complete_len).map_err(io("shorten"))?;
        file.seek(SeekFrom::Start(complete_len)).map_err(io("seek in"))?;
        Ok((Self { path: path.to_owned(), file }, entries))
    }

    /// Reads the journal at `path` without opening it for writing; empty if there is none.
    pub fn read(path: &Path) -> Result<Vec<JournalEntry>> {
        match File::open(path) {
            Ok(mut file) => read_lines(path, &mut file).map(|(entries, _)| entries),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(Error::Io { action: "open", path: path.to_owned(), source }),
        }
    }

    /// Adds an entry; it is durable when this returns.
    pub fn append(&mut self, entry: &JournalEntry) -> Result<()> {
        let json = serde_json::to_string(entry).map_err(|error| Error::Invalid {
            what: "journal entry".to_owned(),
            reason: error.to_string(),
        })?;
        let line = format!("{} {json}\n", Digest::of(json.as_bytes()));
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Io { action: "append to", path: self.path.clone(), source })
    }
}

/// All complete lines, and where the last of them ends.
fn read_lines(path: &Path, file: &mut File) -> Result<(Vec<JournalEntry>, u64)> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|source| Error::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let complete_len = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut entries = Vec::new();
    for (number, line) in (1_u64..).zip(bytes[..complete_len].split_inclusive(|byte| *byte == b'\n')) {
        let entry = parse_line(&line[..line.len() - 1]).map_err(|problem| Error::Damaged {
            path: path.to_owned(),
            problem: format!("line {number}: {problem}"),
        })?;
        entries.push(entry);
    }
    Ok((entries, complete_len as u64))
}

/// One line without its end.
fn parse_line(line: &[u8]) -> std::result::Result<JournalEntry, String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    let (digest, json) = text.split_at_checked(DIGEST_LEN).ok_or("it is too short")?;
    let json = json.strip_prefix(' ').ok_or("there is no space after the digest")?;
    if Digest::of(json.as_bytes()).to_string() != digest {
        return Err("its digest does not match".to_owned());
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}
