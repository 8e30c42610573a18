//! The standard sandbox: process groups, name spaces, Landlock and resource limits of Linux.

mod capture;
#[expect(
    unsafe_code,
    reason = "fork, wait and what happens between fork and exec need system calls that no safe crate offers"
)]
mod child;
mod features;
mod memory;
mod plan;
mod report;
mod supervisor;
mod tether;

use std::io::{self, PipeWriter};
use std::path::PathBuf;
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::oneshot;

use self::features::Features;
pub use self::features::wall;
use self::plan::Temporary;
pub use self::tether::{Leftover, MARK_VARIABLE, Tether};
use crate::{Capabilities, CommandOutcome, CommandSpec, Error, Result, Sandbox};

/// Runs commands under everything that this Linux machine offers against them.
///
/// Each command gets a thread that starts it, moves its input and output and watches the clock, so the future needs no
/// particular runtime. At the wall-clock limit the whole descent gets SIGTERM, and a quarter of a second later SIGKILL.
///
/// Besides its [environment](CommandSpec::environment) the command sees `TMPDIR`, which names a private folder that is
/// removed afterwards.
///
/// Dropping the future blocks until the descent is dead: a few milliseconds, and at most ten seconds.
///
/// ```
/// # async fn example() -> evoseal_sandbox::Result<()> {
/// use evoseal_sandbox::{CommandSpec, LinuxSandbox, Sandbox};
///
/// let sandbox = LinuxSandbox::detect();
/// let mut command = CommandSpec::new("/bin/sh", "/");
/// command.args = vec!["-c".into(), "echo out of $((6 * 7)); exit 3".into()];
/// let outcome = sandbox.run(&command).await?;
/// assert_eq!(outcome.ending.to_string(), "exited with code 3");
/// assert_eq!(outcome.stdout.text(), "out of 42\n");
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct LinuxSandbox {
    features: Features,
    temporary_root: PathBuf,
    tether: Option<Tether>,
}

impl LinuxSandbox {
    /// Finds out what the machine offers by trying it in short-lived child processes.
    pub fn detect() -> Self {
        Self::detect_without(Without::default())
    }

    /// The same, some features left aside: for machines on which one of them is in the way of an honest command.
    pub fn detect_without(without: Without) -> Self {
        let features = Features::detect(!without.namespaces, !without.landlock);
        Self { features, temporary_root: PathBuf::from("/tmp"), tether: None }
    }

    /// Creates the private temporary folders below `root` instead of `/tmp`.
    pub fn temporary_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.temporary_root = root.into();
        self
    }

    /// Ties every command to `tether`, so that the next harness finds what this one leaves if it is killed. The private
    /// temporary folders lie where the tether looks for them.
    pub fn tethered(mut self, tether: Tether) -> Self {
        self.tether = Some(tether);
        self
    }

    /// The private folders of the next command.
    fn temporary(&self) -> Result<Temporary> {
        match &self.tether {
            Some(tether) => Temporary::create(tether.temporary_root(), &tether.temporary_prefix()),
            None => Temporary::create(&self.temporary_root, Temporary::PREFIX),
        }
    }

    /// Refuses to go on unless every wall in `names` stands; see [`wall`] for the names.
    ///
    /// ```
    /// use evoseal_sandbox::{Error, LinuxSandbox, wall};
    /// let sandbox = LinuxSandbox::detect();
    /// sandbox.require(&[wall::WALL_CLOCK, wall::OUTPUT])?;
    /// assert!(matches!(sandbox.require(&["time travel"]), Err(Error::NotEnforced { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn require(&self, names: &[&str]) -> Result<()> {
        self.capabilities().require(names)
    }
}

/// Features that a [`LinuxSandbox`] shall do without, although the machine may have them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Without {
    /// No name spaces: processes are cleaned up one by one, the network and hidden folders are open, mounts stay as they
    /// are.
    pub namespaces: bool,
    /// No Landlock: only mounts and name spaces confine the command. Without both, it can write whatever its user can.
    pub landlock: bool,
}

#[async_trait]
impl Sandbox for LinuxSandbox {
    async fn run(&self, command: &CommandSpec) -> Result<CommandOutcome> {
        let (sender, receiver) = oneshot::channel();
        let io = |source| Error::Io { action: "supervise", path: command.program.clone().into(), source };
        let (cancelled, cancel) = io::pipe().map_err(io)?;
        let (harness, owned) = (self.clone(), command.clone());
        let work = move || {
            // Nobody receives the outcome of a cancelled command.
            let _ = sender.send(supervisor::run(&harness, &owned, &cancelled));
        };
        let thread =
            std::thread::Builder::new().name("evoseal-sandbox".to_owned()).spawn(work).map_err(io)?;
        let _supervision = Supervision { cancel: Some(cancel), thread: Some(thread) };
        receiver.await.map_err(|_| io(io::Error::other("the supervising thread panicked")))?
    }

    fn capabilities(&self) -> Capabilities {
        self.features.capabilities()
    }
}

/// Ends the command when the future that waits for it is dropped.
#[derive(Debug)]
struct Supervision {
    cancel: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Supervision {
    fn drop(&mut self) {
        self.cancel = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has become the outcome already.
            let _ = thread.join();
        }
    }
}
