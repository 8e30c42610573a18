//! Ctrl-C, `kill` and a closed terminal: once ends cleanly, twice at once.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use evoseal_tests::{Program, Project, sleeping};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

/// Where a run is when the signal comes: a project that gets there and stays, sleeping for so long, the first time.
fn slow(place: &str, nap: &str) -> Project {
    let wait = format!(
        "if [ -f block.marker ] && [ ! -f started.marker ]; then touch started.marker; sleep {nap}; fi"
    );
    let project = match place {
        "propose" => Project::new(&format!(
            "touch block.marker; echo half > cost.txt; echo x > new.txt; {wait}\nrm -f new.txt; echo 90 > cost.txt"
        )),
        _ => Project::new("touch block.marker; echo 90 > cost.txt"),
    };
    let prefix = |name: &str| project.write(name, &format!("{wait}\n{}", project.read(name)));
    match place {
        "propose" => {}
        "baseline" => {
            project.write("block.marker", "");
            prefix("tests/run.sh");
        }
        "test" => prefix("tests/run.sh"),
        "measure" => prefix("tests/measure.sh"),
        other => panic!("no such place: {other}"),
    }
    project
}

#[test]
fn one_signal_ends_a_run_at_the_accepted_version_wherever_it_is() {
    for place in ["baseline", "propose", "test", "measure"] {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let context = format!("{signal:?} in {place}");
            let nap = format!("62{}.{}", signal.as_raw(), std::process::id());
            let project = slow(place, &nap);
            let before = project.files();
            let mut run = project.evoseal(&["run", "-n", "1"]).start();
            run.wait_for_file(&project.path("started.marker"));
            run.signal(signal);
            run.finish().expect(130).says(&["interrupted: returning the workspace to the accepted version"]);
            assert_eq!(project.files(), before, "{context}");
            assert_eq!(sleeping(&nap), [0_u32; 0], "{context}: its commands are gone");
            let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
            let holds = if place == "baseline" { serde_json::Value::Null } else { true.into() };
            assert_eq!(status["workspace_holds_incumbent"], holds, "{context}");
            assert_eq!(status["unfinished_iteration"], serde_json::Value::Null, "{context}");
            let report = project.evoseal(&["run", "-n", "1", "--json"]).run().expect(0).json();
            assert_eq!(report["results"][0]["iteration"], 1, "{context}: {report}");
            assert_eq!(project.read("cost.txt"), "90\n", "{context}");
        }
    }
}

#[test]
fn the_json_of_an_interrupted_run_says_so() {
    let project = slow("propose", "630");
    let mut run = project.evoseal(&["run", "-n", "3", "--json"]).start();
    run.wait_for_file(&project.path("started.marker"));
    run.signal(Signal::INT);
    let report = run.finish().expect(130).json();
    assert_eq!(report["stop_reason"], "interrupted");
    assert_eq!(report["results"].as_array().unwrap().len(), 0);
    assert_eq!(report["final_version"]["version_id"], "v0");
}

#[test]
fn a_second_signal_ends_at_once_and_the_next_start_recovers() {
    let nap = format!("631.{}", std::process::id());
    let project = slow("propose", &nap);
    let before = project.files();
    let mut run = project.evoseal(&["run", "-n", "1"]).start();
    run.wait_for_file(&project.path("started.marker"));
    // The clean end saves the half edit first, which is recorded in the audit log: as long as that is locked, it cannot end.
    let audit = File::open(project.path(".evoseal/audit.jsonl")).unwrap();
    flock(&audit, FlockOperation::LockExclusive).unwrap();
    run.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!run.has_ended(), "the clean end waits for the audit log");
    run.signal(Signal::INT);
    run.finish().expect(130).says(&["ended; the next start of any evoseal run puts the workspace in order"]);
    assert_ne!(project.files(), before, "it ended in the middle");
    drop(audit);
    let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
    assert_eq!(status["unfinished_iteration"], 1);
    let report = project.evoseal(&["run", "-n", "1", "--json"]).run().expect(0).json();
    assert_eq!(report["results"][0]["iteration"], 1);
    assert_eq!(sleeping(&nap), [0_u32; 0]);
    assert_eq!(project.read("cost.txt"), "90\n");
    assert!(!project.path("new.txt").exists());
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let project = Project::new(
        "touch started.marker; while [ ! -f go.marker ]; do sleep 0.02; done; echo 90 > cost.txt",
    );
    let script = format!("trap '' HUP; exec '{}' run -n 1", Program::path().display());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).current_dir(project.root()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = shell.spawn().unwrap();
    while !project.path("started.marker").exists() {
        assert!(run.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(Duration::from_millis(5));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&run), Signal::HUP).unwrap();
    project.write("go.marker", "");
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_eq!(project.read("cost.txt"), "90\n");
}
