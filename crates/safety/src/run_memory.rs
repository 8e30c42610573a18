//! What a run teaches the detector from iteration to iteration.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use evoseal_regression::{FurtherSamples, Measurements, RunContext, RunMemory};

use crate::audit_file::off_thread;
use crate::evidence::ValidationRequest;
use crate::integration::SafetyIntegration;
use crate::{Error, PersonsVerdict, Result};

/// The run that iterations are judged in.
#[derive(Debug, Default)]
pub(crate) struct CurrentRun(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether what is judged is an iteration of a run.
    has_begun: bool,
    memory: Option<RunMemory>,
}

impl CurrentRun {
    /// What a judgement is told about the run; `None` outside of one.
    pub(crate) fn context(&self, request: &ValidationRequest) -> Option<RunContext> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let observations = &request.observations;
        state.has_begun.then(|| RunContext {
            memory: state.memory.clone(),
            fresh: observations.fresh.clone(),
            can_measure_again: observations.can_measure_again,
            objective: request.objective.as_ref().map(|objective| objective.metric.clone()),
            approved: is_approved(request),
        })
    }

    fn set(&self, memory: Option<RunMemory>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State { has_begun: true, memory };
    }
}

impl SafetyIntegration {
    pub(crate) fn start_run(&self) {
        self.run.set(None);
    }

    pub(crate) async fn wanted_samples(&self, request: &ValidationRequest) -> Result<Option<FurtherSamples>> {
        let Some(measurements) = self.run_measurements(request) else { return Ok(None) };
        let detector = Arc::clone(&self.detector);
        off_thread("regression detection", move || {
            // A detector that fails here fails in its judgement as well, and that decides.
            let asked = catch_unwind(AssertUnwindSafe(|| detector.further_samples(&measurements)));
            Ok(asked.ok().and_then(Result::ok).flatten())
        })
        .await
    }

    pub(crate) async fn learn(&self, request: &ValidationRequest, accepted: bool) -> Result<()> {
        let Some(measurements) = self.run_measurements(request) else { return Ok(()) };
        let detector = Arc::clone(&self.detector);
        let learned = off_thread("regression detection", move || {
            let learned = catch_unwind(AssertUnwindSafe(|| detector.remember(&measurements, accepted)));
            Ok(learned.unwrap_or(Ok(None)))
        })
        .await?;
        match learned {
            Ok(Some(memory)) => self.run.set(Some(memory)),
            Ok(None) => {}
            // What it could not judge teaches nothing; the decision was against the version.
            Err(error) if !accepted => drop(error),
            Err(error) => {
                return Err(Error::Invalid {
                    what: format!("the measurements of {}", request.new_version_id),
                    reason: error.to_string(),
                });
            }
        }
        Ok(())
    }

    /// What the detector is told of an iteration of a run; `None` outside of a run, and where there is nothing to compare.
    fn run_measurements(&self, request: &ValidationRequest) -> Option<Measurements> {
        let run = self.run.context(request)?;
        let observations = &request.observations;
        let counts = !observations.is_hard_evidence() || is_approved(request);
        let is_judged = request.current_version_id.is_some() && counts;
        (is_judged && !observations.metrics.is_empty()).then(|| Measurements {
            incumbent: observations.incumbent_metrics.clone(),
            candidate: observations.metrics.clone(),
            paired: observations.paired,
            run: Some(run),
            ..Measurements::default()
        })
    }
}

/// Whether a person wants the version, whatever speaks against it.
fn is_approved(request: &ValidationRequest) -> bool {
    let person = request.observations.person.as_ref();
    person.is_some_and(|person| person.verdict == PersonsVerdict::Approve)
}
