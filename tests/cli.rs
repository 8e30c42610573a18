//! The command line: help, exit codes, JSON, colour, and no panic whatever is typed.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

use std::path::Path;
use std::process::Stdio;

use evoseal_tests::{Finished, Program, Project};
use proptest::prelude::*;

/// Every command that has a help page of its own.
const COMMANDS: &[&[&str]] = &[
    &[],
    &["demo"],
    &["init"],
    &["run"],
    &["status"],
    &["log"],
    &["show"],
    &["diff"],
    &["report"],
    &["rollback"],
    &["audit"],
    &["audit", "verify"],
    &["audit", "head"],
    &["audit", "list"],
    &["rejudge"],
    &["approve"],
    &["reject"],
    &["hold"],
    &["checkpoint"],
    &["checkpoint", "create"],
    &["checkpoint", "list"],
    &["checkpoint", "show"],
    &["checkpoint", "cat"],
    &["checkpoint", "prune"],
    &["checkpoint", "diff"],
    &["checkpoint", "restore"],
    &["checkpoint", "verify"],
    &["checkpoint", "pin"],
    &["checkpoint", "delete"],
    &["checkpoint", "stats"],
    &["baseline"],
    &["baseline", "set"],
    &["baseline", "list"],
    &["metrics"],
    &["metrics", "record"],
    &["metrics", "import"],
    &["metrics", "history"],
    &["metrics", "compare"],
    &["metrics", "export"],
    &["detect"],
    &["detect", "series"],
    &["detect", "compare"],
    &["detect", "plan"],
    &["detect", "loop"],
    &["detect", "simulate"],
    &["detect", "simulate", "aa"],
    &["detect", "simulate", "blocks"],
    &["detect", "simulate", "power"],
    &["detect", "simulate", "loop"],
    &["detect", "simulate", "drift"],
    &["detect", "simulate", "peek"],
    &["detect", "simulate", "gain"],
    &["gc"],
    &["doctor"],
    &["config"],
    &["completions"],
    &["man"],
];

fn here(arguments: &[&str]) -> Program {
    Program::new(Path::new(env!("CARGO_MANIFEST_DIR")), arguments)
}

/// What no run may ever come to: a panic, an internal error, or a signal.
fn is_sound(finished: &Finished) -> bool {
    let code = finished.code;
    matches!(code, Some(0..=4))
        && !finished.stderr.contains("panicked")
        && !finished.stderr.contains("RUST_BACKTRACE")
}

#[test]
fn every_command_explains_itself() {
    let page = |command: &&[&str]| {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let help = here(&arguments).run().expect(0).stdout;
        format!("$ evoseal {}\n{}\n", arguments.join(" "), help.trim_end())
    };
    let text: String = COMMANDS.iter().map(page).collect();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    insta::assert_snapshot!("help", lines.join("\n"));
}

#[test]
fn no_command_is_missing_from_the_snapshot() {
    for command in COMMANDS {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let help = here(&arguments).run().expect(0).stdout;
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in listed.take_while(|line| !line.is_empty()) {
            let Some(name) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) else { continue };
            let name = name.split_whitespace().next().unwrap();
            let full: Vec<&str> = command.iter().copied().chain([name]).collect();
            assert!(
                name == "help" || COMMANDS.contains(&full.as_slice()),
                "{full:?} has no snapshot of its help"
            );
        }
    }
}

#[test]
fn help_and_version_are_results_and_mistakes_are_not() {
    let version = here(&["--version"]).run().expect(0);
    assert_eq!(version.stdout, format!("evoseal {}\n", env!("CARGO_PKG_VERSION")));
    for mistake in [&["no-such-command"][..], &["run", "--no-such-option"], &["run", "-n", "many"], &[]] {
        let finished = here(mistake).run().expect(2);
        assert!(finished.stdout.is_empty() && !finished.stderr.is_empty(), "{finished:?}");
    }
    here(&["statsu"]).run().expect(2).says(&["status"]);
}

#[test]
fn every_result_is_json_on_request() {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt");
    project.evoseal(&["status", "--json"]).run().expect(0).json();
    project.evoseal(&["run", "-n", "2", "--json"]).run().expect(0).json();
    for arguments in [
        &["status"][..],
        &["show", "1"],
        &["diff", "v0", "v1"],
        &["config"],
        &["doctor"],
        &["checkpoint", "list"],
        &["checkpoint", "show", "v1"],
        &["checkpoint", "diff", "v0", "v2"],
        &["checkpoint", "verify"],
        &["checkpoint", "stats"],
        &["checkpoint", "create", "mine"],
        &["checkpoint", "pin", "mine"],
        &["baseline", "set", "release", "v1"],
        &["baseline", "list"],
        &["metrics", "history"],
        &["metrics", "history", "cost"],
        &["metrics", "compare", "v0", "v2"],
        &["rollback", "v1", "--dry-run"],
        &["rollback", "v1"],
        &["audit", "verify"],
        &["audit", "head"],
        &["audit", "list"],
        &["rejudge"],
        &["checkpoint", "prune", "--keep-last", "1", "--dry-run"],
        &["checkpoint", "prune", "--max-size", "1GB"],
        &["gc", "--dry-run"],
        &["gc"],
    ] {
        let finished = project.evoseal(arguments).command_json();
        assert!(is_sound(&finished), "{arguments:?}: {finished:?}");
        let values = serde_json::Deserializer::from_str(&finished.stdout).into_iter::<serde_json::Value>();
        let values: Vec<_> = values
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{}", finished.stdout));
        assert!(!values.is_empty(), "{arguments:?} printed nothing");
    }
}

/// Adds `--json` and runs.
trait CommandJson {
    fn command_json(self) -> Finished;
}

impl CommandJson for Program {
    fn command_json(mut self) -> Finished {
        self.command().arg("--json");
        self.run()
    }
}

#[test]
fn failures_are_json_on_request_too() {
    let project = Project::bare();
    let finished = project.evoseal(&["run", "--json"]).run().expect(2);
    assert_eq!(finished.stdout, "");
    let error: serde_json::Value = serde_json::from_str(&finished.stderr).unwrap();
    assert_eq!(error["code"], 2);
    assert!(error["error"].as_str().unwrap().contains("no evoseal.toml"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("evoseal init"), "{error}");
}

#[test]
fn colour_is_for_terminals_or_on_request() {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt");
    project.evoseal(&["run", "-n", "1"]).run().expect(0);
    let has_colour = |arguments: &[&str]| {
        let Finished { stdout, .. } = project.evoseal(arguments).run().expect(0);
        stdout.contains('\u{1b}')
    };
    assert!(!has_colour(&["log"]) && !has_colour(&["log", "--color", "never"]));
    assert!(has_colour(&["log", "--color", "always"]));
    assert!(!has_colour(&["status", "--json", "--color", "always"]), "JSON is never coloured");
}

#[test]
fn quiet_says_nothing_but_results() {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION * 10)) > cost.txt");
    let finished = project.evoseal(&["run", "-n", "1", "--quiet"]).run().expect(0);
    assert_eq!(finished.stderr, "");
    assert!(finished.stdout.contains("accepted"), "{finished:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut program = here(&["man"]);
    let (reader, writer) = std::io::pipe().unwrap();
    program.command().stdout(Stdio::from(writer));
    drop(reader);
    let finished = program.run();
    assert!(is_sound(&finished) && finished.code == Some(0), "{finished:?}");
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(here(&["completions", shell]).run().expect(0).stdout.contains("checkpoint"), "{shell}");
    }
    assert!(here(&["man"]).run().expect(0).stdout.starts_with(".ie"), "roff");
}

#[test]
fn another_folder_can_be_named() {
    let project = Project::new("true");
    let folder = project.root().to_str().unwrap();
    let config = here(&["config", "--json", "-C", folder]).run().expect(0).json();
    assert_eq!(config["evaluate.measure.rounds"]["value"], 3);
    assert_eq!(config["evaluate.measure.rounds"]["from"], "evoseal.toml");
    assert_eq!(config["run.iterations"]["from"], "default");
    here(&["status", "-C", "/no/such/folder"]).run().expect(3).says(&["/no/such/folder"]);
}

/// Words that mean something to the program, and others.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "run",
        "status",
        "log",
        "show",
        "diff",
        "rollback",
        "checkpoint",
        "list",
        "show",
        "verify",
        "metrics",
        "history",
        "compare",
        "record",
        "import",
        "detect",
        "series",
        "--batch",
        "gc",
        "baseline",
        "set",
        "config",
        "--json",
        "-q",
        "--color",
        "always",
        "-n",
        "--limit",
        "--keep",
        "--column",
        "0",
        "-1",
        "v0",
        "v1",
        "99999999999999999999",
        "--file",
        "evoseal.toml",
        "program.sh",
        "--direction",
        "increase",
        "NaN",
        "--dry-run",
        "--reason",
        "--",
        "-C",
        ".",
        "..",
    ]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => "[^\\x00]{0,12}"]
}

/// Commands that take long or write outside of the project stay out.
fn is_harmless(words: &[String]) -> bool {
    let writes = ["demo", "init", "report", "export", "restore", "completions"];
    !words.iter().any(|word| writes.contains(&word.as_str()) || word.starts_with('/'))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_arguments_make_the_program_panic(words in prop::collection::vec(word(), 0..7)) {
        prop_assume!(is_harmless(&words));
        // Nobody proposes anything here, so that a run ends at once.
        let project = Project::new("exit 3");
        let finished = Program::new(project.root(), &words).run();
        prop_assert!(is_sound(&finished), "{:?}: {:?}", words, finished);
    }

    #[test]
    fn no_settings_make_the_program_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let project = Project::bare();
        std::fs::write(project.path("evoseal.toml"), bytes).unwrap();
        let finished = project.evoseal(&["config"]).run();
        prop_assert!(is_sound(&finished) && finished.code != Some(0), "{:?}", finished);
    }

    #[test]
    fn no_mutation_of_the_settings_makes_the_program_panic(
        place in any::<prop::sample::Index>(),
        length in 0_usize..12,
        text in "[\\PC\\n]{0,8}",
    ) {
        let project = Project::new("exit 3");
        let mut settings = project.read("evoseal.toml");
        let start = place.index(settings.len());
        let end = (start + length).min(settings.len());
        prop_assume!(settings.is_char_boundary(start) && settings.is_char_boundary(end));
        settings.replace_range(start..end, &text);
        project.write("evoseal.toml", &settings);
        for command in ["config", "status"] {
            let finished = project.evoseal(&[command]).run();
            prop_assert!(is_sound(&finished), "{:?}\n{}", finished, settings);
        }
    }

    #[test]
    fn no_numbers_make_detection_panic(
        values in prop::collection::vec(any::<f64>(), 0..60),
        separator in prop::sample::select(vec![",", ";", "\t", "\n", "\"", ",,"]),
    ) {
        let project = Project::bare();
        let lines: Vec<String> = values.iter().enumerate().map(|(index, value)| format!("{index}{separator}{value}")).collect();
        project.write("series.csv", &lines.join("\n"));
        let finished = project.evoseal(&["detect", "series", "series.csv", "--json"]).run();
        prop_assert!(is_sound(&finished), "{:?}\n{:?}", finished, lines);
    }
}
