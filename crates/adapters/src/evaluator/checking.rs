//! The checks besides the tests.

use evoseal_pipeline::{Evaluation, EvaluationRequest, Result};
use evoseal_safety::{CheckResult, EvaluationFault, FaultKind, Mode, Subject};
use evoseal_types::{TestReport, TestStatus};

use super::side::Side;
use super::{CheckSettings, CommandEvaluator, testing};

/// The stage in faults.
const STAGE: &str = "check";

impl CommandEvaluator {
    /// Runs every check on the candidate, and on the incumbent those that it fails. Says whether all passed that decide.
    pub(super) async fn check(
        &self,
        request: &EvaluationRequest,
        candidate: &Side<'_>,
        evaluation: &mut Evaluation,
    ) -> Result<bool> {
        let mut all_pass = true;
        for settings in &self.settings.checks {
            let (report, fault) = testing::run(&self.launcher, &settings.as_test(), candidate).await?;
            if let Some(fault) = fault.filter(|fault| fault.kind == FaultKind::NotRun)
                && settings.mode == Mode::Required
            {
                // What decides and could not be run leaves no decision; that is no verdict of the check.
                evaluation.faults.push(EvaluationFault { stage: STAGE.to_owned(), ..fault });
                return Ok(false);
            }
            let passed = passes(&report);
            let incumbent_passed =
                if passed { None } else { self.check_incumbent(request, settings).await? };
            let message = (!passed).then(|| failure(&report));
            let CheckSettings { name, mode, .. } = settings.clone();
            evaluation.checks.push(CheckResult { name, mode, passed, incumbent_passed, message });
            all_pass &= passed || settings.mode != Mode::Required;
        }
        Ok(all_pass)
    }

    /// Whether the incumbent passes the check; `None` where there is none, or where it cannot be told.
    async fn check_incumbent(
        &self,
        request: &EvaluationRequest,
        settings: &CheckSettings,
    ) -> Result<Option<bool>> {
        let Some(version) = &request.incumbent else { return Ok(None) };
        let side = Side::new(request, Subject::Incumbent, version)?;
        if !self.build(&side, &mut Evaluation::default()).await? {
            return Ok(None);
        }
        let (report, fault) = testing::run(&self.launcher, &settings.as_test(), &side).await?;
        Ok(fault.is_none().then(|| passes(&report)))
    }
}

/// Whether something was checked and nothing failed.
fn passes(report: &TestReport) -> bool {
    report.status == TestStatus::Pass && report.tests_run > 0
}

/// What a check says that failed.
fn failure(report: &TestReport) -> String {
    let mut failed = report.cases.iter().filter(|case| case.status != TestStatus::Pass);
    let said = failed.find_map(|case| case.message.clone());
    said.or_else(|| report.message.clone())
        .unwrap_or_else(|| format!("{} of {} failed", report.tests_failed, report.tests_run))
}
