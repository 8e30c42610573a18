//! One module per command.

mod audit;
mod baseline;
mod checkpoint;
mod config;
mod demo;
mod detect;
mod diff;
mod doctor;
mod gc;
mod history;
mod init;
mod metrics;
mod overrides;
mod prune;
mod rejudge;
mod report;
mod rollback;
mod run;
mod series;
mod show;
mod status;

use clap::CommandFactory;

use crate::args::{Arguments, Command};
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::Project;

/// Does what the command line says.
pub(crate) async fn run(arguments: &Arguments, output: Output) -> Result<Exit> {
    let global = &arguments.global;
    let project = || Project::find(global);
    match &arguments.command {
        Command::Demo(demo) => demo::run(demo, output).await,
        Command::Init(init) => init::run(init, global, output),
        Command::Run(run) => run::run(run, &project()?, output).await,
        Command::Status => status::run(&project()?, output).await,
        Command::Log(log) => show::log(log, &project()?, output),
        Command::Show(show) => show::run(show, &project()?, output),
        Command::Diff(diff) => diff::run(diff, &project()?, output).await,
        Command::Report(report) => report::run(report, &project()?, output).await,
        Command::Rollback(rollback) => rollback::run(rollback, &project()?, output).await,
        Command::Audit(audit) => audit::run(audit, &project()?, output).await,
        Command::Rejudge(rejudge) => rejudge::run(rejudge, &project()?, output).await,
        Command::Approve(approve) => overrides::approve(approve, &project()?, output).await,
        Command::Reject(reject) => overrides::reject(reject, &project()?, output).await,
        Command::Hold(hold) => overrides::hold(hold, &project()?, output).await,
        Command::Checkpoint(checkpoint) => checkpoint::run(checkpoint, &project()?, output).await,
        Command::Baseline(baseline) => baseline::run(baseline, &project()?, output).await,
        Command::Metrics(metrics) => metrics::run(metrics, &project()?, output).await,
        Command::Detect(detect) => detect::run(detect, output),
        Command::Gc(gc) => gc::run(gc, &project()?, output).await,
        Command::Doctor => Ok(doctor::run(global, output)),
        Command::Config => config::run(&project()?, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "evoseal", &mut script);
            crate::output::print_bytes(&script);
            Ok(Exit::Done)
        }
        Command::Man => {
            let mut page = Vec::new();
            let render = clap_mangen::Man::new(Arguments::command()).render(&mut page);
            render.map_err(|error| Failure::environment(format!("cannot write the manual page: {error}")))?;
            crate::output::print_bytes(&page);
            Ok(Exit::Done)
        }
    }
}
