//! An evaluator that runs a build, a test and a measure command.

mod checking;
mod measuring;
mod settings;
mod side;
mod testing;

use async_trait::async_trait;
use evoseal_pipeline::{Evaluation, EvaluationRequest, Evaluator, Result};
use evoseal_safety::Subject;
use evoseal_types::{TestReport, TestStatus};

use measuring::Measurement;
use side::Side;

pub use settings::{
    CheckSettings, CommandEvaluatorSettings, JunitSettings, MeasureSettings, MeasuredTime, MetricFormat,
    MetricSettings, TestFormat, TestSettings,
};

use crate::Launcher;

/// Evaluates with commands: `build` and `test` in the candidate, then `measure` in both versions in turns.
///
/// Tests that fail on the candidate are run again on both versions, `test.retries` times, so that the loop can tell them from
/// flaky ones.
///
/// Checks come after the tests; one that is required and fails keeps the candidate from being measured.
///
/// The incumbent is built too, but only once the candidate has passed its tests and there is something to measure. Each
/// counted round starts `measure` once per version; which one is first alternates. A step that fails ends the
/// evaluation: what did not build is not tested, what did not pass is not measured.
///
/// Commands run in the version's directory, or in `working_directory` below it. They may write to the version and to a folder
/// of their own that is emptied for each evaluation, and see
///
/// | variable | value |
/// | --- | --- |
/// | `EVOSEAL_ROLE` | `candidate` or `incumbent` |
/// | `EVOSEAL_VERSION` | the version's id |
/// | `EVOSEAL_SUBJECT_DIR` | the version's directory |
/// | `EVOSEAL_RUN_DIR` | the folder of its own; the other version has another |
/// | `EVOSEAL_ITERATION` | the iteration; 0 for the first version |
///
/// Everything that goes wrong with a command is an [`EvaluationFault`](evoseal_safety::EvaluationFault) or a report that
/// says so: a program that is missing, a code other than 0, a signal, a time-out, output that cannot be read or was cut.
/// A test command that exits with a failure and reports none gives a report with status `error`; one that exits with 0 and
/// ran nothing gives a report of zero tests, which no policy accepts.
///
/// ```
/// use std::sync::Arc;
///
/// use evoseal_adapters::{CommandEvaluator, CommandEvaluatorSettings, Launcher};
/// use evoseal_pipeline::{EvaluationRequest, Evaluator, VersionInPlace};
/// use evoseal_sandbox::Sandbox;
/// # use evoseal_sandbox::{Capabilities, Captured, CommandOutcome, CommandSpec, Ending};
/// # #[derive(Debug)]
/// # struct Plain;
/// # #[async_trait::async_trait]
/// # impl Sandbox for Plain {
/// #     async fn run(&self, command: &CommandSpec) -> evoseal_sandbox::Result<CommandOutcome> {
/// #         let run = tokio::process::Command::new(&command.program).args(&command.args)
/// #             .current_dir(&command.directory).env_clear().envs(&command.environment).output().await;
/// #         let run = run.map_err(|source| evoseal_sandbox::Error::Start { program: "sh".into(), source })?;
/// #         let keep = |head: Vec<u8>| Captured { total_bytes: head.len() as u64, head, tail: Vec::new() };
/// #         Ok(CommandOutcome {
/// #             ending: Ending::Exited(run.status.code().unwrap_or(1)), stdout: keep(run.stdout), stderr: keep(run.stderr),
/// #             wall_time: Default::default(), cpu_user: Default::default(), cpu_system: Default::default(),
/// #             memory_peak_bytes: 0, stragglers_killed: 0,
/// #         })
/// #     }
/// #     fn capabilities(&self) -> Capabilities { Capabilities { walls: Vec::new() } }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # for name in ["old", "new", "run"] { std::fs::create_dir(folder.path().join(name))?; }
/// # std::fs::write(folder.path().join("old/size"), "30")?;
/// # std::fs::write(folder.path().join("new/size"), "20")?;
/// # let version = |name: &str| VersionInPlace {
/// #     version_id: name.parse().expect("it is a valid id"), directory: folder.path().join(name) };
/// # let sandbox: Arc<dyn Sandbox> = Arc::new(Plain);
/// let settings: CommandEvaluatorSettings = toml::from_str(r#"
///     [test]
///     command = "test -s size"
///     format = "exit_code"
///     [measure]
///     command = "echo METRIC size=$(cat size) bytes"
///     rounds = 3
///     [metrics]
///     size = { direction = "increase" }
/// "#)?;
/// let evaluator = CommandEvaluator::new(settings, Launcher::new(sandbox))?;
/// let request = EvaluationRequest {
///     candidate: version("new"),
///     incumbent: Some(version("old")),
///     iteration: 1,
///     run_directory: folder.path().join("run"),
///     tolerated: Vec::new(),
/// };
/// let evaluation = evaluator.evaluate(&request).await?;
/// assert_eq!(evaluation.faults, []);
/// assert_eq!(evaluation.test_results[0].tests_passed, 1);
/// assert_eq!(evaluation.metrics[0].values(), [20.0, 20.0, 20.0]);
/// assert_eq!(evaluation.incumbent_metrics[0].values(), [30.0, 30.0, 30.0]);
/// assert!(evaluation.paired);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CommandEvaluator {
    settings: CommandEvaluatorSettings,
    launcher: Launcher,
}

impl CommandEvaluator {
    /// An evaluator with these settings, whose commands are started by `launcher`.
    pub fn new(settings: CommandEvaluatorSettings, launcher: Launcher) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings, launcher })
    }

    /// Builds one version; says whether it worked.
    async fn build(&self, side: &Side<'_>, evaluation: &mut Evaluation) -> Result<bool> {
        let Some(step) = &self.settings.build else {
            return Ok(true);
        };
        let fault = match side.run(&self.launcher, "build", step).await? {
            Ok(outcome) => side.failure("build", step, &outcome),
            Err(fault) => Some(fault),
        };
        let built = fault.is_none();
        evaluation.faults.extend(fault);
        Ok(built)
    }

    /// Tests the candidate; says whether it passed, failures that are tolerated aside.
    async fn test(
        &self,
        request: &EvaluationRequest,
        side: &Side<'_>,
        evaluation: &mut Evaluation,
    ) -> Result<bool> {
        let (report, fault) = testing::run(&self.launcher, &self.settings.test, side).await?;
        let passed = fault.is_none() && (report.status == TestStatus::Pass || request.tolerates(&report));
        evaluation.test_results.push(report);
        evaluation.faults.extend(fault);
        Ok(passed)
    }
}

#[async_trait]
impl Evaluator for CommandEvaluator {
    async fn evaluate(&self, request: &EvaluationRequest) -> Result<Evaluation> {
        let mut evaluation = Evaluation::default();
        let candidate = Side::new(request, Subject::Candidate, &request.candidate)?;
        if !self.build(&candidate, &mut evaluation).await?
            || !self.test(request, &candidate, &mut evaluation).await?
        {
            return Ok(evaluation);
        }
        if !self.check(request, &candidate, &mut evaluation).await? {
            return Ok(evaluation);
        }
        let Some(measure) = &self.settings.measure else {
            return Ok(evaluation);
        };
        let incumbent = match &request.incumbent {
            Some(version) => Some(Side::new(request, Subject::Incumbent, version)?),
            None => None,
        };
        if let Some(incumbent) = &incumbent
            && !self.build(incumbent, &mut evaluation).await?
        {
            return Ok(evaluation);
        }
        let measurement = Measurement::new(&self.launcher, measure, &self.settings.metrics);
        measurement.run(&candidate, incumbent.as_ref(), &mut evaluation).await?;
        Ok(evaluation)
    }

    /// Builds the version, since the incumbent may not have been, and runs the tests once more.
    async fn retest(
        &self,
        request: &EvaluationRequest,
        subject: Subject,
        attempt: u32,
    ) -> Result<Option<Vec<TestReport>>> {
        let version = match subject {
            Subject::Candidate => Some(&request.candidate),
            Subject::Incumbent => request.incumbent.as_ref(),
        };
        let Some(version) = version.filter(|_| attempt <= self.settings.test.retries) else {
            return Ok(None);
        };
        let side = Side::new(request, subject, version)?;
        if !self.build(&side, &mut Evaluation::default()).await? {
            return Ok(None);
        }
        let (report, fault) = testing::run(&self.launcher, &self.settings.test, &side).await?;
        Ok(fault.is_none().then(|| vec![report]))
    }
}
