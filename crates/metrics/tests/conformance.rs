//! The suite accepts both stores, and each of its cases rejects a store that breaks it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use async_trait::async_trait;
use evoseal_metrics::conformance::{CASES, run};
use evoseal_metrics::{Error, MemoryMetricStore, MetricStore, NewRecord, Record, RecordFilter, Result};
use evoseal_types::{MetricSpec, VersionId};

mod the_tracker {
    evoseal_metrics::metric_store_conformance!(async {
        let folder = tempfile::tempdir().unwrap();
        (evoseal_metrics::MetricsTracker::open(folder.path()).await.unwrap(), folder)
    });
}

mod the_memory_store {
    evoseal_metrics::metric_store_conformance!(async { (evoseal_metrics::MemoryMetricStore::new(), ()) });
}

mod a_forwarded_store {
    use std::sync::Arc;
    evoseal_metrics::metric_store_conformance!(async {
        let store: Arc<dyn evoseal_metrics::MetricStore> =
            Arc::new(evoseal_metrics::MemoryMetricStore::new());
        (store, ())
    });
}

/// One mistake in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    StartsFilled,
    LosesTags,
    LosesNan,
    SkipsNumbers,
    IgnoresFilters,
    KeepsTheOldest,
    KeepsOtherMetrics,
    DoesNotSort,
    MergesDoubles,
    TakesAnyUnit,
    TakesAnyReport,
    BurnsNumbers,
    AcceptsForGood,
    NeedsRecordsToAccept,
    LosesConcurrentAppends,
    KeepsHalfABatch,
}

/// A correct store with one mistake.
#[derive(Debug)]
struct Broken {
    inner: MemoryMetricStore,
    mistake: Mistake,
    busy: std::sync::atomic::AtomicBool,
}

impl Broken {
    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == mistake
    }
}

#[async_trait]
impl MetricStore for Broken {
    async fn append(&self, mut record: NewRecord) -> Result<u64> {
        use std::sync::atomic::Ordering::SeqCst;
        if self.is(Mistake::LosesTags) {
            record.tags.clear();
        }
        if self.is(Mistake::LosesNan) {
            record
                .metrics
                .iter_mut()
                .for_each(|metric| metric.samples.retain(|sample| !sample.value.is_nan()));
        }
        if self.is(Mistake::MergesDoubles) {
            record.metrics.dedup_by(|left, right| left.spec.name == right.spec.name);
        }
        if self.is(Mistake::TakesAnyUnit) {
            for known in self.inner.metrics().await? {
                for metric in record.metrics.iter_mut().filter(|metric| metric.spec.name == known.name) {
                    metric.spec = known.clone();
                }
            }
        }
        if self.is(Mistake::TakesAnyReport) {
            record.test_results.retain(|report| report.check().is_ok());
        }
        if self.is(Mistake::SkipsNumbers) {
            self.inner.append(record.clone()).await?;
        }
        if self.is(Mistake::LosesConcurrentAppends) {
            if self.busy.swap(true, SeqCst) {
                return Ok(0);
            }
            tokio::task::yield_now().await;
            self.busy.store(false, SeqCst);
        }
        let empty = NewRecord { metrics: Vec::new(), test_results: Vec::new(), ..record.clone() };
        match self.inner.append(record).await {
            Err(error) if self.is(Mistake::BurnsNumbers) => {
                self.inner.append(empty).await?;
                Err(error)
            }
            answer => answer,
        }
    }

    async fn append_all(&self, records: Vec<NewRecord>) -> Result<Vec<u64>> {
        if !self.is(Mistake::KeepsHalfABatch) {
            return self.inner.append_all(records).await;
        }
        let mut given = Vec::new();
        for record in records {
            given.push(self.inner.append(record).await?);
        }
        Ok(given)
    }

    async fn records(&self, filter: &RecordFilter) -> Result<Vec<Record>> {
        let all = RecordFilter::default();
        let mut records = match self.mistake {
            Mistake::IgnoresFilters => self.inner.records(&all).await?,
            Mistake::KeepsTheOldest => {
                let unlimited = RecordFilter { limit: None, ..filter.clone() };
                let mut records = self.inner.records(&unlimited).await?;
                records.truncate(filter.limit.unwrap_or(usize::MAX));
                records
            }
            _ => self.inner.records(filter).await?,
        };
        if self.is(Mistake::KeepsOtherMetrics) {
            let whole = self.inner.records(&all).await?;
            for record in &mut records {
                *record = whole[usize::try_from(record.sequence).unwrap() - 1].clone();
            }
        }
        Ok(records)
    }

    async fn metrics(&self) -> Result<Vec<MetricSpec>> {
        let mut metrics = self.inner.metrics().await?;
        if self.is(Mistake::DoesNotSort) {
            metrics.reverse();
        }
        Ok(metrics)
    }

    async fn set_accepted(&self, version_id: &VersionId, accepted: bool) -> Result<()> {
        if self.is(Mistake::AcceptsForGood) && !accepted {
            return Ok(());
        }
        let filter = RecordFilter { version_id: Some(version_id.clone()), ..RecordFilter::default() };
        if self.is(Mistake::NeedsRecordsToAccept) && self.inner.records(&filter).await?.is_empty() {
            return Err(Error::NotFound { what: format!("records of {version_id}") });
        }
        self.inner.set_accepted(version_id, accepted).await
    }
}

#[test]
fn each_case_rejects_a_store_that_breaks_it() {
    use Mistake::{
        AcceptsForGood, BurnsNumbers, DoesNotSort, IgnoresFilters, KeepsHalfABatch, KeepsOtherMetrics,
        KeepsTheOldest, LosesConcurrentAppends, LosesNan, LosesTags, MergesDoubles, NeedsRecordsToAccept,
        SkipsNumbers, StartsFilled, TakesAnyReport, TakesAnyUnit,
    };
    // In the order of the cases: each mistake is the one that its case is there for.
    let mistakes = [
        StartsFilled,
        LosesTags,
        LosesNan,
        SkipsNumbers,
        IgnoresFilters,
        KeepsTheOldest,
        KeepsOtherMetrics,
        DoesNotSort,
        MergesDoubles,
        TakesAnyUnit,
        TakesAnyReport,
        BurnsNumbers,
        AcceptsForGood,
        NeedsRecordsToAccept,
        LosesConcurrentAppends,
        KeepsHalfABatch,
    ];
    assert_eq!(mistakes.len(), CASES.len());
    for (mistake, (name, case)) in mistakes.into_iter().zip(CASES) {
        let rejected = catch_unwind(AssertUnwindSafe(|| {
            run(async {
                let broken = Broken { inner: MemoryMetricStore::new(), mistake, busy: false.into() };
                if mistake == StartsFilled {
                    let (version_id, recorded_at) =
                        ("v0".parse().unwrap(), evoseal_types::Timestamp::from_unix_ns(0));
                    let (metrics, test_results, tags) =
                        (Vec::new(), Vec::new(), std::collections::BTreeMap::new());
                    let record = NewRecord { version_id, recorded_at, metrics, test_results, tags };
                    broken.inner.append(record).await.unwrap();
                }
                case(&broken).await;
            });
        }));
        assert!(rejected.is_err(), "{name} accepts a store that {mistake:?}");
    }
}
