//! The claims of this crate about its errors, checked by simulation of noise whose truth is known.
//!
//! Of single judgements, [`aa_table`] counts false regressions where nothing changed, and where the change is exactly the
//! threshold. [`power_table`] counts how often a harmful change is called a regression, beside the best classical test at the
//! same error. Both run the whole default detector over a grid of [`Cell`]s.
//!
//! Of judging over time, [`simulate_loop`] runs whole loops, [`simulate_drift`] lets a version become worse bit by bit,
//! [`simulate_peek`] looks after every pair, and [`simulate_gain`] claims the gain of the best of several candidates. Each
//! share comes with its interval.
//!
//! Each function draws from a recorded seed, so that its table is the same on every machine. `evoseal detect simulate`,
//! `cargo xtask simulate` and `cargo xtask simulate-loop` print them.

mod cell;
mod drift;
mod gain;
mod noise;
mod peek;
mod peers;
mod run;
mod share;
mod tables;

pub use cell::{Cell, ITERATIONS, Noise};
pub use drift::{Beside, DriftRow, DriftSimulation, simulate_drift};
pub use gain::{GainRow, GainSimulation, simulate_gain};
pub use noise::NoiseKind;
pub(crate) use noise::NoiseSource;
pub use peek::{PeekRow, PeekSimulation, simulate_peek};
pub use run::{LoopRow, LoopSimulation, simulate_loop};
pub use share::Share;
pub use tables::{AaRow, CellSimulation, PowerRow, aa_table, power_table};
