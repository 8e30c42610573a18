//! The test suite for whoever implements [`MetricStore`].
//!
//! Each case gets a fresh, empty store and panics with what it saw if the contract is broken. One macro call makes a named
//! test of each; its argument is an asynchronous expression for the store and whatever must outlive it.
//!
//! ```
//! mod my_store_keeps_the_contract {
//!     use evoseal_metrics::{MemoryMetricStore, metric_store_conformance};
//!     metric_store_conformance!(async { (MemoryMetricStore::new(), ()) });
//! }
//! ```

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use evoseal_types::{
    Direction, MetricName, MetricSamples, MetricSpec, Resources, Sample, TestReport, Timestamp, VersionId,
};

use crate::{Error, MetricStore, NewRecord, Record, RecordFilter};

/// Makes one test of each case.
#[macro_export]
macro_rules! metric_store_conformance {
    (@list [$($then:tt)*]) => {
        $crate::metric_store_conformance! { @$($then)*;
            an_empty_store_holds_nothing
            records_come_back_as_they_were_appended
            samples_come_back_bit_for_bit
            sequence_numbers_rise_by_one
            filters_select_and_combine
            a_limit_keeps_the_newest_in_order
            a_metric_filter_leaves_other_metrics_out
            metrics_are_sorted_by_name
            a_metric_listed_twice_is_refused
            a_metric_that_changes_its_meaning_is_refused
            a_report_that_contradicts_itself_is_refused
            a_refused_record_leaves_no_trace
            acceptance_can_be_given_and_taken_back
            acceptance_may_come_before_the_records
            concurrent_appends_are_all_kept
            a_batch_is_kept_as_a_whole_or_not_at_all
        }
    };
    (@tests $fixture:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::run(async {
                    let (store, _guard) = $fixture.await;
                    $crate::conformance::$case(&store).await;
                });
            }
        )*
    };
    (@array; $($case:ident)*) => {
        &[$((stringify!($case), |store| Box::pin($case(store)))),*]
    };
    ($fixture:expr) => {
        $crate::metric_store_conformance!(@list [tests $fixture]);
    };
}

/// A case: it panics if the store breaks the contract.
pub type Case = for<'a> fn(&'a dyn MetricStore) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// All cases with their names, for a runner of one's own.
pub const CASES: &[(&str, Case)] = metric_store_conformance!(@list [array]);

/// Runs a case to its end on a runtime of its own.
pub fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(case);
}

fn version(id: &str) -> VersionId {
    id.parse().expect("the ids here are valid")
}

fn name(name: &str) -> MetricName {
    MetricName::new(name).expect("the names here are valid")
}

fn metric(name: &str, values: &[f64]) -> MetricSamples {
    let spec = MetricSpec::new(name, "ms", Direction::Increase).expect("the names here are valid");
    MetricSamples::independent(spec, values)
}

fn record(version_id: &str, metrics: Vec<MetricSamples>) -> NewRecord {
    NewRecord {
        version_id: version(version_id),
        recorded_at: Timestamp::from_unix_ns(1_764_000_000_123_456_789),
        metrics,
        test_results: Vec::new(),
        tags: BTreeMap::new(),
    }
}

fn pairs(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn all(store: &dyn MetricStore) -> Vec<Record> {
    store.records(&RecordFilter::default()).await.expect("records can be read")
}

async fn append(store: &dyn MetricStore, record: NewRecord) -> u64 {
    store.append(record).await.expect("a proper record is stored")
}

async fn sequences(store: &dyn MetricStore, filter: RecordFilter) -> Vec<u64> {
    let records = store.records(&filter).await.expect("records can be read");
    records.iter().map(|record| record.sequence).collect()
}

async fn refused(store: &dyn MetricStore, record: NewRecord) {
    let answer = store.append(record).await;
    assert!(matches!(answer, Err(Error::Invalid { .. })), "a wrong record was answered with {answer:?}");
}

/// The fixture must give a fresh store.
pub async fn an_empty_store_holds_nothing(store: &dyn MetricStore) {
    assert_eq!(all(store).await, []);
    assert_eq!(store.metrics().await.expect("metrics can be read"), []);
}

/// *Faithful*, for every field, in the order of the caller.
pub async fn records_come_back_as_they_were_appended(store: &dyn MetricStore) {
    let mut report = TestReport::from_counts("unit_tests", 9, 1, 0, 2);
    report.duration_sec = 0.1 + 0.2;
    report.resources = Resources { memory_mb: Some(1.0 / 3.0), ..Resources::default() };
    let metrics = vec![metric("zeta", &[1.0]), metric("alpha", &[2.0, 3.0]), metric("empty", &[])];
    let first = NewRecord {
        test_results: vec![report, TestReport::errored("lint", "quote \" and newline \n")],
        tags: BTreeMap::from([("host".to_owned(), "ü".to_owned()), (String::new(), String::new())]),
        ..record("feature/x", metrics)
    };
    let second = NewRecord { recorded_at: Timestamp::from_unix_ns(-1), ..record("v2", Vec::new()) };
    for record in [&first, &second] {
        append(store, record.clone()).await;
    }
    let stored = |sequence, record| Record { sequence, accepted: false, record };
    assert_eq!(all(store).await, [stored(1, first), stored(2, second)]);
}

/// Non-finite values, both zeros and the extremes included.
pub async fn samples_come_back_bit_for_bit(store: &dyn MetricStore) {
    let payload = f64::from_bits(0x7FF8_0000_0000_1234);
    let values =
        [f64::NAN, payload, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, f64::MAX, 5e-324, 0.1 + 0.2];
    let mut samples = metric("m", &values);
    samples.samples.push(Sample::new(u32::MAX, u32::MAX - 1, 1.0));
    append(store, record("v1", vec![samples.clone()])).await;
    let bits = |samples: &MetricSamples| -> Vec<_> {
        samples
            .samples
            .iter()
            .map(|sample| (sample.start, sample.iteration, sample.value.to_bits()))
            .collect()
    };
    assert_eq!(bits(&all(store).await[0].record.metrics[0]), bits(&samples));
}

/// *Ordered.*
pub async fn sequence_numbers_rise_by_one(store: &dyn MetricStore) {
    for expected in 1..=4 {
        assert_eq!(append(store, record("v1", Vec::new())).await, expected);
    }
    assert_eq!(sequences(store, RecordFilter::default()).await, [1, 2, 3, 4]);
}

/// Each field of the filter narrows the answer further.
pub async fn filters_select_and_combine(store: &dyn MetricStore) {
    let tagged = |record: NewRecord, tags: &[(&str, &str)]| NewRecord { tags: pairs(tags), ..record };
    append(store, tagged(record("v1", vec![metric("a", &[1.0])]), &[("host", "x"), ("role", "old")])).await;
    append(store, record("v2", vec![metric("a", &[1.0]), metric("b", &[1.0])])).await;
    append(store, tagged(record("v2", vec![metric("b", &[1.0])]), &[("host", "x"), ("role", "new")])).await;
    store.set_accepted(&version("v2"), true).await.expect("a version can be accepted");
    let any = RecordFilter::default;
    let of = |id| Some(version(id));
    let cases = [
        (any(), vec![1, 2, 3]),
        (RecordFilter { version_id: of("v2"), ..any() }, vec![2, 3]),
        (RecordFilter { version_id: of("v3"), ..any() }, vec![]),
        (RecordFilter { metric: Some(name("a")), ..any() }, vec![1, 2]),
        (RecordFilter { metric: Some(name("c")), ..any() }, vec![]),
        (RecordFilter { accepted_only: true, ..any() }, vec![2, 3]),
        (RecordFilter { version_id: of("v2"), metric: Some(name("a")), ..any() }, vec![2]),
        (RecordFilter { metric: Some(name("a")), accepted_only: true, ..any() }, vec![2]),
        (RecordFilter { metric: Some(name("b")), limit: Some(1), ..any() }, vec![3]),
        (RecordFilter { tags: pairs(&[("host", "x")]), ..any() }, vec![1, 3]),
        (RecordFilter { tags: pairs(&[("host", "x"), ("role", "new")]), ..any() }, vec![3]),
        (RecordFilter { tags: pairs(&[("role", "x")]), ..any() }, vec![]),
    ];
    for (filter, expected) in cases {
        assert_eq!(sequences(store, filter.clone()).await, expected, "{filter:?}");
    }
}

/// The newest, still oldest first.
pub async fn a_limit_keeps_the_newest_in_order(store: &dyn MetricStore) {
    for _ in 0..3 {
        append(store, record("v1", Vec::new())).await;
    }
    for (limit, expected) in [(0, vec![]), (2, vec![2, 3]), (9, vec![1, 2, 3]), (usize::MAX, vec![1, 2, 3])] {
        let filter = RecordFilter { limit: Some(limit), ..RecordFilter::default() };
        assert_eq!(sequences(store, filter).await, expected, "limit {limit}");
    }
}

/// Who asks for one metric does not read the others.
pub async fn a_metric_filter_leaves_other_metrics_out(store: &dyn MetricStore) {
    append(store, record("v1", vec![metric("a", &[1.0]), metric("b", &[2.0])])).await;
    let filter = RecordFilter { metric: Some(name("b")), ..RecordFilter::default() };
    let records = store.records(&filter).await.expect("records can be read");
    assert_eq!(records[0].record.metrics, [metric("b", &[2.0])]);
}

/// Sorted, each once.
pub async fn metrics_are_sorted_by_name(store: &dyn MetricStore) {
    for names in [["zeta", "beta"], ["beta", "Alpha"]] {
        append(store, record("v1", names.map(|name| metric(name, &[1.0])).to_vec())).await;
    }
    let metrics = store.metrics().await.expect("metrics can be read");
    assert_eq!(metrics, ["Alpha", "beta", "zeta"].map(|name| metric(name, &[]).spec));
}

/// *Checked.*
pub async fn a_metric_listed_twice_is_refused(store: &dyn MetricStore) {
    refused(store, record("v1", vec![metric("a", &[1.0]), metric("a", &[2.0])])).await;
}

/// Milliseconds that become seconds would look like a thousandfold improvement.
pub async fn a_metric_that_changes_its_meaning_is_refused(store: &dyn MetricStore) {
    append(store, record("v1", vec![metric("a", &[1.0])])).await;
    let (mut other_unit, mut other_direction) = (metric("a", &[1.0]), metric("a", &[1.0]));
    other_unit.spec.unit.replace_range(.., "s");
    other_direction.spec.direction = Direction::Decrease;
    for changed in [other_unit, other_direction] {
        refused(store, record("v2", vec![changed])).await;
    }
}

/// *Checked.*
pub async fn a_report_that_contradicts_itself_is_refused(store: &dyn MetricStore) {
    let wrong_sum = TestReport { tests_run: 7, ..TestReport::from_counts("t", 3, 0, 0, 0) };
    refused(store, NewRecord { test_results: vec![wrong_sum], ..record("v1", Vec::new()) }).await;
}

/// *Atomic.* Neither the record nor the metrics in it become known.
pub async fn a_refused_record_leaves_no_trace(store: &dyn MetricStore) {
    append(store, record("v1", vec![metric("a", &[1.0])])).await;
    let mut changed = metric("a", &[1.0]);
    changed.spec.unit.replace_range(.., "s");
    refused(store, record("v2", vec![metric("fresh", &[1.0]), changed])).await;
    assert_eq!(sequences(store, RecordFilter::default()).await, [1]);
    assert_eq!(store.metrics().await.expect("metrics can be read").len(), 1);
    assert_eq!(append(store, record("v2", Vec::new())).await, 2, "the number was not used up");
}

/// *Idempotent*, both ways, for all records of the version at once.
pub async fn acceptance_can_be_given_and_taken_back(store: &dyn MetricStore) {
    for id in ["v1", "v2", "v1"] {
        append(store, record(id, Vec::new())).await;
    }
    for (accepted, expected) in [(true, [true, false, true]), (false, [false; 3])] {
        for _ in 0..2 {
            store.set_accepted(&version("v1"), accepted).await.expect("acceptance can be set");
            let seen: Vec<bool> = all(store).await.iter().map(|record| record.accepted).collect();
            assert_eq!(seen, expected);
        }
    }
}

/// The decision may be recorded before late measurements.
pub async fn acceptance_may_come_before_the_records(store: &dyn MetricStore) {
    store.set_accepted(&version("v1"), true).await.expect("a version without records can be accepted");
    append(store, record("v1", Vec::new())).await;
    assert!(all(store).await[0].accepted);
}

/// Nobody's session is lost, and no number is given twice.
pub async fn concurrent_appends_are_all_kept(store: &dyn MetricStore) {
    let four = |id: &'static str| async move {
        let mut given = Vec::new();
        for _ in 0..4 {
            given.push(append(store, record(id, vec![metric(id, &[1.0])])).await);
        }
        given
    };
    let (a, b, c) = tokio::join!(four("a"), four("b"), four("c"));
    let mut given = [a, b, c].concat();
    given.sort_unstable();
    assert_eq!(given, (1..=12).collect::<Vec<_>>());
    assert_eq!(sequences(store, RecordFilter::default()).await, given);
}

/// *Atomic* also for many: a wrong record costs all of them, and what the batch itself brings counts as known.
pub async fn a_batch_is_kept_as_a_whole_or_not_at_all(store: &dyn MetricStore) {
    append(store, record("v1", vec![metric("a", &[1.0])])).await;
    let fresh = || record("v2", vec![metric("fresh", &[1.0])]);
    let mut changed = metric("fresh", &[1.0]);
    changed.spec.unit.replace_range(.., "s");
    let answer = store.append_all(vec![fresh(), record("v3", vec![changed])]).await;
    assert!(matches!(answer, Err(Error::Invalid { .. })), "a wrong batch was answered with {answer:?}");
    assert_eq!(sequences(store, RecordFilter::default()).await, [1], "a refused batch left something");
    let given = store.append_all(vec![fresh(), fresh(), record("v3", Vec::new())]).await;
    assert_eq!(given.expect("a proper batch is stored"), [2, 3, 4]);
    let versions: Vec<String> =
        all(store).await.iter().map(|record| record.record.version_id.to_string()).collect();
    assert_eq!(versions, ["v1", "v2", "v2", "v3"]);
    assert!(store.append_all(Vec::new()).await.expect("nothing is stored").is_empty());
}
