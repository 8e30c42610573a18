//! Proposers and evaluators that drive real programs, and parsers for what those print.
//!
//! The evolution loop knows a [`Proposer`](evoseal_pipeline::Proposer) that edits a workspace and an
//! [`Evaluator`](evoseal_pipeline::Evaluator) that tests and measures a version. Most people have neither; they have
//! commands: an agent, `cargo test`, a benchmark. This crate turns commands into the two.
//!
//! # Concept
//!
//! A command's *output* is a claim of a program that is not trusted, so it is read strictly: whatever is cut short,
//! contradicts itself or was not declared is a fault, and a fault keeps a version from being accepted. A command's
//! *surroundings* are given, not inherited: a [`Launcher`] holds the sandbox and the environment, and every command gets
//! exactly those, the additions of its settings, and a few `EVOSEAL_` variables. *Times* can be taken by the sandbox from
//! outside, where no patched clock reaches.
//!
//! # Parts
//!
//! | part | purpose |
//! | --- | --- |
//! | [`CommandProposer`] | any program proposes: a script, an agent, a migration tool |
//! | [`ParameterProposer`] | named constants are varied, by chance and without repetition; needs no program at all |
//! | [`CommandEvaluator`] | build, test, and measure beside the incumbent |
//! | [`parse`] | metric lines, JSON results, `cargo test` output and JUnit XML, as pure functions |
//!
//! Settings are plain serde structs that refuse unknown keys. Constructors check what types cannot, and name the key.
//!
//! # Example
//!
//! What a loop needs, from settings to the two components:
//!
//! ```
//! use std::sync::Arc;
//!
//! use evoseal_adapters::{
//!     CommandEvaluator, CommandEvaluatorSettings, Launcher, ParameterProposer, ParameterProposerSettings,
//! };
//! use evoseal_pipeline::{Evaluator, Proposer};
//! use evoseal_sandbox::Sandbox;
//!
//! fn components(sandbox: Arc<dyn Sandbox>) -> Result<(Box<dyn Proposer>, Box<dyn Evaluator>), Box<dyn std::error::Error>> {
//!     let proposer: ParameterProposerSettings = toml::from_str(r#"
//!         [[parameters]]
//!         name = "step"
//!         values = { min = 3, max = 8 }
//!         sites = [{ file = "src/lib.rs", before = "const STEP: usize = ", after = ";" }]
//!     "#)?;
//!     let evaluator: CommandEvaluatorSettings = toml::from_str(r#"
//!         [test]
//!         command = ["cargo", "test", "--offline"]
//!         format = "libtest"
//!         [measure]
//!         command = ["cargo", "run", "--release", "--offline", "--example", "bench"]
//!         measure_time = ["cpu"]
//!     "#)?;
//!     let proposer = ParameterProposer::new(proposer)?;
//!     let evaluator = CommandEvaluator::new(evaluator, Launcher::new(sandbox))?;
//!     Ok((Box::new(proposer), Box::new(evaluator)))
//! }
//! # use evoseal_sandbox::{Capabilities, CommandOutcome, CommandSpec, Error};
//! # #[derive(Debug)]
//! # struct Closed;
//! # #[async_trait::async_trait]
//! # impl Sandbox for Closed {
//! #     async fn run(&self, _: &CommandSpec) -> Result<CommandOutcome, Error> {
//! #         Err(Error::NotEnforced { missing: Vec::new() })
//! #     }
//! #     fn capabilities(&self) -> Capabilities { Capabilities { walls: Vec::new() } }
//! # }
//! assert!(components(Arc::new(Closed)).is_ok());
//! ```
//!
//! # What it does not do
//!
//! It judges nothing: faults, reports and samples go to the loop. It confines nothing: limits and walls are the
//! sandbox's. And it cannot prove that tests ran: code that runs in the test process can print any report, which is why
//! tests are compared by name with those of the accepted version, and why measurements of a program that contains the
//! code under test should rest on `measure_time` and a fixed number of values.

mod command;
mod command_proposer;
mod evaluator;
mod files;
mod launcher;
mod parameter;
pub mod parse;
mod text;

pub use command::CommandLine;
pub use command_proposer::{CommandProposer, CommandProposerSettings, EXIT_EXHAUSTED};
pub use evaluator::{
    CheckSettings, CommandEvaluator, CommandEvaluatorSettings, JunitSettings, MeasureSettings, MeasuredTime,
    MetricFormat, MetricSettings, TestFormat, TestSettings,
};
pub use launcher::{Launcher, StepSettings};
pub use parameter::{Parameter, ParameterProposer, ParameterProposerSettings, ParameterValues, Site};
