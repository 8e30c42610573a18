//! Running untrusted commands under limits, and rules about what an edit may touch.

mod error;
mod guard;
mod linux;
mod sandbox;

pub use error::{Error, Result};
pub use guard::{Edit, Guard, Violation, ViolationKind};
pub use linux::{LinuxSandbox, Without, wall};
pub use sandbox::{Capabilities, Captured, CommandOutcome, CommandSpec, Ending, Limits, Sandbox, Wall};
