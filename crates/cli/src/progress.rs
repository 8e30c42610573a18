//! Watching a run: a progress bar on a terminal, lines elsewhere.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use evoseal_pipeline::{Event, EventKind, IterationResult, Observer};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// Tells a person what a run does.
#[derive(Debug)]
pub(crate) struct RunProgress {
    output: Output,
    bar: Mutex<Option<ProgressBar>>,
}

impl RunProgress {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, bar: Mutex::new(None) }
    }

    /// Says a line above the bar.
    fn say(&self, message: &str) {
        match &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(|| self.output.say(message)),
            None => self.output.say(message),
        }
    }

    /// Shows what is being done.
    fn show(&self, message: String) {
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.set_message(message);
        }
    }

    fn start(&self, total: u64) {
        if !self.output.progress {
            return;
        }
        let bar = ProgressBar::new(total);
        let template = "{spinner} [{elapsed_precise}] {bar:24} {pos}/{len} {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }
}

/// Text of a candidate or proposer, made harmless for a terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// One finished iteration in a line.
fn line_of(result: &IterationResult) -> String {
    let reason = result.reasons().first().cloned().unwrap_or_default();
    let decided = result.safety_result.as_ref().map(|validation| &validation.decision);
    let reason = decided
        .and_then(|decision| decision.reasons.iter().find(|reason| reason.rule == decision.decided_by))
        .map_or(reason, |reason| reason.message.clone());
    harmless(&format!("{:>4}  {:<12} {}: {}", result.iteration, result.outcome, result.change, reason))
}

impl Observer for RunProgress {
    fn on_event(&self, event: &Event) {
        match &event.kind {
            EventKind::EvolutionStarted { total_iterations, .. } => self.start(*total_iterations),
            EventKind::RunRecovered { iteration, action } => {
                self.say(&format!("recovered iteration {iteration}: {action}"));
            }
            EventKind::BaselineAccepted { version_id } => {
                self.say(&format!("   0  baseline     {version_id} passes; it is the version to beat"));
            }
            EventKind::PipelineStageStarted { iteration, stage } => {
                self.show(format!("iteration {iteration}: {stage}"));
            }
            EventKind::IterationCompleted { result } => {
                self.say(&line_of(result));
                if let Some(bar) = &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
                    bar.inc(1);
                }
            }
            EventKind::EvolutionCompleted { .. } | EventKind::ErrorOccurred { .. } => {
                if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    bar.finish_and_clear();
                }
            }
            EventKind::IterationStarted { .. }
            | EventKind::PipelineStageCompleted { .. }
            | EventKind::RegressionDetected { .. }
            | EventKind::RollbackCompleted { .. } => {}
        }
    }
}
