//! The states of a candidate, and what leads from one to another. `STATES.md` is made from this module.

use std::fmt::{self, Write as _};

use evoseal_safety::{Outcome, PersonsVerdict};
use serde::{Deserialize, Serialize};

use crate::journal::FinishedIteration;

/// What a candidate is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// It is proposed and not decided.
    Proposed,
    /// It is accepted for now, until a second evaluation with fresh samples says the same.
    Unconfirmed,
    /// It was accepted: it is the incumbent, or was one.
    Accepted,
    /// The evidence did not decide; it is kept.
    Held,
    /// As held, and no run goes on before a person has decided.
    Awaiting,
    /// It is not good enough.
    Rejected,
    /// It is harmful.
    RolledBack,
    /// It touched what judges it.
    Tampered,
    /// It could not be evaluated, or there was no candidate at all.
    Error,
}

/// What changes a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The first decision of the loop, where `safety.confirm_acceptance` asks for a second one.
    AcceptedForNow,
    /// The decision of the loop; the second one where there are two.
    Decided(Outcome),
    /// The run asks a person, because `safety.on_inconclusive` says so.
    Asked,
    /// A person decides.
    Person {
        /// What.
        verdict: PersonsVerdict,
        /// Whether they insist.
        force: bool,
    },
}

impl VersionState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Proposed,
        Self::Unconfirmed,
        Self::Accepted,
        Self::Held,
        Self::Awaiting,
        Self::Rejected,
        Self::RolledBack,
        Self::Tampered,
        Self::Error,
    ];

    /// The state after `cause`; `None` where it cannot happen or is not allowed.
    ///
    /// ```
    /// use evoseal_pipeline::{Cause, VersionState};
    /// use evoseal_safety::PersonsVerdict::Approve;
    ///
    /// let approve = |force| Cause::Person { verdict: Approve, force };
    /// assert_eq!(VersionState::Held.after(approve(false)), Some(VersionState::Accepted));
    /// assert_eq!(VersionState::Tampered.after(approve(false)), None, "hard evidence is not waved through");
    /// assert_eq!(VersionState::Tampered.after(approve(true)), Some(VersionState::Accepted));
    /// ```
    pub fn after(self, cause: Cause) -> Option<Self> {
        match cause {
            Cause::AcceptedForNow => (self == Self::Proposed).then_some(Self::Unconfirmed),
            Cause::Decided(outcome) => (self <= Self::Unconfirmed).then_some(match outcome {
                Outcome::Accept => Self::Accepted,
                Outcome::Inconclusive => Self::Held,
                Outcome::Error => Self::Error,
                Outcome::Reject => Self::Rejected,
                Outcome::RollBack => Self::RolledBack,
                Outcome::Tampered => Self::Tampered,
            }),
            Cause::Asked => (self == Self::Held).then_some(Self::Awaiting),
            Cause::Person { verdict: PersonsVerdict::Approve, force } => match self {
                Self::Held | Self::Awaiting | Self::Rejected => Some(Self::Accepted),
                Self::RolledBack | Self::Tampered | Self::Error => force.then_some(Self::Accepted),
                Self::Proposed | Self::Unconfirmed | Self::Accepted => None,
            },
            // What was refused on hard evidence stays what it is; the person's word keeps it from being evaluated again.
            Cause::Person { verdict: PersonsVerdict::Reject, .. } => match self {
                Self::Accepted | Self::Held | Self::Awaiting | Self::Rejected => Some(Self::Rejected),
                Self::RolledBack | Self::Tampered | Self::Error => Some(self),
                Self::Proposed | Self::Unconfirmed => None,
            },
            Cause::Person { verdict: PersonsVerdict::Hold, .. } => match self {
                Self::Held | Self::Awaiting | Self::Rejected => Some(Self::Held),
                Self::Proposed
                | Self::Unconfirmed
                | Self::Accepted
                | Self::RolledBack
                | Self::Tampered
                | Self::Error => None,
            },
        }
    }

    /// What the candidate of a finished iteration is, after everything that persons decided since.
    pub fn of(finished: &FinishedIteration) -> Self {
        let flight = &finished.flight;
        let outcome = flight.judgement().map_or(Outcome::Error, |found| found.decision.outcome);
        // An acceptance that could not be carried out is none.
        let outcome =
            if outcome == Outcome::Accept && !flight.is_accepted() { Outcome::Reject } else { outcome };
        let persons = finished.overrides.iter().map(|decision| decision.verdict);
        let causes = [Cause::Decided(outcome)]
            .into_iter()
            .chain(flight.asked.then_some(Cause::Asked))
            .chain(persons.map(|verdict| Cause::Person { verdict, force: true }));
        causes.fold(Self::Proposed, |state, cause| state.after(cause).unwrap_or(state))
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Proposed => "proposed",
            Self::Unconfirmed => "unconfirmed",
            Self::Accepted => "accepted",
            Self::Held => "held",
            Self::Awaiting => "awaiting a person",
            Self::Rejected => "rejected",
            Self::RolledBack => "rolled back",
            Self::Tampered => "tampered",
            Self::Error => "error",
        })
    }
}

impl Cause {
    /// Every cause, in the order of the table.
    pub fn all() -> Vec<Self> {
        use Outcome::{Accept, Error, Inconclusive, Reject, RollBack, Tampered};
        use PersonsVerdict::{Approve, Hold};
        let decided = [Accept, Inconclusive, Error, Reject, RollBack, Tampered].map(Self::Decided);
        let persons = [(Approve, false), (Approve, true), (PersonsVerdict::Reject, false), (Hold, false)];
        let persons = persons.map(|(verdict, force)| Self::Person { verdict, force });
        [Self::AcceptedForNow].into_iter().chain(decided).chain([Self::Asked]).chain(persons).collect()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcceptedForNow => f.write_str("decision: accept, to be confirmed"),
            Self::Decided(outcome) => write!(f, "decision: {outcome}"),
            Self::Asked => f.write_str("the run asks"),
            Self::Person { verdict, force: false } => write!(f, "`evoseal {verdict}`"),
            Self::Person { verdict, force: true } => write!(f, "`evoseal {verdict} --force`"),
        }
    }
}

/// The table of all states and causes, in Markdown: what `STATES.md` holds. An empty cell is refused, or cannot happen.
pub fn state_table() -> String {
    let mut table = String::from("| |");
    for state in VersionState::ALL {
        let _ = write!(table, " {state} |");
    }
    table.push_str("\n| --- |");
    table.push_str(&" --- |".repeat(VersionState::ALL.len()));
    for cause in Cause::all() {
        let _ = write!(table, "\n| {cause} |");
        for state in VersionState::ALL {
            match state.after(cause) {
                Some(after) => {
                    let _ = write!(table, " {after} |");
                }
                None => table.push_str("  |"),
            }
        }
    }
    table.push('\n');
    table
}
