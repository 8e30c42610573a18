//! Tasks of the repository, as one program: `cargo xtask help`.
//!
//! Each task is a thin layer over cargo. What continuous integration runs stands in `.ci/run` and nowhere else; `ci` runs
//! that file. Integration suites are test targets of the package `evoseal-tests`, the [`proof`] of the checkpoints is an
//! example there, benchmarks are those of `evoseal-benches`; all can be run with plain cargo as well. [`edges`] compares the
//! dependencies between the crates with the table that the design allows.
//!
//! Tables go to standard output, and with `--json FILE` the same figures to a file.

mod audit;
mod ci;
mod edges;
mod examples;
mod integration;
mod proof;
mod simulate;
mod simulate_loop;
mod states;
mod task;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, about)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum Task {
    /// Runs everything that continuous integration runs, in the same order.
    Ci,
    /// Runs an integration suite; without a name, lists them.
    Integration {
        /// The suite.
        suite: Option<integration::Suite>,
        /// Small inputs and a debug build: shows that the measurement works, and measures nothing. For `overhead`.
        #[arg(long)]
        smoke: bool,
        /// Where to write the figures as JSON as well.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Runs a benchmark, or all of them, with optimisation; `bench help` and `bench checkpoint --help` say what there is.
    #[command(disable_help_flag = true)]
    Bench {
        /// A subject and its options. With `--smoke` the build is a debug one, and the inputs are small: shows that the
        /// benchmark works, and measures nothing.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Simulates how often the judgement is wrong and what it sees; without a name, every table.
    Simulate {
        /// The table.
        table: Option<simulate::Table>,
        /// Few trials and a debug build: shows that the tables are computed, and measures nothing.
        #[arg(long)]
        smoke: bool,
        /// Also writes the rows to this file as JSON lines.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Simulates judging over time: whole runs, drift, looking after every pair, reported gains; without a name, all four.
    SimulateLoop {
        /// The table.
        table: Option<simulate_loop::Table>,
        /// Few trials and a debug build: shows that the tables are computed, and measures nothing.
        #[arg(long)]
        smoke: bool,
        /// Where to write the rows as JSON lines instead.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Crashes checkpoints in every way: by kills, power cuts, lying disks and full ones.
    #[command(subcommand)]
    Crash(proof::Crash),
    /// Captures and restores a tree of everything that is known to break such tools.
    Evil(proof::Options),
    /// Many processes in one store at once, killed at random: `soak checkpoint --seconds N`.
    Soak(proof::Options),
    /// Feeds mutated stores and records to every decoder: `fuzz --seconds N`.
    Fuzz(proof::Options),
    /// Checks the chain of an audit log with code that shares nothing with evoseal's own.
    Audit(audit::Options),
    /// Runs every example of every crate; each checks itself and ends with an error if it fails.
    Examples,
    /// Compares the dependencies between the crates with the allowed ones.
    Edges,
    /// Writes the table of the states of a candidate, as the code has it, into `crates/pipeline/STATES.md`.
    States,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Ci => ci::run(),
        Task::Integration { suite: None, .. } => {
            print(&integration::list());
            Ok(())
        }
        Task::Integration { suite: Some(suite), smoke, json } => suite.run(smoke, json.as_deref()),
        Task::SimulateLoop { table, smoke, json } => simulate_loop::simulate(table, smoke, json.as_deref()),
        Task::Bench { words } => integration::bench(&words),
        Task::Simulate { table, smoke, json } => simulate::simulate(table, smoke, json.as_deref()),
        Task::Crash(crash) => crash.run(),
        Task::Evil(options) => proof::proof("evil", options),
        Task::Soak(options) => proof::proof("soak", options),
        Task::Fuzz(options) => proof::proof("fuzz", options),
        Task::Audit(options) => audit::run(&options).map(|report| print(&report)).map_err(task::Failure),
        Task::Examples => examples::run().map(|report| print(&report)),
        Task::Edges => edges::check().map(|report| print(&report)),
        Task::States => states::write(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Writes results to standard output. A reader that has gone away is no error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
