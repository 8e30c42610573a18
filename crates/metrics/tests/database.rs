//! The database file: crashes, several users, strangers.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use evoseal_metrics::{
    Error, MetricQueries, MetricStore, MetricsSettings, MetricsTracker, NewRecord, RecordFilter,
    read_json_lines,
};
use evoseal_types::{Direction, ErrorClass, MetricSamples, MetricSpec, Timestamp};

fn record(version: &str, values: &[f64]) -> NewRecord {
    let spec = MetricSpec::new("latency", "ms", Direction::Increase).unwrap();
    NewRecord {
        version_id: version.parse().unwrap(),
        recorded_at: Timestamp::from_unix_ns(7),
        metrics: vec![MetricSamples::independent(spec, values)],
        test_results: Vec::new(),
        tags: BTreeMap::new(),
    }
}

async fn count(tracker: &MetricsTracker) -> usize {
    tracker.records(&RecordFilter::default()).await.unwrap().len()
}

#[tokio::test]
async fn a_directory_means_the_database_within() {
    let folder = tempfile::tempdir().unwrap();
    let existing = MetricsTracker::open(folder.path()).await.unwrap();
    assert_eq!(existing.path(), folder.path().join("metrics.db"));
    let planned = MetricsTracker::open(folder.path().join("a/metrics/")).await.unwrap();
    assert_eq!(planned.path(), folder.path().join("a/metrics/metrics.db"));
    let file = MetricsTracker::open(folder.path().join("b/file:x?mode=memory")).await.unwrap();
    assert!(file.path().is_file(), "a path that looks like a URI is a path");
}

#[tokio::test]
async fn settings_choose_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let default = folder.path().join("default.db");
    let off: MetricsSettings = toml::from_str("enabled = false").unwrap();
    let store = MetricsTracker::open_configured(&off, &default).await.unwrap();
    store.append(record("v1", &[1.0])).await.unwrap();
    assert!(!default.exists(), "switched off, nothing is written");
    MetricsTracker::open_configured(&MetricsSettings::default(), &default).await.unwrap();
    assert!(default.exists());
    let chosen =
        MetricsSettings { storage_path: Some(folder.path().to_owned()), ..MetricsSettings::default() };
    MetricsTracker::open_configured(&chosen, &default).await.unwrap();
    assert!(folder.path().join("metrics.db").exists());
    assert!(toml::from_str::<MetricsSettings>("storage = 1").is_err());
}

/// Copies the database as a crash at this moment would leave it, the write-ahead log included.
fn copy_as_after_a_crash(from: &Path, to: &Path) {
    for file in ["metrics.db", "metrics.db-wal"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

#[tokio::test]
async fn a_crash_costs_no_session_that_was_acknowledged_and_keeps_no_half() {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tracker = MetricsTracker::open(folder.path()).await.unwrap();
    for i in 0..5 {
        tracker.append(record("v1", &[f64::from(i); 100])).await.unwrap();
    }
    tracker.set_accepted(&"v1".parse().unwrap(), true).await.unwrap();
    copy_as_after_a_crash(folder.path(), crashed.path());
    let reopened = MetricsTracker::open(crashed.path()).await.unwrap();
    let all = RecordFilter::default();
    assert_eq!(reopened.records(&all).await.unwrap(), tracker.records(&all).await.unwrap());
    assert_eq!(reopened.append(record("v2", &[1.0])).await.unwrap(), 6);
}

#[tokio::test]
async fn a_write_ahead_log_torn_at_any_place_leaves_whole_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = MetricsTracker::open(folder.path()).await.unwrap();
    for i in 0..4 {
        tracker.append(record("v1", &[f64::from(i); 50])).await.unwrap();
    }
    let log = std::fs::read(folder.path().join("metrics.db-wal")).unwrap();
    let mut seen = Vec::new();
    for part in 0..=20 {
        let crashed = tempfile::tempdir().unwrap();
        copy_as_after_a_crash(folder.path(), crashed.path());
        std::fs::write(crashed.path().join("metrics.db-wal"), &log[..log.len() * part / 20]).unwrap();
        let reopened = MetricsTracker::open(crashed.path()).await.unwrap();
        let records = reopened.records(&RecordFilter::default()).await.unwrap();
        for (i, stored) in (0_u32..).zip(&records) {
            assert_eq!(stored.record, record("v1", &[f64::from(i); 50]), "torn at {part} of 20");
        }
        seen.push(records.len());
    }
    assert!(seen.is_sorted() && seen.contains(&0) && seen.last() == Some(&4), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_of_one_file_lose_nothing_and_share_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = Arc::new(folder.path().to_owned());
    let users = ["a", "b"].map(|id| {
        let path = Arc::clone(&path);
        tokio::spawn(async move {
            // Opened here, so that creating races as well.
            let tracker = MetricsTracker::open(path.as_path()).await.unwrap();
            let mut given = Vec::new();
            for _ in 0..20 {
                given.push(tracker.append(record(id, &[1.0])).await.unwrap());
            }
            given
        })
    });
    let mut given = Vec::new();
    for user in users {
        given.extend(user.await.unwrap());
    }
    given.sort_unstable();
    assert_eq!(given, (1..=40).collect::<Vec<_>>());
    assert_eq!(count(&MetricsTracker::open(path.as_path()).await.unwrap()).await, 40);
}

#[tokio::test]
async fn files_of_others_and_of_the_future_are_refused_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    let strangers: [(&str, &str); 3] = [
        ("CREATE TABLE t (x)", "application id 0x0"),
        ("PRAGMA application_id = 77", "application id 0x4d"),
        ("PRAGMA application_id = 0x45564D54; PRAGMA user_version = 3", "format 3"),
    ];
    for (sql, expected) in strangers {
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = MetricsTracker::open(&path).await.unwrap_err();
        assert!(matches!(&error, Error::Format { found, .. } if found == expected), "{error}");
        assert_eq!(error.class(), ErrorClass::Unsupported);
        assert_eq!(std::fs::read(&path).unwrap(), before, "{sql}");
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::write(
        &path,
        "this is a text file, not a database, and long enough to be read as one".repeat(20),
    )
    .unwrap();
    assert!(matches!(MetricsTracker::open(&path).await, Err(Error::Format { .. })));
}

#[tokio::test]
async fn damaged_rows_are_errors_that_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = MetricsTracker::open(folder.path()).await.unwrap();
    tracker.append(record("v1", &[1.0])).await.unwrap();
    let damage = rusqlite::Connection::open(tracker.path()).unwrap();
    for (sql, expected) in [
        ("UPDATE samples SET samples = x'0102'", "2 bytes"),
        ("UPDATE samples SET samples = x''; UPDATE records SET tags = '{'", "record 1"),
    ] {
        damage.execute_batch(sql).unwrap();
        let error = tracker.records(&RecordFilter::default()).await.unwrap_err();
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains("metrics.db"), "{message}");
        assert_eq!(error.class(), ErrorClass::Corrupt);
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_the_environments() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = MetricsTracker::open(folder.path().join("file/metrics.db")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Environment, "{error}");
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_a_whole_session_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = MetricsTracker::open(folder.path()).await.unwrap();
    for _ in 0..10 {
        tokio::select! {
            biased;
            _ = tracker.append(record("v1", &[1.0; 50])) => {}
            () = std::future::ready(()) => {}
        }
    }
    drop(tracker);
    let reopened = MetricsTracker::open(folder.path()).await.unwrap();
    let last = reopened.append(record("v1", &[1.0; 50])).await.unwrap();
    let records = reopened.records(&RecordFilter::default()).await.unwrap();
    assert!((1..=11).contains(&last) && records.len() as u64 >= last, "{last} of {}", records.len());
    assert!(records.iter().all(|stored| stored.record == record("v1", &[1.0; 50])));
}

#[tokio::test]
async fn a_database_of_the_first_format_is_brought_up_to_date_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.db");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1.db"), &path).unwrap();
    let expected = read_json_lines(&include_bytes!("fixtures/format-1.jsonl")[..]).unwrap();
    // Opened twice: the second time there is nothing left to do.
    for _ in 0..2 {
        let tracker = MetricsTracker::open(&path).await.unwrap();
        let records = tracker.records(&RecordFilter::default()).await.unwrap();
        // NaN is not equal to itself.
        assert_eq!(format!("{records:?}"), format!("{expected:?}"));
        let on_a = RecordFilter {
            tags: BTreeMap::from([("host".to_owned(), "a".to_owned())]),
            ..RecordFilter::default()
        };
        let found = tracker.records(&on_a).await.unwrap();
        assert_eq!(
            found.iter().map(|record| record.sequence).collect::<Vec<_>>(),
            [1, 3],
            "tags of old records"
        );
    }
    let version: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 2);
    let tracker = MetricsTracker::open(&path).await.unwrap();
    assert_eq!(tracker.append(record("v4", &[1.0])).await.unwrap(), 4);
}

#[tokio::test]
async fn a_million_samples_are_written_in_batches_and_asked_for_by_metric() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = MetricsTracker::open(folder.path()).await.unwrap();
    let values: Vec<f64> = (0..1000).map(f64::from).collect();
    let session = |i: usize| {
        let metrics = (0..10).map(|m| {
            let spec = MetricSpec::new(format!("m{m}"), "ms", Direction::Increase).unwrap();
            MetricSamples::independent(spec, &values)
        });
        NewRecord { metrics: metrics.collect(), ..record(&format!("v{i}"), &[]) }
    };
    for batch in 0..10 {
        tracker.append_all((0..10).map(|i| session(10 * batch + i)).collect()).await.unwrap();
    }
    for i in 0..100 {
        tracker.set_accepted(&format!("v{i}").parse().unwrap(), true).await.unwrap();
    }
    let history = tracker.get_metrics_history(&"m7".parse().unwrap()).await.unwrap();
    assert_eq!(history.len(), 100);
    assert!(history.iter().all(|point| point.sample_count == 1000 && (point.mean - 499.5).abs() < 1e-9));
}

/// Without the indexes each of these questions would read the whole table.
#[tokio::test]
async fn every_filter_is_answered_from_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = MetricsTracker::open(folder.path()).await.unwrap();
    tracker.append(record("v1", &[1.0])).await.unwrap();
    let connection = rusqlite::Connection::open(tracker.path()).unwrap();
    for (question, index) in [
        ("SELECT * FROM records WHERE version_id = 'v1'", "records_by_version"),
        ("SELECT sequence FROM samples WHERE metric_id = 1", "samples_by_metric"),
        ("SELECT samples FROM samples WHERE sequence = 1", "PRIMARY KEY"),
        ("SELECT sequence FROM record_tags WHERE key = 'k' AND value = 'v'", "PRIMARY KEY"),
        ("SELECT 1 FROM accepted WHERE version_id = 'v1'", "PRIMARY KEY"),
    ] {
        let plan: String =
            connection.query_row(&format!("EXPLAIN QUERY PLAN {question}"), [], |row| row.get(3)).unwrap();
        assert!(plan.starts_with("SEARCH") && plan.contains(index), "{question}: {plan}");
    }
}
