//! The audit log of a real run, checked twice by code that shares nothing; and its decisions, made again.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use evoseal_safety::{AuditDamage, AuditVerification, RememberedHead};
use evoseal_tests::Project;
use serde_json::Value;

#[path = "../xtask/src/audit.rs"]
mod independent;

/// Accepted, rolled back for a failing test, rejected for its cost, accepted, failed.
const AGENT: &str = "case $EVOSEAL_ITERATION in
    1) echo 90 > cost.txt;; 2) echo 'echo 41' > program.sh;; 3) echo 112 > cost.txt;; 4) echo 80 > cost.txt;; *) exit 1;;
esac";

fn evolved() -> Project {
    let project = Project::new(AGENT);
    project.evoseal(&["run", "-n", "5"]).run();
    project.evoseal(&["rollback", "v1", "--reason", "I liked it better"]).run().expect(0);
    project.evoseal(&["baseline", "set", "release", "v1"]).run().expect(0);
    project
}

fn log_path(project: &Project) -> PathBuf {
    project.path(".evoseal/audit.jsonl")
}

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
fn theirs(bytes: &[u8], known: RememberedHead, note: &[u8]) -> Result<u64, u64> {
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

#[test]
fn the_program_says_what_is_wrong_with_a_log_and_ends_with_the_code_for_damage() {
    let project = evolved();
    let path = log_path(&project);
    let whole = fs::read(&path).unwrap();
    let verified = project.evoseal(&["audit", "verify", "--json"]).run().expect(0).json();
    assert_eq!((&verified["ok"], &verified["damage"]), (&Value::from(true), &Value::Null), "{verified}");
    assert_eq!((&verified["problems"], &verified["notes"]), (&Value::from([0; 0]), &Value::from([0; 0])));
    let head = project.evoseal(&["audit", "head"]).run().expect(0).stdout.trim().to_owned();
    assert_eq!(verified["head"]["digest"], head.as_str());
    let count = verified["head"]["count"].as_u64().unwrap();
    project.evoseal(&["audit", "verify", "--head", &head, "--count", &count.to_string()]).run().expect(0);
    // The log may grow: the head of once is still in it.
    project.evoseal(&["baseline", "set", "other", "v1"]).run().expect(0);
    project.evoseal(&["audit", "verify", "--head", &head, "--count", &count.to_string()]).run().expect(0);
    let more = (count + 2).to_string();
    let cut = project.evoseal(&["audit", "verify", "--count", &more]).run().expect(4).stdout;
    assert!(cut.contains("the log was cut"), "{cut}");
    let other = "ab".repeat(32);
    project.evoseal(&["audit", "verify", "--head", &other]).run().expect(4);
    project.evoseal(&["audit", "verify", "--head", "ab"]).run().expect(2);

    // Cut, without a head from elsewhere: by the note, and without the note by what the journal speaks of.
    let grown = fs::read(&path).unwrap();
    let records = grown.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>();
    fs::write(&path, records[..10].concat()).unwrap();
    let found = project.evoseal(&["audit", "verify"]).run().expect(4).stdout;
    assert!(found.contains("damaged at record 11: the log was cut"), "{found}");
    project.evoseal(&["audit", "list"]).run().expect(4).says(&["damaged at record 11", "audit verify"]);
    project.evoseal(&["run", "-n", "1"]).run().expect(4).says(&["damaged"]);
    fs::remove_file(path.with_extension("head")).unwrap();
    let found = project.evoseal(&["audit", "verify"]).run().expect(4).stdout;
    for gone in ["the decision on v2", "the acceptance of v4", "a rollback to checkpoint"] {
        assert!(found.contains(gone), "no {gone:?} in:\n{found}");
    }

    let mut changed = whole.clone();
    changed[200] ^= 1;
    fs::write(&path, changed).unwrap();
    let found = project.evoseal(&["audit", "verify"]).run().expect(4).stdout;
    assert!(found.contains("damaged at record 1: its digest does not match"), "{found}");
    fs::write(&path, "garbage\n").unwrap();
    project.evoseal(&["audit", "verify"]).run().expect(4);
    project.evoseal(&["audit", "head"]).run().expect(4);
    project.evoseal(&["rejudge"]).run().expect(4);
    fs::write(&path, &whole).unwrap();
    project.evoseal(&["audit", "verify"]).run().expect(0);
}

#[test]
fn the_list_has_one_line_for_each_record_and_json_for_scripts() {
    let project = evolved();
    let listed = project.evoseal(&["audit", "list"]).run().expect(0).stdout;
    for text in [
        "proposed    v1",
        "decided     v2: roll back (tests failed)",
        "accepted    v4",
        "baseline    release is v1",
    ] {
        assert!(listed.contains(text), "no {text:?} in:\n{listed}");
    }
    assert!(listed.contains(": I liked it better"), "{listed}");
    let records: Vec<Value> = project
        .evoseal(&["audit", "list", "--json"])
        .run()
        .expect(0)
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), listed.lines().count());
    let newest = project.evoseal(&["audit", "list", "-n", "2"]).run().expect(0).stdout;
    assert_eq!(newest.lines().collect::<Vec<_>>(), listed.lines().collect::<Vec<_>>()[records.len() - 2..]);
    // Automatic rollbacks and the one by hand, each once.
    let rolled_back: Vec<&Value> =
        records.iter().filter(|record| record["what"]["event"] == "rolled_back").collect();
    let numbers: Vec<u64> =
        rolled_back.iter().map(|record| record["what"]["rollback"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(rolled_back.last().unwrap()["what"]["initiator"]["person"].is_string());
}

#[test]
fn processes_that_append_at_once_lose_nothing() {
    let project = evolved();
    let before = project.evoseal(&["audit", "list"]).run().expect(0).stdout.lines().count();
    let names: Vec<String> = (0..8).map(|number| format!("name-{number}")).collect();
    let running: Vec<_> =
        names.iter().map(|name| project.evoseal(&["baseline", "set", name, "v1"]).start()).collect();
    for process in running {
        process.finish().expect(0);
    }
    let listed = project.evoseal(&["audit", "list"]).run().expect(0).stdout;
    assert_eq!(listed.lines().count(), before + names.len());
    assert!(names.iter().all(|name| listed.contains(&format!("{name} is v1"))), "{listed}");
    project.evoseal(&["audit", "verify"]).run().expect(0);
    let log = fs::read(log_path(&project)).unwrap();
    let note = fs::read(log_path(&project).with_extension("head")).unwrap();
    assert_eq!(theirs(&log, RememberedHead::default(), &note), Ok((before + names.len()) as u64));
}

#[test]
fn a_run_whose_log_shrinks_under_it_ends_with_the_code_for_damage() {
    let project = Project::new(
        "case $EVOSEAL_ITERATION in
            1) echo 90 > cost.txt;;
            *) touch go.marker; until [ -e cut.marker ]; do sleep 0.05; done; echo 80 > cost.txt;;
        esac",
    );
    let mut running = project.evoseal(&["run", "-n", "2"]).start();
    running.wait_for_file(&project.path("go.marker"));
    let path = log_path(&project);
    let log = fs::read(&path).unwrap();
    let first = log.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(first as u64).unwrap();
    project.write("cut.marker", "");
    running.finish().expect(4).says(&["damaged at record", "was cut"]);
    assert_eq!(fs::read(&path).unwrap(), log[..first], "the run went on with a log that lost records");
    project.evoseal(&["run", "-n", "1"]).run().expect(4).says(&["damaged at record 2"]);
    // Put back as it was, it is as good as ever, and the run goes on.
    fs::write(&path, &log).unwrap();
    project.evoseal(&["audit", "verify"]).run().expect(0);
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "80\n");
    project.evoseal(&["audit", "verify"]).run().expect(0);
}

#[test]
fn a_rollback_by_hand_is_done_and_told_also_where_the_log_is_damaged() {
    let project = evolved();
    fs::write(log_path(&project), "garbage\n").unwrap();
    project.write("cost.txt", "1000\n");
    let finished = project.evoseal(&["rollback", "v4"]).run().expect(4);
    assert!(finished.stdout.contains("the workspace is at v4"), "{finished:?}");
    finished.says(&["damaged at record 1", "evoseal audit verify"]);
    assert_eq!(project.read("cost.txt"), "80\n");
}

/// The log with some records left out and all others chained anew.
fn chained(records: impl Iterator<Item = Value>) -> Vec<u8> {
    let mut previous = blake3::hash(b"").to_hex().to_string();
    let mut log = Vec::new();
    for (sequence, mut record) in (1_u64..).zip(records) {
        (record["previous"], record["sequence"]) = (Value::from(previous), Value::from(sequence));
        let json = record.to_string();
        previous = blake3::hash(json.as_bytes()).to_hex().to_string();
        log.extend_from_slice(format!("{previous} {json}\n").as_bytes());
    }
    log
}

#[test]
fn a_rollback_or_evidence_that_no_record_names_is_a_note_at_the_end_and_a_problem_before_it() {
    let project = evolved();
    let path = log_path(&project);
    let log = fs::read(&path).unwrap();
    let records = || {
        let lines = log.split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| serde_json::from_slice::<Value>(&line[65..]).unwrap())
    };
    let is_rollback = |record: &Value, number: u64| record["what"]["rollback"] == number;
    let newest = records().filter_map(|record| record["what"]["rollback"].as_u64()).max().unwrap();
    fs::remove_file(path.with_extension("head")).unwrap();

    // The process was killed between the rollback by hand and its record, and another before it named its evidence.
    fs::write(&path, chained(records().filter(|record| !is_rollback(record, newest)))).unwrap();
    let kept = project.path(".evoseal/evidence");
    let any = fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    let unnamed = kept.join(format!("{}.evidence", "ab".repeat(32)));
    fs::copy(any, &unnamed).unwrap();
    let found = project.evoseal(&["audit", "verify"]).run().expect(0).stdout;
    for note in
        [format!("note: rollback {newest} has no record yet"), "note: 1 evidence that no record".to_owned()]
    {
        assert!(found.contains(&note), "no {note:?} in:\n{found}");
    }
    // The next one adds both.
    project.evoseal(&["rollback", "v1"]).run().expect(0);
    let found = project.evoseal(&["audit", "verify", "--json"]).run().expect(0).json();
    assert_eq!(found["notes"].as_array().map(Vec::len), Some(1), "{found}");

    // Taken out of the middle, and everything after it chained anew.
    fs::remove_file(path.with_extension("head")).unwrap();
    fs::write(&path, chained(records().filter(|record| !is_rollback(record, 1)))).unwrap();
    let found = project.evoseal(&["audit", "verify"]).run().expect(4).stdout;
    assert!(found.contains("problem: rollback 1 is in the history"), "{found}");
}

#[test]
fn what_a_person_decides_and_the_rollback_that_it_takes_stand_in_the_log() {
    let project = evolved();
    let path = log_path(&project);
    let before = fs::read(&path).unwrap();
    project.evoseal(&["approve", "3", "--reason", "twelve percent are fine"]).run().expect(0);
    let verified = project.evoseal(&["audit", "verify", "--json"]).run().expect(0).json();
    assert_eq!(verified["notes"].as_array().map(Vec::len), Some(0), "{verified}");
    let log = fs::read(&path).unwrap();
    let added: Vec<Value> = log[before.len()..]
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice::<Value>(&line[65..]).unwrap()["what"].clone())
        .collect();
    let count = |kind: &str| added.iter().filter(|what| what["event"] == kind).count();
    assert_eq!([count("overridden"), count("accepted"), count("rolled_back")], [1; 3], "{added:?}");

    let records = log
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice::<Value>(&line[65..]).unwrap())
        .filter(|record| record["what"]["event"] != "overridden");
    fs::remove_file(path.with_extension("head")).unwrap();
    fs::write(&path, chained(records)).unwrap();
    let found = project.evoseal(&["audit", "verify"]).run().expect(4).stdout;
    assert!(found.contains("the journal speaks of what a person decided about v3"), "{found}");
}

#[test]
fn an_agent_that_writes_to_the_log_is_kept_out_of_it_or_found_out() {
    let project = Project::new(
        "echo 90 > cost.txt; cat .evoseal/audit.jsonl > seen.marker
        echo '{}' >> .evoseal/audit.jsonl; echo '0 ab' > .evoseal/audit.head; rm -rf .evoseal/evidence; true",
    );
    let run = project.evoseal(&["run", "-n", "1"]).run();
    let kept_out = project.read("seen.marker").is_empty();
    assert_eq!(run.code, Some(if kept_out { 0 } else { 4 }), "{run:?}");
    project.evoseal(&["audit", "verify"]).run().expect(if kept_out { 0 } else { 4 });
}

#[test]
fn before_the_first_run_the_log_is_empty_and_whole() {
    let project = Project::new("true");
    let verified = project.evoseal(&["audit", "verify", "--json"]).run().expect(0).json();
    assert_eq!((&verified["ok"], &verified["head"]["count"]), (&Value::from(true), &Value::from(0)));
    assert_eq!(project.evoseal(&["audit", "list"]).run().expect(0).stdout, "");
    assert!(project.evoseal(&["rejudge"]).run().expect(0).stdout.contains("0 decisions"));
    assert!(!project.path(".evoseal").exists(), "looking made something");
}

#[test]
fn decisions_come_out_the_same_again_and_other_thresholds_show_what_would_flip() {
    let project = evolved();
    let same = project.evoseal(&["rejudge", "--json"]).run().expect(0).json();
    assert_eq!((&same["decisions"], &same["changed"]), (&Value::from(6), &Value::from(0)), "{same}");
    assert_eq!(same["detector_asked"], true);
    let text = project.evoseal(&["rejudge"]).run().expect(0).stdout;
    assert_eq!(text, "6 decisions: 6 the same\n");

    // The policy alone: what was judged then is decided on. The regression of v3 is high.
    let lenient =
        ["rejudge", "--set", "safety.reject_severity=critical", "--set", "safety.minimum_safety_score=0.5"];
    let report = project.evoseal(&[&lenient[..], &["--json"]].concat()).run().expect(1).json();
    assert_eq!(
        (&report["flips"], &report["detector_asked"]),
        (&Value::from(1), &Value::from(false)),
        "{report}"
    );
    let flipped = report["rows"].as_array().unwrap().iter().find(|row| row["flips"] == true).unwrap();
    assert_eq!(
        [&flipped["version_id"], &flipped["before"]["outcome"], &flipped["after"]["outcome"]],
        ["v3", "reject", "accept"]
    );
    let text = project.evoseal(&lenient).run().expect(1).stdout;
    assert!(text.contains("v3") && text.contains("regression") && text.contains("1 would flip"), "{text}");

    // The detector: it judges the measurements of then again.
    let set = ["rejudge", "--set", "safety.regression.regression_threshold=0.5", "--json"];
    let report = project.evoseal(&set).run().expect(1).json();
    assert_eq!(
        (&report["flips"], &report["detector_asked"]),
        (&Value::from(1), &Value::from(true)),
        "{report}"
    );
    let set = ["rejudge", "--set", "metrics.thresholds.cost={ threshold = 0.5, direction = \"increase\" }"];
    project.evoseal(&set).run().expect(1);

    // A change of the file is found without being told, also where every outcome stays.
    project.add_settings("[safety.regression]\nregression_threshold = 0.11\n");
    let report = project.evoseal(&["rejudge", "--json"]).run().expect(1).json();
    assert_eq!(report["flips"], 0, "{report}");
    assert_ne!(report["changed"], 0, "{report}");
    project.configure("regression_threshold = 0.11", "regression_threshold = 0.5");
    let text = project.evoseal(&["rejudge"]).run().expect(1).stdout;
    assert!(text.contains("1 would flip"), "{text}");

    project
        .evoseal(&["rejudge", "--set", "safety.minimum_safty_score=0.5"])
        .run()
        .expect(2)
        .says(&["unknown key `minimum_safty_score`", "did you mean `minimum_safety_score`?"]);
    project.evoseal(&["rejudge", "--set", "safety.minimum_safety_score=7"]).run().expect(2);
    project
        .evoseal(&["rejudge", "--set", "run.iterations=7"])
        .run()
        .expect(2)
        .says(&["no decision depends on"]);
}

#[test]
fn evidence_that_is_damaged_or_gone_is_named_by_its_version() {
    let project = evolved();
    let records = project.evoseal(&["audit", "list", "--json"]).run().expect(0).stdout;
    let evidence_of = |version: &str| {
        let records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut decided =
            records.map(|record| record["what"].clone()).filter(|what| what["event"] == "decided");
        let digest = decided.find(|what| what["version_id"] == version).unwrap()["evidence"]
            .as_str()
            .unwrap()
            .to_owned();
        (project.path(&format!(".evoseal/evidence/{digest}.evidence")), digest)
    };
    let ((gone, gone_digest), (damaged, damaged_digest)) = (evidence_of("v1"), evidence_of("v3"));
    fs::remove_file(gone).unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[100] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let report = project.evoseal(&["rejudge", "--json"]).run().expect(4).json();
    let unreadable: Vec<(&str, &str)> = report["unreadable"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lost| (lost["version_id"].as_str().unwrap(), lost["problem"].as_str().unwrap()))
        .collect();
    assert_eq!(
        unreadable,
        [
            ("v1", format!("the evidence {gone_digest} is missing").as_str()),
            ("v3", format!("the evidence {damaged_digest} is damaged: its checksum does not match").as_str()),
        ]
    );
    let found = project.evoseal(&["audit", "verify"]).run().expect(4).stdout;
    assert!(found.contains(&gone_digest) && found.contains(&damaged_digest), "{found}");
}
