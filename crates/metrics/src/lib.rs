//! Samples and test results of versions, and questions about their history.

mod error;
mod store;

pub use error::{Error, Result};
pub use store::{MetricStore, NewRecord, Record, RecordFilter};
