//! Candidates that break, cheat, crash or hang.

use evoseal_tests::Project;

use crate::{refused, refuses};

#[test]
fn a_failing_test_rolls_back_and_is_named() {
    let project = Project::new("echo 'echo 41' > program.sh");
    refuses(&project, "rolled_back", "1 of 2 tests failed: answers");
}

#[test]
fn tests_that_no_longer_run_are_missed_by_name() {
    let project = Project::new("sed -i '/^check is_quiet/d; s/running 2/running 1/' tests/run.sh");
    project.configure("protected = [\"tests/**\"]", "protected = []");
    refuses(&project, "tampered", "tests that passed before no longer run: tests: is_quiet");
}

#[test]
fn zero_tests_are_no_reason_to_accept() {
    let project = Project::new(
        "printf '\\nrunning 0 tests\\n\\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\\n' > out.txt
         echo 'cat out.txt' > tests/run.sh",
    );
    project.configure("protected = [\"tests/**\"]", "protected = []");
    refuses(&project, "tampered", "ran no test");
}

#[test]
fn a_test_command_that_prints_no_result_is_a_fault_even_if_it_exits_with_zero() {
    let project = Project::new("echo 'exit 0' > tests/run.sh");
    project.configure("protected = [\"tests/**\"]", "protected = []");
    let result = refused(&project);
    assert_eq!(result["outcome"], "tampered", "{result}");
}

#[test]
fn a_test_command_that_crashes_rolls_back() {
    let project = Project::new("echo 'kill -SEGV $PPID; kill -SEGV $$' > program.sh");
    let result = refused(&project);
    assert_eq!(result["outcome"], "rolled_back", "{result}");
}

#[test]
fn a_build_that_breaks_rolls_back() {
    let project = Project::new("echo 'echo \"unfinished' > program.sh");
    project.add_settings("[evaluate.build]\ncommand = [\"sh\", \"-n\", \"program.sh\"]\n");
    refuses(&project, "rolled_back", "build of the candidate failed");
}

#[test]
fn a_candidate_that_hangs_is_ended_and_rolled_back() {
    let project = Project::new("echo 'while :; do :; done' > program.sh");
    project.configure("format = \"libtest\"", "format = \"libtest\"\nlimits = { wall_time_sec = 1 }");
    let result = refused(&project);
    assert_eq!(result["outcome"], "rolled_back", "{result}");
    assert!(crate::reasons(&result).contains("timed out"), "{result}");
}

#[test]
fn a_metric_that_is_missing_is_never_no_regression() {
    let project = Project::new("rm cost.txt");
    project
        .write("tests/measure.sh", "if [ -f cost.txt ]; then echo \"METRIC cost=$(cat cost.txt) ms\"; fi\n");
    let result = refused(&project);
    assert!(crate::reasons(&result).contains("cost"), "{result}");
}

#[test]
fn a_metric_that_is_not_a_number_is_never_no_regression() {
    for value in ["NaN", "inf", "-inf", "1e999", ""] {
        let project = Project::new(&format!("echo '{value}' > cost.txt"));
        let result = refused(&project);
        assert!(!crate::reasons(&result).contains("no metric is measurably worse"), "{value:?}: {result}");
    }
}

#[test]
fn a_metric_that_is_worse_is_a_regression_with_its_numbers() {
    let project = Project::new("echo 150 > cost.txt");
    refuses(&project, "rolled_back", "cost");
}

#[test]
fn an_improvement_of_any_size_is_no_regression() {
    let project = Project::new("echo 1 > cost.txt");
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "1\n");
}

#[test]
fn eleven_times_as_slow_is_not_taken_for_a_tenth() {
    let project = Project::new("echo 1100 > cost.txt");
    let result = refused(&project);
    assert_eq!(result["outcome"], "rolled_back", "{result}");
}

#[test]
fn protected_files_may_not_be_changed_removed_added_or_replaced() {
    for (agent, path) in [
        ("echo 'exit 0' > tests/run.sh", "tests/run.sh"),
        ("rm tests/measure.sh", "tests/measure.sh"),
        ("echo 'exit 0' > tests/extra.sh", "tests/extra.sh"),
        ("chmod +x tests/run.sh", "tests/run.sh"),
        ("mv tests/run.sh run.sh; ln -s ../run.sh tests/run.sh", "tests/run.sh"),
        ("echo '# easier' >> evoseal.toml", "evoseal.toml"),
        ("rm evoseal.toml", "evoseal.toml"),
    ] {
        refuses(&Project::new(agent), "tampered", path);
    }
}

#[test]
fn tampering_while_the_tests_run_is_seen_as_well() {
    let project = Project::new("echo 'echo 42; echo \"exit 0\" > tests/late.sh' > program.sh");
    refuses(&project, "tampered", "tests/late.sh");
}

#[test]
fn edits_outside_the_scope_and_beyond_the_size_are_refused() {
    let project = Project::new("mkdir -p docs; echo x > docs/page.md");
    project.configure("[edit]", "[edit]\nallowed_patterns = [\"*.sh\", \"cost.txt\"]");
    refuses(&project, "rolled_back", "docs/page.md");

    let project = Project::new("for n in 1 2 3; do echo x > new$n.sh; done");
    project.configure("[edit]", "[edit]\nmax_files = 2");
    let result = refused(&project);
    assert_eq!(result["outcome"], "rolled_back", "{result}");
}

#[test]
fn a_workspace_that_was_emptied_comes_back_whole() {
    let project = Project::new("rm -rf program.sh cost.txt tests evoseal.toml .gitignore");
    let result = refused(&project);
    assert_eq!(result["outcome"], "tampered", "{result}");
}

#[test]
fn kinds_and_modes_come_back_too() {
    use std::os::unix::fs::PermissionsExt;
    let project =
        Project::new("rm -rf data link; echo file > data; mkdir link; chmod -x tool.sh; rm -r empty");
    project.write("data/one.txt", "1");
    project.write("tool.sh", "true\n");
    std::fs::create_dir(project.path("empty")).unwrap();
    std::os::unix::fs::symlink("data", project.path("link")).unwrap();
    let executable = || std::fs::metadata(project.path("tool.sh")).unwrap().permissions().mode() & 0o100 != 0;
    std::fs::set_permissions(project.path("tool.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    // The candidate itself is fine; the metric sends it back.
    project.configure("chmod -x", "echo 900 > cost.txt; chmod -x");
    let result = refused(&project);
    assert_eq!(result["outcome"], "rolled_back", "{result}");
    assert!(executable() && project.path("empty").is_dir());
    assert_eq!(std::fs::read_link(project.path("link")).unwrap().as_os_str(), "data");
}

#[test]
fn an_agent_that_fails_or_does_nothing_is_a_failed_iteration() {
    for (agent, text) in [("echo half > cost.txt; exit 7", "7"), ("true", "the proposal changed nothing")] {
        let result = refused(&Project::new(agent));
        assert_eq!(result["outcome"], "error", "{result}");
        assert!(result["error"].as_str().unwrap().contains(text), "{result}");
    }
}

#[test]
fn an_agent_that_has_nothing_more_to_propose_ends_the_run() {
    let project = Project::new(
        "[ $EVOSEAL_ITERATION = 1 ] || { echo 'SUMMARY: all tried'; exit 3; }\necho 90 > cost.txt",
    );
    let report = project.evoseal(&["run", "-n", "9", "--json"]).run().expect(0).json();
    assert_eq!(report["results"].as_array().unwrap().len(), 1);
    assert!(report["stop_reason"].to_string().contains("all tried"), "{report}");
}

#[test]
fn a_candidate_sees_no_secret_of_the_caller_and_not_the_store() {
    let project = Project::new(
        "env > seen.txt; cat .evoseal/checkpoints/cells/catalog >> seen.txt 2>/dev/null; echo 90 > cost.txt",
    );
    project.evoseal(&["run", "-n", "1"]).env("SERVICE_TOKEN", "very-secret").run().expect(0);
    let seen = project.read("seen.txt");
    assert!(seen.contains("PATH="), "{seen}");
    assert!(!seen.contains("very-secret") && !seen.contains("EVOCATLG"), "{seen}");
}

#[test]
fn a_process_that_the_candidate_leaves_behind_is_gone_when_the_run_ends() {
    let project = Project::new(
        "(setsid sh -c 'while :; do sleep 0.05; date > late.marker; done' >/dev/null 2>&1 &)\necho 90 > cost.txt",
    );
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
    let _ = std::fs::remove_file(project.path("late.marker"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!project.path("late.marker").exists(), "it still writes");
}
