//! The proof that checkpoints cannot be torn: crashes, power cuts, full disks, hostile trees and hostile bytes.
//!
//! The work is done by the example `proof` of the package `evoseal-tests`; what it checks stands there.

use std::ffi::OsString;
use std::path::Path;

use clap::{Args, Subcommand};

use crate::task::{Result, absolute, cargo, root, run};

/// How a crash is brought about.
#[derive(Debug, Subcommand)]
pub(crate) enum Crash {
    /// Kills at every file-system call of create, restore, delete and gc, and fails each with EIO and ENOSPC.
    Checkpoint(Options),
    /// Cuts the power on images of ext4 and xfs, and leaves out each sync in turn.
    Power(Options),
    /// Drops, reorders and tears what was not synced, at random seeds.
    Torn(Options),
    /// Fills the disk: a tmpfs of every size from nothing to enough.
    Disk(Options),
    /// Kills and fails a rollback at every change, and kills the recovery from it.
    Rollback(Options),
    /// Kills a whole run again and again, or with `--disk` fills its disk in the middle of each phase.
    Loop(Options),
}

/// What is handed on as it is.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the command; `--help` lists them, and `--smoke` makes it a matter of seconds.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    pub(crate) rest: Vec<OsString>,
}

impl Crash {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Checkpoint(options) => proof("checkpoint", options),
            Self::Power(options) => proof("power", options),
            Self::Torn(options) => proof("torn", options),
            Self::Disk(options) => proof("disk", options),
            Self::Rollback(options) => proof("rollback", options),
            Self::Loop(options) => proof("loop", options),
        }
    }
}

/// Runs a command of the example, with optimisation unless it is only to be seen that it works.
pub(crate) fn proof(command: &str, options: Options) -> Result<()> {
    let is_smoke = options.rest.iter().any(|option| option == "--smoke");
    let build: &[&str] = if is_smoke { &[] } else { &["--release"] };
    if matches!(command, "checkpoint" | "rollback" | "power" | "loop" | "evil") {
        // The program is killed as well; cargo does not build those of other packages.
        run(cargo(["build", "--quiet", "--package", "evoseal-cli"].iter().chain(build)))?;
    }
    let manifest = root().join("Cargo.toml");
    let mut started =
        cargo(["run", "--quiet", "--package", "evoseal-tests", "--example", "proof", "--manifest-path"]);
    started.arg(manifest).args(build).arg("--").arg(command).args(options.rest);
    // Files that the options name are meant from where the person stands.
    started.current_dir(absolute(Path::new("."))?);
    run(started)
}
