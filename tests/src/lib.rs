//! What the tests across crates stand on.
//!
//! - [`Assembly`] puts the standard parts of the library together over a directory, as a program that embeds them does.
//! - [`Project`] is a small project of shell scripts with an `evoseal.toml`, and [`Program`] runs the real `evoseal` on it.
//! - [`scripted`] has a proposer and an evaluator that run a function, for loops without commands.
//! - [`measure`] reads the clocks and makes tables of figures, for the measurements here and in the benchmarks.
//! - [`random`] makes a seed a case; [`seals`] damages a store in ways that its digests do not show, and [`fuzzing`] uses
//!   what comes of it.

mod assembly;
pub mod fuzzing;
pub mod measure;
mod program;
mod project;
pub mod random;
pub mod scripted;
pub mod seals;
pub mod trees;

pub use assembly::Assembly;
pub use program::{Finished, Program, Running, sleeping};
pub use project::Project;

/// The program in the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
