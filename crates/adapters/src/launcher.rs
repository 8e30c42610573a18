//! What all commands of a run have in common, and how one of them is started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evoseal_pipeline::{Error, Result};
use evoseal_sandbox::{CommandOutcome, CommandSpec, Limits, Sandbox};
use evoseal_types::EntryPath;
use serde::{Deserialize, Serialize};

use crate::CommandLine;

/// What all commands of a run have in common: the sandbox, the environment that each starts from, and what each must
/// not read.
///
/// Nothing of the caller's environment reaches a command by itself. A program hands in what it wants to pass on; a
/// launcher without [`with_environment`](Self::with_environment) gives `PATH=/usr/local/bin:/usr/bin:/bin` alone.
///
/// ```
/// use std::sync::Arc;
///
/// use evoseal_adapters::Launcher;
/// use evoseal_sandbox::Sandbox;
///
/// fn launcher(sandbox: Arc<dyn Sandbox>) -> Launcher {
///     let environment = [("PATH", "/opt/toolchain/bin:/usr/bin:/bin"), ("LANG", "C.UTF-8")];
///     Launcher::new(sandbox)
///         .with_environment(environment.map(|(name, value)| (name.into(), value.into())).into())
///         .with_hidden(vec!["/srv/project/.evoseal".into()])
/// }
/// # use evoseal_sandbox::{Capabilities, CommandOutcome, CommandSpec, Error};
/// # #[derive(Debug)]
/// # struct Closed;
/// # #[async_trait::async_trait]
/// # impl Sandbox for Closed {
/// #     async fn run(&self, _: &CommandSpec) -> Result<CommandOutcome, Error> {
/// #         Err(Error::NotEnforced { missing: Vec::new() })
/// #     }
/// #     fn capabilities(&self) -> Capabilities { Capabilities { walls: Vec::new() } }
/// # }
/// assert!(format!("{:?}", launcher(Arc::new(Closed))).contains("/opt/toolchain/bin"));
/// ```
#[derive(Debug, Clone)]
pub struct Launcher {
    sandbox: Arc<dyn Sandbox>,
    environment: BTreeMap<OsString, OsString>,
    hidden: Vec<PathBuf>,
}

impl Launcher {
    /// A launcher whose commands run in `sandbox`.
    pub fn new(sandbox: Arc<dyn Sandbox>) -> Self {
        let path = ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
        Self { sandbox, environment: BTreeMap::from([path]), hidden: Vec::new() }
    }

    /// Replaces the environment that every command starts from. Settings of a step add to it; the `EVOSEAL_` variables
    /// win over both.
    pub fn with_environment(mut self, environment: BTreeMap<OsString, OsString>) -> Self {
        self.environment = environment;
        self
    }

    /// Replaces the directories that no command may read, such as the store.
    pub fn with_hidden(mut self, hidden: Vec<PathBuf>) -> Self {
        self.hidden = hidden;
        self
    }

    /// Starts a command and waits for its end.
    pub(crate) async fn run(&self, command: &CommandSpec) -> evoseal_sandbox::Result<CommandOutcome> {
        self.sandbox.run(command).await
    }

    /// Runs a command that looks at a directory, which it may write to; the inner error says why it is not content.
    pub async fn check(
        &self,
        step: &StepSettings,
        directory: PathBuf,
    ) -> evoseal_sandbox::Result<Result<(), String>> {
        let variables = vec![("EVOSEAL_WORKSPACE", directory.clone().into())];
        let place = Place { writable: vec![directory.clone()], directory, variables };
        let outcome = self.run(&self.spec(step, place)).await?;
        if outcome.ending.success() {
            return Ok(Ok(()));
        }
        let stderr = crate::text::tail(&outcome.stderr.text(), 500);
        let separator = if stderr.is_empty() { "" } else { ": " };
        Ok(Err(format!("`{}` {}{separator}{stderr}", step.command, outcome.ending)))
    }

    /// The command of a step in a place.
    pub(crate) fn spec(&self, step: &StepSettings, place: Place) -> CommandSpec {
        let mut words = step.command.words().into_iter();
        let program = words.next().expect("a command names its program").into();
        let mut environment = self.environment.clone();
        environment.extend(step.environment.iter().map(|(name, value)| (name.into(), value.into())));
        environment.extend(place.variables.into_iter().map(|(name, value)| (name.into(), value)));
        CommandSpec {
            program,
            args: words.map(Into::into).collect(),
            directory: place.directory,
            environment,
            stdin: Vec::new(),
            writable: place.writable,
            hidden: self.hidden.clone(),
            network: step.network,
            limits: step.limits,
        }
    }

    /// What to tell a person whose program was not found.
    pub(crate) fn missing(&self, program: &str, setting: &str) -> String {
        let path = self.environment.get(&OsString::from("PATH"));
        let path = path.map_or("nothing".into(), |path| path.to_string_lossy());
        format!("program {program:?} was not found (PATH is {path}); install it or change `{setting}`")
    }
}

/// Where a command runs.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) writable: Vec<PathBuf>,
    pub(crate) variables: Vec<(&'static str, OsString)>,
}

/// One command of an evaluation: what to run, where, and under which limits.
///
/// Also the settings of the `build` step, which may print what it likes and must exit with code 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// The command.
    pub command: CommandLine,
    /// Its limits. Default: those of [`Limits`].
    #[serde(default)]
    pub limits: Limits,
    /// Variables to add to the environment. Default: none. Names that start with `EVOSEAL_` are reserved.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The working directory, relative to the version's own, which is also the default. No symlink may stand on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<EntryPath>,
    /// Whether the command may use the network. Default false: the code that it runs is not trusted.
    #[serde(default)]
    pub network: bool,
}

impl StepSettings {
    /// A command with everything else at its default.
    pub fn new(command: CommandLine) -> Self {
        Self {
            command,
            limits: Limits::default(),
            environment: BTreeMap::new(),
            working_directory: None,
            network: false,
        }
    }

    /// Refuses an environment that a process cannot have or that would hide our variables.
    pub(crate) fn check(&self, section: &str) -> Result<()> {
        let refuse = |name: &str, reason: &str| {
            let what = format!("`{section}.environment` variable {name:?}");
            Err(Error::Invalid { what, reason: reason.to_owned() })
        };
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) {
                return refuse(name, "a name must not be empty or hold '=' or NUL");
            }
            if value.contains('\0') {
                return refuse(name, "its value has a NUL byte");
            }
            if name.starts_with("EVOSEAL_") {
                return refuse(name, "names that start with EVOSEAL_ are set by evoseal itself");
            }
        }
        Ok(())
    }

    /// The working directory within the version that lies in `root`.
    pub(crate) fn directory(&self, root: &Path) -> Result<PathBuf, String> {
        match &self.working_directory {
            None => Ok(root.to_owned()),
            Some(path) => crate::files::inside(root, path),
        }
    }
}
