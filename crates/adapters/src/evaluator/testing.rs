//! The test step.

use std::fs;
use std::io;
use std::path::PathBuf;

use evoseal_pipeline::Result;
use evoseal_safety::{EvaluationFault, FaultKind};
use evoseal_sandbox::{CommandOutcome, Ending};
use evoseal_types::{Resources, TestCase, TestReport, TestStatus};

use super::side::{Side, complete_stdout, describe};
use super::{JunitSettings, TestFormat, TestSettings};
use crate::{Launcher, StepSettings, files, parse, text};

/// The stage in faults.
pub(super) const STAGE: &str = "test";
/// The largest report file that is read.
const REPORT_BYTES_MAX: u64 = 64 << 20;

/// Tests the candidate. There is always a report; a fault stands beside it where the command did not end by itself or
/// what it left cannot be read.
pub(super) async fn run(
    launcher: &Launcher,
    settings: &TestSettings,
    side: &Side<'_>,
) -> Result<(TestReport, Option<EvaluationFault>)> {
    let step = settings.step();
    let without_report = |fault: EvaluationFault| {
        let report = TestReport::errored(&settings.test_type, fault.message.clone());
        (report, Some(fault))
    };
    if let TestFormat::Junit(junit) = &settings.format
        && let Err(reason) = remove_report(junit, side)
    {
        return Ok(without_report(side.fault(STAGE, FaultKind::NotRun, reason)));
    }
    let outcome = match side.run(launcher, STAGE, &step).await? {
        Ok(outcome) => outcome,
        Err(fault) => return Ok(without_report(fault)),
    };
    let (report, fault) = match outcome.ending {
        Ending::Exited(code) => match read(settings, side, &outcome) {
            Ok(report) => (with_exit_code(report, code, &step, &outcome), None),
            Err(reason) => {
                let message = format!("{reason}; {}", describe(&step, &outcome));
                without_report(side.fault(STAGE, FaultKind::Unreadable, message))
            }
        },
        _ => match side.failure(STAGE, &step, &outcome) {
            Some(fault) => without_report(fault),
            None => (TestReport::errored(&settings.test_type, describe(&step, &outcome)), None),
        },
    };
    Ok((with_use(report, &outcome), fault))
}

/// Reads what a command that exited by itself reported.
fn read(settings: &TestSettings, side: &Side<'_>, outcome: &CommandOutcome) -> Result<TestReport, String> {
    let test_type = &settings.test_type;
    match &settings.format {
        TestFormat::Libtest => {
            let stdout = complete_stdout(outcome)?;
            parse::libtest::parse(test_type, &stdout, &outcome.stderr.text())
                .map_err(|error| error.to_string())
        }
        TestFormat::Junit(junit) => {
            let path = report_path(junit, side)?;
            let xml = files::read_bounded(&path, REPORT_BYTES_MAX).map_err(|error| {
                if error.kind() == io::ErrorKind::NotFound {
                    format!("{} was not written", junit.report)
                } else {
                    format!("{} cannot be read: {error}", junit.report)
                }
            })?;
            let xml = String::from_utf8(xml).map_err(|_| format!("{} is not UTF-8", junit.report))?;
            parse::junit::parse(test_type, &xml).map_err(|error| format!("{}: {error}", junit.report))
        }
        TestFormat::Json => {
            let results = parse::json::parse(&complete_stdout(outcome)?)
                .map_err(|error| format!("standard output: {error}"))?;
            let report = results.tests.ok_or("standard output has no \"tests\"")?;
            Ok(TestReport { test_type: test_type.clone(), ..report })
        }
        TestFormat::ExitCode => {
            let status = if outcome.ending.success() { TestStatus::Pass } else { TestStatus::Fail };
            let name = text::line(&settings.command.to_string(), 200);
            let message = (status == TestStatus::Fail).then(|| describe(&settings.step(), outcome));
            Ok(TestReport::from_cases(test_type, vec![TestCase { name, status, message }]))
        }
    }
}

/// The report of a command with this exit code: one that failed did not pass, whatever its report says.
fn with_exit_code(
    report: TestReport,
    code: i32,
    step: &StepSettings,
    outcome: &CommandOutcome,
) -> TestReport {
    if code == 0 || report.status != TestStatus::Pass {
        return report;
    }
    let message = format!("no test failed, but {}", describe(step, outcome));
    TestReport { status: TestStatus::Error, message: Some(message), ..report }
}

/// The report with what the sandbox measured; what the command itself says of its times is not asked.
fn with_use(report: TestReport, outcome: &CommandOutcome) -> TestReport {
    let wall_sec = outcome.wall_time.as_secs_f64();
    let cpu_sec = (outcome.cpu_user + outcome.cpu_system).as_secs_f64();
    let resources = Resources {
        cpu_percent: (wall_sec > 0.0).then(|| cpu_sec * 100.0 / wall_sec),
        memory_mb: Some(outcome.memory_peak_bytes as f64 / f64::from(1 << 20)),
        ..Resources::default()
    };
    TestReport { duration_sec: wall_sec, resources, ..report }
}

fn report_path(junit: &JunitSettings, side: &Side<'_>) -> Result<PathBuf, String> {
    files::inside(&side.version.directory, &junit.report).map_err(|reason| format!("test report: {reason}"))
}

fn remove_report(junit: &JunitSettings, side: &Side<'_>) -> Result<(), String> {
    match fs::remove_file(report_path(junit, side)?) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("an older {} cannot be removed: {error}", junit.report))
        }
        _ => Ok(()),
    }
}
