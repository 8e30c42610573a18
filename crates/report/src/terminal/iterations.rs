//! The table of all iterations.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, Row, Width};
use evoseal_types::MetricSpec;

use super::{TableOptions, finish, layout, outcome_mark, table, verdict_mark};
use crate::history::{IterationRow, MetricSummary, RunHistory, find_metric};
use crate::number::{self, NBSP};
use crate::text::{CELL_CHARS_MAX, one_line};
use evoseal_regression::Verdict;

/// The narrowest columns that a change and a reason can be read in.
const CHANGE_WIDTH_MIN: usize = 16;
const REASON_WIDTH_MIN: usize = 22;
const OUTCOME_WIDTH: usize = 14;
const NUMBER_WIDTH: usize = 4;
const GAP: usize = 2;
/// No cell is higher than this; what does not fit is cut and `iteration_detail` has it.
const LINES_MAX: usize = 4;

/// One row per iteration: number, change, each metric with its change against the incumbent, outcome and first
/// reason.
///
/// The objective is the first metric. Metrics that do not fit the width are left out, and a line below the table
/// names them; where not even one fits, each iteration becomes a block of lines.
///
/// ```
/// # let history = evoseal_report::sample::history();
/// use evoseal_report::{TableOptions, iteration_table};
/// let text = iteration_table(&history, TableOptions { width: Some(100), color: false });
/// assert!(text.contains("✓ accepted"));
/// assert!(text.lines().all(|line| line.chars().count() <= 100));
/// ```
pub fn iteration_table(history: &RunHistory, options: TableOptions) -> String {
    let metrics = history.metrics();
    let text = match options.width().map(usize::from) {
        None => wide(history, &metrics, None),
        Some(width) => match metrics_that_fit(history, &metrics, width) {
            Some(count) => {
                let mut text = wide(history, &metrics[..count], options.width());
                if count < metrics.len() {
                    let names: Vec<&str> = metrics[count..].iter().map(|spec| spec.name.as_str()).collect();
                    text = format!("{text}\n\nNot shown for lack of width: {}", names.join(", "));
                }
                text
            }
            None => blocks(history, metrics.first(), options.width()),
        },
    };
    finish(&text, options.color)
}

/// How many metric columns fit; `None` if the table is not worth it at this width.
fn metrics_that_fit(history: &RunHistory, metrics: &[MetricSpec], width: usize) -> Option<usize> {
    let fixed = NUMBER_WIDTH + CHANGE_WIDTH_MIN + OUTCOME_WIDTH + REASON_WIDTH_MIN + 4 * GAP;
    let mut left = width.checked_sub(fixed)?;
    let mut count = 0;
    for spec in metrics {
        let Some(rest) = left.checked_sub(metric_width(history, spec) + GAP) else { break };
        left = rest;
        count += 1;
    }
    (count > 0 || metrics.is_empty()).then_some(count)
}

fn metric_width(history: &RunHistory, spec: &MetricSpec) -> usize {
    let cells = history.iterations.iter().map(|row| metric_cell(row, spec));
    let lines = cells.chain([baseline_cell(&history.baseline.metrics, spec)]);
    let longest = |cell: String| cell.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    lines.map(longest).max().unwrap_or(0).max(spec.name.as_str().len())
}

fn wide(history: &RunHistory, metrics: &[MetricSpec], width: Option<u16>) -> String {
    let mut table = table(width);
    let mut header = vec!["#".to_owned(), "change".to_owned()];
    header.extend(metrics.iter().map(|spec| spec.name.to_string()));
    header.extend(["outcome".to_owned(), "reason".to_owned()]);
    table.set_header(header);

    let mut first = Row::new();
    first.add_cell(Cell::new("0"));
    first.add_cell(Cell::new(format!("baseline {}", one_line(history.baseline.version_id.as_str(), 40))));
    for spec in metrics {
        first.add_cell(Cell::new(baseline_cell(&history.baseline.metrics, spec)));
    }
    table.add_row(first);

    for iteration in &history.iterations {
        let mut row = Row::new();
        row.add_cell(Cell::new(iteration.iteration));
        row.add_cell(Cell::new(one_line(&iteration.change, CELL_CHARS_MAX)));
        for spec in metrics {
            row.add_cell(Cell::new(metric_cell(iteration, spec)));
        }
        row.add_cell(Cell::new(outcome_mark(iteration.outcome)));
        row.add_cell(Cell::new(short_reason(iteration)));
        if width.is_some() {
            row.max_height(LINES_MAX);
        }
        table.add_row(row);
    }
    let last = metrics.len() + 3;
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_constraint(match index {
            1 => lower_bound(CHANGE_WIDTH_MIN + GAP),
            index if index == last => lower_bound(REASON_WIDTH_MIN),
            _ => ColumnConstraint::ContentWidth,
        });
        if index == 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    layout(&mut table)
}

fn lower_bound(width: usize) -> ColumnConstraint {
    ColumnConstraint::LowerBoundary(Width::Fixed(u16::try_from(width).unwrap_or(u16::MAX)))
}

/// Each iteration as a few lines: for terminals in which a table would be a column of single words.
fn blocks(history: &RunHistory, objective: Option<&MetricSpec>, width: Option<u16>) -> String {
    let mut table = table(width);
    let baseline = objective
        .map_or_else(String::new, |spec| flat(spec, &baseline_cell(&history.baseline.metrics, spec)) + "\n");
    let version = one_line(history.baseline.version_id.as_str(), 40);
    table.add_row(["0".to_owned(), format!("baseline {version}\n{baseline}")]);
    for iteration in &history.iterations {
        let metric =
            objective.map_or_else(String::new, |spec| flat(spec, &metric_cell(iteration, spec)) + "\n");
        let block = format!(
            "{} · {}\n{metric}{}\n ",
            outcome_mark(iteration.outcome),
            one_line(&iteration.change, CELL_CHARS_MAX),
            short_reason(iteration),
        );
        table.add_row([iteration.iteration.to_string(), block]);
    }
    if let Some(column) = table.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    layout(&mut table)
}

fn flat(spec: &MetricSpec, cell: &str) -> String {
    format!("{} {}", spec.name, cell.replace('\n', " · "))
}

fn baseline_cell(metrics: &[MetricSummary], spec: &MetricSpec) -> String {
    find_metric(metrics, &spec.name)
        .map_or_else(|| "–".to_owned(), |summary| number::value(summary.mean, &summary.spec.unit))
}

/// The value; below it the change; below that a regression in words.
fn metric_cell(row: &IterationRow, spec: &MetricSpec) -> String {
    let finding = row.finding(&spec.name);
    let mut lines = Vec::new();
    if let Some(summary) = row.metric(&spec.name) {
        lines.push(number::value(summary.mean, &summary.spec.unit));
    } else if let Some(value) = finding.and_then(|finding| finding.new_value) {
        lines.push(number::value(value, &spec.unit));
    }
    if let Some(finding) = finding {
        lines.extend(number::effect(finding));
        if matches!(finding.verdict, Verdict::Regressed | Verdict::InsufficientData) {
            lines.push(verdict_mark(finding.verdict));
        }
    }
    if lines.is_empty() { "–".to_owned() } else { lines.join("\n") }
}

/// The first reason, or the rule that decided; and how many reasons there are besides.
fn short_reason(row: &IterationRow) -> String {
    let first = row.notes.first().or(row.reasons.first()).unwrap_or(&row.decided_by);
    let text = one_line(first, CELL_CHARS_MAX);
    match row.notes.len() + row.reasons.len() {
        0 | 1 => text,
        count => format!("{text} (+{}{NBSP}more)", count - 1),
    }
}
