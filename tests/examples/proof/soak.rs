//! `cargo xtask soak checkpoint`: several processes in one store at once, killed at random.
//!
//! Each process edits a workspace of its own and captures, restores, deletes and collects without looking at the others. It
//! writes down what the store acknowledged; at the end everything that is written down and was not deleted must be there,
//! and everything that is there must verify and restore.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use evoseal_checkpoint::{Checkpoint, CheckpointManager, Error, RestoreMode};
use evoseal_tests::measure::table;
use evoseal_tests::random::Random;
use serde::Serialize;

use crate::machine::scratch;
use crate::operate::{create, open};
use crate::report::{Findings, exit, print, print_failures, write_json};
use crate::scenario::noise;
use crate::victim::operate;
use crate::{Result, known};

/// A process that gets nothing done for so long is stuck.
const STUCK: Duration = Duration::from_secs(30);
/// Checkpoints in the store beyond which each process deletes more than it makes.
const CROWDED: usize = 40;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What is soaked.
    #[arg(value_enum, default_value_t)]
    subject: Subject,
    /// A few seconds.
    #[arg(long)]
    smoke: bool,
    /// For how long, with two processes first, then four, then eight.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// What processes and killings draw from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Subject {
    /// The store of checkpoints.
    #[default]
    Checkpoint,
}

#[derive(Debug, Default, Serialize)]
struct Round {
    processes: usize,
    operations: usize,
    acknowledged: usize,
    deleted: usize,
    killed: usize,
    at_the_end: usize,
    findings: Findings,
    /// Findings that are known defects.
    known: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Subject::Checkpoint = arguments.subject;
    let seconds = if arguments.smoke { 3 } else { arguments.seconds };
    let mut rounds = Vec::new();
    for (number, processes) in [2, 4, 8].into_iter().enumerate() {
        let time = Duration::from_secs(seconds) / 3;
        rounds.push(round(processes, time, arguments.seed.wrapping_add(number as u64 * 1_000_000))?);
    }
    let row = |round: &Round| {
        let findings = &round.findings;
        let numbers = [
            round.processes,
            round.operations,
            round.acknowledged,
            round.deleted,
            round.killed,
            round.at_the_end,
            findings.lost.len(),
            findings.mixed.len(),
            findings.blocked.len(),
        ];
        numbers.map(|number| number.to_string()).to_vec()
    };
    let headings = [
        "processes",
        "operations",
        "acknowledged",
        "deleted",
        "killed",
        "at the end",
        "lost",
        "mixed",
        "blocked",
    ];
    print(&table(&headings, &rounds.iter().map(row).collect::<Vec<_>>()));
    print(&format!("seed {}", arguments.seed));
    print_failures(&rounds.iter().flat_map(|round| round.findings.lines()).collect::<Vec<_>>());
    known::show(rounds.iter().map(|round| round.known).sum());
    write_json(arguments.json.as_deref(), &rounds)?;
    let is_work = rounds.iter().all(|round| round.acknowledged > 0 && round.killed > 0);
    Ok(exit(is_work && rounds.iter().all(|round| round.findings.is_clean())))
}

fn round(processes: usize, time: Duration, seed: u64) -> Result<Round> {
    let scratch = scratch()?;
    let place = scratch.path();
    open(place, None)?;
    let mut random = Random::new(seed);
    let mut round = Round { processes, ..Round::default() };
    let mut workers: Vec<Worker> = Vec::new();
    for number in 0..processes {
        workers.push(Worker::start(place, number, seed + number as u64)?);
    }
    let end = Instant::now() + time;
    let mut started = processes as u64;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20 + random.below(280) as u64));
        for worker in &mut workers {
            worker.look(place, &mut round.findings)?;
        }
        let unlucky = random.below(processes);
        let number = workers[unlucky].number;
        // One that ended by itself has said why.
        round.killed += usize::from(workers[unlucky].stop(&mut round.findings)?);
        started += 1;
        workers[unlucky] = Worker::start(place, number, seed + started)?;
    }
    for worker in &mut workers {
        round.killed += usize::from(worker.stop(&mut round.findings)?);
    }
    check(place, processes, &mut round)?;
    round.known = known::take("soak", &mut round.findings);
    Ok(round)
}

/// A process, and when it last got something done.
struct Worker {
    number: usize,
    child: Child,
    log_len: u64,
    since: Instant,
}

impl Worker {
    fn start(place: &Path, number: usize, seed: u64) -> Result<Self> {
        let (number_text, seed) = (number.to_string(), seed.to_string());
        let words = operate(place, &["work", &number_text, &seed])?;
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self { number, child, log_len: 0, since: Instant::now() })
    }

    fn look(&mut self, place: &Path, findings: &mut Findings) -> Result<()> {
        let len = fs::metadata(log_path(place, self.number)).map_or(0, |metadata| metadata.len());
        if len != self.log_len {
            (self.log_len, self.since) = (len, Instant::now());
        } else if self.since.elapsed() > STUCK {
            findings.blocked(format!("process {} is stuck", self.number));
            self.since = Instant::now();
        }
        // It never ends by itself unless something is wrong.
        if self.child.try_wait()?.is_some() {
            self.stop(findings)?;
            *self = Self::start(place, self.number, self.log_len)?;
        }
        Ok(())
    }

    /// Kills it; says whether it was still alive.
    fn stop(&mut self, findings: &mut Findings) -> Result<bool> {
        if self.child.try_wait()?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
            return Ok(true);
        }
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        findings.blocked(format!("process {} ended by itself: {}", self.number, said.trim()));
        Ok(false)
    }
}

fn log_path(place: &Path, number: usize) -> PathBuf {
    place.join(format!("log{number}"))
}

/// What the processes wrote down is there, and everything that is there restores.
fn check(place: &Path, processes: usize, round: &mut Round) -> Result<()> {
    let (mut made, mut deleted) = (BTreeMap::new(), BTreeSet::new());
    for number in 0..processes {
        let log = fs::read_to_string(log_path(place, number)).unwrap_or_default();
        // The last line may be cut off: then what it says was never acknowledged.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            round.operations += 1;
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["made", id, tree] => _ = made.insert(id.to_owned(), tree.to_owned()),
                ["deleting", id] => _ = deleted.insert(id.to_owned()),
                _ => {}
            }
        }
    }
    (round.acknowledged, round.deleted) = (made.len(), deleted.len());
    let manager = open(place, None)?;
    let findings = &mut round.findings;
    if let Err(error) = manager.collect_garbage_blocking() {
        findings.blocked(format!("collection at the end: {error:?}"));
    }
    for damage in manager.verify_blocking(&[])?.damage {
        findings.mixed(format!("{} is damaged: {}", damage.object, damage.problem));
    }
    let listed = manager.list_blocking()?;
    round.at_the_end = listed.len();
    let ids: BTreeSet<String> = listed.iter().map(|checkpoint| checkpoint.id.to_string()).collect();
    for id in made.keys().filter(|id| !deleted.contains(*id) && !ids.contains(*id)) {
        findings.lost(format!("checkpoint {id} was acknowledged and never deleted"));
    }
    let target = place.join("target");
    for checkpoint in &listed {
        let restored = manager
            .restore_blocking(checkpoint.id, &target, RestoreMode::InPlace)
            .and_then(|_| manager.tree_digest_blocking(&target));
        match restored {
            Ok(tree) if tree == checkpoint.tree => {}
            Ok(_) => findings.lost(format!("checkpoint {} restores wrongly", checkpoint.id)),
            Err(error) => findings.lost(format!("checkpoint {} does not restore: {error:?}", checkpoint.id)),
        }
        if made.get(&checkpoint.id.to_string()).is_some_and(|tree| *tree != checkpoint.tree.to_string()) {
            findings.mixed(format!("checkpoint {} has another tree than was acknowledged", checkpoint.id));
        }
    }
    Ok(())
}

/// One of the processes: works until it is killed, or until something happens that never should.
pub(crate) fn work(place: &Path, number: usize, seed: u64) -> evoseal_checkpoint::Result<()> {
    let manager = open(place, None)?;
    let workspace = place.join(format!("workspace{number}"));
    let mut random = Random::new(seed);
    let mut log = Log::open(&log_path(place, number));
    loop {
        let done = step(&manager, &workspace, &mut random, &mut log);
        match done {
            // Others collect, and others delete what this one has just seen in the list.
            Ok(()) | Err(Error::Locked { .. } | Error::NotFound { .. }) => log.line("done"),
            Err(error) => return Err(error),
        }
    }
}

fn step(
    manager: &CheckpointManager,
    workspace: &Path,
    random: &mut Random,
    log: &mut Log,
) -> evoseal_checkpoint::Result<()> {
    let listed = manager.list_blocking()?;
    let chosen = (!listed.is_empty()).then(|| &listed[random.below(listed.len())]);
    let is_crowded = listed.len() > CROWDED;
    match (random.below(10), chosen) {
        (0..=3, _) if !is_crowded => {
            edit(workspace, random).map_err(own)?;
            let made = create(manager, workspace, &format!("v{}", random.number()))?;
            log.line(&format!("made {} {}", made.id, made.tree));
        }
        (4 | 5, Some(chosen)) => back(manager, workspace, chosen)?,
        (8, _) => drop(manager.collect_garbage_blocking()?),
        (9, Some(chosen)) => {
            // What a deletion touches is not damaged by it: reading goes on elsewhere.
            let report = manager.verify_blocking(&[chosen.id])?;
            if let Some(damage) = report.damage.into_iter().next() {
                let problem = format!("{} (said verify)", damage.problem);
                return Err(Error::Damaged { object: damage.object, problem });
            }
        }
        (_, Some(chosen)) => {
            // Before it is done: killed in between, it may or may not be gone.
            log.line(&format!("deleting {}", chosen.id));
            manager.delete_blocking(&[chosen.id])?;
        }
        (_, None) => {}
    }
    Ok(())
}

/// Rolls the workspace back; nobody else touches it.
fn back(manager: &CheckpointManager, workspace: &Path, to: &Checkpoint) -> evoseal_checkpoint::Result<()> {
    manager.restore_blocking(to.id, workspace, RestoreMode::InPlace)?;
    let tree = manager.tree_digest_blocking(workspace)?;
    if tree == to.tree {
        return Ok(());
    }
    Err(Error::NotRestored { target: workspace.to_owned(), path: "by its digest".to_owned() })
}

fn edit(workspace: &Path, random: &mut Random) -> std::io::Result<()> {
    for _ in 0..=random.below(5) {
        let folder = workspace.join(format!("d{}", random.below(4)));
        fs::create_dir_all(&folder)?;
        let size = [0, 10, 3_000, 100_000, 1_500_000][random.below(5)];
        // Few contents, so that processes store the same at the same time.
        fs::write(folder.join(format!("f{}", random.below(6))), noise(random.below(20) as u64, size))?;
    }
    Ok(())
}

/// An error of the worker's own.
fn own(source: std::io::Error) -> Error {
    Error::Io { action: "edit", path: PathBuf::from("the workspace"), source }
}

/// What a process writes down, line by line, each with one write.
struct Log(Option<File>);

impl Log {
    fn open(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).ok())
    }

    fn line(&mut self, line: &str) {
        if let Some(file) = &mut self.0 {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }
}
