//! Measuring whole processes, each with its own CPU time and its own peak memory.
//!
//! Linux adds up what ended children used, per parent and with the largest of their peaks. A parent that starts one
//! measured sequence and ends thus learns what that sequence used and nothing else: this program starts itself as such a
//! launcher for every measurement. Peaks below the launcher's own few megabytes cannot be seen, since a child begins as a
//! copy of its parent.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

use super::Failure;

/// What one measured operation used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// From the start of the first process to the end of the last, or from the call to its return.
    pub(crate) wall_ms: f64,
    /// User and system time of all processes or threads together.
    pub(crate) cpu_ms: f64,
    /// The largest resident set of any one process. Not known inside a process that does other things too.
    pub(crate) peak_memory_bytes: Option<u64>,
}

/// One program to start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Step {
    program: PathBuf,
    /// [`PREVIOUS`] stands for what the step before wrote to standard output.
    arguments: Vec<String>,
    directory: PathBuf,
    environment: BTreeMap<String, String>,
    input: String,
}

/// The argument in whose place the output of the step before is put.
pub(crate) const PREVIOUS: &str = "{previous}";

/// Programs to start one after the other; measured is all of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    steps: Vec<Step>,
    /// Where calls that wait for a disk are to be listed; the times of such a run mean nothing.
    trace: Option<PathBuf>,
}

/// The calls that wait until something is on a disk.
const SYNC_CALLS: [&str; 6] = ["fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"];

impl Step {
    pub(crate) fn new(program: impl Into<PathBuf>, directory: &Path) -> Self {
        Self { program: program.into(), directory: directory.to_owned(), ..Self::default() }
    }

    pub(crate) fn arguments<A: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// What it reads from standard input.
    pub(crate) fn input(mut self, input: String) -> Self {
        self.input = input;
        self
    }

    /// Runs it and gives what it wrote, if anyone wants that.
    fn run(&self, previous: &str, keep_output: bool, trace: Option<&Path>) -> Result<String, Failure> {
        let mut command = match trace {
            None => Command::new(&self.program),
            Some(file) => {
                let mut command = Command::new("strace");
                command.args([
                    "-f",
                    "-qq",
                    "--seccomp-bpf",
                    "-e",
                    &format!("trace={}", SYNC_CALLS.join(",")),
                ]);
                command.args(["-e", "signal=none", "-A", "-o"]).arg(file).arg("--").arg(&self.program);
                command
            }
        };
        command.args(self.arguments.iter().map(|word| if word == PREVIOUS { previous } else { word }));
        command.current_dir(&self.directory).envs(&self.environment);
        command.stdout(if keep_output { Stdio::piped() } else { Stdio::null() });
        command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut child = command.spawn().map_err(|error| format!("cannot start {}: {error}", self.shown()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(self.input.as_bytes())?;
        }
        let mut output = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut output)?;
        }
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("{} ended with {status}", self.shown()).into());
        }
        Ok(output.trim_end().to_owned())
    }

    fn shown(&self) -> String {
        format!("`{} {}`", self.program.display(), self.arguments.join(" "))
    }
}

impl Plan {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), trace: None }
    }

    /// Runs it in a launcher of its own.
    pub(crate) fn measure(&self) -> Result<Cost, Failure> {
        let mut launcher = Command::new(std::env::current_exe()?)
            .arg(LAUNCH)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = launcher.stdin.take().expect("it was asked for");
        stdin.write_all(&serde_json::to_vec(self)?)?;
        drop(stdin);
        let output = launcher.wait_with_output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Runs it under `strace` and counts the calls that wait for a disk.
    pub(crate) fn count_syncs(mut self, file: &Path) -> Result<u64, Failure> {
        if file.exists() {
            std::fs::remove_file(file)?;
        }
        self.trace = Some(file.to_owned());
        self.measure()?;
        Ok(syncs_in(&std::fs::read_to_string(file)?))
    }
}

/// The number of calls in a listing of `strace`: `123 fsync(3) = 0`, or begun on one line and resumed on another.
fn syncs_in(listing: &str) -> u64 {
    let calls = listing.lines().filter_map(|line| line.split_whitespace().nth(1));
    let begun = calls.filter(|call| SYNC_CALLS.iter().any(|name| call.split('(').next() == Some(name)));
    begun.filter(|call| call.contains('(')).count() as u64
}

/// The hidden subject under which this program is a launcher.
pub(crate) const LAUNCH: &str = "launch";

/// Reads a plan from standard input, runs it and writes what it cost to standard output.
pub(crate) fn launch() -> Result<(), Failure> {
    let mut json = Vec::new();
    std::io::stdin().read_to_end(&mut json)?;
    let plan: Plan = serde_json::from_slice(&json)?;
    let start = Instant::now();
    let mut previous = String::new();
    for (number, step) in plan.steps.iter().enumerate() {
        let next = plan.steps.get(number + 1);
        let keep = next.is_some_and(|next| next.arguments.iter().any(|word| word == PREVIOUS));
        previous = step.run(&previous, keep, plan.trace.as_deref())?;
    }
    let wall = start.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu_us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let cpu = Duration::from_micros(u64::try_from(cpu_us)?);
    let cost = Cost {
        wall_ms: wall.as_secs_f64() * 1e3,
        cpu_ms: cpu.as_secs_f64() * 1e3,
        peak_memory_bytes: Some(u64::try_from(usage.max_rss())? * 1024),
    };
    std::io::stdout().write_all(&serde_json::to_vec(&cost)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_resumed_counts_once_and_other_lines_do_not() {
        let listing = "12 fsync(3)                 = 0\n\
                       13 fdatasync(4 <unfinished ...>\n\
                       12 sync_file_range(3, 0, 0, 7) = 0\n\
                       13 <... fdatasync resumed>)    = 0\n\
                       13 fsyncish(4)                 = 0\n\
                       13 +++ exited with 0 +++\n";
        assert_eq!(syncs_in(listing), 3);
    }
}
