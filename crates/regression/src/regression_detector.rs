//! The standard detector.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use evoseal_types::{MetricName, MetricSamples, MetricSpec, Recommendation, Threshold, VersionId};
use serde::{Deserialize, Serialize};

use crate::analyzer::{Analyzer, Auto, ThresholdOnly};
use crate::comparisons::{Partner, Planned};
use crate::config::Config;
use crate::history::{self, HistoryView};
use crate::statistics::{Summary, summarize};
use crate::{
    Anomaly, Assessment, Baseline, Baselines, Detector, DetectorStatus, Error, Finding, FurtherSamples,
    Measurements, RegressionSettings, RegressionSummary, Result, RunMemory, RunSettings, Trend, Verdict,
    in_parallel,
};

/// Called with every assessment that has a regression.
pub type AlertCallback = Arc<dyn Fn(&Assessment) + Send + Sync>;

/// The standard [`Detector`]: an interval for each metric's relative change, compared with the metric's threshold.
///
/// **Replication.** Samples of one process start are not independent, so a start counts once, by the mean of its iterations
/// after its warm-up ([`steady_state`](crate::statistics::steady_state)). One start a side is too few whatever its iterations, for
/// nothing then says how starts differ.
///
/// **Method.** Where no sample differs from the others of its side (a file size), the two numbers are compared exactly.
/// Else the [`Analyzer`] decides: [`Auto`] unless the builder was given another. With
/// `enable_statistical_analysis = false` it is [`ThresholdOnly`] for every metric.
///
/// **Many metrics.** The confidence level holds for the assessment as a whole, by Holm's procedure (Holm 1979). With `m`
/// comparisons that need statistics, all get intervals of the level `1 - (1 - confidence_level) / m`. Those `r` that lie beyond
/// the threshold, or on the good side of zero, are decided and keep that interval; the others get intervals as for `m - r`
/// comparisons, until nothing more is decided. So each verdict follows from the interval beside it, whose own level it
/// bears, and however the metrics depend on each other: with probability `confidence_level` at least, every decided
/// comparison truly is what its verdict says *and* every other interval holds its true change (Guilbaud 2008; Strassburger and Bretz
/// 2008). What is not claimed is that the intervals of decided comparisons hold their changes all at once; for that read
/// them at the level of the first round.
///
/// **In a run** ([`Measurements::run`]) the verdict on each metric is that of a [`RunJudge`](crate::RunJudge): harm is certain only on fresh
/// pairs (or, where none can be had, at the level that the run's budget has for one iteration), and a single comparison that
/// lies beyond the threshold is no more than a reason to measure again. An improvement of the objective is reported as its fresh
/// samples show it. The error rates of the run cover the comparison with the incumbent and the guard against drift; stored
/// measurements of named baselines are compared as ever, at the level of one assessment.
///
/// **Severity.** By the estimated change `c`: critical from the critical threshold on, high from twice the threshold,
/// medium from one and a half times, else low. A regression whose value is also unusual against the history (outside the
/// prediction interval on the harmful side, or an anomaly) goes one step up, low to medium or medium to high. History
/// never makes a regression.
///
/// ```
/// use evoseal_regression::{Detector, Measurements, RegressionDetector, RegressionSettings, Verdict};
/// use evoseal_types::{Direction, MetricSamples, MetricSpec};
/// let latency = MetricSpec::new("latency", "ms", Direction::Increase)?;
/// let side = |values: &[f64]| vec![MetricSamples::independent(latency.clone(), values)];
/// let measurements = Measurements {
///     incumbent: side(&[100.0, 101.0, 99.0, 100.5]),
///     candidate: side(&[250.0, 252.0, 249.0, 251.0]),
///     paired: false,
///     history: Default::default(),
///     baselines: Vec::new(),
///     run: None,
/// };
/// let assessment = RegressionDetector::new(&RegressionSettings::default())?.assess(&measurements)?;
/// assert_eq!(assessment.findings[0].verdict, Verdict::Regressed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RegressionDetector {
    config: Config,
    analyzer: Arc<dyn Analyzer>,
    baselines: Baselines,
    alerts: BTreeMap<String, AlertCallback>,
}

impl fmt::Debug for RegressionDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegressionDetector")
            .field("config", &self.config)
            .field("analyzer", &self.analyzer)
            .field("baselines", &self.baselines)
            .field("alerts", &self.alerts.keys())
            .finish()
    }
}

/// What is known about one metric's values, with the published names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricStatistics {
    /// The metric.
    pub metric: MetricName,
    /// Location and spread.
    pub summary: Summary,
    /// The line through the newest values; `None` below three values or where trends are switched off.
    pub trend_analysis: Option<Trend>,
    /// The values that stand out from all that came before them, either direction.
    pub anomalies: Vec<Anomaly>,
}

/// What [`RegressionDetector::update_baseline_if_improved`] did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum BaselineUpdate {
    /// The baseline is the new version now.
    Moved {
        /// What it was.
        previous: Baseline,
        /// The comparison of the new version with it.
        assessment: Assessment,
    },
    /// The baseline stays.
    Kept {
        /// The comparison, which says why.
        assessment: Assessment,
    },
}

impl RegressionDetector {
    /// A detector with checked settings and the standard methods.
    pub fn new(settings: &RegressionSettings) -> Result<Self> {
        let config = Config::try_from(settings)?;
        let analyzer: Arc<dyn Analyzer> =
            if config.use_statistics { Arc::new(Auto) } else { Arc::new(ThresholdOnly) };
        Ok(Self { config, analyzer, baselines: Baselines::default(), alerts: BTreeMap::new() })
    }

    /// Compares by this method instead. Sides without any spread are still compared exactly. Refused where statistics are
    /// switched off, for then the method would never be asked.
    ///
    /// ```
    /// use evoseal_regression::{RankShift, RegressionDetector, RegressionSettings};
    /// use std::sync::Arc;
    /// RegressionDetector::new(&RegressionSettings::default())?.with_analyzer(Arc::new(RankShift))?;
    /// # Ok::<(), evoseal_regression::Error>(())
    /// ```
    pub fn with_analyzer(mut self, analyzer: Arc<dyn Analyzer>) -> Result<Self> {
        if !self.config.use_statistics {
            let reason = format!("{} would never be used", analyzer.name());
            return Err(Error::Invalid { what: "enable_statistical_analysis = false".to_owned(), reason });
        }
        self.analyzer = analyzer;
        Ok(self)
    }

    /// Starts from baselines that were established earlier.
    pub fn with_baselines(mut self, baselines: Baselines) -> Self {
        self.baselines = baselines;
        self
    }

    /// The baselines that this detector knows. [`Detector::assess`] compares with those in the measurements, not with
    /// these, so that its answer depends on nothing else.
    pub fn baselines(&self) -> &Baselines {
        &self.baselines
    }

    /// Pins measurements under a name: see [`Baselines::establish_baseline`].
    pub fn establish_baseline(
        &mut self,
        name: &str,
        version_id: VersionId,
        metrics: Vec<MetricSamples>,
    ) -> Result<Option<Baseline>> {
        self.baselines.establish_baseline(name, version_id, metrics)
    }

    /// Moves a known baseline by hand: see [`Baselines::update_baseline`].
    pub fn update_baseline(
        &mut self,
        name: &str,
        version_id: VersionId,
        metrics: Vec<MetricSamples>,
    ) -> Result<Baseline> {
        self.baselines.update_baseline(name, version_id, metrics)
    }

    /// Moves a known baseline to a version that is better, and only to such: at least one metric improved with evidence, every
    /// metric of the baseline could be compared, and none is estimated to be worse, not even within its threshold.
    ///
    /// So a baseline never follows a drift: what loses half a percent a step is compared with the same baseline every time.
    ///
    /// ```
    /// use evoseal_regression::{BaselineUpdate, RegressionDetector, RegressionSettings};
    /// use evoseal_types::{Direction, MetricSamples, MetricSpec};
    /// let latency = MetricSpec::new("latency", "ms", Direction::Increase)?;
    /// let side = |values: &[f64]| vec![MetricSamples::independent(latency.clone(), values)];
    /// let mut detector = RegressionDetector::new(&RegressionSettings::default())?;
    /// detector.establish_baseline("best", "v1".parse()?, side(&[10.0, 10.1, 9.9, 10.2]))?;
    /// let slower = detector.update_baseline_if_improved("best", "v2".parse()?, side(&[10.1, 10.2, 10.0, 10.3]))?;
    /// assert!(matches!(slower, BaselineUpdate::Kept { .. }));
    /// detector.update_baseline_if_improved("best", "v3".parse()?, side(&[8.0, 8.1, 7.9, 8.2]))?;
    /// assert_eq!(detector.get_baseline("best")?.version_id.as_str(), "v3");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update_baseline_if_improved(
        &mut self,
        name: &str,
        version_id: VersionId,
        metrics: Vec<MetricSamples>,
    ) -> Result<BaselineUpdate> {
        let assessment = self.compare_against_baseline(name, &metrics)?;
        let is_no_worse = |finding: &Finding| {
            let sign = finding.metric.direction.harm_sign();
            finding.problem.is_none() && finding.absolute_change.is_some_and(|change| sign * change <= 0.0)
        };
        let improved = assessment.findings.iter().any(|finding| finding.verdict == Verdict::Improved);
        if !improved || !assessment.findings.iter().all(is_no_worse) {
            return Ok(BaselineUpdate::Kept { assessment });
        }
        let previous = self.baselines.update_baseline(name, version_id, metrics)?;
        Ok(BaselineUpdate::Moved { previous, assessment })
    }

    /// The baseline of that name; the error lists the known ones.
    pub fn get_baseline(&self, name: &str) -> Result<&Baseline> {
        self.baselines.get_baseline(name)
    }

    /// All known baselines, sorted by name.
    pub fn list_baselines(&self) -> impl Iterator<Item = &Baseline> {
        self.baselines.list_baselines()
    }

    /// Compares a candidate with the stored measurements of one known baseline. The findings carry its name. A metric of
    /// the candidate that the baseline lacks has no finding.
    pub fn compare_against_baseline(&self, name: &str, candidate: &[MetricSamples]) -> Result<Assessment> {
        let partner = Partner::baseline(self.baselines.get_baseline(name)?)?;
        let candidate = by_name(candidate, "candidate")?;
        let assessment = self.judge(&[partner], &candidate, &BTreeMap::new())?;
        self.alert(&assessment);
        Ok(assessment)
    }

    /// Judges several candidates, each by itself and on all processors: the answer at index `i` belongs to the measurements at
    /// index `i`. Alerts are called in that order when all are judged.
    pub fn detect_regressions_batch(&self, batch: &[Measurements]) -> Vec<Result<Assessment>> {
        let answers = in_parallel(batch, |measurements| self.judge_measurements(measurements));
        for assessment in answers.iter().flatten() {
            self.alert(assessment);
        }
        answers
    }

    /// Calls `callback` from now on with every assessment that has a regression, in the order of the names; what had that
    /// name is replaced. It runs on the thread that assesses and before the assessment is returned; a panic in it is
    /// passed on.
    pub fn register_alert_callback(&mut self, name: impl Into<String>, callback: AlertCallback) {
        self.alerts.insert(name.into(), callback);
    }

    /// The threshold that applies to a metric, its direction included.
    pub fn get_regression_threshold(&self, spec: &MetricSpec) -> Result<Threshold> {
        Ok(self.config.threshold_for(spec)?.unwrap_or_else(|contradiction| contradiction.0))
    }

    /// What one metric's values, oldest first, say about themselves.
    ///
    /// At least `min_samples` values. Each value is tested for being an outlier against at most `2 * trend_window` values
    /// before it, itself not among them.
    pub fn analyze_metric_statistics(&self, metric: &MetricName, values: &[f64]) -> Result<MetricStatistics> {
        let settings = &self.config.statistics;
        if values.len() < settings.min_samples {
            let found = format!("{} of {metric}", values.len());
            return Err(Error::Data { what: "an analysis", needed: "at least `min_samples` values", found });
        }
        let summary = summarize(values, settings.confidence_level)?;
        let line = &values[values.len().saturating_sub(settings.trend_window)..];
        let trend_analysis = (settings.enable_trend_analysis && line.len() >= 3)
            .then(|| crate::statistics::linear_trend(line, settings.confidence_level))
            .transpose()?;
        let mut anomalies = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let first = index.saturating_sub(settings.trend_window.saturating_mul(2));
            let found = history::anomalies(&values[first..index], *value, &self.config)?;
            anomalies.extend(found.into_iter().map(|anomaly| Anomaly { index, ..anomaly }));
        }
        Ok(MetricStatistics { metric: metric.clone(), summary, trend_analysis, anomalies })
    }

    fn judge(
        &self,
        partners: &[Partner<'_>],
        candidate: &BTreeMap<&MetricName, &MetricSamples>,
        history: &BTreeMap<MetricName, Vec<f64>>,
    ) -> Result<Assessment> {
        let mut planned = Vec::new();
        for partner in partners {
            planned.extend(partner.plan(candidate, &self.config)?);
        }
        let mut findings = self.step_down(&planned)?;
        for finding in &mut findings {
            self.look_at_history(finding, history)?;
        }
        Ok(Assessment::new(findings))
    }

    fn alert(&self, assessment: &Assessment) {
        if assessment.regression_detected() {
            for callback in self.alerts.values() {
                callback(assessment);
            }
        }
    }

    fn judge_measurements(&self, measurements: &Measurements) -> Result<Assessment> {
        let assessment = self.judge_once(measurements)?;
        match &measurements.run {
            Some(run) if self.config.use_statistics => self.judged_in_run(assessment, measurements, run),
            _ => Ok(assessment),
        }
    }

    /// Whether there are statistics at all.
    pub(crate) const fn uses_statistics(&self) -> bool {
        self.config.use_statistics
    }

    /// How the errors of a run are limited.
    pub(crate) const fn run_settings(&self) -> RunSettings {
        self.config.run
    }

    /// The comparison by itself, whatever run it is one of.
    pub(crate) fn judge_once(&self, measurements: &Measurements) -> Result<Assessment> {
        let candidate = by_name(&measurements.candidate, "candidate")?;
        let mut partners = vec![Partner::incumbent(&measurements.incumbent, measurements.paired)?];
        let mut names = BTreeSet::new();
        for baseline in &measurements.baselines {
            if !names.insert(&baseline.name) {
                let reason = "it is listed twice".to_owned();
                return Err(Error::Invalid { what: format!("baseline {:?}", baseline.name), reason });
            }
            partners.push(Partner::baseline(baseline)?);
        }
        self.judge(&partners, &candidate, &measurements.history)
    }

    /// Holm's procedure over the comparisons: see the type's documentation.
    fn step_down(&self, planned: &[Planned]) -> Result<Vec<Finding>> {
        let mut open = planned.iter().filter(|comparison| comparison.needs_statistics()).count();
        let level = |open: usize| 1.0 - (1.0 - self.config.statistics.confidence_level) / open.max(1) as f64;
        let findings = planned.iter().map(|comparison| comparison.finding(&*self.analyzer, level(open)));
        let mut findings = findings.collect::<Result<Vec<Finding>>>()?;
        let is_decided =
            |finding: &Finding| matches!(finding.verdict, Verdict::Regressed | Verdict::Improved);
        // Each round but the last decides one comparison at least.
        loop {
            let undecided = planned
                .iter()
                .zip(&findings)
                .filter(|(comparison, finding)| comparison.needs_statistics() && !is_decided(finding));
            let left = undecided.count();
            if left == open || left == 0 {
                return Ok(findings);
            }
            open = left;
            for (comparison, finding) in planned.iter().zip(&mut findings) {
                if comparison.needs_statistics() && !is_decided(finding) {
                    *finding = comparison.finding(&*self.analyzer, level(open))?;
                }
            }
        }
    }

    /// Adds what the history says about a finding against the incumbent.
    fn look_at_history(&self, finding: &mut Finding, history: &BTreeMap<MetricName, Vec<f64>>) -> Result<()> {
        let Some(past) = history.get(&finding.metric.name).filter(|_| finding.baseline.is_none()) else {
            return Ok(());
        };
        let view = history::look(past, finding.new_value, finding.metric.direction, &self.config)?;
        if let Some(severity) = &mut finding.severity
            && view.raises_severity()
            && crate::verdict::raised(*severity) != *severity
        {
            *severity = crate::verdict::raised(*severity);
            finding.reason.push_str("; one step more severe because it stands out from the history");
        }
        HistoryView { anomalies: finding.anomalies, trend: finding.trend, .. } = view;
        Ok(())
    }
}

impl Detector for RegressionDetector {
    fn assess(&self, measurements: &Measurements) -> Result<Assessment> {
        let assessment = self.judge_measurements(measurements)?;
        self.alert(&assessment);
        Ok(assessment)
    }

    fn further_samples(&self, measurements: &Measurements) -> Result<Option<FurtherSamples>> {
        self.wanted_samples(measurements)
    }

    fn remember(&self, measurements: &Measurements, accepted: bool) -> Result<Option<RunMemory>> {
        self.learned(measurements, accepted)
    }

    fn status(&self) -> DetectorStatus {
        DetectorStatus {
            threshold: self.config.threshold,
            confidence_level: self.config.statistics.confidence_level,
            metrics_tracked: self.config.metrics.keys().cloned().collect(),
            baselines: self.baselines.names(),
        }
    }
}

impl Assessment {
    /// An assessment of these findings: recommendation and summary follow from them by the published rules.
    pub fn new(findings: Vec<Finding>) -> Self {
        let summary = RegressionSummary::of(&findings);
        let severities = findings.iter().filter_map(|finding| finding.severity);
        Self { recommendation: Recommendation::of(severities), summary, findings, run: None }
    }

    /// Whether any regression is critical.
    pub fn is_critical_regression(&self) -> bool {
        !self.summary.critical_regressions.is_empty()
    }
}

impl RegressionSummary {
    /// Counts the regressions among findings.
    pub fn of(findings: &[Finding]) -> Self {
        use evoseal_types::Severity::Critical;
        let regressions: Vec<&Finding> =
            findings.iter().filter(|finding| finding.verdict == Verdict::Regressed).collect();
        let mut severity_counts = BTreeMap::new();
        for severity in regressions.iter().filter_map(|finding| finding.severity) {
            *severity_counts.entry(severity).or_insert(0) += 1;
        }
        let names = |wanted: &dyn Fn(&Finding) -> bool| {
            let names: BTreeSet<MetricName> = regressions
                .iter()
                .filter(|finding| wanted(finding))
                .map(|finding| finding.metric.name.clone())
                .collect();
            names.into_iter().collect()
        };
        Self {
            total_regressions: regressions.len(),
            severity_counts,
            critical_regressions: names(&|finding| finding.severity == Some(Critical)),
            affected_metrics: names(&|_| true),
        }
    }
}

/// The metrics of one side by name; a metric that stands twice is refused.
pub(crate) fn by_name<'a>(
    metrics: &'a [MetricSamples],
    side: &str,
) -> Result<BTreeMap<&'a MetricName, &'a MetricSamples>> {
    let mut by_name = BTreeMap::new();
    for samples in metrics {
        if by_name.insert(&samples.spec.name, samples).is_some() {
            let metric = samples.spec.name.to_string();
            return Err(Error::DuplicateMetric { metric, side: side.to_owned() });
        }
    }
    Ok(by_name)
}
