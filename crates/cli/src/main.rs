//! The `evoseal` program: the safety layer for programs that change programs.
//!
//! This crate is the composition root: it reads the settings, picks an implementation for each trait of the component
//! crates, and hands them to each other. It is also the only place that prints, reads the environment, and exits.

mod args;
mod audit_args;
mod commands;
mod completion;
mod detect_args;
mod failure;
mod output;
mod overlay;
mod ownership;
mod progress;
mod project;
mod quantity;
mod settings;
mod settings_error;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Arguments;
use crate::failure::Exit;
use crate::output::Output;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors, and go to standard output.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    let output = Output::new(&arguments.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.failure(&failure::Failure::environment(format!("cannot start: {error}")));
            return Exit::Environment.into();
        }
    };
    match runtime.block_on(commands::run(&arguments, output)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output.failure(&failure);
            failure.exit.into()
        }
    }
}
