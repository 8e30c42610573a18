//! What a command cannot reach, and what it still can.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use evoseal_sandbox::{CommandSpec, Ending, Error, LinuxSandbox, Sandbox, Without, wall};

use crate::{run, sandboxes, shell};

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
