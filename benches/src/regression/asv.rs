//! The step detection of asv, run as published, on the series that we judge.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Reads a list of series, writes its version and the first index of each step after the first.
const PROGRAM: &str = "
import importlib.metadata, json, sys
from asv.step_detect import detect_steps
found = [[step[0] for step in detect_steps(values)][1:] for values in json.load(sys.stdin)]
json.dump({'version': importlib.metadata.version('asv'), 'found': found}, sys.stdout)
";

/// What asv finds.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Steps {
    pub(super) version: String,
    /// The places of the changes in each series.
    pub(super) found: Vec<Vec<usize>>,
}

/// Runs asv's `detect_steps` in this Python, which has to have the package `asv`.
pub(super) fn steps(python: &Path, series: &[&[f64]]) -> Result<Steps, Box<dyn Error>> {
    let failed = |what: String| format!("{}: {what}", python.display());
    let mut child = Command::new(python)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    // Read whole before anything is written: it cannot block us.
    child.stdin.take().ok_or("no standard input")?.write_all(&serde_json::to_vec(series)?)?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        return Err(failed("asv.step_detect cannot be run: `pip install asv`".to_owned()).into());
    }
    let steps: Steps = serde_json::from_slice(&done.stdout)?;
    if steps.found.len() == series.len() {
        Ok(steps)
    } else {
        Err(failed("an answer is missing".to_owned()).into())
    }
}
