//! The suites accept what keeps the contracts and reject what breaks them.
#![cfg(feature = "conformance")]
#![allow(clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};

use async_trait::async_trait;
use evoseal_sandbox::conformance::{block_on, guard, sandbox};
use evoseal_sandbox::{
    Capabilities, CommandOutcome, CommandSpec, Edit, EditScope, Ending, Guard, LinuxSandbox, ProtectedPaths,
    Result, Sandbox, Violation, Without,
};
use evoseal_types::{Change, ChangeKind};

mod linux {
    evoseal_sandbox::sandbox_conformance!(evoseal_sandbox::LinuxSandbox::detect());
}

mod linux_without_features {
    evoseal_sandbox::sandbox_conformance!(super::plain());
}

mod boxed {
    evoseal_sandbox::sandbox_conformance!(Box::new(super::plain()) as Box<dyn evoseal_sandbox::Sandbox>);
}

mod edit_scope {
    evoseal_sandbox::guard_conformance!(super::scope);
}

mod protected_paths {
    evoseal_sandbox::guard_conformance!(super::protected);
}

fn plain() -> LinuxSandbox {
    LinuxSandbox::detect_without(Without { namespaces: true, landlock: true })
}

fn scope(_: &Path) -> Box<dyn Guard> {
    Box::new(EditScope::new(["src/**"]).expect("a valid pattern"))
}

fn protected(workspace: &Path) -> Box<dyn Guard> {
    Box::new(ProtectedPaths::pin(workspace, ["tests/**"]).expect("a readable workspace"))
}

/// A sandbox that differs from a right one in one way.
#[derive(Debug)]
struct Twin {
    fault: Fault,
    right: LinuxSandbox,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    LeaksEnvironment,
    LeavesASurvivor,
    IgnoresTheTimeLimit,
    KeepsAllOutput,
    CallsAKilledCommandSuccessful,
    DropsTheInput,
}

#[async_trait]
impl Sandbox for Twin {
    async fn run(&self, command: &CommandSpec) -> Result<CommandOutcome> {
        let mut command = command.clone();
        match self.fault {
            Fault::LeaksEnvironment => {
                command.environment.insert("API_TOKEN".into(), "secret".into());
            }
            Fault::LeavesASurvivor => return Ok(run_unsupervised(&command)),
            Fault::IgnoresTheTimeLimit => command.limits.wall_time_sec = 600,
            Fault::KeepsAllOutput => command.limits.output_bytes = 1 << 30,
            Fault::DropsTheInput => command.stdin.clear(),
            Fault::CallsAKilledCommandSuccessful => {}
        }
        let mut outcome = self.right.run(&command).await?;
        if self.fault == Fault::CallsAKilledCommandSuccessful && !matches!(outcome.ending, Ending::Exited(_))
        {
            outcome.ending = Ending::Exited(0);
        }
        Ok(outcome)
    }

    fn capabilities(&self) -> Capabilities {
        self.right.capabilities()
    }
}

/// What one gets from the standard library alone. The process that it leaves ends when the case removes its folder.
fn run_unsupervised(command: &CommandSpec) -> CommandOutcome {
    let mut process = Command::new(&command.program);
    let bounded: Vec<_> = command
        .args
        .iter()
        .map(|arg| arg.to_string_lossy().replace("while :; do echo x >> beat;", "while echo x >> beat; do"))
        .collect();
    process.args(&bounded).current_dir(&command.directory).env_clear().envs(&command.environment);
    let status =
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("a shell");
    CommandOutcome::new(Ending::Exited(status.code().unwrap_or(-1)))
}

fn rejected_by(fault: Fault, case: &str) -> bool {
    let twin = Twin { fault, right: plain() };
    block_on(sandbox::run_case(case, &twin)).is_err()
}

#[test]
fn each_broken_sandbox_is_rejected_by_the_case_for_its_fault() {
    let pairs = [
        (Fault::LeaksEnvironment, "passes_exactly_the_environment"),
        (Fault::LeavesASurvivor, "leaves_no_process_behind_a_finished_command"),
        (Fault::IgnoresTheTimeLimit, "ends_a_command_at_its_time_limit"),
        (Fault::KeepsAllOutput, "bounds_what_it_keeps_of_the_output"),
        (Fault::CallsAKilledCommandSuccessful, "reports_a_crash_as_the_signal_that_ended_it"),
        (Fault::CallsAKilledCommandSuccessful, "ends_a_command_at_its_time_limit"),
        (Fault::DropsTheInput, "feeds_input_larger_than_a_pipe"),
    ];
    for (fault, case) in pairs {
        assert!(sandbox::CASES.contains(&case), "{case} is a case");
        assert!(rejected_by(fault, case), "{case} accepts a sandbox that {fault:?}");
    }
}

/// A guard that differs from a right one in one way.
#[derive(Debug)]
struct Careless {
    right: Box<dyn Guard>,
    fault: Carelessness,
}

#[derive(Debug, Clone, Copy)]
enum Carelessness {
    IgnoresAdditions,
    IgnoresRemovals,
    IgnoresModes,
    IgnoresKinds,
    TrustsCase,
    StopsAtTheFirst,
    AllowsEverything,
    RefusesEverything,
}

impl Guard for Careless {
    fn name(&self) -> &'static str {
        self.right.name()
    }

    fn check(&self, edit: &Edit<'_>) -> Result<Vec<Violation>> {
        let kept = |change: &Change| match self.fault {
            Carelessness::IgnoresAdditions => change.kind != ChangeKind::Added,
            Carelessness::IgnoresRemovals => change.kind != ChangeKind::Removed,
            Carelessness::IgnoresModes => change.kind != ChangeKind::ModeChanged,
            Carelessness::IgnoresKinds => change.kind != ChangeKind::KindChanged,
            Carelessness::TrustsCase => !change.path.as_bytes().starts_with(b"Tests/"),
            _ => true,
        };
        let changes: Vec<_> = edit.changes.iter().filter(|change| kept(change)).cloned().collect();
        let mut violations = self.right.check(&Edit { changes: &changes, ..*edit })?;
        match self.fault {
            Carelessness::StopsAtTheFirst => violations.truncate(1),
            Carelessness::AllowsEverything => violations.clear(),
            Carelessness::RefusesEverything => {
                violations.extend(edit.changes.iter().map(|change| Violation {
                    guard: self.name().to_owned(),
                    kind: evoseal_sandbox::ViolationKind::OutOfScope,
                    path: Some(change.path.clone()),
                    reason: "it changed".to_owned(),
                }));
            }
            _ => {}
        }
        Ok(violations)
    }
}

#[test]
fn each_careless_guard_is_rejected_by_the_case_for_its_fault() {
    let pairs = [
        (Carelessness::IgnoresAdditions, "sees_an_addition"),
        (Carelessness::IgnoresRemovals, "sees_a_removal"),
        (Carelessness::IgnoresRemovals, "sees_a_rename"),
        (Carelessness::IgnoresModes, "sees_another_mode"),
        (Carelessness::IgnoresKinds, "sees_a_symlink_in_the_place_of_a_file"),
        (Carelessness::TrustsCase, "sees_a_name_that_differs_in_case_only"),
        (Carelessness::StopsAtTheFirst, "names_everything_in_path_order"),
        (Carelessness::AllowsEverything, "sees_a_modification"),
        (Carelessness::AllowsEverything, "says_the_same_again"),
        (Carelessness::RefusesEverything, "allows_an_edit_of_what_is_free"),
    ];
    for (fault, case) in pairs {
        assert!(guard::CASES.contains(&case), "{case} is a case");
        let careless =
            |workspace: &Path| Box::new(Careless { right: scope(workspace), fault }) as Box<dyn Guard>;
        assert!(guard::run_case(case, &careless).is_err(), "{case} accepts a guard that {fault:?}");
    }
}
