//! The journal as a file of checked JSON lines. `FORMAT.md` describes it byte by byte.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use evoseal_types::checked_line;

use crate::journal::JournalEntry;
use crate::{Error, Result};

/// Where journal entries go. One process at a time writes, under the workspace's run lock.
///
/// ```
/// use evoseal_pipeline::{Journal, JournalEntry, RunState};
/// use evoseal_types::Timestamp;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("journal.jsonl");
/// let (mut journal, before) = Journal::open(&path)?;
/// assert_eq!(before, []);
/// let entry = JournalEntry::RunStarted { at: Timestamp::default(), iterations: 3, seed: 7, unprotected: Vec::new() };
/// journal.append(&entry)?;
/// assert_eq!(RunState::replay(&Journal::read(&path)?).run_target, Some((3, 0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Where the last complete line ends.
    len_bytes: u64,
}

impl Journal {
    /// Opens or creates the journal at `path` and reads what is in it. An incomplete last line was never relied on and
    /// is cut off.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] with the line number if a complete line does not match its digest or is of a kind that this
    /// program does not know. The file is left as it was.
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
        let (entries, len_bytes) = read_lines(path, &mut file)?;
        file.set_len(len_bytes).map_err(io("shorten"))?;
        Ok((Self { path: path.to_owned(), file, len_bytes }, entries))
    }

    /// Reads the journal at `path` without opening it for writing; empty if there is none.
    pub fn read(path: &Path) -> Result<Vec<JournalEntry>> {
        match File::open(path) {
            Ok(mut file) => read_lines(path, &mut file).map(|(entries, _)| entries),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(Error::Io { action: "open", path: path.to_owned(), source }),
        }
    }

    /// The last entry of the journal at `path`, without a look at those before it; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if it cannot be read, without the number of its line.
    pub fn last(path: &Path) -> Result<Option<JournalEntry>> {
        let io = |source| Error::Io { action: "read", path: path.to_owned(), source };
        let mut file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io)?,
        };
        let len = file.metadata().map_err(io)?.len();
        let mut window = 64 * 1024;
        loop {
            let start = len.saturating_sub(window);
            file.seek(SeekFrom::Start(start)).map_err(io)?;
            let mut bytes = Vec::new();
            (&file).take(len - start).read_to_end(&mut bytes).map_err(io)?;
            // What the window begins with is the end of a line, unless it is the beginning of the file.
            let skipped = if start == 0 { Some(0) } else { bytes.iter().position(|byte| *byte == b'\n') };
            let lines = skipped.map(|skipped| &bytes[skipped + usize::from(start > 0)..]);
            let last = lines.and_then(|lines| checked_line::whole_lines(lines).0.last());
            match last.map(parse_line) {
                Some(entry) => {
                    let damaged = |problem| Error::Damaged {
                        path: path.to_owned(),
                        problem: format!("its last line: {problem}"),
                    };
                    return entry.map(Some).map_err(damaged);
                }
                None if start == 0 => return Ok(None),
                None => window *= 2,
            }
        }
    }

    /// Adds an entry; it is durable when this returns.
    ///
    /// # Errors
    ///
    /// After an error the entry is not in the journal as far as this process can bring that about, and the next one takes
    /// its place. [`Error::Invalid`] for an entry that could not be read back: it would make the journal unreadable.
    /// [`Error::Damaged`] if the file was removed, replaced or changed behind our back.
    pub fn append(&mut self, entry: &JournalEntry) -> Result<()> {
        let invalid = |reason: String| Error::Invalid { what: "journal entry".to_owned(), reason };
        let json = serde_json::to_string(entry).map_err(|error| invalid(error.to_string()))?;
        serde_json::from_str::<JournalEntry>(&json)
            .map_err(|error| invalid(format!("it cannot be read back: {error}")))?;
        self.check_identity()?;
        let (line, _) = checked_line::encode(&json);
        let written = self
            .file
            .seek(SeekFrom::Start(self.len_bytes))
            .and_then(|_| self.file.write_all(line.as_bytes()))
            .and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // A part of a line must not stand before the next one. If this fails too, the next append finds another length.
            let _ = self.file.set_len(self.len_bytes);
            return Err(Error::Io { action: "append to", path: self.path.clone(), source });
        }
        self.len_bytes += line.len() as u64;
        Ok(())
    }

    /// Whether the path still names the file that we write to, as long as we left it: what proposes and what is evaluated
    /// may be able to reach it.
    fn check_identity(&self) -> Result<()> {
        let io = |source| Error::Io { action: "look at", path: self.path.clone(), source };
        let ours = self.file.metadata().map_err(io)?;
        let named = std::fs::metadata(&self.path).ok();
        let same = named.is_some_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino()));
        let problem = if !same {
            "it was removed or replaced while it was in use"
        } else if ours.len() != self.len_bytes {
            "someone else wrote to it while it was in use"
        } else {
            return Ok(());
        };
        Err(Error::Damaged { path: self.path.clone(), problem: problem.to_owned() })
    }
}

/// All whole lines, and where the last of them ends.
fn read_lines(path: &Path, file: &mut File) -> Result<(Vec<JournalEntry>, u64)> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|source| Error::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let (lines, whole_len) = checked_line::whole_lines(&bytes);
    let mut entries = Vec::new();
    for (number, line) in (1_u64..).zip(lines) {
        let entry = parse_line(line).map_err(|problem| Error::Damaged {
            path: path.to_owned(),
            problem: format!("line {number}: {problem}"),
        })?;
        entries.push(entry);
    }
    Ok((entries, whole_len as u64))
}

/// One line without its end.
fn parse_line(line: &[u8]) -> std::result::Result<JournalEntry, String> {
    let (_, json) = checked_line::decode(line).map_err(|problem| problem.to_string())?;
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use evoseal_types::{Digest, Timestamp};

    use super::*;

    #[test]
    fn the_last_entry_is_found_from_the_end_wherever_the_file_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        assert_eq!(Journal::last(&path).unwrap(), None);
        let entry =
            |change: &str| JournalEntry::Proposed { iteration: 1, change: change.to_owned(), failed: false };
        // The second line is longer than what is read at first.
        let entries = [entry("one"), entry(&"x".repeat(200_000)), entry("three")];
        let (mut journal, _) = Journal::open(&path).unwrap();
        for entry in &entries {
            journal.append(entry).unwrap();
            assert_eq!(Journal::last(&path).unwrap().as_ref(), Some(entry));
        }
        let bytes = std::fs::read(&path).unwrap();
        for cut in (0..bytes.len()).step_by(4001).chain([bytes.len() - 1]) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert_eq!(Journal::last(&path).unwrap(), Journal::read(&path).unwrap().pop(), "cut at {cut}");
        }
        let mut bad = bytes;
        let place = bad.len() - 3;
        bad[place] ^= 1;
        std::fs::write(&path, bad).unwrap();
        assert!(Journal::last(&path).unwrap_err().to_string().contains("its last line"));
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page_and_a_torn_end_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let entry = |iterations| JournalEntry::RunStarted {
            at: Timestamp::default(),
            iterations,
            seed: 7,
            unprotected: Vec::new(),
        };
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&entry(3)).unwrap();
        let json = r#"{"phase":"run_started","at":"1970-01-01T00:00:00Z","iterations":3,"seed":7}"#;
        let first = format!("{} {json}\n", Digest::of(json.as_bytes()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        journal.append(&entry(4)).unwrap();
        drop(journal);
        // Some blocks of the second line never reached storage.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[first.len() + 10..first.len() + 90].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), [entry(3)]);
        assert_eq!(Journal::open(&path).unwrap().1, [entry(3)]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        // In the middle that is damage.
        bytes[10] = 0;
        std::fs::write(&path, &bytes).unwrap();
        assert!(Journal::open(&path).is_err());
    }
}
