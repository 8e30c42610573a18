//! What every [`CheckpointStore`] must do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;

use evoseal_types::{
    ChangeKind, CheckpointId, Digest, Direction, EntryPath, MetricSamples, MetricSpec, TestReport, VersionId,
};

use super::StoreFixture;
use super::workspace::{Workspace, look};
use crate::{
    Checkpoint, CheckpointStore, CheckpointStoreExt, Entry, EntryKind, Error, NewCheckpoint, RestoreMode,
    Source,
};

/// One case by name.
pub type Case = (&'static str, fn(&StoreFixture));

/// All cases of the suite.
pub const CASES: &[Case] = &[
    (
        "a_durable_checkpoint_is_listed_and_survives_reopening",
        a_durable_checkpoint_is_listed_and_survives_reopening,
    ),
    ("details_are_kept_word_for_word", details_are_kept_word_for_word),
    ("equal_trees_have_equal_digests_and_others_do_not", equal_trees_have_equal_digests_and_others_do_not),
    ("entries_are_sorted_and_complete", entries_are_sorted_and_complete),
    ("a_file_is_read_back_byte_for_byte", a_file_is_read_back_byte_for_byte),
    ("unknown_ids_are_not_found", unknown_ids_are_not_found),
    ("listings_are_in_order_of_creation", listings_are_in_order_of_creation),
    (
        "restoring_into_an_empty_directory_gives_the_tree_back",
        restoring_into_an_empty_directory_gives_the_tree_back,
    ),
    (
        "restoring_into_a_directory_with_something_in_it_is_refused",
        restoring_into_a_directory_with_something_in_it_is_refused,
    ),
    ("an_in_place_restore_touches_only_what_differs", an_in_place_restore_touches_only_what_differs),
    ("ignored_entries_and_git_folders_survive_a_restore", ignored_entries_and_git_folders_survive_a_restore),
    (
        "a_plan_changes_nothing_and_says_what_a_restore_does",
        a_plan_changes_nothing_and_says_what_a_restore_does,
    ),
    ("a_symlink_in_the_target_is_never_followed", a_symlink_in_the_target_is_never_followed),
    (
        "the_digest_of_a_workspace_is_that_of_its_checkpoint",
        the_digest_of_a_workspace_is_that_of_its_checkpoint,
    ),
    (
        "a_deleted_checkpoint_is_gone_and_the_others_are_whole",
        a_deleted_checkpoint_is_gone_and_the_others_are_whole,
    ),
    ("one_wrong_id_refuses_a_whole_deletion", one_wrong_id_refuses_a_whole_deletion),
    ("a_pinned_checkpoint_cannot_be_deleted", a_pinned_checkpoint_cannot_be_deleted),
    ("an_undamaged_store_verifies", an_undamaged_store_verifies),
    ("statistics_count_what_is_there", statistics_count_what_is_there),
    ("a_source_that_is_missing_leaves_no_trace", a_source_that_is_missing_leaves_no_trace),
    ("checkpoints_made_at_the_same_time_are_all_kept", checkpoints_made_at_the_same_time_are_all_kept),
];

const WORKS: &str = "the call must succeed";

/// Cases are synchronous: they bring the runtime that a store may need.
fn run<T>(case: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(case)
}

async fn save(store: &dyn CheckpointStore, source: Source, version: &str) -> Checkpoint {
    let version = VersionId::new(version).expect("a valid version id");
    let handle = store.create(source, NewCheckpoint::of(version)).await.expect("capture must succeed");
    handle.durable().await.expect("the checkpoint must become durable")
}

async fn save_directory(store: &dyn CheckpointStore, workspace: &Workspace, version: &str) -> Checkpoint {
    save(store, Source::Directory(workspace.path.clone()), version).await
}

fn entries_of(files: &[(&str, &str)]) -> Source {
    let path = |text: &str| EntryPath::new(text).expect("a valid path");
    Source::Entries(files.iter().map(|(name, text)| (path(name), text.as_bytes().to_vec())).collect())
}

/// Visible after durability, here and for whoever opens the store next.
pub fn a_durable_checkpoint_is_listed_and_survives_reopening(fixture: &StoreFixture) {
    run(async {
        assert_eq!(fixture.store.list().await.expect(WORKS), []);
        let workspace = Workspace::sample();
        let first = save_directory(&*fixture.store, &workspace, "v1").await;
        let second = save(&*fixture.store, entries_of(&[("a", "x")]), "v2").await;
        for store in [&fixture.store, &fixture.reopened()] {
            assert_eq!(store.list().await.expect(WORKS), [first.clone(), second.clone()]);
            assert_eq!(store.load(first.id).await.expect(WORKS), first);
        }
    });
}

/// Nothing that the caller says is lost or changed.
pub fn details_are_kept_word_for_word(fixture: &StoreFixture) {
    run(async {
        let parent = save(&*fixture.store, entries_of(&[("a", "1")]), "v1").await;
        let spec = MetricSpec::new("latency", "ms", Direction::Increase).expect("a valid metric");
        let mut report = TestReport::from_counts("unit_tests", 9, 1, 0, 2);
        report.message = Some("one failed".to_owned());
        let details = NewCheckpoint {
            parent: Some(parent.id),
            test_results: vec![report, TestReport::from_counts("lint", 1, 0, 0, 0)],
            metrics: vec![MetricSamples::independent(spec, &[1.5, f64::INFINITY, -0.0])],
            configuration: BTreeMap::from([("seed".to_owned(), "7 ü\n".to_owned())]),
            system_state: BTreeMap::from([("kernel".to_owned(), String::new())]),
            note: "x".repeat(10_000),
            ..NewCheckpoint::of(VersionId::new("feature/metadata.json").expect("valid"))
        };
        let handle = fixture.store.create(entries_of(&[("metadata.json", "{}")]), details.clone()).await;
        let made = handle.expect(WORKS).durable().await.expect(WORKS);
        let read = fixture.reopened().load(made.id).await.expect(WORKS);
        assert_eq!(read.details, details);
        assert_eq!(read, made);
    });
}

/// `tree` is equal exactly when the trees are.
pub fn equal_trees_have_equal_digests_and_others_do_not(fixture: &StoreFixture) {
    run(async {
        let store = &*fixture.store;
        let one = save(store, entries_of(&[("a", "bc"), ("d/e", "")]), "v1").await;
        let workspace = Workspace::empty();
        workspace.write("a", b"bc");
        workspace.write("d/e", b"");
        assert_eq!(
            save_directory(store, &workspace, "v2").await.tree,
            one.tree,
            "the same tree from a directory"
        );
        let mut seen = BTreeSet::from([one.tree]);
        for (number, other) in [
            entries_of(&[("ab", "c"), ("d/e", "")]),
            entries_of(&[("a", "b"), ("d/e", "c")]),
            entries_of(&[("a", "bc"), ("d.e", "")]),
            entries_of(&[("a", "bc")]),
        ]
        .into_iter()
        .enumerate()
        {
            let tree = save(store, other, "other").await.tree;
            assert!(seen.insert(tree), "tree {number} is another one");
        }
        workspace.set_executable("a", true);
        assert!(
            seen.insert(save_directory(store, &workspace, "mode").await.tree),
            "the executable bit counts"
        );
        fs::create_dir(workspace.at("empty")).expect(WORKS);
        assert!(seen.insert(save_directory(store, &workspace, "empty").await.tree), "an empty folder counts");
        fs::remove_file(workspace.at("a")).expect(WORKS);
        symlink("bc", workspace.at("a")).expect(WORKS);
        assert!(
            seen.insert(save_directory(store, &workspace, "kind").await.tree),
            "the kind of an entry counts"
        );
    });
}

/// `entries` lists everything, folders too, by path.
pub fn entries_are_sorted_and_complete(fixture: &StoreFixture) {
    run(async {
        let workspace = Workspace::sample();
        let made = save_directory(&*fixture.store, &workspace, "v1").await;
        let entries = fixture.store.entries(made.id).await.expect(WORKS);
        let paths: Vec<String> = entries.iter().map(|entry| entry.path.to_string()).collect();
        let expected = [
            "README",
            "dangling",
            "empty",
            "link",
            "odd\\x0aname",
            "run.sh",
            "src",
            "src.old",
            "src/deep",
            "src/deep/er",
            "src/deep/er/x.bin",
            "src/main.rs",
        ];
        assert_eq!(paths, expected);
        let kind = |path: &str| -> &EntryKind {
            let place = paths.iter().position(|other| other == path).expect("it is listed");
            let Entry { kind, .. } = &entries[place];
            kind
        };
        let file = |bytes: &[u8], mode| EntryKind::File {
            size_bytes: bytes.len() as u64,
            digest: Digest::of(bytes),
            mode,
        };
        assert_eq!(*kind("run.sh"), file(b"#!/bin/sh\n", 0o755));
        assert_eq!(*kind("README"), file(b"read me\n", 0o644));
        assert_eq!(*kind("dangling"), EntryKind::Symlink { target: b"/nowhere/at/all".to_vec() });
        assert_eq!(*kind("empty"), EntryKind::Directory { mode: 0o755 });
        let size: usize = [8, 13, 4, 34, 0, 10].iter().sum();
        assert_eq!((made.file_count, made.size_bytes), (6, size as u64));
    });
}

/// `read_file` answers the captured bytes, small and large.
pub fn a_file_is_read_back_byte_for_byte(fixture: &StoreFixture) {
    run(async {
        let workspace = Workspace::sample();
        let large: Vec<u8> =
            (0..3_000_000_u64).flat_map(|number| (number * number).to_le_bytes()).take(3_000_000).collect();
        workspace.write("large", &large);
        let made = save_directory(&*fixture.store, &workspace, "v1").await;
        let read =
            async |path: &str| fixture.store.read_file(made.id, &EntryPath::new(path).expect("valid")).await;
        assert_eq!(read("README").await.expect(WORKS), b"read me\n");
        assert_eq!(read("odd\nname").await.expect(WORKS), b"");
        assert!(read("large").await.expect(WORKS) == large, "a large file must come back whole");
        assert!(matches!(read("missing").await, Err(Error::NotFound { .. })));
        for path in ["src", "link"] {
            assert!(matches!(read(path).await, Err(Error::Invalid { .. })), "{path} is no regular file");
        }
    });
}

/// Every method names an id that it does not know.
pub fn unknown_ids_are_not_found(fixture: &StoreFixture) {
    run(async {
        save(&*fixture.store, entries_of(&[("a", "1")]), "v1").await;
        let id = CheckpointId::new(Digest::of(b"no checkpoint"));
        let store = &*fixture.store;
        let target = Workspace::empty();
        assert!(matches!(store.load(id).await, Err(Error::NotFound { .. })));
        assert!(matches!(store.entries(id).await, Err(Error::NotFound { .. })));
        assert!(matches!(store.pin(id, Some("x")).await, Err(Error::NotFound { .. })));
        assert!(matches!(store.delete(&[id]).await, Err(Error::NotFound { .. })));
        assert!(matches!(store.verify(&[id]).await, Err(Error::NotFound { .. })));
        let restored = store.restore(id, &target.path, RestoreMode::Empty).await;
        assert!(matches!(restored, Err(Error::NotFound { .. })), "{restored:?}");
    });
}

/// The newest comes last; several may bear one version id, and the newest is meant by it.
pub fn listings_are_in_order_of_creation(fixture: &StoreFixture) {
    run(async {
        let mut expected = Vec::new();
        for number in 0..5 {
            let text = number.to_string();
            expected.push(save(&*fixture.store, entries_of(&[("a", &text)]), "same").await.id);
        }
        let listed = fixture.store.list().await.expect(WORKS);
        assert_eq!(listed.iter().map(|checkpoint| checkpoint.id).collect::<Vec<_>>(), expected);
        let found = fixture.store.find_version(&VersionId::new("same").expect("valid")).await.expect(WORKS);
        assert_eq!(Some(&found.id), expected.last());
    });
}

/// Contents, executable bits, symlinks and empty folders come back.
pub fn restoring_into_an_empty_directory_gives_the_tree_back(fixture: &StoreFixture) {
    run(async {
        let workspace = Workspace::sample();
        workspace.write("large", &vec![7; 3 << 20]);
        let made = save_directory(&*fixture.store, &workspace, "v1").await;
        let place = Workspace::empty();
        for target in [place.path.clone(), place.at("not/yet/there")] {
            let report = fixture.store.restore(made.id, &target, RestoreMode::Empty).await.expect(WORKS);
            assert_eq!(look(&target), look(&workspace.path));
            assert_eq!((report.tree, report.unchanged), (made.tree, 0));
            assert!(report.changes.iter().all(|change| change.kind == ChangeKind::Added));
            fs::remove_dir_all(&target).expect(WORKS);
        }
    });
}

/// `Empty` means empty.
pub fn restoring_into_a_directory_with_something_in_it_is_refused(fixture: &StoreFixture) {
    run(async {
        let made = save(&*fixture.store, entries_of(&[("a", "1")]), "v1").await;
        let target = Workspace::empty();
        target.write("mine", b"precious");
        let refused = fixture.store.restore(made.id, &target.path, RestoreMode::Empty).await;
        assert!(matches!(refused, Err(Error::NotEmpty { .. })), "{refused:?}");
        assert_eq!(look(&target.path).len(), 1, "nothing may be added");
        assert_eq!(target.read("mine"), b"precious");
    });
}

/// Unchanged files keep their times; everything else becomes what it was, whatever stands there now.
pub fn an_in_place_restore_touches_only_what_differs(fixture: &StoreFixture) {
    run(async {
        let workspace = Workspace::sample();
        let before = look(&workspace.path);
        let made = save_directory(&*fixture.store, &workspace, "v1").await;
        let modified =
            |path: &str| fs::symlink_metadata(workspace.at(path)).expect(WORKS).modified().expect(WORKS);
        let untouched = [modified("README"), modified("src/deep/er/x.bin"), modified("link")];
        workspace.write("src/main.rs", b"broken");
        workspace.set_executable("run.sh", false);
        workspace.write("new/file", b"appeared");
        fs::remove_dir(workspace.at("empty")).expect(WORKS);
        workspace.write("empty", b"a file where a folder was");
        fs::remove_file(workspace.at("dangling")).expect(WORKS);
        workspace.write("dangling/x", b"a folder where a symlink was");
        fs::remove_file(workspace.at("src.old")).expect(WORKS);
        let report =
            fixture.store.restore(made.id, &workspace.path, RestoreMode::InPlace).await.expect(WORKS);
        assert_eq!(look(&workspace.path), before);
        assert_eq!([modified("README"), modified("src/deep/er/x.bin"), modified("link")], untouched);
        let changes: Vec<(String, ChangeKind)> =
            report.changes.iter().map(|change| (change.path.to_string(), change.kind)).collect();
        let expected = [
            ("dangling", ChangeKind::KindChanged),
            ("dangling/x", ChangeKind::Removed),
            ("empty", ChangeKind::KindChanged),
            ("new", ChangeKind::Removed),
            ("new/file", ChangeKind::Removed),
            ("run.sh", ChangeKind::ModeChanged),
            ("src.old", ChangeKind::Added),
            ("src/main.rs", ChangeKind::Modified),
        ];
        assert_eq!(changes, expected.map(|(path, kind)| (path.to_owned(), kind)));
        assert_eq!((report.tree, report.unchanged), (made.tree, 7));
        let again = fixture.store.restore(made.id, &workspace.path, RestoreMode::InPlace).await.expect(WORKS);
        assert_eq!((again.changes.len(), again.unchanged), (0, 12));
    });
}

/// What is not captured is not removed either.
pub fn ignored_entries_and_git_folders_survive_a_restore(fixture: &StoreFixture) {
    run(async {
        let workspace = Workspace::empty();
        workspace.write(".gitignore", b"*.log\n/target/\n");
        workspace.write(".evosealignore", b"!keep.log\n");
        workspace.write("keep.log", b"1");
        workspace.write("a.txt", b"1");
        let made = save_directory(&*fixture.store, &workspace, "v1").await;
        let names: Vec<String> = fixture
            .store
            .entries(made.id)
            .await
            .expect(WORKS)
            .iter()
            .map(|entry| entry.path.to_string())
            .collect();
        assert_eq!(names, [".evosealignore", ".gitignore", "a.txt", "keep.log"]);
        for kept in
            [".git/config", "sub/.git/config", ".evoseal/store", "target/x", "b.log", "made/by/test.log"]
        {
            workspace.write(kept, b"kept");
        }
        workspace.write("keep.log", b"2");
        workspace.write("sub/appeared", b"x");
        // A candidate that hides what it plants by a rule of its own gains nothing by it.
        workspace.write(".gitignore", b"*\n");
        workspace.write("planted", b"x");
        fixture.store.restore(made.id, &workspace.path, RestoreMode::InPlace).await.expect(WORKS);
        for kept in
            [".git/config", "sub/.git/config", ".evoseal/store", "target/x", "b.log", "made/by/test.log"]
        {
            assert_eq!(workspace.read(kept), b"kept", "{kept}");
        }
        assert_eq!(workspace.read("keep.log"), b"1");
        assert!(!workspace.at("sub/appeared").exists() && !workspace.at("planted").exists());
        assert_eq!(fixture.store.tree_digest(&workspace.path).await.expect(WORKS), made.tree);
    });
}

/// A plan is what the restore reports.
pub fn a_plan_changes_nothing_and_says_what_a_restore_does(fixture: &StoreFixture) {
    run(async {
        let workspace = Workspace::sample();
        let made = save_directory(&*fixture.store, &workspace, "v1").await;
        workspace.write("src/main.rs", b"changed");
        workspace.write("appeared", b"x");
        let before = look(&workspace.path);
        let plan =
            fixture.store.plan_restore(made.id, &workspace.path, RestoreMode::InPlace).await.expect(WORKS);
        assert_eq!(look(&workspace.path), before, "a plan must not change anything");
        let done = fixture.store.restore(made.id, &workspace.path, RestoreMode::InPlace).await.expect(WORKS);
        assert_eq!(plan, done);
        let missing = workspace.at("missing");
        let plan = fixture.store.plan_restore(made.id, &missing, RestoreMode::Empty).await.expect(WORKS);
        assert_eq!((plan.changes.len(), missing.exists()), (12, false));
    });
}

/// Neither a symlink to a folder nor one to a file leads a restore out of its target.
pub fn a_symlink_in_the_target_is_never_followed(fixture: &StoreFixture) {
    run(async {
        let workspace = Workspace::sample();
        let before = look(&workspace.path);
        let made = save_directory(&*fixture.store, &workspace, "v1").await;
        let outside = Workspace::empty();
        outside.write("main.rs", b"precious");
        outside.write("deep/er/x.bin", b"precious");
        outside.write("README", b"precious");
        let seen = look(&outside.path);
        fs::remove_dir_all(workspace.at("src")).expect(WORKS);
        symlink(&outside.path, workspace.at("src")).expect(WORKS);
        fs::remove_file(workspace.at("README")).expect(WORKS);
        symlink(outside.at("README"), workspace.at("README")).expect(WORKS);
        symlink(&outside.path, workspace.at("planted")).expect(WORKS);
        fixture.store.restore(made.id, &workspace.path, RestoreMode::InPlace).await.expect(WORKS);
        assert_eq!(look(&outside.path), seen, "nothing outside may change");
        assert_eq!(look(&workspace.path), before);
    });
}

/// `tree_digest` and `create` go by the same rules.
pub fn the_digest_of_a_workspace_is_that_of_its_checkpoint(fixture: &StoreFixture) {
    run(async {
        let workspace = Workspace::sample();
        let digest = fixture.store.tree_digest(&workspace.path).await.expect(WORKS);
        let made = save_directory(&*fixture.store, &workspace, "v1").await;
        assert_eq!(made.tree, digest);
        workspace.write("README", b"READ ME\n");
        assert_ne!(
            fixture.store.tree_digest(&workspace.path).await.expect(WORKS),
            digest,
            "same size, other bytes"
        );
    });
}

/// Shared content stays as long as anyone needs it.
pub fn a_deleted_checkpoint_is_gone_and_the_others_are_whole(fixture: &StoreFixture) {
    run(async {
        let store = &*fixture.store;
        let first = save(store, entries_of(&[("a", "shared"), ("b", "only in the first")]), "v1").await;
        let second = save(store, entries_of(&[("a", "shared"), ("c", "only in the second")]), "v2").await;
        let third = save(store, entries_of(&[("a", "shared"), ("b", "only in the first")]), "v3").await;
        let report = store.delete(&[first.id]).await.expect(WORKS);
        assert_eq!(report.checkpoints, [first.id]);
        let store = fixture.reopened();
        let left: Vec<CheckpointId> =
            store.list().await.expect(WORKS).iter().map(|checkpoint| checkpoint.id).collect();
        assert_eq!(left, [second.id, third.id]);
        assert!(matches!(store.load(first.id).await, Err(Error::NotFound { .. })));
        assert_eq!(store.verify(&[]).await.expect(WORKS).damage, []);
        let path = EntryPath::new("b").expect("valid");
        assert_eq!(store.read_file(third.id, &path).await.expect(WORKS), b"only in the first");
        store.delete(&[second.id, third.id]).await.expect(WORKS);
        assert_eq!(store.list().await.expect(WORKS), []);
    });
}

/// Deletion is all or nothing.
pub fn one_wrong_id_refuses_a_whole_deletion(fixture: &StoreFixture) {
    run(async {
        let store = &*fixture.store;
        let good = save(store, entries_of(&[("a", "1")]), "v1").await;
        let wrong = CheckpointId::new(Digest::of(b"no checkpoint"));
        assert!(matches!(store.delete(&[good.id, wrong]).await, Err(Error::NotFound { .. })));
        assert_eq!(store.list().await.expect(WORKS).len(), 1);
    });
}

/// A pin holds until it is taken back, also for whoever opens the store next.
pub fn a_pinned_checkpoint_cannot_be_deleted(fixture: &StoreFixture) {
    run(async {
        let store = &*fixture.store;
        let pinned = save(store, entries_of(&[("a", "1")]), "v1").await;
        let other = save(store, entries_of(&[("a", "2")]), "v2").await;
        store.pin(pinned.id, Some("release")).await.expect(WORKS);
        let store = fixture.reopened();
        let refused = store.delete(&[other.id, pinned.id]).await;
        assert!(matches!(&refused, Err(Error::Pinned { reason, .. }) if reason == "release"), "{refused:?}");
        let listed = store.list().await.expect(WORKS);
        assert_eq!(listed.len(), 2, "the whole call is refused");
        assert_eq!(listed[0].pinned.as_deref(), Some("release"));
        assert_eq!(listed[0].id, pinned.id, "a pin is not covered by the id");
        store.pin(pinned.id, None).await.expect(WORKS);
        store.delete(&[pinned.id]).await.expect(WORKS);
        assert_eq!(store.list().await.expect(WORKS).len(), 1);
    });
}

/// Verification reads everything and finds nothing.
pub fn an_undamaged_store_verifies(fixture: &StoreFixture) {
    run(async {
        let workspace = Workspace::sample();
        let first = save_directory(&*fixture.store, &workspace, "v1").await;
        workspace.write("README", b"other");
        save_directory(&*fixture.store, &workspace, "v2").await;
        let all = fixture.store.verify(&[]).await.expect(WORKS);
        assert_eq!((all.damage, all.checkpoints_checked), (Vec::new(), 2));
        assert!(all.objects_checked > 0 && all.bytes_checked > 0);
        let one = fixture.store.verify(&[first.id]).await.expect(WORKS);
        assert_eq!((one.damage, one.checkpoints_checked), (Vec::new(), 1));
    });
}

/// Counts agree with the listing.
pub fn statistics_count_what_is_there(fixture: &StoreFixture) {
    run(async {
        let store = &*fixture.store;
        let empty = store.statistics().await.expect(WORKS);
        assert_eq!(
            (empty.total_checkpoints, empty.reduction_ratio, empty.oldest_checkpoint),
            (0, None, None)
        );
        let text = "0123456789".repeat(1000);
        let first = save(store, entries_of(&[("a", &text)]), "v1").await;
        let second = save(store, entries_of(&[("a", &text), ("b", "1")]), "v2").await;
        store.pin(first.id, Some("release")).await.expect(WORKS);
        let full = store.statistics().await.expect(WORKS);
        assert_eq!(
            (full.total_checkpoints, full.pinned_checkpoints, full.logical_size_bytes),
            (2, 1, 20_001)
        );
        assert_eq!(full.oldest_checkpoint, Some(first.created_at.min(second.created_at)));
        assert_eq!(full.newest_checkpoint, Some(first.created_at.max(second.created_at)));
        assert!(full.total_size_bytes > 0 && full.reduction_ratio.is_some());
    });
}

/// A failed `create` is as if it had not been called.
pub fn a_source_that_is_missing_leaves_no_trace(fixture: &StoreFixture) {
    run(async {
        let place = Workspace::empty();
        let details = NewCheckpoint::of(VersionId::new("v1").expect("valid"));
        let failed = fixture.store.create(Source::Directory(place.at("missing")), details).await;
        assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
        assert_eq!(fixture.store.list().await.expect(WORKS), []);
    });
}

/// Writers at the same time, through two openings of one store, lose nothing of each other.
pub fn checkpoints_made_at_the_same_time_are_all_kept(fixture: &StoreFixture) {
    run(async {
        let mut expected = BTreeSet::new();
        let stores = [std::sync::Arc::clone(&fixture.store), fixture.reopened()];
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..12 {
            let store = std::sync::Arc::clone(&stores[number % 2]);
            tasks.spawn(async move {
                let text = format!("content {}", number / 3);
                save(&*store, entries_of(&[("a", &text)]), &format!("v{number}")).await.id
            });
        }
        while let Some(id) = tasks.join_next().await {
            expected.insert(id.expect("no task may panic"));
        }
        for store in stores {
            let listed = store.list().await.expect(WORKS);
            let ids: BTreeSet<CheckpointId> = listed.iter().map(|checkpoint| checkpoint.id).collect();
            assert_eq!((listed.len(), ids), (12, expected.clone()));
            assert_eq!(store.verify(&[]).await.expect(WORKS).damage, []);
        }
    });
}
