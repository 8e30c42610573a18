//! What only files can suffer: torn ends, marks that lie, objects that a crash tore, processes that are killed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use evoseal_checkpoint::{Cell, CellState, Error, LocalBackend, ObjectBackend, ObjectBackendExt};
use tempfile::TempDir;

const PLACE: &str = "EVOSEAL_TEST_PLACE";

fn fresh() -> (TempDir, LocalBackend) {
    let directory = tempfile::tempdir().unwrap();
    let backend = LocalBackend::open(directory.path()).unwrap();
    (directory, backend)
}

fn cell(backend: &LocalBackend) -> Cell {
    backend.load("cell", 0).unwrap().unwrap()
}

/// A cell that was written and appended to, so that 100 bytes of it are acknowledged.
fn with_a_cell() -> (TempDir, LocalBackend, Vec<u8>) {
    let (directory, backend) = fresh();
    let bytes: Vec<u8> = (0..100).collect();
    assert!(backend.swap("cell", None, &bytes[..70]).unwrap());
    assert!(backend.append("cell", &CellState::of(&bytes[..70]), &bytes[70..]).unwrap());
    (directory, backend, bytes)
}

fn add_by_hand(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_torn_append_is_seen_as_such_and_cut_by_the_next_one() {
    let (directory, backend, whole) = with_a_cell();
    add_by_hand(&directory.path().join("cells/cell"), &[0; 5000]);
    let found = cell(&backend);
    assert_eq!((found.state.len, found.acknowledged_len), (5100, Some(100)));
    assert!(!backend.append("cell", &CellState::of(&whole), b"x").unwrap(), "there is more than was seen");
    let valid = found.state.cut(100, &found.bytes[..100]);
    assert!(backend.append("cell", &valid, b"next").unwrap());
    let found = LocalBackend::open(directory.path()).unwrap().load("cell", 100).unwrap().unwrap();
    assert_eq!(
        (found.bytes.as_slice(), found.state.len, found.acknowledged_len),
        (b"next".as_slice(), 104, Some(104))
    );
}

#[test]
fn a_cell_that_was_cut_off_is_shorter_than_what_was_acknowledged_at_every_length() {
    let (directory, backend, whole) = with_a_cell();
    for length in (0..whole.len()).rev() {
        let file = OpenOptions::new().write(true).open(directory.path().join("cells/cell")).unwrap();
        file.set_len(length as u64).unwrap();
        let found = cell(&backend);
        assert_eq!((found.bytes.as_slice(), found.acknowledged_len), (&whole[..length], Some(100)));
    }
    fs::remove_file(directory.path().join("cells/cell")).unwrap();
    let error = backend.load("cell", 0).unwrap_err();
    assert!(matches!(&error, Error::Damaged { object, .. } if object == "cell"), "{error}");
    assert!(backend.swap("cell", None, b"anew").unwrap(), "writing it anew needs nobody's help");
    assert_eq!(cell(&backend).acknowledged_len, Some(4));
}

#[test]
fn every_damaged_mark_is_named_and_the_next_write_makes_it_good() {
    let (directory, backend, whole) = with_a_cell();
    let path = directory.path().join("cells/cell.mark");
    let mark = fs::read(&path).unwrap();
    let flipped = (0..mark.len()).map(|place| {
        let mut bytes = mark.clone();
        bytes[place] ^= 1;
        bytes
    });
    let cut = (1..mark.len()).map(|length| mark[..length].to_vec());
    for bytes in flipped.chain(cut).chain([[mark.as_slice(), b"more"].concat()]) {
        fs::write(&path, bytes).unwrap();
        let found = cell(&backend);
        assert_eq!((found.bytes.as_slice(), found.acknowledged_len), (whole.as_slice(), None));
        let problem = found.problem.unwrap();
        assert!(problem.contains("cell.mark is damaged"), "{problem}");
    }
    assert!(backend.append("cell", &CellState::of(&whole), b"next").unwrap());
    let found = cell(&backend);
    assert_eq!((found.acknowledged_len, found.problem), (Some(104), None));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let problem = cell(&backend).problem.unwrap();
    assert!(problem.contains("cell.mark cannot be read"), "{problem}");
}

#[test]
fn a_mark_that_is_missing_or_blank_or_of_another_cell_says_nothing() {
    let (directory, backend, whole) = with_a_cell();
    let path = directory.path().join("cells/cell.mark");
    let of_the_old_cell = fs::read(&path).unwrap();
    let other = [9; 200];
    assert!(backend.swap("cell", Some(&CellState::of(&whole)), &other).unwrap());
    assert_eq!(cell(&backend).acknowledged_len, Some(200));
    for left in [None, Some(b"".as_slice()), Some(&[0; 80]), Some(&of_the_old_cell)] {
        fs::remove_file(&path).unwrap();
        if let Some(bytes) = left {
            fs::write(&path, bytes).unwrap();
        }
        let found = cell(&backend);
        assert_eq!((found.state, found.acknowledged_len, found.problem), (CellState::of(&other), None, None));
        fs::write(&path, "").unwrap();
    }
}

#[test]
fn an_object_that_a_crash_of_the_machine_tore_is_replaced_and_one_that_rotted_is_not() {
    let (directory, backend) = fresh();
    let path = directory.path().join("objects/packs/a");
    backend.put("packs/a", b"whole").unwrap();
    let settled = fs::metadata(&path).unwrap().permissions();
    assert_eq!(settled.mode() & 0o111, 0, "an object is not executable once it is on the disk");

    fs::write(&path, "wh").unwrap();
    let error = backend.put("packs/a", b"whole").unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert_eq!(backend.get_range("packs/a", 0..2).unwrap(), b"wh", "what rotted is for verification to name");

    fs::set_permissions(&path, PermissionsExt::from_mode(0o744)).unwrap();
    backend.put("packs/a", b"whole").unwrap();
    assert_eq!(backend.get("packs/a").unwrap(), b"whole");
    assert_eq!(backend.get_range("packs/a", 0..5).unwrap(), b"whole", "the old file must not be kept open");
    assert_eq!(fs::metadata(&path).unwrap().permissions(), settled);

    // Whole, but its writer died before it was known to be on the disk.
    fs::set_permissions(&path, PermissionsExt::from_mode(0o744)).unwrap();
    backend.put("packs/a", b"whole").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions(), settled);
}

#[test]
fn temporary_files_go_with_their_writers_and_stay_while_these_live() {
    let (directory, backend) = fresh();
    let temporary = || {
        let listed = fs::read_dir(directory.path().join("tmp")).unwrap();
        listed.map(|entry| entry.unwrap().file_name()).filter(|name| name != "lock").count()
    };
    let mut kept = backend.writer().unwrap();
    kept.write(&vec![1; 100_000]).unwrap();
    let mut dropped = backend.writer().unwrap();
    dropped.write(b"x").unwrap();
    assert_eq!(temporary(), 2);
    drop(dropped);
    assert_eq!(temporary(), 1);
    let other = LocalBackend::open(directory.path()).unwrap();
    assert_eq!(temporary(), 1, "the writer lives");
    kept.finish("a").unwrap();
    assert_eq!(temporary(), 0);
    assert_eq!(other.get("a").unwrap(), vec![1; 100_000]);
}

#[test]
fn writers_that_finish_the_same_object_at_once_all_succeed() {
    let (directory, backend) = fresh();
    for round in 0..20 {
        let name = format!("packs/{round}");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let own = LocalBackend::open(directory.path()).unwrap();
                    own.put(&name, b"the same bytes").unwrap();
                });
            }
        });
        assert_eq!(backend.get(&name).unwrap(), b"the same bytes");
    }
}

/// Appends one line after the other, each with the number of the one before plus one, until it is killed or has done
/// its share.
#[test]
#[ignore = "the process that the other tests start"]
fn appender() {
    let place = PathBuf::from(env::var_os(PLACE).expect("started by another test"));
    let backend = LocalBackend::open(place).unwrap();
    let mut done = 0;
    while done < 60 {
        let found = cell(&backend);
        let valid = found.bytes.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        let lines = found.bytes[..valid].split(|byte| *byte == b'\n').count() - 1;
        let state = found.state.cut(valid as u64, &found.bytes[..valid]);
        let line = format!("{lines:040}\n");
        done += u32::from(backend.append("cell", &state, line.as_bytes()).unwrap());
    }
}

fn start_appender(place: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["appender", "--exact", "--ignored", "--test-threads=1"])
        .env(PLACE, place)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The numbers of all whole lines are those of their places; returns how many there are.
fn check_lines(backend: &LocalBackend) -> usize {
    let text = String::from_utf8(cell(backend).bytes).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
    for (number, line) in lines.iter().enumerate().skip(1) {
        assert_eq!(*line, format!("{number:040}\n"));
    }
    lines.len()
}

#[test]
fn of_what_two_processes_append_nothing_is_lost_or_mixed() {
    let (directory, backend) = fresh();
    assert!(backend.swap("cell", None, b"start\n").unwrap());
    let mut appenders = [start_appender(directory.path()), start_appender(directory.path())];
    for appender in &mut appenders {
        assert!(appender.wait().unwrap().success());
    }
    assert_eq!(check_lines(&backend), 121);
}

#[test]
fn whenever_an_appender_is_killed_the_next_one_goes_on() {
    let (directory, backend) = fresh();
    assert!(backend.swap("cell", None, b"start\n").unwrap());
    let mut lines = 1;
    for round in 0..12 {
        let mut appender = start_appender(directory.path());
        std::thread::sleep(Duration::from_millis(3 + round * 5 % 23));
        appender.kill().unwrap();
        appender.wait().unwrap();
        let found = cell(&backend);
        assert!(found.acknowledged_len.unwrap() <= found.state.len, "{found:?}");
        let now = check_lines(&backend);
        assert!(now >= lines, "round {round}: lines were lost");
        lines = now;
    }
    assert!(start_appender(directory.path()).wait().unwrap().success());
    assert!(check_lines(&backend) >= lines + 60);
}
