//! The operations under test, each with the state before it and the states that may follow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::look::{Look, look};
use crate::operate::{create, find, open};
use crate::rolled_back::Kept;
use crate::victim::{PROGRAM, evoseal};

/// What may be there after an operation: the model that the audit compares with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// The sets of versions that may be listed if the operation was cut off or failed.
    pub(crate) listed: Vec<BTreeSet<String>>,
    /// Those that may be listed if it said that it was done; if this is empty, only the last of the above.
    #[serde(default)]
    pub(crate) acknowledged: Vec<BTreeSet<String>>,
    /// The tree of every version.
    pub(crate) trees: BTreeMap<String, Look>,
    /// What must be pinned after a success.
    #[serde(default)]
    pub(crate) pinned: Option<String>,
    /// For a restore: what it restores.
    pub(crate) restoration: Option<Restoration>,
}

/// A restore under test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Restoration {
    pub(crate) version: String,
    /// Below the place.
    pub(crate) target: String,
    pub(crate) in_place: bool,
    /// The target before.
    pub(crate) old: Look,
    /// For a rollback, which the next start completes by itself: what it must leave.
    #[serde(default)]
    pub(crate) kept: Option<Kept>,
}

/// An operation and the state that it starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What `operate` is called with.
    pub(crate) arguments: &'static [&'static str],
    pub(crate) prepare: fn(&Path) -> Result<Expected>,
}

/// All of them.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "first checkpoint", arguments: &["create", "v1"], prepare: nothing_yet },
    Scenario {
        name: "checkpoint, changes",
        arguments: &["create", "v3"],
        prepare: |place| two_then(place, edit_more),
    },
    Scenario {
        name: "checkpoint, no change",
        arguments: &["create", "v3"],
        prepare: |place| two_then(place, |_| Ok(())),
    },
    Scenario {
        name: "checkpoint, large file",
        arguments: &["create", "v3"],
        prepare: |place| two_then(place, add_large),
    },
    Scenario {
        name: "checkpoint, retention",
        arguments: &["--keep", "2", "create", "v3"],
        prepare: retention,
    },
    Scenario { name: "checkpoint, after a crash", arguments: &["create", "v3"], prepare: after_a_crash },
    Scenario {
        name: "restore, new folder",
        arguments: &["restore", "v1", "target"],
        prepare: |place| restoration(place, "v1", "target", false),
    },
    Scenario {
        name: "restore, in place, few",
        arguments: &["restore", "v2", "workspace", "--in-place"],
        prepare: in_place_few,
    },
    Scenario {
        name: "restore, in place, many",
        arguments: &["restore", "v1", "workspace", "--in-place"],
        prepare: |place| restoration(place, "v1", "workspace", true),
    },
    Scenario {
        name: "delete the oldest",
        arguments: &["delete", "v1"],
        prepare: |place| deletion(place, &["v1"]),
    },
    Scenario {
        name: "delete two of three",
        arguments: &["delete", "v1", "v3"],
        prepare: |place| deletion(place, &["v1", "v3"]),
    },
    Scenario { name: "gc", arguments: &["gc"], prepare: garbage },
    Scenario { name: "pin", arguments: &["pin", "v1"], prepare: pinning },
];

/// The same through the program, with all that it keeps beside the store.
pub(crate) const PROGRAM_SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "evoseal checkpoint create",
        arguments: &["evoseal", "checkpoint", "create", "v3"],
        prepare: project,
    },
    Scenario {
        name: "evoseal checkpoint delete",
        arguments: &["evoseal", "checkpoint", "delete", "v1"],
        prepare: |place| {
            let listed = vec![set(&["v1", "v2"]), set(&["v2"])];
            Ok(Expected { listed, ..project(place)? })
        },
    },
];

impl Expected {
    /// What may be listed after the operation said that it was done.
    pub(crate) fn when_done(&self) -> &[BTreeSet<String>] {
        if self.acknowledged.is_empty() {
            &self.listed[self.listed.len().saturating_sub(1)..]
        } else {
            &self.acknowledged
        }
    }
}

impl Scenario {
    /// Whether the `evoseal` program does it.
    pub(crate) fn is_by_program(&self) -> bool {
        self.arguments.first() == Some(&PROGRAM)
    }

    /// Makes the state before the operation in `place`, with `expected.json`.
    pub(crate) fn prepare(&self, place: &Path) -> Result<Expected> {
        fs::create_dir_all(place.join("workspace"))?;
        let expected = (self.prepare)(place).map_err(|error| format!("{}: {error}", self.name))?;
        fs::write(place.join("expected.json"), serde_json::to_vec(&expected)?)?;
        Ok(expected)
    }
}

pub(crate) fn set(versions: &[&str]) -> BTreeSet<String> {
    versions.iter().map(|version| (*version).to_owned()).collect()
}

pub(crate) fn write(workspace: &Path, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
    let path = workspace.join(path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, content)?)
}

/// Bytes that do not compress and differ for each `seed`.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}

/// A small tree with an entry of each ordinary kind.
pub(crate) fn first_tree(workspace: &Path) -> Result<()> {
    for number in 0..24 {
        write(
            workspace,
            &format!("src/module{}/file{number}.rs", number % 4),
            format!("// {number}\n").repeat(30),
        )?;
    }
    write(workspace, "README", "the first\n")?;
    write(workspace, "empty file", "")?;
    write(workspace, "build/run", "#!/bin/sh\n")?;
    fs::set_permissions(workspace.join("build/run"), fs::Permissions::from_mode(0o755))?;
    write(workspace, "data/noise", noise(1, 40_000))?;
    fs::create_dir_all(workspace.join("empty folder"))?;
    symlink("README", workspace.join("link"))?;
    symlink("nowhere/at all", workspace.join("data/dangling"))?;
    Ok(())
}

/// Changes of every kind, so that a restore has to do and undo each.
pub(crate) fn second_tree(workspace: &Path) -> Result<()> {
    for number in (0..24).step_by(2) {
        write(
            workspace,
            &format!("src/module{}/file{number}.rs", number % 4),
            format!("// changed {number}\n"),
        )?;
    }
    for number in 0..20 {
        write(workspace, &format!("new/file{number}"), format!("new {number}"))?;
    }
    write(workspace, "README", "the second\n")?;
    fs::set_permissions(workspace.join("build/run"), fs::Permissions::from_mode(0o644))?;
    fs::remove_file(workspace.join("link"))?;
    write(workspace, "link/is a folder now", "x")?;
    fs::remove_dir(workspace.join("empty folder"))?;
    write(workspace, "empty folder", "is a file now")?;
    fs::remove_file(workspace.join("data/dangling"))?;
    symlink("noise", workspace.join("data/dangling"))?;
    Ok(())
}

pub(crate) fn edit_more(workspace: &Path) -> Result<()> {
    write(workspace, "README", "the third\n")?;
    write(workspace, "src/module1/new.rs", noise(3, 9_000))?;
    fs::remove_file(workspace.join("new/file3"))?;
    Ok(())
}

/// Longer than any chunk, so that it is stored in several.
fn add_large(workspace: &Path) -> Result<()> {
    write(workspace, "data/large", noise(4, 3_000_000))
}

fn nothing_yet(place: &Path) -> Result<Expected> {
    let workspace = place.join("workspace");
    first_tree(&workspace)?;
    let trees = BTreeMap::from([("v1".to_owned(), look(&workspace)?)]);
    Ok(Expected { listed: vec![set(&[]), set(&["v1"])], trees, ..Expected::default() })
}

/// Two checkpoints, then `change` to the workspace, which is to become `v3`.
fn two_then(place: &Path, change: fn(&Path) -> Result<()>) -> Result<Expected> {
    let workspace = place.join("workspace");
    let manager = open(place, None)?;
    let mut trees = BTreeMap::new();
    for (version, make) in [("v1", first_tree as fn(&Path) -> Result<()>), ("v2", second_tree)] {
        make(&workspace)?;
        create(&manager, &workspace, version)?;
        trees.insert(version.to_owned(), look(&workspace)?);
    }
    change(&workspace)?;
    trees.insert("v3".to_owned(), look(&workspace)?);
    Ok(Expected { listed: vec![set(&["v1", "v2"]), set(&["v1", "v2", "v3"])], trees, ..Expected::default() })
}

/// The operation changes no checkpoint.
fn unchanged(expected: Expected) -> Expected {
    Expected { listed: vec![expected.listed[0].clone()], ..expected }
}

fn pinning(place: &Path) -> Result<Expected> {
    let expected = two_then(place, |_| Ok(()))?;
    Ok(Expected { pinned: Some("v1".to_owned()), ..unchanged(expected) })
}

fn retention(place: &Path) -> Result<Expected> {
    let expected = two_then(place, edit_more)?;
    let listed = vec![set(&["v1", "v2"]), set(&["v1", "v2", "v3"]), set(&["v2", "v3"])];
    // A cleanup that failed is left to the next checkpoint: the new one stands.
    let acknowledged = listed[1..].to_vec();
    Ok(Expected { listed, acknowledged, ..expected })
}

/// What a checkpoint that was killed half-way leaves: a file that was being written, and an object that nothing names.
fn after_a_crash(place: &Path) -> Result<Expected> {
    let expected = two_then(place, edit_more)?;
    let half = [&["create", "v3"][..]].concat();
    crate::victim::kill_half_way(place, &half)?;
    Ok(expected)
}

fn restoration(place: &Path, version: &str, target: &str, in_place: bool) -> Result<Expected> {
    let expected = unchanged(two_then(place, edit_more)?);
    let restoration = Restoration {
        version: version.to_owned(),
        target: target.to_owned(),
        in_place,
        old: look(&place.join(target))?,
        kept: None,
    };
    Ok(Expected { restoration: Some(restoration), ..expected })
}

/// Few changes are synced one by one, many at once: both ways are walked.
fn in_place_few(place: &Path) -> Result<Expected> {
    restoration(place, "v2", "workspace", true)
}

fn three(place: &Path) -> Result<Expected> {
    let expected = two_then(place, edit_more)?;
    create(&open(place, None)?, &place.join("workspace"), "v3")?;
    Ok(Expected { listed: vec![set(&["v1", "v2", "v3"])], ..expected })
}

fn deletion(place: &Path, doomed: &[&str]) -> Result<Expected> {
    let mut expected = three(place)?;
    let left = expected.listed[0].iter().filter(|version| !doomed.contains(&version.as_str())).cloned();
    let left = left.collect();
    expected.listed.push(left);
    Ok(expected)
}

/// A store with storage that nothing needs: a checkpoint that was deleted while a writer kept collection away, and one that
/// was killed half-way.
fn garbage(place: &Path) -> Result<Expected> {
    let expected = three(place)?;
    let manager = open(place, None)?;
    let doomed = find(&manager, "v2")?.id;
    crate::victim::kill_half_way(place, &["delete", "v1"])?;
    manager.delete_blocking(&[doomed])?;
    add_large(&place.join("workspace"))?;
    crate::victim::kill_half_way(place, &["create", "v4"])?;
    let manager = open(place, None)?;
    let listed = manager.list_blocking()?;
    let listed = listed.iter().map(|checkpoint| checkpoint.details.version_id.to_string()).collect();
    Ok(Expected { listed: vec![listed], ..expected })
}

/// A project with two checkpoints, both made by the program, and changes since. Its store is the place's store as well.
fn project(place: &Path) -> Result<Expected> {
    let workspace = place.join("workspace");
    evoseal(place, &["init"])?;
    let mut trees = BTreeMap::new();
    for (version, make) in [("v1", first_tree as fn(&Path) -> Result<()>), ("v2", second_tree)] {
        make(&workspace)?;
        evoseal(place, &["checkpoint", "create", version])?;
        trees.insert(version.to_owned(), look(&workspace)?);
    }
    symlink("workspace/.evoseal/checkpoints", place.join("store"))?;
    edit_more(&workspace)?;
    trees.insert("v3".to_owned(), look(&workspace)?);
    Ok(Expected { listed: vec![set(&["v1", "v2"]), set(&["v1", "v2", "v3"])], trees, ..Expected::default() })
}
