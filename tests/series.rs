//! `evoseal detect series`: the files it reads, what it answers, and what it says about bad ones.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

use std::fmt::Write as _;

use evoseal_tests::{Finished, Project};
use serde_json::{Value, json};

/// Sixty values, of which the last twenty are higher, and an outlier.
fn values() -> Vec<f64> {
    let mut state = 5_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 22) / 1024.0
    };
    let mut values: Vec<f64> = (0..60).map(|index| noise() + if index < 40 { 20.0 } else { 25.0 }).collect();
    values[15] = 31.0;
    values
}

/// Lines of `index,value` below a header.
fn csv(header: &str, values: &[f64]) -> String {
    let mut text = header.to_owned();
    for (index, value) in values.iter().enumerate() {
        let _ = writeln!(text, "{index},{value}");
    }
    text
}

fn detect(project: &Project, arguments: &[&str]) -> Finished {
    project.evoseal(&[&["detect", "series"], arguments].concat()).run()
}

/// The lines of the answer.
fn lines(finished: &Finished) -> Vec<Value> {
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_series_is_one_line_of_json_with_changes_anomalies_and_trend() {
    let project = Project::bare();
    project.write("latency.csv", &csv("time,value\n", &values()));
    let finished = detect(&project, &["latency.csv", "--json"]).expect(1);
    let found = lines(&finished);
    assert_eq!(found.len(), 1, "{found:?}");
    let report = &found[0];
    assert_eq!((&report["series"], &report["n"]), (&json!("latency"), &json!(60)));
    let change = &report["change_points"][0];
    assert_eq!((&change["index"], &change["interval"]), (&json!(40), &json!([40, 40])), "{change}");
    for (name, low, high) in [
        ("before", 20.0, 21.0),
        ("after", 25.0, 26.0),
        ("relative_change", 0.2, 0.3),
        ("confidence", 0.999, 1.0),
    ] {
        let value = change[name].as_f64().unwrap();
        assert!((low..=high).contains(&value), "{name}: {value}");
    }
    let anomaly = &report["anomalies"][0];
    assert_eq!((&anomaly["index"], &anomaly["method"]), (&json!(15), &json!("spike")), "{report}");
    assert!(anomaly["score"].as_f64().unwrap() > 3.5 && anomaly["severity"].is_string(), "{anomaly}");
    let trend = &report["trend"];
    assert_eq!((&trend["start"], &trend["direction"]), (&json!(40), &json!("stable")), "{trend}");
    // An outlier in the good direction is no anomaly.
    let finished = detect(&project, &["latency.csv", "--json", "--direction", "decrease"]).expect(1);
    assert_eq!(lines(&finished)[0]["anomalies"], json!([]));
    assert_eq!(lines(&finished)[0]["change_points"][0]["is_harmful"], json!(false));
}

#[test]
fn headers_columns_and_json_lines_say_the_same() {
    let project = Project::bare();
    let values = values();
    let file = |name: &str, header: &str, line: fn(usize, f64) -> String| {
        let lines: Vec<String> =
            values.iter().enumerate().map(|(index, value)| line(index, *value)).collect();
        project.write(name, &format!("{header}{}\n", lines.join("\n")));
    };
    file("a.csv", "", |index, value| format!("{index},{value}"));
    file("b.csv", "index,value\n", |index, value| format!("{index},{value}"));
    file("c.csv", "", |index, value| format!("{index}, {value}, {}", index * 7));
    file("d.csv", "value,weight\n", |index, value| format!("{value},{index}"));
    file("e.jsonl", "", |index, value| json!([index, value]).to_string());
    file("f.jsonl", "", |index, value| json!({"zone": index, "value": value}).to_string());
    let body = |finished: &Finished| {
        lines(finished)
            .into_iter()
            .map(|mut line| {
                line.as_object_mut().unwrap().remove("series");
                line
            })
            .collect::<Vec<_>>()
    };
    let plain = body(&detect(&project, &["a.csv", "--json"]).expect(1));
    let same = body(&detect(&project, &["b.csv", "d.csv", "e.jsonl", "f.jsonl", "--json"]).expect(1));
    assert_eq!(same, vec![plain[0].clone(); 4]);
    assert_eq!(body(&detect(&project, &["c.csv", "--column", "1", "--json"]).expect(1)), plain);
    let text = detect(&project, &["a.csv"]).expect(1);
    assert!(
        text.stdout.contains("change at 40 [40, 40]: 20.") && text.stdout.contains("trend since 40: stable"),
        "{}",
        text.stdout
    );
}

#[test]
fn groups_are_series_of_their_own_in_the_order_in_which_they_appear() {
    let project = Project::bare();
    let mut text = "bench,value\n".to_owned();
    for value in values() {
        let _ = write!(text, "slow,{value}\nflat,7\n");
    }
    project.write("all.csv", &text);
    let found = lines(&detect(&project, &["all.csv", "--group-by", "bench", "--json"]).expect(1));
    let names: Vec<_> = found
        .iter()
        .map(|line| (line["series"].clone(), line["change_points"].as_array().unwrap().len()))
        .collect();
    assert_eq!(names, [(json!("all/slow"), 1), (json!("all/flat"), 0)]);
}

#[test]
fn online_each_value_is_judged_by_its_past() {
    let project = Project::bare();
    let values = values();
    project.write("all.csv", &csv("", &values));
    project.write("part.csv", &csv("", &values[..42]));
    let all = lines(&detect(&project, &["all.csv", "--online", "--json"]).expect(1));
    assert_eq!(all[0]["change_points"][0]["index"], json!(40), "{all:?}");
    let part = lines(&detect(&project, &["part.csv", "--online", "--json"]).expect(0));
    assert_eq!(part[0]["change_points"], json!([]), "two values are not yet a change");
}

#[test]
fn a_bad_file_is_refused_by_name_line_and_remedy() {
    let project = Project::bare();
    for (name, text, says) in [
        (
            "nan.csv",
            "index,value\n0,1\n1,NaN\n2,3\n",
            ["nan.csv:3: \"NaN\" is no finite number", "remove the line"],
        ),
        ("huge.csv", "0,1\n1,1e999\n", ["huge.csv:2: \"1e999\" is no finite number", "remove the line"]),
        ("gap.csv", "0,1\n1,\n2,3\n", ["gap.csv:2: the value is missing", "remove the line"]),
        ("text.csv", "0,1\n1,fast\n", ["text.csv:2: \"fast\" is no number", "--column"]),
        ("short.csv", "0,1\n7\n", ["short.csv:2: the line has 1 of 2 columns", "same columns"]),
        ("empty.csv", "", ["empty.csv has no values", "index,value"]),
        ("header.csv", "index,value\n", ["header.csv has no values", "index,value"]),
        ("one.csv", "0,1\n", ["one: a series needs at least two finite values", "add values"]),
        ("null.jsonl", "[0, 1]\n[1, null]\n", ["null.jsonl:2: the value is missing", "remove the line"]),
        ("broken.jsonl", "{\"value\": 1}\n{\"value\": \n", ["broken.jsonl:2: ", "one JSON value"]),
    ] {
        project.write(name, text);
        let finished = detect(&project, &[name]).expect(2);
        for part in says {
            assert!(finished.stderr.contains(part), "{name}: {part:?} is not in {:?}", finished.stderr);
        }
        assert_eq!(finished.stdout, "", "{name}: nothing was found");
    }
    project.write("vast.csv", "0,1\n1,1e200\n2,1\n");
    let vast = detect(&project, &["vast.csv", "--online"]).expect(2);
    assert!(
        vast.stderr.contains("between -1e150 and 1e150") && vast.stderr.contains("divide"),
        "{}",
        vast.stderr
    );
    detect(&project, &["vast.csv"]).expect(0);
    project.write("fine.csv", "index,value\n0,1\n1,2\n");
    let finished = detect(&project, &["fine.csv", "--column", "speed"]).expect(2);
    assert!(
        finished.stderr.contains("no column \"speed\"") && finished.stderr.contains("index, value"),
        "{}",
        finished.stderr
    );
    let finished = detect(&project, &["missing.csv"]).expect(3);
    assert!(finished.stderr.contains("missing.csv"), "{}", finished.stderr);
    let long = format!("0,{}\n", "1".repeat(3 << 20));
    project.write("long.csv", &long);
    assert!(detect(&project, &["long.csv"]).expect(2).stderr.contains("longer than 1 MiB"));
}
