//! -

mod decision;
mod error;
mod evidence;

pub use decision::{Decision, DecisionPolicy, Outcome, Penalty, Reason, Rule, SafetyScore};
pub use error::{Error, Result};
pub use evidence::{
    EvaluationFault, Evidence, FaultKind, Judgement, Observations, Subject, ValidationRequest,
};
