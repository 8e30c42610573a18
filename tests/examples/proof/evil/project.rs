//! Rollbacks of a tree of odd entries, through the program.
//!
//! A project is a folder with the `workspace` and its neighbours: a [`Canary`], and a file outside that has a name inside as
//! well. The whole folder is described and compared, so that nothing can change, appear or stay beside the workspace unseen.
//! Within the workspace the model is the tree that is gone back to; for everything that no version holds, and for the
//! neighbours, it is what was there just before.

use std::collections::{BTreeMap, BTreeSet};

use super::canary::Canary;
use super::case::Case;
use super::change::{DAMAGE, MORE_DAMAGE, REPLACE};
use super::{Judged, Rollbacks};
use crate::Result;
use crate::allowed::{Difference, is_allowed_in_rollback};

/// How a rollback is done, with the option that says so.
pub(super) const MODES: [Mode; 2] =
    [Mode { name: "in place", option: &[] }, Mode { name: "exchange", option: &["--exchange"] }];

#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    pub(super) name: &'static str,
    option: &'static [&'static str],
}

impl Mode {
    /// A rollback in this mode.
    pub(super) fn rollback<'a>(&self, to: &'a str) -> Vec<&'a str> {
        ["rollback", to].into_iter().chain(self.option.iter().copied()).collect()
    }
}

/// What of a tree checkpoints keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Everything that they can.
    All,
    /// What they keep without being told more: neither ignored files nor nested repositories, times or attributes.
    Default,
}

/// Settings under which everything is kept.
const KEEP_ALL: &str =
    "\n[safety.checkpoints]\ninclude_ignored = true\nkeep_mtimes = true\nkeep_xattrs = true\n";
/// Sockets, pipes and devices: no checkpoint can hold them.
const UNHELD: &[&str] = &["special/"];
/// Without ignored files: nested repositories, and folders in which a `.gitignore` ignores itself and everything.
const IGNORED: &[&str] = &["git/nested/", "git/sub/deeper/", "git/gitfile/.git", "git/link/.git"];

/// The project of one mode.
struct Project<'a> {
    case: &'a Case<'a>,
    mode: Mode,
    kept: Kept,
    counts: &'a mut Rollbacks,
    failures: &'a mut Vec<String>,
}

impl Case<'_> {
    /// Rolls a tree of odd entries back after changes of every kind, in each mode.
    pub(super) fn rollbacks(
        &self,
        without: &[&str],
        is_smoke: bool,
        rounds: &mut BTreeMap<&'static str, Rollbacks>,
        failures: &mut Vec<String>,
    ) -> Result<()> {
        for (number, mode) in MODES.into_iter().enumerate() {
            for kept in [Kept::All, Kept::Default] {
                // Between them, the two users of a smoke run see all four.
                let is_first = usize::from(self.user.is_some()) == number;
                if is_smoke && is_first != (kept == Kept::All) {
                    continue;
                }
                let counts = rounds.entry(mode.name).or_default();
                Project { case: self, mode, kept, counts, failures }.go(without, is_smoke)?;
                self.clean("project")?;
                self.clean("other")?;
            }
        }
        Ok(())
    }
}

impl Project<'_> {
    fn go(&mut self, without: &[&str], is_smoke: bool) -> Result<()> {
        let case = self.case;
        let workspace = case.path("project/workspace");
        case.make("project/workspace", 1, without)?;
        Canary::set(&case.path("project/outside"), case.user)?;
        case.script(
            "import os, sys; os.symlink(sys.argv[1], os.path.join(sys.argv[2], 'outward'))",
            &[&case.path("project/outside"), &workspace],
        )?;
        case.must("project", &["init"])?;
        if self.kept == Kept::All {
            case.script(
                "import sys; open(sys.argv[1], 'a').write(sys.argv[2])",
                &[&workspace.join("evoseal.toml"), KEEP_ALL.as_ref()],
            )?;
        }
        case.describe("project", "first")?;
        case.must("project", &["checkpoint", "create", "v1"])?;
        let by_capture = case.compare("first", "project")?;
        let by_capture = by_capture.into_iter().filter(|found| !is_own(&found.path) && !is_root_time(found));
        self.count(Judged::of("changed by the capture", by_capture, |_| false));

        case.script(DAMAGE, &[&workspace])?;
        case.script(MORE_DAMAGE, &[&workspace, &case.path("project/outside")])?;
        self.there_and_back("every kind of edit")?;
        if self.kept == Kept::All && !is_smoke {
            case.make("other/workspace", 2, without)?;
            case.script(REPLACE, &[&workspace, &case.path("other/workspace")])?;
            self.there_and_back("another tree")?;
        }
        case.must("project", &["checkpoint", "verify"])
    }

    /// Back to the first tree, to the changed one, and to the first one again.
    fn there_and_back(&mut self, change: &str) -> Result<()> {
        self.case.describe("project", "changed")?;
        let differing = self.case.compare("first", "changed")?;
        let differing: BTreeSet<String> =
            differing.into_iter().flat_map(|found| with_folders(&found.path)).collect();
        for (to, model) in [("v1", "first"), ("--undo", "changed"), ("v1", "first")] {
            let when = format!("{}, {:?}, {change}, rollback {to}", self.mode.name, self.kept);
            let canary = Canary::set(&self.case.path("project/outside"), self.case.user)?;
            if let Err(error) = self.case.evoseal("project", &self.mode.rollback(to))? {
                self.counts.unlisted += 1;
                self.failures.push(format!("{when}: {error}"));
                return Ok(());
            }
            self.counts.done += 1;
            if let Some(what) = canary.touched()? {
                self.counts.escaped += 1;
                self.failures.push(format!("{when}: the canary outside the tree {what}"));
            }
            let judged = self.compare(&when, model, &differing)?;
            self.count(judged);
        }
        Ok(())
    }

    /// The differences between the project and the model after a rollback.
    fn compare(&self, when: &str, model: &str, differing: &BTreeSet<String>) -> Result<Judged> {
        let versioned = self.case.compare(model, "project")?;
        let versioned = versioned.into_iter().filter(|found| self.is_versioned(&found.path));
        let others = self.case.compare("changed", "project")?;
        let others = others
            .into_iter()
            .filter(|found| !self.is_versioned(&found.path) && !is_own(&found.path) && !is_root_time(found));
        let is_changed = |path: &str| differing.contains(path);
        let mut all: Vec<Difference> = versioned.chain(others).collect();
        // What is written anew has a new time, so that build tools notice; what is the same in both trees has not.
        all.retain(|found| found.class != "mtime_ns" || !is_changed(&found.path));
        if self.kept == Kept::Default {
            all.retain(|found| found.class != "xattrs" || !is_changed(&found.path));
        }
        for found in &mut all {
            if let Some(path) = found.path.strip_prefix("workspace/") {
                found.path = path.to_owned();
            }
        }
        // What a rollback took away has been saved, and an undone one brings it back.
        let is_undone = model == "changed";
        let is_allowed =
            |found: &Difference| is_allowed_in_rollback(found) && !(is_undone && found.class == "missing");
        Ok(Judged::of(when, all, is_allowed))
    }

    /// Whether versions hold what is at a path of the project.
    fn is_versioned(&self, path: &str) -> bool {
        let Some(inside) = path.strip_prefix("workspace/") else { return false };
        let ignored = if self.kept == Kept::Default { IGNORED } else { &[] };
        !is_own(path) && !UNHELD.iter().chain(ignored).any(|folder| inside.starts_with(folder))
    }

    fn count(&mut self, judged: Judged) {
        self.counts.listed += judged.listed;
        self.counts.unlisted += judged.unlisted.len();
        self.failures.extend(judged.unlisted);
    }
}

/// Whether a path of the project is one of our own.
fn is_own(path: &str) -> bool {
    path.strip_prefix("workspace/.evoseal").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The time at which a name came into the workspace or went.
fn is_root_time(found: &Difference) -> bool {
    found.path == "workspace" && found.class == "mtime_ns"
}

/// A path and those of the folders that it is in.
fn with_folders(path: &str) -> Vec<String> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(folder, _)| folder))
        .map(str::to_owned)
        .collect()
}
