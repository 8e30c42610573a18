//! The component trait of this crate: something that runs an untrusted command under limits.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Result;

/// A command to run. Nothing of the caller's environment reaches it but what stands here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The program: a path, or a name that is looked up in the `PATH` of [`environment`](Self::environment).
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The working directory.
    pub directory: PathBuf,
    /// The whole environment.
    pub environment: BTreeMap<OsString, OsString>,
    /// What the program reads from standard input; empty means that it reads nothing.
    pub stdin: Vec<u8>,
    /// Directories that the command may write to, besides its temporary folder. Enforced where the machine can; see
    /// [`Capabilities`].
    pub writable: Vec<PathBuf>,
    /// Directories that the command must not read, such as the store. Enforced where the machine can.
    pub hidden: Vec<PathBuf>,
    /// Whether it may use the network. Enforced where the machine can.
    pub network: bool,
    /// The limits.
    pub limits: Limits,
}

impl CommandSpec {
    /// A command without arguments, environment or input, that may write nowhere and use no network, under default
    /// limits.
    pub fn new(program: impl Into<OsString>, directory: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            directory: directory.into(),
            environment: BTreeMap::new(),
            stdin: Vec::new(),
            writable: Vec::new(),
            hidden: Vec::new(),
            network: false,
            limits: Limits::default(),
        }
    }
}

/// Upper bounds for one command and all that it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Wall-clock time in seconds. Default 600: long enough for a build, short enough to notice a hang.
    pub wall_time_sec: u64,
    /// CPU time of a single process in seconds; `None` for no limit beyond the wall clock.
    pub cpu_time_sec: Option<u64>,
    /// Address space of a single process in bytes; `None` for no limit.
    pub memory_bytes: Option<u64>,
    /// Size of a single written file in bytes. Default 4 GiB.
    pub file_size_bytes: Option<u64>,
    /// Processes and threads of the user; has no effect for root. `None` for no limit.
    pub process_count: Option<u64>,
    /// How much of each of the two output streams is kept, in bytes, half from the start and half from the end.
    /// Default 1 MiB.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall_time_sec: 600,
            cpu_time_sec: None,
            memory_bytes: None,
            file_size_bytes: Some(4 << 30),
            process_count: None,
            output_bytes: 1 << 20,
        }
    }
}

impl Limits {
    /// The wall-clock limit.
    pub const fn wall_time(&self) -> Duration {
        Duration::from_secs(self.wall_time_sec)
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It exited by itself with this code.
    Exited(i32),
    /// A signal that we did not send ended it: it crashed, or exceeded a limit that the kernel enforces.
    Signalled(i32),
    /// It ran longer than the wall-clock limit and was killed.
    TimedOut,
    /// The caller cancelled it and it was killed.
    Cancelled,
}

impl Ending {
    /// Whether it exited by itself with code 0.
    pub const fn success(self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signalled(signal) => write!(f, "was ended by signal {signal}"),
            Self::TimedOut => f.write_str("ran out of time and was killed"),
            Self::Cancelled => f.write_str("was cancelled"),
        }
    }
}

/// What a command wrote to one stream, its middle cut out where it was longer than the limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The start.
    pub head: Vec<u8>,
    /// The end, where it is not part of `head`.
    pub tail: Vec<u8>,
    /// How many bytes the command wrote in all.
    pub total_bytes: u64,
}

impl Captured {
    /// Whether something was cut out.
    pub fn truncated(&self) -> bool {
        self.total_bytes > (self.head.len() + self.tail.len()) as u64
    }

    /// The text, invalid UTF-8 replaced, with a line that says how much was cut out.
    pub fn text(&self) -> String {
        let (head, tail) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&self.tail));
        if !self.truncated() {
            return format!("{head}{tail}");
        }
        let missing = self.total_bytes - (self.head.len() + self.tail.len()) as u64;
        format!("{head}\n[{missing} bytes left out]\n{tail}")
    }
}

/// A finished command.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandOutcome {
    /// How it ended.
    pub ending: Ending,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
    /// Wall-clock time from start to the end of its last process.
    pub wall_time: Duration,
    /// CPU time in user mode of all processes that were waited for.
    pub cpu_user: Duration,
    /// CPU time in the kernel of all processes that were waited for.
    pub cpu_system: Duration,
    /// The largest resident memory of a single process, in bytes.
    pub memory_peak_bytes: u64,
    /// Processes that had left the command's process group or outlived it and were killed at the end.
    pub stragglers_killed: u32,
}

impl CommandOutcome {
    /// A command that ended so, wrote nothing and cost nothing; for scripted sandboxes and tests.
    pub fn new(ending: Ending) -> Self {
        Self {
            ending,
            stdout: Captured::default(),
            stderr: Captured::default(),
            wall_time: Duration::ZERO,
            cpu_user: Duration::ZERO,
            cpu_system: Duration::ZERO,
            memory_peak_bytes: 0,
            stragglers_killed: 0,
        }
    }
}

/// What this machine enforces, for `evoseal doctor` and the start of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// One line per wall, in a fixed order.
    pub walls: Vec<Wall>,
}

/// One thing that a sandbox promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wall {
    /// Its name: `wall-clock limit`, `write confinement`, `network`.
    pub name: String,
    /// Whether it holds on this machine.
    pub enforced: bool,
    /// By what, or why not and what a person could change.
    pub detail: String,
}

impl Wall {
    /// A wall and whether it stands.
    pub fn new(name: impl Into<String>, enforced: bool, detail: impl Into<String>) -> Self {
        Self { name: name.into(), enforced, detail: detail.into() }
    }
}

impl Capabilities {
    /// Whether the wall of this name stands; a name that is not listed does not.
    pub fn enforces(&self, name: &str) -> bool {
        self.walls.iter().any(|wall| wall.name == name && wall.enforced)
    }

    /// Fails with [`Error::NotEnforced`](crate::Error::NotEnforced), naming every wall of `names` that does not stand.
    pub fn require(&self, names: &[&str]) -> Result<()> {
        let missing: Vec<String> =
            names.iter().filter(|name| !self.enforces(name)).map(|name| (*name).to_owned()).collect();
        if missing.is_empty() { Ok(()) } else { Err(crate::Error::NotEnforced { missing }) }
    }
}

/// Runs untrusted commands under limits.
///
/// # Contract
///
/// - *Bounded.* A command ends within its wall-clock limit plus a short grace; what it keeps in memory of the output is
///   bounded by [`Limits::output_bytes`]; a command that writes without end neither blocks nor fills memory.
/// - *No survivors.* When `run` returns, no process that the command started is alive, as far as
///   [`Capabilities`] says so. The same holds when the returned future is dropped.
/// - *Empty environment.* The command sees exactly [`CommandSpec::environment`] and, where it has a private temporary
///   folder, `TMPDIR`, which names it.
/// - *Errors* say that the command could not be started ([`Error::ProgramMissing`](crate::Error::ProgramMissing) and the
///   like). A command that ran and failed is an `Ok` with its [`Ending`].
///
/// Wrappers implement it too, here one that never lets a command use the network. The feature `conformance` has the suite
/// that an implementation has to pass.
///
/// ```
/// use async_trait::async_trait;
/// use evoseal_sandbox::{Capabilities, CommandOutcome, CommandSpec, Ending, Result, Sandbox, ScriptedSandbox};
///
/// #[derive(Debug)]
/// struct Offline<S>(S);
///
/// #[async_trait]
/// impl<S: Sandbox> Sandbox for Offline<S> {
///     async fn run(&self, command: &CommandSpec) -> Result<CommandOutcome> {
///         self.0.run(&CommandSpec { network: false, ..command.clone() }).await
///     }
///
///     fn capabilities(&self) -> Capabilities {
///         self.0.capabilities()
///     }
/// }
///
/// # async fn example() -> Result<()> {
/// let sandbox = Offline(ScriptedSandbox::new(|_| Ok(CommandOutcome::new(Ending::Exited(0)))));
/// sandbox.run(&CommandSpec { network: true, ..CommandSpec::new("curl", "/") }).await?;
/// assert!(!sandbox.0.commands()[0].network);
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
#[async_trait]
pub trait Sandbox: fmt::Debug + Send + Sync {
    /// Runs a command to its end.
    async fn run(&self, command: &CommandSpec) -> Result<CommandOutcome>;

    /// What this sandbox enforces on this machine.
    fn capabilities(&self) -> Capabilities;
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_sandbox {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<S: Sandbox + ?Sized> Sandbox for $pointer<S> {
            async fn run(&self, command: &CommandSpec) -> Result<CommandOutcome> {
                (**self).run(command).await
            }

            fn capabilities(&self) -> Capabilities {
                (**self).capabilities()
            }
        }
    };
}

forward_sandbox!(Arc);
forward_sandbox!(Box);
