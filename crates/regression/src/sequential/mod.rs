//! Judging while sampling: a verdict that may be looked at after every pair.
//!
//! A test at five percent that is repeated after every sample and stopped at the first success errs in a third of all
//! cases. The evidence here is an e-process: a number that, if nothing is wrong, exceeds `1 / alpha` at *any* time with
//! probability at most `alpha` (Ville 1939). So sampling may stop whenever the answer is certain, for or against, and
//! nothing is lost by looking.

mod evidence;
mod test;

pub(crate) use evidence::{log_mean_exp, t_evidence};
pub use test::{SampleKind, SequentialReport, SequentialRule, SequentialTest};
