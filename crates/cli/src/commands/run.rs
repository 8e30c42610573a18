//! `evoseal run`.

use std::sync::Arc;
use std::task::Poll;

use evoseal_pipeline::{Cancellation, RunOptions, RunReport, StopReason};
use evoseal_sandbox::{LinuxSandbox, Sandbox};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::RunArguments;
use crate::commands::history;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::ownership::Ownership;
use crate::progress::RunProgress;
use crate::project::{Project, Stores};

pub(crate) async fn run(arguments: &RunArguments, project: &Project, output: Output) -> Result<Exit> {
    let settings = &project.loaded.settings;
    let options = RunOptions {
        iterations: arguments.iterations.unwrap_or(settings.run.iterations),
        enable_checkpoints: settings.safety.auto_checkpoint && !arguments.no_checkpoints,
        enable_auto_rollback: settings.safety.auto_rollback && !arguments.no_rollback,
        seed: arguments.seed.unwrap_or(settings.run.seed),
    };
    check_sandbox(arguments, project, output)?;
    if arguments.dry_run {
        return plan(project, &project.stores().await?, options, output);
    }
    let ownership = Ownership::take(project, output)?;
    let stores = project.stores().await?;
    // Better now than when a bad candidate has to go.
    if options.enable_auto_rollback {
        stores.rollback.check_mode().await?;
    }
    let report = execute(project, &stores, &ownership, options, output).await?;
    let state = project.run_state()?;
    if state.incumbent.is_none() {
        // Interrupted before there was a version to start from: there is nothing to show.
        output.data(&report, || ending(&report));
        return Ok(exit_of(&report));
    }
    let mut rows = history::of(project, &state, None)?;
    // The whole history is `evoseal log`'s to show.
    let first = report.results.first().map_or(u64::MAX, |result| result.iteration);
    rows.iterations.retain(|row| row.iteration >= first);
    output.data(&report, || {
        let table = evoseal_report::iteration_table(&rows, history::table_options(output));
        format!(
            "{table}\n{}\n{}",
            evoseal_report::gain_summary(&rows, history::table_options(output)),
            ending(&report)
        )
    });
    Ok(exit_of(&report))
}

/// Runs iterations with a progress bar; Ctrl-C ends the run cleanly, a second one at once.
pub(crate) async fn execute(
    project: &Project,
    stores: &Stores,
    ownership: &Ownership,
    options: RunOptions,
    output: Output,
) -> Result<RunReport> {
    let cancellation = Cancellation::default();
    let signals = EndSignals::new()?;
    let watcher = tokio::spawn(watch_signals(signals, cancellation.clone(), output));
    let observer = Arc::new(RunProgress::new(output));
    let pipeline = project.pipeline(stores, Some(ownership), observer, cancellation)?;
    let report = pipeline.run(options).await;
    watcher.abort();
    Ok(report?)
}

/// The signals by which a person or the system asks a program to end: Ctrl-C, `kill`, a terminal that is closed.
struct EndSignals(Vec<Signal>);

impl EndSignals {
    /// Listens to them, except to what our caller has us ignore: `nohup` means that the terminal may be closed.
    fn new() -> Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let ignored = ignored_signals();
        let wanted = kinds.into_iter().filter(|kind| ignored & (1 << (kind.as_raw_value() - 1)) == 0);
        let listening = wanted.map(signal).collect::<std::io::Result<_>>();
        let failed = |error| Failure::environment(format!("cannot listen to signals: {error}"));
        Ok(Self(listening.map_err(failed)?))
    }

    /// Waits for the next of them.
    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// The signals that were ignored when this program was started, one bit each; none where the system does not say.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Turns the first signal into a clean end; the next one ends the process, and the next start recovers.
async fn watch_signals(mut signals: EndSignals, cancellation: Cancellation, output: Output) {
    signals.next().await;
    output.say("interrupted: returning the workspace to the accepted version; once more ends at once");
    cancellation.cancel();
    signals.next().await;
    output.say("ended; the next start of any evoseal run puts the workspace in order");
    std::process::exit(Exit::Interrupted as i32);
}

/// Says which walls do not hold; refuses where all are required.
fn check_sandbox(arguments: &RunArguments, project: &Project, output: Output) -> Result<()> {
    let capabilities = LinuxSandbox::detect().capabilities();
    let missing: Vec<&str> =
        capabilities.walls.iter().filter(|wall| !wall.enforced).map(|wall| wall.name.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if arguments.require_sandbox || project.loaded.settings.sandbox.require {
        let missing = missing.iter().map(|name| (*name).to_owned()).collect();
        return Err(evoseal_sandbox::Error::NotEnforced { missing }.into());
    }
    output.say(format!("not enforced on this machine: {}; `evoseal doctor` says why", missing.join(", ")));
    Ok(())
}

/// What a run would do.
fn plan(project: &Project, stores: &Stores, options: RunOptions, output: Output) -> Result<Exit> {
    let observer = Arc::new(RunProgress::new(output));
    project.pipeline(stores, None, observer, Cancellation::default())?;
    let state = project.run_state()?;
    let incumbent = state.incumbent.as_ref().map(|(version, _)| version.version_id.to_string());
    let value = serde_json::json!({
        "workspace": project.root,
        "options": options,
        "incumbent": incumbent,
        "next_iteration": state.next_iteration(),
        "unfinished_iteration": state.in_flight.as_ref().map(|flight| flight.iteration),
    });
    output.data(&value, || {
        let from = incumbent.map_or("the workspace as it is, once it passes".to_owned(), |version| version);
        let first = state.next_iteration();
        format!(
            "would run {} iterations from number {first} in {}, starting from {from}\nthe settings are valid; nothing was run",
            options.iterations,
            project.root.display()
        )
    });
    Ok(Exit::Done)
}

/// Why a run ended, and what was not protected.
fn ending(report: &RunReport) -> String {
    let mut text = format!("The run ended: {}.", report.stop_reason);
    for line in &report.unprotected {
        text.push_str("\nNot protected: ");
        text.push_str(line);
    }
    text
}

/// The exit code of a finished run.
fn exit_of(report: &RunReport) -> Exit {
    match report.stop_reason {
        StopReason::Interrupted => Exit::Interrupted,
        StopReason::DiskSpent { .. } => Exit::Environment,
        StopReason::NotRolledBack { .. }
        | StopReason::ConsecutiveFailures { .. }
        | StopReason::AwaitsPerson { .. } => Exit::Found,
        _ if report.results.iter().any(|result| !result.version_accepted) => Exit::Found,
        _ => Exit::Done,
    }
}
