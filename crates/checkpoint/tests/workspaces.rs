//! Capture and restore of real directories: what is read again, what is left alone, what an interruption leaves.
#![allow(clippy::unwrap_used, reason = "tests")]

mod place;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evoseal_checkpoint::{CheckpointManager, EntryKind, Error, NewCheckpoint, RestoreMode, Source};
use evoseal_types::{ChangeKind, EntryPath};
use place::{Place, names};

/// Lets the file system's clock tick, so that what was written is older than the next walk.
fn settle() {
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn an_unchanged_workspace_is_not_read_again_and_writes_no_pack() {
    let place = Place::new();
    place.write("a", b"1");
    place.write("d/b", b"2");
    settle();
    let manager = place.manager();
    let (first, stats) = place.save(&manager);
    assert_eq!((stats.files_read, stats.bytes_read, stats.objects_new > 0), (2, 2, true));
    // A record of the checkpoint is kept, and nothing else.
    let record_len_max = 2000;
    // Also in another process, which has only what is on disk.
    for manager in [manager, place.manager()] {
        let (again, stats) = place.save(&manager);
        assert_eq!(again.tree, first.tree);
        assert_eq!((stats.files_read, stats.objects_new), (0, 0));
        assert!(stats.bytes_stored < record_len_max, "{} bytes", stats.bytes_stored);
    }
    assert!(!place.store().join("objects/packs").exists(), "what is small travels with the commit");
}

#[test]
fn one_changed_file_among_many_is_the_only_one_that_is_read() {
    let place = Place::new();
    for number in 0..200 {
        place.write(&format!("d{}/f{number}", number % 10), format!("content {number}").as_bytes());
    }
    settle();
    let manager = place.manager();
    place.save(&manager);
    place.write("d3/f3", b"other");
    settle();
    let (_, stats) = place.save(&manager);
    assert_eq!((stats.files_read, stats.bytes_read), (1, 5));
    // The content, the page of its folder, the page of the root.
    assert_eq!(stats.objects_new, 3);
}

#[test]
fn a_change_that_keeps_size_and_modification_time_is_seen() {
    let place = Place::new();
    place.write("a", b"before");
    settle();
    let manager = place.manager();
    let (first, _) = place.save(&manager);
    let file = place.at("a");
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, b"after!").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    let (second, _) = place.save(&manager);
    assert_ne!(first.tree, second.tree);
}

#[test]
fn a_file_written_in_the_same_tick_as_a_capture_is_read_again() {
    let place = Place::new();
    let manager = place.manager();
    for round in 0_u32..50 {
        place.write("a", format!("{round:04}").as_bytes());
        let (saved, _) = place.save(&manager);
        place.write("a", format!("{:04}", round + 5000).as_bytes());
        let (changed, _) = place.save(&manager);
        assert_ne!(saved.tree, changed.tree, "round {round}");
    }
}

#[test]
fn a_damaged_or_foreign_stat_cache_costs_time_and_nothing_else() {
    let place = Place::new();
    place.write("a", b"1");
    settle();
    let (first, _) = place.save(&place.manager());
    let cache = fs::read_dir(place.store().join("cache")).unwrap().next().unwrap().unwrap().path();
    for bytes in [b"".to_vec(), b"nonsense".to_vec(), fs::read(&cache).unwrap()[..40].to_vec()] {
        fs::write(&cache, bytes).unwrap();
        let (again, stats) = place.save(&place.manager());
        assert_eq!((again.tree, stats.files_read), (first.tree, 1));
    }
}

#[test]
fn a_forgotten_workspace_is_read_in_full() {
    let place = Place::new();
    place.write("a", b"1");
    settle();
    let manager = place.manager();
    place.save(&manager);
    manager.forget_workspace(&place.workspace()).unwrap();
    assert_eq!(place.save(&manager).1.files_read, 1);
}

#[test]
fn known_files_are_stored_again_when_the_store_no_longer_has_them() {
    let place = Place::new();
    place.write("a", b"content");
    settle();
    let manager = place.manager();
    let (first, _) = place.save(&manager);
    manager.delete_blocking(&[first.id]).unwrap();
    let (second, stats) = place.save(&manager);
    assert_eq!(stats.files_read, 1, "it is known, but not stored any more");
    assert_eq!(manager.read_file_blocking(second.id, &EntryPath::new("a").unwrap()).unwrap(), b"content");
    assert_eq!(manager.verify_blocking(&[]).unwrap().damage, []);
}

#[test]
fn names_of_any_bytes_and_targets_of_any_bytes_come_back() {
    let place = Place::new();
    let odd =
        [&b"\xff\xfe"[..], b"new\nline", b"\x1b[31m", b" lead", b"trail ", b"back\\slash", b"*", b"-rf"];
    for name in odd {
        fs::write(place.workspace().join(OsStr::from_bytes(name)), name).unwrap();
    }
    symlink(OsStr::from_bytes(b"\xff\xfe/\xbf"), place.at("link")).unwrap();
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let target = place.unpack(&manager, saved.id, "restored");
    for name in odd {
        assert_eq!(fs::read(target.join(OsStr::from_bytes(name))).unwrap(), name);
    }
    let link = fs::read_link(target.join("link")).unwrap();
    assert_eq!(link.as_os_str().as_bytes(), b"\xff\xfe/\xbf");
}

#[test]
fn files_named_like_the_stores_own_and_compressed_files_are_plain_content() {
    let place = Place::new();
    let files =
        ["metadata.json", "system_state.pkl", "a.json.gz", "sub/x.py", "sub/y.md", "checkpoint_checkpoint_1"];
    for file in files {
        place.write(file, b"\x1f\x8b not really compressed");
    }
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let target = place.unpack(&manager, saved.id, "restored");
    for file in files {
        assert_eq!(fs::read(target.join(file)).unwrap(), b"\x1f\x8b not really compressed", "{file}");
    }
}

#[test]
fn pipes_and_sockets_are_reported_and_never_opened() {
    let place = Place::new();
    place.write("a", b"1");
    let pipe = place.at("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from(0o600)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.at("socket")).unwrap();
    let manager = place.manager();
    let (saved, stats) = place.save(&manager);
    assert_eq!(stats.skipped, [EntryPath::new("pipe").unwrap(), EntryPath::new("socket").unwrap()]);
    // No checkpoint holds them, so a restore leaves them where they are.
    place.roll_back(&manager, saved.id);
    assert_eq!(names(&place.workspace()), ["a", "pipe", "socket"].map(String::from).into());
}

#[test]
fn a_pipe_in_the_place_of_a_file_gives_way() {
    let place = Place::new();
    place.write("a", b"1");
    place.write("d/b", b"2");
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    fs::remove_file(place.at("a")).unwrap();
    fs::remove_dir_all(place.at("d")).unwrap();
    for name in ["a", "d"] {
        let pipe = place.at(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from(0o600)).unwrap();
    }
    place.roll_back(&manager, saved.id);
    assert_eq!(fs::read(place.at("a")).unwrap(), b"1");
    assert_eq!(fs::read(place.at("d/b")).unwrap(), b"2");
}

#[test]
fn a_store_inside_the_workspace_is_left_alone_whatever_its_name() {
    let place = Place::new();
    place.write("a", b"1");
    let manager = CheckpointManager::builder().directory(place.at("checkpoints")).open_or_create().unwrap();
    let (first, _) = place.save(&manager);
    assert_eq!(manager.entries_blocking(first.id).unwrap().len(), 1);
    place.write("b", b"2");
    place.roll_back(&manager, first.id);
    assert_eq!(names(&place.workspace()), ["a", "checkpoints"].map(String::from).into());
    assert_eq!(manager.verify_blocking(&[]).unwrap().damage, []);
    let inside = place.at("checkpoints/objects");
    let source = Source::Directory(inside.clone());
    let refused = manager.create_blocking(&source, NewCheckpoint::of("v".parse().unwrap()));
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let refused = manager.restore_blocking(first.id, &inside, RestoreMode::InPlace);
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
}

#[test]
fn a_file_that_never_holds_still_fails_the_capture_and_is_named() {
    let place = Place::new();
    place.write("calm", b"1");
    let stop = Arc::new(AtomicBool::new(false));
    let file = place.at("restless");
    // Large enough that the writer gets its turn during every read, however busy the machine is.
    let mut size = 64 << 20;
    // No hole, which would not be read at all.
    fs::write(&file, vec![7; 64 << 20]).unwrap();
    let (started, has_started) = std::sync::mpsc::channel();
    let writer = std::thread::spawn({
        let (stop, file) = (Arc::clone(&stop), file.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                size ^= 1;
                fs::File::options().write(true).open(&file).unwrap().set_len(size).unwrap();
                let _ = started.send(());
            }
        }
    });
    let manager = place.manager();
    has_started.recv().unwrap();
    let failed = place.try_save(&manager);
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let path = file.canonicalize().unwrap();
    assert!(
        matches!(&failed, Err(Error::Unstable { path: found, attempts: 3 }) if *found == path),
        "{failed:?}"
    );
    assert_eq!(manager.list_blocking().unwrap(), []);
    // The lock was given back, so that what was stored on the way can be collected.
    manager.collect_garbage_blocking().unwrap();
    let packs = place.store().join("objects/packs");
    assert!(!packs.exists() || names(&packs).is_empty());
}

#[test]
fn a_small_change_of_a_large_file_stores_a_small_part_of_it() {
    let place = Place::new();
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).to_le_bytes()[0]
    };
    let mut large: Vec<u8> = (0..12 << 20).map(|_| random()).collect();
    place.write("large", &large);
    let manager = place.manager();
    let (first, stats) = place.save(&manager);
    assert!(stats.bytes_stored > 12 << 20);
    large.splice(5 << 20..5 << 20, b"inserted in the middle".iter().copied());
    place.write("large", &large);
    let (second, stats) = place.save(&manager);
    assert!(stats.bytes_stored < 3 << 20, "{} bytes were stored", stats.bytes_stored);
    let path = EntryPath::new("large").unwrap();
    assert!(manager.read_file_blocking(second.id, &path).unwrap() == large);
    manager.delete_blocking(&[first.id]).unwrap();
    assert!(manager.read_file_blocking(second.id, &path).unwrap() == large, "shared chunks stay");
    assert_eq!(manager.verify_blocking(&[]).unwrap().damage, []);
}

#[test]
fn what_an_interrupted_restore_left_aside_is_neither_captured_nor_kept() {
    let place = Place::new();
    place.write("a", b"1");
    place.write("d/b", b"2");
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    place.write(".evoseal-restore-0", b"half");
    place.write("d/.evoseal-restore-1/deep/x", b"half");
    let (again, _) = place.save(&manager);
    assert_eq!(again.tree, saved.tree);
    place.roll_back(&manager, saved.id);
    assert_eq!(names(&place.workspace()), ["a", "d"].map(String::from).into());
    assert_eq!(names(&place.at("d")), ["b"].map(String::from).into());
}

#[test]
fn a_restore_into_an_empty_directory_that_was_cut_off_is_completed_by_running_it_again() {
    let place = Place::new();
    place.write("a", b"1");
    place.write("d/b", b"2");
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    // As a kill between two renames leaves it: the marker, one entry in place, one still aside.
    let target = place.path("target");
    fs::create_dir_all(target.join(".evoseal-restore-1")).unwrap();
    fs::write(target.join(".evoseal-restore-unfinished"), b"").unwrap();
    fs::write(target.join("a"), b"1").unwrap();
    let report = manager.restore_blocking(saved.id, &target, RestoreMode::Empty).unwrap();
    assert_eq!(report.unchanged, 1);
    assert_eq!(names(&target), ["a", "d"].map(String::from).into());
    // Something that is not ours is never taken for a part of it.
    fs::write(target.join(".evoseal-restore-unfinished"), b"").unwrap();
    fs::write(target.join("mine"), b"precious").unwrap();
    let refused = manager.restore_blocking(saved.id, &target, RestoreMode::Empty);
    assert!(matches!(refused, Err(Error::NotEmpty { .. })), "{refused:?}");
    assert_eq!(fs::read(target.join("mine")).unwrap(), b"precious");
}

#[test]
fn a_folder_that_must_give_way_but_holds_ignored_files_refuses_the_restore_before_any_change() {
    let place = Place::new();
    place.write(".gitignore", b"*.log\n");
    place.write("a", b"1");
    place.write("b", b"1");
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    fs::remove_file(place.at("b")).unwrap();
    place.write("b/precious.log", b"kept");
    place.write("a", b"2");
    let refused = manager.restore_blocking(saved.id, &place.workspace(), RestoreMode::InPlace);
    assert!(matches!(refused, Err(Error::NotEmpty { .. })), "{refused:?}");
    assert_eq!(fs::read(place.at("a")).unwrap(), b"2");
    assert_eq!(fs::read(place.at("b/precious.log")).unwrap(), b"kept");
}

#[test]
fn a_hard_link_to_a_file_outside_is_cut_and_the_file_outside_is_left_alone() {
    let place = Place::new();
    place.write("a", b"1");
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let outside = place.path("outside");
    fs::write(&outside, b"precious").unwrap();
    fs::remove_file(place.at("a")).unwrap();
    fs::hard_link(&outside, place.at("a")).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).unwrap();
    place.roll_back(&manager, saved.id);
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
    assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o777, 0o755);
    assert_eq!(fs::read(place.at("a")).unwrap(), b"1");
}

#[test]
fn rights_beyond_the_executable_bit_are_those_of_the_file_that_is_replaced() {
    let place = Place::new();
    place.write("secret", b"1");
    let secret = place.at("secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    fs::write(&secret, b"2").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o4700)).unwrap();
    place.roll_back(&manager, saved.id);
    assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_rewritten_file_gets_a_new_time_so_that_build_tools_notice() {
    let place = Place::new();
    place.write("a", b"1");
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    settle();
    place.write("a", b"2");
    let changed = fs::metadata(place.at("a")).unwrap().modified().unwrap();
    settle();
    place.roll_back(&manager, saved.id);
    assert!(fs::metadata(place.at("a")).unwrap().modified().unwrap() > changed);
}

#[test]
fn a_deep_tree_needs_neither_stack_nor_open_files() {
    let place = Place::new();
    let depth = 300;
    let path = vec!["d"; depth].join("/") + "/leaf";
    place.write(&path, b"deep");
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let target = place.unpack(&manager, saved.id, "target");
    assert_eq!(fs::read(target.join(&path)).unwrap(), b"deep");
}

#[test]
fn a_deleted_workspace_is_made_again_in_place() {
    let place = Place::new();
    place.write("d/b", b"2");
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    fs::remove_dir_all(place.workspace()).unwrap();
    let report = place.roll_back(&manager, saved.id);
    assert!(report.changes.iter().all(|change| change.kind == ChangeKind::Added));
    assert_eq!(fs::read(place.at("d/b")).unwrap(), b"2");
}

#[test]
fn only_regular_files_of_a_listing_carry_sizes() {
    let place = Place::new();
    place.write("d/a", b"12345");
    let (saved, _) = place.save(&place.manager());
    let entries = place.manager().entries_blocking(saved.id).unwrap();
    assert!(matches!(entries[0].kind, EntryKind::Directory { .. }));
    assert!(matches!(entries[1].kind, EntryKind::File { size_bytes: 5, mode: 0o644, .. }));
}
