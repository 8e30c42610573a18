//! `evoseal detect simulate`: how often the detector is wrong, and what it sees.

use evoseal_regression::simulation::{AaRow, Cell, CellSimulation, PowerRow, aa_table, power_table};

use super::simulate_loop;
use crate::args::{CellArguments, SimulateCommand};
use crate::failure::{Exit, Result};
use crate::output::Output;

/// The harmful changes whose power is tabulated.
const CHANGES: [f64; 2] = [0.05, 0.1];

pub(super) fn run(command: &SimulateCommand, output: Output) -> Result<Exit> {
    let found = match command {
        SimulateCommand::OverTime(simulation) => return simulate_loop::run(simulation, output),
        SimulateCommand::Aa(arguments) => {
            let rows = aa_table(&Cell::grid(), &settings(arguments))?;
            let broken = rows.iter().filter(|row| !row.holds).count();
            output.lines(&rows, aa_text);
            output.say(format!("{broken} of {} rows exceed the allowed share", rows.len()));
            broken > 0
        }
        SimulateCommand::Blocks(arguments) => {
            // What this table shows is known to be above the level, so that it is nothing that was found.
            let rows = aa_table(&Cell::in_blocks(), &settings(arguments))?;
            output.lines(&rows, aa_text);
            false
        }
        SimulateCommand::Power(arguments) => {
            let rows = power_table(&Cell::grid(), &CHANGES, &settings(arguments))?;
            let weak = rows.iter().filter(|row| !row.holds).count();
            output.lines(&rows, power_text);
            output.say(format!("{weak} of {} rows lie more than 2 points below the best test", rows.len()));
            weak > 0
        }
    };
    Ok(if found { Exit::Found } else { Exit::Done })
}

fn settings(arguments: &CellArguments) -> CellSimulation {
    CellSimulation { trials: arguments.trials, seed: arguments.seed, alpha: arguments.alpha }
}

fn cell_text(cell: &Cell) -> String {
    let starts = if cell.between_starts { "starts differ" } else { "starts alike" };
    format!(
        "{:<13}  CV {:>2.0} %  n {:>2}  {starts}",
        cell.noise.to_string(),
        cell.coefficient_of_variation * 100.0,
        cell.samples
    )
}

fn aa_text(row: &AaRow) -> String {
    format!(
        "{}  change {:>2.0} %  false regressions {:>5.2} % [{:.2}, {:.2}]  allowed {:.2} %{}",
        cell_text(&row.cell),
        row.true_change * 100.0,
        row.false_regressions * 100.0,
        row.interval[0] * 100.0,
        row.interval[1] * 100.0,
        row.allowed * 100.0,
        if row.holds { "" } else { "  EXCEEDED" }
    )
}

fn power_text(row: &PowerRow) -> String {
    format!(
        "{}  change {:>2.0} %  false {:>4.2} %  power {:>5.1} %  best {} {:>5.1} %  difference {:+.1}{}",
        cell_text(&row.cell),
        row.true_change * 100.0,
        row.false_regressions * 100.0,
        row.power * 100.0,
        row.best_test,
        row.best_power * 100.0,
        row.difference_points,
        if row.holds { "" } else { "  WEAK" }
    )
}
