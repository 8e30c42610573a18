//! What a person decides about candidates, and what ends a run, through the program.

use evoseal_tests::Project;
use serde_json::Value;

/// A project whose first candidate costs 50 and 150 in turns, so that the few measurements that the settings allow do not decide
/// about it, and whose second one fails a test.
fn undecided() -> Project {
    let project = Project::new(
        "case $EVOSEAL_ITERATION in 2) echo echo 43 > program.sh;; *) echo noisy > cost.txt; date > note.txt;; esac",
    );
    project.write(
        "tests/measure.sh",
        "cost=$(cat cost.txt); counter=$EVOSEAL_RUN_DIR/count; echo x >> $counter\n\
         if [ $cost = noisy ]; then cost=$(( ($(wc -l < $counter) % 2) * 100 + 50 )); fi\n\
         echo \"METRIC cost=$cost ms\"\n",
    );
    project.add_settings("[safety.regression.run]\nconfirm_pairs_max = 2\n");
    project
}

fn json(project: &Project, arguments: &[&str], code: i32) -> Value {
    project.evoseal(arguments).run().expect(code).json()
}

fn incumbent(project: &Project) -> String {
    json(project, &["status", "--json"], 0)["incumbent"]["version_id"].as_str().unwrap().to_owned()
}

#[test]
fn an_undecided_candidate_is_held_shown_and_approved_by_a_person_with_name_and_reason() {
    let project = undecided();
    let report = json(&project, &["run", "-n", "1", "--json"], 1);
    assert_eq!(report["results"][0]["outcome"], "inconclusive", "{report}");
    assert_eq!(report["results"][0]["state"], "held");
    let before = project.files();
    project.evoseal(&["status"]).run().expect(0).shows(&["undecided    v1"]);

    let approve = ["approve", "v1", "--reason", "noise of the machine", "--by", "ada"];
    let plan = project.evoseal(&[&approve[..], &["--dry-run"]].concat()).run().expect(0);
    plan.shows(&["v1 is held and would be accepted", "the workspace would go to v1", "cost.txt"]);
    assert_eq!((project.files(), incumbent(&project).as_str()), (before, "v0"), "a plan changes nothing");

    let done = json(&project, &[&approve[..], &["--json"]].concat(), 0);
    assert_eq!(done["settled"]["version_accepted"], true, "{done}");
    assert_eq!((project.read("cost.txt").as_str(), incumbent(&project).as_str()), ("noisy\n", "v1"));
    // Shown for ever, wherever the iteration is.
    for command in [&["log"][..], &["show", "1"]] {
        project.evoseal(command).run().expect(0).shows(&["ada approved v1", "noise of the machine"]);
    }
    project.evoseal(&["report"]).run().expect(0);
    assert!(project.read("evoseal-report.html").contains("ada approved v1"));
    let again = project.evoseal(&approve).run().expect(0);
    again.shows(&["v1 is accepted by a person's word already; nothing was done"]);
}

#[test]
fn a_run_that_asks_ends_and_waits_for_the_answer() {
    let project = undecided();
    project.add_settings("[safety]\non_inconclusive = \"ask\"\n");
    for _ in 0..2 {
        let asked = project.evoseal(&["run", "-n", "3"]).run().expect(1);
        asked.shows(&["iteration 1 is undecided", "`evoseal approve`"]);
    }
    project.evoseal(&["status"]).run().expect(0).shows(&["waiting      iteration 1"]);
    project.evoseal(&["reject", "1", "--reason", "too noisy"]).run().expect(0);
    let report = json(&project, &["run", "-n", "1", "--json"], 1);
    assert_eq!(report["results"][0]["iteration"], 2, "{report}");
}

#[test]
fn rejecting_the_accepted_version_goes_back_and_keeps_what_a_person_had_not_saved() {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt");
    project.evoseal(&["run", "-n", "2"]).run().expect(0);
    project.write("cost.txt", "my own edit\n");
    project.write("secret.marker", "ignored, and mine\n");
    let rejected =
        project.evoseal(&["reject", "v2", "--reason", "it is wrong", "--by", "ada"]).run().expect(0);
    rejected.shows(&["v2 was accepted and is rejected", "what the workspace held before is kept as"]);
    assert_eq!((project.read("cost.txt").as_str(), incumbent(&project).as_str()), ("90\n", "v1"));
    assert_eq!(project.read("secret.marker"), "ignored, and mine\n");
    let back = project.evoseal(&["rollback"]).run().expect(0);
    back.shows(&["the workspace is at v1"]);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason_and_changes_nothing() {
    let project = undecided();
    project.evoseal(&["run", "-n", "2"]).run().expect(1);
    let before = project.files();
    for (arguments, text) in [
        (&["approve", "9", "--reason", "x"][..], "1 to 2 are on record"),
        (&["approve", "nonsense", "--reason", "x"], "is not an iteration"),
        (&["approve", "1", "--reason", " "], "reason is not valid: it is empty"),
        (&["approve", "1"], "--reason"),
        (&["approve", "2", "--reason", "x"], "`--force` approves it all the same"),
        (&["hold", "2", "--reason", "x"], "on hard evidence"),
    ] {
        project.evoseal(arguments).run().expect(2).says(&["error: ", text]);
    }
    assert_eq!(project.files(), before);
    project.evoseal(&["approve", "2", "--force", "--reason", "the test is wrong"]).run().expect(0);
    assert_eq!(project.read("program.sh"), "echo 43\n");
}

#[test]
fn tampering_has_no_score_and_lost_tests_are_named() {
    let project = Project::new("sed -i '/is_quiet/d; s/running 2/running 1/' tests/run.sh");
    project.configure("protected = [\"tests/**\"]", "protected = []");
    let report = json(&project, &["run", "-n", "1", "--json"], 1);
    let decision = &report["results"][0]["safety_result"]["decision"];
    assert_eq!(report["results"][0]["outcome"], "tampered", "{report}");
    assert_eq!(decision["test_changes"]["lost"][0]["name"], "is_quiet", "{decision}");
    assert_eq!(decision["safety_score"]["no_data"], "the candidate touched what judges it");
    project.evoseal(&["show", "1"]).run().expect(0).shows(&[
        "tampered",
        "no safety score",
        "tests lost: tests: is_quiet",
    ]);
}

/// A project with a third test that depends on something outside: it passes when the first version is evaluated, and fails
/// afterwards.
fn with_a_flaky_test(agent: &str) -> Project {
    let project = Project::new(agent);
    let tests = project.read("tests/run.sh").replace("running 2", "running 3");
    let flaky = "check is_reachable \"$([ \"$EVOSEAL_ITERATION\" = 0 ] && echo yes)\" yes\necho\nif [";
    project.write("tests/run.sh", &tests.replace("echo\nif [", flaky));
    project
}

#[test]
fn a_test_that_fails_on_the_accepted_version_too_is_named_as_flaky_and_does_not_decide() {
    let project = with_a_flaky_test("echo 50 > cost.txt");
    let report = json(&project, &["run", "-n", "1", "--json"], 0);
    let result = &report["results"][0];
    assert_eq!(result["outcome"], "accepted", "{result}");
    assert_eq!(result["observations"]["metrics"][0]["spec"]["name"], "cost", "it is measured all the same");
    assert_eq!(result["observations"]["retests"][0]["incumbent"], serde_json::json!(["fail", "fail"]));
    project.evoseal(&["status"]).run().expect(0).shows(&["flaky tests  is_reachable"]);
    for command in [&["log"][..], &["show", "1"]] {
        project.evoseal(command).run().expect(0).shows(&["flaky test", "is_reachable"]);
    }
    project.evoseal(&["report"]).run().expect(0);
    assert!(project.read("evoseal-report.html").contains("is_reachable"));

    let project = with_a_flaky_test("echo 50 > cost.txt");
    project.configure("format = \"libtest\"", "format = \"libtest\"\nretries = 0");
    let report = json(&project, &["run", "-n", "1", "--json"], 1);
    assert_eq!(report["results"][0]["outcome"], "rolled_back", "nothing is run again");
}

#[test]
fn a_test_that_is_flaky_on_the_version_to_start_from_is_named_and_keeps_no_run_from_starting() {
    let project = with_a_flaky_test("echo 50 > cost.txt");
    // It fails the first time ever, and passes from then on.
    let tests = project.read("tests/run.sh");
    let once = "[ -f tried.marker ] && echo yes; touch tried.marker";
    project.write("tests/run.sh", &tests.replace("[ \"$EVOSEAL_ITERATION\" = 0 ] && echo yes", once));
    let report = json(&project, &["run", "-n", "1", "--json"], 0);
    assert_eq!(report["results"][0]["outcome"], "accepted", "{report}");
    project.evoseal(&["status"]).run().expect(0).shows(&["flaky tests  is_reachable (1 of 50 clean runs)"]);
    let flaky = json(&project, &["status", "--json"], 0)["flaky_tests"][0].clone();
    assert_eq!((&flaky["name"], &flaky["clean_runs"]), (&"is_reachable".into(), &1.into()), "{flaky}");

    let project = with_a_flaky_test("echo 50 > cost.txt");
    let tests = project.read("tests/run.sh");
    project.write("tests/run.sh", &tests.replace("\"$EVOSEAL_ITERATION\" = 0", "1 = 0"));
    let failed = project.evoseal(&["run", "-n", "1"]).run().expect(2);
    failed.says(&["does not pass", "1 of 3 tests failed: is_reachable"]);
}

#[test]
fn a_failing_test_beside_a_flaky_one_still_rolls_back() {
    let project = with_a_flaky_test("echo 50 > cost.txt; echo 'echo 43' > program.sh");
    let report = json(&project, &["run", "-n", "1", "--json"], 1);
    let result = &report["results"][0];
    assert_eq!(result["outcome"], "rolled_back", "{result}");
    assert_eq!(
        result["safety_result"]["decision"]["reasons"][0]["message"],
        "tests: 2 of 3 tests failed: answers"
    );
}

#[test]
fn a_check_decides_warns_or_is_only_recorded_and_a_metric_has_its_own_limit() {
    let checks = |mode: &str| {
        format!(
            "[[evaluate.checks]]\nname = \"no_notes\"\nmode = \"{mode}\"\ncommand = \"test ! -e note.txt\"\n"
        )
    };
    for (mode, code, outcome, text) in [
        ("required", 1, "rejected", "check no_notes failed (the accepted version passes it)"),
        ("wanted", 0, "accepted", "warning: check no_notes failed"),
        ("dry_run", 0, "accepted", "no objection"),
    ] {
        let project = Project::new("echo 50 > cost.txt; echo x > note.txt");
        project.add_settings(&checks(mode));
        let report = json(&project, &["run", "-n", "1", "--json"], code);
        assert_eq!(report["results"][0]["outcome"], outcome, "{mode}: {report}");
        assert_eq!(
            report["results"][0]["observations"]["checks"][0]["passed"], false,
            "{mode}: it is recorded"
        );
        project.evoseal(&["show", "1"]).run().expect(0).shows(&[text]);
    }
    let project = Project::new("echo 90 > cost.txt");
    project.add_settings("[safety.metric_conditions.cost]\nmax = 80.0\n");
    project.evoseal(&["run", "-n", "1"]).run().expect(2).says(&["at most 80 ms is allowed"]);
    project.configure("max = 80.0", "max = 100.0");
    project.configure("echo 90", "echo 101");
    project.evoseal(&["run", "-n", "1"]).run().expect(1);
    project.evoseal(&["show", "1"]).run().expect(0).shows(&["cost is 101 ms on average; at most 100 ms"]);
    project.configure("max = 100.0", "max = 1.0\nmin = 2.0");
    project.evoseal(&["status"]).run().expect(2).says(&["metric_conditions.cost", "above the highest"]);
}

#[test]
fn an_acceptance_is_confirmed_by_a_second_evaluation_where_that_is_wanted() {
    let project = Project::new("echo 50 > cost.txt");
    project.add_settings("[safety]\nconfirm_acceptance = true\n");
    let report = json(&project, &["run", "-n", "1", "--json"], 0);
    assert_eq!(report["results"][0]["confirmed"], true, "{report}");
    project.evoseal(&["log"]).run().expect(0).shows(&["confirmed by a second evaluation"]);
}

#[test]
fn each_breaker_ends_a_run_with_its_own_words() {
    for (setting, text, code) in [
        ("max_iterations_without_improvement = 2", "2 iterations in a row did not improve", 1),
        ("max_evaluations = 3", "the limit of 3 evaluations is used up", 1),
        ("min_free_bytes = 1000000000000000", "storage is running out", 3),
        ("max_store_bytes = 1", "the checkpoint store takes up", 3),
        ("max_consecutive_rejections = 2", "2 iterations in a row brought no accepted version", 1),
    ] {
        let project = Project::new("echo $((100 + EVOSEAL_ITERATION * 50)) > cost.txt");
        project.add_settings(&format!("[run]\n{setting}\n"));
        let before = project.files();
        project.evoseal(&["run", "-n", "9"]).run().expect(code).shows(&[text]);
        assert_eq!(project.files(), before, "{setting}: the workspace is the accepted version");
    }
    let project = Project::new("true");
    project.add_settings("[safety]\nmax_evaluation_retries = 101\n");
    project
        .evoseal(&["run"])
        .run()
        .expect(2)
        .says(&["safety.max_evaluation_retries", "101 is more than 100"]);
}
