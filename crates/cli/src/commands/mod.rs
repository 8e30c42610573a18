//! One module per command.

mod audit;
mod baseline;
mod checkpoint;
mod config;
mod demo;
mod detect;
mod diff;
mod doctor;
mod drill;
mod gc;
mod history;
mod init;
mod metrics;
pub(crate) mod overrides;
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
use crate::completion;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::Project;

/// Does what the command line says.
pub(crate) async fn run(arguments: &Arguments, output: Output) -> Result<Exit> {
    let global = &arguments.global;
    // Whatever is wanted: what was cut off comes first.
    let found = async || {
        let project = Project::find(global)?;
        let completions = completion::complete(&project, output).await;
        Ok::<_, Failure>((project, completions))
    };
    let ready = async || {
        let (project, mut completions) = found().await?;
        completions.require()?;
        if arguments.command.deletes() {
            completions.allow_deletion()?;
        }
        Ok::<_, Failure>(project)
    };
    match &arguments.command {
        Command::Demo(demo) => demo::run(demo, output).await,
        Command::Init(init) => init::run(init, global, output),
        Command::Run(run) => run::run(run, &ready().await?, output).await,
        Command::Status => {
            let (project, completions) = found().await?;
            status::run(&project, &completions, output).await
        }
        Command::Log(log) => show::log(log, &ready().await?, output),
        Command::Show(show) => show::run(show, &ready().await?, output),
        Command::Diff(diff) => diff::run(diff, &ready().await?, output).await,
        Command::Report(report) => report::run(report, &ready().await?, output).await,
        Command::Rollback(rollback) => rollback::run(rollback, &ready().await?, output).await,
        Command::Audit(audit) => audit::run(audit, &ready().await?, output).await,
        Command::Rejudge(rejudge) => rejudge::run(rejudge, &ready().await?, output).await,
        Command::Approve(approve) => overrides::approve(approve, &ready().await?, output).await,
        Command::Reject(reject) => overrides::reject(reject, &ready().await?, output).await,
        Command::Hold(hold) => overrides::hold(hold, &ready().await?, output).await,
        Command::Checkpoint(checkpoint) => checkpoint::run(checkpoint, &ready().await?, output).await,
        Command::Baseline(baseline) => baseline::run(baseline, &ready().await?, output).await,
        Command::Metrics(metrics) => metrics::run(metrics, &ready().await?, output).await,
        Command::Detect(detect) => detect::run(detect, output),
        Command::Gc(gc) => gc::run(gc, &ready().await?, output).await,
        Command::Doctor => Ok(doctor::run(global, output)),
        Command::Config => config::run(&Project::find(global)?, output),
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
