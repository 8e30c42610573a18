//! Returning a workspace to a known-good version.

mod deadline;
mod error;
mod files;
mod intent;
mod log;
mod manager;
mod protocol;
mod rollback;
mod selector;
mod settings;
mod state;
mod statistics;
mod verifier;
mod vocabulary;
mod workspace;

pub use error::{Error, Result};
pub use manager::{RollbackManager, RollbackManagerBuilder};
pub use rollback::{
    Attempt, Initiator, Rollback, RollbackRecord, RollbackReport, RollbackRequest, RollbackStatistics,
    Target, TargetSelector, Verifier,
};
pub use selector::KnownGoodLadder;
pub use settings::RollbackSettings;
pub use verifier::{DigestVerifier, FunctionVerifier};
