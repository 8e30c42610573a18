//! Named, pinned versions that later ones are compared with.

use std::collections::BTreeMap;

use evoseal_types::{MetricSamples, VersionId};
use serde::{Deserialize, Serialize};

use crate::{Baseline, Error, Result};

/// The known baselines by name. A plain value: whoever owns it decides where it is stored.
///
/// ```
/// use evoseal_regression::Baselines;
/// let mut baselines = Baselines::default();
/// baselines.establish_baseline("release", "v1.0".parse()?, Vec::new())?;
/// assert_eq!(baselines.get_baseline("release")?.version_id.as_str(), "v1.0");
/// assert!(baselines.get_baseline("relase").is_err_and(|error| error.to_string().contains("release")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Baselines {
    by_name: BTreeMap<String, Baseline>,
}

impl Baselines {
    /// Pins `version_id` and its measurements under `name`, in place of what had that name, which is returned.
    ///
    /// An empty name, and a metric that stands twice, are refused.
    pub fn establish_baseline(
        &mut self,
        name: &str,
        version_id: VersionId,
        metrics: Vec<MetricSamples>,
    ) -> Result<Option<Baseline>> {
        if name.trim().is_empty() {
            return Err(Error::Invalid {
                what: "a baseline's name".to_owned(),
                reason: "it is empty".to_owned(),
            });
        }
        crate::regression_detector::by_name(&metrics, name)?;
        let baseline = Baseline { name: name.to_owned(), version_id, metrics };
        Ok(self.by_name.insert(name.to_owned(), baseline))
    }

    /// Moves a known baseline to another version, by hand, and returns what it was. Unlike [`establish_baseline`] it refuses a
    /// name that is not known, so that a misspelt one does not quietly become a second baseline.
    ///
    /// [`establish_baseline`]: Self::establish_baseline
    pub fn update_baseline(
        &mut self,
        name: &str,
        version_id: VersionId,
        metrics: Vec<MetricSamples>,
    ) -> Result<Baseline> {
        self.get_baseline(name)?;
        let previous = self.establish_baseline(name, version_id, metrics)?;
        Ok(previous.expect("the name was known a moment ago"))
    }

    /// Forgets a baseline and returns it; the error lists the known ones.
    pub fn remove_baseline(&mut self, name: &str) -> Result<Baseline> {
        self.get_baseline(name)?;
        Ok(self.by_name.remove(name).expect("the name was known a moment ago"))
    }

    /// The baseline of that name; the error lists the known ones.
    pub fn get_baseline(&self, name: &str) -> Result<&Baseline> {
        self.by_name
            .get(name)
            .ok_or_else(|| Error::UnknownBaseline { name: name.to_owned(), known: self.names() })
    }

    /// All baselines, sorted by name.
    pub fn list_baselines(&self) -> impl Iterator<Item = &Baseline> {
        self.by_name.values()
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }
}
