//! The suites that an own [`Sandbox`](crate::Sandbox) or [`Guard`](crate::Guard) has to pass; feature `conformance`.
//!
//! One macro call makes one test per case, each with a fresh instance:
//!
//! ```
//! # mod tests {
//! evoseal_sandbox::sandbox_conformance!(evoseal_sandbox::LinuxSandbox::detect());
//! # }
//! ```
//!
//! Each case is also a function that returns what is wrong, and [`sandbox::CASES`] and [`guard::CASES`] list them by name,
//! for tests of the suites themselves.

pub mod guard;
pub mod sandbox;

/// What a case says: nothing, or what the implementation did wrong.
pub type Verdict = Result<(), String>;

/// Runs a future to its end on a runtime of its own.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("the machine has the few descriptors that a runtime needs")
        .block_on(future)
}

/// Fails a case unless a condition holds.
fn ensure(condition: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if condition { Ok(()) } else { Err(otherwise()) }
}
