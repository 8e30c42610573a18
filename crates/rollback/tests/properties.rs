//! Random trees, random edits of a person and of candidates, random decisions, faults and crashes: a rollback gives exactly
//! the version, a failed one changes nothing, and what somebody has written is in the workspace or in a checkpoint.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::case::survive;
use common::{MODES, Scene, to, to_id};
use evoseal_checkpoint::CheckpointStore;
use evoseal_rollback::{
    Error, FunctionVerifier, Rollback, RollbackManager, RollbackMode, RollbackReport, RollbackRequest, Target,
};
use evoseal_testkit::{Fault, Node, Tree};
use evoseal_types::{CheckpointId, EntryPath, ErrorClass};
use proptest::collection::vec;
use proptest::prelude::*;

/// One change of a workspace. Names are few, so that files, folders, links and ignored ones get into each other's way.
#[derive(Debug, Clone)]
enum Edit {
    Write(String, Vec<u8>),
    Executable(String),
    Folder(String),
    Link(String, String),
    Remove(String),
    /// The names that are ignored from now on.
    Ignore(Vec<&'static str>),
}

fn edit() -> impl Strategy<Value = Edit> {
    let path = || vec("[abc]", 1..4).prop_map(|names| names.join("/"));
    prop_oneof![
        8 => (path(), vec(any::<u8>(), 0..20)).prop_map(|(path, bytes)| Edit::Write(path, bytes)),
        2 => path().prop_map(Edit::Executable),
        2 => path().prop_map(Edit::Folder),
        2 => (path(), "[abc/.]{1,5}").prop_map(|(path, target)| Edit::Link(path, target)),
        4 => path().prop_map(Edit::Remove),
        3 => prop_oneof![Just(vec![]), Just(vec!["b"]), Just(vec!["c"]), Just(vec!["b", "c"])]
            .prop_map(Edit::Ignore),
    ]
}

/// Makes a change as far as what stands there allows it. Links are never followed out of the way.
fn apply(workspace: &Path, edit: &Edit) {
    let name = match edit {
        Edit::Write(path, _)
        | Edit::Executable(path)
        | Edit::Folder(path)
        | Edit::Link(path, _)
        | Edit::Remove(path) => path,
        Edit::Ignore(_) => ".gitignore",
    };
    let path = workspace.join(name);
    let above: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| *folder != workspace).collect();
    if above.iter().any(|folder| folder.is_symlink()) || fs::create_dir_all(path.parent().unwrap()).is_err() {
        return;
    }
    let _ = match edit {
        Edit::Write(_, _) | Edit::Executable(_) if path.is_symlink() => Ok(()),
        Edit::Write(_, bytes) => fs::write(&path, bytes),
        Edit::Executable(_) if path.is_dir() => Ok(()),
        Edit::Executable(_) => fs::set_permissions(&path, fs::Permissions::from_mode(0o755)),
        Edit::Folder(_) => fs::create_dir(&path),
        Edit::Link(_, target) => std::os::unix::fs::symlink(target, &path),
        Edit::Remove(_) if path.is_symlink() || path.is_file() => fs::remove_file(&path),
        Edit::Remove(_) => fs::remove_dir_all(&path),
        Edit::Ignore(names) => fs::write(&path, names.join("\n")),
    };
}

/// One thing that happens to a workspace.
#[derive(Debug, Clone)]
enum Event {
    /// Somebody edits: the person, or a candidate that nobody has decided on.
    Edits(Vec<Edit>),
    /// A candidate edits and is accepted.
    Accept(Vec<Edit>),
    /// A version turns out not to be fit for use.
    Condemn(usize),
    /// A version rots.
    Damage(usize),
    RollBack(Course),
}

/// A rollback and what comes in its way.
#[derive(Debug, Clone)]
struct Course {
    goal: Goal,
    /// At which step what happens.
    fault: Option<(usize, Fault)>,
    /// What is edited before the next start.
    edits: Vec<Edit>,
    /// At which step the recovery is killed.
    again: Option<usize>,
}

#[derive(Debug, Clone)]
enum Goal {
    Version(usize),
    LastKnownGood,
    Undo,
}

fn event() -> impl Strategy<Value = Event> {
    let goal = prop_oneof![
        2 => any::<usize>().prop_map(Goal::Version),
        2 => Just(Goal::LastKnownGood),
        1 => Just(Goal::Undo),
    ];
    let kind = prop_oneof![3 => Just(Fault::Crash), 1 => Just(Fault::Once), 1 => Just(Fault::Forever)];
    let fault = proptest::option::of((0..60_usize, kind));
    let again = proptest::option::weighted(0.4, 0..50_usize);
    let course = (goal, fault, vec(edit(), 0..3), again).prop_map(|(goal, fault, edits, again)| Course {
        goal,
        fault,
        edits,
        again,
    });
    prop_oneof![
        3 => vec(edit(), 1..8).prop_map(Event::Edits),
        3 => vec(edit(), 1..8).prop_map(Event::Accept),
        2 => any::<usize>().prop_map(Event::Condemn),
        1 => any::<usize>().prop_map(Event::Damage),
        6 => course.prop_map(Event::RollBack),
    ]
}

/// A workspace, what became of it so far, and what must hold.
struct World {
    scene: Scene,
    versions: Vec<CheckpointId>,
    condemned: Arc<Mutex<BTreeSet<CheckpointId>>>,
    /// Rollbacks that were asked for.
    calls: usize,
}

/// Entries that belong to no version and that nobody here edits.
const FOREIGN: [&str; 2] = [".git/HEAD", ".evoseal/own"];

impl World {
    fn new(mode: RollbackMode) -> Self {
        let scene = Scene { mode, ..Scene::new() };
        for path in FOREIGN {
            scene.write(path, path);
        }
        Self { scene, versions: Vec::new(), condemned: Arc::default(), calls: 0 }
    }

    /// As the next start of the program opens it; its file operations are steps too.
    fn manager(&self) -> RollbackManager {
        let (faults, condemned) = (self.scene.faults.clone(), Arc::clone(&self.condemned));
        let verifier = FunctionVerifier::new("not condemned", move |_, checkpoint| {
            let is_fit = !condemned.lock().unwrap().contains(&checkpoint.id);
            async move { Ok(if is_fit { Ok(()) } else { Err("it is condemned".to_owned()) }) }
        });
        let builder = self.scene.builder().before_file_operation(move |name| faults.step(name));
        builder.verifier(Arc::new(verifier)).build().unwrap()
    }

    fn edit(&self, edits: &[Edit]) {
        for edit in edits {
            apply(&self.scene.workspace(), edit);
        }
    }

    fn has_intent(&self) -> bool {
        self.scene.state().join("intent").exists()
    }

    /// The tree that whoever opens paths sees: also what is lent to the tree beside the workspace at the moment.
    fn seen(&self) -> Tree {
        let beside = self.scene.folder.path().join(".workspace.evoseal-exchange");
        let lent = if beside.exists() { Tree::read(&beside).unwrap() } else { Tree::default() };
        let mut seen = Tree::default();
        for (path, node) in self.scene.tree().0 {
            let up = "../".repeat(path.components().count());
            let stand_in = format!("{up}.workspace.evoseal-exchange/{}", path.as_path().display());
            if node == Node::Symlink(stand_in.into_bytes()) {
                let is_in = |other: &EntryPath| other.as_path().starts_with(path.as_path());
                seen.0.extend(
                    lent.0.iter().filter(|(other, _)| is_in(other)).map(|(a, b)| (a.clone(), b.clone())),
                );
            } else {
                seen.0.insert(path, node);
            }
        }
        seen
    }

    async fn happen(&mut self, event: &Event) {
        match event {
            Event::Edits(edits) => self.edit(edits),
            Event::Accept(edits) => {
                self.edit(edits);
                let name = format!("v{}", self.versions.len());
                let id = self.scene.checkpoint(&name, self.versions.last().copied()).await.id;
                self.manager().mark_known_good(id).await.unwrap();
                self.versions.push(id);
            }
            Event::Condemn(number) => {
                let chosen = self.choose(*number);
                self.condemned.lock().unwrap().extend(chosen);
            }
            Event::Damage(number) => {
                if let Some(id) = self.choose(*number) {
                    self.scene.store.damage(id);
                }
            }
            Event::RollBack(course) => self.roll_back(course).await,
        }
    }

    fn choose(&self, number: usize) -> Option<CheckpointId> {
        (!self.versions.is_empty()).then(|| self.versions[number % self.versions.len()])
    }

    fn request(&self, goal: &Goal) -> RollbackRequest {
        match goal {
            Goal::Version(number) => self.choose(*number).map_or_else(|| to(Target::LastKnownGood), to_id),
            Goal::LastKnownGood => to(Target::LastKnownGood),
            Goal::Undo => to(Target::Undo),
        }
    }

    async fn roll_back(&mut self, course: &Course) {
        let (before, manager, request) = (self.seen(), self.manager(), self.request(&course.goal));
        let (at, fault) = course.fault.unwrap_or((usize::MAX, Fault::Once));
        self.scene.faults.arm(at, fault);
        let answer = survive(tokio::spawn(async move { manager.roll_back(request).await })).await;
        self.scene.faults.disarm();
        self.calls += 1;
        self.assert_foreign();
        self.assert_nothing_is_lost(&before).await;
        if self.scene.mode == RollbackMode::Exchange {
            self.assert_whole(&before).await;
        }
        match &answer {
            Some(Ok(report)) => self.assert_is_at(report),
            Some(Err(_)) if !self.has_intent() => assert_same(&self.seen(), &before, &format!("{answer:?}")),
            Some(Err(_)) | None => {}
        }
        if self.has_intent() || answer.is_none() {
            self.edit(&course.edits);
            self.recover(&before, course).await;
        }
    }

    /// Completes what was cut off. `before` is what there was before the rollback.
    async fn recover(&mut self, before: &Tree, course: &Course) {
        let mut found = self.seen();
        if let Some(at) = course.again {
            let manager = self.manager();
            self.scene.faults.arm(at, Fault::Crash);
            survive(tokio::spawn(async move { manager.recover().await })).await;
            self.scene.faults.disarm();
            self.assert_foreign();
            self.assert_nothing_is_lost(&found).await;
        }
        let had_intent = self.has_intent();
        let mut answer = self.manager().recover().await;
        if self.has_intent() && answer.as_ref().is_err_and(|error| error.class() == ErrorClass::Corrupt) {
            // The workspace was a version that has rotted since: there is no other copy of what it is put back to.
            self.scene.store.repair();
            answer = self.manager().recover().await;
        }
        if let Err(Error::Checkpoint(evoseal_checkpoint::Error::NotEmpty { path })) = &answer
            && !course.edits.is_empty()
        {
            // Somebody has put something ignored where the workspace had no folder. It is named, and kept.
            fs::rename(path, self.scene.folder.path().join("moved")).unwrap();
            answer = self.manager().recover().await;
            fs::remove_dir_all(self.scene.folder.path().join("moved")).unwrap();
            found = self.seen();
        }
        assert!(!self.has_intent(), "it cannot be ended: {answer:?}");
        match &answer {
            Ok(Some(report)) => self.assert_is_at(report),
            // Nothing of it was on record, or it had ended.
            Ok(None) => {}
            Err(Error::Exhausted { .. }) if had_intent => {
                if course.edits.is_empty() {
                    assert_same(&self.seen(), before, &format!("{answer:?}"));
                }
            }
            Err(error) => panic!("it cannot be completed: {error}"),
        }
        self.assert_foreign();
        self.assert_nothing_is_lost(&found).await;
        let mut names: Vec<_> =
            fs::read_dir(self.scene.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["state", "workspace"], "something stands beside the workspace");
        assert_eq!(self.manager().recover().await.unwrap(), None);
    }

    fn assert_foreign(&self) {
        for path in FOREIGN {
            assert_eq!(fs::read_to_string(self.scene.workspace().join(path)).unwrap(), path);
        }
    }

    /// Each file and link that there was is where it was, or in a checkpoint.
    async fn assert_nothing_is_lost(&self, before: &Tree) {
        let now = self.seen();
        let listed = self.scene.store.list().await.unwrap();
        let held: Vec<Tree> = listed.iter().map(|found| self.scene.store.tree(found.id).unwrap()).collect();
        for (path, node) in &before.0 {
            let has = |tree: &Tree| tree.0.get(path) == Some(node);
            assert!(*node == Node::Directory || has(&now) || held.iter().any(has), "{path} is lost");
        }
    }

    /// The workspace is what it was, or a version.
    async fn assert_whole(&self, before: &Tree) {
        let now = self.seen();
        let listed = self.scene.store.list().await.unwrap();
        let is_version = |id| is_at(&now, &self.scene.store.tree(id).unwrap()).is_ok();
        assert!(
            now == *before || listed.iter().any(|found| is_version(found.id)),
            "the workspace is between two versions: {now:?}"
        );
    }

    fn assert_is_at(&self, report: &RollbackReport) {
        assert!(!self.condemned.lock().unwrap().contains(&report.restored), "it is condemned");
        let wanted = self.scene.store.tree(report.restored).unwrap();
        is_at(&self.scene.tree(), &wanted).unwrap_or_else(|path| panic!("{path} is not that of the version"));
    }

    /// The history has one record for each rollback that came as far as being on record.
    async fn assert_history(&self) {
        let history = self.manager().history().await.unwrap();
        let sequences: Vec<u64> = history.iter().map(|record| record.sequence).collect();
        assert_eq!(sequences, (1..=history.len() as u64).collect::<Vec<u64>>());
        assert!(history.len() <= self.calls, "{} records of {} rollbacks", history.len(), self.calls);
        let counts = self.manager().statistics().await.unwrap();
        let parts = [counts.auto_rollbacks, counts.manual_rollbacks, counts.recovery_rollbacks];
        assert_eq!(
            (counts.total_rollbacks, parts.iter().sum()),
            (history.len() as u64, history.len() as u64)
        );
    }
}

/// Whether a workspace is at a version: all of that is there, and whatever else is there the version ignores.
fn is_at(workspace: &Tree, version: &Tree) -> Result<(), EntryPath> {
    let rules = match version.0.get(&EntryPath::new(".gitignore").unwrap()) {
        Some(Node::File { bytes, .. }) => String::from_utf8(bytes.clone()).unwrap(),
        _ => String::new(),
    };
    let is_ignored =
        |path: &EntryPath| path.components().any(|name| rules.lines().any(|line| line.as_bytes() == name));
    let is_full = |path: &EntryPath| workspace.0.keys().any(|other| other.parent().as_ref() == Some(path));
    let missing = version.0.iter().find(|(path, node)| workspace.0.get(path) != Some(node));
    let surplus = workspace.0.iter().find(|(path, node)| {
        let may_stay = is_ignored(path) || **node == Node::Directory && is_full(path);
        !version.0.contains_key(path) && !may_stay
    });
    missing.or(surplus).map_or(Ok(()), |(path, _)| Err(path.clone()))
}

fn assert_same(now: &Tree, before: &Tree, context: &str) {
    for path in now.0.keys().chain(before.0.keys()) {
        assert_eq!(now.0.get(path), before.0.get(path), "{path} is not as it was: {context}");
    }
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future);
}

fn whatever_happens(mode: RollbackMode, events: &[Event]) {
    run(async {
        let mut world = World::new(mode);
        for event in events {
            world.happen(event).await;
        }
        world.assert_history().await;
    });
}

/// Found by the property below: the version that the workspace was at has rotted, and somebody has edited after the crash.
#[test]
fn a_fallback_without_a_way_back_claims_no_more_than_it_did() {
    let write = |path: &str| Edit::Write(path.to_owned(), Vec::new());
    for mode in MODES {
        for at in 0..40 {
            let course = Course {
                goal: Goal::Version(1),
                fault: Some((at, Fault::Crash)),
                edits: vec![write("c/c")],
                again: None,
            };
            let events = [
                Event::Accept(vec![write("b")]),
                Event::Accept(vec![write("c/b"), Edit::Ignore(vec!["b"])]),
                Event::Damage(1),
                Event::RollBack(course),
            ];
            whatever_happens(mode, &events);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn in_place_nothing_is_lost_and_every_answer_is_true(events in vec(event(), 1..12)) {
        whatever_happens(RollbackMode::InPlace, &events);
    }

    #[test]
    fn by_exchange_nothing_is_lost_and_every_answer_is_true(events in vec(event(), 1..12)) {
        whatever_happens(RollbackMode::Exchange, &events);
    }

    #[test]
    fn a_rollback_gives_exactly_the_checkpoint_and_saves_the_rest(
        start in vec(edit(), 0..30),
        edits in vec(edit(), 0..30),
        by_exchange in any::<bool>(),
    ) {
        run(async {
            let mode = if by_exchange { RollbackMode::Exchange } else { RollbackMode::InPlace };
            let scene = Scene { mode, ..Scene::new() };
            let apply_all = |edits: &[Edit]| {
                // Without anything ignored, the whole tree is the version.
                for edit in edits.iter().filter(|edit| !matches!(edit, Edit::Ignore(_))) {
                    apply(&scene.workspace(), edit);
                }
            };
            apply_all(&start);
            let (wanted, checkpoint) = (scene.tree(), scene.checkpoint("v1", None).await);
            apply_all(&edits);
            let edited = scene.tree();

            let report = scene.manager().roll_back(to_id(checkpoint.id)).await.unwrap();
            assert_eq!(scene.tree(), wanted);
            assert_eq!(report.saved.is_some(), edited != wanted);
            assert_eq!(report.changes.is_empty(), edited == wanted);
            if let Some(saved) = report.saved {
                assert_eq!(scene.store.tree(saved).unwrap(), edited);
                scene.manager().roll_back(to(Target::Undo)).await.unwrap();
                assert_eq!(scene.tree(), edited);
            }
        });
    }
}
