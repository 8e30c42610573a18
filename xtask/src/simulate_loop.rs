//! The tables of judging over time, which `evoseal detect simulate` computes.

use std::path::Path;

use clap::ValueEnum;

use crate::task::{Failure, Result, absolute, cargo, output, run};

/// A table of `evoseal detect simulate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Table {
    /// Whole runs: false rollbacks, harm caught in its iteration, measurements.
    Loop,
    /// A slow drift, and flat runs.
    Drift,
    /// Looking after every pair.
    Peek,
    /// The gain of the best of several candidates.
    Gain,
}

impl Table {
    /// The arguments that show that the table is computed, and say nothing else.
    const fn smoke(self) -> &'static [&'static str] {
        match self {
            Self::Loop => &["--runs", "1", "--iterations", "60"],
            Self::Drift => &["--trials", "3"],
            Self::Peek => &["--trials", "10"],
            Self::Gain => &["--trials", "50"],
        }
    }

    /// The arguments of the full table, where the defaults of the program are too few.
    const fn full(self) -> &'static [&'static str] {
        match self {
            Self::Loop => &["--runs", "200"],
            _ => &[],
        }
    }
}

/// Computes a table, or all of them.
pub(crate) fn simulate(table: Option<Table>, smoke: bool, json: Option<&Path>) -> Result<()> {
    let build: &[&str] = if smoke { &[] } else { &["--release"] };
    let tables = table.map_or_else(|| Table::value_variants().to_vec(), |table| vec![table]);
    let mut lines = Vec::new();
    for table in tables {
        let name = table.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut command = cargo(["run", "--quiet", "--package", "evoseal-cli"]);
        command.args(build).args(["--", "detect", "simulate", &name]);
        command.args(if smoke { table.smoke() } else { table.full() });
        if json.is_some() {
            command.arg("--json");
            lines.extend(output(command)?);
        } else {
            run(command)?;
        }
    }
    let Some(file) = json else { return Ok(()) };
    let file = absolute(file)?;
    std::fs::write(&file, lines).map_err(|error| Failure(format!("cannot write {}: {error}", file.display())))
}
