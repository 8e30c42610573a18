//! Fakes for the loop: a proposer and an evaluator that follow a script, and an observer that remembers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use evoseal_pipeline::{
    Brief, Error, Evaluation, EvaluationRequest, Evaluator, Event, EventKind, Observer, Proposal,
    ProposalContext, Proposer, Result,
};
use evoseal_safety::{EvaluationFault, FaultKind, Subject};
use evoseal_types::{Direction, ErrorClass, MetricSamples, MetricSpec, TestCase, TestReport, TestStatus};

use crate::Faults;

/// What a [`ScriptedProposer`] does in one iteration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Writes this text to `program.txt`; [`ScriptedEvaluator`] says what it means.
    Write(&'static str),
    /// Writes a text to a file.
    WriteTo(&'static str, &'static str),
    /// Leaves the workspace as it is.
    Nothing,
    /// Edits half of something and fails.
    Fail,
    /// Edits half of something and never returns.
    Hang,
    /// Says that there is nothing more to propose.
    Exhausted,
}

/// A [`Proposer`] that does the step of its script for the iteration that it is asked for, the first one for iteration 1;
/// beyond the end it is exhausted. Clones share the count of calls.
#[derive(Debug, Clone)]
pub struct ScriptedProposer {
    script: Arc<Vec<Step>>,
    faults: Faults,
    calls: Arc<Mutex<Vec<u64>>>,
    briefs: Arc<Mutex<Vec<Brief>>>,
}

impl ScriptedProposer {
    /// Follows `script`; each call is a step of `faults`, before and after the edit.
    pub fn new(script: impl IntoIterator<Item = Step>, faults: Faults) -> Self {
        Self {
            script: Arc::new(script.into_iter().collect()),
            faults,
            calls: Arc::default(),
            briefs: Arc::default(),
        }
    }

    /// What it was told, in order.
    pub fn briefs(&self) -> Vec<Brief> {
        lock(&self.briefs).clone()
    }

    /// The iterations that it was asked for, in order.
    pub fn calls(&self) -> Vec<u64> {
        lock(&self.calls).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn proposer_error(source: std::io::Error) -> Error {
    let reason = "it was told to".to_owned();
    Error::Proposer { reason, class: ErrorClass::Environment, source: Some(Box::new(source)) }
}

#[async_trait]
impl Proposer for ScriptedProposer {
    async fn propose(&self, context: &ProposalContext) -> Result<Proposal> {
        lock(&self.calls).push(context.iteration);
        lock(&self.briefs).push(context.brief.clone());
        self.faults.step("propose").map_err(proposer_error)?;
        let index = usize::try_from(context.iteration).unwrap_or(usize::MAX).saturating_sub(1);
        let write =
            |name: &str, text: &str| fs::write(context.workspace.join(name), text).map_err(proposer_error);
        let summary = match self.script.get(index).unwrap_or(&Step::Exhausted) {
            Step::Write(text) => {
                write("program.txt", text)?;
                format!("write {text:?}")
            }
            Step::WriteTo(name, text) => {
                write(name, text)?;
                format!("write {name}")
            }
            Step::Nothing => "nothing".to_owned(),
            Step::Fail => {
                write("half.txt", "half")?;
                return Err(proposer_error(std::io::Error::other("half of it is done")));
            }
            Step::Hang => {
                write("half.txt", "half")?;
                std::future::pending::<()>().await;
                "never".to_owned()
            }
            Step::Exhausted => return Ok(Proposal::Exhausted { reason: "the script has ended".to_owned() }),
        };
        self.faults.step("proposed").map_err(proposer_error)?;
        Ok(Proposal::Edited { summary })
    }
}

/// An [`Evaluator`] that finds what to say in `program.txt`: words of the form `key=value`, separated by white space.
///
/// `time=7` is the metric `time` in seconds; `pass=3`, `fail=1` and `error=1` are counts of tests (3 pass by default);
/// `crash`, `refuse`, `hang`, `drop` and `tamper` make the evaluation crash, return an error, never return, leave a file
/// behind, or overwrite `tests.txt`. `wait` lets all of its evaluations but the first never return, `then=9` is the time of a candidate in evaluations after its first, `starve=2` keeps the first two evaluations of a version from being started, and `unsure`
/// is a metric that only the candidate has, so that no detector can compare it. `test:a=pf` names a test: it passes when the
/// version is evaluated, and fails whenever it is run again, up to [`RETESTS`](Self::RETESTS) times; further letters are for
/// further runs, `s` for one in which it is skipped. The incumbent is measured beside the
/// candidate. Clones share the count of calls.
#[derive(Debug, Clone, Default)]
pub struct ScriptedEvaluator {
    faults: Faults,
    calls: Arc<Mutex<Vec<String>>>,
}

impl ScriptedEvaluator {
    /// How often it runs failed tests again.
    pub const RETESTS: u32 = 2;

    /// Each call is a step of `faults`, before and after it looks.
    pub fn with_faults(faults: Faults) -> Self {
        Self { faults, calls: Arc::default() }
    }

    /// The versions that it evaluated, in order.
    pub fn calls(&self) -> Vec<String> {
        lock(&self.calls).clone()
    }
}

fn evaluator_error(source: std::io::Error) -> Error {
    let reason = "it was told to".to_owned();
    Error::Evaluator { reason, class: ErrorClass::Environment, source: Some(Box::new(source)) }
}

/// The words of a program.
fn words(directory: &Path) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(directory.join("program.txt")).map_err(evaluator_error)?;
    let pair = |word: &str| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        (key.to_owned(), value.to_owned())
    };
    Ok(text.split_whitespace().map(pair).collect())
}

/// The metric of a program, if it has one.
fn time_of(words: &BTreeMap<String, String>) -> Vec<MetricSamples> {
    let spec = MetricSpec::new("time", "s", Direction::Increase).expect("a valid name");
    let value = words.get("time").and_then(|value| value.parse().ok());
    value.map(|value: f64| MetricSamples::independent(spec, &[value; 3])).into_iter().collect()
}

/// The named tests of a program, as they end in this run.
fn named_tests(words: &BTreeMap<String, String>, run: u32) -> Vec<TestCase> {
    let case = |(word, runs): (&String, &String)| {
        let name = word.strip_prefix("test:")?;
        let letter = runs.chars().nth(run as usize).or(runs.chars().last())?;
        let status = match letter {
            'p' => TestStatus::Pass,
            's' => TestStatus::Skip,
            _ => TestStatus::Fail,
        };
        Some(TestCase { name: name.to_owned(), status, message: None })
    };
    words.iter().filter_map(case).collect()
}

/// The metric of a program in its first evaluation, and in those after it.
fn lasting(words: &BTreeMap<String, String>, first: bool) -> Vec<MetricSamples> {
    match words.get("then").filter(|_| !first) {
        Some(time) => time_of(&BTreeMap::from([("time".to_owned(), time.clone())])),
        None => time_of(words),
    }
}

/// A metric that the incumbent does not have.
fn unsure() -> MetricSamples {
    let spec = MetricSpec::new("unsure", "s", Direction::Increase).expect("a valid name");
    MetricSamples::independent(spec, &[1.0; 3])
}

#[async_trait]
impl Evaluator for ScriptedEvaluator {
    async fn evaluate(&self, request: &EvaluationRequest) -> Result<Evaluation> {
        lock(&self.calls).push(request.candidate.version_id.to_string());
        self.faults.step("evaluate").map_err(evaluator_error)?;
        let directory = &request.candidate.directory;
        let words = words(directory)?;
        let has = |word: &str| words.contains_key(word);
        let count = |word: &str, default| words.get(word).map_or(default, |value| value.parse().unwrap_or(0));
        let version = request.candidate.version_id.to_string();
        let calls = lock(&self.calls).iter().filter(|call| **call == version).count() as u64;
        let first = calls <= 1;
        if has("drop") {
            fs::write(directory.join("dropping.txt"), "left behind").map_err(evaluator_error)?;
        }
        if has("tamper") {
            fs::write(directory.join("tests.txt"), "nothing is checked").map_err(evaluator_error)?;
        }
        if has("hang") || (has("wait") && !first) {
            std::future::pending::<()>().await;
        }
        if has("refuse") {
            return Err(evaluator_error(std::io::Error::other("it refuses")));
        }
        if calls <= count("starve", 0) {
            let fault = EvaluationFault {
                kind: FaultKind::NotRun,
                stage: "test".to_owned(),
                subject: Subject::Candidate,
                message: "no space left on device".to_owned(),
            };
            return Ok(Evaluation { faults: vec![fault], ..Evaluation::default() });
        }
        let crash = has("crash").then(|| EvaluationFault {
            kind: FaultKind::Crashed,
            stage: "measure".to_owned(),
            subject: Subject::Candidate,
            message: "signal 11".to_owned(),
        });
        let incumbent = match &request.incumbent {
            Some(incumbent) => time_of(&self::words(&incumbent.directory)?),
            None => Vec::new(),
        };
        self.faults.step("evaluated").map_err(evaluator_error)?;
        let named = named_tests(&words, 0);
        let counted = || {
            TestReport::from_counts("unit_tests", count("pass", 3), count("fail", 0), count("error", 0), 0)
        };
        let report = if named.is_empty() { counted() } else { TestReport::from_cases("unit_tests", named) };
        if report.status != TestStatus::Pass && !request.tolerates(&report) {
            // What did not pass is not measured.
            let (test_results, faults) = (vec![report], crash.into_iter().collect());
            return Ok(Evaluation { test_results, faults, ..Evaluation::default() });
        }
        Ok(Evaluation {
            test_results: vec![report],
            metrics: lasting(&words, first).into_iter().chain(has("unsure").then(unsure)).collect(),
            incumbent_metrics: incumbent,
            checks: Vec::new(),
            paired: request.incumbent.is_some(),
            faults: crash.into_iter().collect(),
        })
    }

    async fn retest(
        &self,
        request: &EvaluationRequest,
        subject: Subject,
        attempt: u32,
    ) -> Result<Option<Vec<TestReport>>> {
        self.faults.step("retest").map_err(evaluator_error)?;
        let version = match subject {
            Subject::Candidate => Some(&request.candidate),
            Subject::Incumbent => request.incumbent.as_ref(),
        };
        let Some(version) = version.filter(|_| attempt <= Self::RETESTS) else { return Ok(None) };
        lock(&self.calls).push(format!("{} again", version.version_id));
        let named = named_tests(&words(&version.directory)?, attempt);
        Ok((!named.is_empty()).then(|| vec![TestReport::from_cases("unit_tests", named)]))
    }
}

/// An [`Observer`] that remembers all events. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct RecordingObserver {
    events: Arc<Mutex<Vec<Event>>>,
}

impl RecordingObserver {
    /// The events so far.
    pub fn events(&self) -> Vec<EventKind> {
        lock(&self.events).iter().map(|event| event.kind.clone()).collect()
    }
}

impl Observer for RecordingObserver {
    fn on_event(&self, event: &Event) {
        lock(&self.events).push(event.clone());
    }
}
