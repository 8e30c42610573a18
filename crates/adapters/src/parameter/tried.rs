//! The record of what was tried: one small JSON file per seed in the run's folder.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use evoseal_pipeline::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Combination;
use crate::files;

/// The largest record that is read: far more than a run can write.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// The only version of the record.
const VERSION: u32 = 1;

/// What was tried so far in a run with one seed.
#[derive(Debug)]
pub(super) struct Tried {
    path: PathBuf,
    record: Record,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    tried: Vec<Entry>,
}

/// One combination. The incumbents that were seen stand here too, without an iteration of their own: proposing one again
/// would be proposing nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    iteration: Option<u64>,
    values: Combination,
}

impl Tried {
    /// Reads the record, or starts an empty one.
    pub(super) fn open(run_directory: &Path, seed: u64) -> Result<Self> {
        let path = run_directory.join(format!("parameters-{seed}.json"));
        let damaged = |problem: String| Error::Damaged { path: path.clone(), problem };
        let record = match files::read_bounded(&path, FILE_BYTES_MAX) {
            Ok(json) => {
                serde_json::from_slice::<Record>(&json).map_err(|error| damaged(error.to_string()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Record { version: VERSION, tried: Vec::new() }
            }
            Err(source) => return Err(Error::Io { action: "read", path, source }),
        };
        if record.version != VERSION {
            return Err(damaged(format!("version {} is not {VERSION}", record.version)));
        }
        Ok(Self { path, record })
    }

    /// What was proposed in an iteration before: after a crash it is proposed again, since nobody judged it.
    pub(super) fn of_iteration(&self, iteration: u64) -> Option<&Combination> {
        let entry = self.record.tried.iter().find(|entry| entry.iteration == Some(iteration))?;
        Some(&entry.values)
    }

    /// Every combination that must not be proposed again.
    pub(super) fn combinations(&self) -> BTreeSet<&Combination> {
        self.record.tried.iter().map(|entry| &entry.values).collect()
    }

    /// Adds the incumbent, unless it is there.
    pub(super) fn add_incumbent(&mut self, values: &Combination) {
        if !self.combinations().contains(values) {
            self.record.tried.push(Entry { iteration: None, values: values.clone() });
        }
    }

    /// Adds a proposal and writes the record. Called before the workspace is edited: a proposal that was made is in the
    /// record whatever happens next.
    pub(super) fn add_proposal(&mut self, iteration: u64, values: Combination) -> Result<()> {
        self.record.tried.push(Entry { iteration: Some(iteration), values });
        let io = |source| Error::Io { action: "write", path: self.path.clone(), source };
        let json = serde_json::to_vec(&self.record).map_err(|error| io(error.into()))?;
        files::replace(&self.path, &json).map_err(io)
    }
}
