//! The tables of errors and power, which `evoseal detect simulate` computes.

use std::path::Path;

use clap::ValueEnum;

use crate::task::{Failure, Result, absolute, cargo, output, run};

/// Comparisons per row that show that a table is computed, and say nothing else.
const SMOKE_TRIALS: &str = "20";

/// A table of `evoseal detect simulate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Table {
    /// False regressions of unchanged code, and at the edge of the threshold.
    Aa,
    /// The same for noise that wanders while one side is measured before the other.
    Blocks,
    /// What is seen, beside the best classical test.
    Power,
}

/// Computes a table, or all of them. Fails where a table does not keep what it promises.
pub(crate) fn simulate(table: Option<Table>, smoke: bool, json: Option<&Path>) -> Result<()> {
    let build: &[&str] = if smoke { &[] } else { &["--release"] };
    let tables = table.map_or_else(|| Table::value_variants().to_vec(), |table| vec![table]);
    let mut lines = Vec::new();
    for table in tables {
        let name = table.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut command = cargo(["run", "--quiet", "--package", "evoseal-cli"]);
        command.args(build).args(["--", "detect", "simulate", &name]);
        if smoke {
            command.args(["--trials", SMOKE_TRIALS]);
        }
        if json.is_some() {
            command.arg("--json");
            lines.extend(output(command)?);
        } else {
            run(command)?;
        }
    }
    match json {
        None => Ok(()),
        Some(file) => {
            let file = absolute(file)?;
            std::fs::write(&file, lines)
                .map_err(|error| Failure(format!("cannot write {}: {error}", file.display())))
        }
    }
}
