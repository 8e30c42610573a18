//! Rollbacks that swap the whole tree, by the program.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use evoseal_checkpoint::{CheckpointManager, CheckpointStoreExt};
use evoseal_rollback::{
    Initiator, Rollback, RollbackManager, RollbackMode, RollbackRequest, RollbackSettings, Target,
};
use evoseal_tests::Project;
use evoseal_types::SystemClock;
use serde_json::Value;

const BY_EXCHANGE: &str = "[safety.rollback]\nmode = \"exchange\"\n";

/// What stands beside the project and is evoseal's.
fn beside(project: &Project) -> Vec<String> {
    let name = project.root().file_name().unwrap().to_str().unwrap();
    let names = fs::read_dir(project.root().parent().unwrap()).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|found| found.contains(name) && found != name)
        .collect()
}

#[test]
fn a_run_takes_bad_candidates_out_by_exchange_and_goes_on() {
    let agent = "echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt
        if [ $EVOSEAL_ITERATION = 2 ]; then echo 'exit 1' > program.sh; mkdir extra; echo x > extra/file; fi";
    let project = Project::new(agent);
    project.add_settings(BY_EXCHANGE);
    project.write("mine.marker", "ignored");
    let root = fs::metadata(project.root()).unwrap().ino();
    let report = project.evoseal(&["run", "-n", "3", "--json"]).run().expect(1).json();
    let decided: Vec<&str> =
        report["results"].as_array().unwrap().iter().map(|r| r["outcome"].as_str().unwrap_or("?")).collect();
    assert_eq!(decided.len(), 3, "{report}");
    assert_ne!(fs::metadata(project.root()).unwrap().ino(), root, "no tree was swapped");
    assert_eq!(
        (project.read("cost.txt").as_str(), project.read("program.sh").as_str()),
        ("70\n", "echo 42\n")
    );
    assert_eq!(project.read("mine.marker"), "ignored");
    assert!(!project.path("extra").exists());
    project.evoseal(&["audit", "verify"]).run().expect(0);
    assert_eq!(beside(&project), [""; 0]);
}

#[test]
fn a_preview_and_the_report_name_the_mode() {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt");
    project.evoseal(&["run", "-n", "2"]).run().expect(0);
    let preview = |arguments: &[&str]| {
        let all = [&["rollback", "v1", "--dry-run"][..], arguments].concat();
        project.evoseal(&all).run().expect(0).stdout
    };
    assert!(preview(&[]).contains("in place"));
    assert!(preview(&["--exchange"]).contains("by exchange of the whole tree"));
    let plan: Value = serde_json::from_str(&preview(&["--exchange", "--json"])).unwrap();
    assert_eq!(plan["mode"], "exchange");
    assert_eq!(beside(&project), [""; 0], "a preview writes nothing");
    let report = project.evoseal(&["rollback", "v1", "--exchange", "--json"]).run().expect(0).json();
    assert_eq!(report["mode"], "exchange");
    assert_eq!(project.read("cost.txt"), "90\n");
    let report = project.evoseal(&["rollback", "v2", "--json"]).run().expect(0).json();
    assert_eq!(report["mode"], "in_place");
}

/// Begins an exchange and dies just before the roots change places: all that no version holds is lent.
fn cut_off(project: &Project, version: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = CheckpointManager::builder().directory(project.path(".evoseal/checkpoints"));
        let store = Arc::new(store.open_or_create().unwrap());
        let target = Target::Checkpoint(store.resolve(version).await.unwrap().id);
        let state = project.path(".evoseal");
        let manager = RollbackManager::builder(
            store,
            project.root(),
            state.join("rollback"),
            Arc::new(SystemClock::new()),
        )
        .settings(RollbackSettings { mode: RollbackMode::Exchange, ..RollbackSettings::default() })
        .before_file_operation(move |name| {
            let is_lent = fs::symlink_metadata(&state).is_ok_and(|found| found.is_symlink());
            assert!(!(name == "exchange" && is_lent), "the process dies here");
            Ok(())
        })
        .build()
        .unwrap();
        let (reason, initiator) = ("try".to_owned(), Initiator::Person("ada".to_owned()));
        let request = RollbackRequest { target, reason, initiator };
        let task = tokio::spawn(async move { manager.roll_back(request).await });
        assert!(task.await.is_err(), "it survived");
    });
    assert!(fs::symlink_metadata(project.path(".evoseal")).unwrap().is_symlink());
}

#[test]
fn whatever_command_comes_next_brings_home_what_was_lent_and_completes() {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt");
    project.write("mine.marker", "ignored");
    project.evoseal(&["run", "-n", "2"]).run().expect(0);
    let commands = [&["status"][..], &["log"], &["checkpoint", "list"], &["gc"], &["run", "-n", "1"]];
    for (number, arguments) in commands.iter().enumerate() {
        let (version, cost) = if number % 2 == 0 { ("v1", "90\n") } else { ("v2", "80\n") };
        let before = project.read("cost.txt");
        cut_off(&project, version);
        // Until then everything is as it was, for whoever opens it.
        assert_eq!((project.read("cost.txt"), project.read("mine.marker").as_str()), (before, "ignored"));
        let said = project.evoseal(arguments).run();
        let expected = format!("completed a rollback that was cut off: the workspace is at {version}");
        assert!(said.stderr.contains(&expected), "{arguments:?}: {}", said.stderr);
        if arguments[0] != "run" {
            assert_eq!(project.read("cost.txt"), cost, "{arguments:?}");
        }
        assert!(fs::symlink_metadata(project.path(".evoseal")).unwrap().is_dir(), "{arguments:?}");
        assert!(fs::symlink_metadata(project.path("mine.marker")).unwrap().is_file(), "{arguments:?}");
        assert_eq!(beside(&project), [""; 0], "{arguments:?}");
    }
    project.evoseal(&["audit", "verify"]).run().expect(0);
}
