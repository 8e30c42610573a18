//! What every store checks before it keeps a record.

use std::collections::{BTreeMap, BTreeSet};

use evoseal_types::{MetricName, MetricSpec};

use crate::{Error, NewRecord, Result};

/// Refuses a record that contradicts itself or the metrics known so far.
pub(crate) fn check_record(
    record: &NewRecord,
    known: impl Fn(&MetricName) -> Result<Option<MetricSpec>>,
) -> Result<()> {
    let mut names = BTreeSet::new();
    for metric in &record.metrics {
        let name = &metric.spec.name;
        if !names.insert(name) {
            return Err(invalid(format!("metric {name}"), "the record lists it twice"));
        }
        if let Some(spec) = known(name)?
            && spec != metric.spec
        {
            let reason = format!(
                "it is recorded in {:?} with harm to {}, and so far in {:?} with harm to {}",
                metric.spec.unit, metric.spec.direction, spec.unit, spec.direction
            );
            return Err(invalid(format!("metric {name}"), &reason));
        }
    }
    for report in &record.test_results {
        let what = || format!("test report {:?}", report.test_type);
        report.check().map_err(|error| invalid(what(), &error.to_string()))?;
        let used = report.resources;
        let numbers = [used.cpu_percent, used.memory_mb, used.io_read_mb, used.io_write_mb];
        if numbers.iter().flatten().any(|number| !number.is_finite()) {
            return Err(invalid(what(), "a resource that it used is not a finite number"));
        }
    }
    Ok(())
}

/// Adds a record's metrics to the known ones.
pub(crate) fn learn(known: &mut BTreeMap<MetricName, MetricSpec>, record: &NewRecord) {
    for metric in &record.metrics {
        known.entry(metric.spec.name.clone()).or_insert_with(|| metric.spec.clone());
    }
}

pub(crate) fn invalid(what: String, reason: &str) -> Error {
    Error::Invalid { what, reason: reason.to_owned() }
}
