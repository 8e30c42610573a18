//! What hostile and unlucky commands do to the Linux sandbox.
#![allow(clippy::expect_used, reason = "tests")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use evoseal_sandbox::{
    CommandOutcome, CommandSpec, Ending, Error, LinuxSandbox, MARK_VARIABLE, Sandbox, Tether, Without, wall,
};
use rustix::process::{Pid, Signal, kill_process};

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
    assert!(outcome.cpu_user + outcome.cpu_system >= Duration::from_millis(900), "{outcome:?}");
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

#[tokio::test]
async fn only_the_workspace_and_the_temporary_folder_can_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (workspace, outside) = (folder.path().join("workspace"), folder.path().join("outside"));
    fs::create_dir(&workspace).expect("a folder");
    fs::create_dir(&outside).expect("a folder");
    for sandbox in sandboxes().into_iter().filter(|s| s.capabilities().enforces(wall::WRITE)) {
        let mut command = shell(
            "echo a > inside && ln inside linked && mkdir sub && mv inside sub && echo a > $TMPDIR/a && echo a > /dev/null || exit 1
             echo a 2>/dev/null > ../outside/file && exit 2
             ln sub/inside ../outside/file 2>/dev/null && exit 3
             ln -s ../outside link; echo a 2>/dev/null > link/file && exit 4
             rm -rf sub linked link",
        );
        command.directory = workspace.clone();
        command.writable = vec![workspace.clone()];
        let outcome = run(&sandbox, &command).await;
        assert_eq!(outcome.ending, Ending::Exited(0), "{}", outcome.stderr.text());
        assert_eq!(fs::read_dir(&outside).expect("the folder").count(), 0);
    }
}

#[tokio::test]
async fn read_only_mounts_also_hold_modes_and_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let (workspace, outside) = (folder.path().join("workspace"), folder.path().join("outside"));
    for folder in [&workspace, &outside] {
        fs::create_dir(folder).expect("a folder");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    let holds = |sandbox: &LinuxSandbox| {
        let walls = sandbox.capabilities().walls;
        walls.iter().any(|wall| wall.name == wall::WRITE && wall.detail.starts_with("read-only mounts"))
    };
    for sandbox in sandboxes().into_iter().filter(holds) {
        let mut command = shell(
            "chmod 700 . && chmod 755 . || exit 1
             chmod 777 ../outside 2>/dev/null && exit 2; touch -d 2000-01-01 ../outside 2>/dev/null && exit 3
             mount -o remount,bind,rw / 2>/dev/null && exit 4
             echo x 2>/dev/null > /dev/null || exit 5; exit 0",
        );
        command.directory = workspace.clone();
        command.writable = vec![workspace.clone()];
        assert_eq!(run(&sandbox, &command).await.ending, Ending::Exited(0));
        assert_eq!(fs::metadata(&outside).expect("it is there").permissions().mode() & 0o777, 0o755);
    }
}

#[tokio::test]
async fn writable_folders_inside_each_other_stay_writable() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("a/b");
    fs::create_dir_all(&inner).expect("folders");
    for sandbox in sandboxes() {
        let mut command = shell("echo 1 > a/x && echo 2 > a/b/y && mv a/x a/b && rm a/b/x a/b/y");
        command.directory = folder.path().to_owned();
        command.writable = vec![inner.clone(), folder.path().to_owned()];
        let outcome = run(&sandbox, &command).await;
        assert_eq!(outcome.ending, Ending::Exited(0), "{}", outcome.stderr.text());
    }
}

#[tokio::test]
async fn a_workspace_in_shared_memory_is_found_there() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
    for sandbox in sandboxes() {
        let mut command = shell("echo x > here && cat here");
        command.directory = folder.path().to_owned();
        command.writable = vec![folder.path().to_owned()];
        let outcome = run(&sandbox, &command).await;
        assert_eq!((outcome.ending, outcome.stdout.text().as_str()), (Ending::Exited(0), "x\n"));
    }
}

#[tokio::test]
async fn hidden_folders_look_empty_even_inside_the_workspace() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join(".evoseal");
    fs::create_dir(&store).expect("a folder");
    fs::write(store.join("secret"), "s3cret").expect("a file");
    for sandbox in sandboxes().into_iter().filter(|s| s.capabilities().enforces(wall::HIDDEN)) {
        let mut command =
            shell("ls -A .evoseal; cat .evoseal/secret; echo poison > .evoseal/secret; umount .evoseal");
        command.directory = folder.path().to_owned();
        command.writable = vec![folder.path().to_owned()];
        command.hidden = vec![store.clone()];
        let outcome = run(&sandbox, &command).await;
        assert_eq!(outcome.stdout.text(), "");
        assert_eq!(fs::read(store.join("secret")).expect("it is still there"), b"s3cret");
    }
}

#[tokio::test]
async fn a_command_that_needs_a_hidden_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = shell("true");
    command.directory = folder.path().to_owned();
    command.hidden = vec![folder.path().to_owned()];
    let error = LinuxSandbox::detect().run(&command).await.expect_err("it contradicts itself");
    assert!(matches!(error, Error::Invalid { what: "hidden", .. }), "{error:?}");
}

#[tokio::test]
async fn the_network_ends_at_the_loopback_of_the_command() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let python = |code: &str| {
        let mut command = shell("exec python3 -c \"$CODE\"");
        command.environment.insert("CODE".into(), OsString::from(code));
        command.environment.insert("PATH".into(), std::env::var_os("PATH").unwrap_or_default());
        command.environment.insert("HOME".into(), std::env::var_os("HOME").unwrap_or_default());
        command
    };
    let sandbox = LinuxSandbox::detect();
    if !sandbox.capabilities().enforces(wall::NETWORK)
        || run(&sandbox, &python("")).await.ending != Ending::Exited(0)
    {
        return;
    }
    let outward = python(&format!("import socket; socket.create_connection(('127.0.0.1', {port}), 2)"));
    assert_eq!(run(&sandbox, &outward).await.ending, Ending::Exited(1));
    let inward = python(
        "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname(), 2)",
    );
    assert_eq!(run(&sandbox, &inward).await.ending, Ending::Exited(0), "tests may use the loopback");
    let allowed = CommandSpec { network: true, ..outward };
    assert_eq!(run(&sandbox, &allowed).await.ending, Ending::Exited(0));
}

#[tokio::test]
async fn other_processes_can_be_neither_seen_nor_signalled() {
    let sandbox = LinuxSandbox::detect();
    if !sandbox.capabilities().enforces(wall::PROCESSES) {
        return;
    }
    let outcome =
        run(&sandbox, &shell("ls -d /proc/[0-9]* | wc -l; kill -KILL -1; kill -KILL 1; echo alive")).await;
    let text = outcome.stdout.text();
    let seen: u32 = text.lines().next().expect("a line").trim().parse().expect("a number");
    assert!(seen < 6, "{text}");
    assert!(text.ends_with("alive\n"), "{text}");
}

#[test]
fn capabilities_name_what_does_not_hold() {
    let nothing = LinuxSandbox::detect_without(Without { namespaces: true, landlock: true });
    let error =
        nothing.require(&[wall::WALL_CLOCK, wall::WRITE, wall::NETWORK]).expect_err("two do not stand");
    assert!(
        matches!(&error, Error::NotEnforced { missing } if missing == &[wall::WRITE, wall::NETWORK]),
        "{error:?}"
    );
    let names: Vec<_> = nothing.capabilities().walls.into_iter().map(|wall| wall.name).collect();
    let all: Vec<_> = LinuxSandbox::detect().capabilities().walls.into_iter().map(|wall| wall.name).collect();
    assert_eq!(names, all, "the list is the same on every machine");
}

/// Set in a process that this file starts as the harness that is going to be killed: full or plain, what to sleep, a folder.
const VICTIM: &str = "EVOSEAL_TEST_VICTIM";

/// Does what the victim's order says, which never ends.
fn be_victim(order: &str) {
    let [mode, nap, folder] = order.split(' ').collect::<Vec<_>>()[..] else {
        panic!("three words: {order}")
    };
    let without = Without { namespaces: mode != "full", landlock: mode != "full" };
    let (tether, _) = Tether::take(Path::new(folder), folder, Duration::from_secs(10)).expect("it is free");
    let sandbox = LinuxSandbox::detect_without(without).tethered(tether);
    // The second one is nobody's child by the time that it sleeps, in a session of its own, and without its environment.
    let script = format!(
        "trap '' TERM HUP; (setsid sh -c \"trap '' TERM HUP; sleep {nap}; :\" &); (setsid env -i sleep {nap} &); while :; do sleep {nap}; done"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    panic!("an endless command ended: {:?}", runtime.block_on(sandbox.run(&shell(&script))));
}

/// A harness that is going to be killed, at the latest when the test is over.
struct Victim(std::process::Child);

impl Victim {
    fn kill(&mut self) {
        self.0.kill().expect("it is killed");
    }

    fn wait(&mut self) {
        self.0.wait().expect("it is dead");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this test once more as a harness, and gives it back once its commands run.
fn start_victim(test: &str, mode: &str, nap: &str, folder: &Path) -> Victim {
    let harness = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test])
        // Not in the arguments, where it would be found.
        .env(VICTIM, format!("{mode} {nap} {}", folder.display()))
        .stdout(std::process::Stdio::null())
        // What outlives it by mistake shall not keep open what this test was started with.
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("this program starts");
    assert!(eventually(|| sleeping(nap).len() == 3), "the commands start");
    Victim(harness)
}

/// The processes that sleep for so long.
fn sleeping(nap: &str) -> Vec<u32> {
    let line = format!("sleep\0{nap}\0");
    let processes = fs::read_dir("/proc").expect("/proc is readable").flatten();
    let number = |process: fs::DirEntry| {
        let found = fs::read(process.path().join("cmdline")).ok()? == line.as_bytes();
        found.then(|| process.file_name().to_str()?.parse().ok())?
    };
    processes.filter_map(number).collect()
}

fn parent_of(process: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it lives");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("it has a parent");
    parent.trim().parse().expect("a number")
}

fn send(signal: Signal, process: u32) {
    let process = Pid::from_raw(process.cast_signed()).expect("not zero");
    kill_process(process, signal).expect("it lives");
}

/// Whether a process has a file open.
fn has_open(process: u32, file: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{process}/fd")).expect("it lives").flatten();
    open.map(|fd| fd.path()).any(|fd| fs::read_link(fd).is_ok_and(|target| target == file))
}

/// The process that keeps the descent of the victim's command together.
fn keeper_of(harness: &Victim, nap: &str) -> u32 {
    let is_command = |process: &u32| parent_of(parent_of(parent_of(*process))) == harness.0.id();
    let command = sleeping(nap).into_iter().map(parent_of).find(is_command);
    parent_of(command.expect("the command is below its keepers"))
}

#[test]
fn a_killed_harness_leaves_no_process() {
    if let Ok(order) = std::env::var(VICTIM) {
        return be_victim(&order);
    }
    for mode in ["full", "plain"] {
        let folder = tempfile::tempdir().expect("a folder");
        let nap = marker(1006);
        let mut harness = start_victim("a_killed_harness_leaves_no_process", mode, &nap, folder.path());
        harness.kill();
        harness.wait();
        assert!(eventually(|| !alive(&nap)), "{mode}: a process outlived its harness");
    }
}

#[test]
fn a_tether_is_free_only_when_the_commands_of_a_killed_harness_are_gone() {
    if let Ok(order) = std::env::var(VICTIM) {
        return be_victim(&order);
    }
    let test = "a_tether_is_free_only_when_the_commands_of_a_killed_harness_are_gone";
    for mode in ["full", "plain"] {
        let folder = tempfile::tempdir().expect("a folder");
        let nap = marker(1007);
        let mut harness = start_victim(test, mode, &nap, folder.path());
        let seen: Vec<u32> = Tether::leftovers(folder.path()).iter().map(|left| left.process).collect();
        assert!(sleeping(&nap).iter().any(|process| seen.contains(process)), "{mode}: {seen:?}");
        // Who has the lock open, and so holds it when the harness is dead: the keeper, and nobody below it.
        let lock = folder.path().join("commands.lock");
        let keeper = keeper_of(&harness, &nap);
        assert!(has_open(keeper, &lock), "{mode}: the keeper does not hold the tether");
        let below: Vec<u32> =
            sleeping(&nap).into_iter().filter(|process| has_open(*process, &lock)).collect();
        assert_eq!(below, [0_u32; 0], "{mode}: commands hold the tether");
        harness.kill();
        // Not even waited for: the next harness may come at once.
        let taken = Tether::take(folder.path(), folder.path(), Duration::from_secs(20));
        let taken = taken.expect("it becomes free");
        assert!(!alive(&nap), "{mode}: the tether was given away too early");
        let left: Vec<_> =
            fs::read_dir(folder.path()).expect("the folder").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["commands.lock"], "{mode}: the temporary folder of the killed harness is left");
        drop(taken);
        harness.wait();
    }
}

#[test]
fn what_lost_its_keeper_is_found_by_its_mark_and_nothing_else_is_touched() {
    if let Ok(order) = std::env::var(VICTIM) {
        return be_victim(&order);
    }
    let test = "what_lost_its_keeper_is_found_by_its_mark_and_nothing_else_is_touched";
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let nap = marker(1008);
    let mut harness = start_victim(test, "plain", &nap, folder.path());
    // A stranger with the same command line and the mark of another folder.
    drop(Tether::take(other.path(), other.path(), Duration::ZERO).expect("it is free"));
    let mark = fs::read_to_string(other.path().join("commands.lock")).expect("a mark");
    let mut stranger =
        std::process::Command::new("sleep").arg(&nap).env(MARK_VARIABLE, mark).spawn().expect("sleep");
    // Without a PID name space the death of the keeper sets the others free.
    let keeper = keeper_of(&harness, &nap);
    harness.kill();
    send(Signal::KILL, keeper);
    harness.wait();
    let (_, ended) =
        Tether::take(folder.path(), folder.path(), Duration::from_secs(20)).expect("it becomes free");
    assert!(ended.iter().any(|left| left.command.contains(&nap)), "{ended:?}");
    assert!(stranger.try_wait().expect("it can be asked").is_none(), "a stranger was ended");
    stranger.kill().expect("it is killed");
    stranger.wait().expect("it is dead");
    for bare in sleeping(&nap) {
        // What threw its environment away and has no relative left cannot be told from a stranger, and is let be.
        send(Signal::KILL, bare);
    }
}

/// Waits for a condition for at most twenty seconds.
fn eventually(condition: impl Fn() -> bool) -> bool {
    (0..2000).any(|_| {
        let holds = condition();
        if !holds {
            std::thread::sleep(Duration::from_millis(10));
        }
        holds
    })
}
