//! The audit file under torn writes, changes behind its back, and several writers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evoseal_rollback::Initiator;
use evoseal_safety::{AuditDamage, AuditEvent, AuditHead, AuditLog, Error, FileAuditLog, RememberedHead};
use evoseal_types::{CheckpointId, Digest, ManualClock};
use support::version;

fn open(path: &Path) -> FileAuditLog {
    FileAuditLog::new(path, Arc::new(ManualClock::default()))
}

fn event(name: &str) -> AuditEvent {
    AuditEvent::Accepted { version_id: version(name), checkpoint: None }
}

async fn filled(names: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = open(&path);
    for name in names {
        log.append(event(name)).await.unwrap();
    }
    (folder, path)
}

async fn names(log: &FileAuditLog) -> Vec<String> {
    let name = |what: AuditEvent| match what {
        AuditEvent::Accepted { version_id, .. } => version_id.to_string(),
        other => panic!("{other:?} was never appended"),
    };
    log.records().await.unwrap().into_iter().map(|record| name(record.what)).collect()
}

/// The number of the record that is called damaged.
async fn damaged_at(log: &FileAuditLog) -> u64 {
    match log.records().await {
        Err(Error::AuditDamaged { sequence, .. }) => sequence,
        other => panic!("expected damage, got {other:?}"),
    }
}

#[tokio::test]
async fn records_are_numbered_chained_and_read_back_by_another_process() {
    let (_folder, path) = filled(&["v1", "v2", "v3"]).await;
    let log = open(&path);
    let records = log.records().await.unwrap();
    assert_eq!(records.iter().map(|record| record.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(log.records_after(2).await.unwrap(), records[2..]);
    assert_eq!(log.records_after(9).await.unwrap(), []);
}

#[tokio::test]
async fn a_log_without_a_file_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(open(&folder.path().join("audit.jsonl")).records().await.unwrap(), []);
}

#[tokio::test]
async fn a_torn_last_line_is_passed_over_and_cut_off_wherever_it_was_torn() {
    let (_folder, path) = filled(&["v1", "v2"]).await;
    let bytes = fs::read(&path).unwrap();
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in 0..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        // Where the log ends is noted after an append only: what was cut off by a crash was not noted yet.
        fs::remove_file(path.with_extension("head")).unwrap();
        let log = open(&path);
        let kept: &[&str] = if cut < first { &[] } else { &["v1"] };
        assert_eq!(names(&log).await, kept, "cut at {cut}");
        log.append(event("again")).await.unwrap();
        let expected: Vec<&str> = kept.iter().copied().chain(["again"]).collect();
        assert_eq!(names(&open(&path)).await, expected, "cut at {cut}");
    }
}

#[tokio::test]
async fn every_flipped_byte_is_noticed_and_named_by_record() {
    let (_folder, path) = filled(&["v1", "v2", "v3"]).await;
    let bytes = fs::read(&path).unwrap();
    // Without the last byte the last line is torn, not damaged.
    for position in 0..bytes.len() - 1 {
        let mut bad = bytes.clone();
        bad[position] ^= 0x04;
        fs::write(&path, &bad).unwrap();
        let record = bytes[..position].split(|byte| *byte == b'\n').count() as u64;
        assert_eq!(damaged_at(&open(&path)).await, record, "byte {position}");
        assert!(open(&path).append(event("v4")).await.is_err(), "appended after damage at byte {position}");
        assert_eq!(fs::read(&path).unwrap(), bad, "the evidence at byte {position} was changed");
    }
}

#[tokio::test]
async fn dropped_swapped_and_repeated_lines_are_noticed() {
    let (_folder, path) = filled(&["v1", "v2", "v3", "v4"]).await;
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let cases = [
        (vec![1, 2, 3], 1),
        (vec![0, 2, 3], 2),
        (vec![0, 2, 1, 3], 2),
        (vec![0, 0, 1, 2, 3], 2),
        (vec![0, 1, 2, 2, 3], 4),
    ];
    for (order, record) in cases {
        let changed: String = order.iter().map(|index| lines[*index]).collect();
        fs::write(&path, changed).unwrap();
        assert_eq!(damaged_at(&open(&path)).await, record, "{order:?}");
    }
}

#[tokio::test]
async fn a_kind_of_event_that_is_not_known_is_refused() {
    let (_folder, path) = filled(&["v1"]).await;
    let text = fs::read_to_string(&path).unwrap();
    let json = text[65..].trim_end().replace("\"accepted\"", "\"from_the_future\"");
    let digest = Digest::of(json.as_bytes());
    fs::write(&path, format!("{digest} {json}\n")).unwrap();
    assert_eq!(damaged_at(&open(&path)).await, 1);
}

#[tokio::test]
async fn writers_at_the_same_time_lose_nothing_and_keep_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let mut writers = Vec::new();
    for writer in ["a", "b", "c"] {
        let log = open(&path);
        writers.push(tokio::spawn(async move {
            for count in 0..20 {
                log.append(event(&format!("{writer}{count}"))).await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut found = names(&open(&path)).await;
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 60);
}

#[tokio::test]
async fn what_another_process_appends_is_seen() {
    let (_folder, path) = filled(&["v1"]).await;
    let (ours, theirs) = (open(&path), open(&path));
    assert_eq!(names(&ours).await, ["v1"]);
    theirs.append(event("v2")).await.unwrap();
    assert_eq!(names(&ours).await, ["v1", "v2"]);
    ours.append(event("v3")).await.unwrap();
    assert_eq!(names(&theirs).await, ["v1", "v2", "v3"]);
}

#[tokio::test]
async fn a_change_of_what_was_checked_before_is_noticed_while_the_log_is_in_use() {
    let (_folder, path) = filled(&["v1", "v2"]).await;
    let log = open(&path);
    assert_eq!(names(&log).await, ["v1", "v2"]);
    let whole = fs::read(&path).unwrap();
    let mut bad = whole.clone();
    bad[100] ^= 0x04;
    fs::write(&path, &bad).unwrap();
    assert_eq!(damaged_at(&log).await, 1);
    assert!(log.append(event("v3")).await.is_err());
    // Put back as it was, it can be used again.
    fs::write(&path, &whole).unwrap();
    assert_eq!(names(&log).await, ["v1", "v2"]);
}

#[tokio::test]
async fn a_log_that_was_cut_removed_or_replaced_by_a_good_one_while_in_use_is_damage() {
    let (_folder, path) = filled(&["v1", "v2"]).await;
    let (_other_folder, other) = filled(&["x1", "x2", "x3"]).await;
    let whole = fs::read_to_string(&path).unwrap();
    let first_line = whole.split_inclusive('\n').next().unwrap();
    let log = open(&path);
    assert_eq!(names(&log).await, ["v1", "v2"]);

    fs::write(&path, first_line).unwrap();
    assert_eq!(damaged_at(&log).await, 2);
    fs::copy(&other, &path).unwrap();
    assert_eq!(damaged_at(&log).await, 2);
    fs::remove_file(&path).unwrap();
    assert!(log.records().await.is_err());
    assert!(log.append(event("v3")).await.is_err());
}

#[tokio::test]
async fn a_folder_that_is_missing_or_may_not_be_written_is_an_error_with_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = open(&folder.path().join("missing/audit.jsonl"));
    let error = nowhere.append(event("v1")).await.unwrap_err().to_string();
    assert!(error.contains("missing/audit.jsonl"), "{error}");

    let is_a_folder = open(folder.path());
    assert!(is_a_folder.append(event("v1")).await.is_err());
    assert!(is_a_folder.records().await.is_err());

    let path = folder.path().join("audit.jsonl");
    open(&path).append(event("v1")).await.unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    // Root may write anything; everyone else is told.
    if fs::OpenOptions::new().write(true).open(&path).is_err() {
        assert!(open(&path).append(event("v2")).await.is_err());
    }
    assert_eq!(names(&open(&path)).await, ["v1"]);
}

#[tokio::test]
async fn records_that_were_cut_off_the_end_are_noticed_by_a_process_that_never_saw_them() {
    let (_folder, path) = filled(&["v1", "v2", "v3"]).await;
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let left = whole[..cut].split(|byte| *byte == b'\n').count() as u64 - 1;
        assert_eq!(damaged_at(&open(&path)).await, left + 1, "cut at {cut}");
        assert!(open(&path).append(event("v4")).await.is_err(), "went on after a cut at {cut}");
        let report = open(&path).verify(RememberedHead::default()).await.unwrap();
        assert_eq!(report.damage.map(|damage| damage.record), Some(left + 1), "cut at {cut}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(damaged_at(&open(&path)).await, 1);
    fs::write(&path, &whole).unwrap();
    assert_eq!(names(&open(&path)).await, ["v1", "v2", "v3"]);
}

#[tokio::test]
async fn a_forged_log_of_the_same_length_is_noticed_by_the_note_beside_it() {
    let (_folder, path) = filled(&["v1", "v2", "v3"]).await;
    let (_other_folder, other) = filled(&["v1", "x2", "v3"]).await;
    fs::copy(&other, &path).unwrap();
    assert_eq!(damaged_at(&open(&path)).await, 3);
    // Whoever forges the note as well can be found out only with a head that was kept elsewhere.
    let head = open(&path).verify(RememberedHead::default()).await.unwrap().head;
    fs::copy(other.with_extension("head"), path.with_extension("head")).unwrap();
    assert_eq!(names(&open(&path)).await, ["v1", "x2", "v3"]);
    let kept = Digest::of(b"what the last record was");
    let remembered = RememberedHead { count: Some(3), digest: Some(kept) };
    let report = open(&path).verify(remembered).await.unwrap();
    assert_eq!((report.head, report.damage.map(|damage| damage.record)), (head, Some(3)));
}

#[tokio::test]
async fn a_note_that_lags_behind_or_is_empty_is_no_damage_and_one_that_means_nothing_is() {
    let (_folder, path) = filled(&["v1"]).await;
    let note = path.with_extension("head");
    let earlier = fs::read(&note).unwrap();
    open(&path).append(event("v2")).await.unwrap();
    for harmless in [&earlier[..], b"", &[0; 40]] {
        fs::write(&note, harmless).unwrap();
        assert_eq!(names(&open(&path)).await, ["v1", "v2"]);
        assert_eq!(open(&path).verify(RememberedHead::default()).await.unwrap().damage, None);
    }
    for wrong in [&b"garbage"[..], b"2 \n", b"\xff\n", b"+1", &earlier[..earlier.len() - 1]] {
        fs::write(&note, wrong).unwrap();
        assert!(open(&path).records().await.unwrap_err().to_string().contains("audit.head"));
        let damage = open(&path).verify(RememberedHead::default()).await.unwrap().damage.unwrap();
        assert!(damage.problem.contains("audit.head"), "{damage:?}");
    }
}

#[tokio::test]
async fn what_happened_to_a_record_is_told() {
    let (_folder, path) = filled(&["v1", "v2", "v3", "v4"]).await;
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let flipped = lines[1].replace("v2", "w2");
    let cases: [(Vec<&str>, u64, &str); 6] = [
        (vec![lines[0], &flipped, lines[2], lines[3]], 2, "its digest does not match"),
        (vec![lines[0], lines[2], lines[3]], 2, "it is gone; record 3 stands in its place"),
        (vec![lines[0], lines[2], lines[1], lines[3]], 2, "record 3 stands before it"),
        (vec![lines[0], lines[1], lines[1], lines[2], lines[3]], 3, "record 2 stands here again"),
        (vec![lines[0], lines[1], lines[2]], 4, "the log was cut: it had 4 records and has 3"),
        (vec![lines[0], "\n", lines[1]], 2, "it is too short"),
    ];
    for (lines, record, problem) in cases {
        fs::write(&path, lines.concat()).unwrap();
        let damage = open(&path).verify(RememberedHead::default()).await.unwrap().damage;
        assert_eq!(damage, Some(AuditDamage { record, problem: problem.to_owned() }));
    }
}

#[tokio::test]
async fn a_remembered_head_is_looked_for_at_its_own_place() {
    let (_folder, path) = filled(&["v1", "v2"]).await;
    let old = open(&path).verify(RememberedHead::default()).await.unwrap().head;
    open(&path).append(event("v3")).await.unwrap();
    let log = open(&path);
    let ask = async |count, digest| {
        log.verify(RememberedHead { count, digest }).await.unwrap().damage.map(|damage| damage.record)
    };
    let (digest, other) = (Some(old.digest), Some(Digest::of(b"other")));
    assert_eq!(ask(Some(2), digest).await, None);
    assert_eq!(ask(None, digest).await, None);
    assert_eq!(ask(Some(3), None).await, None);
    assert_eq!(ask(None, Some(AuditHead::default().digest)).await, None);
    assert_eq!(ask(Some(0), digest).await, Some(1));
    assert_eq!(ask(Some(1), digest).await, Some(1));
    assert_eq!(ask(Some(2), other).await, Some(2));
    assert_eq!(ask(None, other).await, Some(4));
    assert_eq!(ask(Some(4), None).await, Some(4));
}

#[tokio::test]
async fn garbage_and_a_log_of_another_layout_are_damage_and_an_empty_file_is_an_empty_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    fs::write(&path, "").unwrap();
    assert_eq!(names(&open(&path)).await, [""; 0]);
    let body = "{\"version\":2,\"number\":1,\"event\":\"accepted\"}";
    let another = evoseal_types::checked_line::encode(body).0;
    for bad in [&b"\x7fELF\x02\x01\n\x00\n"[..], b"\n", another.as_bytes(), &[0xff; 4096][..]] {
        fs::write(&path, [bad, b"\n"].concat()).unwrap();
        assert_eq!(damaged_at(&open(&path)).await, 1);
        assert!(open(&path).append(event("v1")).await.is_err());
        let report = open(&path).verify(RememberedHead::default()).await.unwrap();
        assert_eq!((report.head, report.records), (AuditHead::default(), Vec::new()));
        assert_eq!(report.damage.map(|damage| damage.record), Some(1));
    }
}

#[tokio::test]
async fn the_bytes_of_a_record_are_those_of_the_format_page() {
    let (_folder, path) = filled(&["v1"]).await;
    let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    let what = r#"{"event":"accepted","version_id":"v1","checkpoint":null}"#;
    let json =
        format!(r#"{{"sequence":1,"timestamp":"1970-01-01T00:00:00Z","previous":"{empty}","what":{what}}}"#);
    let digest = Digest::of(json.as_bytes());
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{digest} {json}\n"));
    assert_eq!(fs::read_to_string(path.with_extension("head")).unwrap(), format!("1 {digest}\n"));
}

#[tokio::test]
async fn a_rollback_from_before_the_log_said_who_wanted_it_can_be_read() {
    let (_folder, path) = filled(&[]).await;
    let (empty, to) = (Digest::of(b""), Digest::of(b"to"));
    let what = format!(r#"{{"event":"rolled_back","from":"v2","to":"{to}","reason":"regression"}}"#);
    let json =
        format!(r#"{{"sequence":1,"timestamp":"1970-01-01T00:00:00Z","previous":"{empty}","what":{what}}}"#);
    fs::write(&path, format!("{} {json}\n", Digest::of(json.as_bytes()))).unwrap();
    let expected = AuditEvent::RolledBack {
        from: Some(version("v2")),
        to: CheckpointId::new(to),
        reason: "regression".to_owned(),
        initiator: Initiator::Automatic,
        rollback: None,
    };
    assert_eq!(open(&path).records().await.unwrap()[0].what, expected);
}
