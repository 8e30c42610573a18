//! Rollbacks under test: the project, what may be there afterwards, and the look at it.
//!
//! After whatever happened to a rollback the *next start* runs: any command of the program, or the library's recovery. Then the
//! tree is exactly the old one or the new one, and what no version holds is as it was. In the mode of exchange that is so
//! before the next start already.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use evoseal_checkpoint::{CheckpointManager, RestoreMode};
use evoseal_types::Digest;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::look::{Look, difference, look};
use crate::machine::{copy_tree, remove_tree};
use crate::operate::{create, open, restore};
use crate::report::Findings;
use crate::scenario::{Expected, Restoration, Scenario, edit_more, first_tree, second_tree, set, write};
use crate::strace::strace;
use crate::victim::{End, Fault, PROGRAM, evoseal, finish, operate};

/// Rollbacks by the library, with the store beside the workspace; and the completion of such that were killed.
pub(crate) const ROLLBACKS: &[Scenario] = &[
    Scenario { name: "rollback", arguments: &["rollback", "v1"], prepare: |place| by_library(place, false) },
    Scenario {
        name: "rollback, exchange",
        arguments: &["rollback", "v1", "--exchange"],
        prepare: |place| by_library(place, true),
    },
    Scenario {
        name: "recovery of a rollback",
        arguments: &["recover"],
        prepare: |place| {
            let expected = by_library(place, false)?;
            let new = &expected.trees["v1"];
            // Some of it is done.
            let differing =
                |tree: &Look| tree.iter().filter(|(path, text)| new.get(*path) != Some(*text)).count();
            let all = expected.restoration.as_ref().map_or(0, |restoration| differing(&restoration.old));
            kill_when(place, &["rollback", "v1"], ("renameat", 9, None), |workspace| {
                Ok(differing(&look(workspace)?) + 8 <= all)
            })?;
            Ok(expected)
        },
    },
    Scenario {
        name: "recovery of a rollback, exchange",
        arguments: &["recover"],
        prepare: |place| {
            let expected = by_library(place, true)?;
            // Our own folder is the last that is lent: it is just before workspace and new tree change places.
            kill_when(
                place,
                &["rollback", "v1", "--exchange"],
                ("renameat2", 1, Some(place)),
                |workspace| Ok(fs::symlink_metadata(workspace.join(".evoseal"))?.is_symlink()),
            )?;
            Ok(expected)
        },
    },
];

/// Rollbacks by the program, with everything of its in the workspace.
pub(crate) const PROGRAM_ROLLBACKS: &[Scenario] = &[
    Scenario {
        name: "evoseal rollback",
        arguments: &[PROGRAM, "rollback", "v1"],
        prepare: |place| by_program(place, false),
    },
    Scenario {
        name: "evoseal rollback, exchange",
        arguments: &[PROGRAM, "rollback", "v1", "--exchange"],
        prepare: |place| by_program(place, true),
    },
];

/// More than a rollback renames.
const RENAMES_MAX: usize = 40;

/// What no version holds.
const UNHELD: [(&str, &str); 5] = [
    (".env", "SECRET=1\n"),
    ("src/module1/.env", "SECRET=2\n"),
    ("cache/deep/build.bin", "built\n"),
    ("cache/stamp", "yesterday\n"),
    (".git/HEAD", "ref: refs/heads/main\n"),
];

/// What a rollback must leave, beside the version.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// What no version holds.
    unheld: Look,
    is_exchange: bool,
    /// The next start.
    next: Vec<String>,
    /// The rollback, to be done once more.
    again: Vec<String>,
}

impl Kept {
    /// What of a tree is for versions to hold.
    pub(crate) fn held(&self, tree: &Look) -> Look {
        tree.iter()
            .filter(|(path, _)| !self.is_unheld(path))
            .map(|(path, text)| (path.clone(), text.clone()))
            .collect()
    }

    fn is_unheld(&self, path: &str) -> bool {
        let mut folders =
            std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above));
        folders.any(|path| self.unheld.contains_key(path))
    }
}

fn by_library(place: &Path, is_exchange: bool) -> Result<Expected> {
    let manager = open(place, None)?;
    let workspace = place.join("workspace");
    let capture = |version: &str| Ok(create(&manager, &workspace, version).map(drop)?);
    project(place, capture, &["recover"], &["rollback", "v1"], is_exchange)
}

/// Kills a rollback at one of its renames, those of what is in `folder` counted alone if one is given: the first from number
/// `first` on at which the workspace is as it is wanted.
fn kill_when(
    place: &Path,
    rollback: &[&str],
    (name, first, folder): (&str, usize, Option<&Path>),
    is_wanted: impl Fn(&Path) -> Result<bool>,
) -> Result<()> {
    let (copy, log) = (place.with_extension("copy"), place.with_extension("log"));
    copy_tree(place, &copy)?;
    // Which thread does what, and thus what strace counts, changes from run to run.
    for ordinal in first..RENAMES_MAX {
        let mut command = strace(0, &log);
        if let Some(folder) = folder {
            command.arg("-P").arg(folder);
        }
        let [trace, inject] = Fault::Kill.expressions(name, ordinal);
        command.args(["-e", &trace, "-e", &inject]).args(operate(place, rollback)?);
        let end = finish(&mut command)?;
        if end == End::Killed && is_wanted(&place.join("workspace"))? {
            remove_tree(&copy)?;
            return Ok(fs::remove_file(log)?);
        }
        remove_tree(place)?;
        copy_tree(&copy, place)?;
    }
    Err(format!("{rollback:?} could not be killed where it was to be").into())
}

fn by_program(place: &Path, is_exchange: bool) -> Result<Expected> {
    evoseal(place, &["init"])?;
    symlink("workspace/.evoseal/checkpoints", place.join("store"))?;
    let capture = |version: &str| evoseal(place, &["checkpoint", "create", version]);
    project(place, capture, &[PROGRAM, "status"], &[PROGRAM, "rollback", "v1"], is_exchange)
}

/// A workspace with two versions, work of a person since, and things that no version holds.
fn project(
    place: &Path,
    capture: impl Fn(&str) -> Result<()>,
    next: &[&str],
    again: &[&str],
    is_exchange: bool,
) -> Result<Expected> {
    let workspace = place.join("workspace");
    write(&workspace, ".gitignore", ".env\ncache/\n")?;
    let without: Look = look(&workspace)?;
    for (path, text) in UNHELD {
        write(&workspace, path, text)?;
    }
    let mut unheld = look(&workspace)?;
    unheld.retain(|path, _| !without.contains_key(path) && !path.starts_with("src"));
    let own = "src/module1/.env";
    unheld.insert(own.to_owned(), look(&workspace)?.remove(own).ok_or("it was just written")?);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut again = words(again);
    again.extend(is_exchange.then(|| "--exchange".to_owned()));
    let kept = Kept { unheld, is_exchange, next: words(next), again };
    let mut trees = BTreeMap::new();
    for (version, make) in [("v1", first_tree as fn(&Path) -> Result<()>), ("v2", second_tree)] {
        make(&workspace)?;
        capture(version)?;
        trees.insert(version.to_owned(), kept.held(&look(&workspace)?));
    }
    edit_more(&workspace)?;
    write(&workspace, "notes of mine", "in no checkpoint\n")?;
    let restoration = Restoration {
        version: "v1".to_owned(),
        target: "workspace".to_owned(),
        in_place: true,
        old: look(&workspace)?,
        kept: Some(kept),
    };
    Ok(Expected {
        listed: vec![set(&["v1", "v2"])],
        trees,
        restoration: Some(restoration),
        ..Expected::default()
    })
}

/// The trees before and after the rollback, and what it must leave.
struct Model<'a> {
    old: &'a Look,
    new: Look,
    kept: &'a Kept,
}

impl<'a> Model<'a> {
    fn of(expected: &'a Expected, restoration: &'a Restoration, kept: &'a Kept) -> Self {
        let mut new = expected.trees.get(&restoration.version).cloned().unwrap_or_default();
        new.extend(kept.unheld.clone());
        Self { old: &restoration.old, new, kept }
    }

    /// What differs if a tree is neither the old one nor the new one.
    fn differs(&self, found: &Look) -> Option<String> {
        let [old, new] = [self.old, &self.new].map(|tree| difference(found, tree));
        Some(format!("neither the old tree ({}) nor the new one ({})", old?, new?))
    }
}

/// Looks at the workspace before anything else does. Says whether it is between two trees.
pub(crate) fn look_at_once(
    place: &Path,
    expected: &Expected,
    acknowledged: bool,
    findings: &mut Findings,
) -> bool {
    let Some((restoration, kept)) = rollback_of(expected) else { return false };
    let model = Model::of(expected, restoration, kept);
    let workspace = place.join("workspace");
    let found = match look(&workspace) {
        Ok(found) => found,
        Err(error) => {
            findings.mixed(format!("the workspace cannot be read: {error}"));
            return false;
        }
    };
    if acknowledged && let Some(difference) = difference(&kept.held(&found), &kept.held(&model.new)) {
        findings.lost(format!("an acknowledged rollback is not there: {difference}"));
    }
    if !kept.is_exchange {
        return model.differs(&found).is_some();
    }
    // Symlinks may stand in for what no version holds; it is found by the same paths.
    let held = Model { old: &kept.held(model.old), new: kept.held(&model.new), kept };
    if let Some(difference) = held.differs(&kept.held(&found)) {
        findings.mixed(format!("before the next start {difference}"));
    }
    let files = kept.unheld.iter().filter(|(_, text)| text.starts_with("file "));
    for (path, text) in files {
        let path = workspace.join(path);
        let read = fs::read(&path).and_then(|bytes| Ok((fs::metadata(&path)?, bytes)));
        match read {
            Ok((metadata, bytes)) => {
                let mode = metadata.permissions().mode() & 0o1777;
                if format!("file {mode:o} {}", Digest::of(&bytes)) != *text {
                    findings.lost(format!("before the next start {} is another file", path.display()));
                }
            }
            Err(error) => {
                findings.lost(format!("before the next start {} is not there: {error}", path.display()));
            }
        }
    }
    model.differs(&found).is_some()
}

fn rollback_of(expected: &Expected) -> Option<(&Restoration, &Kept)> {
    let restoration = expected.restoration.as_ref()?;
    Some((restoration, restoration.kept.as_ref()?))
}

/// Lets the next start run.
pub(crate) fn start_next(place: &Path, expected: &Expected, findings: &mut Findings) {
    let Some((_, kept)) = rollback_of(expected) else { return };
    if let Err(error) = done(place, &kept.next) {
        findings.blocked(format!("the next start does not work: {error}"));
    }
}

fn done(place: &Path, words: &[String]) -> Result<()> {
    let command = operate(place, words)?;
    match finish(Command::new(&command[0]).args(&command[1..]))? {
        End::Acknowledged => Ok(()),
        end => Err(format!("{words:?} ended as {end:?}").into()),
    }
}

/// After the next start the tree is the old one or the new one, nothing is lost, and the rollback works, once more.
pub(crate) fn check(
    place: &Path,
    manager: &CheckpointManager,
    expected: &Expected,
    acknowledged: bool,
    findings: &mut Findings,
) {
    let Some((restoration, kept)) = rollback_of(expected) else { return };
    let model = Model::of(expected, restoration, kept);
    if let Err(error) = try_check(place, manager, &model, acknowledged, findings) {
        findings.mixed(format!("the workspace cannot be read: {error}"));
    }
}

fn try_check(
    place: &Path,
    manager: &CheckpointManager,
    model: &Model<'_>,
    acknowledged: bool,
    findings: &mut Findings,
) -> Result<()> {
    let workspace = place.join("workspace");
    let found = look(&workspace)?;
    if let Some(difference) = model.differs(&found) {
        findings.mixed(format!("the next start leaves {difference}"));
    } else if acknowledged && found != model.new {
        findings.lost("the next start takes back an acknowledged rollback".to_owned());
    }
    for (path, text) in &model.kept.unheld {
        if found.get(path) != Some(text) {
            findings.lost(format!("{path}, which no version holds: {:?}", found.get(path)));
        }
    }
    if workspace.join(".evoseal/rollback/intent").exists() {
        findings.blocked("the next start leaves the rollback unfinished");
    }
    check_beside(place, findings)?;
    if found == model.new
        && let Some(why) = not_saved(place, manager, &model.kept.held(model.old))
    {
        findings.lost(format!("what the workspace held before: {why}"));
    }
    if let Err(error) = done(place, &model.kept.again) {
        findings.blocked(format!("the rollback cannot be done once more: {error}"));
    } else if let Some(difference) = difference(&look(&workspace)?, &model.new) {
        findings.mixed(format!("done once more, the rollback leaves {difference}"));
    }
    check_beside(place, findings)
}

/// Nothing of ours stays beside the workspace.
fn check_beside(place: &Path, findings: &mut Findings) -> Result<()> {
    for entry in fs::read_dir(place)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(".workspace.evoseal-exchange") {
            findings.mixed(format!("{name} is left beside the workspace"));
        }
    }
    Ok(())
}

/// Why no checkpoint holds a tree that was saved before the rollback.
fn not_saved(place: &Path, manager: &CheckpointManager, tree: &Look) -> Option<String> {
    let target = place.join("audit");
    let find = || -> Result<Option<String>> {
        let listed = manager.list_blocking().map_err(|error| format!("{error:?}"))?;
        let names = listed.iter().map(|checkpoint| checkpoint.details.version_id.to_string());
        let mut why = "nothing was saved".to_owned();
        for name in names.filter(|name| name.starts_with("before-")) {
            restore(manager, &name, &target, RestoreMode::Empty).map_err(|error| format!("{error:?}"))?;
            let found = difference(&look(&target)?, tree);
            remove_tree(&target)?;
            match found {
                Some(difference) => why = format!("{name} holds {difference}"),
                None => return Ok(None),
            }
        }
        Ok(Some(why))
    };
    find().unwrap_or_else(|error| Some(error.to_string()))
}
