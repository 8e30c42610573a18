//! Everything that goes wrong around a run, through the program: nothing is accepted that should not be, nothing is lost, and
//! the message says which.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

mod failures {
    mod candidates;
    mod crashes;
    mod ownership;
    mod parts;
    mod people;
    mod signals;
    mod starts;
    mod switches;
}

use evoseal_tests::Project;
use serde_json::Value;

/// Runs one iteration with this agent and gives its result, after checking that the version to start from is back in the
/// workspace, as it was.
fn refused(project: &Project) -> Value {
    let before = project.files();
    let report = project.evoseal(&["run", "-n", "1", "--json"]).run().expect(1).json();
    assert_eq!(project.files(), before, "the workspace must be as it was");
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 1, "{report}");
    assert_eq!(results[0]["version_accepted"], false, "{report}");
    assert_eq!(report["final_version"]["version_id"], "v0", "{report}");
    results[0].clone()
}

/// Every reason of a result in one text.
fn reasons(result: &Value) -> String {
    let reasons = result["safety_result"]["decision"]["reasons"].as_array().unwrap();
    reasons.iter().map(|reason| reason["message"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Checks that the candidate of this agent is refused, with this outcome and for this reason.
fn refuses(project: &Project, outcome: &str, reason: &str) {
    let result = refused(project);
    let reasons = reasons(&result);
    assert_eq!(result["outcome"], outcome, "{reasons}");
    assert!(reasons.contains(reason), "no {reason:?} in:\n{reasons}");
}
