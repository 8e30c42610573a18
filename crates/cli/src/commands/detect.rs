//! `evoseal detect`: judgement without a run.

mod compare;
mod plan;
mod run_loop;
mod simulate;
mod simulate_loop;

use crate::args::DetectCommand;
use crate::failure::{Exit, Result};
use crate::output::Output;

pub(crate) fn run(command: &DetectCommand, output: Output) -> Result<Exit> {
    match command {
        DetectCommand::Series(arguments) => super::series::run(arguments, output),
        DetectCommand::Compare { batch } => compare::run(batch, output),
        DetectCommand::Plan(plan) => plan::run(plan, output),
        DetectCommand::Loop(batch) => run_loop::run(batch, output),
        DetectCommand::Simulate(simulation) => simulate::run(simulation, output),
    }
}
