//! What the terminal shows.
#![allow(clippy::unwrap_used, reason = "tests")]

use evoseal_regression::{DataProblem, Interval, Verdict};
use evoseal_report::{
    RowOutcome, RunHistory, TableOptions, gain_summary, iteration_detail, iteration_table, metric_table,
    sample, status_lines,
};
use evoseal_types::VersionId;

fn plain(width: u16) -> TableOptions {
    TableOptions { width: Some(width), color: false }
}

/// Every text that the crate makes for a terminal.
fn all_texts(history: &RunHistory, options: TableOptions) -> Vec<String> {
    let mut texts = vec![
        iteration_table(history, options),
        metric_table(history, options),
        gain_summary(history, options),
        status_lines(history, options),
    ];
    texts.extend(history.iterations.iter().map(|row| iteration_detail(row, options)));
    texts
}

#[test]
fn tables_at_three_widths() {
    let run = sample::history();
    for width in [60, 100, 160] {
        insta::assert_snapshot!(format!("iterations_{width}"), iteration_table(&run, plain(width)));
        insta::assert_snapshot!(format!("metrics_{width}"), metric_table(&run, plain(width)));
    }
}

#[test]
fn details_and_status() {
    let run = sample::history();
    insta::assert_snapshot!("detail_100", iteration_detail(&run.iterations[1], plain(100)));
    insta::assert_snapshot!("detail_60", iteration_detail(&run.iterations[3], plain(60)));
    insta::assert_snapshot!("status_80", status_lines(&run, plain(80)));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let run = sample::history();
    for width in [40, 60, 80, 100, 132, 160, 250] {
        for text in all_texts(&run, plain(width)) {
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(width), "{width}: {line:?}");
            }
        }
    }
}

#[test]
fn an_absurdly_narrow_terminal_is_treated_as_one_of_forty_columns() {
    let run = sample::history();
    assert_eq!(all_texts(&run, plain(1)), all_texts(&run, plain(40)));
}

#[test]
fn without_a_width_nothing_is_cut() {
    let mut run = sample::history();
    run.iterations[0].change = "word ".repeat(40).trim().to_owned();
    let text = iteration_table(&run, TableOptions::default());
    assert!(text.contains(&run.iterations[0].change));
}

#[test]
fn colour_adds_nothing_but_codes() {
    let run = sample::history();
    for (colored, plain) in all_texts(&run, TableOptions { width: Some(100), color: true })
        .iter()
        .zip(all_texts(&run, plain(100)))
    {
        let mut stripped = String::new();
        for (index, part) in colored.split('\u{1b}').enumerate() {
            let rest = if index == 0 { part } else { part.split_once('m').unwrap().1 };
            stripped.push_str(rest);
        }
        assert_eq!(stripped, plain);
    }
    assert!(
        iteration_table(&run, TableOptions { width: Some(100), color: true })
            .contains("\u{1b}[32m✓ accepted\u{1b}[0m")
    );
}

#[test]
fn every_outcome_and_verdict_is_a_word_without_colour() {
    let run = sample::history();
    let text = iteration_table(&run, plain(160));
    for word in [
        "✓ accepted",
        "✗ rejected",
        "↩ rolled back",
        "? inconclusive",
        "! error",
        "‼ tampered",
        "✗ regressed",
    ] {
        assert!(text.contains(word), "{word}");
    }
}

#[test]
fn hostile_text_cannot_steer_the_terminal_nor_forge_an_outcome() {
    let mut run = sample::history();
    let hostile = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}evil\u{200b}\r\n\u{e000}\u{a0}accepted\u{a0}";
    run.title = hostile.to_owned();
    run.stop_reason = Some(hostile.to_owned());
    run.unprotected = vec![hostile.to_owned()];
    let row = &mut run.iterations[1];
    row.change = hostile.to_owned();
    row.decided_by = hostile.to_owned();
    row.reasons = vec![hostile.to_owned(), hostile.to_owned()];
    for term in &mut row.score_terms {
        term.label = hostile.to_owned();
    }
    for finding in &mut row.findings {
        finding.method = hostile.to_owned();
        finding.reason = hostile.to_owned();
        finding.baseline = Some(hostile.to_owned());
        finding.metric.unit = hostile.to_owned();
    }
    run.iterations.truncate(2);
    run.iterations.remove(0);
    for width in [None, Some(60), Some(100), Some(160)] {
        let mut options = TableOptions { width, color: false };
        for text in all_texts(&run, options) {
            let bad = |character: char| {
                (character.is_control() && character != '\n')
                    || matches!(character, '\u{202e}' | '\u{200b}' | '\u{e000}'..='\u{f8ff}')
            };
            assert!(!text.contains(bad), "{text:?}");
        }
        options.color = true;
        let text = iteration_table(&run, options);
        assert!(!text.contains("accepted\u{1b}"), "only the outcome column is coloured: {text:?}");
    }
}

#[test]
fn a_run_without_iterations_is_described() {
    let run = sample::run(0);
    for text in all_texts(&run, plain(80)) {
        assert!(!text.trim().is_empty());
    }
    assert!(gain_summary(&run, plain(80)).contains("Nothing was gained: after 0 iterations"));
    assert!(status_lines(&run, plain(80)).contains("none yet"));
}

#[test]
fn a_run_without_an_objective_counts_what_was_accepted() {
    let mut run = sample::history();
    run.objective = None;
    run.error_rate = None;
    assert_eq!(gain_summary(&run, plain(80)), "The run has no objective: 5 of 14 changes were accepted.\n");
    let text = metric_table(&run, plain(120));
    assert!(!text.contains("objective"));
}

#[test]
fn a_gain_that_was_not_measured_side_by_side_says_so() {
    let mut run = sample::history();
    assert!(gain_summary(&run, plain(160)).contains("measured side by side at the end"));
    run.remeasured.clear();
    let text = gain_summary(&run, plain(160));
    assert!(text.starts_with("time: −17.6 % (12.90 ms → 10.63 ms"), "{text}");
    assert!(!text.contains('['), "no interval without a common measurement: {text}");
    assert!(text.contains("Not measured again side by side"), "{text}");
}

#[test]
fn an_objective_that_got_worse_is_no_gain() {
    let mut run = sample::history();
    run.remeasured.clear();
    for metric in &mut run.baseline.metrics {
        metric.mean = 5.0;
    }
    let text = gain_summary(&run, plain(160));
    assert!(text.contains("The objective is worse than at the start."), "{text}");
}

#[test]
fn a_final_version_without_measurements_has_an_unknown_gain() {
    let mut run = sample::history();
    run.remeasured.clear();
    run.final_version = VersionId::new("elsewhere").unwrap();
    assert!(gain_summary(&run, plain(160)).contains("The gain is unknown"));
    assert!(metric_table(&run, plain(160)).contains('–'));
}

#[test]
fn a_missing_or_unusable_number_is_said_not_hidden() {
    let mut run = sample::history();
    let row = &mut run.iterations[0];
    row.metrics[0].mean = f64::NAN;
    row.metrics.remove(1);
    let finding = &mut row.findings[0];
    finding.verdict = Verdict::InsufficientData;
    finding.problem = Some(DataProblem::NonFiniteInCandidate);
    (finding.change, finding.absolute_change, finding.interval, finding.p_value) = (None, None, None, None);
    (finding.old_value, finding.new_value) = (None, None);
    let text = iteration_table(&run, plain(160));
    assert!(text.contains("not a number") && text.contains("insufficient data"), "{text}");
    let detail = iteration_detail(&run.iterations[0], plain(100));
    assert!(detail.contains("a sample of the candidate is not a finite number"), "{detail}");
}

#[test]
fn infinite_and_zero_width_intervals_are_shown() {
    let mut run = sample::history();
    let finding = &mut run.iterations[0].findings[0];
    finding.interval = Some(Interval { low: f64::NEG_INFINITY, high: f64::INFINITY, level: 0.95 });
    run.iterations[2].findings[0].interval = Some(Interval { low: -0.043, high: -0.043, level: 0.95 });
    let text = iteration_table(&run, plain(160));
    assert!(text.contains("−2.9 % [−∞, +∞]"), "{text}");
    assert!(text.contains("−4.3 % [−4.3, −4.3]"), "{text}");
}

#[test]
fn a_change_from_zero_is_absolute() {
    let mut run = sample::history();
    let finding = &mut run.iterations[0].findings[0];
    (finding.old_value, finding.new_value) = (Some(0.0), Some(3.0));
    (finding.change, finding.absolute_change) = (None, Some(3.0));
    finding.interval = Some(Interval { low: 2.0, high: 4.0, level: 0.95 });
    let text = iteration_table(&run, plain(160));
    assert!(text.contains("+3 ms [2, 4]"), "{text}");
}

#[test]
fn a_thousand_iterations_are_laid_out() {
    let run = sample::run(1_000);
    let text = iteration_table(&run, plain(160));
    assert!(text.contains("1000  ") && text.lines().count() > 1_000);
    assert!(status_lines(&run, plain(160)).contains("1 000: 358 accepted"));
}

#[test]
fn counts_add_up_and_the_objective_comes_first() {
    let run = sample::history();
    let counts = run.counts();
    assert_eq!(counts.total(), 14);
    assert_eq!(RowOutcome::ALL.map(|outcome| counts.of(outcome)), [5, 4, 1, 2, 1, 1]);
    let names: Vec<String> = run.metrics().iter().map(|spec| spec.name.to_string()).collect();
    assert_eq!(names, ["time", "accuracy", "memory"]);
}

#[test]
fn json_brings_back_the_same_history_and_is_plain() {
    let mut run = sample::history();
    run.baseline.metrics[0].mean = f64::INFINITY;
    let json = serde_json::to_string(&run).unwrap();
    assert!(serde_json::from_str::<RunHistory>(&json).unwrap() == run, "{json}");
    assert!(!json.contains('−') && !json.contains('\u{a0}'));
    for text in ["\"outcome\":\"rolled_back\"", "\"mean\":\"inf\"", "\"started_at\":\"2026-03-01T08:00:00Z\""]
    {
        assert!(json.contains(text), "{text}");
    }
}
