//! Judging a whole run: two stages, one error budget, one guard against drift.
//!
//! **Stage one** screens the candidate alone against the recent accepted versions, with as few samples as it takes to see
//! that nothing is wrong. It decides nothing but who is suspicious, so its errors cost measurements, never a version.
//! **Stage two** measures incumbent and candidate anew, side by side, and calls a regression only where the evidence of
//! these fresh samples suffices at the level that the run's [`ErrorLedger`](crate::ErrorLedger) hands out. A false rollback
//! needs two independent accidents, and the chance of any in the whole run is bounded by the second alone, whatever the
//! history did to the first.

mod confirm;
mod gain;
mod iteration;
mod judge;
mod metric;
mod own;
mod report;
mod screen;
mod settings;

pub use gain::{GainEstimate, gain_of_fresh_pairs};
pub use iteration::{FreshPairs, Iteration, RunMetric, Sampling};
pub use judge::RunJudge;
pub use report::{DriftFinding, IterationDecision, IterationReport, MetricReport, RunTotals, Stage};
pub(crate) use screen::MISS;
pub use screen::{ScreenOutcome, ScreenReport};
pub use settings::RunSettings;
