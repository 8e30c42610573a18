//! How many samples a threshold needs on this machine's noise.

mod noise;
mod plan;

pub use noise::{NoiseProfile, PilotDesign};
pub use plan::{PlanSettings, SamplePlan, plan};
