//! Decisions from the past alone, one value at a time, with memory that does not grow.
//!
//! [`OnlineAnomalies`] says whether the newest value stands out; [`OnlineChanges`] says whether the level has changed. Both look
//! at the past only: what they said of the first thousand values does not depend on the thousand-and-first.

mod anomalies;
mod blocks;
mod changes;
mod season;

use evoseal_types::Direction;

pub use anomalies::OnlineAnomalies;
pub use changes::OnlineChanges;

use crate::{Error, Result};

/// The largest magnitude that a stream may have: squares of larger numbers overflow.
const MAGNITUDE_MAX: f64 = 1e150;

fn check_value(value: f64) -> Result<()> {
    if value.is_finite() && value.abs() <= MAGNITUDE_MAX {
        return Ok(());
    }
    let found = format!("{value}");
    Err(Error::Data { what: "a value of a stream", needed: "a number between -1e150 and 1e150", found })
}

fn is_harmful(change: f64, direction: Option<Direction>) -> Option<bool> {
    direction.map(|direction| change * direction.harm_sign() > 0.0)
}
