//! A part of a checkpoint: chosen by patterns, shown before anything is changed, and single files to any writer.
#![allow(clippy::unwrap_used, reason = "tests")]

mod place;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use evoseal_checkpoint::{Checkpoint, CheckpointManager, Error, Patterns, RestoreMode, RestoreReport};
use evoseal_types::EntryPath;
use place::{Picture, Place, assert_same, chmod, differing, picture};

fn patterns(list: &[&str]) -> Patterns {
    Patterns::new(list.iter().copied()).unwrap()
}

/// A saved workspace.
fn saved() -> (Place, CheckpointManager, Checkpoint, Picture) {
    let place = Place::new();
    for path in [
        "Cargo.toml",
        "src/main.rs",
        "src/deep/er/lib.rs",
        "src/deep/er/notes.md",
        "docs/a.md",
        "docs/images/b.png",
        "other/src/main.rs",
    ] {
        place.write(path, format!("content of {path}"));
    }
    fs::create_dir(place.at("docs/empty")).unwrap();
    symlink("../Cargo.toml", place.at("docs/link")).unwrap();
    chmod(&place.at("src/deep"), 0o750);
    let manager = place.manager();
    let (checkpoint, _) = place.save(&manager);
    let whole = picture(&place.workspace());
    (place, manager, checkpoint, whole)
}

/// The pattern lists that the tests use, each with which paths of the saved workspace are meant, written out by hand.
const CHOICES: [(&[&str], &[&str]); 7] = [
    (&["Cargo.toml"], &["Cargo.toml"]),
    (&["src/**/*.rs"], &["src/main.rs", "src/deep/er/lib.rs"]),
    (&["**/main.rs"], &["src/main.rs", "other/src/main.rs"]),
    (&["docs/"], &["docs", "docs/a.md", "docs/images", "docs/images/b.png", "docs/empty", "docs/link"]),
    (&["*.toml", "docs/{a,b}.md"], &["Cargo.toml", "docs/a.md"]),
    (&["src/*"], &["src/main.rs", "src/deep", "src/deep/er", "src/deep/er/lib.rs", "src/deep/er/notes.md"]),
    (&["docs/[e-i]*"], &["docs/empty", "docs/images", "docs/images/b.png"]),
];

/// The paths of a report.
fn changed(report: &RestoreReport) -> BTreeSet<PathBuf> {
    report.changes.iter().map(|change| change.path.as_path().to_owned()).collect()
}

/// What of a picture is meant, with the folders that it stands in.
fn part_of(whole: &Picture, meant: &[&str]) -> Picture {
    let mut paths: BTreeSet<&Path> = BTreeSet::new();
    for path in meant {
        paths.extend(Path::new(path).ancestors().filter(|path| !path.as_os_str().is_empty()));
    }
    paths.into_iter().map(|path| (path.to_owned(), whole[path].clone())).collect()
}

#[test]
fn into_an_empty_folder_comes_what_is_meant_and_the_folders_around_it() {
    let (place, manager, checkpoint, whole) = saved();
    for (number, (list, meant)) in CHOICES.into_iter().enumerate() {
        let target = place.path(&format!("target{number}"));
        let expected = part_of(&whole, meant);
        // Missing, or there and empty: the plan is the same, and changes nothing.
        let (mode, chosen) = (RestoreMode::Empty, patterns(list));
        let plan = manager.plan_restore_part_blocking(checkpoint.id, &target, mode, &chosen).unwrap();
        assert!(!target.exists(), "{list:?}: a plan made the target");
        fs::create_dir(&target).unwrap();
        assert_eq!(plan, manager.plan_restore_part_blocking(checkpoint.id, &target, mode, &chosen).unwrap());
        assert!(picture(&target).is_empty(), "{list:?}: a plan changed something");
        let report = manager.restore_part_blocking(checkpoint.id, &target, mode, &chosen).unwrap();
        assert_eq!(report.changes, plan.changes, "{list:?}");
        assert_eq!(changed(&report), expected.keys().cloned().collect(), "{list:?}");
        assert_same(&picture(&target), &expected, &format!("{list:?}"));
    }
}

/// Disturbs the workspace everywhere: changed, gone, more, of another kind, other rights.
fn disturb(place: &Place) {
    place.write("Cargo.toml", "changed");
    place.write("src/main.rs", "changed");
    place.write("src/more.rs", "not there before");
    place.write("src/deep/er/lib.rs", "changed");
    place.write("src/deep/er/notes.md", "changed");
    place.write("src/deep/more/x.rs", "not there before");
    chmod(&place.at("src/deep"), 0o700);
    fs::remove_file(place.at("docs/a.md")).unwrap();
    fs::remove_file(place.at("docs/link")).unwrap();
    place.write("docs/link", "a file now");
    fs::remove_dir_all(place.at("docs/images")).unwrap();
    place.write("docs/images", "a file now");
    place.write("docs/empty/no more", "not there before");
    place.write("docs/index.md", "not there before");
    fs::remove_dir_all(place.at("other")).unwrap();
    place.write("unrelated/main.rs", "not there before");
}

#[test]
fn in_an_existing_folder_what_is_meant_is_made_equal_and_nothing_else_is_touched() {
    let (place, manager, checkpoint, whole) = saved();
    for (list, meant) in CHOICES {
        place.roll_back(&manager, checkpoint.id);
        disturb(&place);
        let before = picture(&place.workspace());
        let (mode, chosen) = (RestoreMode::InPlace, patterns(list));
        let plan =
            manager.plan_restore_part_blocking(checkpoint.id, &place.workspace(), mode, &chosen).unwrap();
        assert_same(&picture(&place.workspace()), &before, &format!("the plan of {list:?}"));
        let report = manager.restore_part_blocking(checkpoint.id, &place.workspace(), mode, &chosen).unwrap();
        let after = picture(&place.workspace());
        // The dry run lists exactly what is then changed, told by looking at the disk.
        assert_eq!(plan, report, "{list:?}");
        let differing: BTreeSet<PathBuf> = differing(&before, &after).into_iter().collect();
        assert_eq!(changed(&plan), differing, "{list:?}");
        // What is meant is as it was saved, and so are folders that had to be made for it.
        for path in part_of(&whole, meant).keys().filter(|path| !before.contains_key(*path)) {
            assert_eq!(after.get(path), whole.get(path), "{list:?}: {}", path.display());
        }
        let is_meant = |path: &Path| chosen.matches(&EntryPath::new(path.to_str().unwrap()).unwrap());
        for path in whole.keys().chain(before.keys()) {
            if is_meant(path) {
                assert_eq!(after.get(path), whole.get(path), "{list:?}: {} is meant", path.display());
            } else if before.contains_key(path) {
                assert_eq!(after.get(path), before.get(path), "{list:?}: {} is not meant", path.display());
            }
        }
        for path in meant {
            assert!(is_meant(Path::new(path)), "{list:?} mean {path}");
        }
        // A second time there is nothing to do.
        let again = manager.restore_part_blocking(checkpoint.id, &place.workspace(), mode, &chosen).unwrap();
        assert_eq!(again.changes, [], "{list:?}");
    }
}

#[test]
fn patterns_that_mean_nothing_change_nothing_and_wrong_ones_are_refused() {
    let (place, manager, checkpoint, _) = saved();
    disturb(&place);
    let before = picture(&place.workspace());
    for list in [&[][..], &["no such file"], &["*.RS"], &["main.rs"], &["deep"]] {
        let report = manager
            .restore_part_blocking(checkpoint.id, &place.workspace(), RestoreMode::InPlace, &patterns(list))
            .unwrap();
        assert_eq!(report.changes, [], "{list:?}");
    }
    assert_same(&picture(&place.workspace()), &before, "nothing is meant");
    for wrong in ["[", "{a", "a[b-"] {
        let refused = Patterns::new([wrong]);
        assert!(matches!(refused, Err(Error::Invalid { argument: "pattern", .. })), "{wrong}: {refused:?}");
    }
}

#[test]
fn what_stands_in_the_way_and_is_not_meant_is_refused_before_any_change() {
    let (place, manager, checkpoint, whole) = saved();
    let outside = place.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("main.rs"), "precious").unwrap();
    for is_link in [false, true] {
        fs::remove_dir_all(place.at("src")).unwrap();
        if is_link {
            symlink(&outside, place.at("src")).unwrap();
        } else {
            fs::write(place.at("src"), "a file now").unwrap();
        }
        let before = picture(&place.workspace());
        let restore = |list: &[&str]| {
            let (mode, chosen) = (RestoreMode::InPlace, patterns(list));
            manager.restore_part_blocking(checkpoint.id, &place.workspace(), mode, &chosen)
        };
        // With something else that could be restored: all or nothing.
        fs::write(place.at("Cargo.toml"), "changed").unwrap();
        let refused = restore(&["src/main.rs", "Cargo.toml"]);
        assert!(
            matches!(&refused, Err(Error::Invalid { argument: "pattern", reason }) if reason.contains("src")),
            "{refused:?}"
        );
        assert_eq!(differing(&picture(&place.workspace()), &before), [Path::new("Cargo.toml")]);
        assert_eq!(fs::read_to_string(outside.join("main.rs")).unwrap(), "precious");
        // As the message says.
        restore(&["src", "Cargo.toml"]).unwrap();
        assert_same(&picture(&place.workspace()), &whole, "with what was in the way");
        assert_eq!(fs::read_to_string(outside.join("main.rs")).unwrap(), "precious");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}

#[test]
fn one_name_of_a_linked_file_comes_back_and_the_other_keeps_its_content() {
    let place = Place::new();
    place.write("a", "linked");
    fs::hard_link(place.at("a"), place.at("b")).unwrap();
    place.write("c", "alone");
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    // Written through both names: bringing back one must not change the other.
    fs::write(place.at("a"), "changed").unwrap();
    let (mode, chosen) = (RestoreMode::InPlace, patterns(&["a"]));
    manager.restore_part_blocking(saved.id, &place.workspace(), mode, &chosen).unwrap();
    assert_eq!(fs::read_to_string(place.at("a")).unwrap(), "linked");
    assert_eq!(fs::read_to_string(place.at("b")).unwrap(), "changed");
    // Into an empty folder one name comes alone, both come as one file.
    for (list, links) in [(&["a"][..], 1), (&["a", "b"], 2)] {
        let target = place.path(&format!("target{links}"));
        let chosen = patterns(list);
        manager.restore_part_blocking(saved.id, &target, RestoreMode::Empty, &chosen).unwrap();
        assert_eq!(fs::metadata(target.join("a")).unwrap().nlink(), links);
        assert_eq!(fs::read_to_string(target.join(list[list.len() - 1])).unwrap(), "linked");
    }
}

#[test]
fn a_file_of_a_checkpoint_is_written_to_any_writer() {
    let place = Place::new();
    let large: Vec<u8> =
        (0..1_000_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut holey = vec![0; 5 << 20];
    holey[3_000_000..3_000_100].fill(7);
    place.write("empty", "");
    place.write("folder/small", "small");
    place.write("large", &large);
    place.write("holey", &holey);
    symlink("large", place.at("link")).unwrap();
    let manager = place.manager();
    let (saved, _) = place.save(&manager);
    let path = |path: &str| EntryPath::new(path).unwrap();
    for (name, bytes) in
        [("empty", &[][..]), ("folder/small", b"small"), ("large", &large), ("holey", &holey)]
    {
        let mut out = Vec::new();
        let length = manager.write_file_blocking(saved.id, &path(name), &mut out).unwrap();
        assert_eq!(length, bytes.len() as u64, "{name}");
        assert!(out == bytes, "{name} is written as it was");
    }
    for name in ["missing", "folder/missing", "large/inside", "missing/inside"] {
        let refused = manager.write_file_blocking(saved.id, &path(name), &mut io::sink());
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{name}: {refused:?}");
    }
    for name in ["folder", "link"] {
        let refused = manager.write_file_blocking(saved.id, &path(name), &mut io::sink());
        assert!(matches!(refused, Err(Error::Invalid { argument: "path", .. })), "{name}: {refused:?}");
    }
    // A writer that fails is not asked again, and its error comes back.
    let mut full = Full(100_000);
    let failed = manager.write_file_blocking(saved.id, &path("large"), &mut full);
    assert!(
        matches!(&failed, Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull),
        "{failed:?}"
    );
}

/// Takes so many bytes and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
