//! `cargo xtask crash power`: the power goes after each acknowledgement, and at each change before it.
//!
//! On images of real file systems: the file system is shut down without writing its log, unmounted and mounted again. The
//! second half is the proof that this finds anything, an *ablation*: each sync of ours is left out alone, by a system call
//! that says that it succeeded and does nothing, and some case must turn red. File systems that keep one journal in order
//! hide some missing syncs behind later ones; for these the same operation is replayed on the
//! [simulated](crate::simulated) file system, which promises only what POSIX does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use evoseal_tests::measure::table;
use serde::Serialize;

use crate::crash::shuffle;
use crate::machine::{
    FileSystem, Mounted, copy_tree, need_program, remove_tree, run as run_program, scratch, skip_missing,
};
use crate::report::{Findings, Tally, complain, exit, print, print_failures, write_json};
use crate::rolled_back::{PROGRAM_ROLLBACKS, ROLLBACKS};
use crate::scenario::{SCENARIOS, Scenario};
use crate::simulated::Syncs;
use crate::strace::{self, Call, SYNCS};
use crate::torn::{Recorded, record_all, try_state};
use crate::victim::{End, Fault, audit, inject, program, trace};
use crate::{Result, known};

const KINDS: [FileSystem; 2] = [FileSystem::Ext4, FileSystem::Xfs];
/// Room for every operation here.
const SIZE_BYTES: u64 = 128 << 20;
/// The operations of a smoke run: one of each sort.
const SMOKE_OPERATIONS: [&str; 7] = [
    "first checkpoint",
    "checkpoint, changes",
    "restore, in place, few",
    "delete the oldest",
    "rollback",
    "rollback, exchange",
    "evoseal rollback, exchange",
];
/// Kills before the cut, for each operation and file system of a smoke run.
const SMOKE_KILLS: usize = 1;
/// States of the simulated file system in which a missing sync must show.
const SIMULATED_STATES: u64 = 400;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One kill for each operation, and no ablation.
    #[arg(long)]
    smoke: bool,
    /// What a smoke run draws from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only operations whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Figures {
    seed: u64,
    /// By file system: power cuts after the acknowledgement, and after a kill.
    cuts: BTreeMap<FileSystem, BTreeMap<&'static str, Tally>>,
    ablation: Vec<Ablated>,
    failures: Vec<String>,
}

/// One sync of one operation, left out.
#[derive(Debug, Serialize)]
struct Ablated {
    operation: &'static str,
    /// The call and what it syncs, names that differ from run to run left open.
    sync: String,
    /// Which of that name in the operation, as strace counts.
    ordinal: usize,
    /// Where a case turned red, and how.
    red: BTreeMap<&'static str, String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    skip_missing(arguments.smoke, "crash power", try_run(arguments))
}

fn try_run(arguments: &Arguments) -> Result<ExitCode> {
    strace::need()?;
    program()?;
    need_program("xfs_io", "xfsprogs")?;
    KINDS.into_iter().try_for_each(FileSystem::need)?;
    let scratch = scratch()?;
    let folder = scratch.path();
    let mut figures =
        Figures { seed: arguments.seed, cuts: BTreeMap::new(), ablation: Vec::new(), failures: Vec::new() };
    let recorded = if arguments.smoke { Vec::new() } else { record_all(folder, arguments.only.as_deref())? };
    let is_wanted = |scenario: &Scenario| {
        if arguments.smoke && arguments.only.is_none() && !SMOKE_OPERATIONS.contains(&scenario.name) {
            return false;
        }
        arguments.only.as_ref().is_none_or(|only| scenario.name.contains(only.as_str()))
    };
    let all = SCENARIOS.iter().chain(ROLLBACKS).chain(PROGRAM_ROLLBACKS);
    for scenario in all.filter(|scenario| is_wanted(scenario)) {
        complain(scenario.name);
        let base = folder.join("base");
        remove_tree(&base)?;
        scenario.prepare(&base)?;
        let place = folder.join("traced");
        copy_tree(&base, &place)?;
        let calls = trace(0, &place, scenario.arguments, &folder.join("log"))?;
        remove_tree(&place)?;
        let mut table = Vec::new();
        for kind in KINDS {
            let case = Case { kind, folder, base: &base, scenario };
            case.cuts(&calls, arguments, &mut figures)?;
            // What the program syncs besides (its own logs) is no part of what is proved here.
            if !arguments.smoke && !scenario.is_by_program() {
                case.ablation(&calls, &mut table)?;
            }
        }
        if let Some(recorded) = recorded.iter().find(|recorded| recorded.scenario.name == scenario.name) {
            simulated_ablation(folder, recorded, &mut table)?;
        }
        figures.ablation.extend(table);
    }
    show(&figures, arguments)
}

/// One operation on one file system.
struct Case<'a> {
    kind: FileSystem,
    folder: &'a Path,
    base: &'a Path,
    scenario: &'static Scenario,
}

impl Case<'_> {
    /// A fresh file system with the state before the operation on it, durable.
    fn fresh(&self) -> Result<(Mounted, PathBuf)> {
        let mounted = Mounted::new(self.kind, SIZE_BYTES, self.folder)?;
        let place = mounted.folder().join("place");
        copy_tree(self.base, &place)?;
        run_program("sync", ["--file-system".as_ref(), mounted.folder().as_os_str()])?;
        Ok((mounted, place))
    }

    /// The operation with a fault in it, or whole; then the cut; then the next commands.
    fn try_cut(&self, fault: Option<(Fault, &str, usize)>) -> Result<Option<(bool, Findings)>> {
        let (mounted, place) = self.fresh()?;
        let log = self.folder.join("log");
        let (end, is_reached) = match fault {
            Some(fault) => inject(0, &place, self.scenario.arguments, fault, &log)?,
            None => (crate::victim::finish(&mut operation(&place, self.scenario)?)?, true),
        };
        mounted.power_cut()?;
        if !is_reached {
            return Ok(None);
        }
        let (completed, mut findings) = audit(&place, end == End::Acknowledged)?;
        match (end, fault) {
            (End::Acknowledged, None | Some((Fault::LeftOut, ..)))
            | (End::Killed, Some((Fault::Kill, ..))) => {}
            _ => findings.blocked(format!("it ended as {end:?}")),
        }
        Ok(Some((completed, findings)))
    }

    fn cuts(&self, calls: &[Call], arguments: &Arguments, figures: &mut Figures) -> Result<()> {
        let mut kills: Vec<&Call> = calls.iter().filter(|call| call.is_change).collect();
        shuffle(&mut kills, arguments.seed);
        let points = kills.len();
        kills.truncate(if arguments.smoke { SMOKE_KILLS } else { usize::MAX });
        let cases = std::iter::once(None)
            .chain(kills.iter().map(|call| Some((Fault::Kill, call.name.as_str(), call.ordinal))));
        for fault in cases {
            let tried = self.try_cut(fault)?;
            let column = if fault.is_some() { "killed, then cut" } else { "acknowledged, then cut" };
            let tally = figures.cuts.entry(self.kind).or_default().entry(column).or_default();
            let Some((completed, mut findings)) = tried else { continue };
            tally.count(self.scenario.name, &mut findings);
            tally.completed += usize::from(completed);
            let what = fault.map_or("acknowledged".to_owned(), |(_, name, ordinal)| {
                format!("killed at {name} {ordinal}")
            });
            let said =
                |line: &String| format!("{} on {}, {what}: {line}", self.scenario.name, self.kind.name());
            figures.failures.extend(findings.lines().iter().map(said));
        }
        let tallies = figures.cuts.entry(self.kind).or_default();
        tallies.entry("acknowledged, then cut").or_default().points += 1;
        tallies.entry("killed, then cut").or_default().points += points;
        Ok(())
    }

    /// Leaves out each sync alone.
    fn ablation(&self, calls: &[Call], table: &mut Vec<Ablated>) -> Result<()> {
        // Where nothing left out is red already, red says nothing about what is left out.
        let is_sound = self.try_cut(None)?.is_some_and(|(_, findings)| findings.is_clean());
        let syncs: Vec<&Call> = calls.iter().filter(|call| SYNCS.contains(&call.name.as_str())).collect();
        for (number, call) in syncs.into_iter().enumerate() {
            if table.len() <= number {
                let sync = open_names(&format!("{} {}", call.name, path_of(&call.arguments)));
                table.push(Ablated {
                    operation: self.scenario.name,
                    sync,
                    ordinal: call.ordinal,
                    red: BTreeMap::new(),
                });
            }
            let tried = self.try_cut(Some((Fault::LeftOut, &call.name, call.ordinal)))?;
            let line = tried.and_then(|(_, findings)| findings.lines().into_iter().next());
            if let Some(line) = line.filter(|_| is_sound) {
                table[number].red.insert(self.kind.name(), line);
            }
        }
        Ok(())
    }
}

/// The whole operation, to be started.
fn operation(place: &Path, scenario: &Scenario) -> Result<Command> {
    let words = crate::victim::operate(place, scenario.arguments)?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    Ok(command)
}

/// Replays the operation without one sync until some state is bad.
fn simulated_ablation(folder: &Path, recorded: &Recorded, table: &mut [Ablated]) -> Result<()> {
    let place = folder.join("simulated");
    for (number, ablated) in table.iter_mut().enumerate() {
        for seed in 1..=SIMULATED_STATES {
            let (_, findings) = try_state(&place, recorded, seed, Syncs::LeftOut(number))?;
            let line = findings.lines().into_iter().next();
            let is_sound = || try_state(&place, recorded, seed, Syncs::Kept).map(|(_, kept)| kept.is_clean());
            if let Some(line) = line
                && is_sound()?
            {
                ablated.red.insert("simulated", format!("seed {seed}: {line}"));
                break;
            }
        }
    }
    remove_tree(&place)
}

/// The path in the descriptor of a call such as `5</store/tmp>)`.
fn path_of(arguments: &str) -> &str {
    arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path)
}

/// Names that are digests or numbers differ from run to run.
fn open_names(path: &str) -> String {
    let is_open = |part: &str| part.len() > 20 || part.chars().filter(char::is_ascii_digit).count() > 3;
    path.split('/').map(|part| if is_open(part) { "…" } else { part }).collect::<Vec<_>>().join("/")
}

fn show(figures: &Figures, arguments: &Arguments) -> Result<ExitCode> {
    let mut total = Tally::default();
    let mut rows = Vec::new();
    for (kind, columns) in &figures.cuts {
        for (column, tally) in columns {
            total.add(tally);
            let numbers =
                [tally.tried, tally.points, tally.lost, tally.mixed, tally.blocked, tally.completed];
            let row = [kind.name().to_owned(), (*column).to_owned()].into_iter();
            rows.push(row.chain(numbers.map(|number| number.to_string())).collect());
        }
    }
    let headings =
        ["file system", "power cut", "tried", "points", "lost", "mixed", "blocked", "completed by the next"];
    print(&table(&headings, &rows));
    print(&format!("seed {}", figures.seed));
    print_failures(&figures.failures);
    known::show(total.known);
    let mut sites: BTreeMap<&str, bool> = BTreeMap::new();
    let mut rows = Vec::new();
    for ablated in &figures.ablation {
        *sites.entry(&ablated.sync).or_default() |= !ablated.red.is_empty();
        let places = ablated.red.keys().copied().collect::<Vec<_>>().join(", ");
        let how =
            ablated.red.values().next().map_or("nowhere".to_owned(), |how| how.chars().take(70).collect());
        let row =
            [ablated.operation.to_owned(), ablated.sync.clone(), ablated.ordinal.to_string(), places, how];
        rows.push(row.to_vec());
    }
    // One sync may be needless where another operation has done its work; a sync that is needless everywhere is none of ours.
    let needless: Vec<&str> = sites.iter().filter(|(_, is_red)| !**is_red).map(|(site, _)| *site).collect();
    if arguments.smoke {
        print("ablation: not part of a smoke run");
    } else {
        print(&table(&["operation", "sync left out", "ordinal", "red on", "first case"], &rows));
        print(&format!(
            "{} syncs left out, of {} kinds; without a red case: {}",
            rows.len(),
            sites.len(),
            needless.len()
        ));
        print_failures(&needless.iter().map(|site| (*site).to_owned()).collect::<Vec<_>>());
    }
    write_json(arguments.json.as_deref(), figures)?;
    Ok(exit(total.is_clean() && needless.is_empty() && total.tried > 0))
}
