//! Space that was set aside at checkpoint time is enough for a restore on a disk without a free byte.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use evoseal_checkpoint::{CheckpointManager, CheckpointSettings, NewCheckpoint, RestoreMode, Source};

const PLACE: &str = "EVOSEAL_RESERVE_TEST_PLACE";

/// Runs the other test of this file in a mount name space of its own, with a small file system at `PLACE`.
#[test]
fn a_restore_succeeds_on_a_disk_without_a_free_byte_if_space_was_set_aside() {
    let place = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=24m tmpfs "$0" && exec "$@""#;
    let run = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script])
        .arg(place.path())
        .arg(env::current_exe().unwrap())
        .args(["inside", "--exact", "--ignored", "--nocapture"])
        .env(PLACE, place.path())
        .output();
    let output = match run {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: `unshare` cannot be run: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if !text.contains("running 1 test") {
        return eprintln!("skipped: this machine gives no mount name space: {text}");
    }
    assert!(output.status.success(), "{text}");
}

#[test]
#[ignore = "the part of the other test that runs on the small disk"]
fn inside() {
    let place = PathBuf::from(env::var_os(PLACE).expect("the other test runs this one"));
    let without = restore_on_a_full_disk(&place.join("without"), 0);
    assert!(without.is_err(), "the disk is not full enough for this test");
    restore_on_a_full_disk(&place.join("with"), 4 << 20).expect("space was set aside");
}

/// A workspace of two megabytes is captured, changed and brought back while the disk is full.
fn restore_on_a_full_disk(place: &Path, reserve_bytes: u64) -> evoseal_checkpoint::Result<()> {
    let workspace = place.join("workspace");
    fs::create_dir_all(&workspace).unwrap();
    let content = |seed: u32| -> Vec<u8> {
        (0..50_000_u32).flat_map(|number| (number.wrapping_mul(seed) ^ seed).to_le_bytes()).collect()
    };
    for number in 1..=10 {
        fs::write(workspace.join(format!("file{number}")), content(number * 7 + 1)).unwrap();
    }
    let settings = CheckpointSettings { reserve_bytes, ..CheckpointSettings::default() };
    let manager =
        CheckpointManager::builder().directory(place.join("store")).settings(settings).create().unwrap();
    let source = Source::Directory(workspace.clone());
    let (made, stats) = manager.create_blocking(&source, NewCheckpoint::of("v1".parse().unwrap())).unwrap();
    assert_eq!(stats.reserved_bytes, reserve_bytes);
    for number in 1..=10 {
        fs::write(workspace.join(format!("file{number}")), content(number * 11)).unwrap();
    }
    let mut filler = fs::File::create(place.join("filler")).unwrap();
    let block = vec![1; 4096];
    while filler.write_all(&block).is_ok() {}
    let result = manager.restore_blocking(made.id, &workspace, RestoreMode::InPlace);
    if result.is_ok() {
        assert_eq!(manager.tree_digest_blocking(&workspace).unwrap(), made.tree);
    } else {
        assert_eq!(fs::read(workspace.join("file1")).unwrap(), content(11), "nothing was changed half-way");
        assert_eq!(fs::read_dir(&workspace).unwrap().count(), 10, "nothing is left aside");
    }
    fs::remove_file(place.join("filler")).unwrap();
    result.map(|_| ())
}
