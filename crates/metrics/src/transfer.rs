//! Measurements as text: JSON lines, which hold everything, and CSV, which holds samples.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};

use evoseal_types::{Direction, MetricName, MetricSamples, MetricSpec, Sample, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

use crate::check::invalid;
use crate::{MetricStore, NewRecord, Record, Result};

/// One line of a CSV file: one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    version_id: VersionId,
    recorded_at: Timestamp,
    metric: MetricName,
    unit: String,
    direction: Direction,
    start: u32,
    iteration: u32,
    /// As text, for `NaN` and `inf`.
    value: String,
}

/// Writes records as JSON, one a line. [`read_json_lines`] gives them back, except that every NaN becomes the standard one.
///
/// ```
/// use evoseal_metrics::{read_json_lines, write_json_lines};
/// let mut text = Vec::new();
/// write_json_lines(&[], &mut text)?;
/// assert_eq!(read_json_lines(&text[..])?, []);
/// # Ok::<(), evoseal_metrics::Error>(())
/// ```
pub fn write_json_lines(records: &[Record], mut to: impl Write) -> Result<()> {
    let failed = |error: std::io::Error| invalid("an export as JSON".to_owned(), &error.to_string());
    for record in records {
        serde_json::to_writer(&mut to, record).map_err(|error| failed(error.into()))?;
        to.write_all(b"\n").map_err(failed)?;
    }
    to.flush().map_err(failed)
}

/// Reads what [`write_json_lines`] wrote. A line that is no record is refused with its number; empty lines are passed over.
pub fn read_json_lines(from: impl BufRead) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for (number, line) in (1_u64..).zip(from.lines()) {
        let refuse = |reason: String| invalid(format!("line {number} of a JSON import"), &reason);
        let line = line.map_err(|error| refuse(error.to_string()))?;
        if !line.trim().is_empty() {
            records.push(serde_json::from_str(&line).map_err(|error| refuse(error.to_string()))?);
        }
    }
    Ok(records)
}

/// Writes one CSV line for each sample, with a header. Test results, tags, acceptance, and metrics without samples are not
/// part of it.
pub fn write_csv(records: &[Record], to: impl Write) -> Result<()> {
    let mut writer = csv::Writer::from_writer(to);
    let failed = |reason: String| invalid("an export as CSV".to_owned(), &reason);
    for NewRecord { version_id, recorded_at, metrics, .. } in records.iter().map(|record| &record.record) {
        for MetricSamples { spec, samples } in metrics {
            for sample in samples {
                let line = Line {
                    version_id: version_id.clone(),
                    recorded_at: *recorded_at,
                    metric: spec.name.clone(),
                    unit: spec.unit.clone(),
                    direction: spec.direction,
                    start: sample.start,
                    iteration: sample.iteration,
                    value: sample.value.to_string(),
                };
                writer.serialize(line).map_err(|error| failed(error.to_string()))?;
            }
        }
    }
    writer.flush().map_err(|error| failed(error.to_string()))
}

/// Reads CSV with the columns `version_id, recorded_at, metric, unit, direction, start, iteration, value`, in any order.
///
/// Neighbouring lines of one version and time become one session. A line that does not fit is refused with its number.
///
/// ```
/// use evoseal_metrics::read_csv;
/// let text = "version_id,recorded_at,metric,unit,direction,start,iteration,value\n\
///             v1,2026-01-01T00:00:00Z,latency,ms,increase,0,0,12.5\n\
///             v1,2026-01-01T00:00:00Z,latency,ms,increase,1,0,NaN\n";
/// let records = read_csv(text.as_bytes())?;
/// assert_eq!((records.len(), records[0].metrics[0].samples.len()), (1, 2));
/// # Ok::<(), evoseal_metrics::Error>(())
/// ```
pub fn read_csv(from: impl Read) -> Result<Vec<NewRecord>> {
    let mut records: Vec<NewRecord> = Vec::new();
    for (number, line) in (2_u64..).zip(csv::Reader::from_reader(from).into_deserialize()) {
        let refuse = |reason: &str| invalid(format!("line {number} of a CSV import"), reason);
        let line: Line = line.map_err(|error| refuse(&error.to_string()))?;
        let value: f64 =
            line.value.trim().parse().map_err(|_| refuse(&format!("{:?} is no number", line.value)))?;
        let spec = MetricSpec { name: line.metric, unit: line.unit, direction: line.direction };
        let sample = Sample::new(line.start, line.iteration, value);
        let same_session = |last: &&mut NewRecord| {
            (&last.version_id, last.recorded_at) == (&line.version_id, line.recorded_at)
        };
        if let Some(session) = records.last_mut().filter(same_session) {
            add_sample(session, spec, sample).map_err(|reason| refuse(&reason))?;
        } else {
            records.push(NewRecord {
                version_id: line.version_id,
                recorded_at: line.recorded_at,
                metrics: vec![MetricSamples::new(spec, vec![sample])],
                test_results: Vec::new(),
                tags: BTreeMap::new(),
            });
        }
    }
    Ok(records)
}

fn add_sample(session: &mut NewRecord, spec: MetricSpec, sample: Sample) -> Result<(), String> {
    match session.metrics.iter_mut().find(|metric| metric.spec.name == spec.name) {
        Some(metric) if metric.spec == spec => metric.samples.push(sample),
        Some(metric) => {
            return Err(format!(
                "metric {} has another unit or direction than on an earlier line",
                metric.spec.name
            ));
        }
        None => session.metrics.push(MetricSamples::new(spec, vec![sample])),
    }
    Ok(())
}

/// Appends records in their order, all or none, and returns how many that were.
pub async fn import(store: &dyn MetricStore, records: Vec<NewRecord>) -> Result<usize> {
    Ok(store.append_all(records).await?.len())
}

/// [`import`] for records that another store held: versions that were accepted there are accepted here. Sequence numbers
/// are given anew.
pub async fn import_records(store: &dyn MetricStore, records: Vec<Record>) -> Result<usize> {
    let accepted: Vec<VersionId> = records
        .iter()
        .filter(|record| record.accepted)
        .map(|record| record.record.version_id.clone())
        .collect();
    let count = import(store, records.into_iter().map(|record| record.record).collect()).await?;
    for version_id in &accepted {
        store.set_accepted(version_id, true).await?;
    }
    Ok(count)
}
