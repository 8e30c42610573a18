//! `cargo xtask fuzz`: stores that a hostile hand could have written, for as long as is wanted.
//!
//! Seeds are tried in processes of their own, many to each, with limits on memory, on the size of files and on time: a
//! process that dies or hangs has written down which seed it was at.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use evoseal_tests::fuzzing::FuzzedStores;
use serde::Serialize;

use crate::Result;
use crate::machine::{need_program, remove_tree, scratch, skip_missing};
use crate::report::{complain, exit, print, print_failures, write_json};
use crate::victim::wait;

/// Processes at a time.
const WORKERS: u64 = 2;
/// Seeds in one process.
const BATCH: u64 = 400;
/// What a store of a megabyte may take, whatever it says of itself.
const MEMORY_BYTES: u64 = 1 << 30;
const FILE_BYTES: u64 = 256 << 20;
/// A seed takes some milliseconds. A batch that takes so long has one in it that does not end.
const TIME_LIMIT: Duration = Duration::from_mins(4);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A few seconds.
    #[arg(long)]
    smoke: bool,
    /// For how long.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1_000)]
    seed: u64,
    /// Only this first seed, in this process: to look at a failure.
    #[arg(long)]
    once: bool,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Some seeds in a process of their own.
#[derive(Debug, clap::Args)]
pub(crate) struct Batch {
    /// Where to work; the seed that is tried stands in `seed` there.
    place: PathBuf,
    first: u64,
    count: u64,
}

#[derive(Debug, Default, Serialize)]
struct Figures {
    first_seed: u64,
    tried: u64,
    failures: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    skip_missing(arguments.smoke, "fuzz", try_run(arguments))
}

fn try_run(arguments: &Arguments) -> Result<ExitCode> {
    let scratch = scratch()?;
    if arguments.once {
        let stores = FuzzedStores::new(scratch.path())?;
        stores.try_seed(arguments.seed, &scratch.path().join("mutated"))?;
        print(&format!("seed {} went well", arguments.seed));
        return Ok(ExitCode::SUCCESS);
    }
    need_program("prlimit", "util-linux")?;
    let seconds = if arguments.smoke { 4 } else { arguments.seconds };
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut figures = Figures { first_seed: arguments.seed, ..Figures::default() };
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let place = scratch.path().join(format!("worker{worker}"));
                scope.spawn(move || work(&place, arguments.seed, worker, end))
            })
            .collect();
        for worker in workers {
            let (tried, failures) = worker.join().map_err(|_| "a worker panicked")??;
            figures.tried += tried;
            figures.failures.extend(failures);
        }
        Ok(())
    })?;
    print(&format!(
        "{} mutated stores, seeds from {}: {} failed",
        figures.tried,
        arguments.seed,
        figures.failures.len()
    ));
    print_failures(&figures.failures);
    write_json(arguments.json.as_deref(), &figures)?;
    Ok(exit(figures.failures.is_empty() && figures.tried > 0))
}

/// Batch after batch until the time is over.
fn work(place: &Path, seed: u64, worker: u64, end: Instant) -> Result<(u64, Vec<String>)> {
    std::fs::create_dir_all(place)?;
    let (mut tried, mut failures) = (0, Vec::new());
    let mut first = seed + worker * BATCH;
    while Instant::now() < end {
        let mut child = Command::new("prlimit")
            .args([
                format!("--as={MEMORY_BYTES}"),
                format!("--fsize={FILE_BYTES}"),
                "--core=0".to_owned(),
                "--".to_owned(),
            ])
            .arg(std::env::current_exe()?)
            .arg("fuzz-batch")
            .arg(place)
            .args([first.to_string(), BATCH.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(place.join("said"))?)
            .spawn()?;
        // What is not done when the time is over is not waited for, but no batch is left out for being slow.
        let limit = TIME_LIMIT.min(end.saturating_duration_since(Instant::now()) + Duration::from_secs(20));
        let status = wait(&mut child, limit)?;
        let at: u64 =
            std::fs::read_to_string(place.join("seed")).unwrap_or_default().trim().parse().unwrap_or(first);
        let is_over = Instant::now() >= end;
        match status {
            Some(status) if status.success() => {
                tried += BATCH;
                first += WORKERS * BATCH;
                continue;
            }
            // Cut off because the time is over: what it did counts.
            None if is_over && limit < TIME_LIMIT => {
                tried += at.saturating_sub(first);
                break;
            }
            None => failures.push(format!("seed {at}: hangs")),
            Some(status) => {
                let said = std::fs::read_to_string(place.join("said"))?;
                let said = said
                    .lines()
                    .filter(|line| !line.trim().is_empty())
                    .take(3)
                    .collect::<Vec<_>>()
                    .join(" | ");
                failures.push(format!("seed {at}: {status}: {said}"));
            }
        }
        complain(failures.last().map_or("", String::as_str));
        tried += at.saturating_sub(first) + 1;
        first = at + 1;
    }
    Ok((tried, failures))
}

/// In the process of its own.
pub(crate) fn batch(batch: &Batch) -> Result<ExitCode> {
    // The batch before may have been cut off.
    remove_tree(&batch.place.join("stores"))?;
    let stores = FuzzedStores::new(&batch.place.join("stores"))?;
    for seed in batch.first..batch.first + batch.count {
        std::fs::write(batch.place.join("seed"), seed.to_string())?;
        stores.try_seed(seed, &batch.place.join("mutated"))?;
    }
    remove_tree(&batch.place.join("stores"))?;
    Ok(ExitCode::SUCCESS)
}
