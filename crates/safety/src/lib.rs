//! -

mod audit;
mod audit_file;
mod decision;
mod error;
mod evidence;
mod gate;
mod integration;
mod policy;
mod settings;

pub use audit::{AuditEvent, AuditLog, AuditRecord, MemoryAuditLog};
pub use audit_file::FileAuditLog;
pub use decision::{Decision, DecisionPolicy, Outcome, Penalty, Reason, Rule, SafetyScore};
pub use error::{Error, Result};
pub use evidence::{
    EvaluationFault, Evidence, FaultKind, Judgement, Observations, Subject, ValidationRequest,
};
pub use gate::{
    CheckpointStatus, CleanupReport, EvolutionStep, RegressionStatus, RollbackStatus, SafetyGate,
    SafetyGateExt, SafetyStatus, SafetyValidation, Settlement, SettlementReport, StepResult, VersionRef,
};
pub use integration::{SafetyIntegration, SafetyIntegrationBuilder};
pub use policy::{PolicyThresholds, StandardPolicy};
pub use settings::{SafetySettings, SafetySwitches, ValidationSettings};
