//! What was cut off before it had ended, and what the next command makes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use evoseal_pipeline::{Journal, JournalEntry, RunState};
use evoseal_safety::{PersonsDecision, PersonsOrder, PersonsVerdict};
use evoseal_tests::{Finished, Program, Project};
use evoseal_types::Timestamp;
use serde_json::Value;

use super::rollbacks::{cut_off, evolved};

/// Writes down that a person decides about an iteration, as a process does that is killed right after it.
fn begin_override(project: &Project, iteration: u64, verdict: PersonsVerdict) {
    let (mut journal, entries) = Journal::open(&project.path(".evoseal/journal.jsonl")).unwrap();
    let state = RunState::replay(&entries);
    let finished = state.finished.iter().find(|finished| finished.flight.iteration == iteration).unwrap();
    let version = finished.version().unwrap();
    let decision = PersonsDecision {
        version_id: version.version_id.clone(),
        verdict,
        person: "ada".to_owned(),
        at: Timestamp::from_unix_ns(i64::try_from(entries.len()).unwrap() * 1_000_000_000),
        reason: "I say so".to_owned(),
    };
    let is_incumbent =
        state.incumbent.as_ref().is_some_and(|(found, _)| found.version_id == version.version_id);
    let back = finished.flight.incumbent.checkpoint;
    let fall_back_to = back.filter(|_| verdict == PersonsVerdict::Reject && is_incumbent);
    let order = PersonsOrder { decision, version, fall_back_to };
    journal.append(&JournalEntry::Overriding { iteration, tree: None, order }).unwrap();
}

fn last_entry(project: &Project) -> JournalEntry {
    Journal::last(&project.path(".evoseal/journal.jsonl")).unwrap().unwrap()
}

/// A project in which nothing can be written, until this is dropped.
struct Unwritable<'a> {
    project: &'a Project,
    /// The rights of everything in it, as they were.
    rights: Vec<(PathBuf, fs::Permissions)>,
    /// A copy of the program where everyone can reach it.
    program: tempfile::TempDir,
}

impl<'a> Unwritable<'a> {
    fn new(project: &'a Project) -> Self {
        let program =
            tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
        fs::copy(Program::path(), program.path().join("evoseal")).unwrap();
        let (mut rights, mut folders) = (Vec::new(), vec![project.root().to_owned()]);
        while let Some(folder) = folders.pop() {
            let found: Vec<PathBuf> =
                fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            for path in found.into_iter().filter(|path| !path.is_symlink()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    rights.push((path.clone(), fs::metadata(&path).unwrap().permissions()));
                    fs::set_permissions(path, PermissionsExt::from_mode(0o444)).unwrap();
                }
            }
            rights.push((folder.clone(), fs::metadata(&folder).unwrap().permissions()));
            fs::set_permissions(folder, PermissionsExt::from_mode(0o555)).unwrap();
        }
        Self { project, rights, program }
    }

    fn evoseal(&self, arguments: &[&str]) -> Finished {
        let mut program = self.project.evoseal(arguments);
        if rustix::process::geteuid().is_root() {
            // The kernel lets root write anywhere: the program runs as somebody else, who must be able to reach it.
            let mut command = Command::new(self.program.path().join("evoseal"));
            command.args(arguments).current_dir(self.project.root()).uid(65_534).gid(65_534);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            *program.command() = command;
        }
        program.run()
    }
}

impl Drop for Unwritable<'_> {
    fn drop(&mut self) {
        for (path, rights) in self.rights.drain(..) {
            fs::set_permissions(path, rights).unwrap();
        }
    }
}

#[test]
fn whatever_command_comes_next_completes_what_a_person_had_decided_and_says_so() {
    let project = evolved();
    let commands = [
        &["status"][..],
        &["log"],
        &["show", "1"],
        &["diff", "v1", "v2"],
        &["report", "-o", ".evoseal/page.html"],
        &["checkpoint", "list"],
        &["checkpoint", "verify"],
        &["baseline", "list"],
        &["metrics", "history"],
        &["gc"],
        &["audit", "verify"],
        &["rejudge"],
        &["rollback", "v1", "--dry-run"],
    ];
    for (number, arguments) in (1_u64..).zip(commands) {
        let (verdict, did, cost) = if number % 2 == 1 {
            (PersonsVerdict::Reject, "ada rejected v3", "80\n")
        } else {
            (PersonsVerdict::Approve, "ada approved v3", "70\n")
        };
        begin_override(&project, 3, verdict);
        assert_ne!(project.read("cost.txt"), cost);
        let said = project.evoseal(arguments).run().expect(0).stderr;
        assert!(
            said.contains("completed what a person had decided and was cut off"),
            "{arguments:?}: {said}"
        );
        assert!(said.contains(did), "{arguments:?}: {said}");
        assert_eq!(project.read("cost.txt"), cost, "{arguments:?}");
        assert!(matches!(last_entry(&project), JournalEntry::Overridden { iteration: 3, .. }));
        let again = project.evoseal(arguments).run().expect(0).stderr;
        assert!(!again.contains("cut off"), "{arguments:?} a second time: {again}");
        let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
        assert_eq!(
            (&status["interrupted_override"], &status["unfinished_override"]),
            (&Value::Null, &Value::Null)
        );
        let counted = [&status["rollback"]["total_rollbacks"], &status["rollback"]["manual_rollbacks"]];
        assert_eq!(counted, [number, number], "{arguments:?}: it counts once, as the person's");
    }
    project.evoseal(&["audit", "verify"]).run().expect(0);
}

#[test]
fn a_persons_decision_that_was_cut_off_in_its_rollback_is_one_rollback() {
    let project = evolved();
    begin_override(&project, 3, PersonsVerdict::Reject);
    cut_off(&project, "v2");
    let finished = project.evoseal(&["status", "--json"]).run().expect(0);
    let status = finished.json();
    assert_eq!(status["interrupted_rollback"]["completed"]["version_id"], "v2", "{status}");
    assert_eq!(status["interrupted_override"]["completed"]["decision"]["person"], "ada", "{status}");
    assert_eq!(status["interrupted_override"]["completed"]["report"]["rollback"]["version_id"], "v2");
    let counts = &status["rollback"];
    assert_eq!([&counts["total_rollbacks"], &counts["recovery_rollbacks"]], [1, 1], "{counts}");
    assert_eq!(status["incumbent"]["version_id"], "v2");
    // With JSON wanted, what is said is JSON too: a line for each.
    let lines: Vec<Value> = finished.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert!(messages[0].starts_with("completed a rollback that was cut off"), "{messages:?}");
    assert!(messages[1].contains("ada rejected v3"), "{messages:?}");
    project.evoseal(&["audit", "verify"]).run().expect(0);
}

#[test]
fn what_a_person_decided_is_left_to_a_process_that_works_there() {
    let project = evolved();
    begin_override(&project, 3, PersonsVerdict::Reject);
    let lock = evoseal_pipeline::RunLock::acquire(&project.path(".evoseal")).unwrap();
    let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
    assert!(status["interrupted_override"]["left_to_other"].is_object(), "{status}");
    assert_eq!(status["unfinished_override"], 3);
    project
        .evoseal(&["checkpoint", "delete", "v1"])
        .run()
        .expect(4)
        .says(&["what a person decided was cut off"]);
    drop(lock);
    project.evoseal(&["log"]).run().expect(0).says(&["ada rejected v3"]);
    assert_eq!(project.read("cost.txt"), "80\n");
}

#[test]
fn a_completion_that_ends_at_an_older_version_names_both() {
    for json in [false, true] {
        let project = evolved();
        cut_off(&project, "v2");
        project.add_settings(
            "[safety.rollback]\nhealth_check = { command = [\"grep\", \"-q\", \"90\", \"cost.txt\"] }\n",
        );
        if json {
            let finished = project.evoseal(&["status", "--json"]).run().expect(0);
            let done = &finished.json()["interrupted_rollback"]["completed"];
            assert_eq!(done["fell_back"], true, "{done}");
            assert_eq!([&done["version_id"], &done["requested_version"]], ["v1", "v2"], "{done}");
            let line: Value = serde_json::from_str(finished.stderr.lines().next().unwrap()).unwrap();
            assert_eq!(line["interrupted_rollback"]["completed"]["fell_back"], true, "{line}");
        } else {
            project.evoseal(&["log"]).run().expect(0).says(&[
                "the workspace is at v1 (",
                ", and not at v2 (",
                "which was asked for: `grep -q 90 cost.txt` exited with code 1",
            ]);
        }
        assert_eq!(project.read("cost.txt"), "90\n");
    }
}

#[test]
fn status_shows_what_can_be_shown_where_nothing_can_be_written() {
    let project = evolved();
    cut_off(&project, "v1");
    begin_override(&project, 3, PersonsVerdict::Reject);
    let before = project.files();
    let read_only = Unwritable::new(&project);
    let finished = read_only.evoseal(&["status", "--json"]).expect(3);
    let status = finished.json();
    assert_eq!(status["incumbent"]["version_id"], "v3", "{status}");
    assert_eq!((&status["iterations"], &status["unfinished_override"]), (&3.into(), &3.into()), "{status}");
    let prevented = status["interrupted_rollback"]["prevented"].as_str().unwrap();
    assert!(prevented.contains("ermission denied"), "{status}");
    let error: Value = serde_json::from_str(finished.stderr.lines().next().unwrap()).unwrap();
    assert!(error["error"].as_str().unwrap().starts_with("a rollback was cut off here"), "{error}");
    let text = read_only.evoseal(&["status"]).expect(3);
    text.shows(&["accepted     v3", "unfinished   ada rejected v3", "unfinished   a rollback"]).says(&[
        "a rollback was cut off here and cannot be completed",
        "ermission denied",
        "hint: ",
    ]);
    // Whatever else is wanted is refused until it is completed.
    read_only.evoseal(&["checkpoint", "list"]).expect(3).says(&["cannot be completed"]);
    drop(read_only);
    assert_eq!(project.files(), before);
    let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
    assert_eq!(
        status["incumbent"]["version_id"], "v2",
        "the person's word comes after the rollback: {status}"
    );
}
