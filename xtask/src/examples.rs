//! Running the examples of the crates.

use serde::Deserialize;

use crate::task::{Failure, Result, cargo, output};

/// The part of `cargo metadata` that is needed.
#[derive(Debug, Deserialize)]
struct Metadata {
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
    #[serde(default, rename = "required-features")]
    required_features: Vec<String>,
}

/// Runs each example and says how many there were. What an example prints is shown only if it fails.
pub(crate) fn run() -> Result<String> {
    let json = output(cargo(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Metadata = serde_json::from_slice(&json)
        .map_err(|error| Failure(format!("cannot read the answer of `cargo metadata`: {error}")))?;
    // The measurement among the end-to-end tests is an example too, and no example of how to use anything.
    let crates = metadata.packages.iter().filter(|package| package.manifest_path.contains("/crates/"));
    let mut lines = Vec::new();
    for package in crates {
        for example in
            package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "example"))
        {
            let mut command =
                cargo(["run", "--quiet", "--package", &package.name, "--example", &example.name]);
            if !example.required_features.is_empty() {
                command.arg("--features").arg(example.required_features.join(","));
            }
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
