//! A store that forgets everything when it is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use evoseal_types::{MetricName, MetricSpec, VersionId};

use crate::check::{check_record, learn};
use crate::{MetricStore, NewRecord, Record, RecordFilter, Result};

/// A [`MetricStore`] in memory, for tests, simulations and `metrics.enabled = false`.
///
/// ```
/// use evoseal_metrics::{MemoryMetricStore, MetricStore, NewRecord, RecordFilter};
/// use evoseal_types::Timestamp;
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = MemoryMetricStore::new();
/// let record = NewRecord {
///     version_id: "v1".parse()?,
///     recorded_at: Timestamp::from_unix_ns(0),
///     metrics: Vec::new(),
///     test_results: Vec::new(),
///     tags: Default::default(),
/// };
/// assert_eq!(store.append(record.clone()).await?, 1);
/// assert_eq!(store.records(&RecordFilter::default()).await?[0].record, record);
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryMetricStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<NewRecord>,
    metrics: BTreeMap<MetricName, MetricSpec>,
    accepted: BTreeSet<VersionId>,
}

impl MemoryMetricStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No method leaves the state half-changed, so it is sound even after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MetricStore for MemoryMetricStore {
    async fn append(&self, record: NewRecord) -> Result<u64> {
        let given = self.append_all(vec![record]).await?;
        Ok(given[0])
    }

    async fn append_all(&self, records: Vec<NewRecord>) -> Result<Vec<u64>> {
        let mut state = self.state();
        let mut metrics = state.metrics.clone();
        for record in &records {
            check_record(record, |name| Ok(metrics.get(name).cloned()))?;
            learn(&mut metrics, record);
        }
        let first = state.records.len() as u64 + 1;
        let given = (first..).take(records.len()).collect();
        state.metrics = metrics;
        state.records.extend(records);
        Ok(given)
    }

    async fn records(&self, filter: &RecordFilter) -> Result<Vec<Record>> {
        let state = self.state();
        let mut found: Vec<Record> = state
            .records
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, record)| matches(record, filter, &state.accepted))
            .take(filter.limit.unwrap_or(usize::MAX))
            .map(|(index, record)| {
                let sequence = index as u64 + 1;
                let mut record = record.clone();
                if let Some(wanted) = &filter.metric {
                    record.metrics.retain(|metric| metric.spec.name == *wanted);
                }
                Record { sequence, accepted: state.accepted.contains(&record.version_id), record }
            })
            .collect();
        found.reverse();
        Ok(found)
    }

    async fn metrics(&self) -> Result<Vec<MetricSpec>> {
        Ok(self.state().metrics.values().cloned().collect())
    }

    async fn set_accepted(&self, version_id: &VersionId, accepted: bool) -> Result<()> {
        let mut state = self.state();
        if accepted {
            state.accepted.insert(version_id.clone());
        } else {
            state.accepted.remove(version_id);
        }
        Ok(())
    }
}

fn matches(record: &NewRecord, filter: &RecordFilter, accepted: &BTreeSet<VersionId>) -> bool {
    let has = |wanted: &MetricName| record.metrics.iter().any(|metric| metric.spec.name == *wanted);
    let tagged = |(key, value): (&String, &String)| record.tags.get(key) == Some(value);
    filter.version_id.as_ref().is_none_or(|wanted| record.version_id == *wanted)
        && filter.tags.iter().all(tagged)
        && filter.metric.as_ref().is_none_or(has)
        && (!filter.accepted_only || accepted.contains(&record.version_id))
}
