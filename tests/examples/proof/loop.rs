//! `cargo xtask crash loop`: a whole run, killed again and again and started again until it is done.
//!
//! The program is killed, and it alone: what it has started must go by itself. Kills are spread over the places in which a
//! run can be, as an undisturbed run of the same course shows them: half of them evenly over places, however short, half over
//! time. Nothing is known here about the kinds of entries, so that a new phase is covered from the day on which it is
//! journalled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use evoseal_tests::measure::table;
use evoseal_tests::random::Random;
use serde::Serialize;

use crate::Result;
use crate::course::{Course, LOOK, Persons, Place, Repeated, Watch, end_of, finished, prepare, start};
use crate::loop_disk;
use crate::machine::scratch;
use crate::report::{Findings, complain, exit, print, print_failures, write_json};

/// Longer than any start takes.
const TIME_LIMIT: Duration = Duration::from_mins(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A shorter course and few kills.
    #[arg(long)]
    smoke: bool,
    /// How many kills, at least.
    #[arg(long, value_name = "N", default_value_t = 300)]
    kills: usize,
    /// What the kills are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fills the disk in the middle of each phase instead.
    #[arg(long)]
    disk: bool,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize)]
struct Figures {
    seed: u64,
    iterations: u64,
    /// After which entry about an iteration.
    kills: BTreeMap<String, Kills>,
    starts: usize,
    repeated: Repeated,
    findings: Findings,
}

/// Kills after one kind of entry.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Kills {
    /// By the start that wrote it.
    fresh: usize,
    /// By one that goes on from it.
    resumed: usize,
    /// By one that had not written anything yet: in the middle of recovery, as a rule.
    starting: usize,
}

impl Figures {
    fn killed(&self) -> usize {
        self.kills.values().map(|kills| kills.fresh + kills.resumed + kills.starting).sum()
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.disk {
        return loop_disk::run(arguments.smoke, arguments.json.as_deref());
    }
    let (iterations, kills) = if arguments.smoke { (8, 24) } else { (30, arguments.kills) };
    let scratch = scratch()?;
    complain("undisturbed");
    let undisturbed = scratch.path().join("undisturbed");
    let course = Course::take(&undisturbed, iterations)?;
    complain(&format!("{kills} kills, seed {}", arguments.seed));
    let root = scratch.path().join("disturbed");
    prepare(&root)?;
    let mut figures = Figures { seed: arguments.seed, iterations, ..Figures::default() };
    disturb(&root, &course, kills, &mut figures)?;
    show(&figures, arguments)?;
    let count = figures.killed();
    Ok(exit(figures.findings.is_clean() && count >= kills))
}

/// The next kill: not before this place, and then so far into what is done there.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Target {
    place: Place,
    part: f64,
}

/// The kills of the whole course, in order.
fn targets(course: &Course, kills: usize, random: &mut Random) -> Vec<Target> {
    let mut all = Vec::new();
    let iterations = usize::try_from(course.iterations).unwrap_or(1).max(1);
    // Some come too late, when the program has just ended by itself.
    let each = kills.div_ceil(iterations) + 1;
    for iteration in 1..=course.iterations {
        let stays: Vec<(Place, Duration)> = course
            .stays
            .range((iteration, 0)..(iteration + 1, 0))
            .map(|(place, stay)| (*place, stay.0))
            .collect();
        let total: Duration = stays.iter().map(|stay| stay.1).sum();
        for number in 0..each {
            let place = if number % 2 == 0 {
                stays.get(random.below(stays.len()))
            } else {
                let mut rest = total.mul_f64(fraction(random));
                stays.iter().find(|stay| {
                    let is_here = rest <= stay.1;
                    rest = rest.saturating_sub(stay.1);
                    is_here
                })
            };
            let place = place.map_or((iteration, 0), |stay| stay.0);
            all.push(Target { place, part: fraction(random) });
        }
    }
    all.sort_by(|one, other| one.place.cmp(&other.place).then(one.part.total_cmp(&other.part)));
    all
}

/// From 0 to 1.
fn fraction(random: &mut Random) -> f64 {
    random.below(1 << 20) as f64 / f64::from(1 << 20)
}

fn disturb(root: &Path, course: &Course, kills: usize, figures: &mut Figures) -> Result<()> {
    let persons = Persons::of(root)?;
    let mut random = Random::new(figures.seed);
    for target in targets(course, kills, &mut random) {
        let (mut child, mut watch, began) = begin(root, course, figures)?;
        if !reach(&mut child, &mut watch, target, began)? {
            let (code, said) = end_of(child)?;
            figures.findings.blocked(format!("before {target:?} it ended with {code:?}: {said}"));
            return Ok(());
        }
        let stay = course.stays.get(&target.place).map_or(Duration::ZERO, |stay| stay.0);
        let stay = if target.place.1 == 0 { course.startup } else { stay };
        std::thread::sleep(stay.mul_f64(target.part));
        watch.look()?;
        child.kill()?;
        let (code, said) = end_of(child)?;
        if code.is_some_and(|code| !matches!(code, 0 | 1)) {
            figures.findings.blocked(format!("at {target:?} it had ended with {code:?}: {said}"));
            return Ok(());
        }
        // Only what was really cut off counts.
        if code.is_none() {
            let kills = figures.kills.entry(watch.phase).or_default();
            match (watch.is_active, watch.is_resuming) {
                (false, _) => kills.starting += 1,
                (true, true) => kills.resumed += 1,
                (true, false) => kills.fresh += 1,
            }
        }
        persons.compare(root, &mut figures.findings);
        if !figures.findings.is_clean() {
            return Ok(());
        }
    }
    let (mut child, mut watch, began) = begin(root, course, figures)?;
    let end = Target { place: (course.iterations + 1, 1), part: 0.0 };
    if reach(&mut child, &mut watch, end, began)? {
        figures.findings.mixed("it went on beyond the last iteration");
        child.kill()?;
    }
    let (code, said) = end_of(child)?;
    if !matches!(code, Some(0 | 1)) {
        figures.findings.blocked(format!("the last start ended with {code:?}: {said}"));
    }
    figures.repeated = course.compare(root, &mut figures.findings)?;
    persons.compare(root, &mut figures.findings);
    let count = figures.killed();
    if figures.repeated.evaluations > count {
        figures.findings.lost(format!("{} evaluations were repeated", figures.repeated.evaluations));
    }
    crate::machine::run(
        &crate::victim::program()?.to_string_lossy(),
        ["-C".as_ref(), root.as_os_str(), "checkpoint".as_ref(), "verify".as_ref()],
    )
}

/// Starts the program for what is left of the course.
fn begin(root: &Path, course: &Course, figures: &mut Figures) -> Result<(Child, Watch, Instant)> {
    figures.starts += 1;
    let left = course.iterations.saturating_sub(finished(root)?);
    let watch = Watch::new(root);
    Ok((start(root, left)?, watch, Instant::now()))
}

/// Waits until the run has come to a place, in this start. False if the program has ended before.
fn reach(child: &mut Child, watch: &mut Watch, target: Target, began: Instant) -> Result<bool> {
    // The beginning of an iteration is also reached by a start that finds it there: that is what a start is killed at.
    let is_there = |watch: &Watch| watch.place >= target.place && (watch.is_active || target.place.1 == 0);
    while !is_there(watch) {
        if child.try_wait()?.is_some() {
            watch.look()?;
            return Ok(false);
        }
        if began.elapsed() > TIME_LIMIT {
            child.kill()?;
            return Ok(false);
        }
        std::thread::sleep(LOOK);
        watch.look()?;
    }
    Ok(true)
}

fn show(figures: &Figures, arguments: &Arguments) -> Result<()> {
    let row = |(phase, kills): (&String, &Kills)| {
        let numbers = [kills.fresh, kills.resumed, kills.starting].map(|number| number.to_string());
        [vec![phase.clone()], numbers.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = figures.kills.iter().map(row).collect();
    print(&table(&["killed after", "at once", "when resumed", "when starting"], &rows));
    let Repeated { proposals, evaluations } = figures.repeated;
    let count = figures.killed();
    print(&format!(
        "seed {}: {} iterations, {count} kills, {} starts, {evaluations} evaluations and {proposals} proposals repeated",
        figures.seed, figures.iterations, figures.starts
    ));
    print_failures(&figures.findings.lines());
    write_json(arguments.json.as_deref(), figures)
}
