//! A rollback that builds the target beside the workspace and lets the two change places.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{to, to_id, version};
use evoseal_checkpoint::{CheckpointManager, CheckpointStore, NewCheckpoint, Source};
use evoseal_rollback::{
    Error, FunctionVerifier, Rollback, RollbackManager, RollbackMode, RollbackReport, RollbackSettings,
    Target, bring_state_home,
};
use evoseal_testkit::{Crash, Fault, Faults};
use evoseal_types::{CheckpointId, SystemClock};
use tempfile::TempDir;

/// A project with its store and its state in `.evoseal`, two known versions, and at present a third state.
struct Project {
    folder: TempDir,
    ids: Vec<CheckpointId>,
}

/// Paths, as one who opens them sees them, with their content.
type Seen = BTreeMap<String, String>;

const IGNORED: [&str; 5] =
    [".env", ".git/HEAD", "cache/deep/file", "old only/kept.log", "src/inner/cache/file"];

impl Project {
    async fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap(), ids: Vec::new() };
        fs::create_dir(project.root()).unwrap();
        project.write(".gitignore", ".env\ncache/\n*.log\n");
        project.write("code", "first");
        project.write("same", "always");
        project.write("src/inner/lib", "first");
        project.write("first only/file", "first");
        symlink("code", project.root().join("link")).unwrap();
        let mut ids = vec![project.checkpoint("v1").await];
        project.write("code", "second");
        fs::remove_dir_all(project.root().join("first only")).unwrap();
        project.write("old only/file", "second");
        ids.push(project.checkpoint("v2").await);
        project.write("code", "by hand");
        for path in IGNORED {
            project.write(path, path);
        }
        Self { ids, ..project }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("workspace")
    }

    fn state(&self) -> PathBuf {
        self.root().join(".evoseal/rollback")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn store(&self) -> Arc<dyn CheckpointStore> {
        let directory = self.root().join(".evoseal/checkpoints");
        let clock = Arc::new(SystemClock::new());
        Arc::new(CheckpointManager::builder().directory(directory).clock(clock).open_or_create().unwrap())
    }

    async fn checkpoint(&self, name: &str) -> CheckpointId {
        let source = Source::Directory(self.root());
        let handle = self.store().create(source, NewCheckpoint::of(version(name))).await.unwrap();
        handle.durable().await.unwrap().id
    }

    /// As every program opens it.
    fn manager(&self, faults: &Faults) -> RollbackManager {
        bring_state_home(&self.root(), &self.state()).unwrap();
        self.builder(faults).build().unwrap()
    }

    fn builder(&self, faults: &Faults) -> evoseal_rollback::RollbackManagerBuilder {
        let (faults, clock) = (faults.clone(), Arc::new(SystemClock::new()));
        RollbackManager::builder(self.store(), self.root(), self.state(), clock)
            .settings(RollbackSettings { mode: RollbackMode::Exchange, ..RollbackSettings::default() })
            .store_directory(self.root().join(".evoseal/checkpoints"))
            .before_file_operation(move |name| faults.step(name))
    }

    /// What a person sees who opens every path, behind stand-ins too, without what is evoseal's own.
    fn seen(&self) -> Seen {
        let mut seen = Seen::new();
        look(&self.root(), &self.root(), &mut seen);
        seen
    }

    fn beside(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name != "workspace").collect()
    }

    /// What `seen` gives once the workspace is at the first version.
    fn wanted(&self) -> Seen {
        let mut wanted = self.seen();
        wanted.remove("old only/file");
        let first = [("code", "first"), ("link", "first"), ("first only/file", "first")];
        wanted.extend(first.map(|(path, text)| (path.to_owned(), text.to_owned())));
        wanted
    }
}

fn look(root: &Path, folder: &Path, seen: &mut Seen) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path == root.join(".evoseal") {
            continue;
        }
        if fs::metadata(&path).unwrap().is_dir() {
            look(root, &path, seen);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            seen.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

async fn roll_back(manager: RollbackManager, id: CheckpointId) -> Option<Result<RollbackReport, Error>> {
    match tokio::spawn(async move { manager.roll_back(to_id(id)).await }).await {
        Ok(answer) => Some(answer),
        Err(error) => {
            assert!(error.into_panic().is::<Crash>(), "it died of something else");
            None
        }
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[tokio::test]
async fn the_roots_change_places_and_all_that_no_version_holds_comes_along() {
    let project = Project::new().await;
    let wanted = project.wanted();
    let stay = ["same", "src", ".env", ".git", "cache/deep", ".evoseal"];
    let before = stay.map(|path| inode(&project.root().join(path)));
    let (root, time) =
        (inode(&project.root()), fs::metadata(project.root().join("same")).unwrap().modified().unwrap());
    let report = project.manager(&Faults::default()).roll_back(to_id(project.ids[0])).await.unwrap();
    assert_eq!(project.seen(), wanted);
    assert_eq!((report.mode, report.restored), (RollbackMode::Exchange, project.ids[0]));
    assert!(report.saved.is_some(), "the work of a person is in a checkpoint");
    assert_ne!(inode(&project.root()), root);
    for (path, before) in stay.iter().zip(before) {
        // Folders of versions are made anew; files that did not change, and all that no version holds, are what they were.
        assert_eq!(inode(&project.root().join(path)) == before, *path != "src", "{path}");
    }
    assert_eq!(fs::metadata(project.root().join("same")).unwrap().modified().unwrap(), time);
    assert_eq!(project.beside(), [""; 0]);

    let undone = project.manager(&Faults::default()).roll_back(to(Target::Undo)).await.unwrap();
    assert_eq!(Some(undone.restored), report.saved);
    assert_eq!(project.seen()["code"], "by hand");
    assert_eq!(project.seen()["old only/file"], "second");
}

#[tokio::test]
async fn killed_anywhere_the_workspace_is_old_or_new_at_once_and_the_next_start_ends_it() {
    let counted = Project::new().await;
    let faults = Faults::default();
    let manager = counted.manager(&faults);
    faults.arm(usize::MAX, Fault::Once);
    roll_back(manager, counted.ids[0]).await.unwrap().unwrap();
    let steps = faults.steps();
    let exchanges = steps.iter().filter(|step| *step == "exchange").count();
    assert_eq!(exchanges, IGNORED.len() + 2, "each entry, our own folder, and the roots: {steps:?}");
    for fault in [Fault::Crash, Fault::Once] {
        let (mut lent, mut old_count, mut new_count) = (0, 0, 0);
        for (at, step) in steps.iter().enumerate() {
            let project = Project::new().await;
            let (old, new) = (project.seen(), project.wanted());
            let manager = project.manager(&faults);
            faults.arm(at, fault);
            let answer = roll_back(manager, project.ids[0]).await;
            faults.disarm();
            let context = format!("{fault:?} at {at}, {step}");
            let seen = project.seen();
            assert!(seen == old || seen == new, "{context}: {seen:?}");
            assert_eq!(answer.is_none(), fault == Fault::Crash, "{context}");
            if let Some(Ok(_)) = answer {
                assert_eq!(seen, new, "{context}");
            }
            lent += usize::from(fs::symlink_metadata(project.root().join(".env")).unwrap().is_symlink());
            let manager = project.manager(&faults);
            let _ = manager.recover().await;
            assert_eq!(project.beside(), [""; 0], "{context}");
            for path in IGNORED {
                let kind = fs::symlink_metadata(project.root().join(path)).unwrap();
                assert!(kind.is_file(), "{context}: {path} is lent");
            }
            let seen = project.seen();
            assert!(seen == old || seen == new, "{context}, recovered: {seen:?}");
            *(if seen == old { &mut old_count } else { &mut new_count }) += 1;
            assert_eq!(manager.recover().await.unwrap().map(|report| report.restored), None, "{context}");
        }
        assert!(old_count > 0 && new_count > 0, "{fault:?}");
        assert!(
            fault == Fault::Once || lent > IGNORED.len() - 1,
            "few were cut off while something was lent"
        );
    }
}

#[tokio::test]
async fn an_unfit_version_changes_places_back_and_an_older_one_takes_its_place() {
    let project = Project::new().await;
    let newest = project.checkpoint("v3").await;
    project.write("code", "broken");
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let looked = Arc::clone(&seen);
    let verifier = FunctionVerifier::new("first only", move |workspace: PathBuf, _| {
        let code = fs::read_to_string(workspace.join("code")).unwrap();
        // What a check leaves behind that is ignored is not lost with the version it looked at.
        fs::write(workspace.join("checked.log"), &code).unwrap();
        let is_fit = code == "first";
        looked.lock().unwrap().push(code);
        async move { Ok(if is_fit { Ok(()) } else { Err("not the first".to_owned()) }) }
    });
    let manager = project.builder(&Faults::default()).verifier(Arc::new(verifier)).build().unwrap();
    for id in &project.ids {
        manager.mark_known_good(*id).await.unwrap();
    }
    let report = manager.roll_back(to_id(newest)).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["by hand", "second", "first"]);
    assert_eq!((report.restored, report.attempts.len()), (project.ids[0], 3));
    let why = report.attempts[0].error.as_ref().unwrap();
    assert!(why.contains("not the first"), "{why}");
    let now = project.seen();
    assert_eq!((now["code"].as_str(), now["checked.log"].as_str()), ("first", "first"));
    assert!(IGNORED.iter().all(|path| now[*path] == **path));
    assert_eq!(project.beside(), [""; 0]);
}

#[tokio::test]
async fn where_every_version_is_unfit_the_workspace_is_as_it_was() {
    let project = Project::new().await;
    let before = project.seen();
    let never = FunctionVerifier::new("never", async |_, _| Ok(Err("never".to_owned())));
    let manager = project.builder(&Faults::default()).verifier(Arc::new(never)).build().unwrap();
    let error = manager.roll_back(to_id(project.ids[0])).await.unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{error}");
    assert_eq!((project.seen(), project.beside()), (before, Vec::new()));
}

#[tokio::test]
async fn a_file_that_appears_while_the_roots_change_places_is_in_the_workspace_afterwards() {
    let project = Project::new().await;
    let (root, done) = (project.root(), AtomicBool::new(false));
    let builder = RollbackManager::builder(
        project.store(),
        project.root(),
        project.state(),
        Arc::new(SystemClock::new()),
    );
    let manager = builder
        .settings(RollbackSettings { mode: RollbackMode::Exchange, ..RollbackSettings::default() })
        .before_file_operation(move |name| {
            // By then it is settled what goes over.
            if name == "exchange" && !done.swap(true, Ordering::Relaxed) {
                fs::write(root.join("late.log"), "late")?;
                fs::create_dir_all(root.join("cache-late/cache"))?;
                fs::write(root.join("cache-late/cache/file"), "late")?;
            }
            Ok(())
        })
        .build()
        .unwrap();
    manager.roll_back(to_id(project.ids[0])).await.unwrap();
    let seen = project.seen();
    assert_eq!((seen["late.log"].as_str(), seen["cache-late/cache/file"].as_str()), ("late", "late"));
    assert_eq!(seen["code"], "first");
}

#[tokio::test]
async fn what_cannot_be_removed_or_moved_refuses_the_exchange_and_nothing_changes() {
    let project = Project::new().await;
    // A folder that must give way to a file and holds something that could not be brought back.
    fs::remove_file(project.root().join("same")).unwrap();
    project.write("same/kept.log", "in no version");
    let before = project.seen();
    let error = project.manager(&Faults::default()).roll_back(to_id(project.ids[0])).await.unwrap_err();
    assert!(format!("{error}").contains("not empty"), "{error:?}");
    assert_eq!((project.seen(), project.beside()), (before, Vec::new()));
}

#[tokio::test]
async fn what_a_stranger_has_put_beside_the_workspace_is_set_aside_and_never_followed() {
    let project = Project::new().await;
    let beside = project.folder.path().join(".workspace.evoseal-exchange");
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("canary"), "alive").unwrap();
    symlink(outside.path(), &beside).unwrap();
    project.manager(&Faults::default()).roll_back(to_id(project.ids[0])).await.unwrap();
    assert_eq!(project.beside(), [".workspace.evoseal-exchange-1"]);
    assert_eq!(fs::read_to_string(outside.path().join("canary")).unwrap(), "alive");
    assert_eq!(project.seen()["code"], "first");
}

#[tokio::test]
async fn what_a_restore_that_was_cut_off_has_laid_aside_does_not_come_along() {
    let project = Project::new().await;
    project.write("src/.evoseal-restore-3", "half");
    project.write(".evoseal-restore-4/deep/file", "half");
    let manager = project.manager(&Faults::default());
    manager.roll_back(to_id(project.ids[0])).await.unwrap();
    assert!(!project.seen().keys().any(|path| path.contains("evoseal-restore")), "{:?}", project.seen());
    // Also where nothing else differs.
    project.write("src/.evoseal-restore-5", "half");
    manager.roll_back(to_id(project.ids[0])).await.unwrap();
    assert!(!project.seen().keys().any(|path| path.contains("evoseal-restore")), "{:?}", project.seen());
}

#[tokio::test]
async fn a_workspace_that_was_deleted_is_previewed_and_comes_back() {
    let mut project = Project::new().await;
    // Its state has to lie elsewhere then.
    let (store, state) = (project.folder.path().join("store"), project.folder.path().join("state"));
    let clock: Arc<dyn evoseal_types::Clock> = Arc::new(SystemClock::new());
    let manager =
        CheckpointManager::builder().directory(&store).clock(Arc::clone(&clock)).open_or_create().unwrap();
    let manager: Arc<dyn CheckpointStore> = Arc::new(manager);
    let source = Source::Directory(project.root());
    let handle = manager.create(source, NewCheckpoint::of(version("v1"))).await.unwrap();
    project.ids = vec![handle.durable().await.unwrap().id];
    let rollback = RollbackManager::builder(manager, project.root(), state, clock)
        .settings(RollbackSettings { mode: RollbackMode::Exchange, ..RollbackSettings::default() })
        .build()
        .unwrap();
    fs::remove_dir_all(project.root()).unwrap();
    let (_, plan) = rollback.preview(&Target::Checkpoint(project.ids[0])).await.unwrap();
    assert!(!plan.changes.is_empty());
    rollback.roll_back(to_id(project.ids[0])).await.unwrap();
    assert_eq!(project.seen()["code"], "by hand");
}

#[tokio::test]
async fn whoever_looks_meanwhile_sees_one_version_or_the_other_and_always_finds_what_no_version_holds() {
    let project = Project::new().await;
    let (root, stop) = (project.root(), Arc::new(AtomicBool::new(false)));
    let is_over = Arc::clone(&stop);
    let onlooker = std::thread::spawn(move || {
        let (mut seen, mut looks) = (BTreeMap::<String, usize>::new(), 0_usize);
        while !is_over.load(Ordering::Relaxed) {
            for name in ["code", ".env", "cache/deep/file"] {
                // A look that began in the old tree, just before it went, is made again by everyone.
                let look = || fs::read_to_string(root.join(name));
                let text = look().or_else(|_| look()).unwrap();
                *seen.entry(format!("{name}: {text}")).or_default() += 1;
                looks += 1;
            }
        }
        (seen, looks)
    });
    let manager = project.manager(&Faults::default());
    manager.roll_back(to_id(project.ids[0])).await.unwrap();
    for number in 0..20 {
        manager.roll_back(to_id(project.ids[number % 2])).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let (seen, looks) = onlooker.join().unwrap();
    let known =
        ["code: by hand", "code: first", "code: second", ".env: .env", "cache/deep/file: cache/deep/file"];
    assert!(looks > 100 && seen.keys().all(|text| known.contains(&text.as_str())), "{seen:?}");
    assert!(seen.contains_key("code: first") && seen.contains_key("code: second"), "{seen:?}");
}
