//! What the tests across crates stand on.
//!
//! - [`Assembly`] puts the standard parts of the library together over a directory, as a program that embeds them does.
//! - [`scripted`] has a proposer and an evaluator that run a function, for loops without commands.
//! - [`measure`] reads the clocks and makes tables of figures, for the measurements here and in the benchmarks.

mod assembly;
pub mod measure;
pub mod scripted;
mod stand_in;
pub mod trees;

pub use assembly::Assembly;
