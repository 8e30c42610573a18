//! The suites that an own [`DecisionPolicy`](crate::DecisionPolicy), [`AuditLog`](crate::AuditLog),
//! [`EvidenceStore`](crate::EvidenceStore) or [`SafetyGate`](crate::SafetyGate) has to pass; feature `conformance`.
//!
//! One macro call makes one test per case, each with a fresh instance:
//!
//! ```
//! # mod tests {
//! use evoseal_safety::{DecisionPolicy, StandardPolicy};
//!
//! evoseal_safety::decision_policy_conformance!(|| Box::new(StandardPolicy::default()) as Box<dyn DecisionPolicy>);
//! # }
//! ```
//!
//! Each suite also lists its cases by name and runs one of them, for tests of the suites themselves.

pub mod audit_log;
pub mod decision_policy;
pub mod evidence_store;
pub mod safety_gate;

/// What a case says: nothing, or what the implementation did wrong.
pub type Verdict = Result<(), String>;

/// Runs a future to its end on a runtime of its own.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the machine has the few descriptors that a runtime needs")
        .block_on(future)
}

/// Fails a case unless a condition holds.
fn ensure(condition: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if condition { Ok(()) } else { Err(otherwise()) }
}

/// An error as what is wrong.
fn wrong(error: impl std::fmt::Display) -> String {
    format!("it failed: {error}")
}

/// Makes a suite of cases: a list of them, a way to run one by name, and a macro that makes a test of each.
macro_rules! suite {
    ($dollar:tt $name:ident $module:ident $fixture:ty, $($case:ident)*) => {
        /// The names of all cases.
        pub const CASES: &[&str] = &[$(stringify!($case)),*];

        /// Runs the case of this name.
        pub fn run_case(name: &str, fixture: $fixture) -> $crate::conformance::Verdict {
            match name {
                $(stringify!($case) => $crate::conformance::block_on($case(fixture)),)*
                _ => Err(format!("there is no case {name:?}")),
            }
        }

        /// One test per case of the suite, for what the fixture makes.
        #[macro_export]
        macro_rules! $name {
            ($dollar fixture:expr) => {
                $(
                    #[test]
                    fn $case() {
                        let name = stringify!($case);
                        if let Err(why) = $dollar crate::conformance::$module::run_case(name, &$dollar fixture) {
                            panic!("{why}");
                        }
                    }
                )*
            };
        }
    };
}
use suite;
