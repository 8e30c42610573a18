//! Every edge of the table of states, and the document that is made from it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use evoseal_pipeline::{Cause, VersionState, state_table};
use evoseal_safety::Outcome;
use evoseal_safety::PersonsVerdict::{Approve, Hold, Reject};

/// With this in the environment the document is written instead of compared.
const WRITE: &str = "EVOSEAL_WRITE_STATES";
/// The document holds the table between these lines.
const BEGIN: &str = "<!-- the table is made by `cargo xtask states` -->\n";
const END: &str = "<!-- end of the table -->\n";

#[test]
fn the_document_holds_the_table_that_the_code_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("STATES.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", state_table())).unwrap();
        return;
    }
    assert_eq!(table, state_table(), "`cargo xtask states` brings it up to date");
}

/// Every edge there is; whatever is not here is refused.
fn edges() -> Vec<(VersionState, Cause, VersionState)> {
    use VersionState::{
        Accepted, Awaiting, Error, Held, Proposed, Rejected, RolledBack, Tampered, Unconfirmed,
    };
    let person = |before, verdict, force, after| (before, Cause::Person { verdict, force }, after);
    let decided = [
        (Outcome::Accept, Accepted),
        (Outcome::Inconclusive, Held),
        (Outcome::Error, Error),
        (Outcome::Reject, Rejected),
        (Outcome::RollBack, RolledBack),
        (Outcome::Tampered, Tampered),
    ];
    let mut edges = vec![
        (Proposed, Cause::AcceptedForNow, Unconfirmed),
        (Held, Cause::Asked, Awaiting),
        person(Accepted, Reject, false, Rejected),
    ];
    for open in [Proposed, Unconfirmed] {
        edges.extend(decided.map(|(outcome, after)| (open, Cause::Decided(outcome), after)));
    }
    for soft in [Held, Awaiting, Rejected] {
        edges.push(person(soft, Approve, false, Accepted));
        edges.push(person(soft, Approve, true, Accepted));
        edges.push(person(soft, Reject, false, Rejected));
        edges.push(person(soft, Hold, false, Held));
    }
    for hard in [RolledBack, Tampered, Error] {
        edges.push(person(hard, Approve, true, Accepted));
        edges.push(person(hard, Reject, false, hard));
    }
    edges
}

#[test]
fn there_are_exactly_these_edges() {
    let mut expected = edges();
    let mut found: Vec<_> = VersionState::ALL
        .into_iter()
        .flat_map(|state| Cause::all().into_iter().map(move |cause| (state, cause)))
        .filter_map(|(state, cause)| Some((state, cause, state.after(cause)?)))
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn only_a_decision_or_a_person_accepts_and_never_an_open_question() {
    for (before, cause, after) in edges() {
        let accepts = after == VersionState::Accepted;
        let may = matches!(cause, Cause::Decided(Outcome::Accept) | Cause::Person { verdict: Approve, .. });
        assert!(!accepts || may, "{before} becomes {after} by {cause}");
    }
}
