//! `evoseal report`.

use std::path::Path;

use evoseal_checkpoint::CheckpointStore;

use crate::args::ReportArguments;
use crate::commands::history;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::Project;

pub(crate) async fn run(arguments: &ReportArguments, project: &Project, output: Output) -> Result<Exit> {
    let rows = write(project, &arguments.output).await?;
    output.data(&rows, || format!("wrote {}", arguments.output.display()));
    Ok(Exit::Done)
}

/// Writes the page and gives the history that it shows. An older page stays as it is if the new one cannot be written.
pub(crate) async fn write(project: &Project, path: &Path) -> Result<evoseal_report::RunHistory> {
    let state = project.run_state()?;
    let stores = project.stores().await?;
    let checkpoint = state.incumbent.as_ref().and_then(|(version, _)| version.checkpoint);
    let tree = match checkpoint {
        Some(checkpoint) => Some(stores.checkpoints.load(checkpoint).await?.tree),
        None => None,
    };
    let rows = history::of(project, &state, tree)?;
    let page = evoseal_report::html_report(&rows);
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = Path::new(&aside);
    std::fs::write(aside, page).map_err(|error| Failure::io("write", aside, &error))?;
    std::fs::rename(aside, path).map_err(|error| Failure::io("write", path, &error))?;
    Ok(rows)
}
