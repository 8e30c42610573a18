//! What is switched off is really off, and every result says what was therefore not protected.

use evoseal_tests::{Finished, Project};

/// Accepted in the first iteration, refused in the second, and never reached where that one stays.
const AGENT: &str = "case $EVOSEAL_ITERATION in 1) echo 90 > cost.txt;; 2) echo 500 > cost.txt;; *) echo 80 > cost.txt;; esac";

/// Four combinations, by arguments and by settings.
fn each(check: impl Fn(&Project, bool, bool, &[&str])) {
    for (checkpoints, rollback) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut arguments = vec!["run", "-n", "3"];
        if !checkpoints {
            arguments.push("--no-checkpoints");
        }
        if !rollback {
            arguments.push("--no-rollback");
        }
        check(&Project::new(AGENT), checkpoints, rollback, &arguments);
        let by_settings = Project::new(AGENT);
        by_settings.add_settings(&format!(
            "[safety]\nauto_checkpoint = {checkpoints}\nauto_rollback = {rollback}\n"
        ));
        check(&by_settings, checkpoints, rollback, &["run", "-n", "3"]);
    }
}

/// The sentences that belong to what is off.
fn lines(checkpoints: bool, rollback: bool) -> Vec<&'static str> {
    let off = [
        (!checkpoints, "checkpoints are off: no version can be brought back"),
        (!checkpoints, "checkpoints are off: edits are not compared with the incumbent"),
        (!checkpoints, "checkpoints are off: measurements are not made side by side"),
        (!rollback, "automatic rollback is off: a refused candidate stays in the workspace"),
    ];
    off.iter().filter(|(is_off, _)| *is_off).map(|(_, line)| *line).collect()
}

/// Every sentence stands in the text, and no other about a switch does.
fn says(text: &str, checkpoints: bool, rollback: bool, context: &str) {
    for line in lines(checkpoints, rollback) {
        assert!(text.contains(line), "{context}: no {line:?} in\n{text}");
    }
    for line in lines(!checkpoints, !rollback) {
        assert!(!text.contains(line), "{context}: {line:?} in\n{text}");
    }
}

#[test]
fn every_combination_does_what_it_says() {
    each(|project, checkpoints, rollback, arguments| {
        let context = format!("checkpoints {checkpoints}, rollback {rollback}, {arguments:?}");
        let Finished { stdout, .. } = project.evoseal(&[arguments, &["--json"]].concat()).run().expect(1);
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let outcomes: Vec<(bool, bool)> = report["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| (result["version_accepted"] == true, result["rollback_performed"] == true))
            .collect();
        let listed = project.evoseal(&["checkpoint", "list", "--json"]).run().expect(0).json();
        assert_eq!(!listed.as_array().unwrap().is_empty(), checkpoints, "{context}: {listed}");
        if checkpoints && rollback {
            assert_eq!(outcomes, [(true, false), (false, true), (true, false)], "{context}");
            assert_eq!(project.read("cost.txt"), "80\n", "{context}");
        } else {
            // Nothing is built on a refused candidate: the run ends there.
            assert_eq!(outcomes, [(true, false), (false, false)], "{context}");
            assert_eq!(project.read("cost.txt"), "500\n", "{context}: it stays");
            assert!(report["stop_reason"]["not_rolled_back"].is_object(), "{context}: {report}");
            project.evoseal(arguments).run().expect(2).says(&["which was refused"]);
            assert_eq!(project.read("cost.txt"), "500\n", "{context}");
        }
        says(&report["unprotected"].to_string(), checkpoints, rollback, &context);
    });
}

#[test]
fn text_and_report_page_say_what_was_not_protected() {
    each(|project, checkpoints, rollback, arguments| {
        let context = format!("checkpoints {checkpoints}, rollback {rollback}, {arguments:?}");
        let text = project.evoseal(arguments).run().expect(1).stdout;
        let unwrapped = text.split_whitespace().collect::<Vec<_>>().join(" ");
        says(&unwrapped, checkpoints, rollback, &context);
        project.evoseal(&["report", "--output", "page.html"]).run().expect(0);
        says(&project.read("page.html"), checkpoints, rollback, &context);
    });
}

#[test]
fn a_run_that_is_killed_without_checkpoints_says_that_nothing_could_be_brought_back() {
    let project = Project::new(
        "if [ ! -f started.marker ]; then echo half > cost.txt; touch started.marker; sleep 640; fi; echo 90 > cost.txt",
    );
    let mut run = project.evoseal(&["run", "-n", "1", "--no-checkpoints"]).start();
    run.wait_for_file(&project.path("started.marker"));
    run.kill();
    project
        .evoseal(&["run", "-n", "1", "--no-checkpoints"])
        .run()
        .says(&["there is no checkpoint to return to; the workspace was left as it is"]);
}
