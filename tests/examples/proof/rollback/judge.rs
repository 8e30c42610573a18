//! What is there after a fault, and after the next start.

use std::fs;
use std::path::Path;
use std::process::Command;

use evoseal_checkpoint::RestoreMode;

use super::model::{Model, apart, look_closely, names_in};
use super::point::Operation;
use crate::Result;
use crate::look::{Look, difference};
use crate::machine::remove_tree;
use crate::operate::{open, restore};
use crate::report::Findings;
use crate::victim::{End, PROGRAM, operate};

/// What the program says when it has completed what was cut off and has nothing else to do.
const NOTHING_TO_DO: &str = "no version is known to be good";

/// Whether the place was left half-way, whether it is at the new tree, and what is wrong.
pub(super) type Judged = (bool, Option<bool>, Findings);

/// Says what is there, lets the next start run, and says what is there then.
pub(super) fn judge(place: &Path, end: End, operation: Operation, model: &Model) -> Result<Judged> {
    let workspace = place.join("workspace");
    let mut findings = Findings::default();
    match end {
        End::Broken(code) => findings.blocked(format!("it ended with {code} instead of an error")),
        End::Hung => findings.blocked("it hangs"),
        End::Acknowledged | End::Refused | End::Killed => {}
    }
    let left = look_closely(&workspace)?;
    if end == End::Acknowledged
        && let Some(difference) = difference(&left, &model.new)
    {
        findings.mixed(format!("an acknowledged rollback is not there: {difference}"));
    }
    if operation.is_exchange {
        before_the_next_start(&workspace, &left, model, &mut findings);
    }
    let is_half_way = left != model.old && left != model.new || names_in(place)? != model.beside;
    next_start(place, operation, &mut findings)?;
    let is_new = after_the_next_start(place, model, &mut findings)?;
    if is_new != Some(false) {
        check_saved(place, model, &mut findings);
    }
    Ok((is_half_way, is_new, findings))
}

/// An onlooker, too, sees the old tree or the new one, and finds each ignored file where it was, if only behind a symlink.
fn before_the_next_start(workspace: &Path, left: &Look, model: &Model, findings: &mut Findings) {
    let (_, left) = apart(left);
    let [old, new] = [&model.old, &model.new].map(|tree| difference(&left, &apart(tree).1));
    if let (Some(old), Some(new)) = (old, new) {
        let what = format!("neither the old one ({old}) nor the new one ({new})");
        findings.mixed(format!("before the next start the tree is {what}"));
    }
    for (name, bytes) in &model.ignored {
        match fs::read(workspace.join(name)) {
            Ok(found) if found == *bytes => {}
            Ok(_) => findings.lost(format!("before the next start {name} has other bytes")),
            Err(error) => findings.lost(format!("before the next start {name} cannot be read: {error}")),
        }
    }
}

/// The tree is the old one or the new one, and nothing else is there. Says whether it is the new one.
fn after_the_next_start(place: &Path, model: &Model, findings: &mut Findings) -> Result<Option<bool>> {
    let workspace = place.join("workspace");
    let found = look_closely(&workspace)?;
    let is_new = match (found == model.old, found == model.new) {
        (true, _) => Some(false),
        (_, true) => Some(true),
        _ => None,
    };
    if is_new.is_none() {
        let [old, new] = [&model.old, &model.new].map(|tree| difference(&found, tree).unwrap_or_default());
        findings.mixed(format!("the tree is neither the old one ({old}) nor the new one ({new})"));
    }
    if let Some(difference) = difference(&apart(&found).0, &apart(&model.old).0) {
        findings.lost(format!("of the ignored files {difference}"));
    }
    let beside = names_in(place)?;
    if beside != model.beside {
        findings.mixed(format!("beside the workspace lies {beside:?} instead of {:?}", model.beside));
    }
    if !fs::symlink_metadata(workspace.join(".evoseal"))?.is_dir() {
        findings.mixed("the folder of the harness is not the workspace's own");
    }
    if workspace.join(".evoseal/rollback/intent").exists() {
        findings.blocked("the next start leaves the rollback unfinished");
    }
    Ok(is_new)
}

/// The next start, with time enough.
fn next_start(place: &Path, operation: Operation, findings: &mut Findings) -> Result<()> {
    let words = operate(place, operation.next)?;
    let done = Command::new("timeout").args(["--signal=KILL", "120"]).args(&words).output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let is_done = match operation.next {
        [PROGRAM, ..] => done.status.code() == Some(2) && said.contains(NOTHING_TO_DO),
        _ => done.status.success(),
    };
    if !is_done {
        findings.blocked(format!("the next start ends with {}: {}", done.status, said.trim()));
    }
    Ok(())
}

/// The person's work is in a checkpoint, which restores exactly, and no other is damaged.
fn check_saved(place: &Path, model: &Model, findings: &mut Findings) {
    let target = place.join("audit");
    let check = || -> Result<Option<String>> {
        let manager = open(place, None).map_err(|error| format!("{error:?}"))?;
        let listed = manager.list_blocking().map_err(|error| format!("{error:?}"))?;
        let mut versions = listed.iter().map(|checkpoint| checkpoint.details.version_id.to_string());
        let saved = versions.find(|version| version.starts_with("before-")).ok_or("nothing was saved")?;
        restore(&manager, &saved, &target, RestoreMode::Empty).map_err(|error| format!("{error:?}"))?;
        let found = look_closely(&target)?;
        remove_tree(&target)?;
        let report = manager.verify_blocking(&[]).map_err(|error| format!("{error:?}"))?;
        if let Some(damage) = report.damage.first() {
            return Ok(Some(format!("{} is damaged: {}", damage.object, damage.problem)));
        }
        Ok(difference(&found, &model.saved))
    };
    match check() {
        Ok(None) => {}
        Ok(Some(difference)) => findings.lost(format!("what was saved is not what was there: {difference}")),
        Err(error) => findings.lost(format!("the work of a person is not saved: {error}")),
    }
}
