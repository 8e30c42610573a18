//! Runs that must not start: settings, surroundings and stores that are not as they should be. Each says which, in a sentence,
//! and changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use evoseal_tests::{Finished, Program, Project};
use evoseal_types::Digest;

/// Runs and checks that no file of the project was changed.
fn runs_in_vain(project: &Project, arguments: &[&str]) -> Finished {
    let before = project.files();
    let finished = project.evoseal(arguments).run();
    assert_eq!(project.files(), before);
    finished
}

#[test]
fn a_misspelt_key_is_shown_with_its_line_and_the_nearest_known_one() {
    let project = Project::new("true");
    project.add_settings("[safety.rollback]\nmax_rollback_attemps = 2\n");
    let line =
        1 + project.read("evoseal.toml").lines().position(|line| line.starts_with("max_roll")).unwrap();
    runs_in_vain(&project, &["run"]).expect(2).says(&[
        &format!("evoseal.toml:{line}: unknown key `max_rollback_attemps`"),
        "max_rollback_attemps = 2",
        "hint: did you mean `max_rollback_attempts`?",
    ]);
    assert!(!project.path(".evoseal").exists());
}

#[test]
fn a_value_of_the_wrong_kind_is_shown_with_its_line() {
    let project = Project::new("true");
    project.add_settings("[run]\niterations = \"many\"\n");
    let line = project.read("evoseal.toml").lines().count();
    runs_in_vain(&project, &["run"])
        .expect(2)
        .says(&[&format!("evoseal.toml:{line}: "), "iterations = \"many\""]);
}

#[test]
fn a_folder_without_settings_is_told_how_to_get_them() {
    let project = Project::bare();
    runs_in_vain(&project, &["run"]).expect(2).says(&["no evoseal.toml in ", "hint: `evoseal init`"]);
    assert!(!project.path(".evoseal").exists());
}

#[test]
fn a_missing_proposer_says_what_to_set() {
    let project = Project::bare();
    project.write(
        "evoseal.toml",
        "[propose]\n[evaluate.test]\ncommand = [\"sh\", \"tests/run.sh\"]\nformat = \"libtest\"\n",
    );
    runs_in_vain(&project, &["run"]).expect(3).says(&["names no proposer", "`propose.command`"]);
}

#[test]
fn a_program_that_is_not_installed_is_named_with_its_key() {
    let project = Project::bare();
    project.write(
        "evoseal.toml",
        "[propose]\ncommand = [\"no-such-agent\"]\n[evaluate.test]\ncommand = [\"sh\", \"tests/run.sh\"]\nformat = \"libtest\"\n",
    );
    runs_in_vain(&project, &["run"]).expect(3).says(&["no-such-agent", "`propose.command`"]);
}

#[test]
fn a_test_command_that_is_not_installed_is_named() {
    let project = Project::new("true");
    project.configure("[\"sh\", \"tests/run.sh\"]", "[\"no-such-runner\"]");
    let finished = runs_in_vain(&project, &["run"]).says(&["no-such-runner"]);
    assert!(matches!(finished.code, Some(2 | 3)), "{finished:?}");
}

#[test]
fn a_project_whose_tests_are_not_found_is_not_started_from() {
    let project = Project::new("echo 90 > cost.txt");
    project.write(
        "tests/run.sh",
        "echo; echo 'running 0 tests'; echo; echo 'test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s'",
    );
    runs_in_vain(&project, &["run"]).expect(2).says(&["does not pass", "ran no test", "hint: "]);
}

#[test]
fn a_project_whose_tests_fail_is_not_started_from() {
    let project = Project::new("echo 90 > cost.txt");
    project.write("program.sh", "echo 41\n");
    runs_in_vain(&project, &["run"]).expect(2).says(&["does not pass", "answers", "nothing was changed"]);
}

#[test]
fn a_workspace_that_cannot_be_written_is_named() {
    let project = Project::new("echo 90 > cost.txt");
    let mut program = project.evoseal(&["run"]);
    fs::set_permissions(project.root(), PermissionsExt::from_mode(0o555)).unwrap();
    let _copy;
    if rustix::process::geteuid().is_root() {
        // The kernel lets root write anywhere: the program runs as somebody else, who must be able to reach it.
        let folder =
            tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
        let copy = folder.path().join("evoseal");
        fs::copy(Program::path(), &copy).unwrap();
        let mut command = std::process::Command::new(copy);
        command.arg("run").current_dir(project.root()).uid(65_534).gid(65_534);
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        *program.command() = command;
        _copy = folder;
    }
    let before = project.files();
    let finished = program.run();
    fs::set_permissions(project.root(), PermissionsExt::from_mode(0o755)).unwrap();
    finished.expect(3).says(&["cannot create", ".evoseal", "ermission denied"]);
    assert_eq!(project.files(), before);
}

#[test]
fn a_file_where_our_folder_should_be_is_named() {
    let project = Project::new("echo 90 > cost.txt");
    project.write(".evoseal", "mine");
    let finished = runs_in_vain(&project, &["run"]).says(&[".evoseal"]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert_eq!(project.read(".evoseal"), "mine");
}

#[test]
fn a_store_of_a_newer_version_is_refused_by_its_number() {
    let project = Project::new("echo 90 > cost.txt");
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
    let header = project.path(".evoseal/checkpoints/objects/header");
    let old = fs::read(&header).unwrap();
    // The envelope is magic, version, length, checksum; the record stands in it twice.
    let mut one = old[..old.len() / 2].to_vec();
    one[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let covered = [&one[..20], &one[52..]].concat();
    one[20..52].copy_from_slice(Digest::of(&covered).as_bytes());
    fs::set_permissions(&header, PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&header, [one.clone(), one].concat()).unwrap();
    runs_in_vain(&project, &["run", "-n", "1"]).expect(3).says(&["format 9", "hint: "]);
    fs::write(&header, old).unwrap();
    project.evoseal(&["checkpoint", "verify"]).run().expect(0);
}

#[test]
fn a_damaged_journal_is_named_with_its_line() {
    let project = Project::new("echo 90 > cost.txt");
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
    let journal = project.read(".evoseal/journal.jsonl");
    project.write(".evoseal/journal.jsonl", &journal.replacen("iteration", "iteratiom", 1));
    runs_in_vain(&project, &["run", "-n", "1"]).expect(4).says(&["journal.jsonl", "line ", "digest"]);
}

#[test]
fn a_journal_whose_last_line_was_torn_goes_on() {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION)) > cost.txt");
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
    let journal = project.read(".evoseal/journal.jsonl");
    project.write(".evoseal/journal.jsonl", &format!("{journal}{}", &journal[..100]));
    let report = project.evoseal(&["run", "-n", "1", "--json"]).run().expect(0).json();
    assert_eq!(report["results"][0]["iteration"], 2);
}

#[test]
fn a_wall_that_must_stand_and_does_not_refuses_the_run() {
    let project = Project::new("echo 90 > cost.txt");
    let doctor = project.evoseal(&["doctor", "--json"]).run().json();
    let walls = doctor.as_array().unwrap();
    assert!(walls.iter().any(|wall| wall["state"] == "good"), "{doctor}");
    let run = project.evoseal(&["run", "-n", "1", "--require-sandbox"]).run();
    // Which walls stand depends on the machine; that the program keeps to what it says does not.
    if run.code == Some(0) {
        assert_eq!(project.read("cost.txt"), "90\n");
    } else {
        let run = run.expect(3).says(&["the sandbox cannot enforce: ", "hint: `evoseal doctor`"]);
        let missing = walls.iter().find(|wall| wall["state"] != "good").expect("the doctor knows which");
        assert!(run.stderr.contains(missing["name"].as_str().unwrap()), "{run:?} {doctor}");
        assert_eq!(project.read("cost.txt"), "100\n");
    }
}
