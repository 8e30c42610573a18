//! A metric store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use evoseal_metrics::{Error, MetricStore, NewRecord, Record, RecordFilter, Result};
use evoseal_types::{ErrorClass, MetricName, MetricSpec, VersionId};

use crate::Faults;

/// A [`MetricStore`] that keeps its contract for as long as the process lives.
///
/// Clones share everything. Each call is a step of the [`Faults`] it was made with: `metrics append` and so on.
///
/// ```
/// use std::collections::BTreeMap;
/// use evoseal_metrics::{MetricStore, NewRecord, RecordFilter};
/// use evoseal_testkit::MemoryMetrics;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryMetrics::default();
/// let record = NewRecord {
///     version_id: "v1".parse()?,
///     recorded_at: Default::default(),
///     metrics: Vec::new(),
///     test_results: Vec::new(),
///     tags: BTreeMap::new(),
/// };
/// store.append(record).await?;
/// store.set_accepted(&"v1".parse()?, true).await?;
/// let accepted = RecordFilter { accepted_only: true, ..RecordFilter::default() };
/// assert_eq!(store.records(&accepted).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryMetrics {
    faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<NewRecord>,
    accepted: BTreeSet<VersionId>,
    specs: BTreeMap<MetricName, MetricSpec>,
    handed_out: usize,
}

impl MemoryMetrics {
    /// An empty store whose calls go through `faults`.
    pub fn with_faults(faults: Faults) -> Self {
        Self { faults, state: Arc::default() }
    }

    /// How many records `records` has handed out so far, to see what a caller reads.
    pub fn handed_out(&self) -> usize {
        self.state().handed_out
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, action: &'static str) -> Result<()> {
        self.faults.step(&format!("metrics {action}")).map_err(|source| Error::Database {
            action,
            path: "memory".into(),
            source: Box::new(source),
            class: ErrorClass::Environment,
        })
    }
}

fn invalid(what: &str, reason: impl Into<String>) -> Error {
    Error::Invalid { what: what.to_owned(), reason: reason.into() }
}

/// What the contract refuses.
fn check(record: &NewRecord, specs: &BTreeMap<MetricName, MetricSpec>) -> Result<()> {
    for report in &record.test_results {
        report.check().map_err(|error| invalid("test report", error.to_string()))?;
    }
    let mut seen = BTreeSet::new();
    for metric in &record.metrics {
        if !seen.insert(&metric.spec.name) {
            return Err(invalid("record", format!("it names {} twice", metric.spec.name)));
        }
        if specs.get(&metric.spec.name).is_some_and(|known| *known != metric.spec) {
            return Err(invalid("record", format!("{} has another unit or direction", metric.spec.name)));
        }
    }
    Ok(())
}

#[async_trait]
impl MetricStore for MemoryMetrics {
    async fn append(&self, record: NewRecord) -> Result<u64> {
        let given = self.append_all(vec![record]).await?;
        Ok(given[0])
    }

    async fn append_all(&self, records: Vec<NewRecord>) -> Result<Vec<u64>> {
        self.step("append")?;
        let mut state = self.state();
        let mut specs = state.specs.clone();
        for record in &records {
            check(record, &specs)?;
            specs.extend(record.metrics.iter().map(|metric| (metric.spec.name.clone(), metric.spec.clone())));
        }
        let first = state.records.len() as u64 + 1;
        let given = (first..).take(records.len()).collect();
        state.specs = specs;
        state.records.extend(records);
        Ok(given)
    }

    async fn records(&self, filter: &RecordFilter) -> Result<Vec<Record>> {
        self.step("records")?;
        let mut state = self.state();
        let mut found = Vec::new();
        for (sequence, record) in (1_u64..).zip(&state.records) {
            let accepted = state.accepted.contains(&record.version_id);
            let mut record = record.clone();
            if let Some(metric) = &filter.metric {
                record.metrics.retain(|samples| samples.spec.name == *metric);
                if record.metrics.is_empty() {
                    continue;
                }
            }
            let right_version = filter.version_id.as_ref().is_none_or(|wanted| record.version_id == *wanted);
            let tagged = filter.tags.iter().all(|(key, value)| record.tags.get(key) == Some(value));
            if right_version && tagged && (accepted || !filter.accepted_only) {
                found.push(Record { sequence, accepted, record });
            }
        }
        let skipped = filter.limit.map_or(0, |limit| found.len().saturating_sub(limit));
        found.drain(..skipped);
        state.handed_out += found.len();
        Ok(found)
    }

    async fn metrics(&self) -> Result<Vec<MetricSpec>> {
        self.step("metrics")?;
        Ok(self.state().specs.values().cloned().collect())
    }

    async fn set_accepted(&self, version_id: &VersionId, accepted: bool) -> Result<()> {
        self.step("set_accepted")?;
        let mut state = self.state();
        if accepted {
            state.accepted.insert(version_id.clone());
        } else {
            state.accepted.remove(version_id);
        }
        Ok(())
    }
}
