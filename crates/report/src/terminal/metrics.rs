//! The table of all metrics.

use comfy_table::CellAlignment;
use evoseal_regression::Verdict;
use evoseal_types::MetricSpec;

use super::{TableOptions, finish, layout, pairs, table};
use crate::history::{RunHistory, find_metric};
use crate::number;

const HEADER: [&str; 7] = ["metric", "better", "baseline", "final", "change", "threshold", "verdicts"];

/// Below this width the columns break words, so each metric becomes a block of lines.
const TABLE_WIDTH_MIN: u16 = 90;

/// One row per metric: baseline, final value, change between them, threshold, and how often it was improved,
/// equivalent, regressed or undecided.
///
/// The change is the difference of the two stored means and has no interval unless both were measured side by side at
/// the end. The threshold is that of the newest finding.
///
/// ```
/// # let history = evoseal_report::sample::history();
/// use evoseal_report::{TableOptions, metric_table};
/// let text = metric_table(&history, TableOptions::default());
/// assert!(text.lines().next().is_some_and(|header| header.contains("baseline")));
/// ```
pub fn metric_table(history: &RunHistory, options: TableOptions) -> String {
    if options.width().is_some_and(|width| width < TABLE_WIDTH_MIN) {
        return blocks(history, options);
    }
    let mut table = table(options.width());
    table.set_header(HEADER);
    for spec in history.metrics() {
        table.add_row(row(history, &spec));
    }
    for index in 2..=3 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    finish(&layout(&mut table), options.color)
}

fn blocks(history: &RunHistory, options: TableOptions) -> String {
    let metrics = history.metrics();
    let mut rows = Vec::new();
    for (index, spec) in metrics.iter().enumerate() {
        if index > 0 {
            rows.push((" ".to_owned(), String::new()));
        }
        let labels = HEADER.iter().map(|label| (*label).to_owned());
        rows.extend(labels.zip(row(history, spec)));
    }
    finish(&pairs(options.width(), &rows), options.color)
}

fn row(history: &RunHistory, spec: &MetricSpec) -> [String; 7] {
    let dash = || "–".to_owned();
    let objective = history.objective.as_ref().is_some_and(|objective| objective.metric == spec.name);
    let before = find_metric(&history.baseline.metrics, &spec.name).map(|summary| summary.mean);
    let after = find_metric(history.final_metrics(), &spec.name).map(|summary| summary.mean);
    let shown = |value: Option<f64>| value.map_or_else(dash, |value| number::value(value, &spec.unit));
    let newest = history.iterations.iter().rev().find_map(|row| row.finding(&spec.name));
    [
        if objective { format!("{} (objective)", spec.name) } else { spec.name.to_string() },
        number::better(spec.direction).trim_end_matches(" is better").to_owned(),
        shown(before),
        shown(after),
        change(history, spec, before, after).unwrap_or_else(dash),
        newest.map_or_else(dash, |finding| number::tolerance(finding.threshold.threshold())),
        verdicts(history, spec),
    ]
}

/// The change from baseline to final version: the side-by-side finding if there is one.
pub(crate) fn change(
    history: &RunHistory,
    spec: &MetricSpec,
    before: Option<f64>,
    after: Option<f64>,
) -> Option<String> {
    let side_by_side = history.remeasured.iter().find(|finding| finding.metric.name == spec.name);
    if let Some(effect) = side_by_side.and_then(number::effect) {
        return Some(effect);
    }
    let (before, after) = (before?, after?);
    Some(if before == 0.0 {
        number::signed_value(after - before, &spec.unit)
    } else {
        number::relative((after - before) / before.abs(), None)
    })
}

/// `2 improved, 1 regressed`: what the comparisons with incumbents said.
pub(crate) fn verdicts(history: &RunHistory, spec: &MetricSpec) -> String {
    let verdicts = [
        Verdict::Improved,
        Verdict::Equivalent,
        Verdict::Regressed,
        Verdict::Inconclusive,
        Verdict::InsufficientData,
    ];
    let found = |verdict| {
        let findings = history.iterations.iter().filter_map(|row| row.finding(&spec.name));
        findings.filter(|finding| finding.verdict == verdict).count()
    };
    let counted: Vec<String> = verdicts
        .into_iter()
        .map(|verdict| (found(verdict), verdict))
        .filter(|(count, _)| *count > 0)
        .map(|(count, verdict)| format!("{count} {verdict}"))
        .collect();
    if counted.is_empty() { "–".to_owned() } else { counted.join(", ") }
}
