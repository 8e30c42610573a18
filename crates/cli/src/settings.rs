//! `evoseal.toml`: what it may hold, and what the parts are made of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use evoseal_adapters::{
    CommandEvaluatorSettings, CommandLine, CommandProposerSettings, Parameter, ParameterProposerSettings,
    StepSettings,
};
use evoseal_metrics::MetricsSettings;
use evoseal_pipeline::{
    ConsecutiveFailures, DiskLimits, EvolutionPipelineBuilder, MaxEvaluations, NoImprovement, StopCondition,
    TimeLimit,
};
use evoseal_safety::{SafetySettings, ValidationSettings};
use evoseal_sandbox::Limits;
use evoseal_types::Objective;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::settings_error;

/// The name of the settings file.
pub(crate) const FILE_NAME: &str = "evoseal.toml";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// How long a run goes on.
    #[serde(default)]
    pub(crate) run: RunSettings,
    /// What to improve; without it every version that is no worse is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) objective: Option<Objective>,
    /// Who proposes changes.
    pub(crate) propose: ProposeSettings,
    /// What an edit may touch.
    #[serde(default)]
    pub(crate) edit: EditSettings,
    /// How a version is tested and measured.
    pub(crate) evaluate: CommandEvaluatorSettings,
    /// What commands see and what must be enforced.
    #[serde(default)]
    pub(crate) sandbox: SandboxSettings,
    /// Where measurements are kept, and thresholds.
    #[serde(default)]
    pub(crate) metrics: MetricsSettings,
    /// When a version counts as improved.
    #[serde(default)]
    pub(crate) validation: ValidationSettings,
    /// Checkpoints, rollback, regression detection and the decision.
    #[serde(default)]
    pub(crate) safety: SafetySettings,
}

impl Settings {
    /// The command of `safety.rollback.health_check`, if there is one.
    pub(crate) fn health_check(&self) -> Result<Option<StepSettings>> {
        let Some(check) = &self.safety.rollback.health_check else { return Ok(None) };
        let refuse = |reason: String| Failure::usage(format!("`safety.rollback.health_check`: {reason}"));
        let command =
            CommandLine::program(check.command.clone()).map_err(|error| refuse(error.to_string()))?;
        let limits = serde_json::to_value(&check.limits).and_then(serde_json::from_value);
        let limits = limits.map_err(|error| refuse(format!("limits: {error}")))?;
        Ok(Some(StepSettings { limits, ..StepSettings::new(command) }))
    }
}

/// How long a run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RunSettings {
    /// Iterations of one `evoseal run`. Default 20.
    pub(crate) iterations: u64,
    /// What proposers draw from. Default 0.
    pub(crate) seed: u64,
    /// After how many iterations in a row without an accepted version a run ends. Default 5, the published value.
    pub(crate) max_consecutive_rejections: u64,
    /// After how many seconds no further iteration begins. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_limit_sec: Option<u64>,
    /// After how many iterations in a row without a measurable improvement of the objective a run ends. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_iterations_without_improvement: Option<u64>,
    /// After how many evaluations a run ends, those made again included. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_evaluations: Option<u64>,
    /// How many bytes must be free where `.evoseal` lies for a further iteration to begin. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_free_bytes: Option<u64>,
    /// How many bytes the checkpoint store may take up for a further iteration to begin. Default: no limit;
    /// `safety.checkpoints.max_store_bytes` deletes old checkpoints instead of ending the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_store_bytes: Option<u64>,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            iterations: 20,
            seed: 0,
            max_consecutive_rejections: 5,
            time_limit_sec: None,
            max_iterations_without_improvement: None,
            max_evaluations: None,
            min_free_bytes: None,
            max_store_bytes: None,
        }
    }
}

impl RunSettings {
    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.time_limit_sec.map(Duration::from_secs)
    }

    /// Ends a run on what these settings limit, besides the number of its iterations.
    pub(crate) fn breakers(&self, mut builder: EvolutionPipelineBuilder) -> EvolutionPipelineBuilder {
        let mut conditions: Vec<Arc<dyn StopCondition>> =
            vec![Arc::new(ConsecutiveFailures(self.max_consecutive_rejections))];
        if let Some(limit) = self.time_limit() {
            conditions.push(Arc::new(TimeLimit(limit)));
        }
        if let Some(count) = self.max_iterations_without_improvement {
            conditions.push(Arc::new(NoImprovement(count)));
        }
        if let Some(limit) = self.max_evaluations {
            conditions.push(Arc::new(MaxEvaluations(limit)));
        }
        for condition in conditions {
            builder = builder.stop_condition(condition);
        }
        builder.disk_limits(DiskLimits {
            free_bytes_min: self.min_free_bytes,
            store_bytes_max: self.max_store_bytes,
        })
    }
}

/// Who proposes changes: a command, or values of named parameters. One of the two must be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProposeSettings {
    /// Any program; it edits the workspace, which is its working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<CommandLine>,
    /// The command's limits.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Variables to add to the command's environment, such as an agent's key.
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    /// Whether the command may use the network; an agent that asks a remote model needs true. Default false.
    #[serde(default)]
    pub(crate) network: bool,
    /// Named constants and the values that they may take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parameters: Vec<Parameter>,
}

/// One of the two kinds of proposer.
#[derive(Debug, Clone)]
pub(crate) enum ProposerKind {
    Command(CommandProposerSettings),
    Parameters(ParameterProposerSettings),
}

impl ProposeSettings {
    /// The kind that is set.
    pub(crate) fn kind(&self) -> Result<ProposerKind> {
        match (&self.command, self.parameters.is_empty()) {
            (Some(command), true) => Ok(ProposerKind::Command(CommandProposerSettings {
                command: command.clone(),
                limits: self.limits,
                environment: self.environment.clone(),
                network: self.network,
            })),
            (None, false) => {
                Ok(ProposerKind::Parameters(ParameterProposerSettings { parameters: self.parameters.clone() }))
            }
            (None, true) => Err(Failure {
                exit: crate::failure::Exit::Environment,
                message: format!("{FILE_NAME} names no proposer"),
                hint: Some("set `propose.command` to the program that changes the code, or list `propose.parameters`".to_owned()),
            }),
            (Some(_), false) => {
                Err(Failure::usage(format!("{FILE_NAME} has both `propose.command` and `propose.parameters`"))
                    .hint("remove one of them"))
            }
        }
    }
}

/// What an edit may touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EditSettings {
    /// Globs; every changed path must match one. Default: everything that is not protected.
    pub(crate) allowed_patterns: Vec<String>,
    /// Globs of paths that judge the code: tests, the evaluator, build settings; `!` before a glob takes paths out.
    /// `evoseal.toml` and the settings of continuous integration and of git are always protected.
    pub(crate) protected: Vec<String>,
    /// The most files that one edit may change. Default 200.
    pub(crate) max_files: usize,
    /// The most bytes that the changed files may have together. Default 16 MiB.
    pub(crate) max_bytes: u64,
}

impl Default for EditSettings {
    fn default() -> Self {
        Self {
            allowed_patterns: vec!["**".to_owned()],
            protected: Vec::new(),
            max_files: 200,
            max_bytes: 16 << 20,
        }
    }
}

/// What commands see, and what the machine must enforce.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SandboxSettings {
    /// Names of environment variables to pass on besides the usual ones; `*` stands for anything. Default: none.
    pub(crate) pass_environment: Vec<String>,
    /// Whether to refuse to run where a wall does not hold. Default false: it is said at the start.
    pub(crate) require: bool,
}

/// Settings and where they come from.
#[derive(Debug, Clone)]
pub(crate) struct LoadedSettings {
    /// The effective settings.
    pub(crate) settings: Settings,
    /// The file.
    pub(crate) path: PathBuf,
    /// What the file itself says.
    pub(crate) written: toml::Table,
}

impl LoadedSettings {
    /// Reads the settings of the project that `start` lies in: the nearest folder upwards with an `evoseal.toml`.
    pub(crate) fn find(start: &Path) -> Result<Self> {
        let path = start.ancestors().map(|folder| folder.join(FILE_NAME)).find(|path| path.is_file());
        let Some(path) = path else {
            return Err(Failure::usage(format!("no {FILE_NAME} in {} or above it", start.display()))
                .hint("`evoseal init` writes one; `evoseal demo` needs none"));
        };
        let text = std::fs::read_to_string(&path).map_err(|error| Failure::io("read", &path, &error))?;
        Self::parse(&path, &text)
    }

    /// Reads settings from text.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self> {
        let refuse = |error: toml::de::Error| settings_error::explain(path, text, &error);
        let settings: Settings = toml::from_str(text).map_err(refuse)?;
        let written: toml::Table = toml::from_str(text).map_err(refuse)?;
        let loaded = Self { settings, path: path.to_owned(), written };
        loaded.check()?;
        Ok(loaded)
    }

    /// What each type cannot check by itself.
    fn check(&self) -> Result<()> {
        self.settings.health_check()?;
        let Settings { objective, evaluate, safety, .. } = &self.settings;
        safety.check()?;
        let Some(objective) = objective else { return Ok(()) };
        let measured =
            evaluate.measure.as_ref().map(|measure| measure.measure_time.as_slice()).unwrap_or_default();
        let by_clock = measured.iter().any(|time| time.metric() == objective.metric.as_str());
        let Some(metric) = evaluate.metrics.get(&objective.metric) else {
            if by_clock {
                return Ok(());
            }
            return Err(Failure::usage(format!("objective.metric {} is not measured", objective.metric))
                .hint(format!("declare it: [evaluate.metrics.{}]", objective.metric)));
        };
        if metric.direction != objective.direction {
            let message =
                format!("objective.direction and evaluate.metrics.{}.direction differ", objective.metric);
            return Err(Failure::usage(message).hint("both say which direction of change is harmful"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "[propose]\ncommand = [\"agent\"]\n[evaluate.test]\ncommand = [\"make\", \"test\"]\nformat = \"exit_code\"\n";

    fn parse(text: &str) -> Result<LoadedSettings> {
        LoadedSettings::parse(Path::new(FILE_NAME), text)
    }

    #[test]
    fn two_commands_are_enough() {
        let loaded = parse(LEAST).unwrap();
        assert_eq!(loaded.settings.run.iterations, 20);
        assert_eq!(loaded.settings.safety.checkpoints.max_checkpoints, 50);
    }

    #[test]
    fn a_misspelt_key_is_refused_with_its_line_and_the_nearest_known_one() {
        let failure = parse(&format!("{LEAST}[safety.checkpoints]\nmax_chekpoints = 3\n")).unwrap_err();
        assert_eq!(failure.exit, crate::failure::Exit::Usage);
        assert!(
            failure.message.starts_with("evoseal.toml:7: unknown key `max_chekpoints`"),
            "{}",
            failure.message
        );
        assert!(failure.message.contains("max_chekpoints = 3"), "{}", failure.message);
        assert_eq!(failure.hint.as_deref(), Some("did you mean `max_checkpoints`?"));
    }

    #[test]
    fn an_objective_that_nobody_measures_is_refused() {
        let failure = parse(&format!("{LEAST}[objective]\nmetric = \"bytes\"\ndirection = \"increase\"\n"))
            .unwrap_err();
        assert!(failure.message.contains("objective.metric bytes is not measured"), "{}", failure.message);
    }

    #[test]
    fn a_proposer_must_be_named_once() {
        let none = parse(&LEAST.replace("command = [\"agent\"]", "")).unwrap().settings.propose.kind();
        assert_eq!(none.unwrap_err().exit, crate::failure::Exit::Environment);
    }
}
