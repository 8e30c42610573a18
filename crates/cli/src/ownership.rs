//! One program at a time works on a workspace, and nothing of a killed one works on in it.

use std::sync::Arc;
use std::time::Duration;

use evoseal_pipeline::RunLock;
use evoseal_sandbox::Tether;

use crate::failure::Result;
use crate::output::Output;
use crate::project::Project;

/// Where private temporary folders of commands lie.
const TEMPORARY_ROOT: &str = "/tmp";
/// How long the commands of a killed run may take to disappear. They are killed within milliseconds; only a process inside a
/// hanging system call takes longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The right to change a workspace, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Ownership {
    pub(crate) lock: Arc<RunLock>,
    /// What commands are tied to.
    pub(crate) tether: Tether,
}

impl Ownership {
    /// Takes the workspace, or says who has it. What a killed run left running is ended first: nothing may write into the
    /// workspace while it is put in order.
    pub(crate) fn take(project: &Project, output: Output) -> Result<Self> {
        let state = project.create_state_directory()?;
        let lock = Arc::new(RunLock::acquire(&state)?);
        let (tether, ended) = Tether::take(&state, TEMPORARY_ROOT, PATIENCE)?;
        for left in ended {
            output.say(format!(
                "ended process {} ({}), which a killed run had left running",
                left.process, left.command
            ));
        }
        Ok(Self { lock, tether })
    }
}
