//! Running untrusted commands under limits, and rules about what an edit may touch.
//!
//! # The problem
//!
//! A program that changes programs runs code that nobody has read: the proposed code itself, its tests, its build script.
//! Such code loops forever, ignores SIGTERM, leaves daemons behind, prints without end, fills the memory, reads the
//! secrets in the environment, and edits the tests that judge it. None of that needs malice, and all of it has been seen.
//!
//! # The concept
//!
//! Two seams, used one after the other:
//!
//! - A [`Guard`] looks at the *result* of an edit, before anything of it runs and again afterwards, and names what the edit must
//!   not have touched. [`EditScope`] knows where edits may go, [`ProtectedPaths`] pins what judges them, [`EditSize`] bounds
//!   them. [`presets`] lists what to protect, by language.
//! - A [`Sandbox`] runs one [command](CommandSpec) to its [end](CommandOutcome) under [limits](Limits). [`LinuxSandbox`] is the
//!   standard one; [`ScriptedSandbox`] answers without running anything. [`EnvironmentPolicy`] builds the environment that a
//!   command sees.
//!
//! What the machine cannot enforce is not passed over: [`Sandbox::capabilities`] lists every [wall](mod@wall), whether it stands,
//! and what to change if it does not, and [`Capabilities::require`] refuses to go on without it.
//!
//! # How a command is held
//!
//! | what a command does | what holds it | without that |
//! | --- | --- | --- |
//! | runs forever, ignores SIGTERM | SIGTERM at the wall-clock limit, SIGKILL a quarter of a second later | – |
//! | opens sessions, forks twice, leaves daemons | PID name space | child subreaper, which finds orphans one by one |
//! | outlives a killed harness | its keeper sees the control pipe close | – |
//! | prints without end, also one line; keeps the pipe open | bounded capture, drained when all processes are dead | – |
//! | takes memory, CPU time, disk | resource limits for each process | – |
//! | writes outside, changes modes there | read-only mounts, Landlock | reported |
//! | reads the store | empty mount over it | reported |
//! | uses the network | network name space with a loopback of its own | Landlock refuses TCP; reported |
//! | looks at other processes, signals them | PID name space with its own `/proc` | Landlock refuses signals; reported |
//! | gains rights | no-new-privileges; for root most capabilities are dropped | – |
//!
//! # Example
//!
//! ```
//! use std::collections::BTreeMap;
//! use evoseal_sandbox::{
//!     CommandSpec, Edit, Ending, EnvironmentPolicy, Guard, LinuxSandbox, ProtectedPaths, Sandbox, presets, wall,
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let workspace = tempfile::tempdir()?;
//! std::fs::write(workspace.path().join("answer.sh"), "echo 41")?;
//! std::fs::create_dir(workspace.path().join("tests"))?;
//! std::fs::write(workspace.path().join("tests/answer.sh"), "test $(sh answer.sh) = 42")?;
//! let protected = ProtectedPaths::pin(workspace.path(), presets::PYTHON)?;
//!
//! // Some agent edits the workspace. It repairs the program and leaves the test alone.
//! std::fs::write(workspace.path().join("answer.sh"), "echo 42")?;
//! let edit = Edit { workspace: workspace.path(), changes: &[] };
//! assert!(protected.check(&edit)?.is_empty());
//!
//! let sandbox = LinuxSandbox::detect();
//! sandbox.require(&[wall::WALL_CLOCK])?;
//! let caller = BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into()), ("API_TOKEN".into(), "secret".into())]);
//! let mut command = CommandSpec::new("sh", workspace.path());
//! command.args = vec!["tests/answer.sh".into()];
//! command.environment = EnvironmentPolicy::default().build(&caller);
//! command.writable = vec![workspace.path().to_owned()];
//! command.limits.wall_time_sec = 10;
//! assert_eq!(sandbox.run(&command).await?.ending, Ending::Exited(0));
//! assert!(protected.check(&edit)?.is_empty(), "the evaluation did not touch the test either");
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(example())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does not do
//!
//! - It is no virtual machine: the kernel is shared, and there is no filter of system calls. A hole in the kernel is a hole in
//!   the sandbox.
//! - Run as root, a command is root. It lacks most capabilities, but it reads every file that is not hidden, and the kernel
//!   exempts it from the process limit. Run the harness as a user without rights.
//! - Where mounts cannot be changed and Landlock confines alone, modes, owners and times of the user's files outside the
//!   writable folders can be changed.
//! - Everything outside [`CommandSpec::hidden`] that the user can read, a command can read: hide what it must not see. It can
//!   also connect to the user's Unix sockets in the file system, such as that of a container daemon.
//! - Limits hold for single processes. Many small ones can still fill the memory or the disk; a control group or a quota around
//!   the harness bounds the sum.
//! - A harness that is killed leaves no process once its descent has noticed, which a [`Tether`] waits for, but the command's empty or full temporary folder; see
//!   [`LinuxSandbox::temporary_root`].
//! - A command has no terminal and, under Landlock, cannot open a pseudo-terminal: those of the user would be in reach.
//! - Guards see what stands in the workspace, not what it means: that a test was weakened by an edit of the code that
//!   it calls is the evaluation's business.

#[cfg(feature = "conformance")]
pub mod conformance;
mod environment;
mod error;
mod guard;
mod guards;
mod linux;
mod patterns;
mod sandbox;
mod scripted;

pub use environment::{ENVIRONMENT_DEFAULT, EnvironmentPolicy};
pub use error::{Error, Result};
pub use guard::{Edit, Guard, Violation, ViolationKind};
pub use guards::{EditScope, EditSize, ProtectedPaths, presets};
pub use linux::{Leftover, LinuxSandbox, MARK_VARIABLE, Tether, Without, wall};
pub use sandbox::{Capabilities, Captured, CommandOutcome, CommandSpec, Ending, Limits, Sandbox, Wall};
pub use scripted::ScriptedSandbox;
