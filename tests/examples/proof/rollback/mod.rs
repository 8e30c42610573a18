//! `cargo xtask crash rollback`: a rollback that is killed, or that fails, at every state-changing call, and then a recovery
//! that is killed as well.
//!
//! A rollback by exchange is looked at right after the fault, too: nobody may ever see anything but the old tree or the new one.
//!
//! After each fault the *next start* runs: the program for the program's rollback, [`evoseal_rollback::Rollback::recover`] for
//! the library's. The next start asks for nothing that could be done: `evoseal rollback` without a target, in a project in
//! which no version is known to be good, completes what was cut off and then refuses. So what is there afterwards is the work
//! of recovery alone, and must be the old tree or the new one.

mod judge;
mod library;
mod model;
mod point;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use evoseal_tests::measure::table;
use evoseal_tests::random::Random;
use serde::Serialize;

use crate::Result;
use crate::crash::shuffle;
use crate::machine::{copy_tree, remove_tree, scratch, skip_missing};
use crate::report::{complain, exit, print, print_failures, write_json};
use crate::rollback::judge::{Judged, judge};
use crate::rollback::model::{Model, prepare, start_from};
use crate::rollback::point::{ATTEMPTS, OPERATIONS, Operation, Point, points_of};
use crate::strace;
use crate::victim::{End, Fault, PROGRAM, program, trace_to};

pub(crate) use crate::rollback::library::by_library;

/// Rollbacks at a time; each keeps to one processor.
const WORKERS: usize = 2;
/// Kills in the recovery from one and the same crash.
const KILLS_IN_RECOVERY: usize = 6;
/// Points of a smoke run for each kind of fault in each operation, drawn from all.
const SMOKE_POINTS: usize = 4;
/// Pairs of a smoke run.
const SMOKE_PAIRS: usize = 6;
/// Points that were not reached, of which so many are named on the terminal.
const MISSED_SHOWN: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A few points and pairs, drawn by the seed.
    #[arg(long)]
    smoke: bool,
    /// What points and pairs are drawn by.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// At most so many points, drawn by the seed [default: all].
    #[arg(long, value_name = "N")]
    points: Option<usize>,
    /// How many pairs of crashes: one in a rollback, one in the recovery from it.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pairs: usize,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What came of the points of one kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Counts {
    points: usize,
    tried: usize,
    missed: usize,
    old: usize,
    new: usize,
    mixed: usize,
    blocked: usize,
    lost: usize,
    /// Left half-way, and put in order by the next start.
    completed: usize,
}

#[derive(Debug, Default, Serialize)]
struct Figures {
    seed: u64,
    counts: BTreeMap<String, Counts>,
    failures: Vec<String>,
    /// The points that no attempt reached.
    missed: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    skip_missing(arguments.smoke, "crash rollback", try_run(arguments))
}

fn try_run(arguments: &Arguments) -> Result<ExitCode> {
    strace::need()?;
    program()?;
    let scratch = scratch()?;
    let folder = scratch.path();
    let model = prepare(&folder.join("base"))?;
    let mut figures = Figures { seed: arguments.seed, ..Figures::default() };
    let mut points = Vec::new();
    for operation in OPERATIONS {
        points.extend(undisturbed(folder, operation, &model)?);
    }
    for point in &points {
        figures.counts.entry(point.kind()).or_default().points += 1;
    }
    shuffle(&mut points, arguments.seed);
    let crashes: Vec<Point> = points.iter().filter(|point| point.fault == Fault::Kill).cloned().collect();
    let pairs = if arguments.smoke { SMOKE_PAIRS } else { arguments.pairs };
    if arguments.smoke {
        let mut drawn: BTreeMap<String, usize> = BTreeMap::new();
        points.retain(|point| {
            let drawn = drawn.entry(point.kind()).or_default();
            *drawn += 1;
            *drawn <= SMOKE_POINTS
        });
    }
    points.truncate(arguments.points.unwrap_or(usize::MAX));
    complain(&format!("{} points, {pairs} pairs, seed {}", points.len(), arguments.seed));

    let figures = Mutex::new(figures);
    in_parallel(&points, |worker, point| {
        let base = folder.join("base");
        let judged = match point.strike(folder, worker, &base, point.operation.rollback)? {
            Some((place, end)) => Some(judge(&place, end, point.operation, &model)?),
            None => None,
        };
        note(&figures, point.kind(), &point.to_string(), judged);
        Ok(())
    })?;
    let tried = AtomicUsize::new(0);
    // Where one crash is too much already, two of them tell nothing more, and may leave nothing to recover from.
    let is_clean = figures.lock().is_ok_and(|figures| figures.failures.is_empty());
    let crashes = if is_clean { crashes } else { Vec::new() };
    // Many crashes leave nothing to recover from; there are more than enough others.
    in_parallel(&crashes, |worker, crash| {
        let left = pairs.saturating_sub(tried.load(Ordering::Relaxed));
        let done = try_pairs(folder, worker, crash, left, arguments.seed, &model, &figures)?;
        tried.fetch_add(done, Ordering::Relaxed);
        Ok(())
    })?;
    let figures = figures.into_inner().map_err(|_| "a worker panicked")?;
    // A proof in which nothing is struck, or nothing is ever left half-way, proves nothing.
    let is_each_tried = figures.counts.values().all(|counts| counts.tried > 0);
    let is_completed = figures.counts.values().any(|counts| counts.completed > 0);
    let is_enough = tried.into_inner() >= pairs && (arguments.smoke || is_each_tried && is_completed);
    if !is_enough {
        complain("too few points were reached");
    }
    show(&figures, arguments, is_enough)
}

/// Lets workers take the points, one after another.
fn in_parallel(points: &[Point], work: impl Fn(usize, &Point) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (next, work) = (&next, &work);
                scope.spawn(move || -> Result<()> {
                    while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                        work(worker, point)?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })
}

/// Lets an operation run through, which must end in the new tree, and lists its points.
fn undisturbed(folder: &Path, operation: Operation, model: &Model) -> Result<Vec<Point>> {
    let place = start_from(folder, 0, &folder.join("base"))?;
    let log = folder.join("log0");
    let found = trace_to(0, &place, operation.rollback, &log, End::Acknowledged)?;
    let (_, _, findings) = judge(&place, End::Acknowledged, operation, model)?;
    if !findings.is_clean() {
        return Err(format!("undisturbed, {}: {}", operation.name, findings.lines().join("; ")).into());
    }
    Ok(points_of(operation, &found))
}

/// Crashes once, and then in the recovery from it, at points drawn by the seed. Says how many pairs were tried.
fn try_pairs(
    folder: &Path,
    worker: usize,
    crash: &Point,
    left: usize,
    seed: u64,
    model: &Model,
    figures: &Mutex<Figures>,
) -> Result<usize> {
    let operation = crash.operation;
    let crashed = folder.join(format!("crashed{worker}"));
    if left == 0 {
        return Ok(0);
    }
    let struck = crash.strike(folder, worker, &folder.join("base"), operation.rollback)?;
    let Some((place, _)) = struck else { return Ok(0) };
    if !place.join("workspace/.evoseal/rollback/intent").exists() {
        return Ok(0);
    }
    remove_tree(&crashed)?;
    copy_tree(&place, &crashed)?;
    let place = start_from(folder, worker, &crashed)?;
    let end = if operation.next[0] == PROGRAM { End::Refused } else { End::Acknowledged };
    let calls = trace_to(worker, &place, operation.next, &folder.join(format!("log{worker}")), end)?;
    let mut kills = points_of(operation, &calls);
    kills.retain(|point| point.fault == Fault::Kill);
    let mut random = Random::new(seed ^ crash.noise());
    let mut tried = 0;
    for _ in 0..KILLS_IN_RECOVERY.min(left).min(kills.len()) {
        let kill = kills.swap_remove(random.below(kills.len()));
        let judged = match kill.strike(folder, worker, &crashed, operation.next)? {
            Some((place, end)) => Some(judge(&place, end, operation, model)?),
            None => None,
        };
        tried += usize::from(judged.is_some());
        let what = format!("{crash}, then {} at {}", kill.fault.name(), kill.spot);
        note(figures, format!("{}, pair", operation.name), &what, judged);
    }
    Ok(tried)
}

/// Counts what came of a point; nothing came of one that was not reached.
fn note(figures: &Mutex<Figures>, kind: String, what: &str, judged: Option<Judged>) {
    let mut figures = figures.lock().expect("no worker panics while it counts");
    let counts = figures.counts.entry(kind).or_default();
    let Some((is_half_way, is_new, findings)) = judged else {
        counts.missed += 1;
        figures.missed.push(what.to_owned());
        return;
    };
    counts.tried += 1;
    counts.old += usize::from(is_new == Some(false));
    counts.new += usize::from(is_new == Some(true));
    counts.mixed += usize::from(!findings.mixed.is_empty());
    counts.blocked += usize::from(!findings.blocked.is_empty());
    counts.lost += usize::from(!findings.lost.is_empty());
    counts.completed += usize::from(is_half_way && findings.is_clean());
    figures.failures.extend(findings.lines().into_iter().map(|line| format!("{what}: {line}")));
}

fn show(figures: &Figures, arguments: &Arguments, is_enough: bool) -> Result<ExitCode> {
    let cells = |counts: &Counts| {
        let Counts { points, tried, missed, old, new, mixed, blocked, lost, completed } = *counts;
        [points, tried, missed, old, new, mixed, blocked, lost, completed]
            .map(|number| number.to_string())
            .to_vec()
    };
    let rows: Vec<Vec<String>> =
        figures.counts.iter().map(|(kind, counts)| [vec![kind.clone()], cells(counts)].concat()).collect();
    let headings = [
        "rollback by",
        "points",
        "tried",
        "not reached",
        "old",
        "new",
        "mixed",
        "blocked",
        "lost",
        "half-way before",
    ];
    print(&table(&headings, &rows));
    print(&format!("seed {}", figures.seed));
    // All of them are in the JSON.
    for missed in figures.missed.iter().take(MISSED_SHOWN) {
        print(&format!("  not reached in {ATTEMPTS} attempts: {missed}"));
    }
    if let Some(more) = figures.missed.len().checked_sub(MISSED_SHOWN).filter(|more| *more > 0) {
        print(&format!("  and {more} more"));
    }
    print_failures(&figures.failures);
    write_json(arguments.json.as_deref(), figures)?;
    Ok(exit(figures.failures.is_empty() && is_enough))
}
