//! Random trees, random edits by a person and by candidates, random verdicts and crashes, over the real parts: whatever
//! happens, the workspace is exactly what was accepted, the person's files are as they were left, and the records agree.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use evoseal_checkpoint::{CheckpointStore, RestoreMode};
use evoseal_pipeline::{
    Error, Evaluation, EvaluationRequest, EvolutionPipeline, Journal, Proposal, RunOptions, RunState,
};
use evoseal_regression::RegressionSettings;
use evoseal_rollback::RollbackMode;
use evoseal_safety::{AuditEvent, AuditLog, AuditRecord, FileAuditLog};
use evoseal_tests::Assembly;
use evoseal_tests::scripted::{FunctionEvaluator, FunctionProposer};
use evoseal_types::{Digest, ErrorClass, SystemClock, TestReport};
use proptest::prelude::*;
use tempfile::TempDir;

/// What candidates and the person edit. No name is a folder of another.
const NAMES: [&str; 8] = [
    "a.txt",
    "b.txt",
    "src/one.rs",
    "src/two.rs",
    "src/deep/three.rs",
    "data/four.bin",
    "a folder/ü.txt",
    "notes.txt",
];
/// What is the person's alone: no checkpoint holds it, and no candidate here touches it.
const IGNORED: [&str; 3] = [".env", "cache/deep/object", "app.log"];
/// No names.
const NONE: [PathBuf; 0] = [];
const IGNORE_FILE: &str = ".env\ncache/\n*.log\n";

#[derive(Debug, Clone)]
enum Edit {
    Write { name: usize, size: usize },
    Remove { name: usize },
    Link { name: usize, to: usize },
    Executable { name: usize, is_set: bool },
    Folder { name: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail,
    NoTests,
    Broken,
}

/// One start of the loop, and what a person does before it.
#[derive(Debug, Clone)]
struct Round {
    edits: Vec<Edit>,
    ignored: Vec<(usize, usize)>,
    iterations: u64,
    /// After how often waking up the process dies.
    crash: Option<usize>,
    /// Whether the crash is only recovered from before somebody looks, or the run is gone on with.
    only_recover: bool,
}

/// The course of all candidates: the one of iteration *n* does and gets what stands at *n*.
type Candidates = Arc<Vec<(Vec<Edit>, Verdict)>>;

fn edit() -> impl Strategy<Value = Edit> {
    let name = 0..NAMES.len();
    prop_oneof![
        6 => (name.clone(), 0..5_000_usize).prop_map(|(name, size)| Edit::Write { name, size }),
        2 => name.clone().prop_map(|name| Edit::Remove { name }),
        1 => (name.clone(), 0..NAMES.len()).prop_map(|(name, to)| Edit::Link { name, to }),
        1 => (name.clone(), any::<bool>()).prop_map(|(name, is_set)| Edit::Executable { name, is_set }),
        1 => name.prop_map(|name| Edit::Folder { name }),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => Just(Verdict::Pass),
        2 => Just(Verdict::Fail),
        1 => Just(Verdict::NoTests),
        1 => Just(Verdict::Broken),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    let ignored = proptest::collection::vec((0..IGNORED.len(), 0..3_000_usize), 0..3);
    let crash = proptest::option::weighted(0.8, 1..110_usize);
    (proptest::collection::vec(edit(), 0..3), ignored, 1..4_u64, crash, any::<bool>()).prop_map(
        |(edits, ignored, iterations, crash, only_recover)| Round {
            edits,
            ignored,
            iterations,
            crash,
            only_recover,
        },
    )
}

impl Edit {
    /// Does it, with a content that stands nowhere else.
    fn apply(&self, root: &Path, seed: u64) {
        let path = |name: &usize| root.join(NAMES[*name]);
        let fresh = |path: &Path| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let _ = fs::remove_file(path);
        };
        match self {
            Self::Write { name, size } => {
                fresh(&path(name));
                write_noise(&path(name), seed, *size);
            }
            Self::Remove { name } => {
                let _ = fs::remove_file(path(name));
            }
            Self::Link { name, to } => {
                fresh(&path(name));
                symlink(format!("target {to}"), path(name)).unwrap();
            }
            Self::Executable { name, is_set } => {
                let path = path(name);
                if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
                    let mode = if *is_set { 0o755 } else { 0o644 };
                    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
                }
            }
            Self::Folder { name } => fs::create_dir_all(root.join(format!("empty/{name}"))).unwrap(),
        }
    }
}

fn write_noise(path: &Path, seed: u64, size: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut bytes = seed.to_le_bytes().to_vec();
    bytes.extend((0..size).map(|at| (at as u64).wrapping_mul(seed | 1).to_le_bytes()[3]));
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
}

/// Everything below a folder but `.evoseal`: kind, executable bit, and digest of the content or target.
type Tree = BTreeMap<PathBuf, (char, bool, Digest)>;

fn tree(root: &Path, ignored: bool) -> Tree {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let is_ignored = IGNORED.iter().any(|one| Path::new(one).starts_with(&name));
            if name == Path::new(".evoseal") || is_ignored != ignored {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).unwrap();
            let item = if metadata.is_symlink() {
                ('l', false, Digest::of(fs::read_link(&path).unwrap().as_os_str().as_encoded_bytes()))
            } else if metadata.is_dir() {
                folders.push(path);
                ('d', false, Digest::of(b""))
            } else {
                let is_executable = metadata.permissions().mode() & 0o100 != 0;
                ('f', is_executable, Digest::of(&fs::read(&path).unwrap()))
            };
            found.insert(name, item);
        }
    }
    found
}

/// The names that two trees do not agree about.
fn difference(one: &Tree, other: &Tree) -> Vec<PathBuf> {
    let names: BTreeSet<&PathBuf> = one.keys().chain(other.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

/// Polls a future so often and then gives `None`, as if the process had been killed there.
struct CutOff<F> {
    future: Pin<Box<F>>,
    polls_left: usize,
}

impl<F: Future> Future for CutOff<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 {
            return Poll::Ready(None);
        }
        self.polls_left -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}

/// The workspace under test, and beside it what it should be.
struct Scene {
    folder: TempDir,
    candidates: Candidates,
    mode: RollbackMode,
    /// How many finished iterations the model has taken in.
    modelled: usize,
    edits_made: u64,
}

impl Scene {
    fn new(start: &[Edit], candidates: Vec<(Vec<Edit>, Verdict)>, mode: RollbackMode) -> Self {
        // In memory where there is such a place: syncs would take most of the time.
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let mut scene =
            Self { folder, candidates: Arc::new(candidates), mode, modelled: 0, edits_made: 1 << 32 };
        for root in [scene.workspace(), scene.model()] {
            fs::create_dir(&root).unwrap();
            fs::write(root.join(".gitignore"), IGNORE_FILE).unwrap();
        }
        scene.person_edits(start);
        for index in 0..IGNORED.len() {
            scene.person_writes_ignored(index, 100);
        }
        scene
    }

    fn workspace(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("workspace")
    }

    fn model(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("model")
    }

    fn state_directory(&self) -> PathBuf {
        self.workspace().join(".evoseal")
    }

    /// The same in both.
    fn person_edits(&mut self, edits: &[Edit]) {
        // No tree is ever that of a candidate that was refused: from such a one no run would start.
        let unique = Edit::Write { name: NAMES.len() - 1, size: 10 };
        for edit in edits.iter().chain([&unique]) {
            self.edits_made += 1;
            edit.apply(&self.workspace(), self.edits_made);
            edit.apply(&self.model(), self.edits_made);
        }
    }

    fn person_writes_ignored(&mut self, index: usize, size: usize) {
        self.edits_made += 1;
        for root in [self.workspace(), self.model()] {
            write_noise(&root.join(IGNORED[index]), self.edits_made, size);
        }
    }

    async fn pipeline(&self) -> EvolutionPipeline {
        let parts =
            Assembly::open_in(&self.workspace(), &RegressionSettings::default(), self.mode).await.unwrap();
        let (proposing, judging) = (Arc::clone(&self.candidates), Arc::clone(&self.candidates));
        let at = |candidates: &Candidates, iteration: u64| {
            candidates[usize::try_from(iteration).unwrap() % candidates.len()].clone()
        };
        let proposer = FunctionProposer::new(move |context| {
            for (number, edit) in (0_u64..).zip(&at(&proposing, context.iteration).0) {
                edit.apply(&context.workspace, context.iteration * 1000 + number);
            }
            Ok(Proposal::Edited { summary: "edited".to_owned() })
        });
        let evaluator = FunctionEvaluator::new(move |request: &EvaluationRequest| {
            let report = |passed, failed| vec![TestReport::from_counts("unit_tests", passed, failed, 0, 0)];
            if request.iteration == 0 {
                return Ok(Evaluation { test_results: report(3, 0), ..Evaluation::default() });
            }
            // Evaluations leave things behind; none of it may become part of a version.
            fs::write(request.candidate.directory.join("leftover.bin"), "x").unwrap();
            let test_results = match at(&judging, request.iteration).1 {
                Verdict::Pass => report(3, 0),
                Verdict::Fail => report(2, 1),
                Verdict::NoTests => Vec::new(),
                Verdict::Broken => {
                    let reason = "the tests cannot be run".to_owned();
                    return Err(Error::Evaluator { reason, class: ErrorClass::Internal, source: None });
                }
            };
            Ok(Evaluation { test_results, ..Evaluation::default() })
        });
        parts.pipeline(Arc::new(proposer), Arc::new(evaluator)).build()
    }

    /// Runs in a process of its own, as far as a runtime is one. `false` if it died.
    fn run(&self, iterations: u64, crash: Option<usize>) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = RunOptions { iterations, ..RunOptions::default() };
        let done = runtime.block_on(async {
            let pipeline = self.pipeline().await;
            let future = Box::pin(pipeline.run(options));
            CutOff { future, polls_left: crash.unwrap_or(usize::MAX) }.await
        });
        // Waits for what was still being written: a process that is killed in the middle of a write is another test's subject.
        drop(runtime);
        done.map(|report| report.unwrap()).is_some()
    }

    fn recover(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { self.pipeline().await.recover().await.map(drop) }).unwrap();
    }

    fn state(&self) -> RunState {
        let entries = Journal::read(&EvolutionPipeline::journal_path(&self.state_directory())).unwrap();
        RunState::replay(&entries)
    }

    /// Takes what was accepted since into the model, and checks that it was accepted for a reason.
    fn follow(&mut self, state: &RunState) {
        for finished in &state.finished[self.modelled..] {
            let iteration = finished.flight.iteration;
            let (edits, verdict) =
                self.candidates[usize::try_from(iteration).unwrap() % self.candidates.len()].clone();
            let before = tree(&self.model(), false);
            let scratch = self.folder.path().join("scratch");
            copy(&self.model(), &scratch);
            for (number, edit) in (0_u64..).zip(&edits) {
                edit.apply(&scratch, iteration * 1000 + number);
            }
            let is_good = verdict == Verdict::Pass && tree(&scratch, false) != before;
            assert_eq!(finished.flight.is_accepted(), is_good, "iteration {iteration}: {verdict:?}");
            if is_good {
                fs::remove_dir_all(self.model()).unwrap();
                fs::rename(&scratch, self.model()).unwrap();
            } else {
                fs::remove_dir_all(&scratch).unwrap();
            }
        }
        self.modelled = state.finished.len();
    }

    /// Everything that always holds between runs. What a person edited before a run that died at once is in the workspace
    /// and in no version yet: only after a run that came to its end is the workspace the accepted version.
    fn check(&mut self, is_accepted: bool) {
        let state = self.state();
        self.follow(&state);
        let (workspace, model) = (self.workspace(), self.model());
        let differ = |root: &Path, ignored| difference(&tree(root, ignored), &tree(&model, ignored));
        assert_eq!(differ(&workspace, true), NONE, "the person's own files");
        let Some((incumbent, _)) = &state.incumbent else { return };
        assert_eq!(differ(&workspace, false), NONE, "the workspace is not {}", incumbent.version_id);

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let parts = Assembly::open(&workspace).await.unwrap();
            let restored = self.folder.path().join("restored");
            let id = incumbent.checkpoint.unwrap();
            parts.checkpoints.restore(id, &restored, RestoreMode::Empty).await.unwrap();
            let different = if is_accepted { differ(&restored, false) } else { Vec::new() };
            assert_eq!(different, NONE, "{} restores otherwise", incumbent.version_id);
            fs::remove_dir_all(&restored).unwrap();
            assert_eq!(parts.checkpoints.verify(&[]).await.unwrap().damage, []);

            let log =
                FileAuditLog::new(parts.state_directory.join("audit.jsonl"), Arc::new(SystemClock::new()));
            check_audit(&log.records().await.unwrap(), &state);
        });
    }
}

/// The audit log has each decision and each acceptance once, and no others.
fn check_audit(records: &[AuditRecord], state: &RunState) {
    let decided = |name: &str| {
        records.iter().filter(|record| matches!(&record.what, AuditEvent::Decided { version_id, .. } if version_id.as_str() == name)).count()
    };
    let accepted = |name: &str| {
        records.iter().filter(|record| matches!(&record.what, AuditEvent::Accepted { version_id, .. } if version_id.as_str() == name)).count()
    };
    for finished in &state.finished {
        let name = format!("v{}", finished.flight.iteration);
        assert_eq!(decided(&name), 1, "decisions about {name}");
        assert_eq!(accepted(&name), usize::from(finished.flight.is_accepted()), "acceptances of {name}");
    }
    let of_candidates = records.iter().filter(|record| {
        matches!(&record.what, AuditEvent::Accepted { version_id, .. } if !version_id.as_str().starts_with("v0"))
    });
    let expected = state.finished.iter().filter(|finished| finished.flight.is_accepted()).count();
    assert_eq!(of_candidates.count(), expected);
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_workspace_is_what_was_accepted(
        start in proptest::collection::vec(edit(), 1..8),
        candidates in proptest::collection::vec((proptest::collection::vec(edit(), 1..5), verdict()), 3..9),
        rounds in proptest::collection::vec(round(), 1..6),
        mode in prop_oneof![Just(RollbackMode::InPlace), Just(RollbackMode::Exchange)],
    ) {
        let mut scene = Scene::new(&start, candidates, mode);
        for round in rounds {
            scene.person_edits(&round.edits);
            for (index, size) in &round.ignored {
                scene.person_writes_ignored(*index, *size);
            }
            let wanted = scene.state().finished.len() as u64 + round.iterations;
            if !scene.run(round.iterations, round.crash) {
                // The person goes on working in what nobody else touches.
                scene.person_writes_ignored(0, 50);
                if round.only_recover {
                    scene.recover();
                    scene.check(false);
                }
                scene.run(wanted.saturating_sub(scene.state().finished.len() as u64).max(1), None);
            }
            prop_assert!(scene.state().in_flight.is_none());
            scene.check(true);
        }
    }
}
