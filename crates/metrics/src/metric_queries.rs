//! Questions about what a store holds. All formulas are those of `evoseal_regression::statistics`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use evoseal_regression::statistics::{Summary, linear_trend, mean, normalize, percentile, summarize};
use evoseal_regression::{Assessment, Baseline, Detector, Finding, Measurements, Trend, Verdict};
use evoseal_types::{MetricName, MetricSamples, Sample, TestReport, VersionId};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::{Error, MetricStore, Record, RecordFilter, Result};

/// One version's place in the history of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// The accepted version.
    pub version_id: VersionId,
    /// The mean of all its samples; NaN if one of them is no number.
    pub mean: f64,
    /// How many samples that is.
    pub sample_count: usize,
}

/// One line of a table that compares two versions, with the published names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonRow {
    /// The metric.
    pub metric: MetricName,
    /// Its unit.
    pub unit: String,
    /// The old value.
    pub baseline: Option<f64>,
    /// The new value.
    pub current: Option<f64>,
    /// `current - baseline`.
    pub difference: Option<f64>,
    /// The change in percent of the old value; `None`, not zero, where the old value is zero.
    pub change_pct: Option<f64>,
    /// What the comparison says.
    pub status: Verdict,
    /// One sentence for people.
    pub reason: String,
}

/// Metrics of versions, scaled so that they can be drawn together.
#[derive(Debug, Clone, PartialEq)]
pub struct NormalizedMetrics {
    /// The rows.
    pub versions: Vec<VersionId>,
    /// The columns.
    pub metrics: Vec<MetricName>,
    /// Means, each column scaled to 0 to 1; 0.5 in a column of equal values.
    pub values: Array2<f64>,
}

/// The published questions, for every [`MetricStore`].
///
/// A version or metric without records is an error ([`Error::NotFound`]), never an empty comparison: what was not
/// measured has not been found to be harmless.
///
/// ```
/// use evoseal_metrics::{MemoryMetricStore, MetricQueries, MetricStore, NewRecord};
/// use evoseal_regression::{RegressionDetector, RegressionSettings};
/// use evoseal_types::{Direction, MetricSamples, MetricSpec, Timestamp};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = MemoryMetricStore::new();
/// let latency = MetricSpec::new("latency", "ms", Direction::Increase)?;
/// for (version, values) in [("v1", [10.0, 10.1, 9.9]), ("v2", [15.0, 15.1, 14.9])] {
///     store
///         .append(NewRecord {
///             version_id: version.parse()?,
///             recorded_at: Timestamp::from_unix_ns(0),
///             metrics: vec![MetricSamples::independent(latency.clone(), &values)],
///             test_results: Vec::new(),
///             tags: Default::default(),
///         })
///         .await?;
/// }
/// let detector = RegressionDetector::new(&RegressionSettings::default())?;
/// let (old, new) = ("v1".parse()?, "v2".parse()?);
/// assert_eq!(store.find_regressions(&detector, &old, &new).await?.len(), 1);
/// assert!(store.find_regressions(&detector, &old, &"v3".parse()?).await.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[async_trait]
pub trait MetricQueries: MetricStore {
    /// All samples of a version by metric, those of later sessions behind those of earlier ones. The process starts of a
    /// later session are numbered on, since they were other starts.
    async fn samples_of(&self, version_id: &VersionId) -> Result<Vec<MetricSamples>> {
        Ok(merge_sessions(known(self, version_id).await?))
    }

    /// The newest session of a version.
    async fn get_latest_metrics(&self, version_id: &VersionId) -> Result<Record> {
        let filter =
            RecordFilter { version_id: Some(version_id.clone()), limit: Some(1), ..RecordFilter::default() };
        let newest = self.records(&filter).await?.pop();
        newest.ok_or_else(|| not_found(format!("records of version {version_id}")))
    }

    /// The test reports of a version's newest session that has any.
    async fn latest_test_results(&self, version_id: &VersionId) -> Result<Vec<TestReport>> {
        let sessions = known(self, version_id).await?.into_iter().rev();
        Ok(sessions
            .map(|record| record.record.test_results)
            .find(|reports| !reports.is_empty())
            .unwrap_or_default())
    }

    /// One point for each accepted version that has the metric, in the order in which they were first measured.
    async fn get_metrics_history(&self, metric: &MetricName) -> Result<Vec<HistoryPoint>> {
        let filter =
            RecordFilter { metric: Some(metric.clone()), accepted_only: true, ..RecordFilter::default() };
        let mut order = Vec::new();
        let mut values: BTreeMap<VersionId, Vec<f64>> = BTreeMap::new();
        for Record { record, .. } in self.records(&filter).await? {
            if !values.contains_key(&record.version_id) {
                order.push(record.version_id.clone());
            }
            let all = values.entry(record.version_id).or_default();
            all.extend(record.metrics.iter().flat_map(MetricSamples::values));
        }
        order.retain(|version| values.get(version).is_some_and(|values| !values.is_empty()));
        let point = |version_id: VersionId| {
            let values = &values[&version_id];
            HistoryPoint { mean: mean(values).unwrap_or(f64::NAN), sample_count: values.len(), version_id }
        };
        Ok(order.into_iter().map(point).collect())
    }

    /// Everything that a detector needs to judge `candidate` against `incumbent`: the samples of both, the history of each
    /// metric, and the samples of `baselines` by their names. Nothing is paired: sessions were measured apart.
    async fn measurements(
        &self,
        incumbent: &VersionId,
        candidate: &VersionId,
        baselines: &BTreeMap<String, VersionId>,
    ) -> Result<Measurements> {
        let (incumbent, candidate) = (self.samples_of(incumbent).await?, self.samples_of(candidate).await?);
        let mut history = BTreeMap::new();
        for samples in &candidate {
            let points = self.get_metrics_history(&samples.spec.name).await?;
            history.insert(samples.spec.name.clone(), points.into_iter().map(|point| point.mean).collect());
        }
        let mut pinned = Vec::new();
        for (name, version_id) in baselines {
            let metrics = self.samples_of(version_id).await?;
            pinned.push(Baseline { name: name.clone(), version_id: version_id.clone(), metrics });
        }
        Ok(Measurements { incumbent, candidate, paired: false, history, baselines: pinned, run: None })
    }

    /// Judges `new` against `old` and its history.
    async fn compare_metrics(
        &self,
        detector: &dyn Detector,
        old: &VersionId,
        new: &VersionId,
    ) -> Result<Assessment> {
        Ok(detector.assess(&self.measurements(old, new, &BTreeMap::new()).await?)?)
    }

    /// The findings that are regressions.
    async fn find_regressions(
        &self,
        detector: &dyn Detector,
        old: &VersionId,
        new: &VersionId,
    ) -> Result<Vec<Finding>> {
        Ok(with_verdict(self.compare_metrics(detector, old, new).await?, Verdict::Regressed))
    }

    /// The findings that are improvements, with the same evidence as regressions.
    async fn find_improvements(
        &self,
        detector: &dyn Detector,
        old: &VersionId,
        new: &VersionId,
    ) -> Result<Vec<Finding>> {
        Ok(with_verdict(self.compare_metrics(detector, old, new).await?, Verdict::Improved))
    }

    /// The summary of a metric's means over the accepted versions; at least two of them.
    async fn get_summary_statistics(&self, metric: &MetricName, level: f64) -> Result<Summary> {
        Ok(summarize(&means(self, metric).await?, level)?)
    }

    /// Percentiles (0 to 100) of a metric's means over the accepted versions, in the order asked for.
    async fn get_percentiles(&self, metric: &MetricName, percentiles: &[f64]) -> Result<Vec<f64>> {
        let means = means(self, metric).await?;
        percentiles.iter().map(|p| Ok(percentile(&means, *p)?)).collect()
    }

    /// Means of these metrics of these versions, each metric scaled to 0 to 1. Every version must have every metric.
    async fn normalize_metrics(
        &self,
        versions: &[VersionId],
        metrics: &[MetricName],
    ) -> Result<NormalizedMetrics> {
        let mut values = Array2::zeros((versions.len(), metrics.len()));
        for (row, version) in versions.iter().enumerate() {
            let samples = self.samples_of(version).await?;
            for (column, name) in metrics.iter().enumerate() {
                let samples = samples.iter().find(|samples| samples.spec.name == *name);
                let samples =
                    samples.ok_or_else(|| not_found(format!("metric {name} of version {version}")))?;
                values[[row, column]] = mean(&samples.values())?;
            }
        }
        let values = normalize(values.view())?;
        Ok(NormalizedMetrics { versions: versions.to_vec(), metrics: metrics.to_vec(), values })
    }

    /// The line through the newest `window` accepted versions of every metric that has at least three of them.
    async fn detect_trends(&self, window: usize, level: f64) -> Result<BTreeMap<MetricName, Trend>> {
        let mut trends = BTreeMap::new();
        for spec in self.metrics().await? {
            let mut means: Vec<f64> =
                self.get_metrics_history(&spec.name).await?.into_iter().map(|point| point.mean).collect();
            means.retain(|mean| mean.is_finite());
            let newest = &means[means.len().saturating_sub(window)..];
            if newest.len() >= 3 {
                trends.insert(spec.name, linear_trend(newest, level)?);
            }
        }
        Ok(trends)
    }
}

impl<S: MetricStore + ?Sized> MetricQueries for S {}

/// The lines of a table for an assessment, in the order of its findings against the incumbent.
pub fn comparison_table(assessment: &Assessment) -> Vec<ComparisonRow> {
    let findings = assessment.findings.iter().filter(|finding| finding.baseline.is_none());
    let row = |finding: &Finding| ComparisonRow {
        metric: finding.metric.name.clone(),
        unit: finding.metric.unit.clone(),
        baseline: finding.old_value,
        current: finding.new_value,
        difference: finding.absolute_change,
        change_pct: finding.change.map(|change| (change * 100.0).clamp(f64::MIN, f64::MAX)),
        status: finding.verdict,
        reason: finding.reason.clone(),
    };
    findings.map(row).collect()
}

fn with_verdict(assessment: Assessment, verdict: Verdict) -> Vec<Finding> {
    assessment.findings.into_iter().filter(|finding| finding.verdict == verdict).collect()
}

/// The records of a version, at least one.
async fn known<S: MetricStore + ?Sized>(store: &S, version_id: &VersionId) -> Result<Vec<Record>> {
    let filter = RecordFilter { version_id: Some(version_id.clone()), ..RecordFilter::default() };
    let records = store.records(&filter).await?;
    if records.is_empty() {
        return Err(not_found(format!("records of version {version_id}")));
    }
    Ok(records)
}

/// The means of a metric over the accepted versions, at least one.
async fn means<S: MetricStore + ?Sized>(store: &S, metric: &MetricName) -> Result<Vec<f64>> {
    let points = store.get_metrics_history(metric).await?;
    if points.is_empty() {
        return Err(not_found(format!("accepted version with metric {metric}")));
    }
    Ok(points.into_iter().map(|point| point.mean).collect())
}

/// Puts the samples of several sessions of one version together.
fn merge_sessions(records: Vec<Record>) -> Vec<MetricSamples> {
    let mut merged: BTreeMap<MetricName, MetricSamples> = BTreeMap::new();
    for Record { record, .. } in records {
        for MetricSamples { spec, samples } in record.metrics {
            let name = spec.name.clone();
            let all = &mut merged.entry(name).or_insert_with(|| MetricSamples::new(spec, Vec::new())).samples;
            let first = all.iter().map(|sample| sample.start.saturating_add(1)).max().unwrap_or(0);
            let renumbered = |sample: Sample| Sample { start: sample.start.saturating_add(first), ..sample };
            all.extend(samples.into_iter().map(renumbered));
        }
    }
    merged.into_values().collect()
}

fn not_found(what: String) -> Error {
    Error::NotFound { what }
}
