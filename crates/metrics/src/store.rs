//! The component trait of this crate: a place that keeps what was measured.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_types::{MetricName, MetricSamples, MetricSpec, TestReport, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

use crate::Result;

/// One measurement session of one version: everything that was measured and tested in one go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewRecord {
    /// The version that was measured.
    pub version_id: VersionId,
    /// When.
    pub recorded_at: Timestamp,
    /// The samples, each metric at most once.
    pub metrics: Vec<MetricSamples>,
    /// The test results.
    pub test_results: Vec<TestReport>,
    /// Free key and value: host, iteration, role in the comparison.
    pub tags: BTreeMap<String, String>,
}

/// A stored [`NewRecord`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the store: records are numbered from 1 in the order in which they were appended.
    pub sequence: u64,
    /// Whether its version has been accepted.
    pub accepted: bool,
    /// What was appended.
    pub record: NewRecord,
}

/// Which records are wanted. The default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// Only those of this version.
    pub version_id: Option<VersionId>,
    /// Only those that have samples of this metric; their other metrics are left out.
    pub metric: Option<MetricName>,
    /// Only those of accepted versions.
    pub accepted_only: bool,
    /// Only those that bear every one of these tags.
    pub tags: BTreeMap<String, String>,
    /// Only the newest so many, still oldest first.
    pub limit: Option<usize>,
}

/// Keeps measurements and test results of versions.
///
/// # Contract
///
/// - *Append only.* A record is never changed or removed. `append` and `append_all` are atomic and durable when they return.
/// - *Faithful.* `records` returns what was appended, bit for bit, non-finite samples included.
/// - *Checked.* A record that names a metric twice, or holds a test report that contradicts itself, is refused as
///   [`Error::Invalid`](crate::Error::Invalid) and nothing is stored. So is a metric whose unit or direction differs
///   from what the store knows under that name.
/// - *Ordered.* Sequence numbers rise by one; `records` answers in that order.
/// - *Cancel safety.* A dropped future leaves the record wholly stored or not at all.
#[async_trait]
pub trait MetricStore: fmt::Debug + Send + Sync {
    /// Stores one session and returns its sequence number.
    async fn append(&self, record: NewRecord) -> Result<u64>;

    /// Stores many sessions at the price of one: all of them, in their order, or none. Returns their sequence numbers, which
    /// follow each other. A record may use metrics that an earlier one of the batch brought.
    async fn append_all(&self, records: Vec<NewRecord>) -> Result<Vec<u64>>;

    /// The records that match, in order of their sequence numbers.
    async fn records(&self, filter: &RecordFilter) -> Result<Vec<Record>>;

    /// Every metric that has been recorded, sorted by name.
    async fn metrics(&self) -> Result<Vec<MetricSpec>>;

    /// Remembers that a version was accepted (or that this was taken back). Idempotent; a version without records is
    /// allowed, for they may follow.
    async fn set_accepted(&self, version_id: &VersionId, accepted: bool) -> Result<()>;
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_metric_store {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<S: MetricStore + ?Sized> MetricStore for $pointer<S> {
            async fn append(&self, record: NewRecord) -> Result<u64> {
                (**self).append(record).await
            }

            async fn append_all(&self, records: Vec<NewRecord>) -> Result<Vec<u64>> {
                (**self).append_all(records).await
            }

            async fn records(&self, filter: &RecordFilter) -> Result<Vec<Record>> {
                (**self).records(filter).await
            }

            async fn metrics(&self) -> Result<Vec<MetricSpec>> {
                (**self).metrics().await
            }

            async fn set_accepted(&self, version_id: &VersionId, accepted: bool) -> Result<()> {
                (**self).set_accepted(version_id, accepted).await
            }
        }
    };
}

forward_metric_store!(Arc);
forward_metric_store!(Box);
