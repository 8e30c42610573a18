//! The composition root: which implementation stands behind each trait, and where each keeps its files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evoseal_adapters::{CommandEvaluator, CommandProposer, Launcher, ParameterProposer};
use evoseal_checkpoint::{CheckpointManager, CheckpointSettings, CheckpointStore};
use evoseal_metrics::{MetricStore, MetricsSettings, MetricsTracker};
use evoseal_pipeline::{
    Cancellation, EvolutionPipeline, Journal, JournalEntry, LoopRules, Observer, PipelineParts, Proposer,
    RunState,
};
use evoseal_regression::{RegressionDetector, RegressionSettings};
use evoseal_rollback::{FunctionVerifier, Rollback, RollbackManager, RollbackMode, Verifier};
use evoseal_safety::{FileAuditLog, FileEvidenceStore, SafetyIntegration, SafetySwitches, StandardPolicy};
use evoseal_sandbox::{EditScope, EditSize, EnvironmentPolicy, Guard, LinuxSandbox, ProtectedPaths, Sandbox};
use evoseal_types::{Clock, SystemClock};

use crate::args::GlobalArguments;
use crate::failure::{Failure, Result};
use crate::ownership::Ownership;
use crate::settings::{FILE_NAME, LoadedSettings, ProposerKind, Settings};

/// The folder in the workspace that holds everything of ours.
const STATE_FOLDER: &str = ".evoseal";

/// A folder with an `evoseal.toml`.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) loaded: LoadedSettings,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The parts that survive between commands.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) checkpoints: Arc<CheckpointManager>,
    pub(crate) metrics: Arc<dyn MetricStore>,
    pub(crate) rollback: Arc<RollbackManager>,
    pub(crate) gate: Arc<SafetyIntegration>,
}

impl Project {
    /// The project that the command line means.
    pub(crate) fn find(global: &GlobalArguments) -> Result<Self> {
        let start = start_directory(global)?;
        Self::open(LoadedSettings::find(&start)?)
    }

    /// The project with these settings.
    pub(crate) fn open(loaded: LoadedSettings) -> Result<Self> {
        let root = loaded.path.parent().unwrap_or(Path::new(".")).to_owned();
        let root = root.canonicalize().map_err(|error| Failure::io("find", &root, &error))?;
        Ok(Self { root, loaded, clock: Arc::new(SystemClock::new()) })
    }

    /// The same project, with more of the workspace captured than its settings say.
    pub(crate) fn capturing(mut self, include_ignored: bool, mtimes: bool, xattrs: bool) -> Self {
        let settings = &mut self.loaded.settings.safety.checkpoints;
        settings.include_ignored |= include_ignored;
        settings.keep_mtimes |= mtimes;
        settings.keep_xattrs |= xattrs;
        self
    }

    /// The same project, with this way of rolling back instead of that of its settings.
    pub(crate) fn rolling_back_by(mut self, mode: RollbackMode) -> Self {
        self.loaded.settings.safety.rollback.mode = mode;
        self
    }

    /// The folder for everything of ours.
    pub(crate) fn state_directory(&self) -> PathBuf {
        self.root.join(STATE_FOLDER)
    }

    /// Where rollbacks keep their intent, their history and the known-good versions.
    pub(crate) fn rollback_directory(&self) -> PathBuf {
        self.state_directory().join("rollback")
    }

    /// Creates that folder.
    pub(crate) fn create_state_directory(&self) -> Result<PathBuf> {
        let state = self.state_directory();
        create_folder(&state)?;
        // A workspace under version control must not commit our folder.
        let ignore = state.join(".gitignore");
        if !ignore.exists() {
            std::fs::write(&ignore, "*\n").map_err(|error| Failure::io("write", &ignore, &error))?;
        }
        Ok(state)
    }

    fn checkpoint_directory(&self) -> PathBuf {
        self.root.join(&self.loaded.settings.safety.checkpoints.checkpoint_dir)
    }

    /// The metrics database, or the folder that holds it.
    fn metrics_path(&self) -> PathBuf {
        let written = self.loaded.settings.metrics.storage_path.as_deref();
        self.root.join(written.unwrap_or(Path::new(".evoseal/metrics.db")))
    }

    /// The detector's settings, all sections that speak of it put together.
    pub(crate) fn detector_settings(&self) -> RegressionSettings {
        let settings = &self.loaded.settings;
        settings.metrics.join(settings.safety.detector(&settings.validation))
    }

    /// The log of what was decided and done.
    pub(crate) fn audit_log(&self) -> FileAuditLog {
        FileAuditLog::new(self.state_directory().join("audit.jsonl"), Arc::clone(&self.clock))
    }

    /// Where the evidence of each decision is kept.
    pub(crate) fn evidence(&self) -> FileEvidenceStore {
        FileEvidenceStore::new(self.state_directory().join("evidence"))
    }

    /// What judges measurements.
    pub(crate) fn detector(&self) -> Result<RegressionDetector> {
        Ok(RegressionDetector::new(&self.detector_settings())?)
    }

    /// What decides.
    pub(crate) fn policy(&self) -> Result<StandardPolicy> {
        let settings = &self.loaded.settings;
        Ok(settings.safety.decision_policy(&settings.validation)?)
    }

    /// The entries of the journal. Nothing is written.
    pub(crate) fn journal(&self) -> Result<Vec<JournalEntry>> {
        Ok(Journal::read(&EvolutionPipeline::journal_path(&self.state_directory()))?)
    }

    /// What the journal says. Nothing is written.
    pub(crate) fn run_state(&self) -> Result<RunState> {
        Ok(RunState::replay(&self.journal()?))
    }

    /// Whether there is a store at all: before the first run there is nothing to show.
    pub(crate) fn has_state(&self) -> bool {
        self.checkpoint_directory().exists()
    }

    /// Opens the store of checkpoints alone: what needs nothing else does not wait for the rest.
    pub(crate) fn open_checkpoints(&self) -> Result<CheckpointManager> {
        evoseal_rollback::bring_state_home(&self.root, &self.rollback_directory())?;
        self.create_state_directory()?;
        // Retention is the safety layer's task here: it knows which versions a rollback may need.
        let settings = self.loaded.settings.safety.checkpoints.clone();
        Ok(CheckpointManager::builder()
            .settings(CheckpointSettings { auto_cleanup: false, ..settings })
            .directory(self.checkpoint_directory())
            .clock(Arc::clone(&self.clock))
            .open_or_create()?)
    }

    /// Opens everything that survives between commands, creating what is missing.
    pub(crate) async fn stores(&self) -> Result<Stores> {
        let checkpoints = Arc::new(self.open_checkpoints()?);
        let settings = &self.loaded.settings;
        let metrics_path = self.metrics_path();
        if let Some(folder) = metrics_path.parent() {
            create_folder(folder)?;
        }
        let configured =
            MetricsSettings { storage_path: Some(metrics_path.clone()), ..settings.metrics.clone() };
        let metrics = MetricsTracker::open_configured(&configured, &metrics_path).await?;
        let store: Arc<dyn CheckpointStore> = Arc::clone(&checkpoints) as Arc<dyn CheckpointStore>;
        let mut builder = RollbackManager::builder(
            Arc::clone(&store),
            &self.root,
            self.rollback_directory(),
            Arc::clone(&self.clock),
        )
        .settings(settings.safety.rollback.clone())
        .store_directory(self.checkpoint_directory());
        if let Some(verifier) = self.health_verifier()? {
            builder = builder.verifier(verifier);
        }
        let rollback = Arc::new(builder.build()?);
        let gate = self.gate(store, Arc::clone(&metrics), Arc::clone(&rollback) as Arc<dyn Rollback>)?;
        Ok(Stores { checkpoints, metrics, rollback, gate: Arc::new(gate) })
    }

    fn gate(
        &self,
        checkpoints: Arc<dyn CheckpointStore>,
        metrics: Arc<dyn MetricStore>,
        rollback: Arc<dyn Rollback>,
    ) -> Result<SafetyIntegration> {
        let builder = SafetyIntegration::builder(
            checkpoints,
            metrics,
            Arc::new(self.detector()?),
            Arc::new(self.audit_log()),
            Arc::clone(&self.clock),
        );
        Ok(builder
            .switches(SafetySwitches::from(&self.loaded.settings.safety))
            .policy(Arc::new(self.policy()?))
            .evidence(Arc::new(self.evidence()))
            .rollback(rollback)
            .build())
    }

    /// Runs the person's command in a workspace that was restored; nothing where none is named.
    pub(crate) fn health_verifier(&self) -> Result<Option<Arc<dyn Verifier>>> {
        let Some(step) = self.loaded.settings.health_check()? else { return Ok(None) };
        let launcher = self.launcher(Arc::new(LinuxSandbox::detect()))?;
        let look = move |workspace: PathBuf, _checkpoint| {
            let (launcher, step) = (launcher.clone(), step.clone());
            async move {
                let checked = launcher.check(&step, workspace).await;
                checked.map_err(|error| evoseal_rollback::Error::Verifier {
                    reason: format!("`{}` cannot be run", step.command),
                    source: Some(Box::new(error)),
                })
            }
        };
        Ok(Some(Arc::new(FunctionVerifier::new("health check", look))))
    }

    /// What starts commands: the sandbox, what they see of the environment, and what they must not read.
    fn launcher(&self, sandbox: Arc<dyn Sandbox>) -> Result<Launcher> {
        let extra = &self.loaded.settings.sandbox.pass_environment;
        let allowed =
            evoseal_sandbox::ENVIRONMENT_DEFAULT.iter().copied().chain(extra.iter().map(String::as_str));
        let environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let environment = EnvironmentPolicy::new(allowed)?.build(&environment);
        let own = ["rollback", "journal.jsonl", "run.lock", "commands.lock"];
        let state = self.state_directory();
        let mut hidden = vec![
            self.checkpoint_directory(),
            self.metrics_path(),
            self.evidence().folder().to_owned(),
            self.audit_log().path().to_owned(),
            self.audit_log().head_path(),
        ];
        hidden.extend(own.map(|name| state.join(name)));
        Ok(Launcher::new(sandbox).with_environment(environment).with_hidden(hidden))
    }

    /// The loop. Without ownership it can be put together, which checks the settings, and should not be run.
    pub(crate) fn pipeline(
        &self,
        stores: &Stores,
        ownership: Option<&Ownership>,
        observer: Arc<dyn Observer>,
        cancellation: Cancellation,
    ) -> Result<EvolutionPipeline> {
        let settings = &self.loaded.settings;
        let mut sandbox = LinuxSandbox::detect();
        if let Some(ownership) = ownership {
            sandbox = sandbox.tethered(ownership.tether.clone());
        }
        let launcher = self.launcher(Arc::new(sandbox))?;
        let proposer: Arc<dyn Proposer> = match settings.propose.kind()? {
            ProposerKind::Command(command) => {
                require_program(&command.command, "propose.command")?;
                Arc::new(CommandProposer::new(command, launcher.clone())?)
            }
            ProposerKind::Parameters(parameters) => Arc::new(ParameterProposer::new(parameters)?),
        };
        let parts = PipelineParts {
            workspace: self.root.clone(),
            state_directory: self.state_directory(),
            proposer,
            evaluator: Arc::new(CommandEvaluator::new(settings.evaluate.clone(), launcher)?),
            gate: Arc::clone(&stores.gate) as _,
            checkpoints: Arc::clone(&stores.checkpoints) as _,
            clock: Arc::clone(&self.clock),
        };
        let mut builder = EvolutionPipeline::builder(parts)
            .observer(observer)
            .cancellation(cancellation)
            .configuration(self.configuration())
            .rules(LoopRules::from(&settings.safety));
        builder = settings.run.breakers(builder);
        if let Some(ownership) = ownership {
            builder = builder.run_lock(Arc::clone(&ownership.lock));
        }
        if let Some(objective) = &settings.objective {
            builder = builder.objective(objective.clone());
        }
        // What is wrong with a pattern is said before anything is evaluated.
        guards(settings, &self.root)?;
        let settings = settings.clone();
        builder = builder.guards_from(move |workspace| guards(&settings, workspace));
        Ok(builder.build())
    }

    /// The settings file as each checkpoint records it.
    fn configuration(&self) -> BTreeMap<String, String> {
        self.loaded.written.iter().map(|(key, value)| (key.clone(), value.to_string())).collect()
    }
}

/// The rules about edits. Protected paths are pinned as they are now.
fn guards(settings: &Settings, workspace: &Path) -> evoseal_sandbox::Result<Vec<Arc<dyn Guard>>> {
    let common = evoseal_sandbox::presets::COMMON.iter().copied();
    let protected = settings.edit.protected.iter().map(String::as_str).chain(common);
    let mut guards: Vec<Arc<dyn Guard>> = vec![Arc::new(ProtectedPaths::pin(workspace, protected)?)];
    if settings.safety.safety_checks_enabled {
        guards.push(Arc::new(EditScope::new(&settings.edit.allowed_patterns)?));
        guards.push(Arc::new(EditSize::new(settings.edit.max_files, settings.edit.max_bytes)));
    }
    Ok(guards)
}

/// The folder that the command line means.
pub(crate) fn start_directory(global: &GlobalArguments) -> Result<PathBuf> {
    let start = global.directory.clone().unwrap_or_else(|| PathBuf::from("."));
    start.canonicalize().map_err(|error| {
        let is_gone = global.directory.is_none() && error.kind() == std::io::ErrorKind::NotFound;
        let hint =
            "the folder that this shell stands in was removed or replaced; enter it anew: `cd \"$PWD\"`";
        Failure::io("open", &start, &error).or_hint(is_gone.then_some(hint))
    })
}

/// Creates a folder and those above it.
fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Failure::io("create", path, &error))
}

/// Says that a program is missing before anything is evaluated.
pub(crate) fn require_program(command: &evoseal_adapters::CommandLine, key: &str) -> Result<()> {
    let words = command.words();
    let Some(program) = words.first() else { return Ok(()) };
    let found = if program.contains('/') {
        true
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    if found {
        return Ok(());
    }
    Err(Failure::environment(format!("program {program:?} of `{key}` was not found"))
        .hint(format!("install it, put its folder on PATH, or change `{key}` in {FILE_NAME}")))
}
