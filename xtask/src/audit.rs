//! A second checker of the audit log, which shares no code with the first: it is written from `crates/safety/FORMAT.md`, and
//! knows BLAKE3 and JSON alone. It looks at the chain, not at what the events mean.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

/// What to check.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The log: `.evoseal/audit.jsonl`.
    pub(crate) file: PathBuf,
    /// The digest of the last record as it was once; it must still be the digest of a record.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) head: Option<String>,
    /// How many records there were once; with `--head`, the last of them has that digest.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

/// A log in which nothing is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) records: u64,
    pub(crate) head: String,
    /// Bytes of an append that was never acknowledged.
    pub(crate) tail_bytes: usize,
}

/// The first record that is wrong or gone, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) record: u64,
    pub(crate) problem: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}: {}", self.record, self.problem)
    }
}

/// Reads the log and the head beside it, and checks them.
pub(crate) fn run(options: &Options) -> Result<String, String> {
    let named = |path: &PathBuf, error| format!("cannot read {}: {error}", path.display());
    let log = std::fs::read(&options.file).map_err(|error| named(&options.file, error))?;
    let head_file = options.file.with_extension("head");
    let note = match std::fs::read(&head_file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|error| named(&head_file, error))?,
    };
    let whole = check(&log, options.count, options.head.as_deref(), &note)
        .map_err(|broken| format!("{}: {broken}", options.file.display()))?;
    let tail = match whole.tail_bytes {
        0 => String::new(),
        bytes => format!("; {bytes} bytes of an append that was cut off"),
    };
    Ok(format!("{} records, head {}{tail}\n", whole.records, whole.head))
}

/// Checks the bytes of a log: its chain, then a head that somebody kept, then the note beside it (empty if there is none).
pub(crate) fn check(
    log: &[u8],
    count: Option<u64>,
    head: Option<&str>,
    note: &[u8],
) -> Result<Whole, Broken> {
    let mut lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').collect();
    // What follows the last line feed was never acknowledged; neither was a last line with blocks of zeros.
    let mut tail_bytes = lines.pop().map_or(0, <[u8]>::len);
    if let Some(torn) = lines.pop_if(|line| line.contains(&0) && body_of(line).is_err()) {
        tail_bytes += torn.len() + 1;
    }
    let mut digests = vec![hex(b"")];
    for (place, line) in (1..).zip(lines) {
        let broken = |problem: String| Broken { record: place, problem };
        let body = body_of(line).map_err(broken)?;
        let record: Value = serde_json::from_slice(body).map_err(|error| broken(error.to_string()))?;
        if record["sequence"].as_u64() != Some(place) {
            return Err(broken(format!("its number is {}", record["sequence"])));
        }
        if record["previous"].as_str() != digests.last().map(String::as_str) {
            return Err(broken("it does not name the record before it".to_owned()));
        }
        if record["what"]["event"].as_str().is_none() || record["timestamp"].as_str().is_none() {
            return Err(broken("it does not say what happened when".to_owned()));
        }
        digests.push(hex(body));
    }
    remembered(&digests, count, head)?;
    if note.iter().any(|byte| *byte != 0) {
        let text = std::str::from_utf8(note).ok().and_then(|text| text.strip_suffix('\n')?.split_once(' '));
        let unreadable =
            || Broken { record: 1, problem: "the note of the log's end cannot be read".to_owned() };
        let (count, digest) = text.ok_or_else(unreadable)?;
        let number: u64 = count.parse().map_err(|_| unreadable())?;
        let is_hex = digest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if number.to_string() != count || digest.len() != 64 || !is_hex {
            return Err(unreadable());
        }
        remembered(&digests, Some(number), Some(digest))?;
    }
    let records = digests.len() as u64 - 1;
    Ok(Whole { records, head: digests.pop().expect("it began with one"), tail_bytes })
}

/// What follows the digest on a line, if the digest is that of it.
fn body_of(line: &[u8]) -> Result<&[u8], String> {
    let (digest, rest) = line.split_at_checked(64).ok_or("it is shorter than a digest")?;
    let body = rest.strip_prefix(b" ").ok_or("no space follows its digest")?;
    if digest == hex(body).as_bytes() {
        Ok(body)
    } else {
        Err("its digest is not that of its text".to_owned())
    }
}

/// Whether a head that was kept is still in the log. `digests[n]` is that of record `n`.
fn remembered(digests: &[String], count: Option<u64>, head: Option<&str>) -> Result<(), Broken> {
    let records = digests.len() as u64 - 1;
    if let Some(count) = count.filter(|count| *count > records) {
        return Err(Broken { record: records + 1, problem: format!("there were {count} records") });
    }
    let Some(head) = head.filter(|head| *head != digests[0]) else { return Ok(()) };
    let place = digests.iter().position(|digest| digest == head).map(|place| place as u64);
    match (count, place) {
        (Some(count), place) if place != Some(count) => {
            Err(Broken { record: count.max(1), problem: format!("its digest was {head}") })
        }
        (None, None) => {
            Err(Broken { record: records + 1, problem: format!("no record has the digest {head}") })
        }
        _ => Ok(()),
    }
}

fn hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
