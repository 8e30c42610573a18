//! What the loop itself costs per iteration, without the candidate's commands: CPU and wall time, and how long it keeps
//! an asynchronous runtime from doing anything else.
//!
//! The proposer changes one file and the evaluator answers at once, both in this process, so that what is measured is
//! capture, judgement, journal, acceptance and rollback alone. `cargo xtask integration overhead` runs it with optimisation.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use evoseal_pipeline::{Evaluation, Event, EventKind, Observer, RunOptions};
use evoseal_tests::Assembly;
use evoseal_tests::measure::{Summary, Times, ms, table, write_json};
use evoseal_tests::scripted::{FunctionEvaluator, FunctionProposer};
use evoseal_tests::trees::{TreeSize, source_text};
use evoseal_types::{Direction, MetricSamples, MetricSpec, TestReport};
use serde::Serialize;
use tokio::runtime::Runtime;

/// What the loop costs per iteration.
#[derive(Debug, Parser)]
struct Arguments {
    /// Small trees and few iterations: shows that it works.
    #[arg(long)]
    smoke: bool,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The figures of the first implementation of the published description, for the trees of the same size: CPU time per
/// iteration, in milliseconds. It does all of it on the event loop, which stands still for as long.
const FIRST_IMPLEMENTATION_CPU_MS: [(TreeSize, f64); 2] = [
    (TreeSize { files: 100, file_size_bytes: 10_000 }, 28.0),
    (TreeSize { files: 2_000, file_size_bytes: 5_000 }, 490.0),
];

/// What becomes of the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    Accepted,
    RolledBack,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Figures {
    files: usize,
    file_size_bytes: usize,
    fate: Fate,
    first_iteration: Times,
    cpu: Summary,
    wall: Summary,
    /// The longest time in which a task that wants to run every millisecond did not.
    longest_stall_ms: f64,
    first_implementation_cpu_ms: Option<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut all = Vec::new();
    // Trees are kept to the end: for seconds after a deletion ext4 searches long for inodes that it may use again, and that
    // time would be taken for ours.
    let folder = tempfile::tempdir()?;
    for (size, known) in FIRST_IMPLEMENTATION_CPU_MS {
        let (size, known, iterations) = if arguments.smoke {
            (TreeSize { files: size.files / 20, ..size }, None, 3)
        } else {
            (size, Some(known), 16)
        };
        for fate in [Fate::Accepted, Fate::RolledBack] {
            let place = folder.path().join(all.len().to_string());
            all.push(measure(&place, size, fate, iterations, known)?);
        }
    }
    let mut output = std::io::stdout().lock();
    write!(output, "{}", render(&all))?;
    if let Some(file) = arguments.json {
        write_json(&file, &all)?;
    }
    Ok(())
}

/// Runs the loop twice over a fresh tree of each size: once for the costs, once with the task that looks for stalls, which
/// itself takes time.
fn measure(
    place: &Path,
    size: TreeSize,
    fate: Fate,
    iterations: u64,
    known: Option<f64>,
) -> Result<Figures, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (timed, watched) = (place.join("timed"), place.join("watched"));
    size.write(&timed)?;
    size.write(&watched)?;
    let times = run(&runtime, &timed.canonicalize()?, fate, iterations + 1)?;
    let ticker = runtime.spawn(longest_gap());
    run(&runtime, &watched.canonicalize()?, fate, iterations)?;
    ticker.abort();
    let stall = LONGEST.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
    let (first, later) = times.split_first().ok_or("no iteration was completed")?;
    let summary = |of: fn(&Times) -> Duration| Summary::of(later.iter().map(of)).ok_or("too few iterations");
    Ok(Figures {
        files: size.files,
        file_size_bytes: size.file_size_bytes,
        fate,
        first_iteration: *first,
        cpu: summary(|times| times.cpu)?,
        wall: summary(|times| times.wall)?,
        longest_stall_ms: stall.as_secs_f64() * 1e3,
        first_implementation_cpu_ms: known,
    })
}

/// The longest gap that [`longest_gap`] has seen.
static LONGEST: Mutex<Option<Duration>> = Mutex::new(None);

/// Wakes every millisecond and remembers the longest time beyond it.
async fn longest_gap() {
    const TICK: Duration = Duration::from_millis(1);
    loop {
        let before = Times::now();
        tokio::time::sleep(TICK).await;
        let late = Times::now().since(before).wall.saturating_sub(TICK);
        let mut longest = LONGEST.lock().unwrap_or_else(PoisonError::into_inner);
        *longest = Some(longest.unwrap_or_default().max(late));
    }
}

/// What each iteration took, in order.
fn run(
    runtime: &Runtime,
    workspace: &Path,
    fate: Fate,
    iterations: u64,
) -> Result<Vec<Times>, Box<dyn Error>> {
    let assembly = runtime.block_on(Assembly::open(workspace))?;
    let proposer = FunctionProposer::new(move |context| {
        let number = usize::try_from(context.iteration).unwrap_or(0);
        let text = source_text(1_000_000 + context.iteration, 5_000);
        std::fs::write(context.workspace.join(TreeSize::path(number)), text)?;
        Ok(evoseal_pipeline::Proposal::Edited { summary: "rewrite a file".to_owned() })
    });
    let spec = MetricSpec::new("latency", "ms", Direction::Increase)?;
    let evaluator = FunctionEvaluator::new(move |request| {
        let fails = fate == Fate::RolledBack && request.incumbent.is_some();
        let samples = || vec![MetricSamples::independent(spec.clone(), &[10.0, 10.1, 9.9, 10.05, 9.95])];
        Ok(Evaluation {
            test_results: vec![TestReport::from_counts("unit_tests", 20, u64::from(fails), 0, 0)],
            metrics: samples(),
            incumbent_metrics: if request.incumbent.is_some() { samples() } else { Vec::new() },
            paired: request.incumbent.is_some(),
            ..Evaluation::default()
        })
    });
    let watch = Arc::new(Stopwatch::default());
    let pipeline =
        assembly.pipeline(Arc::new(proposer), Arc::new(evaluator)).observer(Arc::clone(&watch) as _).build();
    let report = runtime.block_on(pipeline.run(RunOptions { iterations, ..RunOptions::default() }))?;
    let wanted = report.results.iter().filter(|result| match fate {
        Fate::Accepted => result.version_accepted,
        Fate::RolledBack => result.rollback_performed,
    });
    if wanted.count() as u64 != iterations {
        return Err(format!("not every candidate was {fate:?}: {:?}", report.results).into());
    }
    let marks = std::mem::take(&mut *watch.0.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(marks.windows(2).map(|pair| pair[1].since(pair[0])).collect())
}

/// Reads the clocks when the loop begins its first iteration and whenever it completes one.
#[derive(Debug, Default)]
struct Stopwatch(Mutex<Vec<Times>>);

impl Observer for Stopwatch {
    fn on_event(&self, event: &Event) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_mark = match event.kind {
            EventKind::IterationStarted { .. } => marks.is_empty(),
            EventKind::IterationCompleted { .. } => true,
            _ => false,
        };
        if is_mark {
            marks.push(Times::now());
        }
    }
}

fn render(all: &[Figures]) -> String {
    let range = |summary: &Summary| {
        format!("{} ({}..{})", ms(summary.median_ms), ms(summary.min_ms), ms(summary.max_ms))
    };
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|figures| {
            let Times { wall, cpu } = figures.first_iteration;
            vec![
                format!("{} files x {} B, {:?}", figures.files, figures.file_size_bytes, figures.fate),
                range(&figures.cpu),
                range(&figures.wall),
                format!("{} / {}", ms(cpu.as_secs_f64() * 1e3), ms(wall.as_secs_f64() * 1e3)),
                ms(figures.longest_stall_ms),
                figures.first_implementation_cpu_ms.map_or("-".to_owned(), ms),
            ]
        })
        .collect();
    let headings = [
        "per iteration, in ms: median (range)",
        "CPU",
        "wall",
        "first CPU / wall",
        "longest stall",
        "first implementation, CPU = stall",
    ];
    table(&headings, &rows)
}
