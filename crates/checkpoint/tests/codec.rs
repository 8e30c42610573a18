//! The stored records can be read by the maintained, wire-compatible successor of the codec that writes them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use evoseal_checkpoint::{
    CheckpointManager, CheckpointSettings, MemoryBackend, NewCheckpoint, ObjectBackend, Source,
};
use evoseal_types::{
    Clock, Digest, Direction, EntryPath, ManualClock, MetricSamples, MetricSpec, TestCase, TestReport,
    TestStatus, Timestamp,
};
use wincode::SchemaRead;

#[derive(Debug, SchemaRead)]
enum Meta {
    Base(Base),
    Commit(Commit),
}

#[derive(Debug, SchemaRead)]
struct Base {
    generation: u64,
    next_sequence: u64,
    packs: Vec<Pack>,
    checkpoints: Vec<Entry>,
    deleted_bytes: u64,
}

#[derive(Debug, SchemaRead)]
struct Commit {
    packs: Vec<Pack>,
    inline: Option<Pack>,
    added: Vec<Entry>,
    removed: Vec<[u8; 32]>,
    pins: Vec<([u8; 32], Option<String>)>,
}

#[derive(Debug, SchemaRead)]
struct Pack {
    digest: [u8; 32],
    size_bytes: u64,
    index_offset: u64,
}

#[derive(Debug, SchemaRead)]
struct Entry {
    id: [u8; 32],
    sequence: u64,
    tree: [u8; 32],
    created_at_unix_ns: i64,
    size_bytes: u64,
    bytes_stored: u64,
    pinned: Option<String>,
}

/// The meta data and the attachment of each record of a log, as FORMAT.md describes them.
fn records(mut log: &[u8]) -> Vec<(Meta, Vec<u8>)> {
    let mut found = Vec::new();
    while !log.is_empty() {
        let meta_len = u32::from_le_bytes(log[12..16].try_into().unwrap()) as usize;
        let attached_len = usize::try_from(u64::from_le_bytes(log[16..24].try_into().unwrap())).unwrap();
        let meta = wincode::deserialize(&log[120..120 + meta_len]).unwrap();
        found.push((meta, log[120 + meta_len..][..attached_len].to_vec()));
        log = &log[2 * (120 + meta_len) + attached_len + 32..];
    }
    found
}

/// The bytes of an object of a pack that is not compressed, as FORMAT.md describes it.
fn object(pack: &[u8], index_offset: u64, digest: &[u8; 32]) -> Vec<u8> {
    let index = &pack[usize::try_from(index_offset).unwrap()..];
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let (block_count, object_count) = (number(index), number(&index[4..]));
    let blocks = &index[8..];
    let objects = &blocks[block_count * 49..];
    let found =
        (0..object_count).map(|place| &objects[place * 45..][..45]).find(|found| &found[..32] == digest);
    let found = found.unwrap();
    let block = &blocks[number(&found[33..]) * 49..];
    let offset = usize::try_from(u64::from_le_bytes(block[..8].try_into().unwrap())).unwrap();
    pack[offset + number(&found[37..])..][..number(&found[41..])].to_vec()
}

#[derive(Debug, SchemaRead)]
struct Record {
    version_id: String,
    parent: Option<[u8; 32]>,
    created_at_unix_ns: i64,
    tree: [u8; 32],
    file_count: u64,
    size_bytes: u64,
    test_results: Vec<Report>,
    metrics: Vec<Samples>,
    configuration: Vec<(String, String)>,
    system_state: Vec<(String, String)>,
    note: String,
}

#[derive(Debug, SchemaRead)]
struct Report {
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
    cases: Vec<Case>,
    message: Option<String>,
}

#[derive(Debug, SchemaRead)]
struct Case {
    name: String,
    status: u8,
    message: Option<String>,
}

#[derive(Debug, SchemaRead)]
struct Samples {
    name: String,
    unit: String,
    direction: u8,
    values: Vec<Sample>,
}

#[derive(Debug, SchemaRead)]
struct Sample {
    start: u32,
    iteration: u32,
    value: f64,
}

#[test]
fn the_successor_of_the_codec_reads_the_same_bytes() {
    let backend = MemoryBackend::new();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::starting_at(Timestamp::from_unix_ns(-7)));
    let settings = CheckpointSettings { compression_enabled: false, ..CheckpointSettings::default() };
    let builder = CheckpointManager::builder().backend(Arc::new(backend.clone())).clock(clock);
    let manager = builder.settings(settings).create().unwrap();
    let mut report = TestReport::from_counts("unit_tests", 1, 1, 0, 3);
    report.duration_sec = 0.25;
    report.resources.memory_mb = Some(12.5);
    report.cases = vec![TestCase { name: "t".into(), status: TestStatus::Fail, message: Some("no".into()) }];
    let spec = MetricSpec::new("accuracy", "%", Direction::Decrease).unwrap();
    let details = NewCheckpoint {
        test_results: vec![report],
        metrics: vec![MetricSamples::independent(spec, &[1.0, -2.5])],
        configuration: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
        note: "ü".into(),
        ..NewCheckpoint::of("v1".parse().unwrap())
    };
    let source = Source::Entries(BTreeMap::from([(EntryPath::new("a").unwrap(), b"123".to_vec())]));
    let (saved, _) = manager.create_blocking(&source, details).unwrap();
    manager.pin_blocking(saved.id, Some("release")).unwrap();

    let log = records(&backend.load("catalog", 0).unwrap().unwrap().bytes);
    let [(Meta::Base(base), _), (Meta::Commit(made), pack), (Meta::Commit(pinned), nothing)] = &log[..]
    else {
        panic!("{log:?}")
    };
    assert_eq!((base.generation, base.next_sequence, base.deleted_bytes), (0, 0, 0));
    assert!(base.packs.is_empty() && base.checkpoints.is_empty());
    let inline = made.inline.as_ref().unwrap();
    assert_eq!(
        Digest::of(&pack[usize::try_from(inline.index_offset).unwrap()..]),
        Digest::from_bytes(inline.digest)
    );
    assert_eq!((inline.size_bytes, made.packs.len()), (pack.len() as u64, 0));
    let entry = &made.added[0];
    assert_eq!(
        (entry.id, entry.sequence, entry.tree),
        (*saved.id.digest().as_bytes(), 0, *saved.tree.as_bytes())
    );
    assert_eq!((entry.created_at_unix_ns, entry.size_bytes, entry.bytes_stored), (-7, 3, inline.size_bytes));
    assert_eq!((&entry.pinned, made.removed.len()), (&None, 0));
    assert_eq!(pinned.pins, [(*saved.id.digest().as_bytes(), Some("release".to_owned()))]);
    assert!(nothing.is_empty() && pinned.inline.is_none());

    let bytes = &object(pack, inline.index_offset, saved.id.digest().as_bytes());
    assert_eq!(Digest::of(bytes), saved.id.digest(), "the id is the digest of the record");
    let record: Record = wincode::deserialize(bytes).unwrap();
    assert_eq!((record.version_id.as_str(), record.parent, record.note.as_str()), ("v1", None, "ü"));
    assert_eq!((record.created_at_unix_ns, record.file_count, record.size_bytes), (-7, 1, 3));
    assert_eq!(record.tree, *saved.tree.as_bytes());
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!((record.configuration, record.system_state), (vec![pair("a", "1"), pair("b", "2")], vec![]));
    let report = &record.test_results[0];
    assert_eq!(
        (report.test_type.as_str(), report.status, report.message.as_deref()),
        ("unit_tests", 1, None)
    );
    assert_eq!((report.tests_run, report.tests_passed, report.tests_failed), (2, 1, 1));
    assert_eq!((report.tests_errors, report.tests_skipped), (0, 3));
    assert_eq!(report.duration_sec.to_bits(), 0.25_f64.to_bits());
    assert_eq!((report.cpu_percent, report.memory_mb), (None, Some(12.5)));
    assert_eq!((report.io_read_mb, report.io_write_mb), (None, None));
    let case = &report.cases[0];
    assert_eq!((case.name.as_str(), case.status, case.message.as_deref()), ("t", 1, Some("no")));
    let metric = &record.metrics[0];
    assert_eq!((metric.name.as_str(), metric.unit.as_str(), metric.direction), ("accuracy", "%", 1));
    let samples: Vec<(u32, u32, u64)> =
        metric.values.iter().map(|sample| (sample.start, sample.iteration, sample.value.to_bits())).collect();
    assert_eq!(samples, [(0, 0, 1.0_f64.to_bits()), (1, 0, (-2.5_f64).to_bits())]);
}
