//! `cargo xtask crash checkpoint`: killed at every file-system call, and each call failing in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use evoseal_tests::measure::table;
use serde::Serialize;

use crate::machine::{copy_tree, remove_tree, scratch, skip_missing};
use crate::report::{Findings, Tally, complain, exit, print, print_failures, write_json};
use crate::rolled_back::PROGRAM_ROLLBACKS;
use crate::scenario::{PROGRAM_SCENARIOS, SCENARIOS, Scenario, noise};
use crate::strace::{self, Call};
use crate::victim::{End, Fault, audit, inject, program, trace};
use crate::{Result, known};

/// Operations at a time; each keeps to one processor.
const WORKERS: usize = 2;
/// Points of a smoke run for each kind of fault in each operation, drawn from all.
const SMOKE_POINTS: usize = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A few points, drawn by the seed.
    #[arg(long)]
    smoke: bool,
    /// What a smoke run draws from, and the order of a full one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only operations whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One point: a fault in one call of one operation.
#[derive(Debug, Clone)]
struct Point {
    scenario: usize,
    fault: Fault,
    name: String,
    ordinal: usize,
}

#[derive(Debug, Serialize)]
struct Figures {
    seed: u64,
    total: Tally,
    operations: BTreeMap<&'static str, BTreeMap<&'static str, Tally>>,
    failures: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    skip_missing(arguments.smoke, "crash checkpoint", try_run(arguments))
}

fn try_run(arguments: &Arguments) -> Result<ExitCode> {
    strace::need()?;
    program()?;
    let scratch = scratch()?;
    let wanted = |scenario: &&Scenario| {
        arguments.only.as_ref().is_none_or(|only| scenario.name.contains(only.as_str()))
    };
    let all = SCENARIOS.iter().chain(PROGRAM_SCENARIOS).chain(PROGRAM_ROLLBACKS);
    let scenarios: Vec<&Scenario> = all.filter(wanted).collect();
    let mut points = Vec::new();
    let mut figures = Figures {
        seed: arguments.seed,
        total: Tally::default(),
        operations: BTreeMap::new(),
        failures: Vec::new(),
    };
    for (number, scenario) in scenarios.iter().enumerate() {
        let base = scratch.path().join(format!("base{number}"));
        scenario.prepare(&base)?;
        let place = scratch.path().join("traced");
        copy_tree(&base, &place)?;
        let calls = trace(0, &place, scenario.arguments, &scratch.path().join("log"))?;
        remove_tree(&place)?;
        let of = points_of(number, &calls, scenario.is_by_program());
        for point in &of {
            let tally =
                figures.operations.entry(scenario.name).or_default().entry(point.fault.name()).or_default();
            tally.points += 1;
        }
        points.extend(of);
    }
    shuffle(&mut points, arguments.seed);
    if arguments.smoke {
        let mut drawn: BTreeMap<(usize, Fault), usize> = BTreeMap::new();
        points.retain(|point| {
            let drawn = drawn.entry((point.scenario, point.fault)).or_default();
            *drawn += 1;
            *drawn <= SMOKE_POINTS
        });
    }
    complain(&format!("{} points in {} operations", points.len(), scenarios.len()));

    let figures = Mutex::new(figures);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (figures, next, points, scenarios) = (&figures, &next, &points, &scenarios);
                let folder = scratch.path();
                scope.spawn(move || -> Result<()> {
                    while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let tried = try_point(folder, worker, scenarios[point.scenario], point)?;
                        note(figures, scenarios[point.scenario], point, tried);
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })?;
    let mut figures = figures.into_inner().map_err(|_| "a worker panicked")?;
    show(&mut figures, arguments)
}

/// Kills at each change, fails each change with both errors, and fails each read with one: no read runs out of space.
fn points_of(scenario: usize, calls: &[Call], is_by_program: bool) -> Vec<Point> {
    let mut seen = BTreeSet::new();
    let mut points = Vec::new();
    for call in calls {
        let faults: &[Fault] =
            if call.is_change { &[Fault::Kill, Fault::Eio, Fault::Enospc] } else { &[Fault::Eio] };
        // The program's threads wake each other by `read` and `write`, which strace counts with those of files: an error
        // there would prove nothing but that the runtime waits for ever.
        let may_fail = !is_by_program || !matches!(call.name.as_str(), "read" | "write");
        for fault in faults.iter().filter(|fault| may_fail || **fault == Fault::Kill) {
            // Two threads may have a call of the same ordinal; strace cannot tell them apart.
            if seen.insert((call.name.clone(), call.ordinal, *fault)) {
                points.push(Point {
                    scenario,
                    fault: *fault,
                    name: call.name.clone(),
                    ordinal: call.ordinal,
                });
            }
        }
    }
    points
}

pub(crate) fn shuffle<T>(list: &mut [T], seed: u64) {
    let random = noise(seed, list.len() * 8);
    for (place, bytes) in random.chunks_exact(8).enumerate().skip(1) {
        let random = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let other = usize::try_from(random % (place as u64 + 1)).expect("no more than the length");
        list.swap(place, other);
    }
}

/// What came of a point: nothing if its call was not reached this time.
type Tried = Option<(End, bool, Findings)>;

fn try_point(folder: &Path, worker: usize, scenario: &Scenario, point: &Point) -> Result<Tried> {
    let place = folder.join(format!("place{worker}"));
    let log = folder.join(format!("log{worker}"));
    remove_tree(&place)?;
    copy_tree(&folder.join(format!("base{}", point.scenario)), &place)?;
    let fault = (point.fault, point.name.as_str(), point.ordinal);
    let (end, is_reached) = inject(worker, &place, scenario.arguments, fault, &log)?;
    if !is_reached && end != End::Hung {
        return Ok(None);
    }
    let (completed, mut findings) = audit(&place, end == End::Acknowledged)?;
    match end {
        End::Broken(code) => findings.blocked(format!("it ended with {code} instead of an error")),
        End::Hung => findings.blocked("it hangs"),
        End::Acknowledged | End::Refused | End::Killed => {}
    }
    Ok(Some((end, completed, findings)))
}

fn note(figures: &Mutex<Figures>, scenario: &Scenario, point: &Point, tried: Tried) {
    let Some((end, completed, mut findings)) = tried else { return };
    let mut figures = figures.lock().expect("no worker panics while it counts");
    let faults = figures.operations.entry(scenario.name).or_default();
    let tally = faults.entry(point.fault.name()).or_default();
    tally.count(scenario.name, &mut findings);
    tally.completed += usize::from(completed);
    if !findings.is_clean() {
        let [_, inject] = point.fault.expressions(&point.name, point.ordinal);
        for line in findings.lines() {
            figures.failures.push(format!("{} at {inject} ({end:?}): {line}", scenario.name));
        }
    }
}

fn show(figures: &mut Figures, arguments: &Arguments) -> Result<ExitCode> {
    let mut rows = Vec::new();
    for (operation, faults) in &figures.operations {
        for (fault, tally) in faults {
            figures.total.add(tally);
            rows.push(row(operation, fault, tally));
        }
    }
    rows.push(row("all", "", &figures.total));
    let headings =
        ["operation", "fault", "tried", "points", "lost", "mixed", "blocked", "completed by the next"];
    print(&table(&headings, &rows));
    print(&format!("seed {}", figures.seed));
    print_failures(&figures.failures);
    known::show(figures.total.known);
    write_json(arguments.json.as_deref(), figures)?;
    let is_enough = arguments.smoke || figures.total.tried > 0;
    Ok(exit(figures.total.is_clean() && is_enough))
}

fn row(operation: &str, fault: &str, tally: &Tally) -> Vec<String> {
    let numbers = [tally.tried, tally.points, tally.lost, tally.mixed, tally.blocked, tally.completed];
    [operation.to_owned(), fault.to_owned()]
        .into_iter()
        .chain(numbers.map(|number| number.to_string()))
        .collect()
}
