//! Two checkers that share no code look at logs that were changed in every way.

use std::fs;
use std::sync::OnceLock;

use evoseal_safety::{AuditDamage, AuditVerification, RememberedHead};
use serde_json::Value;

use crate::{chained, evolved, independent, log_path};

/// A log, and what stands beside it.
#[derive(Debug, Clone)]
struct Log {
    bytes: Vec<u8>,
    note: Vec<u8>,
}

impl Log {
    /// That of a real run, made once.
    fn real() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let project = evolved();
            let path = log_path(&project);
            Self { bytes: fs::read(&path).unwrap(), note: fs::read(path.with_extension("head")).unwrap() }
        })
    }

    fn lines(&self) -> Vec<&[u8]> {
        self.bytes.split_inclusive(|byte| *byte == b'\n').collect()
    }

    fn head(&self) -> RememberedHead {
        let report = AuditVerification::of(&self.bytes, &[]);
        RememberedHead { count: Some(report.head.count), digest: Some(report.head.digest) }
    }
}

/// What evoseal says about a log: how many records are whole, or the first that is not.
fn ours(bytes: &[u8], known: RememberedHead, note: &[u8]) -> Result<u64, u64> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    fs::write(&path, bytes).unwrap();
    if !note.is_empty() {
        fs::write(path.with_extension("head"), note).unwrap();
    }
    let log =
        evoseal_safety::FileAuditLog::new(&path, std::sync::Arc::new(evoseal_types::ManualClock::default()));
    let report = evoseal_safety_runtime().block_on(log.verify(known)).unwrap();
    match report.damage {
        None => Ok(report.head.count),
        Some(AuditDamage { record, .. }) => Err(record),
    }
}

fn evoseal_safety_runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap())
}

/// The same by the other checker.
pub(crate) fn theirs(bytes: &[u8], known: RememberedHead, note: &[u8]) -> Result<u64, u64> {
    let head = known.digest.map(|digest| digest.to_string());
    let checked = independent::check(bytes, known.count, head.as_deref(), note);
    checked.map(|whole| whole.records).map_err(|broken| broken.record)
}

/// Lets both checkers look at a changed log in every way, and says whether it was found out: by the log alone, by a head
/// that was kept elsewhere, and by the note beside it.
fn found_out(changed: &[u8], context: &str) -> [bool; 3] {
    let real = Log::real();
    let RememberedHead { count, digest } = real.head();
    let nothing = RememberedHead::default();
    let digest_alone = RememberedHead { count: None, digest };
    let count_alone = RememberedHead { count, digest: None };
    let both = |known, note: &[u8]| {
        let (ours, theirs) = (ours(changed, known, note), theirs(changed, known, note));
        assert_eq!(ours, theirs, "{context}: the checkers disagree, knowing {known:?}");
        ours.is_err()
    };
    both(count_alone, b"");
    let by_head = both(digest_alone, b"");
    assert_eq!(both(real.head(), b""), by_head, "{context}: the count adds nothing to the digest");
    [both(nothing, b""), by_head, both(nothing, &real.note)]
}

#[test]
fn both_checkers_find_nothing_in_the_log_of_a_real_run() {
    let real = Log::real();
    let lines = real.lines();
    assert!(lines.len() > 25, "{} records", lines.len());
    assert_eq!(found_out(&real.bytes, "unchanged"), [false; 3]);
    let kinds =
        ["proposed", "checkpoint_created", "observed", "decided", "accepted", "rolled_back", "baseline_set"];
    let text = String::from_utf8(real.bytes.clone()).unwrap();
    for kind in kinds {
        assert!(text.contains(&format!("\"event\":\"{kind}\"")), "there is no {kind} in the log");
    }
}

#[test]
fn the_other_checker_reads_the_log_and_what_stands_beside_it() {
    let real = Log::real();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let run = |head: Option<String>| {
        independent::run(&independent::Options { file: file.clone(), head, count: None })
    };
    assert!(run(None).unwrap_err().contains("cannot read"));
    fs::write(&file, &real.bytes).unwrap();
    let RememberedHead { count, digest } = real.head();
    let (count, head) = (count.unwrap(), digest.unwrap().to_string());
    assert_eq!(run(Some(head.clone())), Ok(format!("{count} records, head {head}\n")));
    assert!(
        run(Some("ab".repeat(32))).unwrap_err().contains(&format!("record {}: no record has", count + 1))
    );
    fs::write(file.with_extension("head"), format!("{} {head}\n", count + 1)).unwrap();
    assert!(run(None).unwrap_err().contains(&format!("record {}: there were", count + 1)));
    fs::remove_file(file.with_extension("head")).unwrap();
    fs::write(&file, [&real.bytes[..], b"cut off"].concat()).unwrap();
    assert!(run(None).unwrap().ends_with("; 7 bytes of an append that was cut off\n"));
}

#[test]
fn every_record_that_is_dropped_swapped_or_repeated_is_found_by_both() {
    let real = Log::real();
    let lines = real.lines();
    for place in 0..lines.len() {
        let mut dropped = lines.clone();
        dropped.remove(place);
        let by_itself = place + 1 < lines.len();
        let found = found_out(&dropped.concat(), &format!("record {} dropped", place + 1));
        assert_eq!(found, [by_itself, true, true], "record {} dropped", place + 1);

        let mut repeated = lines.clone();
        repeated.insert(place, lines[place]);
        let found = found_out(&repeated.concat(), &format!("record {} repeated", place + 1));
        assert_eq!(found, [true; 3], "record {} repeated", place + 1);

        if by_itself {
            let mut swapped = lines.clone();
            swapped.swap(place, place + 1);
            let found = found_out(&swapped.concat(), &format!("record {} swapped", place + 1));
            assert_eq!(found, [true; 3], "record {} swapped", place + 1);
        }
    }
}

#[test]
fn a_log_that_is_cut_at_a_record_or_inside_one_is_found_by_what_stands_elsewhere() {
    let real = Log::real();
    let mut start = 0;
    for line in real.lines() {
        for cut in [start, start + 1, start + line.len() / 2, start + line.len() - 1] {
            let context = format!("cut at byte {cut}");
            assert_eq!(found_out(&real.bytes[..cut], &context), [false, true, true], "{context}");
        }
        start += line.len();
    }
}

#[test]
fn every_flipped_bit_is_found_by_both() {
    let real = Log::real();
    let last = real.bytes.len() - real.lines().last().unwrap().len();
    // A step that shares no factor with eight, so that every bit of a byte has its turn.
    for (bit, position) in (0..real.bytes.len()).step_by(61).enumerate() {
        let mut flipped = real.bytes.clone();
        flipped[position] ^= 1 << (bit % 8);
        let context = format!("bit {} of byte {position}", bit % 8);
        let [by_itself, by_head, by_note] = found_out(&flipped, &context);
        assert!(by_head && by_note, "{context}");
        // The end of the last line, or a zero in it, makes it an append that was cut off.
        assert!(by_itself || position >= last, "{context}");
    }
    // Every bit of the last record: what is no damage is a cut, and found by the note.
    for position in last..real.bytes.len() {
        let mut flipped = real.bytes.clone();
        flipped[position] ^= 0x20;
        let [_, by_head, by_note] = found_out(&flipped, &format!("byte {position}"));
        assert!(by_head && by_note, "byte {position}");
    }
}

#[test]
fn a_log_that_is_forged_as_a_whole_is_found_by_what_stands_elsewhere_alone() {
    let real = Log::real();
    for place in 0..real.lines().len() {
        let records = real.lines().into_iter().enumerate().map(|(index, line)| {
            let mut record: Value = serde_json::from_slice(&line[65..]).unwrap();
            if index == place {
                record["timestamp"] = Value::from("2001-02-03T04:05:06Z");
            }
            record
        });
        let forged = chained(records);
        let context = format!("forged from record {} on", place + 1);
        assert_eq!(found_out(&forged, &context), [false, true, true], "{context}");
    }
}

#[test]
fn a_record_that_was_written_anew_is_found_by_the_one_that_follows_it() {
    let real = Log::real();
    let lines = real.lines();
    for place in 0..lines.len() {
        let mut record: Value = serde_json::from_slice(&lines[place][65..]).unwrap();
        record["timestamp"] = Value::from("2001-02-03T04:05:06Z");
        let json = record.to_string();
        let rewritten = format!("{} {json}\n", blake3::hash(json.as_bytes()).to_hex());
        let mut lines = lines.clone();
        lines[place] = rewritten.as_bytes();
        let (bytes, context) = (lines.concat(), format!("record {} written anew", place + 1));
        let has_next = place + 1 < lines.len();
        assert_eq!(found_out(&bytes, &context), [has_next, true, true], "{context}");
        if has_next {
            let nothing = RememberedHead::default();
            assert_eq!(ours(&bytes, nothing, b""), Err(place as u64 + 2), "{context}");
        }
    }
}

#[test]
fn both_read_the_note_alike() {
    let real = Log::real();
    let nothing = RememberedHead::default();
    for position in 0..=real.note.len() {
        let mut flipped = real.note[..position].to_vec();
        assert_eq!(
            ours(&real.bytes, nothing, &flipped),
            theirs(&real.bytes, nothing, &flipped),
            "the note cut at {position}"
        );
        flipped = real.note.clone();
        if let Some(byte) = flipped.get_mut(position) {
            *byte ^= 1 << (position % 8);
            let found = ours(&real.bytes, nothing, &flipped);
            assert_eq!(found, theirs(&real.bytes, nothing, &flipped), "byte {position} of the note flipped");
            assert!(found.is_err(), "byte {position} of the note flipped");
        }
    }
}
