//! Measurements in the metric store: what is written for a comparison, and what is read for a judgement.

use std::collections::BTreeMap;
use std::sync::Arc;

use evoseal_metrics::{MetricStore, NewRecord, Record, RecordFilter};
use evoseal_regression::{Baseline, Measurements};
use evoseal_types::{CheckpointId, MetricName, Timestamp, VersionId};

use crate::evidence::ValidationRequest;
use crate::{Error, Result};

/// The tag that tells the candidate's record from the incumbent's in one comparison.
const ROLE_TAG: &str = "role";
/// The version that a record was measured beside.
const BESIDE_TAG: &str = "beside";
/// How many of the newest records of accepted versions the history is made of. An incumbent gets one record for each
/// candidate beside it, so this is at least the history of the last thousand iterations.
pub(crate) const HISTORY_RECORDS_MAX: usize = 1000;
/// How many of a version's newest records are searched for one that is written again, or for the one that stands for a
/// baseline.
pub(crate) const VERSION_RECORDS_MAX: usize = 32;

/// The measurements of a gate.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) store: Arc<dyn MetricStore>,
}

impl Recorded {
    /// Stores what was measured, once for each comparison.
    pub(crate) async fn record(&self, request: &ValidationRequest, at: Timestamp) -> Result<()> {
        let observations = &request.observations;
        let beside = request.current_version_id.as_ref().map_or("", VersionId::as_str);
        let candidate = NewRecord {
            version_id: request.new_version_id.clone(),
            recorded_at: at,
            metrics: observations.metrics.clone(),
            test_results: observations.test_results.clone(),
            tags: tags("candidate", beside),
        };
        self.append_once(candidate).await?;
        let Some(current) =
            request.current_version_id.as_ref().filter(|_| !observations.incumbent_metrics.is_empty())
        else {
            return Ok(());
        };
        let incumbent = NewRecord {
            version_id: current.clone(),
            recorded_at: at,
            metrics: observations.incumbent_metrics.clone(),
            test_results: Vec::new(),
            tags: tags("incumbent", request.new_version_id.as_str()),
        };
        self.append_once(incumbent).await
    }

    /// Appends a record unless the same is among the newest of its version: a judgement that is repeated after a crash
    /// must not count its samples twice. Other measurements under the same names are another session: a version id is
    /// used again when an iteration was given up.
    async fn append_once(&self, record: NewRecord) -> Result<()> {
        let content = content_of(&record)?;
        for known in self.newest_of(&record.version_id).await? {
            if content_of(&known.record)? == content {
                return Ok(());
            }
        }
        self.store.append(record).await?;
        Ok(())
    }

    async fn newest_of(&self, version_id: &VersionId) -> Result<Vec<Record>> {
        let filter = RecordFilter {
            version_id: Some(version_id.clone()),
            limit: Some(VERSION_RECORDS_MAX),
            ..RecordFilter::default()
        };
        Ok(self.store.records(&filter).await?)
    }

    /// What the detector needs to judge a candidate.
    pub(crate) async fn measurements(
        &self,
        request: &ValidationRequest,
        baselines: &BTreeMap<String, (VersionId, CheckpointId)>,
    ) -> Result<Measurements> {
        let mut known_baselines = Vec::new();
        for (name, (version_id, _)) in baselines {
            let measured = self.newest_of(version_id).await?;
            let with_metrics = measured.into_iter().filter(|known| !known.record.metrics.is_empty());
            if let Some(known) = representative(with_metrics) {
                let (name, version_id, metrics) = (name.clone(), version_id.clone(), known.record.metrics);
                known_baselines.push(Baseline { name, version_id, metrics });
            }
        }
        Ok(Measurements {
            incumbent: request.observations.incumbent_metrics.clone(),
            candidate: request.observations.metrics.clone(),
            paired: request.observations.paired,
            history: self.history(&request.new_version_id).await?,
            baselines: known_baselines,
            run: None,
        })
    }

    /// One value, the mean, for each metric and accepted version but `judged`, in the order in which the versions were
    /// measured.
    async fn history(&self, judged: &VersionId) -> Result<BTreeMap<MetricName, Vec<f64>>> {
        let filter =
            RecordFilter { accepted_only: true, limit: Some(HISTORY_RECORDS_MAX), ..RecordFilter::default() };
        let mut by_version: BTreeMap<VersionId, Vec<Record>> = BTreeMap::new();
        for known in self.store.records(&filter).await? {
            if known.record.version_id != *judged {
                by_version.entry(known.record.version_id.clone()).or_default().push(known);
            }
        }
        let mut chosen: Vec<Record> = by_version.into_values().filter_map(representative).collect();
        chosen.sort_by_key(|known| known.sequence);
        let mut history: BTreeMap<MetricName, Vec<f64>> = BTreeMap::new();
        for metric in chosen.iter().flat_map(|known| &known.record.metrics) {
            let values = metric.values();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            if mean.is_finite() {
                history.entry(metric.spec.name.clone()).or_default().push(mean);
            }
        }
        Ok(history)
    }
}

/// The record that stands for a version: the newest that was made when it was judged, or the newest at all.
fn representative(records: impl IntoIterator<Item = Record>) -> Option<Record> {
    records.into_iter().max_by_key(|known| {
        (known.record.tags.get(ROLE_TAG).is_none_or(|role| role == "candidate"), known.sequence)
    })
}

/// Everything about a record but its time, as bytes: comparable also where a value is not a number.
fn content_of(record: &NewRecord) -> Result<Vec<u8>> {
    serde_json::to_vec(&(&record.metrics, &record.test_results, &record.tags))
        .map_err(|error| Error::Invalid { what: "measurements".to_owned(), reason: error.to_string() })
}

/// Tags of a record that say which side of which comparison it was.
fn tags(role: &str, beside: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(ROLE_TAG.to_owned(), role.to_owned()), (BESIDE_TAG.to_owned(), beside.to_owned())])
}
