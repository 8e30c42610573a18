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
    /// Too many iterations in a row did not improve the objective.
    NoImprovement {
        /// How many.
        count: u64,
    },
    /// The evaluations for the run are used up.
    EvaluationsSpent {
        /// The limit.
        limit: u64,
    },
    /// The storage below the limit for what must stay free, or the checkpoint store above its own.
    DiskSpent {
        /// What was found, and the limit.
        reason: String,
    },
    /// The evidence did not decide about a candidate, and a person is to.
    AwaitsPerson {
        /// The iteration.
        iteration: u64,
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
            Self::NoImprovement { count } => {
                write!(f, "{count} iterations in a row did not improve the objective")
            }
            Self::EvaluationsSpent { limit } => write!(f, "the limit of {limit} evaluations is used up"),
            Self::DiskSpent { reason } => write!(f, "storage is running out: {reason}"),
            Self::AwaitsPerson { iteration } => {
                write!(
                    f,
                    "iteration {iteration} is undecided; `evoseal approve`, `reject` or `hold {iteration}` \
                     decides it"
                )
            }
            Self::Interrupted => f.write_str("interrupted"),
            Self::Other { reason } => f.write_str(reason),
        }
    }
}

/// What a stop condition sees after each iteration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoopProgress {
    /// Iterations that this run has finished.
    pub iterations_done: u64,
    /// Iterations since the last accepted version: rejections, rollbacks, inconclusive ones and errors.
    pub consecutive_failures: u64,
    /// Iterations since the objective last improved measurably; without an objective, since the last accepted version.
    pub without_improvement: u64,
    /// Evaluations that were made, those included that could not be finished.
    pub evaluations: u64,
    /// Time since the run began.
    pub elapsed: Duration,
    /// What is left on the file system of the state directory, in bytes; `None` if that is not known.
    pub free_bytes: Option<u64>,
    /// What the checkpoint store takes up, in bytes; `None` if that is not known, or if there are no
    /// [`DiskLimits`] for it.
    pub store_bytes: Option<u64>,
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
/// let mut progress = LoopProgress { iterations_done: 9, consecutive_failures: 4, ..LoopProgress::default() };
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

/// Stops after so many iterations in a row in which the objective did not improve measurably. Versions that are accepted
/// because they are no worse do not count as an improvement.
#[derive(Debug, Clone, Copy)]
pub struct NoImprovement(pub u64);

impl StopCondition for NoImprovement {
    fn should_stop(&self, progress: &LoopProgress) -> Option<StopReason> {
        let count = progress.without_improvement;
        (count >= self.0).then_some(StopReason::NoImprovement { count })
    }
}

/// Stops once so many evaluations were made: the first one of the version to start from, those of candidates, and those that
/// were made again.
#[derive(Debug, Clone, Copy)]
pub struct MaxEvaluations(pub u64);

impl StopCondition for MaxEvaluations {
    fn should_stop(&self, progress: &LoopProgress) -> Option<StopReason> {
        (progress.evaluations >= self.0).then_some(StopReason::EvaluationsSpent { limit: self.0 })
    }
}

/// Stops before the disk is full. What is not known stops nothing.
///
/// ```
/// use evoseal_pipeline::{DiskLimits, LoopProgress, StopCondition};
/// let limits = DiskLimits { free_bytes_min: Some(1 << 30), store_bytes_max: None };
/// let progress = |free| LoopProgress { free_bytes: Some(free), ..LoopProgress::default() };
/// assert_eq!(limits.should_stop(&progress(1 << 30)), None);
/// let reason = limits.should_stop(&progress((1 << 30) - 1)).expect("it is below the limit");
/// assert_eq!(reason.to_string(), "storage is running out: 1073741823 bytes are free, at least 1073741824 must be");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskLimits {
    /// What must stay free on the file system of the state directory, in bytes.
    pub free_bytes_min: Option<u64>,
    /// What the checkpoint store may take up, in bytes.
    pub store_bytes_max: Option<u64>,
}

impl StopCondition for DiskLimits {
    fn should_stop(&self, progress: &LoopProgress) -> Option<StopReason> {
        let free = self.free_bytes_min.zip(progress.free_bytes).filter(|(limit, free)| free < limit);
        let store = self.store_bytes_max.zip(progress.store_bytes).filter(|(limit, store)| store > limit);
        let reason = match (free, store) {
            (Some((limit, free)), _) => format!("{free} bytes are free, at least {limit} must be"),
            (None, Some((limit, store))) => {
                format!("the checkpoint store takes up {store} bytes, at most {limit} are allowed")
            }
            (None, None) => return None,
        };
        Some(StopReason::DiskSpent { reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_breaker_trips_at_its_limit_and_not_before() {
        let at = |without_improvement, evaluations, store| LoopProgress {
            without_improvement,
            evaluations,
            store_bytes: Some(store),
            ..LoopProgress::default()
        };
        let disk = DiskLimits { free_bytes_min: Some(1), store_bytes_max: Some(10) };
        let breakers: [&dyn StopCondition; 3] = [&NoImprovement(3), &MaxEvaluations(5), &disk];
        for breaker in breakers {
            assert_eq!(breaker.should_stop(&at(2, 4, 10)), None, "{breaker:?}");
        }
        let reasons: Vec<_> =
            breakers.iter().filter_map(|breaker| breaker.should_stop(&at(3, 5, 11))).collect();
        let full = "the checkpoint store takes up 11 bytes, at most 10 are allowed".to_owned();
        let expected = [
            StopReason::NoImprovement { count: 3 },
            StopReason::EvaluationsSpent { limit: 5 },
            StopReason::DiskSpent { reason: full },
        ];
        assert_eq!(reasons, expected);
    }
}
