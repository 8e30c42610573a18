//! Running untrusted commands under limits, and rules about what an edit may touch.

mod environment;
mod error;
mod guard;
mod guards;
mod linux;
mod patterns;
mod sandbox;
mod scripted;

pub use environment::{ENVIRONMENT_DEFAULT, EnvironmentPolicy};
pub use error::{Error, Result};
pub use guard::{Edit, Guard, Violation, ViolationKind};
pub use guards::{EditScope, EditSize, ProtectedPaths, presets};
pub use linux::{LinuxSandbox, Without, wall};
pub use sandbox::{Capabilities, Captured, CommandOutcome, CommandSpec, Ending, Limits, Sandbox, Wall};
pub use scripted::ScriptedSandbox;
