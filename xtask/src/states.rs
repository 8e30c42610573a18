//! The table of states in `crates/pipeline/STATES.md`.

use crate::task::{Result, cargo, run};

/// Writes what the code says into the document; the same test compares the two when it is not told to write.
pub(crate) fn write() -> Result<()> {
    let mut command = cargo(["test", "--quiet", "-p", "evoseal-pipeline", "--test", "states"]);
    command.env("EVOSEAL_WRITE_STATES", "1");
    run(command)
}
