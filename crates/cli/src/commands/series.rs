//! `evoseal detect series`: changes, outliers and the trend of files of numbers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use evoseal_regression::{
    Anomaly, ChangePoint, SERIES_LEN_MAX, SeriesReport, SeriesSettings, SeriesTrend, TrendDirection,
    analyze_series, analyze_series_online, in_parallel,
};
use evoseal_types::Direction;
use serde::Serialize;
use serde_json::Value;

use crate::args::SeriesArguments;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;

/// The longest line of a file, so that a file that is none of lines is refused instead of read into memory.
const LINE_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn run(arguments: &SeriesArguments, output: Output) -> Result<Exit> {
    let mut all = Vec::new();
    for file in &arguments.files {
        all.extend(read(file, arguments.column.as_deref(), arguments.group_by.as_deref())?);
    }
    let direction = arguments.direction.map(Direction::from);
    let search = if arguments.online { analyze_series_online } else { analyze_series };
    let settings = SeriesSettings::default();
    let reports = in_parallel(&all, |series| match search(&series.values, direction, &settings) {
        Ok(report) => Ok(SeriesLine::new(series, report)),
        Err(error) => {
            let hint = if series.values.len() < 2 {
                "add values, or leave the series out"
            } else {
                "divide the values by a power of ten"
            };
            Err(Failure::usage(format!("{}: {error}", series.name)).hint(hint))
        }
    });
    let reports = reports.into_iter().collect::<Result<Vec<_>>>()?;
    output.lines(&reports, SeriesLine::text);
    let found = reports.iter().any(|report| !report.change_points.is_empty() || !report.anomalies.is_empty());
    Ok(if found { Exit::Found } else { Exit::Done })
}

/// What was found in one series, as one line of JSON.
#[derive(Debug, Serialize)]
struct SeriesLine {
    series: String,
    n: usize,
    change_points: Vec<ChangePoint>,
    anomalies: Vec<Anomaly>,
    trend: Option<SeriesTrend>,
}

impl SeriesLine {
    fn new(series: &Series, report: SeriesReport) -> Self {
        let SeriesReport { change_points, anomalies, trend } = report;
        Self { series: series.name.clone(), n: series.values.len(), change_points, anomalies, trend }
    }

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
            let (low, high) = change.interval;
            lines.push(format!(
                "  change at {} [{low}, {high}]: {:.4} → {:.4}{relative}{harm}",
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
            let direction = match trend.direction {
                TrendDirection::Increasing => "increasing",
                TrendDirection::Decreasing => "decreasing",
                TrendDirection::Stable => "stable",
            };
            lines.push(format!(
                "  trend since {}: {}, {:.4} a step [{:.4}, {:.4}]",
                trend.start, direction, trend.slope, interval.low, interval.high
            ));
        }
        lines.join("\n")
    }
}

/// A named series.
#[derive(Debug)]
pub(super) struct Series {
    name: String,
    pub(super) values: Vec<f64>,
}

/// The series in a file: named as the file, with the group's name where it is split.
pub(super) fn read(path: &Path, column: Option<&str>, group_by: Option<&str>) -> Result<Vec<Series>> {
    let open = || File::open(path).map_err(|error| Failure::io("read", path, &error));
    let mut rows = Rows::new(path, column, group_by);
    if is_json(open()?).map_err(|error| Failure::io("read", path, &error))? {
        read_json(path, BufReader::new(open()?), &mut rows)?;
    } else {
        read_csv(open()?, &mut rows)?;
    }
    if rows.series.is_empty() {
        return Err(Failure::usage(format!("{} has no values", path.display()))
            .hint("it needs one line for each value: CSV such as `index,value`, or JSON lines"));
    }
    Ok(rows.series)
}

/// Whether the first thing in a file begins a JSON value that is no bare number.
fn is_json(file: File) -> std::io::Result<bool> {
    let mut start = Vec::new();
    file.take(4096).read_to_end(&mut start)?;
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    Ok(matches!(first, Some(b'{' | b'[')))
}

/// CSV; the first row is a header where the value's cell is no number.
fn read_csv(file: File, rows: &mut Rows<'_>) -> Result<()> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .comment(Some(b'#'))
        .flexible(true)
        .from_reader(BufReader::new(Lines { file, line: 0 }));
    let mut record = csv::ByteRecord::new();
    loop {
        let more = reader.read_byte_record(&mut record).map_err(|error| {
            Failure::usage(format!("{}: {error}", rows.path.display())).hint("is this a CSV file?")
        })?;
        if !more {
            return Ok(());
        }
        let line = record.position().map_or(0, csv::Position::line);
        let cells: Vec<&str> = record
            .iter()
            .map(|cell| std::str::from_utf8(cell).map(str::trim))
            .collect::<Result<_, _>>()
            .map_err(|_| rows.refuse(line, "this is no text").hint("the file must be UTF-8 text"))?;
        if cells.iter().all(|cell| cell.is_empty()) {
            continue;
        }
        rows.take(line, &cells)?;
    }
}

/// A file that ends with an error where a line is too long.
struct Lines {
    file: File,
    /// How long the present line is so far.
    line: u64,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        for byte in &buffer[..count] {
            self.line = if *byte == b'\n' { 0 } else { self.line + 1 };
            if self.line > LINE_BYTES_MAX {
                return Err(std::io::Error::other("a line is longer than 1 MiB"));
            }
        }
        Ok(count)
    }
}

/// JSON lines: numbers, arrays or objects.
fn read_json(path: &Path, mut reader: impl BufRead, rows: &mut Rows<'_>) -> Result<()> {
    let mut text = String::new();
    for line in 1.. {
        text.clear();
        let taken = reader.by_ref().take(LINE_BYTES_MAX + 1).read_line(&mut text);
        let length = taken.map_err(|error| Failure::io("read", path, &error))?;
        if length == 0 {
            break;
        }
        if length as u64 > LINE_BYTES_MAX {
            return Err(rows.refuse(line, "the line is longer than 1 MiB").hint("write one value per line"));
        }
        if text.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            rows.refuse(line, &error.to_string()).hint("each line must be one JSON value")
        })?;
        let text_of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let cells: Vec<String> = match &value {
            Value::Object(fields) => {
                let header = rows.header.get_or_insert_with(|| fields.keys().cloned().collect());
                header.iter().map(|name| fields.get(name).map(text_of).unwrap_or_default()).collect()
            }
            Value::Array(cells) => cells.iter().map(text_of).collect(),
            other => vec![text_of(other)],
        };
        rows.take(line, &cells.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Rows of a file on their way into series.
struct Rows<'a> {
    path: &'a Path,
    column: Option<&'a str>,
    group_by: Option<&'a str>,
    /// The names of the columns, if the file has any.
    header: Option<Vec<String>>,
    /// The places of the value and of the group, once known.
    places: Option<(usize, Option<usize>)>,
    series: Vec<Series>,
    /// Where each series stands.
    by_name: BTreeMap<String, usize>,
}

impl<'a> Rows<'a> {
    fn new(path: &'a Path, column: Option<&'a str>, group_by: Option<&'a str>) -> Self {
        Self {
            path,
            column,
            group_by,
            header: None,
            places: None,
            series: Vec::new(),
            by_name: BTreeMap::new(),
        }
    }

    /// What is wrong with a line.
    fn refuse(&self, line: u64, what: &str) -> Failure {
        Failure::usage(format!("{}:{line}: {what}", self.path.display()))
    }

    /// Takes one row, which may turn out to be the header.
    fn take(&mut self, line: u64, cells: &[&str]) -> Result<()> {
        let Some((value_place, group_place)) = self.places else {
            return self.take_first(line, cells);
        };
        let wanted = value_place.max(group_place.unwrap_or(0)) + 1;
        if cells.len() < wanted {
            let what = format!("the line has {} of {wanted} columns", cells.len());
            return Err(self
                .refuse(line, &what)
                .hint("give every line the same columns, or remove this one"));
        }
        let value = self.number(line, cells[value_place])?;
        let group = group_place.map_or("", |place| cells[place]);
        let known = self.by_name.get(group).copied();
        let place = known.unwrap_or_else(|| {
            let base = self.path.file_stem().unwrap_or_default().to_string_lossy();
            let name = if group_place.is_some() { format!("{base}/{group}") } else { base.into_owned() };
            self.series.push(Series { name, values: Vec::new() });
            self.by_name.insert(group.to_owned(), self.series.len() - 1);
            self.series.len() - 1
        });
        let values = &mut self.series[place].values;
        values.push(value);
        if values.len() > SERIES_LEN_MAX {
            let what = format!("a series has more than {SERIES_LEN_MAX} values");
            return Err(self.refuse(line, &what).hint("keep only the newest, or average neighbours"));
        }
        Ok(())
    }

    /// The first row says which columns there are; it is a header where the value's cell is no number.
    fn take_first(&mut self, line: u64, cells: &[&str]) -> Result<()> {
        let numbered = || (0..cells.len()).map(|number| number.to_string()).collect::<Vec<_>>();
        let was_named = self.header.is_some();
        let names: Vec<String> = match &self.header {
            Some(names) => names.clone(),
            None => cells.iter().map(|cell| (*cell).to_owned()).collect(),
        };
        let last = cells.len().saturating_sub(1);
        let value_name = names.iter().position(|name| name == "value");
        let by_name = |wanted: &str| names.iter().position(|name| name == wanted);
        let by_number = |wanted: &str| wanted.parse().ok().filter(|number| *number < cells.len());
        let find = |wanted: &str| by_name(wanted).or_else(|| by_number(wanted));
        let missing = |wanted: &str| {
            let is_header = was_named || cells.iter().all(|cell| cell.parse::<f64>().is_err());
            let known = if is_header { names.clone() } else { numbered() };
            Failure::usage(format!("{}:{line}: there is no column {wanted:?}", self.path.display()))
                .hint(format!("the columns are {}", known.join(", ")))
        };
        let value = match self.column {
            Some(wanted) => find(wanted).ok_or_else(|| missing(wanted))?,
            None => value_name.unwrap_or(last),
        };
        let group = self.group_by.map(|wanted| find(wanted).ok_or_else(|| missing(wanted))).transpose()?;
        self.places = Some((value, group));
        // An empty cell is a missing value and no name.
        let is_header = !was_named && !cells[value].is_empty() && cells[value].parse::<f64>().is_err();
        if is_header {
            self.header = Some(names);
            return Ok(());
        }
        self.take(line, cells)
    }

    fn number(&self, line: u64, cell: &str) -> Result<f64> {
        let what = match cell.parse::<f64>() {
            Ok(value) if value.is_finite() => return Ok(value),
            Ok(_) => format!("{cell:?} is no finite number"),
            Err(_) if cell.is_empty() || cell == "null" => "the value is missing".to_owned(),
            Err(_) => format!("{:?} is no number", cell.chars().take(40).collect::<String>()),
        };
        let hint = if self.column.is_some() || self.header.is_some() {
            "remove the line, or choose another column with --column"
        } else {
            "remove the line; --column chooses another column"
        };
        Err(self.refuse(line, &what).hint(hint))
    }
}
