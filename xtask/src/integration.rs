//! The integration suites and the benchmarks, by name.

use std::ffi::OsString;
use std::path::Path;

use clap::ValueEnum;

use crate::task::{Result, absolute, cargo, root, run};

/// A suite of the package `evoseal-tests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// All safety components together, over a real directory.
    Components,
    /// Whole evolution cycles, through the library and through the program.
    Cycle,
    /// Everything that goes wrong: nothing is lost, and the message says which.
    Failures,
    /// What the loop itself costs per iteration, without the candidate's commands.
    Overhead,
    /// All of them, and the tests of the command line.
    All,
}

/// Each suite with a line about it.
pub(crate) fn list() -> String {
    let line = |suite: clap::builder::PossibleValue| {
        let help = suite.get_help().map(ToString::to_string).unwrap_or_default();
        format!("  {:<12}{help}\n", suite.get_name())
    };
    let lines = Suite::value_variants().iter().filter_map(ValueEnum::to_possible_value).map(line);
    std::iter::once("Suites, run with `cargo xtask integration SUITE`:\n\n".to_owned()).chain(lines).collect()
}

impl Suite {
    /// Runs the suite.
    pub(crate) fn run(self, smoke: bool, json: Option<&Path>) -> Result<()> {
        match self {
            Self::Components => tests(&["--test", "components"]),
            Self::Cycle => tests(&["--test", "cycle"]),
            Self::Failures => tests(&["--test", "failures"]),
            Self::Overhead => overhead(smoke, json),
            Self::All => {
                tests(&["--tests"])?;
                overhead(smoke, json)
            }
        }
    }
}

/// Runs test targets; the program that they drive is built first, since cargo does not build other packages' programs.
fn tests(targets: &[&str]) -> Result<()> {
    run(cargo(["build", "--quiet", "--package", "evoseal-cli"]))?;
    run(cargo(["test", "--package", "evoseal-tests"].into_iter().chain(targets.iter().copied())))
}

/// Measures with optimisation, unless it is only to be seen that it works.
fn overhead(smoke: bool, json: Option<&Path>) -> Result<()> {
    let build: &[&str] = if smoke { &[] } else { &["--release"] };
    let mut command = cargo(["run", "--quiet", "--package", "evoseal-tests", "--example", "overhead"]);
    command.args(build).arg("--");
    finish(command, smoke, json)
}

/// Runs benchmarks where the caller stands, so that the paths among the words mean what they say. The program that they
/// measure is built first.
pub(crate) fn bench(words: &[OsString]) -> Result<()> {
    let smoke = words.iter().any(|word| word == "--smoke");
    let build: &[&str] = if smoke { &[] } else { &["--release"] };
    let mut program = cargo(["build", "--quiet", "--package", "evoseal-cli"]);
    program.args(build);
    run(program)?;
    let mut command = cargo(["run", "--quiet", "--package", "evoseal-benches", "--manifest-path"]);
    command.arg(root().join("Cargo.toml")).args(build).arg("--").args(words).current_dir(".");
    run(command)
}

/// Hands the options of a measurement on.
fn finish(mut command: std::process::Command, smoke: bool, json: Option<&Path>) -> Result<()> {
    if smoke {
        command.arg("--smoke");
    }
    if let Some(file) = json {
        command.arg("--json").arg(absolute(file)?);
    }
    run(command)
}
