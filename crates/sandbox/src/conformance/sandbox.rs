//! The contract of [`Sandbox`]. Needs `/bin/sh` and `/usr/bin/env`, and nothing of the optional walls.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::{Verdict, ensure};
use crate::{CommandOutcome, CommandSpec, Ending, Error, Sandbox};

macro_rules! suite {
    ($dollar:tt $($case:ident)*) => {
        /// The names of all cases.
        pub const CASES: &[&str] = &[$(stringify!($case)),*];

        /// Runs the case of this name.
        pub async fn run_case(name: &str, sandbox: &dyn Sandbox) -> Verdict {
            match name {
                $(stringify!($case) => $case(sandbox).await,)*
                _ => Err(format!("there is no case {name:?}")),
            }
        }

        /// One test per case of the [sandbox suite](crate::conformance::sandbox), for the sandbox that the expression makes.
        #[macro_export]
        macro_rules! sandbox_conformance {
            ($dollar fixture:expr) => {
                $(
                    #[test]
                    fn $case() {
                        let sandbox = $dollar fixture;
                        let verdict = $dollar crate::conformance::block_on(
                            $dollar crate::conformance::sandbox::$case(&sandbox),
                        );
                        if let Err(why) = verdict {
                            panic!("{why}");
                        }
                    }
                )*
            };
        }
    };
}

suite! { $
    reports_the_exit_code_and_keeps_the_streams_apart
    reports_a_crash_as_the_signal_that_ended_it
    runs_in_the_directory
    passes_exactly_the_environment
    feeds_input_larger_than_a_pipe
    bounds_what_it_keeps_of_the_output
    ends_a_command_at_its_time_limit
    leaves_no_process_behind_a_finished_command
    leaves_no_process_behind_a_dropped_future
    names_a_missing_program
    lists_each_wall_once_with_a_reason
}

fn shell(script: &str) -> CommandSpec {
    let mut command = CommandSpec::new("/bin/sh", "/");
    command.args = vec!["-c".into(), script.into()];
    command.environment.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
    command.limits.wall_time_sec = 60;
    command
}

async fn run(sandbox: &dyn Sandbox, command: &CommandSpec) -> Result<CommandOutcome, String> {
    sandbox
        .run(command)
        .await
        .map_err(|error| format!("{} did not start: {error}", command.program.display()))
}

fn folder() -> Result<tempfile::TempDir, String> {
    tempfile::tempdir().map_err(|error| format!("no temporary folder for the test: {error}"))
}

/// Exit codes and streams arrive as the command made them.
pub async fn reports_the_exit_code_and_keeps_the_streams_apart(sandbox: &dyn Sandbox) -> Verdict {
    let outcome = run(sandbox, &shell("echo out; echo err >&2; exit 7")).await?;
    ensure(outcome.ending == Ending::Exited(7), || format!("the command {}, not with 7", outcome.ending))?;
    let streams = (outcome.stdout.text(), outcome.stderr.text());
    ensure(streams == ("out\n".into(), "err\n".into()), || format!("it wrote {streams:?}"))
}

/// A command that kills itself has not succeeded, and its signal is named.
pub async fn reports_a_crash_as_the_signal_that_ended_it(sandbox: &dyn Sandbox) -> Verdict {
    let outcome = run(sandbox, &shell("kill -KILL $$")).await?;
    ensure(outcome.ending == Ending::Signalled(9), || format!("a killed command {}", outcome.ending))
}

/// The working directory is the one that was asked for.
pub async fn runs_in_the_directory(sandbox: &dyn Sandbox) -> Verdict {
    let folder = folder()?;
    std::fs::write(folder.path().join("here"), "").map_err(|error| error.to_string())?;
    let mut command = shell("ls");
    command.directory = folder.path().to_owned();
    let listing = run(sandbox, &command).await?.stdout.text();
    ensure(listing == "here\n", || format!("the directory holds {listing:?}"))
}

/// Nothing but the given variables, and `TMPDIR`, reaches the command.
pub async fn passes_exactly_the_environment(sandbox: &dyn Sandbox) -> Verdict {
    let mut command = CommandSpec::new("/usr/bin/env", "/");
    command.environment.insert("GREETING".into(), "hello".into());
    let text = run(sandbox, &command).await?.stdout.text();
    let lines: BTreeSet<_> = text.lines().filter(|line| !line.starts_with("TMPDIR=")).collect();
    ensure(lines == BTreeSet::from(["GREETING=hello"]), || format!("the environment is {lines:?}"))
}

/// Input and output flow at the same time.
pub async fn feeds_input_larger_than_a_pipe(sandbox: &dyn Sandbox) -> Verdict {
    let mut command = shell("cat");
    command.stdin = vec![b'x'; 1_000_000];
    command.limits.output_bytes = 2_000_000;
    let outcome = run(sandbox, &command).await?;
    ensure(outcome.stdout.text().as_bytes() == command.stdin, || {
        format!("{} of 1000000 bytes came back", outcome.stdout.total_bytes)
    })
}

/// A flood is counted, its ends are kept, the rest is not.
pub async fn bounds_what_it_keeps_of_the_output(sandbox: &dyn Sandbox) -> Verdict {
    let mut command = shell("echo start; head -c 3000000 /dev/zero; echo end");
    command.limits.output_bytes = 1000;
    let stdout = run(sandbox, &command).await?.stdout;
    let kept = stdout.head.len() + stdout.tail.len();
    ensure(kept <= 1000, || format!("{kept} bytes are kept, and 1000 are the limit"))?;
    ensure(stdout.total_bytes == 3_000_010, || {
        format!("{} of 3000010 bytes are counted", stdout.total_bytes)
    })?;
    ensure(stdout.head.starts_with(b"start\n") && stdout.tail.ends_with(b"end\n"), || {
        "an end is missing".into()
    })
}

/// The wall-clock limit holds also against a command that ignores SIGTERM.
pub async fn ends_a_command_at_its_time_limit(sandbox: &dyn Sandbox) -> Verdict {
    let mut command = shell("trap '' TERM; sleep 1; sleep 1; sleep 1; sleep 1");
    command.limits.wall_time_sec = 1;
    let outcome = run(sandbox, &command).await?;
    ensure(outcome.ending == Ending::TimedOut, || {
        format!("a command of 4 s under a limit of 1 s {}", outcome.ending)
    })
}

/// A process in a session of its own does not outlive the command.
pub async fn leaves_no_process_behind_a_finished_command(sandbox: &dyn Sandbox) -> Verdict {
    let folder = folder()?;
    let command = heart(folder.path(), "while ! [ -s beat ]; do sleep 0.01; done");
    let outcome = run(sandbox, &command).await?;
    ensure(outcome.ending == Ending::Exited(0), || format!("the command {}", outcome.ending))?;
    stands_still(folder.path()).await
}

/// The same when the caller loses interest.
pub async fn leaves_no_process_behind_a_dropped_future(sandbox: &dyn Sandbox) -> Verdict {
    let folder = folder()?;
    let command = heart(folder.path(), "while :; do sleep 1; done");
    let started = async {
        while !folder.path().join("beat").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        outcome = sandbox.run(&command) => return Err(format!("an endless command ended: {outcome:?}")),
        () = started => {}
        () = tokio::time::sleep(Duration::from_secs(30)) => return Err("the command never started".into()),
    }
    stands_still(folder.path()).await
}

/// A command that starts a process which writes to the file `beat` for ever, and then does `then`.
fn heart(folder: &Path, then: &str) -> CommandSpec {
    let beat = "trap \"\" HUP TERM; while :; do echo x >> beat; sleep 0.01; done";
    let mut command = shell(&format!("setsid sh -c '{beat}' & {then}"));
    folder.clone_into(&mut command.directory);
    command.writable = vec![folder.to_owned()];
    command
}

async fn stands_still(folder: &Path) -> Verdict {
    let size =
        || std::fs::metadata(folder.join("beat")).map(|file| file.len()).map_err(|error| error.to_string());
    let before = size()?;
    // Twenty beats; a process that lives writes at least one even on a busy machine.
    tokio::time::sleep(Duration::from_millis(250)).await;
    let after = size()?;
    ensure(before == after, || "a process still writes after the end".into())
}

/// A program that does not exist is an error of its own kind.
pub async fn names_a_missing_program(sandbox: &dyn Sandbox) -> Verdict {
    match sandbox.run(&CommandSpec::new("/no/such/program", "/")).await {
        Err(Error::ProgramMissing { program }) if program == "/no/such/program" => Ok(()),
        other => Err(format!("a missing program gives {other:?}")),
    }
}

/// Capabilities can be looked up by name and explain themselves.
pub async fn lists_each_wall_once_with_a_reason(sandbox: &dyn Sandbox) -> Verdict {
    let walls = sandbox.capabilities().walls;
    let names: BTreeSet<_> = walls.iter().map(|wall| &wall.name).collect();
    ensure(names.len() == walls.len(), || "a wall is listed twice".into())?;
    match walls.iter().find(|wall| wall.name.is_empty() || wall.detail.is_empty()) {
        Some(wall) => Err(format!("{wall:?} does not say what or how")),
        None => Ok(()),
    }
}
