//! The audit log of a real run, checked twice by code that shares nothing; and its decisions, made again.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

mod audit {
    pub(crate) mod checkers;
    mod rejudge;
}

#[path = "../xtask/src/audit.rs"]
mod independent;

use std::fs;
use std::path::PathBuf;

use evoseal_safety::RememberedHead;
use evoseal_tests::Project;
use serde_json::Value;

use audit::checkers::theirs;

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
