//! `cargo xtask crash torn`: un-synced writes dropped, reordered and torn, thousands of times.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use evoseal_tests::measure::table;
use evoseal_tests::random::Random;
use serde::Serialize;

use crate::machine::{Missing, copy_tree, output, remove_tree, scratch, skip_missing};
use crate::report::{Findings, Tally, complain, exit, print, print_failures, write_json};
use crate::rolled_back::ROLLBACKS;
use crate::scenario::{SCENARIOS, Scenario};
use crate::simulated::{Recording, Syncs};
use crate::strace::{self, strace, trace_data};
use crate::victim::{audit, operate};
use crate::{Result, known};

const WORKERS: usize = 2;
const STATES: u64 = 6_000;
const SMOKE_STATES: u64 = 150;
/// Of so many states, the control without any sync must have bad ones.
const CONTROL_STATES: u64 = 300;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A few states.
    #[arg(long)]
    smoke: bool,
    /// How many states to try, each from a seed of its own.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first seed; with `--seeds 1`, one state that failed before.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only operations whose name contains this; which state a seed stands for depends on it.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// An operation and what it did to the disk.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) scenario: &'static Scenario,
    pub(crate) recording: Recording,
}

#[derive(Debug, Serialize)]
struct Figures {
    first_seed: u64,
    states: Tally,
    /// With all syncs left out: what must go wrong.
    control: Tally,
    failures: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    skip_missing(arguments.smoke, "crash torn", try_run(arguments))
}

fn try_run(arguments: &Arguments) -> Result<ExitCode> {
    let scratch = scratch()?;
    let recorded = record_all(scratch.path(), arguments.only.as_deref())?;
    if recorded.is_empty() {
        return Err("no operation has such a name".into());
    }
    let count = arguments.seeds.unwrap_or(if arguments.smoke { SMOKE_STATES } else { STATES });
    complain(&format!("{count} states of {} operations", recorded.len()));
    let seeds = arguments.seed..arguments.seed.saturating_add(count);
    let (states, failures) = campaign(scratch.path(), &recorded, seeds, Syncs::Kept)?;
    // A seed that is looked at again needs no control.
    let control = if count < SMOKE_STATES { 0 } else { CONTROL_STATES.min(count) };
    let (control, _) = campaign(scratch.path(), &recorded, 1..control + 1, Syncs::AllLeftOut)?;
    let figures = Figures { first_seed: arguments.seed, states, control, failures };
    let row = |name: &str, tally: &Tally| {
        let numbers = [tally.tried, tally.lost, tally.mixed, tally.blocked, tally.completed];
        std::iter::once(name.to_owned()).chain(numbers.map(|number| number.to_string())).collect()
    };
    let rows = [row("as it is", &figures.states), row("control: no sync at all", &figures.control)];
    print(&table(&["states", "tried", "lost", "mixed", "blocked", "completed by the next"], &rows));
    print(&format!("seeds from {}", arguments.seed));
    print_failures(&figures.failures);
    known::show(figures.states.known);
    write_json(arguments.json.as_deref(), &figures)?;
    let control_bites = figures.control.tried == 0 || !figures.control.is_clean();
    if !control_bites {
        print("the control went well: these states prove nothing");
    }
    Ok(exit(figures.states.is_clean() && control_bites))
}

/// Does every operation once and records what it did to the disk.
pub(crate) fn record_all(folder: &Path, only: Option<&str>) -> Result<Vec<Recorded>> {
    strace::need()?;
    let mut recorded = Vec::new();
    let is_wanted = |scenario: &&Scenario| only.is_none_or(|only| scenario.name.contains(only));
    for scenario in SCENARIOS.iter().chain(ROLLBACKS).filter(is_wanted) {
        let base = folder.join("recorded.base");
        let place = folder.join("recorded");
        scenario.prepare(&base)?;
        copy_tree(&base, &place)?;
        remove_tree(&base)?;
        let log = folder.join("recorded.log");
        let recording = Recording::of(&place, || {
            let mut command = strace(0, &log);
            command
                .args(["-xx", "-s", "16777216", "-e", &trace_data()])
                .args(operate(&place, scenario.arguments)?);
            output(&mut command)?;
            Ok(log.clone())
        });
        let recording = recording.map_err(|error| format!("{}: {error}", scenario.name))?;
        remove_tree(&place)?;
        recorded.push(Recorded { scenario, recording });
    }
    Ok(recorded)
}

fn campaign(
    folder: &Path,
    recorded: &[Recorded],
    seeds: std::ops::Range<u64>,
    syncs: Syncs,
) -> Result<(Tally, Vec<String>)> {
    let found = Mutex::new((Tally::default(), Vec::new()));
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (found, next) = (&found, &next);
                let place = folder.join(format!("state{worker}"));
                scope.spawn(move || -> Result<()> {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return Ok(());
                        }
                        let one = &recorded[usize::try_from(seed % recorded.len() as u64)?];
                        let (completed, mut findings) = try_state(&place, one, seed, syncs)?;
                        let mut found = found.lock().map_err(|_| "a worker panicked")?;
                        found.0.count(one.scenario.name, &mut findings);
                        found.0.points += 1;
                        found.0.completed += usize::from(completed);
                        let lines = findings.lines();
                        found.1.extend(
                            lines.iter().map(|line| format!("{}, seed {seed}: {line}", one.scenario.name)),
                        );
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })?;
    let (tally, mut failures) = found.into_inner().map_err(|_| Missing("a worker panicked".to_owned()))?;
    failures.sort();
    Ok((tally, failures))
}

/// Makes the state that a seed stands for and lets the next commands run on it: in a process of their own, since a lock that
/// one thread holds is for a moment held by a process that another thread starts.
pub(crate) fn try_state(
    place: &Path,
    recorded: &Recorded,
    seed: u64,
    syncs: Syncs,
) -> Result<(bool, Findings)> {
    let mut random = Random::new(seed);
    let all = recorded.recording.len();
    // The end is where something was acknowledged: it deserves more than its share. So does the moment after a name was
    // changed, which is where a tree takes the place of another.
    let renamed = recorded.recording.renamed();
    let done = if random.percent(40) {
        all
    } else if random.percent(30) && !renamed.is_empty() {
        renamed[random.below(renamed.len())]
    } else {
        random.below(all + 1)
    };
    remove_tree(place)?;
    recorded.recording.materialise(done, syncs, &mut random, place)?;
    audit(place, done == all)
}
