//! `evoseal detect plan`, `loop` and `simulate`, through the program.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;

use evoseal_tests::Project;
use serde_json::Value;

/// Ten values around a level with about two percent of scatter, different for each shift.
fn values(level: f64, shift: u32) -> String {
    let value = |i: u32| level * (1.0 + 0.02 * f64::from((i + 3) * (shift * 7 + 5) * 37 % 101) / 50.0 - 0.02);
    let values: Vec<String> = (0..10).map(|i| value(i).to_string()).collect();
    format!("[{}]", values.join(","))
}

/// One iteration with fresh pairs.
fn line(id: u32, level: f64) -> String {
    let (incumbent, candidate) = (values(100.0, id), values(level, id + 100));
    let (fresh, again) = (values(100.0, id + 200), values(level, id + 300));
    format!(
        r#"{{"id":"i{id}","metrics":{{"latency":{{"incumbent":{incumbent},"candidate":{candidate},"confirmation":{{"incumbent":{fresh},"candidate":{again}}}}}}}}}"#
    )
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_is_answered_line_by_line_in_order() {
    let project = Project::bare();
    let lines: Vec<String> = (0..12).map(|id| line(id, if id == 8 { 115.0 } else { 100.0 })).collect();
    project.write("run.jsonl", &lines.join("\n"));
    let finished = project.evoseal(&["detect", "loop", "--batch", "run.jsonl", "--json"]).run().expect(1);
    let answers = json_lines(&finished.stdout);
    assert_eq!(answers.len(), 12);
    for (id, answer) in answers.iter().enumerate() {
        assert_eq!(answer["id"], format!("i{id}"));
        assert_eq!(answer["decision"], if id == 8 { "rollback" } else { "accept" }, "{answer}");
    }
    let worse = &answers[8]["metrics"][0];
    assert_eq!((&worse["verdict"], &worse["stage"]), (&"regressed".into(), &"confirmation".into()));
    assert!(worse["interval"]["low"].as_f64().unwrap() > 0.0 && answers[8]["level"].as_f64().unwrap() < 0.05);
    let totals = &answers[11]["totals"];
    assert_eq!((&totals["iterations"], &totals["rollbacks"]), (&12.into(), &1.into()));
    assert!(totals["false_rollbacks_max"].as_f64().unwrap() <= 0.05);
    assert!(
        finished.stderr.contains("false rollbacks") && finished.stderr.contains("false acceptances"),
        "{}",
        finished.stderr
    );
    // The same file gives the same answers; for people it is one line each as well.
    let again = project.evoseal(&["detect", "loop", "--batch", "run.jsonl", "--json"]).run().expect(1);
    assert_eq!(again.stdout, finished.stdout);
    let text = project.evoseal(&["detect", "loop", "--batch", "run.jsonl"]).run().expect(1).stdout;
    assert!(
        text.lines().filter(|line| !line.starts_with(' ')).count() == 12 && text.contains("i8: rollback"),
        "{text}"
    );
}

#[test]
fn suspicion_without_fresh_samples_asks_for_them() {
    let project = Project::bare();
    let bare = format!(
        r#"{{"metrics":{{"latency":{{"incumbent":{},"candidate":{}}}}}}}"#,
        values(100.0, 50),
        values(115.0, 51)
    );
    project.write("run.jsonl", &[line(0, 100.0), bare, line(2, 100.0)].join("\n"));
    let finished = project.evoseal(&["detect", "loop", "--batch", "run.jsonl", "--json"]).run().expect(0);
    let answers = json_lines(&finished.stdout);
    assert_eq!((&answers[1]["decision"], &answers[1]["id"]), (&"confirm".into(), &2.into()));
    assert_eq!(answers[2]["totals"]["iterations"], 2);
}

#[test]
fn the_settings_file_and_the_options_replace_what_is_judged() {
    let project = Project::new("true");
    let mut settings = project.read("evoseal.toml");
    settings.push_str("\n[safety.regression.run]\nerror_budget = 0.01\npolicy = \"lord\"\n");
    project.write("evoseal.toml", &settings);
    project.write("run.jsonl", &[line(0, 100.0), line(1, 107.0)].join("\n"));
    let level = |arguments: &[&str]| {
        let all: Vec<&str> = ["detect", "loop", "--batch", "run.jsonl", "--json"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        let answers = json_lines(&project.evoseal(&all).run().stdout);
        (answers[1]["level"].as_f64(), answers[1]["decision"].clone())
    };
    let (plain, decision) = level(&[]);
    assert_eq!(decision, "rollback", "every certain harm counts");
    // The tolerated ten percent of the settings make a rise of seven unsuspicious.
    assert_eq!(level(&["--settings", "evoseal.toml"]), (None, "accept".into()));
    let (from_settings, _) = level(&["--settings", "evoseal.toml", "--threshold", "0"]);
    assert!(from_settings.unwrap() < plain.unwrap() / 5.0);
    let (generous, _) = level(&["--alpha", "0.2"]);
    assert!((generous.unwrap() / plain.unwrap() - 4.0).abs() < 1e-9);
    project
        .evoseal(&["detect", "loop", "--batch", "run.jsonl", "--alpha", "2"])
        .run()
        .expect(2)
        .says(&["error_budget"]);
}

#[test]
fn a_flat_list_is_as_many_starts_and_one_start_is_one_value() {
    let project = Project::bare();
    let answer_to = |candidate: &str| {
        let line =
            format!(r#"{{"metrics":{{"m":{{"incumbent":[99,101,100,102,98],"candidate":{candidate}}}}}}}"#);
        project.write("run.jsonl", &line);
        let answer = project.evoseal(&["detect", "loop", "--batch", "run.jsonl", "--json"]).run().expect(0);
        json_lines(&answer.stdout).remove(0)
    };
    let samples_of = |candidate: &str| answer_to(candidate)["metrics"][0]["samples"].clone();
    assert_eq!(samples_of("[99,101,100]"), 3);
    assert_eq!(samples_of("[[99,101],[100]]"), 2);
    // One value, however it looks, clears nobody.
    for one in ["[[99,101,100]]", "[100]", "[90]"] {
        let answer = answer_to(one);
        assert_eq!(answer["decision"], "inconclusive", "{answer}");
        let metric = &answer["metrics"][0];
        assert_eq!((&metric["verdict"], &metric["samples"]), (&"insufficient_data".into(), &1.into()));
        assert_eq!(metric["problem"], "too_few_samples");
        assert!(answer["reason"].as_str().unwrap().contains("process starts"), "{answer}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line_and_a_remedy() {
    let project = Project::bare();
    let wrong = [
        (r#"{"metrics":{"m":{"incumbent":[1,2],"candidate":[1],"treshold":0}}}"#, "treshold", "--help"),
        (r#"{"metrics":{"m":{"incumbent":[1,2],"candidate":"fast"}}}"#, "candidate", ""),
        (
            r#"{"metrics":{"m":{"incumbent":[1,2],"candidate":[1],"confirmation":{"incumbent":[1,2],"candidate":[1]}}}}"#,
            "2 values of the incumbent and 1 of the candidate",
            "measure them in turn",
        ),
        (
            r#"{"metrics":{"m":{"incumbent":[1,2],"candidate":[1],"baselines":{"start":[1]}}}}"#,
            "baseline start",
            "as often",
        ),
        (
            r#"{"metrics":{"m":{"incumbent":[1,2],"candidate":[1],"baselines":{"start":[[1,2,3]]}}}}"#,
            "fewer than two values",
            "process starts",
        ),
        (r#"{"metrics":{"two words":{"candidate":[1]}}}"#, "two words", ""),
        ("not json", "expected", "--help"),
    ];
    for (text, what, remedy) in wrong {
        project.write("run.jsonl", &format!("{}\n\n{text}\n", line(0, 100.0)));
        let finished = project.evoseal(&["detect", "loop", "--batch", "run.jsonl"]).run().expect(2);
        assert!(finished.stdout.is_empty(), "{finished:?}");
        finished.says(&["run.jsonl:3", what, remedy]);
    }
    project.evoseal(&["detect", "loop", "--batch", "missing.jsonl"]).run().expect(3).says(&["missing.jsonl"]);
}

#[test]
fn a_plan_is_made_from_a_pilot_and_refused_where_the_machine_sees_too_little() {
    let project = Project::bare();
    let mut pilot = "start,latency\n".to_owned();
    for start in 0..6 {
        for sample in 0..5 {
            let value = 100.0 + f64::from(start * 37 % 11) + 0.1 * f64::from(sample);
            writeln!(pilot, "{start},{value}").unwrap();
        }
    }
    project.write("pilot.csv", &pilot);
    let by_start = ["detect", "plan", "pilot.csv", "--group-by", "start", "--threshold", "0.1", "--json"];
    let plan = project.evoseal(&by_start).run().expect(0).json();
    assert_eq!(
        (&plan["feasible"], &plan["noise"]["design"], &plan["noise"]["count"]),
        (&true.into(), &"starts".into(), &6.into())
    );
    let refused = project
        .evoseal(&["detect", "plan", "--cv", "0.05", "--threshold", "0.005", "--json"])
        .run()
        .expect(1)
        .json();
    assert_eq!(refused["feasible"], false);
    assert!(refused["smallest_visible"].as_f64().unwrap() > 0.02);
    project
        .evoseal(&["detect", "plan", "--cv", "0.05", "--threshold", "0"])
        .run()
        .expect(2)
        .says(&["--effect"]);
    project.evoseal(&["detect", "plan"]).run().expect(2);
}

#[test]
fn every_simulation_prints_its_table_from_a_seed() {
    let project = Project::bare();
    for (table, few) in [
        ("loop", &["--runs", "1", "--iterations", "20", "--metrics", "2"][..]),
        ("drift", &["--trials", "2"]),
        ("peek", &["--trials", "3", "--noise", "normal"]),
        ("gain", &["--trials", "20"]),
    ] {
        let run = |seed: &str| {
            let arguments: Vec<&str> = ["detect", "simulate", table, "--json", "--seed", seed]
                .into_iter()
                .chain(few.iter().copied())
                .collect();
            project.evoseal(&arguments).run().expect(0).stdout
        };
        assert!(json_lines(&run("1")).len() >= 2, "{table}");
        assert_eq!(run("1"), run("1"), "{table}");
        assert_ne!(run("1"), run("2"), "{table}");
        project.evoseal(&["detect", "simulate", table, "--cv", "0"]).run().expect(2).says(&["--cv"]);
    }
}
