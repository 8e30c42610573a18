//! `evoseal metrics`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use comfy_table::{Table, TableStyle};
use evoseal_metrics::{
    MetricQueries, NewRecord, Record, RecordFilter, comparison_table, import, import_records, read_csv,
    read_json_lines, write_csv, write_json_lines,
};
use evoseal_regression::{RegressionDetector, statistics};
use evoseal_types::{MetricName, MetricSamples, MetricSpec, VersionId};

use crate::args::MetricsCommand;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::{Project, Stores};

pub(crate) async fn run(command: &MetricsCommand, project: &Project, output: Output) -> Result<Exit> {
    let stores = project.stores().await?;
    match command {
        MetricsCommand::Record { version, metric, values, unit, direction } => {
            let spec = MetricSpec::new(metric.clone(), unit.clone(), (*direction).into())?;
            let record = NewRecord {
                version_id: VersionId::new(version.clone())?,
                recorded_at: project.clock.now(),
                metrics: vec![MetricSamples::independent(spec, values)],
                test_results: Vec::new(),
                tags: BTreeMap::from([("source".to_owned(), "command line".to_owned())]),
            };
            let sequence = stores.metrics.append(record).await?;
            output.data(&sequence, || {
                format!("recorded {} values of {metric} as number {sequence}", values.len())
            });
            Ok(Exit::Done)
        }
        MetricsCommand::Import { file } => import_file(file, &stores, output).await,
        MetricsCommand::Export { file } => export_file(file, &stores, output).await,
        MetricsCommand::History { metric, accepted } => {
            history(metric.as_deref(), *accepted, &stores, output).await
        }
        MetricsCommand::Compare { old, new } => compare(old, new, project, &stores, output).await,
    }
}

/// The two formats, by the file's ending.
enum Format {
    Csv,
    JsonLines,
}

fn format_of(file: &Path) -> Result<Format> {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("csv") => Ok(Format::Csv),
        Some("jsonl" | "ndjson") => Ok(Format::JsonLines),
        _ => Err(Failure::usage(format!("{} ends in neither .csv nor .jsonl", file.display()))),
    }
}

async fn import_file(file: &Path, stores: &Stores, output: Output) -> Result<Exit> {
    let format = format_of(file)?;
    let reader = BufReader::new(File::open(file).map_err(|error| Failure::io("open", file, &error))?);
    let count = match format {
        Format::Csv => import(&stores.metrics, read_csv(reader)?).await?,
        Format::JsonLines => import_records(&stores.metrics, read_json_lines(reader)?).await?,
    };
    output.data(&count, || format!("imported {count} records"));
    Ok(Exit::Done)
}

async fn export_file(file: &Path, stores: &Stores, output: Output) -> Result<Exit> {
    let format = format_of(file)?;
    let records = stores.metrics.records(&RecordFilter::default()).await?;
    let mut writer = BufWriter::new(File::create(file).map_err(|error| Failure::io("create", file, &error))?);
    match format {
        Format::Csv => write_csv(&records, &mut writer)?,
        Format::JsonLines => write_json_lines(&records, &mut writer)?,
    }
    writer.flush().map_err(|error| Failure::io("write", file, &error))?;
    output.data(&records.len(), || format!("exported {} records to {}", records.len(), file.display()));
    Ok(Exit::Done)
}

async fn history(metric: Option<&str>, accepted: bool, stores: &Stores, output: Output) -> Result<Exit> {
    let Some(metric) = metric else {
        let specs = stores.metrics.metrics().await?;
        output.data(&specs, || {
            let line = |spec: &MetricSpec| {
                format!("{:<24} {:<8} an {} is harmful", spec.name, spec.unit, spec.direction)
            };
            if specs.is_empty() {
                "no metrics yet".to_owned()
            } else {
                specs.iter().map(line).collect::<Vec<_>>().join("\n")
            }
        });
        return Ok(Exit::Done);
    };
    let filter = RecordFilter {
        metric: Some(MetricName::new(metric)?),
        accepted_only: accepted,
        ..RecordFilter::default()
    };
    let records = stores.metrics.records(&filter).await?;
    if records.is_empty() {
        return Err(Failure::usage(format!("no records of metric {metric}"))
            .hint("`evoseal metrics history` lists the metrics there are"));
    }
    output.data(&records, || records.iter().map(record_line).collect::<Vec<_>>().join("\n"));
    Ok(Exit::Done)
}

/// One record in a line: the records of a metric filter hold that metric alone.
fn record_line(record: &Record) -> String {
    let metric = record.record.metrics.first();
    let values = metric.map(MetricSamples::values).unwrap_or_default();
    let mean = statistics::mean(&values).map_or("-".to_owned(), |mean| format!("{mean}"));
    let spread = statistics::std_dev(&values).map_or(String::new(), |spread| format!(" ± {spread:.4}"));
    let unit = metric.map_or("", |metric| metric.spec.unit.as_str());
    let accepted = if record.accepted { "accepted" } else { "" };
    let role = record.record.tags.get("role").map_or("", String::as_str);
    format!(
        "{:>5}  {:<16} {mean}{spread} {unit}  n = {}  {role} {accepted}",
        record.sequence,
        record.record.version_id,
        values.len()
    )
}

async fn compare(old: &str, new: &str, project: &Project, stores: &Stores, output: Output) -> Result<Exit> {
    let detector = RegressionDetector::new(&project.detector_settings())?;
    let (old, new) = (VersionId::new(old)?, VersionId::new(new)?);
    let assessment = stores.metrics.compare_metrics(&detector, &old, &new).await?;
    let rows = comparison_table(&assessment);
    output.data(&assessment, || {
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        if let Some(width) = output.width {
            table.set_width(width);
        }
        table.set_header(["metric", old.as_str(), new.as_str(), "change", "verdict", "reason"]);
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        for row in &rows {
            let change = row.change_pct.map_or("-".to_owned(), |percent| format!("{percent:+.2} %"));
            table.add_row([
                format!("{} {}", row.metric, row.unit),
                number(row.baseline),
                number(row.current),
                change,
                row.status.to_string(),
                row.reason.clone(),
            ]);
        }
        table.trim_fmt()
    });
    Ok(if assessment.regression_detected() { Exit::Found } else { Exit::Done })
}
