//! A proposer that is any program.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use evoseal_pipeline::{Brief, Error, Proposal, ProposalContext, Proposer, Result};
use evoseal_sandbox::{CommandOutcome, Ending, Limits};
use evoseal_types::ErrorClass;
use serde::{Deserialize, Serialize};

use crate::launcher::Place;
use crate::{CommandLine, Launcher, StepSettings, files, text};

/// The exit code by which a program says that it has nothing more to propose.
pub const EXIT_EXHAUSTED: i32 = 3;
/// How long a summary may be, in characters.
const SUMMARY_CHARS_MAX: usize = 200;
/// How much of standard error an error quotes, in characters.
const STDERR_CHARS_MAX: usize = 2000;

/// Settings of [`CommandProposer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandProposerSettings {
    /// The command.
    pub command: CommandLine,
    /// Its limits. Default: those of [`Limits`], ten minutes among them.
    #[serde(default)]
    pub limits: Limits,
    /// Variables to add to the environment, such as an agent's key. Default: none.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Whether the command may use the network. Default false; an agent that asks a remote model needs true.
    #[serde(default)]
    pub network: bool,
}

/// Lets any program propose: a script, a coding agent, a migration tool.
///
/// The program runs with the workspace as its working directory and edits it in place. It may write there and in a folder
/// of its own, which stays for the whole run, and nowhere else in the run's folder. Besides the launcher's and the settings' variables it sees
///
/// | variable | value |
/// | --- | --- |
/// | `EVOSEAL_WORKSPACE` | the workspace |
/// | `EVOSEAL_RUN_DIR` | the folder of its own, for notes from one iteration to the next |
/// | `EVOSEAL_ITERATION` | the iteration, from 1 |
/// | `EVOSEAL_SEED` | the run's seed; with the iteration, all that chance may depend on |
/// | `EVOSEAL_BRIEF` | a JSON file: what the run is about and what became of earlier proposals |
///
/// The brief is one object:
///
/// ```json
/// {
///   "objective": { "metric": "throughput", "direction": "decrease" },
///   "incumbent": "iter-0004",
///   "incumbent_metrics": { "throughput": 512.5 },
///   "outcomes": [
///     { "iteration": 5, "change": "unroll the loop", "outcome": "reject",
///       "reasons": ["throughput fell by 3 %"], "metrics": { "throughput": 497.1 } }
///   ]
/// }
/// ```
///
/// `objective` may be null and `direction` is the harmful one; `outcomes` holds at most the latest 20, oldest first.
///
/// Exit code 0 means that the workspace was edited (whether it was is checked by others), 3 ([`EXIT_EXHAUSTED`]) that there
/// is nothing more to propose, and anything else is a failed iteration. The summary is the last line of standard
/// output that starts with `SUMMARY ` or `SUMMARY:`, else the last line that is not blank, cut to 200 characters.
///
/// ```
/// use evoseal_adapters::CommandProposerSettings;
///
/// let settings: CommandProposerSettings = toml::from_str(r#"
///     command = ["my-agent", "--non-interactive", "make it faster"]
///     network = true
///     limits = { wall_time_sec = 1800 }
///     environment = { MY_AGENT_MODEL = "small" }
/// "#)?;
/// assert_eq!(settings.command.words()[0], "my-agent");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CommandProposer {
    step: StepSettings,
    launcher: Launcher,
}

impl CommandProposer {
    /// A proposer with these settings, whose program is started by `launcher`.
    pub fn new(settings: CommandProposerSettings, launcher: Launcher) -> Result<Self> {
        let CommandProposerSettings { command, limits, environment, network } = settings;
        let step = StepSettings { limits, environment, network, ..StepSettings::new(command) };
        step.check("proposer")?;
        Ok(Self { step, launcher })
    }

    fn not_started(&self, error: evoseal_sandbox::Error) -> Error {
        let reason = match &error {
            evoseal_sandbox::Error::ProgramMissing { program } => self.launcher.missing(program, "command"),
            _ => format!("{} cannot be run", text::line(&self.step.command.to_string(), 100)),
        };
        Error::Proposer { reason, class: error.class(), source: Some(Box::new(error)) }
    }
}

#[async_trait]
impl Proposer for CommandProposer {
    async fn propose(&self, context: &ProposalContext) -> Result<Proposal> {
        let brief = context.run_directory.join("brief.json");
        write_brief(&brief, &context.brief)?;
        let own = context.run_directory.join("proposer");
        std::fs::create_dir_all(&own).map_err(|source| Error::Io {
            action: "create",
            path: own.clone(),
            source,
        })?;
        let place = Place {
            directory: context.workspace.clone(),
            writable: vec![context.workspace.clone(), own.clone()],
            variables: vec![
                ("EVOSEAL_WORKSPACE", context.workspace.clone().into()),
                ("EVOSEAL_RUN_DIR", own.into()),
                ("EVOSEAL_ITERATION", context.iteration.to_string().into()),
                ("EVOSEAL_SEED", context.seed.to_string().into()),
                ("EVOSEAL_BRIEF", brief.into()),
            ],
        };
        let command = self.launcher.spec(&self.step, place);
        let outcome = self.launcher.run(&command).await.map_err(|error| self.not_started(error))?;
        match outcome.ending {
            Ending::Exited(0) => {
                let summary = summary(&outcome)
                    .unwrap_or_else(|| text::line(&format!("edited by {}", self.step.command), 200));
                Ok(Proposal::Edited { summary })
            }
            Ending::Exited(EXIT_EXHAUSTED) => {
                let reason =
                    summary(&outcome).unwrap_or_else(|| "the program has nothing more to propose".to_owned());
                Ok(Proposal::Exhausted { reason })
            }
            // The next iteration may go better: a remote model answers again, a random draw finds its way.
            ending => {
                let reason = describe(&self.step.command, ending, &outcome);
                Err(Error::Proposer { reason, class: ErrorClass::Transient, source: None })
            }
        }
    }
}

fn describe(command: &CommandLine, ending: Ending, outcome: &CommandOutcome) -> String {
    let command = text::line(&command.to_string(), 100);
    let stderr = text::tail(&outcome.stderr.text(), STDERR_CHARS_MAX);
    let separator = if stderr.is_empty() { "" } else { ": " };
    format!("`{command}` {ending}{separator}{stderr}")
}

fn write_brief(path: &Path, brief: &Brief) -> Result<()> {
    let io = |source| Error::Io { action: "write", path: path.to_owned(), source };
    let json = serde_json::to_vec_pretty(brief).map_err(|error| io(error.into()))?;
    files::replace(path, &json).map_err(io)
}

/// What the program says it did: the last `SUMMARY` line, else the last line.
fn summary(outcome: &CommandOutcome) -> Option<String> {
    let output = outcome.stdout.text();
    let marked = output.lines().rev().find_map(|line| {
        let rest = line.strip_prefix("SUMMARY")?;
        rest.strip_prefix(':').or_else(|| rest.strip_prefix(' '))
    });
    let chosen = marked.or_else(|| output.lines().rev().find(|line| !line.trim().is_empty()))?;
    let summary = text::line(chosen, SUMMARY_CHARS_MAX);
    (!summary.is_empty()).then_some(summary)
}
