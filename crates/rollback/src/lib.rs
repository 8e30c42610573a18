//! Returning a workspace to a known-good version.

mod error;
mod rollback;

pub use error::{Error, Result};
pub use rollback::{
    Attempt, Initiator, Rollback, RollbackRecord, RollbackReport, RollbackRequest, RollbackStatistics,
    Target, TargetSelector, Verifier,
};
