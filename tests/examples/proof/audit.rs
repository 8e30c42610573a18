//! The next commands after an operation that may have been cut off, and what they find.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use evoseal_checkpoint::{CheckpointManager, RestoreMode};

use crate::look::{Look, difference, look};
use crate::operate::{create, find, open, restore};
use crate::report::Findings;
use crate::rolled_back::{self, Kept};
use crate::scenario::{Expected, Restoration};
use crate::victim::evoseal;

/// The checkpoint that the audit makes itself.
const NEXT: &str = "next";

/// Lets the next commands run. Says whether a restore had been left half-way and was completed by the next one.
pub(crate) fn audit(place: &Path, expected: &Expected, acknowledged: bool, findings: &mut Findings) -> bool {
    let is_between = rolled_back::look_at_once(place, expected, acknowledged, findings);
    rolled_back::start_next(place, expected, findings);
    if place.join("workspace/evoseal.toml").exists() {
        for command in [&["status"][..], &["checkpoint", "verify"]] {
            if let Err(error) = evoseal(place, command) {
                findings.blocked(format!("evoseal {command:?} does not work: {error}"));
            }
        }
    }
    let manager = match open(place, None) {
        Ok(manager) => manager,
        Err(error) => {
            findings.blocked(format!("the store does not open: {error:?}"));
            return false;
        }
    };
    check_list(&manager, expected, acknowledged, findings);
    if let Some(version) = expected.pinned.as_ref().filter(|_| acknowledged) {
        match find(&manager, version) {
            Ok(found) if found.pinned.is_some() => {}
            Ok(_) => findings.lost(format!("the pin of {version}, which was acknowledged")),
            Err(error) => findings.lost(format!("{version}: {error:?}")),
        }
    }
    check_damage(&manager, findings, "");
    let listed = check_trees(place, &manager, expected, findings);
    let kept = expected.restoration.as_ref().and_then(|restoration| restoration.kept.as_ref());
    let completed = if kept.is_some() {
        rolled_back::check(place, &manager, expected, acknowledged, findings);
        is_between && findings.is_clean()
    } else {
        expected.restoration.as_ref().is_some_and(|restoration| {
            check_restoration(place, &manager, expected, restoration, acknowledged, findings)
        })
    };
    check_next(place, &manager, &listed, kept, findings);
    completed
}

fn versions(manager: &CheckpointManager, findings: &mut Findings) -> BTreeSet<String> {
    match manager.list_blocking() {
        // A rollback first saves work that no checkpoint holds.
        Ok(listed) => listed
            .iter()
            .map(|checkpoint| checkpoint.details.version_id.to_string())
            .filter(|version| !version.starts_with("before-"))
            .collect(),
        Err(error) => {
            findings.blocked(format!("the list cannot be read: {error:?}"));
            BTreeSet::new()
        }
    }
}

/// The list is the old one or the new one; after a success it is the new one.
fn check_list(manager: &CheckpointManager, expected: &Expected, acknowledged: bool, findings: &mut Findings) {
    let listed = versions(manager, findings);
    let allowed = if acknowledged { expected.when_done() } else { &expected.listed };
    if allowed.contains(&listed) {
        return;
    }
    let is_always = |version: &&String| allowed.iter().all(|set| set.contains(*version));
    let missing = allowed.iter().flatten().filter(is_always).find(|version| !listed.contains(*version));
    match missing {
        Some(version) => findings.lost(format!("{version} is not listed")),
        None if acknowledged => findings.lost(format!("listed is {listed:?}, acknowledged was {allowed:?}")),
        None => findings.mixed(format!("listed is {listed:?}, none of {allowed:?}")),
    }
}

fn check_damage(manager: &CheckpointManager, findings: &mut Findings, when: &str) {
    match manager.verify_blocking(&[]) {
        Ok(report) => {
            for damage in report.damage {
                findings.mixed(format!("{} is damaged{when}: {}", damage.object, damage.problem));
            }
        }
        Err(error) => findings.blocked(format!("verify does not work{when}: {error:?}")),
    }
}

/// Everything listed restores exactly into an empty folder.
fn check_trees(
    place: &Path,
    manager: &CheckpointManager,
    expected: &Expected,
    findings: &mut Findings,
) -> BTreeSet<String> {
    let listed = versions(manager, findings);
    for version in &listed {
        let Some(wanted) = expected.trees.get(version) else { continue };
        check_tree(place, manager, version, wanted, findings);
    }
    listed
}

fn check_tree(
    place: &Path,
    manager: &CheckpointManager,
    version: &str,
    wanted: &Look,
    findings: &mut Findings,
) {
    let target = place.join("audit");
    if let Err(error) = restore(manager, version, &target, RestoreMode::Empty) {
        findings.lost(format!("{version} does not restore: {error:?}"));
    } else {
        match look(&target) {
            Ok(found) => {
                if let Some(difference) = difference(&found, wanted) {
                    findings.lost(format!("{version} restores wrongly: {difference}"));
                }
            }
            Err(error) => findings.lost(format!("{version} restored something unreadable: {error}")),
        }
    }
    if let Err(error) = crate::machine::remove_tree(&target) {
        findings.blocked(format!("what was restored cannot be removed: {error}"));
    }
}

/// After a success the target is as it should be. After anything else each entry is the old one or the new one, and the
/// same restore, run again, completes it.
fn check_restoration(
    place: &Path,
    manager: &CheckpointManager,
    expected: &Expected,
    restoration: &Restoration,
    acknowledged: bool,
    findings: &mut Findings,
) -> bool {
    let target = place.join(&restoration.target);
    let Some(new) = expected.trees.get(&restoration.version) else { return false };
    let found = match look(&target) {
        Ok(found) => found,
        Err(error) => {
            findings.mixed(format!("the target cannot be read: {error}"));
            return false;
        }
    };
    if acknowledged {
        if let Some(difference) = difference(&found, new) {
            findings.lost(format!("an acknowledged restore is not there: {difference}"));
        }
        return false;
    }
    let is_between = found != *new && found != restoration.old;
    for (path, text) in &found {
        let is_known = [new.get(path), restoration.old.get(path)].contains(&Some(text));
        // What a restore writes aside, under names that no workspace may use.
        let is_aside = path.split('/').any(|part| part.starts_with(".evoseal-restore-"));
        if !is_known && !is_aside {
            findings.mixed(format!("{path} is neither old nor new: {text}"));
        }
    }
    let kept_on_the_way = restoration.old.iter().filter(|(path, text)| new.get(*path) == Some(*text));
    for (path, text) in kept_on_the_way {
        if found.get(path) != Some(text) {
            findings.mixed(format!("{path} is the same before and after, and is gone"));
        }
    }
    let mode = if restoration.in_place { RestoreMode::InPlace } else { RestoreMode::Empty };
    let is_done = found == *new && !restoration.in_place;
    if !is_done && let Err(error) = restore(manager, &restoration.version, &target, mode) {
        findings.blocked(format!("the restore cannot be completed: {error:?}"));
        return is_between;
    }
    match look(&target) {
        Ok(found) => {
            if let Some(difference) = difference(&found, new) {
                findings.mixed(format!("run again, the restore leaves {difference}"));
            }
        }
        Err(error) => findings.mixed(format!("the target cannot be read: {error}")),
    }
    is_between
}

/// A new checkpoint can be made, comes back exactly, and collection loses nothing and leaves nothing behind.
fn check_next(
    place: &Path,
    manager: &CheckpointManager,
    listed: &BTreeSet<String>,
    kept: Option<&Kept>,
    findings: &mut Findings,
) {
    let workspace = place.join("workspace");
    let changed = fs::create_dir_all(&workspace)
        .and_then(|()| fs::write(workspace.join("written by the next"), "next"));
    if let Err(error) = changed {
        findings.blocked(format!("the workspace cannot be written to: {error}"));
        return;
    }
    if let Err(error) = create(manager, &workspace, NEXT) {
        findings.blocked(format!("the next checkpoint cannot be made: {error:?}"));
        return;
    }
    if let Err(error) = manager.collect_garbage_blocking() {
        findings.blocked(format!("collection does not work: {error:?}"));
    }
    let after = versions(manager, findings);
    if let Some(version) = listed.difference(&after).next() {
        findings.lost(format!("{version} is gone after the next checkpoint and a collection"));
    }
    check_damage(manager, findings, " after a collection");
    match look(&workspace) {
        Ok(wanted) => {
            if let Some(path) = wanted.keys().find(|path| path.contains(".evoseal-restore-")) {
                findings.mixed(format!("{path} was left behind"));
            }
            let wanted = kept.map_or_else(|| wanted.clone(), |kept| kept.held(&wanted));
            check_tree(place, manager, NEXT, &wanted, findings);
        }
        Err(error) => findings.mixed(format!("the workspace cannot be read: {error}")),
    }
    match left_behind(&place.join("store")) {
        Ok(left) if left.is_empty() => {}
        Ok(left) => findings.mixed(format!("left behind in the store: {left:?}")),
        Err(error) => findings.blocked(format!("the store cannot be listed: {error}")),
    }
}

/// Temporary files that outlived the next commands.
fn left_behind(store: &Path) -> std::io::Result<Vec<String>> {
    let temporary = store.join("tmp");
    if !temporary.is_dir() {
        return Ok(Vec::new());
    }
    let names = fs::read_dir(temporary)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    Ok(names.collect::<std::io::Result<Vec<_>>>()?.into_iter().filter(|name| name != "lock").collect())
}
