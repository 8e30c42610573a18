//! The words that all parts of evoseal share.
//!
//! A *version* is one state of a workspace, named by its caller ([`VersionId`]); a *checkpoint* is a stored capture
//! of one, named by its content ([`CheckpointId`]). A version has [`TestReport`]s and, for each metric,
//! [`MetricSamples`]: values in the order in which they were measured, with the process start that each came from.
//! A [`MetricSpec`] carries unit and harmful [`Direction`], so that no caller has to remember whether a rise is bad.
//!
//! ```
//! use evoseal_types::{Direction, MetricSamples, MetricSpec, Sample, VersionId};
//!
//! let latency = MetricSpec::new("latency", "ms", Direction::Increase)?;
//! let samples = MetricSamples::new(latency, vec![Sample::new(0, 0, 12.5), Sample::new(0, 1, 12.7)]);
//! let version: VersionId = "v1.2".parse()?;
//! assert_eq!((version.as_str(), samples.values()), ("v1.2", vec![12.5, 12.7]));
//! # Ok::<(), evoseal_types::Error>(())
//! ```
//!
//! This crate does no I/O and has no asynchronous code. Its only trait is [`Clock`], so that everything that needs the
//! time can be given a clock that a test moves.

pub mod any_float;
pub mod checked_line;
mod digest;
mod error;
mod id;
mod metric;
mod path;
mod severity;
mod test_report;
mod time;

pub use digest::{CheckpointId, Digest};
pub use error::{Error, ErrorClass, Result, is_storage_full};
pub use id::VersionId;
pub use metric::{Direction, MetricName, MetricSamples, MetricSpec, Objective, Sample, Threshold};
pub use path::{Change, ChangeKind, EntryPath};
pub use severity::{Recommendation, Severity};
pub use test_report::{Resources, TestCase, TestReport, TestStatus};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
