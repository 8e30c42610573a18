//! Random histories against a naive model, and text exports that come back whole.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use evoseal_metrics::{
    Error, MemoryMetricStore, MetricStore, MetricsTracker, NewRecord, Record, RecordFilter, import,
    import_records, read_csv, read_json_lines, write_csv, write_json_lines,
};
use evoseal_types::{Direction, MetricSamples, MetricSpec, Sample, TestReport, Timestamp, VersionId};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Append(NewRecord),
    Accept(VersionId, bool),
    Ask(RecordFilter),
}

fn version() -> impl Strategy<Value = VersionId> {
    (0..4_u8).prop_map(|i| format!("v{i}").parse().unwrap())
}

fn samples(name: String) -> impl Strategy<Value = MetricSamples> {
    let sample =
        (any::<u32>(), any::<u32>(), any::<f64>()).prop_map(|(s, i, value)| Sample::new(s, i, value));
    // Rarely a unit that contradicts the others.
    let unit = prop_oneof![9 => Just("ms"), 1 => Just("s")];
    (prop::collection::vec(sample, 0..4), unit).prop_map(move |(samples, unit)| {
        MetricSamples::new(MetricSpec::new(name.clone(), unit, Direction::Increase).unwrap(), samples)
    })
}

fn record() -> impl Strategy<Value = NewRecord> {
    let metrics = prop::collection::vec((0..3_u8).prop_flat_map(|i| samples(format!("m{i}"))), 0..3);
    (version(), any::<i64>(), metrics).prop_map(|(version_id, unix_ns, metrics)| NewRecord {
        version_id,
        recorded_at: Timestamp::from_unix_ns(unix_ns),
        metrics,
        test_results: vec![TestReport::from_counts("t", 1, 0, 0, 0)],
        // Few values, so that filters find some.
        tags: BTreeMap::from([("n".to_owned(), unix_ns.rem_euclid(3).to_string())]),
    })
}

fn filter() -> impl Strategy<Value = RecordFilter> {
    let metric = (0..3_u8).prop_map(|i| format!("m{i}").parse().unwrap());
    let tags =
        prop::collection::btree_map(Just("n".to_owned()), (0..4_u8).prop_map(|i| i.to_string()), 0..=1);
    (prop::option::of(version()), prop::option::of(metric), any::<bool>(), tags, prop::option::of(0..4_usize))
        .prop_map(|(version_id, metric, accepted_only, tags, limit)| RecordFilter {
            version_id,
            metric,
            accepted_only,
            tags,
            limit,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => record().prop_map(Step::Append),
        1 => (version(), any::<bool>()).prop_map(|(version, accepted)| Step::Accept(version, accepted)),
        2 => filter().prop_map(Step::Ask),
    ]
}

/// What the contract says, in the plainest way.
#[derive(Default)]
struct Model {
    records: Vec<NewRecord>,
    accepted: BTreeSet<VersionId>,
}

impl Model {
    fn append(&mut self, record: NewRecord) -> Option<u64> {
        for (i, metric) in record.metrics.iter().enumerate() {
            let earlier = self.records.iter().flat_map(|record| &record.metrics);
            let contradicts =
                earlier.clone().any(|old| old.spec.name == metric.spec.name && old.spec != metric.spec);
            if contradicts || record.metrics[..i].iter().any(|other| other.spec.name == metric.spec.name) {
                return None;
            }
        }
        self.records.push(record);
        Some(self.records.len() as u64)
    }

    fn ask(&self, filter: &RecordFilter) -> Vec<Record> {
        let mut found = Vec::new();
        for (sequence, record) in (1..).zip(&self.records) {
            let accepted = self.accepted.contains(&record.version_id);
            let mut record = record.clone();
            if let Some(name) = &filter.metric {
                record.metrics.retain(|metric| metric.spec.name == *name);
            }
            let wanted = filter.version_id.as_ref().is_none_or(|id| record.version_id == *id)
                && filter.tags.iter().all(|(key, value)| record.tags.get(key) == Some(value))
                && (filter.metric.is_none() || !record.metrics.is_empty())
                && (accepted || !filter.accepted_only);
            if wanted {
                found.push(Record { sequence, accepted, record });
            }
        }
        found.split_off(found.len() - filter.limit.unwrap_or(usize::MAX).min(found.len()))
    }
}

async fn follows_the_model(store: &dyn MetricStore, steps: &[Step]) {
    let mut model = Model::default();
    for step in steps {
        match step.clone() {
            Step::Append(record) => {
                let expected = model.append(record.clone());
                match store.append(record).await {
                    Ok(sequence) => assert_eq!(Some(sequence), expected),
                    Err(Error::Invalid { .. }) => assert_eq!(expected, None),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Accept(version, accepted) => {
                store.set_accepted(&version, accepted).await.unwrap();
                let _ =
                    if accepted { model.accepted.insert(version) } else { model.accepted.remove(&version) };
            }
            Step::Ask(filter) => {
                let (ours, expected) = (store.records(&filter).await.unwrap(), model.ask(&filter));
                // The text, for NaN is not equal to itself.
                assert_eq!(format!("{ours:?}"), format!("{expected:?}"), "{filter:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_agree_with_a_naive_model(steps in prop::collection::vec(step(), 1..20)) {
        evoseal_metrics::conformance::run(async {
            let folder = tempfile::tempdir().unwrap();
            follows_the_model(&MetricsTracker::open(folder.path()).await.unwrap(), &steps).await;
            follows_the_model(&MemoryMetricStore::new(), &steps).await;
        });
    }

    #[test]
    fn text_exports_come_back_whole(records in prop::collection::vec(record(), 0..6), accepted in version()) {
        evoseal_metrics::conformance::run(async {
            let (one, other) = (MemoryMetricStore::new(), MemoryMetricStore::new());
            for record in records {
                let _ = one.append(record).await;
            }
            one.set_accepted(&accepted, true).await.unwrap();
            let everything = RecordFilter::default();
            let stored = one.records(&everything).await.unwrap();

            let mut json = Vec::new();
            write_json_lines(&stored, &mut json).unwrap();
            assert_eq!(import_records(&other, read_json_lines(&json[..]).unwrap()).await.unwrap(), stored.len());
            assert_eq!(format!("{:?}", other.records(&everything).await.unwrap()), format!("{stored:?}"));

            let mut csv = Vec::new();
            write_csv(&stored, &mut csv).unwrap();
            let flat = |records: &[NewRecord]| {
                let mut lines = Vec::new();
                for record in records {
                    for metric in &record.metrics {
                        for sample in &metric.samples {
                            lines.push(format!("{} {} {:?} {sample:?}", record.version_id, record.recorded_at, metric.spec));
                        }
                    }
                }
                lines
            };
            let before: Vec<NewRecord> = stored.into_iter().map(|record| record.record).collect();
            assert_eq!(flat(&read_csv(&csv[..]).unwrap()), flat(&before));
        });
    }
}

#[test]
fn a_wrong_import_is_refused_by_line_and_changes_nothing() {
    evoseal_metrics::conformance::run(async {
        let header = "version_id,recorded_at,metric,unit,direction,start,iteration,value\n";
        let good = "v1,2026-01-01T00:00:00Z,latency,ms,increase,0,0,12.5\n";
        for bad in [
            "v1,2026-01-01T00:00:00Z,latency,ms,increase,0,0,fast\n",
            "v1,2026-01-01T00:00:00Z,latency,s,increase,0,0,1\n",
            "v1,yesterday,latency,ms,increase,0,0,1\n",
            "v1,2026-01-01T00:00:00Z,latency,ms,up,0,0,1\n",
            "-v,2026-01-01T00:00:00Z,latency,ms,increase,0,0,1\n",
            "v1\n",
        ] {
            let error = read_csv(format!("{header}{good}{bad}").as_bytes()).unwrap_err().to_string();
            assert!(error.contains("line 3"), "{bad}: {error}");
        }
        assert!(read_json_lines(&b"\n{}\n"[..]).unwrap_err().to_string().contains("line 2"));

        let store = MemoryMetricStore::new();
        let other_version = good.replace("v1", "v2").replace("ms", "s");
        let records = read_csv(format!("{header}{good}{other_version}").as_bytes()).unwrap();
        assert!(import(&store, records).await.is_err(), "the second session contradicts the first");
        assert_eq!(store.records(&RecordFilter::default()).await.unwrap(), []);
    });
}
