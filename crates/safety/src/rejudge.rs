//! Making a decision again from its evidence.

use std::panic::{AssertUnwindSafe, catch_unwind};

use evoseal_regression::{Assessment, Detector, Measurements};
use serde::{Deserialize, Serialize};

use crate::{Decision, DecisionPolicy, Evidence, Judgement};

/// A decision, and what it would be now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejudgement {
    /// What was decided.
    pub before: Decision,
    /// What the same evidence leads to now.
    pub after: Decision,
    /// Whether the detector was asked again and said something else.
    pub judgement_changed: bool,
}

impl Rejudgement {
    /// Makes a decision again: with `detector` from the measurements on, without it from what the detector said then.
    ///
    /// A pure function, like the parts that it asks. Evidence without measurements keeps its judgement: there is nothing
    /// to ask a detector about.
    ///
    /// ```
    /// use evoseal_safety::{
    ///     DecisionPolicy, Evidence, Judgement, Observations, Outcome, PolicyThresholds, Rejudgement, StandardPolicy,
    ///     ValidationRequest,
    /// };
    /// use evoseal_types::TestReport;
    ///
    /// let observations =
    ///     Observations { test_results: vec![TestReport::from_counts("unit", 9, 0, 0, 0)], ..Observations::default() };
    /// let request = ValidationRequest {
    ///     current_version_id: None,
    ///     new_version_id: "v1".parse()?,
    ///     observations,
    ///     objective: None,
    /// };
    /// let evidence = Evidence { request, measurements: None, judgement: Judgement::NotAsked };
    /// let policy = StandardPolicy::default();
    /// let again = Rejudgement::of(&evidence, &policy.decide(&evidence), None, &policy);
    /// assert!(again.is_same() && !again.flips());
    /// assert_eq!(again.after.outcome, Outcome::Accept);
    /// # Ok::<(), evoseal_types::Error>(())
    /// ```
    pub fn of(
        evidence: &Evidence,
        before: &Decision,
        detector: Option<&dyn Detector>,
        policy: &dyn DecisionPolicy,
    ) -> Self {
        let judged = match (detector, &evidence.measurements) {
            (Some(detector), Some(measurements)) => {
                Evidence { judgement: assess(detector, measurements), ..evidence.clone() }
            }
            _ => evidence.clone(),
        };
        Self {
            before: before.clone(),
            after: policy.decide(&judged),
            judgement_changed: !same(&judged.judgement, &evidence.judgement),
        }
    }

    /// Whether the outcome is another.
    pub fn flips(&self) -> bool {
        self.before.outcome != self.after.outcome
    }

    /// Whether decision and judgement came out as they were, byte for byte as JSON.
    pub fn is_same(&self) -> bool {
        !self.judgement_changed && same(&self.before, &self.after)
    }
}

/// Whether two values are written down alike: also where a number is none, which equals nothing.
fn same<T: Serialize>(left: &T, right: &T) -> bool {
    let written = |value| serde_json::to_vec(value).ok();
    written(left).is_some_and(|left| Some(left) == written(right))
}

/// What the detector says about measurements. A detector that fails or panics says so; it is never taken for silence.
pub(crate) fn assess(detector: &dyn Detector, measurements: &Measurements) -> Judgement {
    match catch_unwind(AssertUnwindSafe(|| detector.assess(measurements))) {
        Ok(Ok(assessment)) if is_storable(&assessment) => Judgement::Assessed(assessment),
        Ok(Ok(_)) => Judgement::Failed("a finding holds a number that cannot be written down".to_owned()),
        Ok(Err(error)) => Judgement::Failed(error.to_string()),
        // The same measurements would bring it down again: that must decide, not end every run that meets them.
        Err(_) => Judgement::Failed("it panicked".to_owned()),
    }
}

/// Whether an assessment can be read back once it is written: JSON has no infinities, and a journal that holds one could
/// not be read any more.
fn is_storable(assessment: &Assessment) -> bool {
    serde_json::to_vec(assessment).is_ok_and(|json| serde_json::from_slice::<Assessment>(&json).is_ok())
}
