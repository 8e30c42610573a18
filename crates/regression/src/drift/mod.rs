//! Small losses that add up: the guard against drift over a run.
//!
//! Two hundred steps of 0.2 percent each pass every rule that looks at the last version alone, and end at half as slow
//! again. The guard adds the evidence of all accepted versions up, with one error rate for the whole run.

mod guard;
mod moments;
mod spread;

pub use guard::{DriftAlarm, DriftGuard};
pub(crate) use moments::Moments;
