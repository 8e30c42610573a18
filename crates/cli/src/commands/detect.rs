//! `evoseal detect`: judgement without a run.

mod compare;
mod plan;
mod run_loop;
mod simulate;
mod simulate_loop;

use std::path::Path;

use evoseal_regression::{SeriesReport, SeriesSettings, analyze_series};
use evoseal_types::Direction;
use serde::Serialize;
use serde_json::Value;

use crate::args::{DetectCommand, HarmfulDirection};
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;

pub(crate) fn run(command: &DetectCommand, output: Output) -> Result<Exit> {
    match command {
        DetectCommand::Series { files, column, group_by, direction } => {
            let mut reports = Vec::new();
            for file in files {
                for (name, values) in read_series(file, column.as_deref(), group_by.as_deref())? {
                    reports.push(report_of(name, &values, *direction)?);
                }
            }
            output.lines(&reports, SeriesLine::text);
            let found =
                reports.iter().any(|report| !report.change_points.is_empty() || !report.anomalies.is_empty());
            Ok(if found { Exit::Found } else { Exit::Done })
        }
        DetectCommand::Compare { batch } => compare::run(batch, output),
        DetectCommand::Plan(plan) => plan::run(plan, output),
        DetectCommand::Loop(batch) => run_loop::run(batch, output),
        DetectCommand::Simulate(simulation) => simulate::run(simulation, output),
    }
}

/// What was found in one series, as one line of JSON.
#[derive(Debug, Serialize)]
struct SeriesLine {
    series: String,
    n: usize,
    change_points: Vec<ChangePointLine>,
    anomalies: Vec<evoseal_regression::Anomaly>,
    trend: Option<evoseal_regression::Trend>,
}

#[derive(Debug, Serialize)]
struct ChangePointLine {
    index: usize,
    before: f64,
    after: f64,
    relative_change: Option<f64>,
    is_harmful: Option<bool>,
}

impl SeriesLine {
    /// The same for people.
    fn text(&self) -> String {
        let mut lines = vec![format!("{}: {} values", self.series, self.n)];
        for change in &self.change_points {
            let relative =
                change.relative_change.map_or(String::new(), |by| format!(", {:+.2} %", by * 100.0));
            let harm = match change.is_harmful {
                Some(true) => ", harmful",
                Some(false) => ", not harmful",
                None => "",
            };
            lines.push(format!(
                "  change at {}: {:.4} → {:.4}{relative}{harm}",
                change.index, change.before, change.after
            ));
        }
        for anomaly in &self.anomalies {
            lines.push(format!(
                "  anomaly at {}: {} ({}, score {:.2})",
                anomaly.index, anomaly.severity, anomaly.method, anomaly.score
            ));
        }
        if let Some(trend) = &self.trend {
            let interval = &trend.slope_interval;
            lines.push(format!(
                "  trend since the last change: {:.4} a step [{:.4}, {:.4}]",
                trend.slope, interval.low, interval.high
            ));
        }
        lines.join("\n")
    }
}

fn report_of(series: String, values: &[f64], direction: Option<HarmfulDirection>) -> Result<SeriesLine> {
    let direction = direction.map(Direction::from);
    let SeriesReport { change_points, anomalies, trend } =
        analyze_series(values, direction, &SeriesSettings::default())
            .map_err(|error| Failure::usage(format!("{series}: {error}")))?;
    let change_points = change_points.into_iter().map(|change| ChangePointLine {
        index: change.index,
        before: change.before,
        after: change.after,
        relative_change: change.change,
        is_harmful: change.is_harmful,
    });
    Ok(SeriesLine { series, n: values.len(), change_points: change_points.collect(), anomalies, trend })
}

/// The series in a file, by name: the file's name, with the group's where it is split.
fn read_series(path: &Path, column: Option<&str>, group_by: Option<&str>) -> Result<Vec<(String, Vec<f64>)>> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
    let rows = if text.trim_start().starts_with(['{', '[']) {
        json_rows(path, &text)?
    } else {
        csv_rows(path, &text)?
    };
    let value_column = rows.column(path, column, rows.header.len().saturating_sub(1))?;
    let group_column = match group_by {
        Some(name) => Some(rows.column(path, Some(name), 0)?),
        None => None,
    };
    let base = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut series: Vec<(String, Vec<f64>)> = Vec::new();
    for (number, row) in &rows.rows {
        let cell = |column: usize| row.get(column).map_or("", String::as_str);
        let value: f64 = cell(value_column).trim().parse().map_err(|_| {
            Failure::usage(format!("{}:{number}: {:?} is not a number", path.display(), cell(value_column)))
        })?;
        let name = group_column.map_or_else(|| base.clone(), |column| format!("{base}/{}", cell(column)));
        match series.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => series.push((name, vec![value])),
        }
    }
    if series.is_empty() {
        return Err(Failure::usage(format!("{} has no values", path.display())));
    }
    Ok(series)
}

/// A table of text with line numbers.
struct Rows {
    header: Vec<String>,
    rows: Vec<(usize, Vec<String>)>,
}

impl Rows {
    /// The index of a column given by name or number.
    fn column(&self, path: &Path, wanted: Option<&str>, default: usize) -> Result<usize> {
        let Some(wanted) = wanted else { return Ok(default) };
        let by_name = self.header.iter().position(|name| name == wanted);
        let by_number = wanted.parse().ok().filter(|number| *number < self.header.len());
        by_name.or(by_number).ok_or_else(|| {
            Failure::usage(format!("{} has no column {wanted:?}", path.display()))
                .hint(format!("its columns are {}", self.header.join(", ")))
        })
    }
}

/// CSV; the first row is a header where its last cell is no number.
fn csv_rows(path: &Path, text: &str) -> Result<Rows> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .comment(Some(b'#'))
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let number = record.position().map_or(0, csv::Position::line);
        let cells: Vec<String> = record.iter().map(str::to_owned).collect();
        rows.push((usize::try_from(number).unwrap_or(usize::MAX), cells));
    }
    let is_header = |cells: &[String]| cells.last().is_some_and(|cell| cell.trim().parse::<f64>().is_err());
    let header = if rows.first().is_some_and(|(_, cells)| is_header(cells)) {
        rows.remove(0).1.iter().map(|cell| cell.trim().to_owned()).collect()
    } else {
        let width = rows.first().map_or(0, |(_, cells)| cells.len());
        (0..width).map(|number| number.to_string()).collect()
    };
    Ok(Rows { header, rows })
}

/// JSON lines: numbers, arrays or objects.
fn json_rows(path: &Path, text: &str) -> Result<Rows> {
    let mut header: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let value: Value = serde_json::from_str(line)
            .map_err(|error| Failure::usage(format!("{}:{number}: {error}", path.display())))?;
        let text_of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let cells: Vec<String> = match &value {
            Value::Object(fields) => {
                if header.is_empty() {
                    header = fields.keys().cloned().collect();
                }
                header.iter().map(|name| fields.get(name).map(text_of).unwrap_or_default()).collect()
            }
            Value::Array(cells) => cells.iter().map(text_of).collect(),
            other => vec![text_of(other)],
        };
        if header.is_empty() {
            header = (0..cells.len()).map(|number| number.to_string()).collect();
        }
        rows.push((number, cells));
    }
    Ok(Rows { header, rows })
}
