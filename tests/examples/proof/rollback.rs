//! `cargo xtask crash rollback`: a rollback that is killed, or that fails, at every state-changing call, and then a recovery
//! that is killed as well.
//!
//! After each fault the *next start* runs: the program for the program's rollback, [`Rollback::recover`] for the library's.
//! The next start asks for nothing that could be done: `evoseal rollback` without a target, in a project in which no version is
//! known to be good, completes what was cut off and then refuses. So what is there afterwards is the work of recovery
//! alone, and must be the old tree or the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use evoseal_checkpoint::{CheckpointStore, RestoreMode};
use evoseal_rollback::{
    Initiator, Rollback, RollbackManager, RollbackMode, RollbackRequest, RollbackSettings, Target,
};
use evoseal_tests::measure::table;
use evoseal_tests::random::Random;
use evoseal_types::SystemClock;
use serde::Serialize;

use crate::Result;
use crate::crash::shuffle;
use crate::look::{Look, difference, look};
use crate::machine::{copy_tree, remove_tree, scratch, skip_missing};
use crate::operate::{open, restore};
use crate::report::{Findings, complain, exit, print, print_failures, write_json};
use crate::scenario::{edit_more, first_tree, second_tree, write};
use crate::strace::{self, Call};
use crate::victim::{End, Fault, PROGRAM, evoseal, inject, operate, program, trace_to};

/// A rollback, and the next start that completes it.
const OPERATIONS: [Operation; 2] = [
    Operation { name: "program", rollback: &[PROGRAM, "rollback", "v1"], next: &[PROGRAM, "rollback"] },
    Operation { name: "library", rollback: &["rollback", "v1"], next: &["recover"] },
];
/// What the program says when it has completed what was cut off and has nothing else to do.
const NOTHING_TO_DO: &str = "no version is known to be good";
/// Rollbacks at a time; each keeps to one processor.
const WORKERS: usize = 2;
/// Kills in the recovery from one and the same crash.
const KILLS_IN_RECOVERY: usize = 6;
/// Points of a smoke run for each kind of fault in each operation, drawn from all.
const SMOKE_POINTS: usize = 4;
/// Pairs of a smoke run.
const SMOKE_PAIRS: usize = 6;
/// What no checkpoint holds, by the `.gitignore` of the tree.
const IGNORED: [&str; 3] = [".env", "cache", "src/module1/.env"];

#[derive(Debug, Clone, Copy)]
struct Operation {
    name: &'static str,
    rollback: &'static [&'static str],
    next: &'static [&'static str],
}

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

/// A fault in one call of one operation.
#[derive(Debug, Clone)]
struct Point {
    operation: Operation,
    fault: Fault,
    name: String,
    ordinal: usize,
}

/// What came of the points of one kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Counts {
    points: usize,
    tried: usize,
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
}

/// The trees that may be there.
#[derive(Debug)]
struct Model {
    old: Look,
    new: Look,
    /// What the old one holds and a checkpoint can.
    saved: Look,
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
        let place = start_from(folder, worker, &folder.join("base"))?;
        if let Some(end) = point.strike(worker, &place, point.operation.rollback)? {
            note(&figures, point.kind(), &format!("{point:?}"), judge(&place, end, point.operation, &model)?);
        }
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

/// A project with two checkpoints and work of a person since, with entries of every kind in all three states.
fn prepare(place: &Path) -> Result<Model> {
    let workspace = place.join("workspace");
    fs::create_dir_all(&workspace)?;
    evoseal(place, &["init"])?;
    write(&workspace, ".gitignore", ".env\ncache/\n")?;
    first_tree(&workspace)?;
    odd_names(&workspace, "first")?;
    write(&workspace, "linked/one", "one file, two names\n")?;
    fs::hard_link(workspace.join("linked/one"), workspace.join("linked/two"))?;
    symlink("src", workspace.join("to a folder"))?;
    sparse(&workspace.join("data/sparse"), 1 << 20)?;
    fs::create_dir_all(workspace.join("empty/in empty"))?;
    evoseal(place, &["checkpoint", "create", "v1"])?;
    let first = look_closely(&workspace)?;

    second_tree(&workspace)?;
    odd_names(&workspace, "second")?;
    fs::remove_file(workspace.join("linked/two"))?;
    write(&workspace, "linked/two", "a file of its own\n")?;
    fs::remove_file(workspace.join("to a folder"))?;
    symlink("nowhere", workspace.join("to a folder"))?;
    sparse(&workspace.join("data/sparse"), 1 << 19)?;
    fs::remove_dir(workspace.join("empty/in empty"))?;
    evoseal(place, &["checkpoint", "create", "v2"])?;

    edit_more(&workspace)?;
    write(&workspace, "notes of mine", "in no checkpoint\n")?;
    write(&workspace, "notes/of/mine", "neither\n")?;
    fs::hard_link(workspace.join("notes of mine"), workspace.join("notes/again"))?;
    for (number, name) in [".env", "src/module1/.env", "cache/deep/build.bin"].iter().enumerate() {
        write(&workspace, name, format!("ignored {number}\n"))?;
    }
    symlink("workspace/.evoseal/checkpoints", place.join("store"))?;
    let old = look_closely(&workspace)?;
    let (ignored, saved): (Look, Look) = old.clone().into_iter().partition(|(path, _)| is_ignored(path));
    if ignored.len() != 5 || first.keys().any(|path| is_ignored(path)) {
        return Err("the ignored files are not as they should be".into());
    }
    Ok(Model { old, new: first.into_iter().chain(ignored).collect(), saved })
}

fn is_ignored(path: &str) -> bool {
    IGNORED
        .iter()
        .any(|name| path == *name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
}

fn odd_names(workspace: &Path, text: &str) -> Result<()> {
    for name in ["-rf", " leading and trailing ", "new\nline", "tab\tquote\"'\\", "\u{fc}ml\u{e4}ut", "..."] {
        write(workspace, &format!("odd/{name}"), text)?;
    }
    Ok(fs::write(workspace.join("odd").join(OsStr::from_bytes(b"not \xff UTF-8")), text)?)
}

fn sparse(path: &Path, hole_bytes: u64) -> Result<()> {
    use std::io::{Seek as _, Write as _};
    let mut file = fs::File::create(path)?;
    file.seek(std::io::SeekFrom::Start(hole_bytes))?;
    Ok(file.write_all(b"behind the hole")?)
}

/// A look with the names that one file has.
fn look_closely(root: &Path) -> Result<Look> {
    let mut seen = look(root)?;
    let mut names: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                pending.extend((path != root.join(".evoseal")).then_some(path));
            } else if metadata.nlink() > 1 {
                let name = path.strip_prefix(root)?.as_os_str().as_bytes().escape_ascii().to_string();
                names.entry(metadata.ino()).or_default().push(name);
            }
        }
    }
    for group in names.values_mut() {
        group.sort();
        let all = format!(" as {group:?}");
        for name in group {
            seen.entry(name.clone()).and_modify(|text| text.push_str(&all));
        }
    }
    Ok(seen)
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

/// A kill and both errors at each change.
fn points_of(operation: Operation, calls: &[Call]) -> Vec<Point> {
    let mut seen = BTreeSet::new();
    let mut points = Vec::new();
    for call in calls.iter().filter(|call| call.is_change) {
        // Two threads may have a call of the same ordinal; strace cannot tell them apart.
        if !seen.insert((call.name.clone(), call.ordinal)) {
            continue;
        }
        // The runtime's threads wake each other by `write`, which strace counts with those of files: with an error there
        // the runtime waits for ever.
        let may_fail = call.name != "write";
        let faults = [Fault::Kill, Fault::Eio, Fault::Enospc];
        for fault in faults.into_iter().filter(|fault| may_fail || *fault == Fault::Kill) {
            points.push(Point { operation, fault, name: call.name.clone(), ordinal: call.ordinal });
        }
    }
    points
}

impl Point {
    fn kind(&self) -> String {
        format!("{}, {}", self.operation.name, self.fault.name())
    }

    /// Strikes a command at this point. Nothing if the call was not reached, or if the fault hit another thread's call of
    /// the same ordinal that is no file's: the runtime's threads wake each other by `write`.
    fn strike(&self, worker: usize, place: &Path, arguments: &[&str]) -> Result<Option<End>> {
        let log = place.with_file_name(format!("log{worker}"));
        let fault = (self.fault, self.name.as_str(), self.ordinal);
        let (end, is_reached) = inject(worker, place, arguments, fault, &log)?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let is_elsewhere = text.lines().any(|line| line.contains("INJECTED") && line.contains("anon_inode"));
        let is_hit = (is_reached || end == End::Hung) && !is_elsewhere;
        Ok(is_hit.then_some(end))
    }
}

/// A copy of a state for one worker.
fn start_from(folder: &Path, worker: usize, state: &Path) -> Result<PathBuf> {
    let place = folder.join(format!("place{worker}"));
    remove_tree(&place)?;
    copy_tree(state, &place)?;
    Ok(place)
}

/// Whether the place was left half-way, whether it is at the new tree, and what is wrong.
type Judged = (bool, Option<bool>, Findings);

/// Lets the next start run, and says what is there then.
fn judge(place: &Path, end: End, operation: Operation, model: &Model) -> Result<Judged> {
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
    next_start(place, operation, &mut findings)?;
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
    let ignored = |tree: &Look| -> Look {
        tree.iter()
            .filter(|(path, _)| is_ignored(path))
            .map(|(path, text)| (path.clone(), text.clone()))
            .collect()
    };
    if let Some(difference) = difference(&ignored(&found), &ignored(&model.old)) {
        findings.lost(format!("of the ignored files {difference}"));
    }
    if workspace.join(".evoseal/rollback/intent").exists() {
        findings.blocked("the next start leaves the rollback unfinished");
    }
    if is_new != Some(false) {
        check_saved(place, model, &mut findings);
    }
    Ok((left != model.old && left != model.new, is_new, findings))
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
    let place = start_from(folder, worker, &folder.join("base"))?;
    crash.strike(worker, &place, operation.rollback)?;
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
    let mut random = Random::new(seed ^ (crash.ordinal as u64) << 8 ^ crash.name.len() as u64);
    let mut tried = 0;
    for _ in 0..KILLS_IN_RECOVERY.min(left).min(kills.len()) {
        let kill = kills.swap_remove(random.below(kills.len()));
        let place = start_from(folder, worker, &crashed)?;
        let Some(end) = kill.strike(worker, &place, operation.next)? else { continue };
        let judged = judge(&place, end, operation, model)?;
        note(figures, format!("{}, pair", operation.name), &format!("{crash:?}, then {kill:?}"), judged);
        tried += 1;
    }
    Ok(tried)
}

fn note(figures: &Mutex<Figures>, kind: String, what: &str, (is_half_way, is_new, findings): Judged) {
    let mut figures = figures.lock().expect("no worker panics while it counts");
    let counts = figures.counts.entry(kind).or_default();
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
        let Counts { points, tried, old, new, mixed, blocked, lost, completed } = *counts;
        [tried, points, old, new, mixed, blocked, lost, completed].map(|number| number.to_string()).to_vec()
    };
    let rows: Vec<Vec<String>> =
        figures.counts.iter().map(|(kind, counts)| [vec![kind.clone()], cells(counts)].concat()).collect();
    let headings =
        ["rollback by", "tried", "points", "old", "new", "mixed", "blocked", "lost", "half-way before"];
    print(&table(&headings, &rows));
    print(&format!("seed {}", figures.seed));
    print_failures(&figures.failures);
    write_json(arguments.json.as_deref(), figures)?;
    Ok(exit(figures.failures.is_empty() && is_enough))
}

/// The library's rollback to a version, or without one its recovery, on a place.
pub(crate) fn by_library(place: &Path, version: Option<&str>, is_exchange: bool) -> Result<()> {
    let workspace = place.join("workspace");
    let store: Arc<dyn CheckpointStore> = Arc::new(open(place, None)?);
    let state = workspace.join(".evoseal/rollback");
    let mode = if is_exchange { RollbackMode::Exchange } else { RollbackMode::InPlace };
    let manager = RollbackManager::builder(store, &workspace, state, Arc::new(SystemClock::new()))
        .store_directory(workspace.join(".evoseal/checkpoints"))
        .settings(RollbackSettings { mode, ..RollbackSettings::default() })
        .build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let Some(version) = version else {
        return match runtime.block_on(manager.recover()) {
            // It has ended: all targets had failed before the crash, and the workspace is put back. The tree tells.
            Ok(_) | Err(evoseal_rollback::Error::Exhausted { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        };
    };
    let request = RollbackRequest {
        target: Target::Version(version.parse()?),
        reason: "the proof".to_owned(),
        initiator: Initiator::Automatic,
    };
    runtime.block_on(manager.roll_back(request))?;
    Ok(())
}
