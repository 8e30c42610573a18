//! The claims of this crate about its errors, checked by simulation of noise whose truth is known.
//!
//! [`aa_table`] counts false regressions where nothing changed, and where the change is exactly the threshold. [`power_table`]
//! counts how often a harmful change is called a regression, beside the best classical test at the same error. Both run the whole
//! default detector over a grid of [`Cell`]s.
//!
//! Each function draws from a recorded seed, so that its table is the same on every machine. `evoseal detect simulate` and
//! `cargo xtask simulate` print them.

mod cell;
mod noise;
mod peers;
mod tables;

pub use cell::{Cell, ITERATIONS, Noise};
pub use noise::NoiseKind;
pub(crate) use noise::NoiseSource;
pub use tables::{AaRow, CellSimulation, PowerRow, aa_table, power_table};
