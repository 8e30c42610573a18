//! When a run ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// All iterations are done.
    Completed,
    /// Too many iterations in a row did not bring an accepted version.
    ConsecutiveFailures {
        /// How many.
        count: u64,
    },
    /// The time for the run is used up.
    TimeSpent {
        /// The limit in seconds.
        limit_sec: u64,
    },
    /// The proposer has nothing more to propose.
    ProposerExhausted {
        /// In its own words.
        reason: String,
    },
    /// A candidate was refused and stays in the workspace, because it may not be rolled back.
    NotRolledBack {
        /// Why not.
        reason: String,
    },
    /// A person interrupted the run.
    Interrupted,
    /// Another condition, in its own words.
    Other {
        /// What it says.
        reason: String,
    },
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("all iterations are done"),
            Self::ConsecutiveFailures { count } => {
                write!(f, "{count} iterations in a row brought no accepted version")
            }
            Self::TimeSpent { limit_sec } => write!(f, "the time limit of {limit_sec} s is used up"),
            Self::ProposerExhausted { reason } => write!(f, "nothing more to propose: {reason}"),
            Self::NotRolledBack { reason } => {
                write!(f, "the refused candidate is still in the workspace: {reason}")
            }
            Self::Interrupted => f.write_str("interrupted"),
            Self::Other { reason } => f.write_str(reason),
        }
    }
}

/// What a stop condition sees after each iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopProgress {
    /// Iterations that this run has finished.
    pub iterations_done: u64,
    /// Iterations since the last accepted version: rejections, rollbacks, inconclusive ones and errors.
    pub consecutive_failures: u64,
    /// Time since the run began.
    pub elapsed: Duration,
}

/// Says when to stop.
///
/// Contract: pure; asked before the first iteration and after each one. The first condition that answers ends the run.
pub trait StopCondition: fmt::Debug + Send + Sync {
    /// Why the run should end now, or `None`.
    fn should_stop(&self, progress: &LoopProgress) -> Option<StopReason>;
}

impl<S: StopCondition + ?Sized> StopCondition for Arc<S> {
    fn should_stop(&self, progress: &LoopProgress) -> Option<StopReason> {
        (**self).should_stop(progress)
    }
}

impl<S: StopCondition + ?Sized> StopCondition for Box<S> {
    fn should_stop(&self, progress: &LoopProgress) -> Option<StopReason> {
        (**self).should_stop(progress)
    }
}

/// Stops after so many iterations.
#[derive(Debug, Clone, Copy)]
pub struct MaxIterations(pub u64);

impl StopCondition for MaxIterations {
    fn should_stop(&self, progress: &LoopProgress) -> Option<StopReason> {
        (progress.iterations_done >= self.0).then_some(StopReason::Completed)
    }
}

/// Stops after so many iterations in a row without an accepted version, whatever kept it from being accepted.
///
/// ```
/// use evoseal_pipeline::{ConsecutiveFailures, LoopProgress, StopCondition, StopReason};
/// let stop = ConsecutiveFailures(5);
/// let mut progress = LoopProgress { iterations_done: 9, consecutive_failures: 4, elapsed: Default::default() };
/// assert_eq!(stop.should_stop(&progress), None);
/// progress.consecutive_failures = 5;
/// assert_eq!(stop.should_stop(&progress), Some(StopReason::ConsecutiveFailures { count: 5 }));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ConsecutiveFailures(pub u64);

impl StopCondition for ConsecutiveFailures {
    fn should_stop(&self, progress: &LoopProgress) -> Option<StopReason> {
        let count = progress.consecutive_failures;
        (count >= self.0).then_some(StopReason::ConsecutiveFailures { count })
    }
}

/// Stops once so much time has passed; an iteration that has begun is finished.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimit(pub Duration);

impl StopCondition for TimeLimit {
    fn should_stop(&self, progress: &LoopProgress) -> Option<StopReason> {
        (progress.elapsed >= self.0).then_some(StopReason::TimeSpent { limit_sec: self.0.as_secs() })
    }
}
