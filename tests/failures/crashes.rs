//! Runs that are killed or interrupted, and what the next start makes of them.

use evoseal_tests::Project;

/// An agent that edits half, says that it has begun, and goes on only at its second start.
const SLOW_AGENT: &str = "if [ ! -f started.marker ]; then echo half > cost.txt; echo > new.txt; touch started.marker; sleep 600; fi
echo 90 > cost.txt";

/// A measurement that says that it has begun and goes on only at its second start, where the agent has asked for that.
const SLOW_MEASUREMENT: &str =
    "if [ -f block.marker ] && [ ! -f started.marker ]; then touch started.marker; sleep 600; fi
echo \"METRIC cost=$(cat cost.txt) ms\"
";

fn interrupted_while_measuring() -> Project {
    let project = Project::new("touch block.marker; echo 90 > cost.txt");
    project.write("tests/measure.sh", SLOW_MEASUREMENT);
    project
}

#[test]
fn a_run_that_is_killed_while_the_agent_edits_begins_the_iteration_again() {
    let project = Project::new(SLOW_AGENT);
    let before = project.files();
    let mut run = project.evoseal(&["run", "-n", "1"]).start();
    run.wait_for_file(&project.path("started.marker"));
    assert_eq!(run.kill().code, None);
    assert_ne!(project.files(), before, "it was killed in the middle of the edit");

    let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
    assert_eq!(status["unfinished_iteration"], 1);
    let report = project.evoseal(&["run", "-n", "1", "--json"]).run().expect(0).json();
    assert_eq!(report["results"][0]["iteration"], 1, "{report}");
    assert_eq!(project.read("cost.txt"), "90\n");
    assert!(!project.path("new.txt").exists(), "half an edit must not become part of a version");
}

#[test]
fn a_run_that_is_killed_while_a_candidate_is_measured_evaluates_it_again() {
    let project = interrupted_while_measuring();
    let mut run = project.evoseal(&["run", "-n", "1"]).start();
    run.wait_for_file(&project.path("started.marker"));
    run.kill();

    let report = project.evoseal(&["run", "-n", "1", "--json"]).run().expect(0).json();
    assert_eq!(report["results"][0]["outcome"], "accepted", "{report}");
    assert_eq!(report["results"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(project.read("cost.txt"), "90\n");
    project.evoseal(&["checkpoint", "verify"]).run().expect(0);
}

#[test]
fn what_a_killed_run_left_in_the_workspace_can_be_brought_back() {
    let project = Project::new(SLOW_AGENT);
    let mut run = project.evoseal(&["run", "-n", "1"]).start();
    run.wait_for_file(&project.path("started.marker"));
    run.kill();
    // A person goes on working where the agent stopped.
    project.write("notes.txt", "mine");
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
    assert!(!project.path("notes.txt").exists());
    let listed = project.evoseal(&["checkpoint", "list", "--json"]).run().expect(0).json();
    let saved = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|checkpoint| checkpoint["details"]["version_id"].as_str())
        .find(|version| version.starts_with("before-recovery"))
        .expect("what no checkpoint held is saved before it is overwritten");
    let notes = project.evoseal(&["checkpoint", "show", saved, "--file", "notes.txt"]).run().expect(0);
    assert_eq!(notes.stdout, "mine");
}

#[test]
fn a_killed_run_takes_its_poison_along_and_no_ignored_file_of_a_person() {
    let project = Project::new(
        "echo 'local.conf' >> .gitignore; mkdir -p target; echo harmful > target/poison; touch block.marker; echo 90 > cost.txt",
    );
    project.write("tests/measure.sh", SLOW_MEASUREMENT);
    project.write(".gitignore", "*.marker\ntarget/\n.env\n");
    project.add_settings("[safety.rollback]\ncaches = [\"target\"]\n");
    project.write(".env", "SECRET=1");
    project.write("local.conf", "as captured");
    let mut run = project.evoseal(&["run", "-n", "1"]).start();
    run.wait_for_file(&project.path("started.marker"));
    run.kill();
    // The candidate ignores it, so that nothing holds this.
    project.write("local.conf", "mine");
    let said = project.evoseal(&["run", "-n", "1"]).run().expect(0).stderr;
    assert!(
        said.contains("recovered iteration 1: the workspace was returned to v0; what was there is kept as"),
        "{said}"
    );
    let kept = project.evoseal(&["checkpoint", "show", "before-recovery-1", "--file", "local.conf"]).run();
    assert_eq!(kept.expect(0).stdout, "mine");
    assert_eq!(project.read(".env"), "SECRET=1");
    let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
    assert_eq!(status["rollback"]["recovery_rollbacks"], 0, "it is no rollback");
    assert!(!project.path("target/poison").exists());
}

#[test]
fn killed_again_and_again_a_run_still_comes_to_its_end() {
    let project = Project::new(
        "n=$(ls *.marker 2>/dev/null | wc -l)
        if [ $n -lt 3 ]; then echo $n > cost.txt; touch $n.marker; sleep 600; fi
        echo 90 > cost.txt",
    );
    for number in 0..3 {
        let mut run = project.evoseal(&["run", "-n", "1"]).start();
        run.wait_for_file(&project.path(&format!("{number}.marker")));
        run.kill();
    }
    let report = project.evoseal(&["run", "-n", "1", "--json"]).run().expect(0).json();
    assert_eq!(report["results"][0]["outcome"], "accepted", "{report}");
    assert_eq!(project.read("cost.txt"), "90\n");
}

#[test]
fn a_candidate_that_changed_the_tests_is_seen_after_a_crash_as_well() {
    let project = Project::new("echo 'exit 0' > tests/run.sh; touch edited.marker");
    // The crash comes when the edit is captured and being looked at: the audit log is held fast.
    project.evoseal(&["run", "-n", "0"]).run().expect(0);
    let audit = std::fs::File::open(project.path(".evoseal/audit.jsonl")).unwrap();
    rustix::fs::flock(&audit, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut run = project.evoseal(&["run", "-n", "1"]).start();
    run.wait_for_file(&project.path("edited.marker"));
    run.kill();
    drop(audit);
    assert_eq!(project.read("tests/run.sh"), "exit 0\n", "the edit is what the next start finds");
    let report = project.evoseal(&["run", "-n", "1", "--json"]).run().expect(1).json();
    let reasons = report["results"][0]["safety_result"]["decision"].to_string();
    assert!(reasons.contains("tests/run.sh is protected and was modified"), "{reasons}");
}

#[test]
fn what_a_restore_that_was_cut_off_has_laid_aside_goes_and_is_not_taken_for_a_protected_file() {
    let project = Project::new(
        "if [ ! -f started.marker ]; then touch started.marker; sleep 600; fi; echo $((100 - EVOSEAL_ITERATION)) > cost.txt",
    );
    let mut run = project.evoseal(&["run", "-n", "1"]).start();
    run.wait_for_file(&project.path("started.marker"));
    run.kill();
    // The tree is that of the accepted version; a restore that was killed in its last moment leaves this besides.
    project.write("tests/.evoseal-restore-7", "half");
    let report = project.evoseal(&["run", "-n", "2", "--json"]).run().expect(0).json();
    assert_eq!(report["results"][1]["outcome"], "accepted", "{report}");
    assert!(!project.path("tests/.evoseal-restore-7").exists());
}
