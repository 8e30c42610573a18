//! Parsers against any text: none panics, and what a writer wrote is read back.
#![allow(clippy::unwrap_used, reason = "tests")]

use evoseal_adapters::parse::{Reading, json, junit, libtest, metric_lines};
use evoseal_types::{MetricName, TestStatus};
use proptest::prelude::*;

/// Pieces of real output in any order, which gets further into a parser than random text does.
fn pieces(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![4 => proptest::sample::select(pieces).prop_map(str::to_owned), 1 => ".{0,8}"];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

const LIBTEST: &[&str] = &[
    "running 1 test\n",
    "running 2 tests\n",
    "running 99999999999999999999 tests\n",
    "test a ... ok\n",
    "test b ... FAILED\n",
    "test c ... ignored\n",
    "test src/lib.rs - f (line 3) ... ok\n",
    "\nfailures:\n",
    "---- b stdout ----\n",
    "test result: ok. ",
    "test result: FAILED. ",
    "1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
    "0 passed; 1 failed; 0 ignored; 0 measured\n",
    "   Doc-tests a\n",
    "     Running unittests src/lib.rs (target/debug/deps/a-0123456789abcdef)\n",
    "Running (",
    "\n",
];

const JUNIT: &[&str] = &[
    "<testsuites>",
    "</testsuites>",
    "<testsuite tests=\"1\">",
    "</testsuite>",
    "<testsuite>",
    "<testcase name=\"a\"/>",
    "<testcase name='b' classname='c'>",
    "</testcase>",
    "<failure message=\"&lt;&#65;\">",
    "</failure>",
    "<error/>",
    "<skipped/>",
    "&amp;",
    "&x;",
    "&#0;",
    "&#x110000;",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<?xml version=\"1.1\"?>",
    "<!DOCTYPE",
    " name=\"a\"",
    "<",
    ">",
    "\"",
];

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"metrics\"",
    "\"tests\"",
    "\"value\"",
    "\"unit\"",
    "\"ms\"",
    "\"cases\"",
    "\"name\"",
    "\"status\"",
    "\"pass\"",
    "1",
    "-1.5",
    "1e999",
    "null",
    "\"NaN\"",
    "\"a\"",
    "\"passed\"",
    " ",
];

fn metric_name() -> impl Strategy<Value = MetricName> {
    "[a-zA-Z][a-zA-Z0-9_./:%-]{0,30}".prop_map(|name| MetricName::new(name).unwrap())
}

fn reading() -> impl Strategy<Value = Reading> {
    let unit = proptest::option::of("[a-zA-Z%µ/]{1,32}");
    (metric_name(), any::<f64>(), unit).prop_map(|(name, value, unit)| Reading { name, value, unit })
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in any::<String>()) {
        let _ = metric_lines::parse(&text);
        let _ = metric_lines::parse(&format!("METRIC {text}"));
        let _ = json::parse(&text);
        let _ = junit::parse("t", &text);
        let _ = libtest::parse("t", &text, &text);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = metric_lines::parse(&text);
        let _ = json::parse(&text);
        let _ = junit::parse("t", &text);
        let _ = libtest::parse("t", &text, &text);
    }

    #[test]
    fn what_is_read_from_shuffled_test_output_is_consistent(out in pieces(LIBTEST), err in pieces(LIBTEST)) {
        if let Ok(report) = libtest::parse("t", &out, &err) {
            prop_assert!(report.check().is_ok());
            prop_assert_eq!(report.tests_run + report.tests_skipped, report.cases.len() as u64);
        }
    }

    #[test]
    fn what_is_read_from_shuffled_xml_is_consistent(text in pieces(JUNIT)) {
        if let Ok(report) = junit::parse("t", &format!("<testsuite>{text}</testsuite>")) {
            prop_assert!(report.check().is_ok());
            prop_assert_eq!(report.tests_run + report.tests_skipped, report.cases.len() as u64);
        }
    }

    #[test]
    fn what_is_read_from_shuffled_json_is_consistent(text in pieces(JSON)) {
        if let Ok(results) = json::parse(&format!("{{{text}}}")) {
            prop_assert!(results.tests.is_none_or(|tests| tests.check().is_ok()));
        }
    }

    #[test]
    fn written_metric_lines_are_read_back(readings in proptest::collection::vec(reading(), 0..20)) {
        let text: Vec<String> = readings.iter().map(ToString::to_string).collect();
        let back = metric_lines::parse(&text.join("\n")).unwrap();
        prop_assert_eq!(back.len(), readings.len());
        for (back, reading) in back.iter().zip(&readings) {
            prop_assert_eq!((&back.name, &back.unit), (&reading.name, &reading.unit));
            prop_assert!(back.value.to_bits() == reading.value.to_bits() || back.value.is_nan() && reading.value.is_nan());
        }
    }

    #[test]
    fn metrics_in_json_are_read_back(name in metric_name(), values in proptest::collection::vec(-1e12..1e12, 1..20)) {
        let text = serde_json::json!({ "metrics": { name.as_str(): { "value": values, "unit": "ms" } } }).to_string();
        let back = json::parse(&text).unwrap().metrics;
        prop_assert!(back.iter().all(|reading| reading.name == name && reading.unit.as_deref() == Some("ms")));
        let back: Vec<u64> = back.iter().map(|reading| reading.value.to_bits()).collect();
        let values: Vec<u64> = values.iter().map(|value: &f64| value.to_bits()).collect();
        prop_assert_eq!(back, values);
    }

    #[test]
    fn a_report_in_the_form_of_the_harness_is_read_whole(endings in proptest::collection::vec(0_usize..3, 0..30)) {
        let words = ["ok", "FAILED", "ignored"];
        let lines: Vec<String> = endings
            .iter()
            .enumerate()
            .map(|(index, ending)| format!("test t{index} ... {}", words[*ending]))
            .collect();
        let count = |wanted: usize| endings.iter().filter(|ending| **ending == wanted).count() as u64;
        let word = if count(1) == 0 { "ok" } else { "FAILED" };
        let text = format!(
            "\nrunning {} tests\n{}\n\ntest result: {word}. {} passed; {} failed; {} ignored; 0 measured; 0 filtered out\n",
            endings.len(), lines.join("\n"), count(0), count(1), count(2),
        );
        let report = libtest::parse("t", &text, "").unwrap();
        let counts = (report.tests_passed, report.tests_failed, report.tests_skipped);
        prop_assert_eq!(counts, (count(0), count(1), count(2)));
    }
}

#[test]
fn entities_do_not_expand() {
    let levels = (1..10)
        .map(|level| format!("<!ENTITY e{level} \"{}\">", "&e0;".repeat(10)))
        .collect::<Vec<_>>()
        .concat();
    let bomb = format!(
        "<!DOCTYPE t [<!ENTITY e0 \"boom\">{levels}]><testsuite><testcase name=\"&e9;\"/></testsuite>"
    );
    assert!(junit::parse("t", &bomb).unwrap_err().reason.contains("document type"));
}

#[test]
fn messages_and_names_are_bounded_however_long_the_text_is() {
    let long = "x".repeat(1 << 20);
    let report = junit::parse(
        "t",
        &format!(
            "<testsuite><testcase name='{long}'><failure>{}</failure></testcase></testsuite>",
            "y\n".repeat(1 << 14)
        ),
    )
    .unwrap();
    assert_eq!(report.cases[0].status, TestStatus::Fail);
    assert!(report.cases[0].name.chars().count() <= 500);
    assert!(report.cases[0].message.as_ref().unwrap().chars().count() <= 2001);
    let error = metric_lines::parse(&format!("METRIC {long}")).unwrap_err();
    assert!(error.to_string().len() < 300);
}
