//! A sandbox without processes.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::{Capabilities, CommandOutcome, CommandSpec, Result, Sandbox};

type Answer = dyn Fn(&CommandSpec) -> Result<CommandOutcome> + Send + Sync;

/// Answers commands from a function and remembers them: for tests of what stands on a [`Sandbox`], and for dry runs.
///
/// It runs nothing, so it enforces nothing, and says so.
///
/// ```
/// # async fn example() -> evoseal_sandbox::Result<()> {
/// use evoseal_sandbox::{CommandOutcome, CommandSpec, Ending, Sandbox, ScriptedSandbox};
///
/// let sandbox = ScriptedSandbox::new(|command| {
///     Ok(CommandOutcome::new(Ending::Exited(i32::from(command.program != "true"))))
/// });
/// assert!(sandbox.run(&CommandSpec::new("true", "/")).await?.ending.success());
/// assert!(!sandbox.run(&CommandSpec::new("false", "/")).await?.ending.success());
/// assert_eq!(sandbox.commands().len(), 2);
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
pub struct ScriptedSandbox {
    answer: Box<Answer>,
    commands: Mutex<Vec<CommandSpec>>,
}

impl ScriptedSandbox {
    /// A sandbox that answers as `answer` does.
    pub fn new(answer: impl Fn(&CommandSpec) -> Result<CommandOutcome> + Send + Sync + 'static) -> Self {
        Self { answer: Box::new(answer), commands: Mutex::new(Vec::new()) }
    }

    /// The commands that were run so far, in order.
    pub fn commands(&self) -> Vec<CommandSpec> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for ScriptedSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedSandbox").field("commands", &self.commands()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Sandbox for ScriptedSandbox {
    async fn run(&self, command: &CommandSpec) -> Result<CommandOutcome> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command.clone());
        (self.answer)(command)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { walls: Vec::new() }
    }
}
