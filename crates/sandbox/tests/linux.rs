//! What hostile and unlucky commands do to the Linux sandbox.
#![allow(clippy::expect_used, reason = "tests")]

mod linux {
    mod killed;
    mod walls;
}

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use evoseal_sandbox::{CommandOutcome, CommandSpec, Ending, Error, LinuxSandbox, Sandbox, Without};

/// The sandbox with all that the machine offers, and as it is on a machine that offers less.
fn sandboxes() -> Vec<LinuxSandbox> {
    let without = |namespaces, landlock| LinuxSandbox::detect_without(Without { namespaces, landlock });
    vec![LinuxSandbox::detect(), without(true, false), without(false, true), without(true, true)]
}

/// The two ends of that range, for tests that have to sit out a time limit.
fn extremes() -> [LinuxSandbox; 2] {
    [LinuxSandbox::detect(), LinuxSandbox::detect_without(Without { namespaces: true, landlock: true })]
}

fn shell(script: &str) -> CommandSpec {
    let mut command = CommandSpec::new("/bin/sh", "/");
    command.args = vec!["-c".into(), script.into()];
    command.environment.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
    command
}

async fn run(sandbox: &LinuxSandbox, command: &CommandSpec) -> CommandOutcome {
    sandbox.run(command).await.unwrap_or_else(|error| panic!("{error:?}: {command:?}"))
}

/// Whether a process has `marker` among its arguments.
fn alive(marker: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc is readable").flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|line| line.windows(marker.len()).any(|window| window == marker.as_bytes()))
}

/// A number of seconds that no other test sleeps, so that its process can be told apart.
fn marker(base: u32) -> String {
    format!("{base}.{:05}", std::process::id() % 100_000)
}

#[tokio::test]
async fn an_ordinary_command_reports_its_code_and_output() {
    for sandbox in sandboxes() {
        let outcome = run(&sandbox, &shell("echo out; echo err >&2; exit 7")).await;
        assert_eq!(outcome.ending, Ending::Exited(7));
        assert_eq!((outcome.stdout.text().as_str(), outcome.stderr.text().as_str()), ("out\n", "err\n"));
        assert_eq!(outcome.stragglers_killed, 0);
    }
}

#[tokio::test]
async fn a_crash_names_its_signal() {
    for sandbox in sandboxes() {
        for (script, signal) in [("kill -ABRT $$", 6), ("kill -SEGV $$", 11), ("kill -KILL $$", 9)] {
            assert_eq!(run(&sandbox, &shell(script)).await.ending, Ending::Signalled(signal), "{script}");
        }
    }
}

#[tokio::test]
async fn a_command_that_loops_forever_is_ended_at_its_limit() {
    for sandbox in extremes() {
        let mut command = shell("while :; do :; done");
        command.limits.wall_time_sec = 1;
        let outcome = run(&sandbox, &command).await;
        assert_eq!(outcome.ending, Ending::TimedOut);
        assert!(outcome.cpu_user + outcome.cpu_system > Duration::from_millis(100), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_after_the_grace() {
    for sandbox in extremes() {
        let nap = marker(1001);
        let mut command = shell(&format!("trap '' TERM; echo ready; while :; do sleep {nap}; done"));
        command.limits.wall_time_sec = 1;
        let outcome = run(&sandbox, &command).await;
        assert_eq!((outcome.ending, outcome.stdout.text().as_str()), (Ending::TimedOut, "ready\n"));
        assert!(!alive(&nap));
    }
}

#[tokio::test]
async fn a_command_that_heeds_sigterm_can_still_say_something() {
    for sandbox in extremes() {
        let mut command = shell("trap 'echo flushed; exit 0' TERM; while :; do sleep 0.05; done");
        command.limits.wall_time_sec = 1;
        let outcome = run(&sandbox, &command).await;
        assert_eq!((outcome.ending, outcome.stdout.text().as_str()), (Ending::TimedOut, "flushed\n"));
    }
}

#[tokio::test]
async fn processes_in_new_sessions_do_not_survive_a_success() {
    for sandbox in sandboxes() {
        let nap = marker(1002);
        let script = format!(
            "setsid sh -c 'setsid sleep {nap} & setsid sleep {nap} & : > $TMPDIR/started; exec sleep {nap}' &
             while ! [ -e $TMPDIR/started ]; do sleep 0.01; done; echo done"
        );
        let outcome = run(&sandbox, &shell(&script)).await;
        assert_eq!((outcome.ending, outcome.stdout.text().as_str()), (Ending::Exited(0), "done\n"));
        assert!(!alive(&nap));
        assert_eq!(outcome.stragglers_killed, 3);
    }
}

#[tokio::test]
async fn processes_in_new_sessions_do_not_survive_the_time_limit() {
    for sandbox in extremes() {
        let nap = marker(1003);
        let mut command =
            shell(&format!("trap '' TERM; (setsid sleep {nap} &) ; while :; do sleep {nap}; done"));
        command.limits.wall_time_sec = 1;
        let outcome = run(&sandbox, &command).await;
        assert_eq!(outcome.ending, Ending::TimedOut);
        assert!(!alive(&nap));
        assert_eq!(outcome.stragglers_killed, 1, "the group's own processes are no stragglers");
    }
}

#[tokio::test]
async fn a_child_that_keeps_the_output_open_does_not_delay_the_end() {
    for sandbox in sandboxes() {
        let nap = marker(1004);
        let mut command = shell(&format!("sleep {nap} & echo done"));
        command.limits.wall_time_sec = 60;
        let outcome = run(&sandbox, &command).await;
        assert_eq!((outcome.ending, outcome.stdout.text().as_str()), (Ending::Exited(0), "done\n"));
        assert_eq!(outcome.stragglers_killed, 1);
        assert!(!alive(&nap));
    }
}

#[tokio::test]
async fn two_hundred_megabytes_of_output_are_read_and_mostly_dropped() {
    let sandbox = LinuxSandbox::detect();
    let mut command = shell("head -c 200000000 /dev/zero; echo end");
    command.limits.output_bytes = 1000;
    let outcome = run(&sandbox, &command).await;
    assert_eq!(outcome.ending, Ending::Exited(0));
    assert_eq!(outcome.stdout.total_bytes, 200_000_004);
    assert_eq!((outcome.stdout.head.len(), outcome.stdout.tail.len()), (500, 500));
    assert!(outcome.stdout.tail.ends_with(b"\0end\n"));
}

#[tokio::test]
async fn one_endless_line_is_cut_and_ended_by_the_time_limit() {
    let sandbox = LinuxSandbox::detect();
    let mut command = shell("cat /dev/zero");
    command.limits = evoseal_sandbox::Limits { wall_time_sec: 1, output_bytes: 64, ..command.limits };
    let outcome = run(&sandbox, &command).await;
    assert_eq!(outcome.ending, Ending::TimedOut);
    assert!(outcome.stdout.truncated());
    assert_eq!((outcome.stdout.head.len(), outcome.stdout.tail.len()), (32, 32));
}

#[tokio::test]
async fn a_flood_on_standard_error_does_not_wait_for_standard_output() {
    let sandbox = LinuxSandbox::detect();
    let outcome = run(&sandbox, &shell("head -c 5000000 /dev/zero >&2; echo done")).await;
    assert_eq!((outcome.ending, outcome.stdout.text().as_str()), (Ending::Exited(0), "done\n"));
    assert_eq!(outcome.stderr.total_bytes, 5_000_000);
}

#[tokio::test]
async fn input_larger_than_a_pipe_is_fed_while_output_is_read() {
    let mut command = shell("cat");
    command.stdin = vec![b'x'; 3_000_000];
    command.limits.output_bytes = 4_000_000;
    let outcome = run(&LinuxSandbox::detect(), &command).await;
    assert_eq!(outcome.stdout.text().into_bytes(), command.stdin);
}

#[tokio::test]
async fn a_command_need_not_read_its_input() {
    let mut command = shell("exec 0<&-; echo done");
    command.stdin = vec![b'x'; 3_000_000];
    let outcome = run(&LinuxSandbox::detect(), &command).await;
    assert_eq!((outcome.ending, outcome.stdout.text().as_str()), (Ending::Exited(0), "done\n"));
}

#[tokio::test]
async fn a_memory_bomb_fails_under_its_limit() {
    for sandbox in sandboxes() {
        let mut command = shell("x=0123456789abcdef; while :; do x=$x$x; done");
        command.limits.memory_bytes = Some(200 << 20);
        command.limits.wall_time_sec = 20;
        let outcome = run(&sandbox, &command).await;
        assert!(matches!(outcome.ending, Ending::Exited(1..) | Ending::Signalled(_)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_huge_file_stops_at_its_limit() {
    for sandbox in sandboxes() {
        let mut command = shell("exec head -c 5000000 /dev/zero > $TMPDIR/big");
        command.limits.file_size_bytes = Some(1 << 20);
        assert_eq!(run(&sandbox, &command).await.ending, Ending::Signalled(25), "SIGXFSZ");
    }
}

#[tokio::test]
async fn processor_time_stops_at_its_limit() {
    let mut command = shell("while :; do :; done");
    command.limits.cpu_time_sec = Some(1);
    command.limits.wall_time_sec = 30;
    let outcome = run(&LinuxSandbox::detect(), &command).await;
    assert_eq!(outcome.ending, Ending::Signalled(24), "SIGXCPU");
    // How exactly the system accounts for it is its own affair.
    assert!(outcome.cpu_user + outcome.cpu_system > Duration::ZERO, "{outcome:?}");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    for program in ["/no/such/program", "no-such-program", "./no-such-program"] {
        let error =
            LinuxSandbox::detect().run(&CommandSpec::new(program, "/")).await.expect_err("it is missing");
        assert!(matches!(&error, Error::ProgramMissing { program: named } if named == program), "{error:?}");
    }
}

#[tokio::test]
async fn a_program_is_looked_up_in_the_path_that_the_command_was_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let tool = folder.path().join("my-tool");
    fs::write(&tool, "#!/bin/sh\necho mine\n").expect("a script");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("its mode");
    let mut command = CommandSpec::new("my-tool", "/");
    command.environment.insert("PATH".into(), folder.path().into());
    assert_eq!(run(&LinuxSandbox::detect(), &command).await.stdout.text(), "mine\n");
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_is_named_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("plain");
    fs::write(&plain, "no program").expect("a file");
    let lost = folder.path().join("lost");
    fs::write(&lost, "#!/no/such/interpreter\n").expect("a script");
    fs::set_permissions(&lost, fs::Permissions::from_mode(0o755)).expect("its mode");
    for program in [plain, lost] {
        let error =
            LinuxSandbox::detect().run(&CommandSpec::new(&program, "/")).await.expect_err("it cannot run");
        assert!(matches!(error, Error::Start { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let error = LinuxSandbox::detect().run(&CommandSpec::new("/bin/sh", "/no/such/folder")).await;
    assert!(
        matches!(&error, Err(Error::Io { path, .. }) if path == Path::new("/no/such/folder")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_missing_writable_folder_is_named() {
    for sandbox in sandboxes() {
        let mut command = shell("true");
        command.writable = vec!["/no/such/folder".into()];
        let error = sandbox.run(&command).await;
        assert!(
            matches!(&error, Err(Error::Io { path, .. }) if path == Path::new("/no/such/folder")),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn the_command_sees_its_environment_and_nothing_else() {
    for sandbox in sandboxes() {
        let mut command = CommandSpec::new("/usr/bin/env", "/");
        command.environment.insert("GREETING".into(), "hello".into());
        let text = run(&sandbox, &command).await.stdout.text();
        let names: Vec<_> =
            text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        assert_eq!(
            {
                let mut names = names;
                names.sort_unstable();
                names
            },
            ["GREETING", "TMPDIR"]
        );
    }
}

#[tokio::test]
async fn a_dropped_future_leaves_no_process() {
    for sandbox in sandboxes() {
        let nap = marker(1005);
        let command = shell(&format!("trap '' TERM; (setsid sleep {nap} &); while :; do sleep {nap}; done"));
        let patience = tokio::time::timeout(Duration::from_millis(300), sandbox.run(&command)).await;
        assert!(patience.is_err(), "the command runs for ever");
        assert!(!alive(&nap));
    }
}

#[tokio::test]
async fn the_temporary_folder_is_private_and_goes_away_whatever_was_done_to_it() {
    let root = tempfile::tempdir().expect("a folder");
    for sandbox in sandboxes() {
        let sandbox = sandbox.temporary_root(root.path());
        let script =
            "mkdir -p $TMPDIR/a/b && ln -s / $TMPDIR/link && echo x > $TMPDIR/a/b/c && chmod 000 $TMPDIR/a";
        assert_eq!(run(&sandbox, &shell(script)).await.ending, Ending::Exited(0));
        assert_eq!(fs::read_dir(root.path()).expect("the root").count(), 0);
    }
}

#[tokio::test]
async fn cpu_time_and_memory_include_the_children_of_the_command() {
    let script = "sh -c 'x=0123456789abcdef; while [ ${#x} -lt 60000000 ]; do x=$x$x; done'";
    for sandbox in sandboxes() {
        let outcome = run(&sandbox, &shell(script)).await;
        assert_eq!(outcome.ending, Ending::Exited(0));
        assert!(outcome.memory_peak_bytes > 60_000_000, "{outcome:?}");
        assert!(outcome.cpu_user + outcome.cpu_system > Duration::ZERO, "{outcome:?}");
    }
}

#[tokio::test]
async fn the_memory_of_the_harness_is_not_the_command_s() {
    let ballast = vec![1_u8; 300 << 20];
    let outcome = run(&LinuxSandbox::detect(), &shell("sleep 0.1")).await;
    assert!(outcome.memory_peak_bytes < 50 << 20, "{outcome:?}");
    assert!(outcome.memory_peak_bytes > 100 << 10, "{outcome:?}");
    drop(ballast);
}
