//! What a harness that is killed leaves behind: nothing that runs, and a tether that says when.

use std::fs;
use std::path::Path;
use std::time::Duration;

use evoseal_sandbox::{LinuxSandbox, MARK_VARIABLE, Sandbox, Tether, Without};
use rustix::process::{Pid, Signal, kill_process};

use crate::{alive, marker, shell};

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
        let mut harness =
            start_victim("linux::killed::a_killed_harness_leaves_no_process", mode, &nap, folder.path());
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
    let test = "linux::killed::a_tether_is_free_only_when_the_commands_of_a_killed_harness_are_gone";
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
    let test = "linux::killed::what_lost_its_keeper_is_found_by_its_mark_and_nothing_else_is_touched";
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
