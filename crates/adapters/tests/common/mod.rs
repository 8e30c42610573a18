//! Sandboxes for tests: one that really starts processes, one that answers from a script.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use evoseal_sandbox::{Capabilities, Captured, CommandOutcome, CommandSpec, Ending, Error, Result, Sandbox};

/// Starts commands without confining them, and keeps what it was asked to start.
#[derive(Debug, Default)]
pub(crate) struct PlainSandbox {
    pub(crate) started: Mutex<Vec<CommandSpec>>,
}

#[async_trait]
impl Sandbox for PlainSandbox {
    async fn run(&self, command: &CommandSpec) -> Result<CommandOutcome> {
        self.started.lock().expect("no test panics with the lock").push(command.clone());
        let name = command.program.to_string_lossy().into_owned();
        let mut process = tokio::process::Command::new(&command.program);
        process.args(&command.args).current_dir(&command.directory).env_clear().envs(&command.environment);
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = process.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::ProgramMissing { program: name.clone() },
            _ => Error::Start { program: name.clone(), source },
        })?;
        let limit = command.limits.wall_time();
        let Ok(finished) = tokio::time::timeout(limit, child.wait_with_output()).await else {
            return Ok(outcome(Ending::TimedOut, "", ""));
        };
        let finished = finished.map_err(|source| Error::Start { program: name, source })?;
        let ending = match finished.status.code() {
            Some(code) => Ending::Exited(code),
            None => Ending::Signalled(
                std::os::unix::process::ExitStatusExt::signal(&finished.status).unwrap_or(0),
            ),
        };
        let kept = usize::try_from(command.limits.output_bytes).unwrap_or(usize::MAX);
        Ok(CommandOutcome {
            stdout: captured(finished.stdout, kept),
            stderr: captured(finished.stderr, kept),
            ..outcome(ending, "", "")
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { walls: Vec::new() }
    }
}

fn captured(bytes: Vec<u8>, kept: usize) -> Captured {
    let total_bytes = bytes.len() as u64;
    if bytes.len() <= kept {
        return Captured { head: bytes, tail: Vec::new(), total_bytes };
    }
    let half = kept / 2;
    Captured { head: bytes[..half].to_vec(), tail: bytes[bytes.len() - half..].to_vec(), total_bytes }
}

/// An outcome with these outputs, one second of wall time and half a second of CPU time.
pub(crate) fn outcome(ending: Ending, stdout: &str, stderr: &str) -> CommandOutcome {
    CommandOutcome {
        ending,
        stdout: captured(stdout.as_bytes().to_vec(), usize::MAX),
        stderr: captured(stderr.as_bytes().to_vec(), usize::MAX),
        wall_time: Duration::from_secs(1),
        cpu_user: Duration::from_millis(300),
        cpu_system: Duration::from_millis(200),
        memory_peak_bytes: 3 << 20,
        stragglers_killed: 0,
    }
}

type Answer = dyn FnMut(&CommandSpec) -> Result<CommandOutcome> + Send;

/// Answers each command with what a function says.
pub(crate) struct ScriptedSandbox(Mutex<Box<Answer>>);

impl ScriptedSandbox {
    pub(crate) fn new(
        answer: impl FnMut(&CommandSpec) -> Result<CommandOutcome> + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Box::new(answer))))
    }
}

impl fmt::Debug for ScriptedSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedSandbox")
    }
}

#[async_trait]
impl Sandbox for ScriptedSandbox {
    async fn run(&self, command: &CommandSpec) -> Result<CommandOutcome> {
        let mut answer = self.0.lock().expect("no test panics with the lock");
        answer(command)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { walls: Vec::new() }
    }
}

/// A folder with empty folders in it.
pub(crate) struct Folders {
    root: tempfile::TempDir,
}

impl Folders {
    pub(crate) fn new(names: &[&str]) -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        for name in names {
            std::fs::create_dir_all(root.path().join(name)).expect("a folder in it");
        }
        Self { root }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).expect("a file in a folder of ours");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file that is there")
    }
}
