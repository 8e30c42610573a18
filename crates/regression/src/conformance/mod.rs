//! Test suites for whoever implements [`Detector`](crate::Detector) or [`Analyzer`](crate::Analyzer).
//!
//! Each case panics with what it saw if the contract is broken. One macro call makes a named test of each:
//!
//! ```
//! mod my_detector_keeps_the_contract {
//!     use evoseal_regression::{RegressionDetector, RegressionSettings, detector_conformance};
//!     # #[allow(dead_code, reason = "called by the tests that the macro makes")]
//!     fn fresh() -> RegressionDetector {
//!         RegressionDetector::new(&RegressionSettings::default()).expect("the defaults are valid")
//!     }
//!     detector_conformance!(fresh());
//! }
//! ```

pub mod analyzer;
pub mod detector;
