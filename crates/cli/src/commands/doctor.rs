//! `evoseal doctor`.

use evoseal_sandbox::{LinuxSandbox, Sandbox};
use serde::Serialize;

use crate::args::GlobalArguments;
use crate::failure::Exit;
use crate::output::Output;
use crate::project::Project;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    detail: String,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    Warning,
    Bad,
}

pub(crate) fn run(global: &GlobalArguments, output: Output) -> Exit {
    let mut checks = sandbox_checks();
    checks.extend(project_checks(global));
    output.data(&checks, || {
        let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        let line = |check: &Check| {
            let word = match check.state {
                State::Good => "ok",
                State::Warning => "warn",
                State::Bad => "BAD",
            };
            format!("{word:<5} {:<width$}  {}", check.name, check.detail)
        };
        checks.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    if checks.iter().any(|check| check.state == State::Bad) { Exit::Found } else { Exit::Done }
}

/// Which walls of the sandbox hold here.
fn sandbox_checks() -> Vec<Check> {
    let walls = LinuxSandbox::detect().capabilities().walls;
    let check = |wall: evoseal_sandbox::Wall| Check {
        name: wall.name,
        state: if wall.enforced { State::Good } else { State::Warning },
        detail: wall.detail,
    };
    walls.into_iter().map(check).collect()
}

/// What the project's settings need.
fn project_checks(global: &GlobalArguments) -> Vec<Check> {
    let bad = |name: &str, failure: &crate::failure::Failure| {
        let hint = failure.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
        Check { name: name.to_owned(), state: State::Bad, detail: format!("{}{hint}", failure.message) }
    };
    let good = |name: &str, detail: String| Check { name: name.to_owned(), state: State::Good, detail };
    let project = match Project::find(global) {
        Ok(project) => project,
        Err(failure) => return vec![bad("settings", &failure)],
    };
    let mut checks = vec![good("settings", project.loaded.path.display().to_string())];
    let settings = &project.loaded.settings;
    match settings.propose.kind() {
        Ok(_) => checks.push(good("proposer", "set".to_owned())),
        Err(failure) => checks.push(bad("proposer", &failure)),
    }
    let evaluate = &settings.evaluate;
    let commands = [
        ("propose.command", settings.propose.command.as_ref()),
        ("evaluate.build", evaluate.build.as_ref().map(|step| &step.command)),
        ("evaluate.test", Some(&evaluate.test.command)),
        ("evaluate.measure", evaluate.measure.as_ref().map(|step| &step.command)),
    ];
    for (name, command) in commands {
        let Some(command) = command else { continue };
        match crate::project::require_program(command, name) {
            Ok(()) => checks.push(good(name, command.to_string())),
            Err(failure) => checks.push(bad(name, &failure)),
        }
    }
    checks.push(writable(&project));
    match project.run_state() {
        Ok(state) => checks.push(good("journal", format!("{} iterations", state.finished.len()))),
        Err(failure) => checks.push(bad("journal", &failure)),
    }
    checks
}

/// Whether the workspace can be written to, tried with a file that is removed again.
fn writable(project: &Project) -> Check {
    let path = project.root.join(".evoseal-doctor");
    let tried = std::fs::write(&path, b"").and_then(|()| std::fs::remove_file(&path));
    let (state, detail) = match tried {
        Ok(()) => (State::Good, project.root.display().to_string()),
        Err(error) => (State::Bad, format!("{} is not writable: {error}", project.root.display())),
    };
    Check { name: "workspace".to_owned(), state, detail }
}
