//! What is captured only when asked: times, attributes, ignored files, repositories inside; and what ignore rules cannot hide.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests, which say what they skip")]

mod place;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use evoseal_checkpoint::{CheckpointManager, CheckpointSettings, NewCheckpoint, RestoreMode, Source};
use evoseal_types::{CheckpointId, EntryPath};
use place::{Place, assert_same, chmod, is_root, picture};
use rustix::fs::{
    AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, XattrFlags, lgetxattr, lremovexattr, lsetxattr, utimensat,
};

/// Seconds since 1970 and nanoseconds: before 1970, at it, a nanosecond apart, after 2038, and after 2262, where a signed
/// count of nanoseconds in 64 bits ends.
const TIMES: [(i64, i64); 8] = [
    (-1_000_000_000, 1),
    (-1, 999_999_999),
    (0, 0),
    (1_000_000_000, 123_456_789),
    (1_000_000_000, 123_456_790),
    (4_000_000_000, 5),
    (9_223_372_037, 0),
    (9_300_000_000, 7),
];

fn set_time(path: &Path, (tv_sec, tv_nsec): (i64, i64)) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec, tv_nsec },
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn time(path: &Path) -> (i64, i64) {
    let stat = fs::symlink_metadata(path).unwrap();
    (stat.mtime(), stat.mtime_nsec())
}

/// The time of each path of a tree, its root apart.
fn times(root: &Path) -> BTreeMap<PathBuf, (i64, i64)> {
    picture(root).into_keys().map(|path| (path.clone(), time(&root.join(path)))).collect()
}

/// A file, a folder and a symlink with each of the times, in a folder with a time.
fn build_times(place: &Place) {
    for (number, wanted) in TIMES.into_iter().enumerate() {
        place.write(&format!("file{number}"), "content");
        place.write(&format!("folder{number}/inside"), "content");
        symlink("nowhere", place.at(&format!("link{number}"))).unwrap();
        for path in [
            format!("file{number}"),
            format!("folder{number}/inside"),
            format!("folder{number}"),
            format!("link{number}"),
        ] {
            set_time(&place.at(&path), wanted);
        }
    }
}

#[test]
fn times_come_back_when_asked_for() {
    let place = Place::new();
    build_times(&place);
    let wanted = times(&place.workspace());
    for (number, time) in TIMES.into_iter().enumerate() {
        assert_eq!(wanted[Path::new(&format!("file{number}"))], time, "this file system keeps such times");
    }
    let manager =
        place.manager_with(CheckpointSettings { keep_mtimes: true, ..CheckpointSettings::default() });
    let (saved, _) = place.save(&manager);
    let target = place.unpack(&manager, saved.id, "target");
    assert_eq!(times(&target), wanted);
    // In place: times alone, contents, and entries that were gone, which changes the times of folders.
    for (number, other) in TIMES.into_iter().rev().enumerate() {
        set_time(&place.at(&format!("file{number}")), other);
        set_time(&place.at(&format!("link{number}")), other);
        match number % 3 {
            0 => fs::write(place.at(&format!("folder{number}/inside")), "changed").unwrap(),
            1 => fs::remove_dir_all(place.at(&format!("folder{number}"))).unwrap(),
            _ => fs::write(place.at(&format!("folder{number}/more")), "more").unwrap(),
        }
    }
    place.roll_back(&manager, saved.id);
    assert_eq!(times(&place.workspace()), wanted);
    assert_eq!(manager.tree_digest_blocking(&place.workspace()).unwrap(), saved.tree);
    // Each time is part of the tree.
    set_time(&place.at("file3"), TIMES[4]);
    assert_ne!(place.save(&manager).0.tree, saved.tree);
}

#[test]
fn times_are_nobodys_business_when_not_asked_for() {
    let place = Place::new();
    build_times(&place);
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let target = place.unpack(&manager, saved.id, "target");
    for (path, (seconds, _)) in times(&target) {
        assert!((1_600_000_000..4_000_000_000).contains(&seconds), "{} has a new time", path.display());
    }
    let other = (1_234_567_890, 42);
    set_time(&place.at("file0"), other);
    set_time(&place.at("folder1"), other);
    set_time(&place.at("link2"), other);
    assert_eq!(place.save(&manager).0.tree, saved.tree);
    assert_eq!(place.roll_back(&manager, saved.id).changes, []);
    for path in ["file0", "folder1", "link2"] {
        assert_eq!(time(&place.at(path)), other, "{path} was equal and so left untouched");
    }
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    lsetxattr(path, name, value, XattrFlags::empty())
}

/// Values of any bytes, also none.
const VALUES: [&[u8]; 3] = [b"", b"text", b"\0\xff\n\0"];

/// Paths with the attribute that they can have: symlinks take those of root alone.
fn attributed() -> Vec<(&'static str, &'static str)> {
    let mut paths =
        vec![("file", "user.evoseal"), ("folder", "user.evoseal"), ("folder/read-only", "user.evoseal")];
    if is_root() {
        paths.extend([("link", "trusted.evoseal"), ("folder", "trusted.evoseal")]);
    } else {
        eprintln!("attributes of symlinks are left out: they take root");
    }
    paths
}

/// The workspace with attributes; `None`, with the reason said, where the file system keeps none.
fn with_attributes() -> Option<Place> {
    let place = Place::new();
    place.write("file", "content");
    place.write("folder/read-only", "content");
    place.write("plain", "content");
    symlink("nowhere", place.at("link")).unwrap();
    for (number, (path, name)) in attributed().into_iter().enumerate() {
        if let Err(error) = set_attribute(&place.at(path), name, VALUES[number % 3]) {
            eprintln!("skipped: no {name} on this file system: {error}");
            return None;
        }
        if name.starts_with("user") {
            set_attribute(&place.at(path), "user.second", b"2").unwrap();
        }
    }
    chmod(&place.at("folder/read-only"), 0o444);
    Some(place)
}

fn assert_attributes(root: &Path, what: &str) {
    for (number, (path, name)) in attributed().into_iter().enumerate() {
        let found = attribute(&root.join(path), name);
        assert_eq!(found.as_deref(), Some(VALUES[number % 3]), "{what}: {name} of {path}");
    }
    assert_eq!(attribute(&root.join("file"), "user.second").as_deref(), Some(&b"2"[..]), "{what}");
    assert_eq!(attribute(&root.join("plain"), "user.evoseal"), None, "{what}");
}

#[test]
fn extended_attributes_come_back_when_asked_for() {
    let Some(place) = with_attributes() else { return };
    let manager =
        place.manager_with(CheckpointSettings { keep_xattrs: true, ..CheckpointSettings::default() });
    let (saved, _) = place.save(&manager);
    assert_attributes(&place.unpack(&manager, saved.id, "target"), "in an empty folder");
    let whole = picture(&place.workspace());
    // Changed, gone, one too many; and a file that is replaced.
    for (number, (path, name)) in attributed().into_iter().enumerate() {
        match number % 2 {
            0 => set_attribute(&place.at(path), name, b"changed").unwrap(),
            _ => lremovexattr(place.at(path), name).unwrap(),
        }
    }
    set_attribute(&place.at("plain"), "user.evoseal", b"was not there").unwrap();
    fs::remove_file(place.at("file")).unwrap();
    fs::write(place.at("file"), "other").unwrap();
    place.roll_back(&manager, saved.id);
    assert_attributes(&place.workspace(), "in place");
    assert_same(&picture(&place.workspace()), &whole, "in place");
    assert_eq!(manager.tree_digest_blocking(&place.workspace()).unwrap(), saved.tree);
    set_attribute(&place.at("file"), "user.second", b"3").unwrap();
    assert_ne!(place.save(&manager).0.tree, saved.tree, "an attribute is part of the tree");
}

#[test]
fn extended_attributes_are_nobodys_business_when_not_asked_for() {
    let Some(place) = with_attributes() else { return };
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let target = place.unpack(&manager, saved.id, "target");
    for (path, name) in attributed() {
        assert_eq!(attribute(&target.join(path), name), None, "{name} of {path}");
    }
    set_attribute(&place.at("file"), "user.second", b"3").unwrap();
    assert_eq!(place.save(&manager).0.tree, saved.tree);
    assert_eq!(place.roll_back(&manager, saved.id).changes, []);
    assert_eq!(attribute(&place.at("file"), "user.second").as_deref(), Some(&b"3"[..]));
}

fn all_of_it() -> CheckpointSettings {
    CheckpointSettings { include_ignored: true, ..CheckpointSettings::default() }
}

/// A workspace that is a repository, with repositories inside, and ignored files.
fn with_repositories() -> Place {
    let place = Place::new();
    place.write(".git/HEAD", "ref: the user's own\n");
    place.write(".git/objects/aa/bb", "object");
    place.write(".gitignore", "target/\n*.log\n");
    place.write("main.rs", "fn main() {}");
    place.write("noise.log", "ignored");
    place.write("target/debug/out", "ignored");
    place.write("vendor/library/.git/HEAD", "ref: a repository inside\n");
    place.write("vendor/library/.git/objects/cc/dd", "object inside");
    place.write("vendor/library/lib.rs", "pub fn library() {}");
    // A submodule, whose `.git` is a file.
    place.write("vendor/module/.git", "gitdir: ../../.git/modules/module\n");
    place.write("vendor/module/lib.rs", "pub fn module() {}");
    place
}

fn paths(manager: &CheckpointManager, id: CheckpointId) -> Vec<String> {
    let entries = manager.entries_blocking(id).unwrap().into_iter();
    entries.filter(|entry| !entry.kind.is_directory()).map(|entry| entry.path.to_string()).collect()
}

#[test]
fn repositories_inside_are_captured_when_asked_and_the_users_own_never_is() {
    let place = with_repositories();
    let manager = place.manager_with(all_of_it());
    let (saved, _) = place.save(&manager);
    let whole = picture(&place.workspace());
    let own = |path: &Path| path.starts_with(".git");
    let expected: Vec<String> = whole
        .iter()
        .filter(|(path, seen)| !own(path) && !matches!(seen.kind, place::Kind::Folder))
        .map(|(path, _)| path.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(paths(&manager, saved.id), expected);
    let target = picture(&place.unpack(&manager, saved.id, "target"));
    let without_own =
        whole.iter().filter(|(path, _)| !own(path)).map(|(path, seen)| (path.clone(), seen.clone()));
    assert_same(&target, &without_own.collect(), "in an empty folder");
    // In place, with the user's own repository moved on, and everything else disturbed.
    place.write(".git/HEAD", "ref: moved on\n");
    place.write(".git/new", "new");
    place.write("noise.log", "changed");
    place.write("more.log", "not there before");
    place.write("vendor/library/.git/HEAD", "ref: moved on\n");
    place.write("vendor/library/.git/index.lock", "left behind");
    fs::remove_dir_all(place.at("target")).unwrap();
    fs::remove_file(place.at("vendor/module/.git")).unwrap();
    place.write("vendor/module/.git/HEAD", "a folder now");
    place.roll_back(&manager, saved.id);
    let mut expected = whole;
    expected.insert(".git/new".into(), picture(&place.workspace())[Path::new(".git/new")].clone());
    expected.get_mut(Path::new(".git/HEAD")).unwrap().kind = place::Kind::File(b"ref: moved on\n".to_vec());
    assert_same(&picture(&place.workspace()), &expected, "in place");
    assert_eq!(manager.tree_digest_blocking(&place.workspace()).unwrap(), saved.tree);
}

#[test]
fn without_being_asked_repositories_inside_and_ignored_files_are_left_alone() {
    let place = with_repositories();
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let tracked = [".gitignore", "main.rs", "vendor/library/lib.rs", "vendor/module/lib.rs"];
    assert_eq!(paths(&manager, saved.id), tracked);
    place.write("noise.log", "changed");
    place.write("vendor/library/.git/HEAD", "ref: moved on\n");
    let before = picture(&place.workspace());
    place.write("main.rs", "broken");
    place.write("extra.rs", "extra");
    place.roll_back(&manager, saved.id);
    assert_same(&picture(&place.workspace()), &before, "in place");
}

#[test]
fn a_checkpoint_with_ignored_files_is_restored_in_place_by_whoever_ignores_them() {
    let place = with_repositories();
    let (saved, _) = place.save(&place.manager_with(all_of_it()));
    let whole = picture(&place.workspace());
    // The checkpoint itself says how it was made; the settings of who restores it do not count.
    let manager = place.manager();
    place.write("noise.log", "changed");
    place.write("target/debug/more", "not there before");
    place.write(".gitignore", "*\n");
    place.write("anything", "hidden by the new rules");
    place.roll_back(&manager, saved.id);
    assert_same(&picture(&place.workspace()), &whole, "in place");
    // And the other way round: what the rules leave out stays, although this manager would capture it.
    let (without, _) = place.save(&place.manager());
    let manager = place.manager_with(all_of_it());
    place.write("noise.log", "changed");
    place.write("target/debug/more", "stays");
    place.write("main.rs", "broken");
    place.roll_back(&manager, without.id);
    assert_eq!(fs::read_to_string(place.at("main.rs")).unwrap(), "fn main() {}");
    assert_eq!(fs::read_to_string(place.at("noise.log")).unwrap(), "changed");
    assert_eq!(fs::read_to_string(place.at("target/debug/more")).unwrap(), "stays");
}

#[test]
fn no_ignore_file_of_a_candidate_keeps_its_files_from_being_removed() {
    // What the candidate writes, beside `implant` and `folder/implant`, which it wants to keep.
    let tricks: [(&str, &[(&str, &str)]); 7] = [
        ("a rule is added", &[(".gitignore", "target/\nimplant\n")]),
        ("our own kind of file", &[(".evosealignore", "implant\n")]),
        ("rules that ignore themselves", &[(".evosealignore", "implant\n.evosealignore\n")]),
        ("everything is ignored", &[(".gitignore", "*\n"), (".evosealignore", "*\n")]),
        (
            "deeper rules",
            &[("folder/.gitignore", "*\n"), ("implants/.gitignore", "*\n"), ("implants/x", "x")],
        ),
        (
            "changed and deeper",
            &[(".gitignore", "implant\n"), ("folder/.gitignore", ".gitignore\nimplant\nkept\n")],
        ),
        ("a rule is taken back", &[(".gitignore", "!target/\n!secret.log\nimplant\n")]),
    ];
    for (what, written) in tricks {
        let place = Place::new();
        place.write(".gitignore", "target/\n*.log\n");
        place.write("folder/kept", "content");
        place.write("target/out", "ignored");
        place.write("secret.log", "ignored");
        let manager = place.manager();
        let (saved, _) = place.save(&manager);
        let whole = picture(&place.workspace());
        for path in ["implant", "folder/implant", "new/folder/implant"] {
            place.write(path, "malicious");
        }
        for (path, rules) in written {
            place.write(path, rules);
        }
        let plan = manager.plan_restore_blocking(saved.id, &place.workspace(), RestoreMode::InPlace).unwrap();
        let report = place.roll_back(&manager, saved.id);
        assert_eq!(plan, report, "{what}");
        // Everything the candidate made is gone; what the rules of the checkpoint leave alone is still there.
        assert_same(&picture(&place.workspace()), &whole, what);
    }
}

#[test]
fn a_candidate_that_removes_the_rules_costs_the_ignored_files_nothing() {
    let place = Place::new();
    place.write(".gitignore", "target/\n");
    place.write("folder/.evosealignore", "cache\n");
    place.write("folder/cache", "ignored");
    place.write("folder/kept", "content");
    place.write("target/out", "ignored");
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let whole = picture(&place.workspace());
    fs::remove_file(place.at(".gitignore")).unwrap();
    fs::remove_file(place.at("folder/.evosealignore")).unwrap();
    place.roll_back(&manager, saved.id);
    assert_same(&picture(&place.workspace()), &whole, "in place");
    let path = EntryPath::new(Path::new("target/out").as_os_str().as_bytes()).unwrap();
    assert!(manager.read_file_blocking(saved.id, &path).is_err(), "it is not in the checkpoint");
}

#[test]
fn what_a_checkpoint_wanted_of_a_folder_is_not_what_the_next_capture_sees() {
    let place = Place::new();
    place.write(".gitignore", "*.log\n");
    place.write("folder/kept.log", "ignored, and all that is there");
    let manager = place.manager();
    let before = manager.tree_digest_blocking(&place.workspace()).unwrap();
    // This one holds the folder by name; a capture under the rules does not.
    let source = Source::DirectoryWith {
        directory: place.workspace(),
        also: [EntryPath::new("folder").unwrap()].into(),
    };
    let with = manager.create_blocking(&source, NewCheckpoint::of("v1".parse().unwrap())).unwrap().0;
    place.roll_back(&manager, with.id);
    assert_eq!(manager.tree_digest_blocking(&place.workspace()).unwrap(), before);
}
