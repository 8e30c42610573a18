//! Settings of the command evaluator.

use std::collections::BTreeMap;

use evoseal_pipeline::{Error, Result};
use evoseal_safety::Mode;
use evoseal_sandbox::Limits;
use evoseal_types::{Direction, EntryPath, MetricName};
use serde::{Deserialize, Serialize};

use crate::{CommandLine, StepSettings};

/// The most process starts per version: far more than any comparison needs.
const ROUNDS_MAX: u32 = 10_000;

/// Settings of [`CommandEvaluator`](crate::CommandEvaluator).
///
/// ```
/// use evoseal_adapters::{CommandEvaluatorSettings, TestFormat};
///
/// let settings: CommandEvaluatorSettings = toml::from_str(r#"
///     [build]
///     command = ["cargo", "build", "--release", "--offline"]
///     [test]
///     command = ["cargo", "test", "--offline"]
///     format = "libtest"
///     [measure]
///     command = ["target/release/bench"]
///     measure_time = ["cpu"]
///     [metrics]
///     throughput = { unit = "MB/s", direction = "decrease" }
/// "#)?;
/// assert_eq!(settings.test.format, TestFormat::Libtest);
/// assert_eq!(settings.measure.map(|measure| measure.rounds), Some(10));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandEvaluatorSettings {
    /// What to run first in each version. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<StepSettings>,
    /// What tests the candidate.
    pub test: TestSettings,
    /// Checks besides the tests, in this order: linters, schema checks, a size limit. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckSettings>,
    /// What measures both versions. Default: nothing is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<MeasureSettings>,
    /// The metrics that `measure` prints, by name: all of them, and no others. One that is not printed is a fault, since a
    /// candidate that does not print what it got worse at must not pass; so is one that is printed and not declared,
    /// since without a direction it could not be judged and ignoring it would hide a misspelt name.
    #[serde(default)]
    pub metrics: BTreeMap<MetricName, MetricSettings>,
}

/// What a declared metric's numbers mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSettings {
    /// The unit. A printed unit must be the same. Default: the printed one, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The direction of change that is harmful: `increase` for time, `decrease` for throughput.
    pub direction: Direction,
}

/// Settings of the test step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSettings {
    /// The command.
    pub command: CommandLine,
    /// Its limits. Default: those of [`Limits`].
    #[serde(default)]
    pub limits: Limits,
    /// Variables to add to the environment. Default: none.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The working directory, relative to the version's own, which is also the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<EntryPath>,
    /// Whether the command may use the network. Default false.
    #[serde(default)]
    pub network: bool,
    /// How the results are read.
    pub format: TestFormat,
    /// The type under which the report is recorded. Default `tests`.
    #[serde(default = "default_test_type")]
    pub test_type: String,
    /// How often failed tests are run again on the candidate and on the accepted version, 0 to 20. Default 2: one that fails on
    /// the candidate every time and passes on the accepted version every time is a failure, one that also fails there is
    /// flaky.
    #[serde(default = "default_retries")]
    pub retries: u32,
}

/// Settings of one check besides the tests.
///
/// ```
/// use evoseal_adapters::{CommandEvaluatorSettings, TestFormat};
/// use evoseal_safety::Mode;
///
/// let settings: CommandEvaluatorSettings = toml::from_str(r#"
///     [test]
///     command = "make test"
///     format = "exit_code"
///     [[checks]]
///     name = "lint"
///     mode = "wanted"
///     command = ["cargo", "clippy", "--offline", "--", "-D", "warnings"]
/// "#)?;
/// assert_eq!((settings.checks[0].mode, &settings.checks[0].format), (Mode::Wanted, &TestFormat::ExitCode));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSettings {
    /// Its name in reports; no other check has it.
    pub name: String,
    /// Whether it decides (`required`), warns (`wanted`) or is only recorded (`dry_run`). Default `required`.
    #[serde(default)]
    pub mode: Mode,
    /// The command. It runs in the candidate once its tests pass, and in the accepted version where the candidate fails, to
    /// tell whether that is new.
    pub command: CommandLine,
    /// Its limits. Default: those of [`Limits`].
    #[serde(default)]
    pub limits: Limits,
    /// Variables to add to the environment. Default: none.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The working directory, relative to the version's own, which is also the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<EntryPath>,
    /// Whether the command may use the network. Default false.
    #[serde(default)]
    pub network: bool,
    /// How the result is read. Default `exit_code`.
    #[serde(default = "default_check_format")]
    pub format: TestFormat,
}

fn default_check_format() -> TestFormat {
    TestFormat::ExitCode
}

impl CheckSettings {
    /// The check as the test step that it is run like.
    pub(super) fn as_test(&self) -> TestSettings {
        TestSettings {
            command: self.command.clone(),
            limits: self.limits,
            environment: self.environment.clone(),
            working_directory: self.working_directory.clone(),
            network: self.network,
            format: self.format.clone(),
            test_type: self.name.clone(),
            retries: 0,
        }
    }
}

/// The most that failed tests are run again.
const RETRIES_MAX: u32 = 20;

fn default_retries() -> u32 {
    2
}

fn default_test_type() -> String {
    "tests".to_owned()
}

/// How test results are read. See [`parse`](crate::parse) for the formats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestFormat {
    /// What `cargo test` prints.
    Libtest,
    /// A JUnit XML file.
    Junit(JunitSettings),
    /// Standard output is one JSON object with `tests` in it; its metrics are not read here.
    Json,
    /// Only the exit code counts: one test, named after the command, that passed if the code is 0. The weakest form: a
    /// candidate whose code runs in the test process passes by leaving early, and no test can be missed by name.
    ExitCode,
}

/// Where a JUnit report is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JunitSettings {
    /// The file, relative to the version's directory. It is removed before the command starts, so that no older report
    /// counts, and must be a regular file with no symlink on the way.
    pub report: EntryPath,
}

/// Settings of the measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureSettings {
    /// The command; it is started many times and prints its metrics each time.
    pub command: CommandLine,
    /// Limits of each start. Default: those of [`Limits`].
    #[serde(default)]
    pub limits: Limits,
    /// Variables to add to the environment. Default: none.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The working directory, relative to the version's own, which is also the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<EntryPath>,
    /// Whether the command may use the network. Default false.
    #[serde(default)]
    pub network: bool,
    /// How the metrics are read. Default `lines`.
    #[serde(default)]
    pub format: MetricFormat,
    /// How often each version is started and counted at first, 1 to 10,000; where that does not suffice, `evoseal run` measures
    /// both again. Default 10: what a rank test needs to see a difference at all with room for a few outliers.
    #[serde(default = "default_rounds")]
    pub rounds: u32,
    /// How often each version is started before that without being counted, 0 to 10,000. Default 1: the first start reads
    /// the program and its input from the disk.
    #[serde(default = "default_warmup")]
    pub warmup: u32,
    /// How many values of each metric every start must print, at least 1; more or fewer is a fault. Default: any number.
    /// A program that prints a fixed number should say so, because a line that the code under test smuggles in is then one too
    /// many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values_per_start: Option<u32>,
    /// Times that the sandbox takes of each start, as metrics `wall_time_sec` and `cpu_time_sec`. Default: none. The code
    /// under test cannot patch these clocks.
    #[serde(default)]
    pub measure_time: Vec<MeasuredTime>,
}

fn default_rounds() -> u32 {
    10
}

fn default_warmup() -> u32 {
    1
}

/// How metrics are read. See [`parse`](crate::parse) for the formats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricFormat {
    /// `METRIC name=value unit` lines among anything else on standard output.
    #[default]
    Lines,
    /// Standard output is one JSON object with `metrics` in it; its tests are not read here.
    Json,
    /// Standard output is not read; only `measure_time` is recorded.
    None,
}

/// A time that the sandbox takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasuredTime {
    /// From the start to the end of the last process: `wall_time_sec`.
    Wall,
    /// CPU time of all processes, in user mode and in the kernel: `cpu_time_sec`.
    Cpu,
}

impl MeasuredTime {
    /// The metric's name.
    pub const fn metric(self) -> &'static str {
        match self {
            Self::Wall => "wall_time_sec",
            Self::Cpu => "cpu_time_sec",
        }
    }
}

impl TestSettings {
    pub(super) fn step(&self) -> StepSettings {
        StepSettings {
            command: self.command.clone(),
            limits: self.limits,
            environment: self.environment.clone(),
            working_directory: self.working_directory.clone(),
            network: self.network,
        }
    }
}

impl MeasureSettings {
    pub(super) fn step(&self) -> StepSettings {
        StepSettings {
            command: self.command.clone(),
            limits: self.limits,
            environment: self.environment.clone(),
            working_directory: self.working_directory.clone(),
            network: self.network,
        }
    }

    fn check(&self, metrics: &BTreeMap<MetricName, MetricSettings>) -> Result<()> {
        let refuse = |what: &str, reason: &str| {
            Err(Error::Invalid { what: format!("`measure.{what}`"), reason: reason.to_owned() })
        };
        if !(1..=ROUNDS_MAX).contains(&self.rounds) {
            return refuse("rounds", "it must be 1 to 10,000");
        }
        if self.warmup > ROUNDS_MAX {
            return refuse("warmup", "it must be at most 10,000");
        }
        if self.values_per_start == Some(0) {
            return refuse("values_per_start", "it must be at least 1");
        }
        if self.format == MetricFormat::None && !metrics.is_empty() {
            return refuse("format", "it is `none` although `metrics` are declared");
        }
        if metrics.is_empty() && self.measure_time.is_empty() {
            return refuse("command", "there is nothing to measure: declare `metrics` or set `measure_time`");
        }
        for (index, time) in self.measure_time.iter().enumerate() {
            if self.measure_time[..index].contains(time) {
                return refuse("measure_time", "a time stands there twice");
            }
        }
        let reserved = |name: &&MetricName| {
            [MeasuredTime::Wall, MeasuredTime::Cpu].iter().any(|time| time.metric() == name.as_str())
        };
        if let Some(name) = metrics.keys().find(reserved) {
            let what = format!("`metrics.{name}`");
            let reason =
                "this name belongs to the sandbox's own clock; set `measure.measure_time`".to_owned();
            return Err(Error::Invalid { what, reason });
        }
        Ok(())
    }
}

impl CommandEvaluatorSettings {
    pub(super) fn check(&self) -> Result<()> {
        if let Some(build) = &self.build {
            build.check("build")?;
        }
        self.test.step().check("test")?;
        if self.test.test_type.trim().is_empty() || self.test.test_type.contains(char::is_control) {
            let reason = "it must not be blank or hold control characters".to_owned();
            return Err(Error::Invalid { what: "`test.test_type`".to_owned(), reason });
        }
        for (index, check) in self.checks.iter().enumerate() {
            let invalid = |reason: &str| {
                let what = format!("`checks` {:?}", check.name);
                Err(Error::Invalid { what, reason: reason.to_owned() })
            };
            check.as_test().step().check("checks")?;
            if check.name.trim().is_empty() || check.name.contains(char::is_control) {
                return invalid("its name must not be blank or hold control characters");
            }
            if self.checks[..index].iter().any(|other| other.name == check.name) {
                return invalid("another check has the same name");
            }
        }
        if self.test.retries > RETRIES_MAX {
            let reason = "it must be at most 20".to_owned();
            return Err(Error::Invalid { what: "`test.retries`".to_owned(), reason });
        }
        match &self.measure {
            Some(measure) => {
                measure.step().check("measure")?;
                measure.check(&self.metrics)
            }
            None if !self.metrics.is_empty() => {
                let reason = "metrics are declared and there is no `measure` step to print them".to_owned();
                Err(Error::Invalid { what: "`metrics`".to_owned(), reason })
            }
            None => Ok(()),
        }
    }
}
