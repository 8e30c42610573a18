//! One run at a time, and nothing that a killed run left running.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use evoseal_tests::{Project, Running, sleeping};
use rustix::process::Signal;

/// An agent that edits, says that it has begun, and sleeps for so long together with a process that has left its session,
/// ignores SIGTERM and has no parent any more. At its second start it just edits.
fn clinging_agent(nap: &str) -> String {
    format!(
        "if [ ! -f started.marker ]; then
            echo half > cost.txt
            trap '' TERM
            (setsid sh -c \"trap '' TERM HUP; sleep {nap}; echo late > cost.txt\" &)
            (setsid env -i sleep {nap} &)
            touch started.marker
            sleep {nap}
        fi
        echo 90 > cost.txt"
    )
}

/// Starts a run and waits until its agent works.
fn begun(project: &Project) -> Running {
    let mut run = project.evoseal(&["run", "-n", "1"]).start();
    run.wait_for_file(&project.path("started.marker"));
    run
}

/// How the message about this run begins.
fn named(run: &Running) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    format!("another run works on this workspace: process {} (evoseal on {}, since 2", run.id(), host.trim())
}

#[test]
fn a_second_run_at_the_same_time_is_told_who_works_there() {
    let project = Project::new(&clinging_agent("600"));
    let first = begun(&project);
    let files = project.files();
    let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
    assert_eq!(status["running"]["process"], first.id());
    assert_eq!(status["left_running"].as_array().unwrap().len(), 0, "{status}");
    for arguments in
        [&["run", "-n", "1"][..], &["rollback"], &["gc", "--keep", "1"], &["checkpoint", "prune"]]
    {
        let refused = project.evoseal(arguments).run();
        if arguments[0] == "gc" && refused.code == Some(0) {
            // Collecting garbage does not touch the workspace and may go on beside a run.
            continue;
        }
        refused.expect(3).says(&["error: ", &named(&first), "hint: wait for it to end"]);
    }
    let refused = project.evoseal(&["run", "-n", "1", "--json"]).run().expect(3);
    let last = refused.stderr.lines().last().unwrap();
    let error: serde_json::Value = serde_json::from_str(last).unwrap();
    assert!(error["error"].as_str().unwrap().starts_with(&named(&first)), "{error}");
    assert_eq!(error["code"], 3);
    assert_eq!(project.files(), files, "whoever is refused changes nothing");
    // Looking is allowed meanwhile.
    project.evoseal(&["log"]).run().expect(0);
    first.kill();
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
}

#[test]
fn a_run_that_is_stopped_still_owns_the_workspace() {
    let project = Project::new(&clinging_agent("600"));
    let first = begun(&project);
    first.signal(Signal::STOP);
    project.evoseal(&["run", "-n", "1"]).run().expect(3).says(&[&named(&first)]);
    first.signal(Signal::CONT);
    first.signal(Signal::INT);
    first.finish().expect(130);
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
}

#[test]
fn something_else_in_the_place_of_the_lock_is_named_and_left_alone() {
    let project = Project::new("echo 90 > cost.txt");
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
    project.write("precious.txt", "mine");
    for name in ["run.lock", "commands.lock"] {
        let lock = project.path(".evoseal").join(name);
        fs::remove_file(&lock).unwrap();
        std::os::unix::fs::symlink("../precious.txt", &lock).unwrap();
        project.evoseal(&["run", "-n", "1"]).run().expect(3).says(&[name]);
        fs::remove_file(&lock).unwrap();
        fs::create_dir(&lock).unwrap();
        project.evoseal(&["run", "-n", "1"]).run().expect(3).says(&[name]);
        fs::remove_dir(&lock).unwrap();
        fs::write(&lock, [0xff; 100]).unwrap();
    }
    assert_eq!(project.read("precious.txt"), "mine");
    project.evoseal(&["rollback", "v0"]).run().expect(0);
}

#[test]
fn the_processes_of_a_killed_run_are_gone_before_the_next_one_begins() {
    let nap = format!("611.{}", std::process::id());
    let project = Project::new(&clinging_agent(&nap));
    let run = begun(&project);
    let seen = sleeping(&nap);
    assert!(seen.len() >= 2, "they run: {seen:?}");
    run.kill();
    // At once: whatever is left must not write into the workspace while it is put in order.
    let report = project.evoseal(&["run", "-n", "1", "--json"]).run().expect(0).json();
    assert_eq!(sleeping(&nap), [0_u32; 0]);
    assert_eq!(report["results"][0]["outcome"], "accepted", "{report}");
    assert_eq!(project.read("cost.txt"), "90\n");
}

#[test]
fn a_process_that_got_away_is_named_by_status_and_ended_by_the_next_run_and_by_a_rollback() {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION)) > cost.txt");
    for command in [&["run", "-n", "1"][..], &["rollback"]] {
        project.evoseal(&["run", "-n", "1"]).run().expect(0);
        // As if it had left its keeper: it bears the mark of the run that is over.
        let mark = project.read(".evoseal/commands.lock");
        let nap = |mark: &str| {
            let mut sleep = Command::new("sleep");
            sleep.arg("612").env("EVOSEAL_MARK", mark).stdout(Stdio::null());
            sleep.spawn().unwrap()
        };
        let (mut ours, mut stranger) = (nap(&mark), nap(&mark.replace(|_: char| true, "0")));
        let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
        let found = serde_json::json!([{ "process": ours.id(), "command": "sleep 612" }]);
        assert_eq!(status["left_running"], found);
        let text = project.evoseal(&["status"]).run().expect(0).stdout;
        assert!(text.contains(&format!("process {} (sleep 612) of a killed run", ours.id())), "{text}");
        project.evoseal(command).run().says(&[&format!("ended process {} (sleep 612)", ours.id())]);
        assert!(ours.wait().unwrap().code().is_none(), "it was killed");
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

#[test]
fn commands_do_not_see_the_locks_and_the_records_of_the_run() {
    let project = Project::new(
        "for name in run.lock commands.lock journal.jsonl audit.jsonl; do
            wc -c < .evoseal/$name; rm -f .evoseal/$name; echo x >> .evoseal/$name
        done > seen.txt 2>/dev/null
        echo 90 > cost.txt",
    );
    let doctor = project.evoseal(&["doctor", "--json"]).run().json();
    let hides = doctor
        .as_array()
        .unwrap()
        .iter()
        .any(|wall| wall["name"] == "hidden folders" && wall["state"] == "good");
    if !hides {
        eprintln!("skipped: this machine cannot hide files from commands");
        return;
    }
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
    assert_eq!(project.read("seen.txt"), "0\n0\n0\n0\n");
    let report = project.evoseal(&["run", "-n", "1", "--json"]).run().json();
    assert_eq!(report["results"][0]["iteration"], 2, "{report}");
}

#[test]
fn a_run_leaves_no_temporary_folder_whether_it_ends_or_is_killed() {
    let project = Project::new(&clinging_agent("613"));
    begun(&project).kill();
    let mark = project.read(".evoseal/commands.lock");
    let of_this_run = |mark: &str| {
        let names = fs::read_dir("/tmp").unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| Path::new(name).to_string_lossy().contains(mark)).count()
    };
    assert_eq!(of_this_run(&mark), 1, "a killed run cannot clean up");
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
    assert_eq!(of_this_run(&mark) + of_this_run(&project.read(".evoseal/commands.lock")), 0);
}
