//! Suites that every implementation of this crate's traits should pass.
//!
//! Each suite is a module of named cases and a macro that makes one test of each case. A case panics with what it
//! expected. The tests need `tokio` with the features `macros` and `rt`.
//!
//! ```
//! use evoseal_checkpoint::Checkpoint;
//! use evoseal_rollback::{KnownGoodLadder, Result, Target, TargetSelector};
//! use evoseal_types::CheckpointId;
//!
//! /// Tries nothing but what was asked for.
//! #[derive(Debug)]
//! struct Strict;
//!
//! impl TargetSelector for Strict {
//!     fn select(
//!         &self,
//!         target: &Target,
//!         checkpoints: &[Checkpoint],
//!         known_good: &[CheckpointId],
//!     ) -> Result<Vec<CheckpointId>> {
//!         let mut ladder = KnownGoodLadder.select(target, checkpoints, known_good)?;
//!         ladder.truncate(1);
//!         Ok(ladder)
//!     }
//! }
//!
//! // Usually in a module of its own, named after what is tested.
//! evoseal_rollback::target_selector_conformance!(Strict);
//! ```

mod watched;

pub mod rollback;
pub mod target_selector;
pub mod verifier;

use std::future::Future;
use std::pin::Pin;

pub use rollback::{Place, RollbackFixture};
pub use verifier::{VerifierFixture, VerifierSubject};

/// A case by name, to be run on a fixture of type `F`.
pub type Case<F> = (&'static str, fn(&F) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>);

/// One test for each case; the list comes from the suite.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$suite:ident, $fixture:expr] $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::conformance::$suite::$case(&$fixture).await;
            }
        )*
    };
}

/// The cases as values; the list comes from the suite.
macro_rules! list_cases {
    ([] $($case:ident)*) => {
        vec![$((stringify!($case), |fixture| Box::pin($case(fixture)))),*]
    };
}

pub(crate) use list_cases;
