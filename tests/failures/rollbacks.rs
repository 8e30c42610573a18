//! Rollbacks by the program: where to, what they spare, and what becomes of one that was cut off.

use std::fs;
use std::sync::Arc;

use evoseal_checkpoint::{CheckpointManager, CheckpointStoreExt};
use evoseal_rollback::{FunctionVerifier, Initiator, Rollback, RollbackManager, RollbackRequest, Target};
use evoseal_tests::Project;
use evoseal_types::SystemClock;
use serde_json::Value;

/// A project with three accepted versions, the cost of which is 90, 80 and 70.
pub(super) fn evolved() -> Project {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt");
    project.evoseal(&["run", "-n", "3"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "70\n");
    project
}

/// Begins a rollback to a version and dies before it has ended; the workspace then looks as if the file with the cost had
/// not been changed yet.
pub(super) fn cut_off(project: &Project, version: &str) {
    let half = project.read("cost.txt");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = CheckpointManager::builder().directory(project.path(".evoseal/checkpoints"));
        let store = Arc::new(store.open_or_create().unwrap());
        let target = Target::Checkpoint(store.resolve(version).await.unwrap().id);
        let died = FunctionVerifier::new("dies", async |_, _| panic!("the process dies here"));
        let state = project.path(".evoseal/rollback");
        let manager = RollbackManager::builder(store, project.root(), state, Arc::new(SystemClock::new()))
            .verifier(Arc::new(died))
            .build()
            .unwrap();
        let (reason, initiator) = ("try".to_owned(), Initiator::Person("ada".to_owned()));
        let request = RollbackRequest { target, reason, initiator };
        let task = tokio::spawn(async move { manager.roll_back(request).await });
        assert!(task.await.is_err(), "it survived");
    });
    project.write("cost.txt", &half);
    assert!(project.path(".evoseal/rollback/intent").exists());
}

#[test]
fn whatever_command_comes_next_completes_a_rollback_that_was_cut_off() {
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
        &["rollback", "v1", "--dry-run"],
    ];
    for (number, arguments) in (1_u64..).zip(commands) {
        let (version, cost) = if number % 2 == 1 { ("v1", "90\n") } else { ("v2", "80\n") };
        cut_off(&project, version);
        assert_ne!(project.read("cost.txt"), cost);
        let said = project.evoseal(arguments).run().expect(0).stderr;
        let expected = format!("completed a rollback that was cut off: the workspace is at {version}");
        assert!(said.contains(&expected), "{arguments:?}: {said}");
        assert_eq!(project.read("cost.txt"), cost, "{arguments:?}");
        assert!(!project.path(".evoseal/rollback/intent").exists());
        let again = project.evoseal(arguments).run().expect(0).stderr;
        assert!(!again.contains("cut off"), "{arguments:?} a second time: {again}");
        let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
        assert_eq!(status["interrupted_rollback"], Value::Null);
        let counted = [&status["rollback"]["total_rollbacks"], &status["rollback"]["recovery_rollbacks"]];
        assert_eq!(counted, [number, number], "{arguments:?}: it counts once, as a recovery");
    }
}

#[test]
fn status_reports_the_completion_as_data_too() {
    let project = evolved();
    cut_off(&project, "v2");
    let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
    assert_eq!(status["interrupted_rollback"]["completed"]["version_id"], "v2");
    // What the log of decisions says is complete as well.
    project.evoseal(&["audit", "verify"]).run().expect(0);
}

#[test]
fn a_rollback_that_another_process_is_busy_with_is_left_to_it() {
    let project = evolved();
    cut_off(&project, "v1");
    let lock = evoseal_pipeline::RunLock::acquire(&project.path(".evoseal")).unwrap();
    let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
    assert!(status["interrupted_rollback"]["left_to_other"].is_object(), "{status}");
    assert!(project.path(".evoseal/rollback/intent").exists());
    drop(lock);
    project.evoseal(&["status"]).run().expect(0).says(&["completed a rollback"]);
}

#[test]
fn what_cannot_be_completed_does_not_keep_the_damage_from_being_shown() {
    let project = evolved();
    cut_off(&project, "v1");
    fs::write(project.path(".evoseal/rollback/intent"), "no intent").unwrap();
    project.evoseal(&["checkpoint", "verify"]).run().expect(0).says(&["cannot be completed", "is damaged"]);
    // What the workspace was before may be in one of these alone.
    for arguments in [
        &["gc", "--keep", "1"][..],
        &["checkpoint", "delete", "v1"],
        &["checkpoint", "prune", "--keep-last", "1"],
    ] {
        project.evoseal(arguments).run().expect(4).says(&["may need any checkpoint"]);
    }
    // A new rollback is the way out.
    project.evoseal(&["rollback", "v2"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "80\n");
    project.evoseal(&["status"]).run().expect(0);
    assert!(!project.path(".evoseal/rollback/intent").exists());
}

#[test]
fn every_way_to_name_a_target_leads_there() {
    let project = evolved();
    project.evoseal(&["baseline", "set", "release", "v2"]).run().expect(0);
    let listed = project.evoseal(&["checkpoint", "list", "--json"]).run().expect(0).json();
    let first = listed.as_array().unwrap().iter().find(|found| found["details"]["version_id"] == "v1");
    let id = first.unwrap()["id"].as_str().unwrap()[..12].to_owned();
    for (target, cost) in [
        ("v1", "90\n"),
        ("2", "80\n"),
        ("version:v1", "90\n"),
        ("known-good", "70\n"),
        ("release", "80\n"),
        ("baseline:release", "80\n"),
        ("parent", "80\n"),
        (id.as_str(), "90\n"),
    ] {
        project.evoseal(&["rollback", target]).run().expect(0);
        assert_eq!(project.read("cost.txt"), cost, "{target}");
    }
    project.evoseal(&["rollback", "best"]).run().expect(2).says(&["no objective", "hint: ", "[objective]"]);
    project.evoseal(&["rollback", "baseline:v1"]).run().expect(2).says(&["no baseline \"v1\"", "release"]);
    project.evoseal(&["rollback", "nobody"]).run().expect(2).says(&["nobody", "baselines: release"]);

    project.evoseal(&["baseline", "set", "v1", "v3"]).run().expect(0);
    project.evoseal(&["rollback", "v1"]).run().expect(2).says(&["ambiguous", "baseline:v1 or version:v1"]);
    project.evoseal(&["rollback", "baseline:v1"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "70\n");
}

#[test]
fn best_is_the_accepted_version_with_the_best_mean_of_the_objective() {
    // It is worth accepting the second version only because nothing but the first metric decides.
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt");
    project.add_settings("[objective]\nmetric = \"cost\"\ndirection = \"increase\"\n");
    project.evoseal(&["run", "-n", "3"]).run().expect(0);
    project.evoseal(&["rollback", "v1"]).run().expect(0);
    project.evoseal(&["rollback", "best"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "70\n");
    let log = project.evoseal(&["status", "--json"]).run().expect(0).json();
    assert_eq!(log["rollback"]["manual_rollbacks"], 2);
}

#[test]
fn a_rollback_is_undone_and_redone() {
    let project = evolved();
    project.evoseal(&["rollback", "--undo"]).run().expect(2).says(&["no rollback has changed the workspace"]);
    project.write("notes.txt", "mine, and in no checkpoint");
    let before = project.files();
    let said = project.evoseal(&["rollback", "v1"]).run().expect(0).stdout;
    assert!(said.contains("--undo"), "{said}");
    let after = project.files();
    assert!(!project.path("notes.txt").exists());
    for expected in [&before, &after, &before] {
        project.evoseal(&["rollback", "--undo"]).run().expect(0);
        assert_eq!(project.files(), *expected);
    }
}

#[test]
fn ignored_files_survive_run_reject_and_rollback_byte_for_byte() {
    let project = Project::new(
        "echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt; [ $EVOSEAL_ITERATION -lt 3 ] || echo exit 1 > program.sh",
    );
    project.write(".gitignore", "*.marker\n.env\ncache/\n");
    let own = [(".env", "SECRET=1"), ("cache/deep/object", "built"), ("cache/x", "")];
    for (path, text) in own {
        project.write(path, text);
    }
    project.evoseal(&["run", "-n", "4"]).run().expect(1);
    project.evoseal(&["rollback", "v1"]).run().expect(0);
    cut_off(&project, "v2");
    project.evoseal(&["status"]).run().expect(0);
    for (path, text) in own {
        assert_eq!(project.read(path), text, "{path}");
    }
}

#[test]
fn ignored_files_that_an_older_version_would_overwrite_or_remove_are_saved_first() {
    let project = evolved();
    // What a version captured when nothing ignored it.
    project.write("local.conf", "as captured");
    project.evoseal(&["checkpoint", "create", "old"]).run().expect(0);
    // Since then it is ignored, and so is more; both hold a person's work that no checkpoint has.
    project.write(".gitignore", "*.marker\nlocal.conf\nnotes/\n");
    project.write("local.conf", "mine");
    project.write("notes/deep/a", "mine too");
    project.evoseal(&["rollback", "old"]).run().expect(0);
    assert_eq!(project.read("local.conf"), "as captured");
    project.evoseal(&["rollback", "--undo"]).run().expect(0);
    assert_eq!(project.read("local.conf"), "mine");
    assert_eq!(project.read("notes/deep/a"), "mine too");
    assert_eq!(project.read(".gitignore"), "*.marker\nlocal.conf\nnotes/\n");
}

#[test]
fn a_version_that_fails_its_health_check_is_left_for_an_older_one_and_said() {
    let project = evolved();
    project.add_settings(
        "[safety.rollback]\nhealth_check = { command = [\"grep\", \"-q\", \"90\", \"cost.txt\"] }\n",
    );
    let said = project.evoseal(&["rollback"]).run().expect(1).stdout;
    assert!(said.contains("the workspace is at v1") && said.contains("which was asked for"), "{said}");
    assert!(said.contains("`grep -q 90 cost.txt` exited with code 1"), "{said}");
    assert_eq!(project.read("cost.txt"), "90\n");
}

#[test]
fn when_no_version_is_healthy_the_workspace_is_as_it_was_and_the_exit_code_is_4() {
    let project = evolved();
    project.add_settings(
        "[safety.rollback]\nhealth_check = { command = [\"false\"] }\nmax_rollback_attempts = 2\n",
    );
    project.write("notes.txt", "mine");
    let before = project.files();
    let failed = project.evoseal(&["rollback", "v2"]).run().expect(4);
    failed.says(&[
        "none of 2 versions could be restored; the workspace is as it was",
        "`false` exited",
        "hint: ",
    ]);
    assert_eq!(project.files(), before);
    project.evoseal(&["status"]).run().expect(0);
    assert_eq!(project.files(), before);
}

#[test]
fn a_health_check_with_an_unknown_limit_or_without_a_program_is_refused_at_the_start() {
    for (check, text) in [
        ("{ command = [\"true\"], limits = { wall_time = 3 } }", "wall_time"),
        ("{ command = [] }", "names no program"),
    ] {
        let project = Project::new("true");
        project.add_settings(&format!("[safety.rollback]\nhealth_check = {check}\n"));
        project.evoseal(&["config"]).run().expect(2).says(&["safety.rollback.health_check", text]);
    }
}

#[test]
fn a_drill_proves_on_copies_that_known_good_versions_come_back() {
    let project = evolved();
    project.write("notes.txt", "mine");
    let before = project.files();
    let rehearsed = project.evoseal(&["rollback", "--drill", "2", "--json"]).run().expect(0).json();
    let versions: Vec<&str> =
        rehearsed.as_array().unwrap().iter().map(|row| row["version_id"].as_str().unwrap()).collect();
    assert_eq!(versions, ["v3", "v2"]);
    project.add_settings(
        "[safety.rollback]\nhealth_check = { command = [\"grep\", \"-q\", \"70\", \"cost.txt\"] }\n",
    );
    let said = project.evoseal(&["rollback", "--drill"]).run().expect(4).stdout;
    assert!(said.contains("v3 (accepted): restores and verifies"), "{said}");
    assert!(said.contains("v2: `grep -q 70 cost.txt` exited with code 1"), "{said}");
    let changed: Vec<String> =
        project.files().into_iter().filter(|file| !before.contains_key(&file.0)).map(|file| file.0).collect();
    assert_eq!(changed, Vec::<String>::new());
    assert_eq!(project.read("notes.txt"), "mine");
    // A drill is no rollback.
    let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
    assert_eq!(status["rollback"]["total_rollbacks"], 0);
}

#[test]
fn a_poisoned_cache_does_not_survive_a_rollback_and_the_rest_of_a_persons_files_does() {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt");
    project.write(".gitignore", "*.marker\ntarget/\n.env\n");
    project.add_settings("[safety.rollback]\ncaches = [\"target/\"]\n");
    project.evoseal(&["run", "-n", "2"]).run().expect(0);
    project.write("target/debug/poison", "harmful");
    project.write(".env", "SECRET=1");
    let plan = project.evoseal(&["rollback", "v1", "--dry-run"]).run().expect(0);
    plan.shows(&["- target  (cache"]);
    assert!(project.path("target/debug/poison").exists(), "a plan changes nothing");
    let done = project.evoseal(&["rollback", "v1", "--json"]).run().expect(0).json();
    assert_eq!(done["caches"][0], "target", "{done}");
    assert!(!project.path("target").exists());
    assert_eq!((project.read("cost.txt").as_str(), project.read(".env").as_str()), ("90\n", "SECRET=1"));

    project.write("evoseal.toml", &project.read("evoseal.toml").replace("\"target/\"", "\".git\""));
    let refused = project.evoseal(&["status"]).run().expect(2);
    refused.says(&["caches", "never removed"]);
}
