//! A proposer that is any program.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Folders, PlainSandbox, ScriptedSandbox};
use evoseal_adapters::{CommandProposer, CommandProposerSettings, Launcher};
use evoseal_pipeline::{Brief, Error, PastOutcome, Proposal, ProposalContext, Proposer};
use evoseal_types::{Direction, ErrorClass, MetricName, Objective};

fn context(folders: &Folders) -> ProposalContext {
    let metrics = BTreeMap::from([(MetricName::new("speed").unwrap(), 2.5)]);
    ProposalContext {
        workspace: folders.path("workspace"),
        run_directory: folders.path("run"),
        iteration: 6,
        seed: 42,
        brief: Brief {
            objective: Some(Objective {
                metric: MetricName::new("speed").unwrap(),
                direction: Direction::Decrease,
            }),
            incumbent: "iter-0004".parse().unwrap(),
            incumbent_metrics: metrics.clone(),
            outcomes: vec![PastOutcome {
                iteration: 5,
                change: "unroll the loop".to_owned(),
                outcome: "reject".to_owned(),
                reasons: vec!["slower".to_owned()],
                metrics,
            }],
        },
    }
}

async fn propose(folders: &Folders, settings: &str) -> evoseal_pipeline::Result<Proposal> {
    let settings: CommandProposerSettings = toml::from_str(settings).unwrap();
    let launcher = Launcher::new(Arc::new(PlainSandbox::default()));
    CommandProposer::new(settings, launcher)?.propose(&context(folders)).await
}

async fn shell(script: &str) -> evoseal_pipeline::Result<Proposal> {
    let folders = Folders::new(&["workspace", "run"]);
    propose(&folders, &format!("command = '''{script}'''")).await
}

fn edited(summary: &str) -> Proposal {
    Proposal::Edited { summary: summary.to_owned() }
}

#[tokio::test]
async fn the_program_edits_the_workspace_and_is_told_what_it_needs() {
    let folders = Folders::new(&["workspace", "run"]);
    let script = r#"
        command = '''
            echo new > file
            echo "$EVOSEAL_ITERATION $EVOSEAL_SEED $OWN $HOME" > "$EVOSEAL_RUN_DIR/told"
            test "$EVOSEAL_WORKSPACE" -ef . && cp "$EVOSEAL_BRIEF" "$EVOSEAL_RUN_DIR/copy"
            echo "SUMMARY: wrote a file"
            echo done
        '''
        environment = { OWN = "mine" }
    "#;
    assert_eq!(propose(&folders, script).await.unwrap(), edited("wrote a file"));
    assert_eq!(folders.read("workspace/file"), "new\n");
    // HOME is not handed down: the environment is exactly what was given.
    assert_eq!(folders.read("run/proposer/told"), "6 42 mine \n");
    let brief: Brief = serde_json::from_str(&folders.read("run/proposer/copy")).unwrap();
    assert_eq!(brief, context(&folders).brief);
}

#[tokio::test]
async fn the_brief_has_the_documented_form() {
    let folders = Folders::new(&["workspace", "run"]);
    propose(&folders, "command = 'true'").await.unwrap();
    let brief: serde_json::Value = serde_json::from_str(&folders.read("run/brief.json")).unwrap();
    let expected = serde_json::json!({
        "objective": { "metric": "speed", "direction": "decrease" },
        "incumbent": "iter-0004",
        "incumbent_metrics": { "speed": 2.5 },
        "outcomes": [{
            "iteration": 5, "change": "unroll the loop", "outcome": "reject",
            "reasons": ["slower"], "metrics": { "speed": 2.5 },
        }],
    });
    assert_eq!(brief, expected);
}

#[tokio::test]
async fn the_summary_is_the_last_marked_line_else_the_last_line() {
    assert_eq!(shell("echo SUMMARY one; echo SUMMARY: two; echo three").await.unwrap(), edited("two"));
    assert_eq!(shell("echo one; echo SUMMARYtwo; echo").await.unwrap(), edited("SUMMARYtwo"));
    assert_eq!(shell("true").await.unwrap(), edited("edited by true"));
}

#[tokio::test]
async fn a_summary_cannot_steer_a_terminal_and_is_short() {
    assert_eq!(shell(r"printf 'SUMMARY \033[2Jgone\r'").await.unwrap(), edited(r"\u{1b}[2Jgone"));
    let Proposal::Edited { summary } = shell("head -c 5000 /dev/zero | tr '\\0' x").await.unwrap() else {
        panic!("it was edited");
    };
    assert_eq!(summary.chars().count(), 200);
}

#[tokio::test]
async fn exit_code_3_means_that_there_is_nothing_more() {
    let exhausted = |reason: &str| Proposal::Exhausted { reason: reason.to_owned() };
    assert_eq!(shell("echo all done; exit 3").await.unwrap(), exhausted("all done"));
    assert_eq!(shell("exit 3").await.unwrap(), exhausted("the program has nothing more to propose"));
}

#[tokio::test]
async fn other_exit_codes_fail_the_iteration_with_the_end_of_standard_error() {
    let error = shell("echo first >&2; echo out of tokens >&2; exit 2").await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("exited with code 2") && text.ends_with("out of tokens"), "{text}");
    assert_eq!(error.class(), ErrorClass::Transient);
    let text = shell("kill -9 $$").await.unwrap_err().to_string();
    assert!(text.contains("was ended by signal 9"), "{text}");
}

#[tokio::test]
async fn a_program_that_hangs_fails_the_iteration() {
    let folders = Folders::new(&["workspace", "run"]);
    let settings = "command = ['sleep', '30']\nlimits = { wall_time_sec = 1 }";
    let text = propose(&folders, settings).await.unwrap_err().to_string();
    assert!(text.contains("`sleep 30` ran out of time"), "{text}");
}

#[tokio::test]
async fn a_missing_program_is_named_with_what_to_change() {
    let folders = Folders::new(&["workspace", "run"]);
    let error = propose(&folders, "command = ['no-such-agent-here']").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Environment);
    let text = error.to_string();
    assert!(text.contains("no-such-agent-here") && text.contains("change `command`"), "{text}");
}

#[tokio::test]
async fn the_program_may_write_to_workspace_and_its_own_folder_only() {
    let folders = Folders::new(&["workspace", "run"]);
    let sandbox = Arc::new(PlainSandbox::default());
    let settings: CommandProposerSettings = toml::from_str("command = 'true'\nnetwork = true").unwrap();
    let launcher = Launcher::new(Arc::<PlainSandbox>::clone(&sandbox)).with_hidden(vec!["/store".into()]);
    CommandProposer::new(settings, launcher).unwrap().propose(&context(&folders)).await.unwrap();
    let started = sandbox.started.lock().unwrap();
    assert_eq!(started[0].writable, [folders.path("workspace"), folders.path("run/proposer")]);
    assert_eq!((started[0].hidden.as_slice(), started[0].network), (["/store".into()].as_slice(), true));
}

#[tokio::test]
async fn a_sandbox_that_refuses_gives_its_class_and_cause() {
    let folders = Folders::new(&["workspace", "run"]);
    let sandbox = ScriptedSandbox::new(|_| {
        Err(evoseal_sandbox::Error::NotEnforced { missing: vec!["network".to_owned()] })
    });
    let settings: CommandProposerSettings = toml::from_str("command = 'true'").unwrap();
    let proposer = CommandProposer::new(settings, Launcher::new(sandbox)).unwrap();
    let error = proposer.propose(&context(&folders)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unsupported);
    assert!(matches!(error, Error::Proposer { source: Some(_), .. }), "{error:?}");
}

#[test]
fn settings_with_unknown_keys_or_reserved_variables_are_refused() {
    assert!(toml::from_str::<CommandProposerSettings>("command = 'x'\ncomand = 'y'").is_err());
    assert!(toml::from_str::<CommandProposerSettings>("limits = {}").is_err());
    for name in ["EVOSEAL_SEED", "", "A=B"] {
        let settings = format!("command = 'x'\nenvironment = {{ '{name}' = '1' }}");
        let settings: CommandProposerSettings = toml::from_str(&settings).unwrap();
        let sandbox = Arc::new(PlainSandbox::default());
        let error = CommandProposer::new(settings, Launcher::new(sandbox)).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Invalid, "{name}");
    }
}
