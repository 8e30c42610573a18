//! One decision from tests, guards and measurements, and its consequences.
//!
//! # The problem
//!
//! A version that was proposed by a program has test results, measurements, and an edit that somebody has to look at. Each
//! part can be missing, contradict itself or fail. Put together carelessly they let pass what nobody looked at: no tests are
//! no failed tests, a detector that crashed found no regression, a metric that is gone did not get worse. And once it is
//! decided, several stores have to agree on it, also if the process dies between two of them.
//!
//! # The concept
//!
//! *Fails closed*: a version is accepted because of evidence for it, never for lack of evidence against it. Whatever is
//! missing, contradictory or unusable is a reason of its own, with its own [`Rule`], and an error of any part is a denial.
//!
//! *Decided, then carried out*: [`SafetyGate::validate_version_safety`] turns [`Observations`] into a [`Decision`] and
//! touches nothing but the records; [`SafetyGate::settle`] carries a decision out and can be repeated. Whoever writes the
//! decision down in between can be killed anywhere.
//!
//! *Explained*: a decision lists every reason, the published [`SafetyScore`] term by term, and stands in an [`AuditLog`]
//! whose records form a chain.
//!
//! *Made again*: a decision is a pure function of its [`Evidence`], which is kept before the log names it. [`Rejudgement`]
//! makes it again years later, byte for byte, or shows what other thresholds would have made of it.
//!
//! # The parts
//!
//! - [`SafetyGate`] is what a loop holds; [`SafetyGateExt`] adds the published step, capture, judge and settle in one.
//!   [`SafetyIntegration`] is the standard gate over a checkpoint store, a metric store, a detector and, where there is a
//!   workspace, a rollback, each behind its trait.
//! - [`DecisionPolicy`] turns [`Evidence`] into a [`Decision`]: a pure function. [`StandardPolicy`] decides by the rules in
//!   the order of [`Rule`], with [`PolicyThresholds`].
//! - [`AuditLog`] remembers what was proposed, decided and done, each once: [`FileAuditLog`] in a file that `FORMAT.md`
//!   describes, [`MemoryAuditLog`] for as long as the process lives. [`AuditVerification`] says what is wrong with a log.
//! - [`EvidenceStore`] keeps the evidence that the log names: [`FileEvidenceStore`], [`MemoryEvidenceStore`].
//! - [`TestChanges`] names the tests that a candidate lost; [`PersonsDecision`] is what a person decides, which
//!   [`SafetyGate::override_version`] carries out.
//! - [`SafetySettings`] and [`ValidationSettings`] bear the published keys.
//! - The feature `conformance` exports a test suite for each of the four traits.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use evoseal_checkpoint::CheckpointManager;
//! use evoseal_metrics::MemoryMetricStore;
//! use evoseal_regression::{RegressionDetector, RegressionSettings};
//! use evoseal_safety::{
//!     MemoryAuditLog, Observations, Outcome, Rule, SafetyGate, SafetyIntegration, ValidationRequest,
//! };
//! use evoseal_types::{SystemClock, TestReport, VersionId};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = Arc::new(SystemClock::new());
//! let gate = SafetyIntegration::builder(
//!     Arc::new(CheckpointManager::builder().in_memory().open_or_create()?),
//!     Arc::new(MemoryMetricStore::new()),
//!     Arc::new(RegressionDetector::new(&RegressionSettings::default())?),
//!     Arc::new(MemoryAuditLog::new(clock.clone())),
//!     clock,
//! )
//! .build();
//!
//! let mut request = ValidationRequest {
//!     current_version_id: None,
//!     new_version_id: VersionId::new("v1")?,
//!     observations: Observations::default(),
//!     objective: None,
//! };
//! let decision = gate.validate_version_safety(&request).await?.decision;
//! assert_eq!((decision.outcome, decision.decided_by), (Outcome::Reject, Rule::NoTestResults));
//!
//! request.observations.test_results = vec![TestReport::from_counts("unit_tests", 12, 0, 0, 0)];
//! let validation = gate.validate_version_safety(&request).await?;
//! assert!(validation.is_safe, "{:?}", validation.issues);
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//!
//! - It runs nothing and measures nothing: it judges what it is told. An evaluator that lies about its results is believed,
//!   as long as they do not contradict each other.
//! - It does not know how a test came to pass. A candidate that weakens what the tests call passes them; guards protect the
//!   tests themselves.
//! - The chain of the audit log shows changes, and says nothing about who made them. Whoever can write the log, and the note
//!   of its end beside it, can forge both; an [`AuditHead`] that is kept elsewhere shows that.
//! - Evidence and records are never deleted.
//! - A settlement is completed by being repeated; somebody has to remember it until then, as the pipeline's journal does.

mod audit;
mod audit_chain;
mod audit_file;
mod audit_verify;
mod checks;
mod clean_up;
mod decision;
mod error;
mod evidence;
mod evidence_file;
mod evidence_store;
mod flaky;
mod gate;
mod integration;
mod inventory;
mod overriding;
mod person;
mod policy;
mod recorded;
mod rejudge;
mod remembered;
mod rolled_back;
mod run_memory;
mod settings;
mod test_reasons;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use audit::{AuditEvent, AuditLog, AuditRecord, MemoryAuditLog, ProposalRecord};
pub use audit_chain::{AuditDamage, AuditHead};
pub use audit_file::FileAuditLog;
pub use audit_verify::{AuditVerification, RememberedHead};
pub use checks::{CheckResult, MetricCondition, Mode};
pub use decision::{Decision, DecisionPolicy, Outcome, Penalty, Reason, Rule, SafetyScore};
pub use error::{Error, Result};
pub use evidence::{
    EvaluationFault, Evidence, FaultKind, Judgement, Observations, Subject, ValidationRequest,
};
pub use evidence_file::FileEvidenceStore;
pub use evidence_store::{EvidenceStore, MemoryEvidenceStore};
pub use flaky::{Flakiness, RetestedTest};
pub use gate::{
    CheckpointStatus, CleanupReport, EvolutionStep, RegressionStatus, RollbackStatus, SafetyGate,
    SafetyGateExt, SafetyStatus, SafetyValidation, Settlement, SettlementReport, StepResult, VersionRef,
};
pub use integration::{SafetyIntegration, SafetyIntegrationBuilder};
pub use inventory::{FewerTests, Lost, LostTest, NamedTest, TestChanges};
pub use person::{PersonsDecision, PersonsOrder, PersonsVerdict};
pub use policy::{PolicyThresholds, StandardPolicy};
pub use rejudge::Rejudgement;
pub use settings::{OnInconclusive, SafetySettings, SafetySwitches, ValidationSettings};
