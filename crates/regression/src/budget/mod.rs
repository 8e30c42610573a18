//! The error budget of a whole run, spent over its decisions.
//!
//! A run of a thousand iterations that tests each at five percent blocks a good candidate every other time. So the error
//! is a budget of the run: before each decision the [`ErrorLedger`] says at which level it may be made, and after it the
//! ledger is told the outcome. The sum of the levels bounds the expected number of false decisions.

mod ledger;

pub use ledger::{ErrorLedger, ErrorPolicy};
