//! Deliberately wrong implementations; the suites reject each of them.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod rollbacks;
mod selectors;
mod verifiers;

use std::collections::BTreeSet;
use std::sync::Arc;

use evoseal_rollback::conformance::Case;

/// The names of the cases that `fixture` fails.
async fn failed_cases<F: Send + Sync + 'static>(fixture: F, cases: Vec<Case<F>>) -> BTreeSet<&'static str> {
    let fixture = Arc::new(fixture);
    let mut failed = BTreeSet::new();
    for (name, run) in cases {
        let fixture = Arc::clone(&fixture);
        if tokio::spawn(async move { run(&fixture).await }).await.is_err() {
            failed.insert(name);
        }
    }
    failed
}

/// Whether `fixture` fails the case of that name.
async fn fails<F: Send + Sync + 'static>(fixture: F, mut cases: Vec<Case<F>>, case: &str) -> bool {
    cases.retain(|(name, _)| *name == case);
    assert_eq!(cases.len(), 1, "there is no case {case}");
    !failed_cases(fixture, cases).await.is_empty()
}
