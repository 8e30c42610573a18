//! Running cargo and other programs from the root of the repository.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why a task failed, in a sentence.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// The root of the repository, wherever the task was started.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in a folder of the repository")
}

/// The cargo that runs this program, so that a chosen toolchain stays chosen.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command whose output goes where ours goes.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let shown = shown(&command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure(format!("`{shown}` ended with {status}"))),
        Err(error) => Err(Failure(format!("cannot start `{shown}`: {error}"))),
    }
}

/// Runs a command and gives what it wrote to standard output.
pub(crate) fn output(mut command: Command) -> Result<Vec<u8>> {
    let shown = shown(&command);
    let output = command.output().map_err(|error| Failure(format!("cannot start `{shown}`: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure(format!("`{shown}` ended with {}: {said}", output.status)))
}

/// A file that a person named, which may be relative to where they stand while commands run in the root.
pub(crate) fn absolute(file: &Path) -> Result<PathBuf> {
    std::path::absolute(file).map_err(|error| Failure(format!("cannot use {}: {error}", file.display())))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
