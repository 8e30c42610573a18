//! A run that is killed anywhere, and started again, ends as if it had not been.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::sync::Arc;

use evoseal_checkpoint::{CheckpointStore, RestoreMode};
use evoseal_pipeline::{
    ConsecutiveFailures, IterationOutcome, Journal, JournalEntry, RunState, StopReason, missing_from_audit,
};
use evoseal_safety::{AuditEvent, AuditLog};
use evoseal_testkit::{Crash, Fault, Step};
use evoseal_types::Timestamp;
use support::{Scene, every_kind, iterations};

type Decisions = Vec<(u64, IterationOutcome, String)>;

/// Runs until so many iterations are finished in the life of the workspace.
async fn run_to(scene: &Scene, total: u64) {
    let finished = scene.state().finished.len() as u64;
    scene.pipeline().run(iterations(total.saturating_sub(finished))).await.unwrap();
}

/// What a run that nobody disturbs decides, and the steps that it takes.
async fn undisturbed(script: &[Step]) -> (Decisions, String, Vec<String>) {
    let scene = Scene::new(script.to_vec());
    scene.faults.disarm();
    run_to(&scene, script.len() as u64).await;
    (scene.decisions(), scene.program(), scene.faults.steps())
}

#[tokio::test]
async fn a_process_that_is_killed_at_any_step_goes_on_as_if_it_had_not_been() {
    // Crashes unwind out of a task; nothing of the code under test runs after them.
    let script = every_kind();
    let total = script.len() as u64;
    let (decisions, program, steps) = undisturbed(&script).await;
    assert!(steps.len() > 150, "{}", steps.len());
    let consequences = {
        let scene = Scene::new(script.clone());
        run_to(&scene, total).await;
        scene.consequences().await
    };
    for (at, name) in steps.iter().enumerate() {
        let context = format!("killed at step {at} ({name})");
        let scene = Arc::new(Scene::new(script.clone()));
        scene.faults.arm(at, Fault::Crash);
        let killed = tokio::spawn({
            let scene = Arc::clone(&scene);
            async move { scene.pipeline().run(iterations(total)).await.map(drop) }
        });
        let crash = killed.await.unwrap_err().into_panic();
        assert!(crash.is::<Crash>(), "{context}");
        scene.faults.disarm();
        run_to(&scene, total).await;
        assert_eq!(scene.decisions(), decisions, "{context}");
        assert_eq!(scene.program(), program, "{context}");
        scene.assert_at_incumbent(&context);
        scene.assert_audited(&context).await;
        assert_eq!(scene.consequences().await, consequences, "{context}");
        let evaluated = scene.evaluator.calls();
        assert!(evaluated.len() <= 13, "{context}: more than one evaluation was repeated: {evaluated:?}");
        let proposed = scene.proposer.calls();
        assert!(proposed.len() <= 13, "{context}: more than one proposal was repeated: {proposed:?}");
    }
}

#[tokio::test]
async fn an_error_at_any_step_leaves_a_workspace_that_the_next_run_puts_in_order() {
    let script = [Step::Write("time=90"), Step::Write("time=900 drop"), Step::Write("time=80 drop")];
    let (decisions, program, steps) = undisturbed(&script).await;
    for (at, name) in steps.iter().enumerate() {
        let context = format!("failed at step {at} ({name})");
        let scene = Scene::new(script.clone());
        scene.faults.arm(at, Fault::Once);
        let outcome = scene.pipeline().run(iterations(3)).await;
        scene.faults.disarm();
        if outcome.is_err() {
            run_to(&scene, 3).await;
        }
        let found: Vec<IterationOutcome> = scene.decisions().iter().map(|decision| decision.1).collect();
        let expected: Vec<IterationOutcome> = decisions.iter().map(|decision| decision.1).collect();
        if found != expected {
            // An error that is the candidate's, as far as anyone can tell, costs it its iteration.
            let failed = found.iter().filter(|outcome| **outcome == IterationOutcome::Error).count();
            assert_eq!(failed, 1, "{context}: {found:?}");
        }
        scene.assert_at_incumbent(&context);
        scene.assert_audited(&context).await;
        assert!([program.as_str(), "time=90", "time=100"].contains(&scene.program().as_str()), "{context}");
    }
}

#[tokio::test]
async fn recovery_depends_on_the_journal_alone_wherever_it_was_cut() {
    let script = every_kind();
    let total = script.len() as u64;
    let (decisions, program, _) = undisturbed(&script).await;
    let count = {
        let scene = Scene::new(script.clone());
        run_to(&scene, total).await;
        scene.journal().len()
    };
    for kept in 0..count {
        let context = format!("journal cut after {kept} entries");
        let scene = Scene::new(script.clone());
        // The stores are ahead of the journal by as much as can be: by the rest of the run. So is the workspace where an
        // iteration is under way; between iterations, where recovery has nothing to bring back, it is as it was.
        run_to(&scene, total).await;
        let entries = scene.journal();
        let state = RunState::replay(&entries[..kept]);
        let text = fs::read_to_string(scene.journal_path()).unwrap();
        let lines: String = text.split_inclusive('\n').take(kept).collect();
        fs::write(scene.journal_path(), lines).unwrap();
        let settled = state.in_flight.as_ref().filter(|flight| flight.settled.is_some());
        let stands = match (settled, &state.incumbent) {
            (Some(flight), _) if flight.is_accepted() => flight.accepted,
            (Some(flight), _) => flight.incumbent.checkpoint,
            (None, Some((incumbent, _))) if state.in_flight.is_none() => incumbent.checkpoint,
            (None, Some(_)) => None,
            (None, None) => {
                scene.write("program.txt", "time=100");
                None
            }
        };
        if let Some(checkpoint) = stands {
            let folder = scene.folder.path();
            scene.checkpoints.restore(checkpoint, folder, RestoreMode::InPlace).await.unwrap();
        }
        run_to(&scene, total).await;
        assert_eq!(scene.decisions(), decisions, "{context}");
        assert_eq!(scene.program(), program, "{context}");
        scene.assert_at_incumbent(&context);
    }
}

#[tokio::test]
async fn whatever_the_journal_speaks_of_is_missed_when_it_is_taken_out_of_the_audit_log() {
    let script = every_kind();
    let scene = Scene::new(script.clone());
    run_to(&scene, script.len() as u64).await;
    let (journal, records) = (scene.journal(), scene.audit.records().await.unwrap());
    assert_eq!(missing_from_audit(&journal, &records), []);
    let mut missed = 0;
    for place in 0..records.len() {
        let mut left = records.clone();
        let taken = left.remove(place).what;
        let expected = match &taken {
            AuditEvent::Proposed(_)
            | AuditEvent::Decided { .. }
            | AuditEvent::Accepted { .. }
            | AuditEvent::RolledBack { .. } => true,
            // The version to start from is captured a first time before the journal can speak of it.
            AuditEvent::CheckpointCreated { .. } => place > 0,
            _ => false,
        };
        let missing = missing_from_audit(&journal, &left);
        assert_eq!(missing.len(), usize::from(expected), "record {}: {taken:?}: {missing:?}", place + 1);
        missed += missing.len();
    }
    assert!(missed > 40, "{missed}");
}

#[tokio::test]
async fn a_dropped_future_is_like_a_killed_process() {
    for step in [Step::Hang, Step::Write("time=50 hang")] {
        let scene = Scene::new([Step::Write("time=90"), step.clone(), Step::Write("time=60")]);
        let pipeline = scene.pipeline();
        tokio::select! {
            report = pipeline.run(iterations(3)) => panic!("it ended: {report:?}"),
            () = async {
                let waits = |scene: &Scene| match step {
                    Step::Hang => scene.proposer.calls().len() < 2,
                    _ => scene.evaluator.calls().len() < 3,
                };
                while waits(&scene) {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
        assert_eq!(scene.pipeline().recover().await.unwrap().unwrap().version_id.as_str(), "v1");
        scene.assert_at_incumbent("after recovery");
        // A second recovery has nothing left to bring back.
        scene.pipeline().recover().await.unwrap();
        scene.assert_at_incumbent("after a second recovery");
    }
}

#[tokio::test]
async fn recovering_carries_out_a_decision_that_was_made_but_proposes_nothing() {
    for (program, accepted) in [("time=50", "v1"), ("time=900", "v0")] {
        let scene = Scene::new([Step::Write(program), Step::Write("time=10")]);
        run_to(&scene, 1).await;
        // Everything after the decision is lost, and the candidate is back in the workspace.
        let kept =
            scene.journal().iter().position(|entry| matches!(entry, JournalEntry::Decided { .. })).unwrap();
        let text = fs::read_to_string(scene.journal_path()).unwrap();
        let lines: String = text.split_inclusive('\n').take(kept + 1).collect();
        fs::write(scene.journal_path(), lines).unwrap();
        scene.write("program.txt", program);
        let recovered = scene.pipeline().recover().await.unwrap().unwrap();
        assert_eq!(recovered.version_id.as_str(), accepted, "{program}");
        scene.assert_at_incumbent(program);
        assert_eq!(scene.proposer.calls(), [1]);
        assert_eq!(scene.pipeline().recover().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_persons_work_after_a_crash_is_kept_before_the_workspace_goes_back() {
    let scene = Scene::new([Step::Hang, Step::Write("time=60")]);
    let pipeline = scene.pipeline();
    tokio::select! {
        report = pipeline.run(iterations(1)) => panic!("it ended: {report:?}"),
        () = async { while scene.proposer.calls().is_empty() { tokio::task::yield_now().await; } } => {}
    }
    scene.write("mine.txt", "an afternoon's work");
    scene.pipeline().recover().await.unwrap();
    assert!(!scene.folder.path().join("mine.txt").exists());
    let listed = scene.checkpoints.list().await.unwrap();
    let saved = listed.iter().find(|known| known.details.note == "saved before recovery").unwrap();
    let file = evoseal_types::EntryPath::new("mine.txt").unwrap();
    assert_eq!(scene.checkpoints.read_file(saved.id, &file).await.unwrap(), b"an afternoon's work");
}

#[tokio::test]
async fn a_crash_between_settling_and_the_end_does_not_forget_that_a_refused_candidate_stays() {
    let scene = Scene::new([Step::Write("time=900"), Step::Write("time=60")]);
    let options = evoseal_pipeline::RunOptions { enable_auto_rollback: false, ..iterations(2) };
    scene.pipeline().run(options).await.unwrap();
    let kept =
        scene.journal().iter().position(|entry| matches!(entry, JournalEntry::Settled { .. })).unwrap();
    let text = fs::read_to_string(scene.journal_path()).unwrap();
    let lines: String = text.split_inclusive('\n').take(kept + 1).collect();
    fs::write(scene.journal_path(), lines).unwrap();
    let report = scene.pipeline().run(options).await.unwrap();
    assert!(matches!(report.stop_reason, StopReason::NotRolledBack { .. }), "{:?}", report.stop_reason);
    assert_eq!(scene.proposer.calls(), [1], "nothing is built on a refused candidate");
}

#[tokio::test]
async fn failures_before_a_crash_count_after_it() {
    let scene = Scene::new(vec![Step::Write("time=900"); 4].into_iter().chain([Step::Hang]));
    let pipeline = || scene.builder().stop_condition(Arc::new(ConsecutiveFailures(5))).build();
    let first = pipeline();
    tokio::select! {
        report = first.run(iterations(15)) => panic!("it ended: {report:?}"),
        () = async { while scene.proposer.calls().len() < 5 { tokio::task::yield_now().await; } } => {}
    }
    let scripted = evoseal_testkit::ScriptedProposer::new(vec![Step::Fail; 9], scene.faults.clone());
    let parts = evoseal_pipeline::PipelineParts { proposer: Arc::new(scripted), ..scene.parts() };
    let second = evoseal_pipeline::EvolutionPipeline::builder(parts)
        .stop_condition(Arc::new(ConsecutiveFailures(5)))
        .build();
    let report = second.run(iterations(15)).await.unwrap();
    assert_eq!(report.stop_reason, StopReason::ConsecutiveFailures { count: 5 });
    assert_eq!(report.results.len(), 1);
}

fn some_entries() -> Vec<JournalEntry> {
    let at = Timestamp::default();
    let proposed =
        |change: &str| JournalEntry::Proposed { iteration: 1, change: change.to_owned(), failed: false };
    vec![
        JournalEntry::RunStarted { at, iterations: 1, seed: 0, unprotected: Vec::new() },
        proposed("one"),
        proposed("two"),
    ]
}

/// How many complete lines there are.
fn lines_in(bytes: &[u8]) -> usize {
    bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")).count()
}

fn written() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let (mut journal, _) = Journal::open(&path).unwrap();
    for entry in &some_entries() {
        journal.append(entry).unwrap();
    }
    (folder, path)
}

#[test]
fn a_torn_last_line_is_cut_off_wherever_it_was_torn() {
    let (_folder, path) = written();
    let bytes = fs::read(&path).unwrap();
    for cut in 0..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let whole = lines_in(&bytes[..cut]);
        let (mut journal, entries) = Journal::open(&path).unwrap();
        assert_eq!(entries, some_entries()[..whole], "cut at {cut}");
        journal.append(&some_entries()[0]).unwrap();
        assert_eq!(Journal::read(&path).unwrap().len(), whole + 1, "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_is_damage_and_the_file_stays_as_it_is() {
    let (_folder, path) = written();
    let bytes = fs::read(&path).unwrap();
    for position in 0..bytes.len() - 1 {
        let mut bad = bytes.clone();
        bad[position] ^= 0x04;
        fs::write(&path, &bad).unwrap();
        let line = 1 + lines_in(&bytes[..position]);
        let message = Journal::open(&path).unwrap_err().to_string();
        assert!(message.contains(&format!("line {line}:")), "byte {position}: {message}");
        assert_eq!(fs::read(&path).unwrap(), bad);
    }
}

#[test]
fn an_entry_of_a_newer_program_is_refused_by_name() {
    let (_folder, path) = written();
    let json = r#"{"phase":"from_the_future","iteration":1}"#;
    let digest = evoseal_types::Digest::of(json.as_bytes());
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{digest} {json}\n")).unwrap();
    let message = Journal::open(&path).unwrap_err().to_string();
    assert!(message.contains("line 4") && message.contains("from_the_future"), "{message}");
}

#[test]
fn a_journal_that_is_removed_replaced_or_written_to_by_others_is_not_written_on() {
    type Meddle = fn(&std::path::Path);
    let meddle: [Meddle; 3] = [
        |path| fs::remove_file(path).unwrap(),
        |path| {
            let copy = path.with_extension("copy");
            fs::copy(path, &copy).unwrap();
            fs::rename(copy, path).unwrap();
        },
        |path| fs::write(path, "").unwrap(),
    ];
    for meddle in meddle {
        let (_folder, path) = written();
        let (mut journal, _) = Journal::open(&path).unwrap();
        meddle(&path);
        let error = journal.append(&some_entries()[0]).unwrap_err();
        assert!(matches!(error, evoseal_pipeline::Error::Damaged { .. }), "{error}");
    }
}
