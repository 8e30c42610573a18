//! One operation on a store, in a process of its own: what is killed, starved and cut off.
//!
//! A *place* is a folder with `store`, `workspace` and `expected.json` in it. The operation stands between two calls that
//! leave no trace but in a log of system calls, so that starting and ending the process is told from its work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use evoseal_checkpoint::{
    Checkpoint, CheckpointManager, CheckpointSettings, NewCheckpoint, RestoreMode, Source,
};
use evoseal_rollback::RollbackMode;

use crate::report::{Findings, complain, print};
use crate::scenario::Expected;
use crate::{Result, audit, rollback, soak};

/// Looked for, and never there: where the work begins and ends in a log of system calls.
pub(crate) const BEGIN: &str = "mark-begin";
pub(crate) const END: &str = "mark-end";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The folder that holds store and workspace.
    #[arg(long)]
    place: PathBuf,
    /// Keep at most so many checkpoints, by automatic cleanup.
    #[arg(long)]
    keep: Option<u64>,
    /// Keep ignored files, times and extended attributes as well.
    #[arg(long)]
    everything: bool,
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Captures the workspace.
    Create { version: String },
    /// Makes a folder of the place equal to a checkpoint.
    Restore {
        version: String,
        target: PathBuf,
        #[arg(long)]
        in_place: bool,
    },
    /// Deletes checkpoints.
    Delete { versions: Vec<String> },
    /// Collects garbage.
    Gc,
    /// Pins a checkpoint.
    Pin { version: String },
    /// Rolls the workspace back.
    Rollback {
        version: String,
        #[arg(long)]
        exchange: bool,
    },
    /// Completes a rollback that was cut off.
    Recover,
    /// Captures, restores, deletes and collects until it is killed.
    Work { number: usize, seed: u64 },
    /// Lets the next commands run and compares what is there with what is expected; prints the findings as JSON.
    Audit {
        /// The operation before had said that it was done.
        #[arg(long)]
        acknowledged: bool,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let place = arguments.place.as_path();
    if let Operation::Audit { acknowledged } = arguments.operation {
        let expected: Expected = serde_json::from_slice(&fs::read(place.join("expected.json"))?)?;
        let mut findings = Findings::default();
        let completed = audit::audit(place, &expected, acknowledged, &mut findings);
        print(&serde_json::to_string(&(completed, findings))?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Operation::Work { number, seed } = arguments.operation {
        soak::work(place, number, seed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mark = |name: &str| place.join(name).exists();
    mark(BEGIN);
    let done = match &arguments.operation {
        Operation::Rollback { version, exchange } => {
            let mode = if *exchange { RollbackMode::Exchange } else { RollbackMode::InPlace };
            rollback::by_library(place, mode, Some(version))
        }
        // What was begun is completed in the mode that it was begun in.
        Operation::Recover => rollback::by_library(place, RollbackMode::default(), None),
        _ => operate(place, arguments).map_err(Into::into),
    };
    mark(END);
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            complain(&format!("{error:?}"));
            Ok(ExitCode::from(3))
        }
    }
}

fn operate(place: &Path, arguments: &Arguments) -> evoseal_checkpoint::Result<()> {
    let manager = open_with(place, arguments.keep, arguments.everything)?;
    match &arguments.operation {
        Operation::Create { version } => create(&manager, &place.join("workspace"), version).map(drop),
        Operation::Restore { version, target, in_place } => {
            let mode = if *in_place { RestoreMode::InPlace } else { RestoreMode::Empty };
            restore(&manager, version, &place.join(target), mode)
        }
        Operation::Delete { versions } => {
            let ids = versions.iter().map(|version| find(&manager, version).map(|found| found.id));
            manager.delete_blocking(&ids.collect::<Result<Vec<_>, _>>()?).map(drop)
        }
        Operation::Gc => manager.collect_garbage_blocking().map(drop),
        Operation::Pin { version } => manager.pin_blocking(find(&manager, version)?.id, Some("kept")),
        Operation::Rollback { .. }
        | Operation::Recover
        | Operation::Work { .. }
        | Operation::Audit { .. } => {
            unreachable!("handled before")
        }
    }
}

/// Opens the store of a place, or makes it.
pub(crate) fn open(place: &Path, keep: Option<u64>) -> evoseal_checkpoint::Result<CheckpointManager> {
    open_with(place, keep, false)
}

fn open_with(
    place: &Path,
    keep: Option<u64>,
    everything: bool,
) -> evoseal_checkpoint::Result<CheckpointManager> {
    let settings = CheckpointSettings {
        auto_cleanup: keep.is_some(),
        max_checkpoints: keep.unwrap_or(u64::MAX),
        include_ignored: everything,
        keep_mtimes: everything,
        keep_xattrs: everything,
        ..CheckpointSettings::default()
    };
    CheckpointManager::builder().directory(place.join("store")).settings(settings).open_or_create()
}

/// Captures a directory and waits until it is durable.
pub(crate) fn create(
    manager: &CheckpointManager,
    directory: &Path,
    version: &str,
) -> evoseal_checkpoint::Result<Checkpoint> {
    let version = version.parse().map_err(|_| evoseal_checkpoint::Error::Invalid {
        argument: "version",
        reason: format!("{version:?} is no version id"),
    })?;
    let source = Source::Directory(directory.to_owned());
    manager.create_blocking(&source, NewCheckpoint::of(version)).map(|(checkpoint, _)| checkpoint)
}

/// The newest checkpoint of a version.
pub(crate) fn find(manager: &CheckpointManager, version: &str) -> evoseal_checkpoint::Result<Checkpoint> {
    let is_meant = |checkpoint: &Checkpoint| checkpoint.details.version_id.as_str() == version;
    let found = manager.list_blocking()?.into_iter().rev().find(is_meant);
    found.ok_or_else(|| evoseal_checkpoint::Error::NotFound { what: format!("checkpoint of {version}") })
}

pub(crate) fn restore(
    manager: &CheckpointManager,
    version: &str,
    target: &Path,
    mode: RestoreMode,
) -> evoseal_checkpoint::Result<()> {
    manager.restore_blocking(find(manager, version)?.id, target, mode).map(drop)
}
