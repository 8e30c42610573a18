//! A metric store in memory.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use evoseal_metrics::{MetricStore, NewRecord, Record, RecordFilter, Result};
use evoseal_types::{MetricSpec, VersionId};

#[derive(Debug, Default)]
pub(crate) struct MemoryMetrics(Mutex<(Vec<NewRecord>, BTreeSet<VersionId>)>);

impl MemoryMetrics {
    fn state(&self) -> MutexGuard<'_, (Vec<NewRecord>, BTreeSet<VersionId>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MetricStore for MemoryMetrics {
    async fn append(&self, record: NewRecord) -> Result<u64> {
        let mut state = self.state();
        state.0.push(record);
        Ok(state.0.len() as u64)
    }

    async fn records(&self, filter: &RecordFilter) -> Result<Vec<Record>> {
        let state = self.state();
        let records = (1_u64..).zip(&state.0).map(|(sequence, record)| Record {
            sequence,
            accepted: state.1.contains(&record.version_id),
            record: record.clone(),
        });
        Ok(records
            .filter(|record| filter.version_id.as_ref().is_none_or(|id| *id == record.record.version_id))
            .filter(|record| record.accepted || !filter.accepted_only)
            .collect())
    }

    async fn metrics(&self) -> Result<Vec<MetricSpec>> {
        Ok(Vec::new())
    }

    async fn set_accepted(&self, version_id: &VersionId, accepted: bool) -> Result<()> {
        let mut state = self.state();
        if accepted {
            state.1.insert(version_id.clone())
        } else {
            state.1.remove(version_id)
        };
        Ok(())
    }
}
