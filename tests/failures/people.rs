//! What people get wrong, and what they must not lose by it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use evoseal_checkpoint::{
    CheckpointManager, CheckpointManagerBuilder, CheckpointSettings, NewCheckpoint, Source,
};
use evoseal_tests::Project;
use evoseal_types::{ManualClock, Timestamp, VersionId};

/// A project with two accepted versions.
fn evolved() -> Project {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt");
    project.evoseal(&["run", "-n", "2"]).run().expect(0);
    project
}

#[test]
fn names_that_nothing_has_are_named_and_nothing_is_changed() {
    let project = evolved();
    let before = project.files();
    for (arguments, text) in [
        (&["show", "99"][..], "99"),
        (&["show", "nonsense"], "nonsense"),
        (&["rollback", "v77"], "v77"),
        (&["rollback", "deadbeef"], "deadbeef"),
        (&["checkpoint", "show", "v77"], "v77"),
        (&["checkpoint", "delete", "v77"], "v77"),
        (&["checkpoint", "pin", "v77"], "v77"),
        (&["diff", "v77"], "v77"),
        (&["metrics", "history", "no_such_metric"], "no_such_metric"),
        (&["metrics", "compare", "v1", "v77"], "v77"),
        (&["baseline", "set", "release", "v77"], "v77"),
    ] {
        project.evoseal(arguments).run().expect(2).says(&["error: ", text]);
    }
    assert_eq!(project.files(), before);
}

#[test]
fn the_beginning_of_an_id_must_have_one_meaning() {
    let project = evolved();
    let listed = project.evoseal(&["checkpoint", "list", "--json"]).run().expect(0).json();
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    project.evoseal(&["checkpoint", "show", &id[..12]]).run().expect(0);
    // Too short to mean anything, whatever ids there are.
    project.evoseal(&["checkpoint", "show", &id[..3]]).run().expect(2);

    let (first, second) = versions_with_ids_that_begin_alike();
    let store = CheckpointManager::builder().directory(project.path(".evoseal/checkpoints"));
    let ids: Vec<String> = [first, second].iter().map(|version| create(&store, version)).collect();
    assert_eq!(ids[0][..4], ids[1][..4]);
    project.evoseal(&["checkpoint", "show", &ids[0][..4]]).run().expect(2).says(&[
        "ambiguous",
        &ids[0][..8],
        &ids[1][..8],
        "hint: give more digits",
    ]);
    project.evoseal(&["checkpoint", "show", &ids[0][..12]]).run().expect(0);
}

/// Makes a checkpoint of nothing but a name, at a fixed time, so that its id is the same in every store.
fn create(store: &CheckpointManagerBuilder, version: &str) -> String {
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_unix_ns(0)));
    let settings = CheckpointSettings { auto_cleanup: false, ..CheckpointSettings::default() };
    let store = store.clone().settings(settings).clock(clock).open_or_create().unwrap();
    let details = NewCheckpoint::of(VersionId::new(version).unwrap());
    let (checkpoint, _) = store.create_blocking(&Source::Entries(BTreeMap::new()), details).unwrap();
    checkpoint.id.to_string()
}

/// Looks for two versions whose ids have the first four digits in common: of 300 numbers in a row two will do that with a
/// probability of one half, and of 2,000 with certainty as far as anyone can see.
fn versions_with_ids_that_begin_alike() -> (String, String) {
    let mut seen = BTreeMap::new();
    for number in 0..2_000 {
        let version = format!("x{number}");
        let id = create(&CheckpointManager::builder().in_memory(), &version);
        if let Some(first) = seen.insert(id[..4].to_owned(), version.clone()) {
            return (first, version);
        }
    }
    panic!("{} ids have nothing in common", seen.len());
}

#[test]
fn work_that_was_not_saved_survives_a_rollback() {
    let project = evolved();
    project.write("cost.txt", "hand made\n");
    project.write("draft.txt", "a draft\n");
    project.evoseal(&["rollback", "--reason", "try again"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "80\n");
    assert!(!project.path("draft.txt").exists());
    let listed = project.evoseal(&["checkpoint", "list", "--json"]).run().expect(0).json();
    let newest = listed.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    let draft = project.evoseal(&["checkpoint", "show", &newest, "--file", "draft.txt"]).run().expect(0);
    assert_eq!(draft.stdout, "a draft\n");
}

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let project = evolved();
    project.write("cost.txt", "hand made\n");
    let before = project.files();
    let count = |project: &Project| {
        project.evoseal(&["checkpoint", "list", "--json"]).run().expect(0).json().as_array().unwrap().len()
    };
    let checkpoints = count(&project);
    let plan = project.evoseal(&["rollback", "v1", "--dry-run"]).run().expect(0);
    assert!(plan.stdout.contains("cost.txt"), "{plan:?}");
    project.evoseal(&["gc", "--keep", "1", "--dry-run"]).run().expect(0);
    project.evoseal(&["checkpoint", "delete", "v1", "--dry-run"]).run().expect(0);
    assert_eq!((project.files(), count(&project)), (before, checkpoints));
}

#[test]
fn a_restore_never_overwrites_a_folder_that_holds_something() {
    let project = evolved();
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("precious"), "x").unwrap();
    let folder = target.path().to_str().unwrap();
    project
        .evoseal(&["checkpoint", "restore", "v1", folder])
        .run()
        .expect(2)
        .says(&["is not empty", "hint: "]);
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
    let fresh = target.path().join("fresh");
    project.evoseal(&["checkpoint", "restore", "v1", fresh.to_str().unwrap()]).run().expect(0);
    assert_eq!(fs::read_to_string(fresh.join("cost.txt")).unwrap(), "90\n");
}

#[test]
fn the_accepted_version_and_pinned_ones_cannot_be_deleted() {
    let project = evolved();
    project.evoseal(&["checkpoint", "delete", "v2"]).run().expect(2).says(&["accepted version"]);
    project.evoseal(&["checkpoint", "pin", "v1", "--reason", "for the talk"]).run().expect(0);
    project.evoseal(&["checkpoint", "delete", "v1"]).run().expect(2).says(&["for the talk", "hint: "]);
    project.evoseal(&["gc", "--keep", "1"]).run().expect(0);
    project.evoseal(&["checkpoint", "show", "v1"]).run().expect(0);
    project.evoseal(&["rollback", "v1"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "90\n");
}

#[test]
fn damage_in_the_store_is_listed_and_ends_with_its_own_code() {
    let project = evolved();
    // Small packs lie inside the log of commits until a collection takes them out of it.
    project.evoseal(&["gc"]).run().expect(0);
    for pack in fs::read_dir(project.path(".evoseal/checkpoints/objects/packs")).unwrap() {
        let pack = pack.unwrap().path();
        let mut bytes = fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        fs::write(&pack, bytes).unwrap();
    }
    let before = project.files();
    let report = project.evoseal(&["checkpoint", "verify", "--json"]).run().expect(4).json();
    assert!(!report["damage"].as_array().unwrap().is_empty(), "{report}");
    assert_eq!(project.files(), before);
}

#[test]
fn a_refused_candidate_that_was_left_is_no_version_to_start_from() {
    let project = Project::new("echo 500 > cost.txt");
    project.evoseal(&["run", "-n", "3", "--no-rollback"]).run().expect(1);
    assert_eq!(project.read("cost.txt"), "500\n", "it was asked to stay");
    project
        .evoseal(&["run", "-n", "1"])
        .run()
        .expect(2)
        .says(&["v1, which was refused", "hint: `evoseal rollback`"]);
    project.evoseal(&["rollback"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "100\n");
}

#[test]
fn settings_are_not_overwritten_without_being_asked() {
    let project = Project::new("true");
    let before = project.files();
    project.evoseal(&["init"]).run().expect(2).says(&["exists already", "--force"]);
    assert_eq!(project.files(), before);
    project.evoseal(&["init", "--force"]).run().expect(0);
    assert_ne!(project.files(), before);
}
