//! `cargo xtask evil`: a tree of everything that is known to break such tools, captured, restored, rolled back and compared.
//!
//! The tree is made, compared and disturbed by a generator that is no part of this repository (`--tool`). On every file
//! system, as root and as another user: capture it, restore it into an empty folder, damage it and restore it in place; and
//! through the program, in both modes of a rollback, change it in every way, roll it back and undo that. Then the tree is
//! disturbed while it is captured and restored: each snapshot is consistent or refused with a name for the reason. Last come
//! [things at the top](top) of a workspace that a rollback must not stumble over half-way. Nothing outside the tree is read
//! or changed.

mod canary;
mod case;
mod change;
mod project;
mod store;
mod top;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use evoseal_tests::measure::table;
use serde::Serialize;

use self::case::{Case, LEFT_OUT, Tools};
use crate::Result;
use crate::allowed::Difference;
use crate::machine::{FileSystem, Missing, Mounted, is_root, need_program, scratch, skip_missing};
use crate::report::{complain, exit, print, print_failures, write_json};
use crate::victim::program;

const KINDS: [FileSystem; 4] = [FileSystem::Tmpfs, FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs];
/// Room for a few copies of the tree.
const SIZE_BYTES: u64 = 1 << 30;
/// Nobody, under its usual number.
const OTHER_USER: u32 = 65534;
/// Kinds with entries that only root can read.
const UNREADABLE: [&str; 2] = ["modes", "ro-dirs"];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// On tmpfs only, two seconds of disturbance, and few rollbacks.
    #[arg(long)]
    smoke: bool,
    /// The generator, a Python program.
    #[arg(long, value_name = "FILE")]
    tool: Option<PathBuf>,
    /// Other folders to work in, besides images of tmpfs, ext4, xfs and btrfs.
    #[arg(long, value_name = "DIR")]
    fs: Vec<PathBuf>,
    /// For how long the tree is disturbed, on each file system.
    #[arg(long, default_value_t = 20, value_name = "N")]
    seconds: u64,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Figures<'a> {
    rounds: &'a BTreeMap<String, Round>,
    failures: &'a [String],
}

/// What one round gave, on one file system as one user.
#[derive(Debug, Default, Serialize)]
struct Round {
    entries: usize,
    /// What the capture said about entries that their owner may not read.
    unreadable: String,
    /// Differences between the tree and what was restored, by class; only those that stand in no list.
    unlisted: usize,
    listed: usize,
    snapshots: usize,
    refused: usize,
    torn: usize,
    /// The canary was read or changed.
    escaped: usize,
    rollbacks: BTreeMap<&'static str, Rollbacks>,
}

/// What the rollbacks of one round in one mode gave.
#[derive(Debug, Default, Serialize)]
struct Rollbacks {
    /// Those that worked.
    done: usize,
    /// Those that were refused or failed, with the workspace as it was before.
    refused: usize,
    /// By what was in the way: what was said the first time.
    reasons: BTreeMap<String, String>,
    listed: usize,
    /// Differences from the model that stand in no list.
    unlisted: usize,
    /// Those that left a workspace that was neither as before nor the version.
    half_way: usize,
    /// Those that read or changed something outside, or left something beside the workspace.
    escaped: usize,
}

/// Differences, judged by a list of those that are allowed.
#[derive(Debug, Default)]
struct Judged {
    listed: usize,
    unlisted: Vec<String>,
}

impl Judged {
    fn of(
        when: &str,
        differences: impl IntoIterator<Item = Difference>,
        is_allowed: impl Fn(&Difference) -> bool,
    ) -> Self {
        let mut judged = Self::default();
        for difference in differences {
            if is_allowed(&difference) {
                judged.listed += 1;
            } else {
                let Difference { class, path, what } = difference;
                judged.unlisted.push(format!("{when}: {class}: {path}: {what}"));
            }
        }
        judged
    }
}

impl Round {
    fn count(&mut self, judged: Judged, failures: &mut Vec<String>) {
        self.listed += judged.listed;
        self.unlisted += judged.unlisted.len();
        failures.extend(judged.unlisted);
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    skip_missing(arguments.smoke, "evil", try_run(arguments))
}

fn try_run(arguments: &Arguments) -> Result<ExitCode> {
    let tool =
        arguments.tool.as_ref().ok_or_else(|| Missing("no generator is given (--tool FILE)".to_owned()))?;
    need_program("python3", "python3")?;
    let scratch = scratch()?;
    // Another user must be able to get at what it works with.
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
    let [proof, evoseal, generator] =
        ["proof", "evoseal", "generator.py"].map(|name| scratch.path().join(name));
    fs::copy(std::env::current_exe()?, &proof)?;
    fs::copy(program()?, &evoseal)?;
    fs::copy(tool, &generator)?;
    let tools = Tools { proof, evoseal, generator, python: python() };
    let mut rounds: BTreeMap<String, Round> = BTreeMap::new();
    let mut failures = Vec::new();
    let users: &[Option<u32>] = if is_root() { &[None, Some(OTHER_USER)] } else { &[None] };
    let kinds = if arguments.smoke { &KINDS[..1] } else { &KINDS[..] };
    for kind in kinds {
        kind.need()?;
        let mounted = Mounted::new(*kind, SIZE_BYTES, scratch.path())?;
        for user in users {
            let name = format!("{} as {}", kind.name(), user.map_or("this user", |_| "another user"));
            one(&name, mounted.folder(), *user, &tools, arguments, &mut rounds, &mut failures)?;
        }
    }
    for folder in &arguments.fs {
        for user in users {
            let name = format!("{} as {}", folder.display(), user.map_or("this user", |_| "another user"));
            one(&name, folder, *user, &tools, arguments, &mut rounds, &mut failures)?;
        }
    }
    show(&rounds, &failures, arguments)
}

/// A Python that every user may run: one below somebody's home is not.
fn python() -> PathBuf {
    let system = PathBuf::from("/usr/bin/python3");
    if system.exists() { system } else { PathBuf::from("python3") }
}

fn one(
    name: &str,
    folder: &Path,
    user: Option<u32>,
    tools: &Tools,
    arguments: &Arguments,
    rounds: &mut BTreeMap<String, Round>,
    failures: &mut Vec<String>,
) -> Result<()> {
    complain(name);
    let place = tempfile::Builder::new().prefix("evil-").tempdir_in(folder)?;
    let case = Case { tools, place: place.path(), user };
    chown(place.path(), user, user)?;
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))?;
    let mut round = Round::default();
    let mut found = Vec::new();
    case.round_trip(&mut round, &mut found)?;
    let without: &[&str] = if round.unreadable.is_empty() { &[] } else { &UNREADABLE };
    case.rollbacks(without, arguments.smoke, &mut round.rollbacks, &mut found)?;
    case.tops(arguments.smoke, &mut round.rollbacks, &mut found)?;
    case.disturbed(if arguments.smoke { 2 } else { arguments.seconds }, &mut round, &mut found)?;
    failures.extend(found.into_iter().map(|failure| format!("{name}: {failure}")));
    rounds.insert(name.to_owned(), round);
    // Modes without rights and odd names are in the way of an ordinary removal.
    for part in fs::read_dir(place.path())? {
        let part = part?;
        if part.file_type()?.is_dir() {
            case.clean(&part.file_name().to_string_lossy())?;
        }
    }
    Ok(())
}

fn show(rounds: &BTreeMap<String, Round>, failures: &[String], arguments: &Arguments) -> Result<ExitCode> {
    let row = |(name, round): (&String, &Round)| {
        let numbers = [
            round.entries,
            round.unlisted,
            round.listed,
            round.snapshots,
            round.refused,
            round.torn,
            round.escaped,
        ];
        std::iter::once(name.clone()).chain(numbers.map(|number| number.to_string())).collect()
    };
    let rows: Vec<Vec<String>> = rounds.iter().map(row).collect();
    let headings =
        ["checkpoints", "entries", "unlisted", "listed", "snapshots", "refused", "torn", "escaped"];
    print(&table(&headings, &rows));
    let mut rows = Vec::new();
    let mut reasons: BTreeMap<(&str, &str), (usize, &str)> = BTreeMap::new();
    for (name, round) in rounds {
        for (mode, counts) in &round.rollbacks {
            let numbers = [
                counts.done,
                counts.refused,
                counts.unlisted,
                counts.listed,
                counts.half_way,
                counts.escaped,
            ];
            let row = std::iter::once(format!("{name}, {mode}"));
            rows.push(row.chain(numbers.map(|number| number.to_string())).collect());
            for (what, why) in &counts.reasons {
                reasons.entry((what, mode)).or_insert((0, why)).0 += 1;
            }
        }
    }
    print(&table(&["rollbacks", "done", "refused", "unlisted", "listed", "half-way", "escaped"], &rows));
    for ((what, mode), (count, why)) in reasons {
        print(&format!("{what}, {mode}: refused in {count} of {} rounds, such as: {why}", rounds.len()));
    }
    for (name, round) in rounds.iter().filter(|(_, round)| !round.unreadable.is_empty()) {
        print(&format!(
            "{name}: without {}, which are refused by name: {}",
            UNREADABLE.join(" and "),
            round.unreadable
        ));
    }
    for (kind, why) in LEFT_OUT {
        print(&format!("left out: {kind}: {why}"));
    }
    print_failures(failures);
    write_json(arguments.json.as_deref(), &Figures { rounds, failures })?;
    let is_clean = |round: &Round| {
        let rollbacks = round.rollbacks.values();
        let bad = rollbacks.map(|counts| counts.unlisted + counts.half_way + counts.escaped).sum::<usize>();
        round.unlisted + round.torn + round.escaped + bad == 0
    };
    Ok(exit(failures.is_empty() && rounds.values().all(is_clean)))
}
