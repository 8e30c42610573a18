//! Evaluations that are made again because their surroundings kept them from being made.

use evoseal_safety::{EvaluationFault, NamedTest, VersionRef};
use evoseal_types::{ErrorClass, TestStatus};

use crate::event::{EventKind, Stage};
use crate::journal::{InFlight, JournalEntry};
use crate::observe::{cut, describe, not_run};
use crate::pipeline::{EvolutionPipeline, Run};
use crate::{Evaluation, EvaluationRequest, Result};

impl EvolutionPipeline {
    /// Evaluates, and again where the surroundings are to blame, at most as often as the rules allow over the life of the
    /// iteration, kills included. `None` if the run was cancelled.
    pub(crate) async fn evaluate_bounded(
        &self,
        run: &mut Run,
        flight: &InFlight,
        version: &VersionRef,
        tolerated: Vec<NamedTest>,
    ) -> Result<Option<Evaluation>> {
        let mut failed = flight.failed_evaluations.len();
        loop {
            let request = self.evaluation_request(flight, version).await?;
            let request = EvaluationRequest { tolerated: tolerated.clone(), ..request };
            let evaluated = self.cancellation.unless_cancelled(self.parts.evaluator.evaluate(&request)).await;
            let Some(evaluated) = evaluated else { return Ok(None) };
            let again = may_pass(&evaluated) && failed < self.rules.max_evaluation_retries as usize;
            let evaluation = as_evidence(evaluated)?;
            if !again {
                return Ok(Some(evaluation));
            }
            failed += 1;
            self.record_failed_evaluation(run, flight.iteration, evaluation.faults).await?;
            if let Some(checkpoint) = version.checkpoint {
                // What the evaluation left behind must not be there the next time.
                self.restore_workspace(checkpoint).await?;
            }
        }
    }

    /// Takes down what kept an evaluation from being made, before it is made again. Iteration 0 is the version to start from.
    pub(crate) async fn record_failed_evaluation(
        &self,
        run: &mut Run,
        iteration: u64,
        mut faults: Vec<EvaluationFault>,
    ) -> Result<()> {
        for fault in &mut faults {
            fault.message = cut(&fault.message);
        }
        let first = faults.first().map_or(String::new(), |fault| fault.message.clone());
        self.emit(EventKind::PipelineStageCompleted {
            iteration,
            stage: Stage::Evaluate,
            summary: format!("it could not be made and is made again: {first}"),
        });
        run.record(JournalEntry::EvaluationFailed { iteration, faults }).await
    }
}

/// Whether an evaluation that failed may succeed when it is made again: its surroundings are to blame.
pub(crate) fn may_pass(evaluated: &Result<Evaluation>) -> bool {
    match evaluated {
        Ok(evaluation) => is_only_environmental(evaluation),
        // It stays full until somebody makes room.
        Err(error) if error.is_storage_full() => false,
        Err(error) => matches!(error.class(), ErrorClass::Transient | ErrorClass::Environment),
    }
}

/// What an evaluation says about a version; an error as the fault that it is. A full disk says nothing and stays an error.
pub(crate) fn as_evidence(evaluated: Result<Evaluation>) -> Result<Evaluation> {
    match evaluated {
        Err(error) if !error.is_storage_full() => {
            let faults = vec![not_run("evaluate", describe(&error))];
            Ok(Evaluation { faults, ..Evaluation::default() })
        }
        evaluated => evaluated,
    }
}

/// Whether nothing but the surroundings speaks against a version: no test failed, and no step of its own did.
fn is_only_environmental(evaluation: &Evaluation) -> bool {
    let failed = |status| status == TestStatus::Fail;
    !evaluation.faults.is_empty()
        && evaluation.faults.iter().all(EvaluationFault::is_environmental)
        && !evaluation.test_results.iter().any(|report| failed(report.status) || report.tests_failed > 0)
}
