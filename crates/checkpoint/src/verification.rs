//! What the last look at a whole store found: a cell of its own, which nothing else depends on.

use evoseal_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::frame::Format;
use crate::store::{VerifyDepth, VerifyReport};
use crate::{Result, codec};

/// The cell that holds it.
const CELL: &str = "verified";

const FORMAT: Format = Format { magic: b"EVOVERIF", version: 1 };

/// The last verification of a whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastVerification {
    /// When it was complete.
    pub at: Timestamp,
    /// How deep it looked.
    pub depth: VerifyDepth,
    /// How many objects it found damaged or missing.
    pub damaged_objects: u64,
}

impl Engine {
    /// Remembers a verification. One that others remember at the same moment is as good.
    pub(crate) fn remember_verification(&self, depth: VerifyDepth, report: &VerifyReport) -> Result<()> {
        let last =
            LastVerification { at: self.clock.now(), depth, damaged_objects: report.damage.len() as u64 };
        let known = self.backend.load(CELL, 0)?;
        let bytes = FORMAT.seal(&codec::encode("verification", &last)?);
        self.backend.swap(CELL, known.as_ref().map(|cell| &cell.state), &bytes)?;
        Ok(())
    }

    /// The last verification; `None` if there was none, or if what it left is damaged: it can be done again.
    pub(crate) fn last_verification(&self) -> Option<LastVerification> {
        let cell = self.backend.load(CELL, 0).ok()??;
        let payload = FORMAT.open(CELL, &cell.bytes).ok()?;
        codec::decode(CELL, payload).ok()
    }
}
