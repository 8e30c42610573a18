//! What one iteration brings.

use std::collections::BTreeMap;

use evoseal_types::{MetricSpec, Threshold};

use crate::{DataProblem, SampleKind};

/// The least independent values of a candidate: a single one, as one process start is whatever its iterations, may be a lucky one.
pub(super) const CANDIDATE_LEAST: usize = 2;

/// The samples of one iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct Iteration {
    /// The metrics, each named once.
    pub metrics: Vec<RunMetric>,
    /// What further samples can be had.
    pub sampling: Sampling,
    /// What was decided about the candidate, where that is known and may differ from this judgement.
    pub accepted: Option<bool>,
}

/// What samples can be had besides those that are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sampling {
    /// As many of the candidate as [`RunJudge::screen`](crate::RunJudge::screen) asks for, and fresh pairs where they are needed.
    OnDemand,
    /// Fresh pairs where they are needed; the candidate's other samples are what they are.
    FreshPairs,
    /// None. The iteration's own samples are the only evidence: they are judged in *every* iteration, at a level so much
    /// lower, and what is suspicious without being certain stays undecided.
    Fixed,
}

/// The samples of one metric: independent values, for several process starts the mean of each. See
/// [`independent_values`](crate::independent_values).
#[derive(Debug, Clone, PartialEq)]
pub struct RunMetric {
    /// What the numbers mean.
    pub spec: MetricSpec,
    /// The tolerated change. Zero: every certain harm counts.
    pub threshold: Threshold,
    /// What the samples are.
    pub kind: SampleKind,
    /// Samples of the incumbent, taken in this iteration; may be empty once there are earlier accepted versions.
    pub incumbent: Vec<f64>,
    /// Samples of the candidate, in the order in which they were measured.
    pub candidate: Vec<f64>,
    /// Fresh samples of both, measured side by side after these.
    pub confirmation: Option<FreshPairs>,
    /// Samples of named baselines, taken in this iteration beside the candidate.
    pub baselines: BTreeMap<String, Vec<f64>>,
}

/// Samples of incumbent and candidate, measured side by side: value i of one with value i of the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FreshPairs {
    /// The incumbent's.
    pub incumbent: Vec<f64>,
    /// The candidate's.
    pub candidate: Vec<f64>,
}

impl RunMetric {
    /// What keeps the candidate from being judged.
    pub(crate) fn problem(&self, has_reference: bool) -> Option<DataProblem> {
        let is_bad = |values: &[f64]| values.iter().any(|value| !value.is_finite());
        let empty = FreshPairs::default();
        let fresh = self.confirmation.as_ref().unwrap_or(&empty);
        if self.candidate.is_empty() {
            Some(DataProblem::MissingInCandidate)
        } else if is_bad(&self.candidate) || is_bad(&fresh.candidate) {
            Some(DataProblem::NonFiniteInCandidate)
        } else if is_bad(&self.incumbent)
            || is_bad(&fresh.incumbent)
            || self.baselines.values().any(|b| is_bad(b))
        {
            Some(DataProblem::NonFiniteInIncumbent)
        } else if self.incumbent.is_empty() && !has_reference {
            Some(DataProblem::MissingInIncumbent)
        } else if self.candidate.len() < CANDIDATE_LEAST {
            Some(DataProblem::TooFewSamples)
        } else {
            None
        }
    }
}
