//! The proof that checkpoints cannot be torn and runs cannot be derailed, as commands: `cargo xtask crash`, `evil`, `soak` and
//! `fuzz` run this program.
//!
//! Each command does the same three things: it brings a store into a state that a crash, a power cut, a full disk, a hostile
//! tree or a hostile hand could leave; it lets the *next command* run, without help; and it compares what is then there
//! with a model. What it counts is what must never happen:
//!
//! | word | meaning |
//! | --- | --- |
//! | lost | something acknowledged, or an earlier checkpoint, is gone or does not restore exactly |
//! | mixed | neither the old nor the new state: a wrong set of checkpoints, damage, a half-changed workspace |
//! | blocked | the next command needs a person's help, or hangs |
//!
//! The operations under test run in processes of their own: this program starts itself with `operate`, which calls the
//! library and nothing else. What the library's interface looks like is known to `operate` and `audit` alone. Whole runs are
//! runs of the `evoseal` program, on a project whose course is known ([`course`]).

mod allowed;
mod audit;
mod course;
mod crash;
mod disk;
mod evil;
mod fuzz;
mod known;
mod look;
mod r#loop;
mod loop_disk;
mod machine;
mod operate;
mod power;
mod report;
mod rollback;
mod rolled_back;
mod scenario;
mod simulated;
mod soak;
mod spot;
mod strace;
mod torn;
mod victim;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::report::complain;

/// What everything here returns: a sentence for the person who runs the proof.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The proof that checkpoints cannot be torn and runs cannot be derailed.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kills the program at every file-system call, and fails each call.
    Checkpoint(crash::Arguments),
    /// Cuts the power after each acknowledgement and at each change, and leaves out each sync.
    Power(power::Arguments),
    /// Drops, reorders and tears what was not synced.
    Torn(torn::Arguments),
    /// Fills the disk.
    Disk(disk::Arguments),
    /// Kills and fails a rollback at every change, and kills the recovery from it.
    Rollback(rollback::Arguments),
    /// Kills a whole run again and again, or fills its disk in the middle of each phase.
    Loop(r#loop::Arguments),
    /// A tree of everything that breaks such tools.
    Evil(evil::Arguments),
    /// Several processes in one store, killed at random.
    Soak(soak::Arguments),
    /// Stores that a hostile hand could have written.
    Fuzz(fuzz::Arguments),
    /// Some seeds of that, in a process of their own.
    #[command(hide = true)]
    FuzzBatch(fuzz::Batch),
    /// One operation on a store, in a process that may be killed.
    #[command(hide = true)]
    Operate(operate::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Checkpoint(arguments) => machine::in_private(|| crash::run(&arguments)),
        Command::Power(arguments) => machine::in_private(|| power::run(&arguments)),
        Command::Torn(arguments) => machine::in_private(|| torn::run(&arguments)),
        Command::Disk(arguments) => machine::in_private(|| disk::run(&arguments)),
        Command::Rollback(arguments) => machine::in_private(|| rollback::run(&arguments)),
        Command::Loop(arguments) => machine::in_private(|| r#loop::run(&arguments)),
        Command::Evil(arguments) => machine::in_private(|| evil::run(&arguments)),
        Command::Soak(arguments) => machine::in_private(|| soak::run(&arguments)),
        Command::Fuzz(arguments) => machine::in_private(|| fuzz::run(&arguments)),
        Command::FuzzBatch(batch) => fuzz::batch(&batch),
        Command::Operate(arguments) => operate::run(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
