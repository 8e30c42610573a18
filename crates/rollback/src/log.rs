//! An append-only file of checksummed lines; `FORMAT.md` describes its bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use evoseal_types::checked_line::{self, is_torn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::{Files, failed};
use crate::{Error, Result};

/// One append-only file. Opened anew for each operation and locked for its length, so that any number of logs, in any
/// number of processes, can stand for the same file.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    path: PathBuf,
    /// What the file is, as its first line says: `evoseal-rollback-history`.
    magic: &'static str,
    files: Files,
}

/// Where a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogEnd {
    /// Bytes up to the end of the last whole line.
    pub(crate) len_bytes: u64,
    /// The last line's number; 0 if there is none.
    pub(crate) sequence: u64,
}

/// The version of the format that is written and read.
const VERSION: &str = "1";

impl Log {
    pub(crate) fn new(path: PathBuf, magic: &'static str, files: Files) -> Self {
        Self { path, magic, files }
    }

    /// Adds the value that `make` gives for the next sequence number, and returns it once it is durable.
    pub(crate) fn append<T: Serialize>(&self, make: impl FnOnce(u64) -> T) -> Result<T> {
        let path = &self.path;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = self.files.step("open", path, || options.open(path))?;
        self.files.step("lock", path, || file.lock())?;
        let end = self.find_end(&mut file)?;
        let value = make(end.sequence + 1);
        let mut bytes = Vec::new();
        if end.len_bytes == 0 {
            bytes.extend_from_slice(format!("{} {VERSION}\n", self.magic).as_bytes());
        }
        bytes.extend_from_slice(line(end.sequence + 1, &value).as_bytes());
        if let Err(error) = self.write_at(&mut file, end.len_bytes, &bytes) {
            // A failed sync leaves it open what reached storage. Cutting the line off makes the next append write
            // it anew; where even that fails, the next append finds a whole line or cuts a torn one off.
            let _ = self.files.step("truncate", path, || file.set_len(end.len_bytes));
            return Err(error);
        }
        Ok(value)
    }

    fn write_at(&self, file: &mut File, start: u64, bytes: &[u8]) -> Result<()> {
        let path = &self.path;
        if file.metadata().map_err(failed("read", path))?.len() > start {
            self.files.step("truncate", path, || file.set_len(start))?;
        }
        file.seek(SeekFrom::Start(start)).map_err(failed("seek", path))?;
        self.files.step("append", path, || file.write_all(bytes))?;
        self.files.step("sync", path, || file.sync_all())?;
        if start == 0 { self.files.sync_folder_of(path) } else { Ok(()) }
    }

    /// Where the next line would go.
    pub(crate) fn end(&self) -> Result<LogEnd> {
        match self.open_shared()? {
            Some(mut file) => self.find_end(&mut file),
            None => Ok(LogEnd { len_bytes: 0, sequence: 0 }),
        }
    }

    /// Hands every value from byte `from` on to `each`, oldest first, until it breaks.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] with the line's number for every line that is not as it was written, except for a last one
    /// that was never completely written: that one was never acknowledged and counts as absent.
    pub(crate) fn scan<T: DeserializeOwned>(
        &self,
        from: u64,
        mut each: impl FnMut(T) -> ControlFlow<()>,
    ) -> Result<()> {
        let Some(mut file) = self.open_shared()? else { return Ok(()) };
        let len = file.metadata().map_err(failed("read", &self.path))?.len();
        // A file shorter than the place where it once ended is another file: all of it counts.
        let start = if from > len { 0 } else { from };
        file.seek(SeekFrom::Start(start)).map_err(failed("seek", &self.path))?;
        let mut reader = BufReader::new(file);
        let (mut number, mut previous, mut bytes) = (0_u64, None, Vec::new());
        loop {
            bytes.clear();
            reader.read_until(b'\n', &mut bytes).map_err(failed("read", &self.path))?;
            number += 1;
            let Some(text) = bytes.strip_suffix(b"\n") else { return Ok(()) };
            if start == 0 && number == 1 {
                self.check_header(text)?;
                continue;
            }
            let parsed = match parse(text) {
                Err(_) if is_torn(text) && at_end(&mut reader).map_err(failed("read", &self.path))? => {
                    return Ok(());
                }
                parsed => parsed,
            };
            let (sequence, json) = parsed.map_err(|problem| self.damaged(start, number, &problem))?;
            let expected = previous.map_or(if start == 0 { 1 } else { sequence }, |last: u64| last + 1);
            if sequence != expected {
                let problem = format!("it is record {sequence} where record {expected} belongs");
                return Err(self.damaged(start, number, &problem));
            }
            previous = Some(sequence);
            let value = serde_json::from_str(json)
                .map_err(|error| self.damaged(start, number, &format!("it cannot be read: {error}")))?;
            if each(value).is_break() {
                return Ok(());
            }
        }
    }

    /// The file, locked against writers; `None` if there is none.
    fn open_shared(&self) -> Result<Option<File>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed("open", &self.path))?,
        };
        file.lock_shared().map_err(failed("lock", &self.path))?;
        Ok(Some(file))
    }

    /// The end of the last whole line and its number, read from the back: the cost does not grow with the file.
    fn find_end(&self, file: &mut File) -> Result<LogEnd> {
        let mut len = file.metadata().map_err(failed("read", &self.path))?.len();
        loop {
            let Some((start, text, end)) = last_line(file, len).map_err(failed("read", &self.path))? else {
                return Ok(LogEnd { len_bytes: 0, sequence: 0 });
            };
            if start == 0 {
                self.check_header(&text)?;
                return Ok(LogEnd { len_bytes: end, sequence: 0 });
            }
            match parse(&text) {
                Ok((sequence, _)) => {
                    self.check_first_line(file)?;
                    return Ok(LogEnd { len_bytes: end, sequence });
                }
                Err(_) if is_torn(&text) => len = start,
                Err(problem) => return Err(self.damage(format!("in its last line, {problem}"))),
            }
        }
    }

    /// A writer must not add to a file that it does not understand.
    fn check_first_line(&self, file: &mut File) -> Result<()> {
        file.rewind().map_err(failed("seek", &self.path))?;
        let mut text = Vec::new();
        let mut reader = BufReader::new(file.take(200));
        reader.read_until(b'\n', &mut text).map_err(failed("read", &self.path))?;
        self.check_header(text.strip_suffix(b"\n").unwrap_or(&text))
    }

    fn check_header(&self, text: &[u8]) -> Result<()> {
        let expected = format!("{} {VERSION}", self.magic);
        if text == expected.as_bytes() {
            return Ok(());
        }
        let found = String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
        Err(self.damage(format!("line 1 should be {expected:?} and is {found:?}")))
    }

    fn damaged(&self, start: u64, number: u64, problem: &str) -> Error {
        let place = if start == 0 { String::new() } else { format!(" after byte {start}") };
        self.damage(format!("in line {number}{place}, {problem}"))
    }

    fn damage(&self, problem: String) -> Error {
        Error::Damaged { path: self.path.clone(), problem }
    }
}

/// A line: checksum, sequence number, JSON. The checksum covers what follows it.
fn line(sequence: u64, value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("records hold no maps with keys that are not text");
    checked_line::encode(&format!("{sequence} {json}")).0
}

/// The sequence number and the JSON of a line without its end, or what is wrong with it.
fn parse(text: &[u8]) -> Result<(u64, &str), String> {
    let (_, body) = checked_line::decode(text).map_err(|problem| problem.to_string())?;
    let (sequence, json) = body.split_once(' ').ok_or("there is no number")?;
    let sequence = sequence.parse().map_err(|_| "there is no number".to_owned())?;
    Ok((sequence, json))
}

fn at_end(reader: &mut impl BufRead) -> io::Result<bool> {
    Ok(reader.fill_buf()?.is_empty())
}

/// The last whole line before byte `len`: where it starts, its text, and where the next one would start.
fn last_line(file: &mut File, len: u64) -> io::Result<Option<(u64, Vec<u8>, u64)>> {
    let mut window = 16 * 1024;
    loop {
        let start = len.saturating_sub(window);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(len - start).read_to_end(&mut bytes)?;
        if let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') {
            let before = bytes[..end].iter().rposition(|byte| *byte == b'\n');
            if before.is_some() || start == 0 {
                let begin = before.map_or(0, |position| position + 1);
                let offset = |position: usize| start + position as u64;
                return Ok(Some((offset(begin), bytes[begin..end].to_vec(), offset(end + 1))));
            }
        } else if start == 0 {
            return Ok(None);
        }
        window *= 2;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn log(folder: &Path) -> Log {
        Log::new(folder.join("log"), "test-log", Files::default())
    }

    fn all(log: &Log) -> Result<Vec<String>> {
        let mut values = Vec::new();
        log.scan(0, |value: String| {
            values.push(value);
            ControlFlow::Continue(())
        })?;
        Ok(values)
    }

    #[test]
    fn what_was_appended_is_read_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        assert_eq!(all(&log).unwrap(), Vec::<String>::new());
        // The second line is longer than the window in which the end is looked for.
        for text in ["one".to_owned(), "x".repeat(100_000), "three\n".to_owned()] {
            log.append(|_| text).unwrap();
        }
        assert_eq!(log.end().unwrap().sequence, 3);
        let values = all(&log).unwrap();
        assert_eq!((values[0].as_str(), values[1].len(), values[2].as_str()), ("one", 100_000, "three\n"));
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        log.append(|_| "one").unwrap();
        let checksum = evoseal_types::Digest::of(b"1 \"one\"");
        let expected = format!("test-log 1\n{checksum} 1 \"one\"\n");
        assert_eq!(std::fs::read_to_string(&log.path).unwrap(), expected);
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_overwritten_wherever_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        log.append(|_| "one").unwrap();
        let whole = log.end().unwrap().len_bytes;
        log.append(|_| "two").unwrap();
        let bytes = std::fs::read(&log.path).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&log.path, &bytes[..cut]).unwrap();
            let kept = if (cut as u64) < whole { vec![] } else { vec!["one".to_owned()] };
            assert_eq!(all(&log).unwrap(), kept, "cut at {cut}");
            log.append(|_| "again").unwrap();
            let expected: Vec<String> = kept.into_iter().chain(["again".to_owned()]).collect();
            assert_eq!(all(&log).unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_last_line_with_blocks_of_zeros_counts_as_torn() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        log.append(|_| "one").unwrap();
        let start = usize::try_from(log.end().unwrap().len_bytes).unwrap();
        log.append(|_| "two").unwrap();
        let mut bytes = std::fs::read(&log.path).unwrap();
        bytes[start..start + 70].fill(0);
        std::fs::write(&log.path, &bytes).unwrap();
        assert_eq!(all(&log).unwrap(), ["one"]);
        assert_eq!(log.append(|sequence| format!("{sequence}")).unwrap(), "2");
        assert_eq!(all(&log).unwrap(), ["one", "2"]);
    }

    #[test]
    fn every_flipped_bit_is_damage_and_is_named_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        for text in ["one", "two"] {
            log.append(|_| text).unwrap();
        }
        let bytes = std::fs::read(&log.path).unwrap();
        // The last byte is the end of the last line: without it the line is torn.
        for position in 0..bytes.len() - 1 {
            let mut bad = bytes.clone();
            bad[position] ^= 0x04;
            std::fs::write(&log.path, &bad).unwrap();
            let line = bytes[..position].split(|byte| *byte == b'\n').count();
            let message = all(&log).unwrap_err().to_string();
            assert!(message.contains(&format!("line {line}")), "byte {position}: {message}");
        }
    }

    #[test]
    fn a_removed_line_and_a_newer_format_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        for text in ["one", "two", "three"] {
            log.append(|_| text).unwrap();
        }
        let text = std::fs::read_to_string(&log.path).unwrap();
        let kept: Vec<&str> =
            text.split_inclusive('\n').enumerate().filter(|(n, _)| *n != 2).map(|(_, l)| l).collect();
        std::fs::write(&log.path, kept.concat()).unwrap();
        let message = all(&log).unwrap_err().to_string();
        assert!(message.contains("line 3, it is record 3 where record 2 belongs"), "{message}");

        std::fs::write(&log.path, text.replacen("log 1", "log 2", 1)).unwrap();
        assert!(all(&log).unwrap_err().to_string().contains("test-log 2"));
        assert!(log.append(|_| "four").unwrap_err().to_string().contains("test-log 2"));
    }

    #[test]
    fn logs_that_append_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let append = |name: &'static str| {
            let log = log(folder.path());
            move || (0..50).for_each(|count| assert!(log.append(|_| format!("{name}{count}")).is_ok()))
        };
        std::thread::scope(|scope| {
            for name in ["a", "b", "c"] {
                scope.spawn(append(name));
            }
        });
        let mut values = all(&log(folder.path())).unwrap();
        values.sort();
        values.dedup();
        assert_eq!(values.len(), 150);
    }
}
