//! The claims of this crate about error rates over time, checked by simulation.
//!
//! Each function draws from a recorded seed, so that its table is the same on every machine, and gives every share with its
//! interval. `evoseal detect simulate` and `cargo xtask simulate` print them.

mod drift;
mod gain;
mod noise;
mod peek;
mod run;
mod share;

pub use drift::{DriftRow, DriftSimulation, simulate_drift};
pub use gain::{GainRow, GainSimulation, simulate_gain};
pub use noise::NoiseKind;
pub(crate) use noise::NoiseSource;
pub use peek::{PeekRow, PeekSimulation, simulate_peek};
pub use run::{LoopRow, LoopSimulation, simulate_loop};
pub use share::Share;
