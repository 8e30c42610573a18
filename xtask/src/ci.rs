//! What continuous integration runs.

use std::process::Command;

use crate::task::{self, Result, root};

/// Runs `.ci/run`, the only place that lists the steps: what passes here passes there.
pub(crate) fn run() -> Result<()> {
    let mut command = Command::new(root().join(".ci/run"));
    command.current_dir(root());
    task::run(command)
}
