//! The run as one HTML page.

use askama::Template;
use evoseal_regression::Finding;
use evoseal_types::MetricSpec;

use crate::gain::gain;
use crate::history::{IterationRow, RowOutcome, RunHistory, find_metric};
use crate::number;
use crate::plot::{Mark, Plot, effect_plot, objective_plot};
use crate::terminal::{
    change_from_baseline, elapsed, finding_facts, gain_values, row_facts, state, verdicts,
};
use crate::text::{CELL_CHARS_MAX, DETAIL_CHARS_MAX, one_line};

/// The table of iterations has a column for this many metrics; the details have all of them.
const METRIC_COLUMNS_MAX: usize = 6;

/// The run as one self-contained HTML page: no script, nothing loaded from anywhere.
///
/// The page holds what was gained, the counts, the objective over the iterations, each metric's changes with
/// intervals and thresholds, the table of iterations, every iteration in detail, and what was not protected. It
/// follows the reader's preference for light or dark, fits narrow screens, and prints. A content security policy
/// inside it forbids scripts and requests, in case a candidate's text should ever get past the escaping.
///
/// ```
/// # let history = evoseal_report::sample::history();
/// let page = evoseal_report::html_report(&history);
/// assert!(page.starts_with("<!DOCTYPE html>"));
/// assert!(!page.contains("<script"));
/// ```
pub fn html_report(history: &RunHistory) -> String {
    Page::new(history).render().expect("writing to a string has no way to fail")
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    title: String,
    state: String,
    headline: Headline,
    counts: Vec<Count>,
    facts: Vec<(&'static str, String)>,
    unprotected: Vec<String>,
    objective: Option<Figure>,
    metrics: Vec<MetricBlock>,
    /// Whether any metric has a plot, which then wants explaining.
    has_plots: bool,
    columns: Vec<String>,
    columns_left_out: Vec<String>,
    baseline: BaselineRow,
    rows: Vec<Row>,
}

struct Headline {
    /// The change, or empty where none can be stated.
    number: String,
    /// Its interval in brackets, or empty.
    interval: String,
    role: &'static str,
    metric: String,
    text: String,
    caveat: String,
}

struct Count {
    mark: &'static str,
    role: &'static str,
    slug: &'static str,
    word: String,
    number: usize,
}

struct Figure {
    plot: Plot,
    heading: String,
    caption: String,
    legend: Vec<(&'static str, &'static str, String)>,
}

struct MetricBlock {
    name: String,
    objective: bool,
    better: &'static str,
    before: String,
    after: String,
    change: String,
    tolerated: String,
    verdicts: String,
    figure: Option<Figure>,
}

struct BaselineRow {
    version: String,
    values: Vec<(String, String)>,
}

struct Row {
    number: u64,
    change: String,
    mark: &'static str,
    role: &'static str,
    slug: &'static str,
    outcome: String,
    cells: Vec<Cell>,
    reason: String,
    more: usize,
    decided_by: String,
    reasons: Vec<String>,
    facts: Vec<(String, String)>,
    findings: Vec<FindingBlock>,
}

struct Cell {
    label: String,
    value: String,
    effect: String,
    mark: &'static str,
    role: &'static str,
    verdict: String,
}

struct FindingBlock {
    metric: String,
    partner: String,
    mark: &'static str,
    role: &'static str,
    verdict: String,
    facts: Vec<(String, String)>,
}

impl Page {
    fn new(history: &RunHistory) -> Self {
        let metrics = history.metrics();
        let (columns, left_out) = metrics.split_at(metrics.len().min(METRIC_COLUMNS_MAX));
        let objective = history.objective.as_ref();
        let objective = objective.and_then(|goal| metrics.iter().find(|spec| spec.name == goal.metric));
        let blocks: Vec<MetricBlock> = metrics.iter().map(|spec| metric_block(history, spec)).collect();
        Self {
            title: one_line(&history.title, CELL_CHARS_MAX),
            state: state(history),
            headline: headline(history),
            counts: RowOutcome::ALL.into_iter().map(|outcome| count(history, outcome)).collect(),
            facts: facts(history),
            unprotected: history.unprotected.iter().map(|text| one_line(text, DETAIL_CHARS_MAX)).collect(),
            objective: objective.and_then(|spec| objective_figure(history, spec)),
            has_plots: blocks.iter().any(|metric| metric.figure.is_some()),
            metrics: blocks,
            columns: columns.iter().map(|spec| spec.name.to_string()).collect(),
            columns_left_out: left_out.iter().map(|spec| spec.name.to_string()).collect(),
            baseline: baseline_row(history, columns),
            rows: history.iterations.iter().map(|row| table_row(row, columns)).collect(),
        }
    }
}

fn headline(history: &RunHistory) -> Headline {
    match gain(history) {
        Err(text) => Headline {
            number: String::new(),
            interval: String::new(),
            role: "muted",
            metric: String::new(),
            text,
            caveat: String::new(),
        },
        Ok(gain) => {
            let worse = history.objective.as_ref().is_some_and(|goal| gain.is_worse(goal.direction));
            let text = gain.headline();
            let (number, interval) = text.split_once('[').unwrap_or((&text, ""));
            Headline {
                number: number.trim_end().to_owned(),
                interval: if interval.is_empty() { String::new() } else { format!("[{interval}") },
                role: if worse { "bad" } else { "good" },
                metric: gain.spec.name.to_string(),
                text: gain_values(&gain),
                caveat: gain.caveat(),
            }
        }
    }
}

/// The outcome as a class name of the page.
fn slug(outcome: RowOutcome) -> &'static str {
    match outcome {
        RowOutcome::Accepted => "accepted",
        RowOutcome::Rejected => "rejected",
        RowOutcome::RolledBack => "rolledback",
        RowOutcome::Inconclusive => "inconclusive",
        RowOutcome::Error => "error",
        RowOutcome::Tampered => "tampered",
    }
}

fn count(history: &RunHistory, outcome: RowOutcome) -> Count {
    let mark = Mark::of_outcome(outcome);
    let number = history.counts().of(outcome);
    let word = match (outcome, number) {
        (RowOutcome::Error, 1) => "error".to_owned(),
        (RowOutcome::Error, _) => "errors".to_owned(),
        (outcome, _) => outcome.to_string(),
    };
    Count { mark: mark.name(), role: mark.role().name(), slug: slug(outcome), word, number }
}

fn facts(history: &RunHistory) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("Started", number::time(history.started_at)),
        ("Ended", history.ended_at.map_or_else(|| "not yet, or it was cut off".to_owned(), number::time)),
        ("Duration", number::duration(elapsed(history))),
        ("Baseline", one_line(history.baseline.version_id.as_str(), CELL_CHARS_MAX)),
        ("Final version", one_line(history.final_version.as_str(), CELL_CHARS_MAX)),
    ];
    if let Some(tree) = history.final_tree {
        facts.push(("Final tree", tree.short()));
    }
    facts.push(("Report of", number::time(history.generated_at)));
    facts
}

fn legend(plot: &Plot, word: impl Fn(Mark) -> String) -> Vec<(&'static str, &'static str, String)> {
    plot.marks.iter().map(|mark| (mark.name(), mark.role().name(), word(*mark))).collect()
}

fn objective_figure(history: &RunHistory, spec: &MetricSpec) -> Option<Figure> {
    let plot = objective_plot(history, spec)?;
    let unit = one_line(&spec.unit, 20);
    let unit = if unit.is_empty() { String::new() } else { format!(" in {unit}") };
    let outcome_word = |mark: Mark| {
        let outcome = RowOutcome::ALL.into_iter().find(|outcome| Mark::of_outcome(*outcome) == mark);
        outcome.map(|outcome| outcome.to_string()).unwrap_or_default()
    };
    Some(Figure {
        heading: format!("{}{unit} over the iterations", spec.name),
        caption: format!(
            "{}. The line is the incumbent, the dashed line the baseline; each mark is one candidate.",
            capitalised(number::better(spec.direction))
        ),
        legend: legend(&plot, outcome_word),
        plot,
    })
}

fn metric_block(history: &RunHistory, spec: &MetricSpec) -> MetricBlock {
    let dash = || "–".to_owned();
    let before = find_metric(&history.baseline.metrics, &spec.name).map(|summary| summary.mean);
    let after = find_metric(history.final_metrics(), &spec.name).map(|summary| summary.mean);
    let shown = |value: Option<f64>| value.map_or_else(dash, |value| number::value(value, &spec.unit));
    let newest = history.iterations.iter().rev().find_map(|row| row.finding(&spec.name));
    MetricBlock {
        name: spec.name.to_string(),
        objective: history.objective.as_ref().is_some_and(|goal| goal.metric == spec.name),
        better: number::better(spec.direction),
        before: shown(before),
        after: shown(after),
        change: change_from_baseline(history, spec, before, after).unwrap_or_else(dash),
        tolerated: newest.map_or_else(dash, |finding| {
            format!("{} {}", number::tolerance(finding.threshold.threshold()), finding.threshold.direction())
        }),
        verdicts: verdicts(history, spec),
        figure: effect_figure(history, spec),
    }
}

fn effect_figure(history: &RunHistory, spec: &MetricSpec) -> Option<Figure> {
    let plot = effect_plot(history, spec)?;
    let verdict_word = |mark: Mark| {
        let word = match mark {
            Mark::Disc => "improved",
            Mark::Diamond => "equivalent",
            Mark::Cross => "regressed",
            Mark::Ring => "inconclusive",
            Mark::Square | Mark::Triangle | Mark::Wedge => "insufficient data",
        };
        word.to_owned()
    };
    Some(Figure {
        heading: format!("{}: change against the incumbent", spec.name),
        caption: String::new(),
        legend: legend(&plot, verdict_word),
        plot,
    })
}

fn baseline_row(history: &RunHistory, columns: &[MetricSpec]) -> BaselineRow {
    let value = |spec: &MetricSpec| {
        find_metric(&history.baseline.metrics, &spec.name)
            .map_or_else(|| "–".to_owned(), |summary| number::value(summary.mean, &summary.spec.unit))
    };
    BaselineRow {
        version: one_line(history.baseline.version_id.as_str(), CELL_CHARS_MAX),
        values: columns.iter().map(|spec| (spec.name.to_string(), value(spec))).collect(),
    }
}

fn table_row(row: &IterationRow, columns: &[MetricSpec]) -> Row {
    let mark = Mark::of_outcome(row.outcome);
    let reasons: Vec<String> = row.reasons.iter().map(|reason| one_line(reason, DETAIL_CHARS_MAX)).collect();
    let decided_by = one_line(&row.decided_by, CELL_CHARS_MAX);
    let first = row.notes.first().or(row.reasons.first()).map(|reason| one_line(reason, CELL_CHARS_MAX));
    Row {
        number: row.iteration,
        change: one_line(&row.change, CELL_CHARS_MAX),
        mark: mark.name(),
        role: mark.role().name(),
        slug: slug(row.outcome),
        outcome: row.outcome.to_string(),
        cells: columns.iter().map(|spec| cell(row, spec)).collect(),
        reason: first.unwrap_or_else(|| decided_by.clone()),
        more: (row.notes.len() + row.reasons.len()).saturating_sub(1),
        decided_by,
        reasons,
        facts: row_facts(row),
        findings: row.findings.iter().map(finding_block).collect(),
    }
}

fn cell(row: &IterationRow, spec: &MetricSpec) -> Cell {
    let finding = row.finding(&spec.name);
    let mean = row.metric(&spec.name).map(|summary| summary.mean);
    let value = mean.or_else(|| finding?.new_value);
    let mark = finding.map(|finding| Mark::of_verdict(finding.verdict));
    Cell {
        label: spec.name.to_string(),
        value: value.map_or_else(|| "–".to_owned(), |value| number::value(value, &spec.unit)),
        effect: finding.and_then(number::effect).unwrap_or_default(),
        mark: mark.map_or("", Mark::name),
        role: mark.map_or("", |mark| mark.role().name()),
        verdict: finding.map_or_else(String::new, |finding| finding.verdict.to_string()),
    }
}

fn finding_block(finding: &Finding) -> FindingBlock {
    let mark = Mark::of_verdict(finding.verdict);
    let severity = finding.severity.map_or_else(String::new, |severity| format!(", {severity}"));
    FindingBlock {
        metric: finding.metric.name.to_string(),
        partner: finding.baseline.as_ref().map_or_else(
            || "the incumbent".to_owned(),
            |name| format!("baseline {}", one_line(name, CELL_CHARS_MAX)),
        ),
        mark: mark.name(),
        role: mark.role().name(),
        verdict: format!("{}{severity}", finding.verdict),
        facts: finding_facts(finding),
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
