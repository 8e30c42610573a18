//! More samples where the judgement asks for them: until it can tell, or no more can be had.

use evoseal_regression::SamplePurpose;
use evoseal_safety::{EvaluationFault, Observations, ValidationRequest};
use evoseal_sandbox::Violation;
use evoseal_types::MetricSamples;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::event::Stage;
use crate::iterate::flight_of;
use crate::journal::JournalEntry;
use crate::observe::{cut, describe, not_run};
use crate::pipeline::{EvolutionPipeline, Run};

/// How often is measured again at most in one iteration, whatever the gate says.
const BATCHES_MAX: usize = 64;

/// One batch of further samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FurtherMeasurements {
    /// Where they belong.
    pub purpose: SamplePurpose,
    /// The candidate's.
    pub metrics: Vec<MetricSamples>,
    /// The incumbent's.
    pub incumbent_metrics: Vec<MetricSamples>,
    /// Whether sample `i` of one side was measured right beside sample `i` of the other.
    pub paired: bool,
    /// What went wrong.
    pub faults: Vec<EvaluationFault>,
    /// What guards say after it: measuring runs the candidate's code.
    pub violations: Vec<Violation>,
    /// Whether yet more can be had.
    pub can_measure_again: bool,
}

impl FurtherMeasurements {
    /// Adds the batch to what was observed before. A pure function: the journal has both.
    pub(crate) fn add_to(&self, observations: &mut Observations) {
        observations.faults.extend(self.faults.iter().cloned());
        observations.violations.extend(self.violations.iter().cloned());
        observations.can_measure_again = self.can_measure_again;
        if self.metrics.is_empty() && self.incumbent_metrics.is_empty() {
            return;
        }
        match self.purpose {
            SamplePurpose::Screen => {
                append(&mut observations.metrics, &self.metrics);
                append(&mut observations.incumbent_metrics, &self.incumbent_metrics);
                observations.paired &= self.paired;
            }
            SamplePurpose::Fresh => {
                let fresh = observations.fresh.get_or_insert_default();
                append(&mut fresh.candidate, &self.metrics);
                append(&mut fresh.incumbent, &self.incumbent_metrics);
            }
        }
    }
}

/// Adds samples whose process starts are others than those that are there.
fn append(known: &mut Vec<MetricSamples>, new: &[MetricSamples]) {
    let starts = known.iter().flat_map(|metric| &metric.samples).map(|sample| sample.start);
    let first = starts.max().map_or(0, |last| last.saturating_add(1));
    for metric in new {
        let mut metric = metric.clone();
        for sample in &mut metric.samples {
            sample.start = sample.start.saturating_add(first);
        }
        match known.iter_mut().find(|known| known.spec.name == metric.spec.name) {
            Some(known) if known.spec == metric.spec => known.samples.append(&mut metric.samples),
            // Two metrics of one name are a contradiction that is judged, not one that is tidied away.
            _ => known.push(metric),
        }
    }
}

impl EvolutionPipeline {
    /// Measures both versions again as long as the gate asks for it. Each batch is in the journal before the next. `false` if
    /// the run was cancelled.
    pub(crate) async fn measure_again(&self, run: &mut Run) -> Result<bool> {
        for _ in 0..BATCHES_MAX {
            let flight = flight_of(run)?.clone();
            let Some(observations) = &flight.observations else { return Ok(true) };
            if !observations.can_measure_again || observations.is_hard_evidence() {
                return Ok(true);
            }
            let asked = self.validation_request(&flight);
            let wanted = self.parts.gate.further_samples(&asked).await?;
            let Some(wanted) = wanted.filter(|wanted| wanted.pairs > 0) else { return Ok(true) };
            let Some(request) = self.both_in_place(&flight).await? else { return Ok(true) };
            let iteration = flight.iteration;
            self.stage_started(iteration, Stage::Evaluate);
            let measured = self.parts.evaluator.measure_again(&request, wanted.pairs);
            let Some(measured) = self.cancellation.unless_cancelled(measured).await else {
                return Ok(false);
            };
            let mut further = FurtherMeasurements {
                purpose: wanted.purpose,
                metrics: Vec::new(),
                incumbent_metrics: Vec::new(),
                paired: false,
                faults: Vec::new(),
                violations: Vec::new(),
                can_measure_again: false,
            };
            match measured {
                Ok(Some(evaluation)) => {
                    further.metrics = evaluation.metrics;
                    further.incumbent_metrics = evaluation.incumbent_metrics;
                    further.paired = evaluation.paired;
                    further.faults = evaluation.faults;
                    further.can_measure_again = evaluation.can_measure_again;
                }
                Ok(None) => {}
                Err(error) if error.is_storage_full() => return Err(error),
                Err(error) => further.faults.push(not_run("measure", describe(&error))),
            }
            for fault in &mut further.faults {
                fault.message = cut(&fault.message);
            }
            let changes = flight.candidate.map(|(_, changes)| changes).unwrap_or_default();
            further.violations = self.check_edit(iteration, &changes).await?;
            let summary = format!("{}: {} pairs more", wanted.reason, wanted.pairs);
            self.stage_completed(iteration, Stage::Evaluate, cut(&summary));
            run.record(JournalEntry::MeasuredAgain { iteration, further }).await?;
        }
        Ok(true)
    }

    /// Tells the gate of the iterations so far, so that it judges the next as one of the same run. What persons decided about them
    /// since is what counts.
    pub(crate) async fn begin_run(&self, run: &Run) -> Result<()> {
        self.parts.gate.begin_run().await?;
        for finished in &run.state.finished {
            let mut request = self.validation_request(&finished.flight);
            if let Some(decision) = finished.overrides.last() {
                request.observations.person = Some(decision.clone());
            }
            self.parts.gate.remember(&request, finished.stands_accepted()).await?;
        }
        Ok(())
    }

    /// What the gate is asked about an iteration.
    pub(crate) fn validation_request(&self, flight: &crate::InFlight) -> ValidationRequest {
        let version_id = match &flight.candidate {
            Some((version, _)) => version.version_id.clone(),
            None => crate::result::version_of(flight.iteration),
        };
        ValidationRequest {
            current_version_id: Some(flight.incumbent.version_id.clone()),
            new_version_id: version_id,
            observations: flight.observations.clone().unwrap_or_default(),
            objective: self.objective.clone(),
        }
    }
}
