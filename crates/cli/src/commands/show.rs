//! `evoseal log` and `evoseal show`.

use evoseal_pipeline::IterationResult;

use crate::args::{LogArguments, ShowArguments};
use crate::commands::history;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::Project;

pub(crate) fn log(arguments: &LogArguments, project: &Project, output: Output) -> Result<Exit> {
    let mut rows = history::of(project, &project.run_state()?, None)?;
    if let Some(limit) = arguments.limit {
        let skipped = rows.iterations.len().saturating_sub(limit);
        rows.iterations.drain(..skipped);
    }
    output.data(&rows.iterations, || evoseal_report::iteration_table(&rows, history::table_options(output)));
    Ok(Exit::Done)
}

pub(crate) fn run(arguments: &ShowArguments, project: &Project, output: Output) -> Result<Exit> {
    let state = project.run_state()?;
    let wanted = &arguments.iteration;
    let number: Option<u64> = wanted.strip_prefix('v').unwrap_or(wanted).parse().ok();
    let found = state.finished.iter().find(|finished| Some(finished.flight.iteration) == number);
    let Some(found) = found else {
        let last = state.finished.last().map_or(0, |finished| finished.flight.iteration);
        return Err(Failure::usage(format!("there is no iteration {wanted:?}"))
            .hint(format!("iterations 1 to {last} are on record; `evoseal log` lists them")));
    };
    let result = IterationResult::from(found);
    let row = history::row(&result);
    output.data(&result, || evoseal_report::iteration_detail(&row, history::table_options(output)));
    Ok(Exit::Done)
}
