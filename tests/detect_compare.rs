//! `evoseal detect compare` and `detect simulate` as scripts use them: the fixed interface, bad lines, the same answer twice.

#![allow(clippy::unwrap_used, reason = "tests")]

use evoseal_tests::{Finished, Project};
use proptest::prelude::*;
use serde_json::Value;

fn compare(lines: &str) -> Finished {
    let project = Project::bare();
    project.write("batch.jsonl", lines);
    project.evoseal(&["detect", "compare", "--batch", "batch.jsonl", "--json"]).run()
}

fn rows(finished: &Finished) -> Vec<Value> {
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_line_is_answered_in_its_order_with_exactly_the_agreed_keys() {
    let lines = r#"
        {"id": "slower", "baseline": [10, 10.1, 9.9, 10.2, 10], "candidate": [13, 13.1, 12.9, 13.2, 13], "direction": "increase", "threshold": 0.05, "paired": false, "alpha": 0.05}
        {"id": 2, "baseline": [[1, 1.01], [1.02, 1], [0.99, 1], [1, 1.01]], "candidate": [[1, 1], [1.01, 1], [1, 0.99], [1.02, 1]], "threshold": 0.1}
        {"id": ["any", "json"], "baseline": [1, 2, 3], "candidate": [1, null, 3]}
        {"id": null, "baseline": [10, 20, 30, 25, 15], "candidate": [9, 18.1, 26.8, 22.6, 13.4], "paired": true}
    "#;
    let finished = compare(lines).expect(1);
    let rows = rows(&finished);
    let seen: Vec<_> = rows.iter().map(|row| (row["id"].clone(), row["verdict"].as_str().unwrap())).collect();
    let ids = [Value::from("slower"), Value::from(2), serde_json::json!(["any", "json"]), Value::Null];
    let verdicts = ["regressed", "equivalent", "insufficient_data", "improved"];
    assert_eq!(seen, ids.into_iter().zip(verdicts).collect::<Vec<_>>());
    let keys = ["effect", "evidence", "id", "interval", "method", "reason", "verdict"];
    for row in &rows {
        let mut found: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, keys);
    }
    assert!((rows[0]["effect"].as_f64().unwrap() - 0.2988).abs() < 0.01, "{}", rows[0]);
    assert!(rows[0]["interval"][0].as_f64().unwrap() > 0.05, "{}", rows[0]);
    assert_eq!(rows[1]["method"], "welch_t");
    assert!(rows[2]["reason"].as_str().unwrap().contains("NaN"), "{}", rows[2]);
    assert_eq!(rows[3]["method"], "paired_t");
    assert_eq!(compare(lines).stdout, finished.stdout, "the same batch, the same bytes");
}

#[test]
fn a_line_may_name_its_method() {
    let methods = [
        ("auto", "welch_t"),
        ("t_interval", "welch_t"),
        ("rank_shift", "rank_ratio"),
        ("permutation", "permutation_ratio"),
        ("yuen", "yuen"),
        ("bca_mean", "bca_mean"),
        ("bca_median", "bca_median"),
        ("bca_p90", "bca_percentile"),
        ("bca_p99", "bca_percentile"),
    ];
    let line = |method: &str| {
        format!(
            r#"{{"id": "{method}", "baseline": [10, 10.2, 9.9, 10.1, 9.8], "candidate": [15, 15.3, 14.9, 15.1, 14.8], "method": "{method}"}}"#
        )
    };
    let lines: String = methods.iter().map(|(method, _)| line(method) + "\n").collect();
    for (row, (asked, answered)) in rows(&compare(&lines).expect(1)).iter().zip(methods) {
        assert_eq!(
            (row["method"].as_str(), row["verdict"].as_str()),
            (Some(answered), Some("regressed")),
            "{asked}"
        );
    }
    let counts = r#"{"id": "c", "baseline": [2, 1, 0, 2, 1], "candidate": [19, 14, 17, 20, 15], "method": "poisson_rate"}"#;
    assert_eq!(rows(&compare(counts).expect(1))[0]["method"], "poisson_rate");
}

#[test]
fn a_bad_line_names_itself_and_its_remedy_and_costs_no_other() {
    let good = r#"{"id": "good", "baseline": [1, 2, 3], "candidate": [1, 2, 3]}"#;
    let bad = [
        ("{", "one JSON object"),
        (r#"{"id": 1, "baseline": [1, 2]}"#, "one JSON object"),
        (r#"{"id": 1, "baseline": [1], "candidate": [1], "treshold": 0.1}"#, "one JSON object"),
        (r#"{"id": 1, "baseline": 7, "candidate": [1]}"#, "a list of numbers"),
        (r#"{"id": 1, "baseline": [1, "two"], "candidate": [1]}"#, "a list of numbers"),
        (r#"{"id": 1, "baseline": [1, 2], "candidate": [1, 2], "alpha": 1.5}"#, "between 0 and 1"),
        (r#"{"id": 1, "baseline": [1, 2], "candidate": [1, 2], "threshold": -0.1}"#, "a fraction"),
        (r#"{"id": 1, "baseline": [1, 2], "candidate": [1, 2], "direction": "up"}"#, "one JSON object"),
    ];
    for (line, remedy) in bad {
        let finished = compare(&format!("{good}\n{line}\n{good}\n")).expect(2);
        let rows = rows(&finished);
        assert_eq!(rows.len(), 3, "{line}");
        assert_eq!((&rows[0]["id"], &rows[2]["id"]), (&Value::from("good"), &Value::from("good")));
        assert!(rows[1]["error"].as_str().unwrap().contains("batch.jsonl:2: "), "{}", rows[1]);
        assert!(rows[1]["hint"].as_str().unwrap().contains(remedy), "{line}: {}", rows[1]);
        assert!(finished.stderr.contains("batch.jsonl:2"), "{}", finished.stderr);
    }
}

#[test]
fn tables_are_the_same_for_the_same_seed() {
    let project = Project::bare();
    let table = |seed: &str| {
        project
            .evoseal(&["detect", "simulate", "aa", "--trials", "3", "--seed", seed, "--json"])
            .run()
            .expect(0)
    };
    let first = table("1");
    assert_eq!(rows(&first).len(), 216, "108 cells, without a change and at the edge of the threshold");
    assert_eq!(first.stdout, table("1").stdout);
    assert!(first.stdout != table("2").stdout);
    project.evoseal(&["detect", "simulate", "power", "--alpha", "7"]).run().expect(2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_numbers_make_a_comparison_panic(
        old in prop::collection::vec(any::<f64>(), 0..12),
        new in prop::collection::vec(prop_oneof![Just(0.0), Just(1.0), any::<f64>()], 0..12),
        paired in any::<bool>(),
    ) {
        let text = |values: &[f64]| format!("[{}]", values.iter().map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(","));
        let line = format!(r#"{{"id": 1, "baseline": {}, "candidate": {}, "paired": {paired}}}"#, text(&old), text(&new));
        let finished = compare(&line);
        prop_assert!(matches!(finished.code, Some(0 | 1)), "{line}: {finished:?}");
    }
}
