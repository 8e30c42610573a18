//! What a tree can hold comes back as it was: links, holes, rights, names; and no capture shows what never stood there.
#![allow(clippy::unwrap_used, reason = "tests")]

mod place;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evoseal_checkpoint::{Error, RestoreMode};
use evoseal_types::EntryPath;
use place::{Place, assert_same, chmod, is_inner, is_root, picture, run_inner};

const GIB: u64 = 1 << 30;

#[test]
fn hard_links_come_back_as_one_file_and_equal_files_as_two() {
    let place = Place::new();
    place.write("a", "linked");
    place.write("d/other", "linked");
    fs::hard_link(place.at("a"), place.at("d/b")).unwrap();
    fs::hard_link(place.at("a"), place.at("z")).unwrap();
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let target = place.unpack(&manager, saved.id, "target");
    assert_eq!(picture(&target), picture(&place.workspace()));
    assert_eq!(picture(&target)[Path::new("d/b")].same_as, Path::new("a"));
    assert_eq!(fs::metadata(target.join("a")).unwrap().nlink(), 3);
    // A file of its own is not the same tree.
    fs::remove_file(place.at("z")).unwrap();
    fs::write(place.at("z"), "linked").unwrap();
    assert_ne!(place.save(&manager).0.tree, saved.tree);
}

#[test]
fn a_symlink_with_two_names_stays_one() {
    let place = Place::new();
    symlink("nowhere", place.at("a")).unwrap();
    fs::hard_link(place.at("a"), place.at("b")).unwrap();
    symlink("nowhere", place.at("c")).unwrap();
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let whole = picture(&place.workspace());
    assert_eq!(whole[Path::new("b")].same_as, Path::new("a"));
    assert_eq!(picture(&place.unpack(&manager, saved.id, "target")), whole);
    fs::remove_file(place.at("b")).unwrap();
    symlink("nowhere", place.at("b")).unwrap();
    place.roll_back(&manager, saved.id);
    assert_eq!(picture(&place.workspace()), whole);
}

#[test]
fn a_file_outside_is_never_written_through_a_link_whatever_else_is_linked() {
    let place = Place::new();
    place.write("a", "mine");
    fs::hard_link(place.at("a"), place.at("b")).unwrap();
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let whole = picture(&place.workspace());
    let outside = place.path("outside");
    // Equal content and other content; both names, or one.
    for (content, names) in [("mine", &["a", "b"][..]), ("theirs", &["a", "b"]), ("theirs", &["b"])] {
        fs::write(&outside, content).unwrap();
        chmod(&outside, 0o640);
        for name in names {
            fs::remove_file(place.at(name)).unwrap();
            fs::hard_link(&outside, place.at(name)).unwrap();
        }
        place.roll_back(&manager, saved.id);
        assert_eq!(picture(&place.workspace()), whole, "{content} as {names:?}");
        let stat = fs::metadata(&outside).unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), content);
        assert_eq!(stat.mode() & 0o7777, 0o640);
        fs::remove_file(&outside).unwrap();
    }
}

/// Makes `workspace` hold files that are linked as the groups say; all have the same content.
fn link(place: &Place, groups: &[&[&str]]) {
    fs::remove_dir_all(place.workspace()).unwrap();
    fs::create_dir(place.workspace()).unwrap();
    for group in groups {
        place.write(group[0], "the same in all");
        for name in &group[1..] {
            fs::create_dir_all(place.at(name).parent().unwrap()).unwrap();
            fs::hard_link(place.at(group[0]), place.at(name)).unwrap();
        }
    }
}

#[test]
fn links_that_were_made_broken_or_moved_are_restored_in_place_from_any_state_to_any() {
    let states: [&[&[&str]]; 7] = [
        &[&["a"], &["b"], &["c"]],
        &[&["a", "b"], &["c"]],
        &[&["a", "c"], &["b"]],
        &[&["b", "c"], &["a"]],
        &[&["a", "b", "c"]],
        &[&["a", "d/b"], &["c", "d/e/f"]],
        &[&["d/e/f", "b"], &["c"], &["a", "d/b"]],
    ];
    let place = Place::new();
    let manager = place.manager();
    let mut saved = Vec::new();
    for groups in states {
        link(&place, groups);
        let whole = picture(&place.workspace());
        saved.push((place.save(&manager).0, whole));
    }
    let trees: BTreeSet<String> = saved.iter().map(|(checkpoint, _)| checkpoint.tree.to_string()).collect();
    assert_eq!(trees.len(), states.len(), "each state is a tree of its own");
    for (from, groups) in states.iter().enumerate() {
        for (to, (checkpoint, whole)) in saved.iter().enumerate() {
            link(&place, groups);
            place.roll_back(&manager, checkpoint.id);
            let found = picture(&place.workspace());
            assert_same(&found, whole, &format!("from state {from} to state {to}"));
            assert_eq!(manager.tree_digest_blocking(&place.workspace()).unwrap(), checkpoint.tree);
        }
    }
}

/// Bytes, each with the place where they stand.
type Data<'a> = Vec<(u64, &'a [u8])>;

/// A file of `size_bytes` with data where it is given, and holes elsewhere.
fn sparse(path: &Path, size_bytes: u64, data: &[(u64, &[u8])]) {
    let file = File::create(path).unwrap();
    file.set_len(size_bytes).unwrap();
    for (offset, bytes) in data {
        file.write_all_at(bytes, *offset).unwrap();
    }
}

fn allocated_bytes(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn a_hole_of_many_gibibytes_is_neither_read_nor_written() {
    let place = Place::new();
    let data: [(u64, &[u8]); 3] =
        [(0, b"first"), (40 * GIB + 12_345, b"in the middle"), (64 * GIB - 4, b"last")];
    sparse(&place.at("giant"), 64 * GIB, &data);
    sparse(&place.at("nothing"), 64 * GIB, &[]);
    let manager = place.manager();
    let (saved, stats) = place.save(&manager);
    assert!(stats.bytes_read < 8 << 20, "{} bytes were read", stats.bytes_read);
    assert!(stats.bytes_stored < 1 << 20, "{} bytes were stored", stats.bytes_stored);
    let target = place.unpack(&manager, saved.id, "target");
    for name in ["giant", "nothing"] {
        let file = target.join(name);
        assert_eq!(fs::metadata(&file).unwrap().len(), 64 * GIB);
        assert!(allocated_bytes(&file) < 8 << 20, "{name} takes {} bytes", allocated_bytes(&file));
    }
    let giant = File::open(target.join("giant")).unwrap();
    for (offset, bytes) in data {
        let mut found = vec![0; bytes.len()];
        giant.read_exact_at(&mut found, offset).unwrap();
        assert_eq!(found, bytes, "at {offset}");
    }
    let mut around = vec![1; 4096];
    giant.read_exact_at(&mut around, 40 * GIB + 12_345 + 13).unwrap();
    assert_eq!(around, vec![0; 4096], "zeros follow the data");
    // In place over a file that has other data in the hole.
    File::options().write(true).open(place.at("giant")).unwrap().write_all_at(b"more", 20 * GIB).unwrap();
    let report = place.roll_back(&manager, saved.id);
    assert_eq!(report.changes.len(), 1);
    assert!(allocated_bytes(&place.at("giant")) < 8 << 20);
    assert_eq!(manager.tree_digest_blocking(&place.workspace()).unwrap(), saved.tree);
}

#[test]
fn dense_and_sparse_files_of_equal_bytes_are_equal_trees() {
    const PAGE: u64 = 4096;
    let place = Place::new();
    let manager = place.manager();
    let noise: Vec<u8> =
        (0..300_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()[3] | 1).collect();
    // Sizes around a page, a run of zeros that is worth a hole, a chunk, and what is cut into chunks at all.
    let cases: [(u64, Data<'_>); 9] = [
        (PAGE - 1, vec![]),
        (64 << 10, vec![]),
        ((1 << 20) + 1, vec![]),
        (3 << 20, vec![(0, &noise)]),
        (3 << 20, vec![((3 << 20) - 300_000, &noise)]),
        ((5 << 20) + 7, vec![(1 << 20, &noise), (3 << 20, &noise[..1])]),
        ((5 << 20) + 7, vec![(PAGE - 1, &noise[..2]), ((2 << 20) + 1, &noise[..4096])]),
        (9 << 20, vec![(100, &noise[..10]), (70_000, &noise), (4 << 20, &noise), (8 << 20, &noise[..5])]),
        (200_000, vec![(150_000, &noise[..100])]),
    ];
    for (number, (size_bytes, data)) in cases.iter().enumerate() {
        sparse(&place.at("file"), *size_bytes, data);
        let bytes = fs::read(place.at("file")).unwrap();
        let (holey, _) = place.save(&manager);
        fs::remove_file(place.at("file")).unwrap();
        fs::write(place.at("file"), &bytes).unwrap();
        let (dense, _) = place.save(&manager);
        assert_eq!(dense.tree, holey.tree, "case {number}");
        let path = EntryPath::new("file").unwrap();
        for checkpoint in [&holey, &dense] {
            assert!(
                manager.read_file_blocking(checkpoint.id, &path).unwrap() == bytes,
                "case {number} is read wrongly"
            );
        }
        let target = place.unpack(&manager, dense.id, &format!("target{number}"));
        assert!(fs::read(target.join("file")).unwrap() == bytes, "case {number} is restored wrongly");
    }
}

/// Files of all rights that their owner may read, some with the sticky bit, and folders of a third of those that he may list
/// and enter; root may do anything.
fn build_all_rights(place: &Place) {
    let (may_read, may_list) = if is_root() { (0, 0) } else { (0o400, 0o500) };
    fs::create_dir(place.at("files")).unwrap();
    for mode in (0..0o1000).chain((0o1000..0o2000).step_by(7)).filter(|mode| mode & may_read == may_read) {
        let file = place.at(&format!("files/{mode:04o}"));
        fs::write(&file, format!("{mode:o}")).unwrap();
        chmod(&file, mode);
    }
    for (number, rights) in (0..0o1000).filter(|mode| mode & may_list == may_list).step_by(3).enumerate() {
        // With each of the four combinations of the sticky and the set-group bit in turn.
        let mode = rights | [0, 0o1000, 0o2000, 0o3000][number % 4];
        let folder = place.at(&format!("folders/{mode:04o}"));
        fs::create_dir_all(folder.join("inside")).unwrap();
        fs::write(folder.join("inside/file"), "content").unwrap();
        chmod(&folder.join("inside"), 0o555);
        chmod(&folder, mode);
    }
}

#[test]
fn rights_of_every_kind_come_back_in_an_empty_folder_and_over_others() {
    let place = Place::new();
    build_all_rights(&place);
    chmod(&place.at("files"), 0o555);
    let manager = place.manager();
    let (saved, stats) = place.save(&manager);
    assert!(stats.lending.is_empty(), "{:?}", stats.lending);
    let whole = picture(&place.workspace());
    let target = place.unpack(&manager, saved.id, "target");
    assert_same(&picture(&target), &whole, "in an empty folder");
    // Into and over read-only folders: contents changed, entries gone, entries more, rights changed.
    let folders: Vec<PathBuf> =
        fs::read_dir(place.at("folders")).unwrap().map(|entry| entry.unwrap().path()).collect();
    for (number, folder) in folders.iter().enumerate() {
        let mode = fs::metadata(folder).unwrap().mode() & 0o7777;
        chmod(folder, 0o700);
        chmod(&folder.join("inside"), 0o700);
        match number % 4 {
            0 => fs::write(folder.join("inside/file"), "changed").unwrap(),
            1 => fs::remove_dir_all(folder.join("inside")).unwrap(),
            2 => fs::write(folder.join("more"), "not there before").unwrap(),
            _ => {}
        }
        // The rights as they were, which must be in nobody's way, or others.
        if number % 3 != 0 {
            chmod(folder, mode);
        }
        if number % 8 != 1 && folder.join("inside").exists() {
            chmod(&folder.join("inside"), 0o555);
        }
    }
    chmod(&place.at("files"), 0o755);
    for entry in fs::read_dir(place.at("files")).unwrap() {
        chmod(&entry.unwrap().path(), 0o644);
    }
    chmod(&place.at("files"), 0o555);
    place.roll_back(&manager, saved.id);
    assert_same(&picture(&place.workspace()), &whole, "in place");
    assert_eq!(place.roll_back(&manager, saved.id).changes, [], "nothing is left to do");
}

#[test]
fn another_user_gets_all_rights_back_too() {
    if !is_root() {
        eprintln!("skipped: only root can become another user; the test beside this one ran as one");
        return;
    }
    let as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    run_inner(&as_nobody, "rights_of_every_kind_come_back_in_an_empty_folder_and_over_others");
    run_inner(&as_nobody, "what_may_not_be_read_is_refused_by_name");
}

#[test]
fn what_may_not_be_read_is_refused_by_name() {
    if is_root() {
        eprintln!("skipped: root may read everything; another test runs this one as another user");
        return;
    }
    let place = Place::new();
    place.write("fine", "1");
    place.write("folder/inside", "1");
    place.write("secret", "1");
    let manager = place.manager();
    for (name, mode) in [("secret", 0o200), ("folder", 0o300)] {
        chmod(&place.at(name), mode);
        let refused = place.try_save(&manager);
        assert!(
            matches!(&refused, Err(Error::Io { path, .. }) if path.ends_with(name)),
            "{name}: {refused:?}"
        );
        chmod(&place.at(name), 0o700);
    }
    assert_eq!(manager.list_blocking().unwrap(), []);
}

#[test]
fn the_longest_and_the_oddest_names_come_back_and_are_restored_in_place() {
    let place = Place::new();
    let longest = |byte: u8| OsString::from_vec(vec![byte; 255]);
    let mut names: Vec<OsString> = (1..=255_u8)
        .filter(|byte| *byte != b'/')
        .flat_map(|byte| [vec![byte, b'x'], vec![byte; 255]])
        .map(OsString::from_vec)
        .collect();
    names.extend(
        ["...", "-rf", "~", "CON", "a", "A", "\u{e9}", "e\u{301}", "\u{202e}gpj"].map(OsString::from),
    );
    for name in &names {
        fs::write(place.workspace().join(name), name.as_bytes()).unwrap();
    }
    let folder = place.at("folder");
    fs::create_dir(&folder).unwrap();
    fs::create_dir(folder.join(longest(b'd'))).unwrap();
    fs::write(folder.join(longest(b'd')).join(longest(b'f')), "deep").unwrap();
    symlink(OsStr::from_bytes(&[b't'; 4095]), folder.join(longest(b'l'))).unwrap();
    let manager = place.manager();
    let (saved, stats) = place.save(&manager);
    assert_eq!(stats.skipped, []);
    let whole = picture(&place.workspace());
    assert_same(&picture(&place.unpack(&manager, saved.id, "target")), &whole, "in an empty folder");
    for name in &names {
        fs::write(place.workspace().join(name), "changed").unwrap();
    }
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    place.roll_back(&manager, saved.id);
    assert_same(&picture(&place.workspace()), &whole, "in place");
}

#[test]
fn a_mount_point_inside_the_workspace_is_refused_by_name() {
    if !is_inner() {
        // In a mount namespace of its own, which takes the mount with it however the test ends.
        let own_namespace = ["unshare", "--mount"];
        if Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            run_inner(&own_namespace, "a_mount_point_inside_the_workspace_is_refused_by_name");
        } else {
            eprintln!("skipped: this user may not mount");
        }
        return;
    }
    let place = Place::new();
    place.write("a", "1");
    fs::create_dir_all(place.at("folder/mounted")).unwrap();
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let status =
        Command::new("mount").args(["-t", "tmpfs", "none"]).arg(place.at("folder/mounted")).status().unwrap();
    if !status.success() {
        eprintln!("skipped: this root may not mount");
        return;
    }
    fs::write(place.at("folder/mounted/theirs"), "precious").unwrap();
    let refused = place.try_save(&manager).map(|_| ());
    let rolled_back =
        manager.restore_blocking(saved.id, &place.workspace(), RestoreMode::InPlace).map(|_| ());
    for refused in [refused, rolled_back] {
        let message = refused.as_ref().unwrap_err().to_string();
        assert!(matches!(refused, Err(Error::Invalid { argument: "workspace", .. })), "{refused:?}");
        assert!(message.contains("folder/mounted"), "{message}");
    }
    assert_eq!(fs::read_to_string(place.at("folder/mounted/theirs")).unwrap(), "precious");
    // As the message says: what is excluded is not entered.
    place.write(".evosealignore", "mounted\n");
    let (again, _) = place.save(&manager);
    assert_eq!(manager.entries_blocking(again.id).unwrap().len(), 2);
    assert_eq!(fs::read_to_string(place.at("folder/mounted/theirs")).unwrap(), "precious");
}

/// Runs `write` with ascending numbers on another thread while the workspace is captured again and again, until `wanted`
/// captures succeeded; each of those is handed to `check`, the others say that nothing held still.
fn capture_under(
    place: &Place,
    wanted: usize,
    mut write: impl FnMut(u64) + Send + 'static,
    check: impl Fn(&dyn Fn(&str) -> Vec<u8>),
) {
    let manager = place.manager();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut pauses_ms = [0, 0, 1, 3, 0, 10, 30].into_iter().cycle();
            for number in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                write(number);
                // From no pause at all to one that a capture fits into, so that some succeed.
                std::thread::sleep(Duration::from_millis(pauses_ms.next().unwrap_or(0)));
            }
        }
    });
    let (mut succeeded, mut refused) = (0, 0);
    while succeeded < wanted && refused < 5000 && !writer.is_finished() {
        match place.try_save(&manager) {
            Ok((saved, _)) => {
                succeeded += 1;
                check(&|path| manager.read_file_blocking(saved.id, &EntryPath::new(path).unwrap()).unwrap());
            }
            Err(Error::Unstable { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(succeeded, wanted, "captures that succeeded, beside {refused} that did not");
}

/// Enough files between two others that a walk takes longer than a change of both.
fn fill(place: &Place, folder: &str) {
    for number in 0..300 {
        place.write(&format!("{folder}/{}/{number}", number % 10), format!("{number}"));
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn no_capture_shows_two_files_as_they_never_stood_together() {
    let place = Place::new();
    fill(&place, "m");
    place.write("a/counter", 0_u64.to_le_bytes());
    place.write("z/counter", 0_u64.to_le_bytes());
    let mut files =
        ["a/counter", "z/counter"].map(|path| File::options().write(true).open(place.at(path)).unwrap());
    // At every instant the first is equal to the second or one ahead of it.
    let write = move |number: u64| {
        for file in &mut files {
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&number.to_le_bytes()).unwrap();
        }
    };
    capture_under(&place, 60, write, |read| {
        let (first, second) = (number(&read("a/counter")), number(&read("z/counter")));
        assert!(first == second || first == second + 1, "{first} and {second} never stood there together");
    });
}

#[test]
fn no_capture_shows_half_of_a_folder_that_was_exchanged() {
    let place = Place::new();
    for folder in ["pair", "spare"] {
        fill(&place, &format!("{folder}/m"));
        place.write(&format!("{folder}/a"), 0_u64.to_le_bytes());
        place.write(&format!("{folder}/z/deep"), 0_u64.to_le_bytes());
    }
    // The pair is exchanged as a whole, so that at every instant its two files agree.
    let workspace = place.workspace();
    let write = move |number: u64| {
        for path in ["spare/a", "spare/z/deep"] {
            fs::write(workspace.join(path), number.to_le_bytes()).unwrap();
        }
        let (cwd, exchange) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
        rustix::fs::renameat_with(cwd, workspace.join("pair"), cwd, workspace.join("spare"), exchange)
            .unwrap();
    };
    capture_under(&place, 60, write, |read| {
        assert_eq!(number(&read("pair/a")), number(&read("pair/z/deep")));
    });
}
