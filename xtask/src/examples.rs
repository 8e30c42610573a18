//! Running the examples of the crates.

use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::task::{Failure, Result, cargo, output, root, run as run_command};

/// The part of `cargo metadata` that is needed.
#[derive(Debug, Deserialize)]
struct Metadata {
    target_directory: PathBuf,
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Runs each example and says how many there were. What an example prints is shown only if it fails.
pub(crate) fn run() -> Result<String> {
    let json = output(cargo(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Metadata = serde_json::from_slice(&json)
        .map_err(|error| Failure(format!("cannot read the answer of `cargo metadata`: {error}")))?;
    // All at once, as the tests build them: one by one each would have features of its own and be built anew.
    run_command(cargo(["build", "--quiet", "--workspace", "--examples"]))?;
    let built = metadata.target_directory.join("debug/examples");
    // The measurement among the end-to-end tests is an example too, and no example of how to use anything.
    let crates = metadata.packages.iter().filter(|package| package.manifest_path.contains("/crates/"));
    let mut lines = Vec::new();
    for package in crates {
        for example in
            package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "example"))
        {
            // The argument is for those that write a file; the others do not look at it.
            let mut command = Command::new(built.join(&example.name));
            command.current_dir(root()).arg(built.join(format!("{}.output.html", example.name)));
            output(command)?;
            lines.push(format!("example {} of {} ... ok\n", example.name, package.name));
        }
    }
    if lines.is_empty() {
        return Err(Failure("there is no example to run".to_owned()));
    }
    lines.push(format!("{} examples passed\n", lines.len()));
    Ok(lines.concat())
}
