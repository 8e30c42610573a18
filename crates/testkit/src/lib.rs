//! Fakes and fault injection for evoseal's tests; only ever a dev-dependency.
//!
//! - [`FakeCheckpointStore`] keeps full copies of directory trees in memory and can be told to be damaged.
//! - [`Faults`] counts the steps of a run and fails, or stops it dead, at a chosen one, so that a test can walk through
//!   every place at which a program can be killed.

mod checkpoint;
mod detector;
mod faults;
mod metrics;
mod pipeline;
mod safety;
mod tree;

pub use checkpoint::{Call, FakeCheckpointStore};
pub use detector::{ScriptedDetector, assessment_of};
pub use faults::{Crash, Fault, Faults};
pub use metrics::MemoryMetrics;
pub use pipeline::{RecordingObserver, ScriptedEvaluator, ScriptedProposer, Step};
pub use safety::{CopyRollback, FaultyAuditLog};
pub use tree::{Node, Tree};
