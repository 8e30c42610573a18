//! The stored form of a checkpoint. Its bytes are what a checkpoint's id is the digest of.
//!
//! The shared types are written for people and for JSON: they leave out empty fields. What is stored has every field, in
//! a fixed order, so this module mirrors them.

use std::collections::BTreeMap;

use evoseal_types::{
    CheckpointId, Digest, Direction, MetricSamples, MetricSpec, Resources, Sample, TestCase, TestReport,
    TestStatus, Timestamp, VersionId,
};
use serde::{Deserialize, Serialize};

use crate::frame::damaged;
use crate::store::{Checkpoint, NewCheckpoint};
use crate::{Error, Result, codec};

/// A checkpoint as it is stored, without its pin.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version_id: String,
    parent: Option<[u8; 32]>,
    created_at_unix_ns: i64,
    tree: [u8; 32],
    file_count: u64,
    size_bytes: u64,
    test_results: Vec<StoredReport>,
    metrics: Vec<StoredSamples>,
    configuration: BTreeMap<String, String>,
    system_state: BTreeMap<String, String>,
    note: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredReport {
    test_type: String,
    status: u8,
    tests_run: u64,
    tests_passed: u64,
    tests_failed: u64,
    tests_errors: u64,
    tests_skipped: u64,
    duration_sec: f64,
    cpu_percent: Option<f64>,
    memory_mb: Option<f64>,
    io_read_mb: Option<f64>,
    io_write_mb: Option<f64>,
    cases: Vec<StoredCase>,
    message: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredCase {
    name: String,
    status: u8,
    message: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredSamples {
    name: String,
    unit: String,
    direction: u8,
    samples: Vec<StoredSample>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredSample {
    start: u32,
    iteration: u32,
    value: f64,
}

/// The checkpoint with its id, and the bytes that are stored.
pub(crate) fn seal(
    created_at: Timestamp,
    tree: Digest,
    file_count: u64,
    size_bytes: u64,
    details: NewCheckpoint,
) -> Result<(Checkpoint, Vec<u8>)> {
    let record = Record {
        version_id: details.version_id.as_str().to_owned(),
        parent: details.parent.map(|id| *id.digest().as_bytes()),
        created_at_unix_ns: created_at.unix_ns(),
        tree: *tree.as_bytes(),
        file_count,
        size_bytes,
        test_results: details.test_results.iter().map(StoredReport::of).collect(),
        metrics: details.metrics.iter().map(StoredSamples::of).collect(),
        configuration: details.configuration.clone(),
        system_state: details.system_state.clone(),
        note: details.note.clone(),
    };
    let bytes = codec::encode("checkpoint record", &record)?;
    let id = CheckpointId::new(Digest::of(&bytes));
    Ok((Checkpoint { id, created_at, tree, file_count, size_bytes, details, pinned: None }, bytes))
}

/// Reads a record whose digest must be `id`.
pub(crate) fn open(id: CheckpointId, bytes: &[u8], pinned: Option<String>) -> Result<Checkpoint> {
    let object = format!("record of checkpoint {}", id.short());
    if Digest::of(bytes) != id.digest() {
        return Err(damaged(&object, "its bytes do not have the checkpoint's digest"));
    }
    let record: Record = codec::decode(&object, bytes)?;
    let wrong = |error: evoseal_types::Error| damaged(&object, error.to_string());
    let details = NewCheckpoint {
        version_id: VersionId::new(record.version_id).map_err(wrong)?,
        parent: record.parent.map(|bytes| CheckpointId::new(Digest::from_bytes(bytes))),
        test_results: convert(record.test_results, |report| report.into_report(&object))?,
        metrics: convert(record.metrics, |samples| samples.into_samples(&object))?,
        configuration: record.configuration,
        system_state: record.system_state,
        note: record.note,
    };
    Ok(Checkpoint {
        id,
        created_at: Timestamp::from_unix_ns(record.created_at_unix_ns),
        tree: Digest::from_bytes(record.tree),
        file_count: record.file_count,
        size_bytes: record.size_bytes,
        details,
        pinned,
    })
}

fn convert<A, B>(values: Vec<A>, function: impl FnMut(A) -> Result<B>) -> Result<Vec<B>> {
    values.into_iter().map(function).collect()
}

impl StoredReport {
    fn of(report: &TestReport) -> Self {
        Self {
            test_type: report.test_type.clone(),
            status: status_to_byte(report.status),
            tests_run: report.tests_run,
            tests_passed: report.tests_passed,
            tests_failed: report.tests_failed,
            tests_errors: report.tests_errors,
            tests_skipped: report.tests_skipped,
            duration_sec: report.duration_sec,
            cpu_percent: report.resources.cpu_percent,
            memory_mb: report.resources.memory_mb,
            io_read_mb: report.resources.io_read_mb,
            io_write_mb: report.resources.io_write_mb,
            cases: report
                .cases
                .iter()
                .map(|case| StoredCase {
                    name: case.name.clone(),
                    status: status_to_byte(case.status),
                    message: case.message.clone(),
                })
                .collect(),
            message: report.message.clone(),
        }
    }

    fn into_report(self, object: &str) -> Result<TestReport> {
        let cases = convert(self.cases, |case| {
            let status = status_from_byte(object, case.status)?;
            Ok(TestCase { name: case.name, status, message: case.message })
        })?;
        Ok(TestReport {
            test_type: self.test_type,
            status: status_from_byte(object, self.status)?,
            tests_run: self.tests_run,
            tests_passed: self.tests_passed,
            tests_failed: self.tests_failed,
            tests_errors: self.tests_errors,
            tests_skipped: self.tests_skipped,
            duration_sec: self.duration_sec,
            resources: Resources {
                cpu_percent: self.cpu_percent,
                memory_mb: self.memory_mb,
                io_read_mb: self.io_read_mb,
                io_write_mb: self.io_write_mb,
            },
            cases,
            message: self.message,
        })
    }
}

impl StoredSamples {
    fn of(metric: &MetricSamples) -> Self {
        let samples = metric.samples.iter().map(|sample| StoredSample {
            start: sample.start,
            iteration: sample.iteration,
            value: sample.value,
        });
        Self {
            name: metric.spec.name.as_str().to_owned(),
            unit: metric.spec.unit.clone(),
            direction: match metric.spec.direction {
                Direction::Increase => 0,
                Direction::Decrease => 1,
            },
            samples: samples.collect(),
        }
    }

    fn into_samples(self, object: &str) -> Result<MetricSamples> {
        let direction = match self.direction {
            0 => Direction::Increase,
            1 => Direction::Decrease,
            other => return Err(damaged(object, format!("{other} is no direction"))),
        };
        let spec = MetricSpec::new(self.name, self.unit, direction)
            .map_err(|error| damaged(object, error.to_string()))?;
        let samples =
            self.samples.iter().map(|sample| Sample::new(sample.start, sample.iteration, sample.value));
        Ok(MetricSamples::new(spec, samples.collect()))
    }
}

fn status_to_byte(status: TestStatus) -> u8 {
    match status {
        TestStatus::Pass => 0,
        TestStatus::Fail => 1,
        TestStatus::Error => 2,
        TestStatus::Skip => 3,
    }
}

fn status_from_byte(object: &str, byte: u8) -> Result<TestStatus, Error> {
    Ok(match byte {
        0 => TestStatus::Pass,
        1 => TestStatus::Fail,
        2 => TestStatus::Error,
        3 => TestStatus::Skip,
        other => return Err(damaged(object, format!("{other} is no test status"))),
    })
}
