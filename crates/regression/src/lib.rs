//! From samples to a verdict: is the candidate worse?
//!
//! # The problem
//!
//! Measurements scatter. Whoever compares two numbers and calls every rise beyond five percent a regression stops a loop
//! for nothing every few iterations; whoever raises the limit until it is quiet sees nothing any more. And a metric that
//! is missing, not a number or zero before is easily taken for one that did not change.
//!
//! # The concept
//!
//! A *regression* is a change in the metric's harmful direction that is beyond the metric's threshold **with evidence**:
//! the whole confidence interval of the relative change lies beyond it. The other answers are *improved* (the whole
//! interval on the good side of zero), *equivalent* (the whole interval within the threshold on both sides),
//! *inconclusive* (more samples could decide) and *insufficient data* with the reason. None of the last two is ever "no
//! regression". The confidence level holds for all metrics of an assessment together (Holm), and each finding says how likely a
//! change of the threshold's size was to be seen.
//!
//! # The parts
//!
//! - [`Detector`] turns [`Measurements`] into an [`Assessment`]; [`RegressionDetector`] is the standard one, made from
//!   [`RegressionSettings`].
//! - [`Analyzer`] is one statistical method for one comparison. [`Auto`] chooses for everyone who does not: [`TInterval`]
//!   (Fieller's interval for the ratio of means), [`RankShift`] (Hodges-Lehmann), [`PassRate`]. Others are there to be asked for:
//!   [`Permutation`], [`Bootstrap`], [`TrimmedMeans`], [`EventCounts`], [`ThresholdOnly`] (no statistics).
//! - [`SequentialTest`] gives a verdict that may be looked at after every pair, and so stops as soon as it is certain.
//! - [`RunJudge`] judges the iterations of a whole run: a cheap screen, fresh pairs where something is suspicious, levels out of
//!   one [`ErrorLedger`], a [`DriftGuard`] for small losses that add up, gains on samples that did not choose them.
//! - [`plan()`] says how many samples a threshold needs on a machine's noise.
//! - [`simulation`] counts how often all this is wrong, and what it sees.
//! - [`Baselines`] are pinned versions, against which many small losses add up.
//! - [`analyze_series`] finds changes of level, outliers and the trend in a plain list of numbers, and
//!   [`analyze_series_online`] with the past of each value only. They are put together from [`change_points`] (with
//!   [`ChangePointMethod`] and [`energy_split`]), [`OnlineChanges`], [`OnlineAnomalies`], [`patterns`] and the trends of [`statistics`].
//! - [`statistics`] has the formulas, each with its source.
//! - The feature `conformance` adds the test suites for custom detectors and analyzers.
//!
//! ```
//! use evoseal_regression::{Detector, Measurements, RegressionDetector, RegressionSettings, Verdict};
//! use evoseal_types::{Direction, MetricSamples, MetricSpec, Severity};
//!
//! let latency = MetricSpec::new("latency", "ms", Direction::Increase)?;
//! let samples = |values: &[f64]| vec![MetricSamples::independent(latency.clone(), values)];
//! let measurements = Measurements {
//!     incumbent: samples(&[12.1, 11.8, 12.6, 12.0, 12.3]),
//!     candidate: samples(&[15.9, 16.4, 15.7, 16.1, 16.3]),
//!     paired: false,
//!     history: Default::default(),
//!     baselines: Vec::new(),
//!     run: None,
//! };
//! let detector = RegressionDetector::new(&RegressionSettings::default())?;
//! let assessment = detector.assess(&measurements)?;
//!
//! let finding = &assessment.findings[0];
//! assert_eq!((finding.verdict, finding.severity), (Verdict::Regressed, Some(Severity::Critical)));
//! let interval = finding.interval.ok_or("a regression has an interval")?;
//! assert!(interval.low > 0.25 && interval.high < 0.40, "a third slower, between 25 and 40 percent");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does not do
//!
//! It measures nothing, stores nothing and decides nothing: an assessment is advice for whoever accepts versions. A
//! [`Detector`] does not correct for looking at growing samples again and again, nor for the many iterations of a run:
//! that is what [`SequentialTest`] and [`RunJudge`] are for. It assumes independent process starts (or pairs). Where
//! values wander with time it widens the interval as far as it can see that, which needs eight values a side; measuring in
//! turn and setting [`Measurements::paired`] needs none.

mod analyzer;
mod anomaly;
mod baselines;
mod budget;
mod change_point;
mod comparisons;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod detector;
mod drift;
mod error;
mod history;
mod in_run;
mod online;
mod parallel;
mod planner;
mod regression_detector;
mod run;
mod samples;
mod sequential;
mod series;
mod settings;
pub mod simulation;
pub mod statistics;
mod verdict;

pub use analyzer::{
    Analyzer, Auto, Bootstrap, BootstrapStatistic, Comparison, Estimate, EventCounts, PassRate, Permutation,
    RankShift, TInterval, ThresholdOnly, TrimmedMeans,
};
pub use anomaly::{Pattern, PatternKind, patterns};
pub use baselines::Baselines;
pub use budget::{ErrorLedger, ErrorPolicy};
pub use change_point::{
    ChangePoint, ChangePointMethod, EnergySplit, SERIES_LEN_MAX, change_points, energy_split,
};
pub use detector::{
    Anomaly, Assessment, Baseline, DataProblem, Detector, DetectorStatus, Finding, Interval, Measurements,
    RegressionSummary, Trend, TrendDirection, Verdict,
};
pub use drift::{DriftAlarm, DriftGuard};
pub use error::{Error, Result};
pub use in_run::{FreshSamples, FurtherSamples, RunAssessment, RunContext, RunMemory, SamplePurpose};
pub use online::{OnlineAnomalies, OnlineChanges};
pub use parallel::in_parallel;
pub use planner::{NoiseProfile, PilotDesign, PlanSettings, SamplePlan, plan};
pub use regression_detector::{AlertCallback, BaselineUpdate, MetricStatistics, RegressionDetector};
pub use run::{
    DriftFinding, FreshPairs, GainEstimate, Iteration, IterationDecision, IterationReport, MetricReport,
    RunJudge, RunMetric, RunSettings, RunTotals, Sampling, ScreenOutcome, ScreenReport, Stage,
    gain_of_fresh_pairs,
};
pub use samples::independent_values;
pub use sequential::{SampleKind, SequentialReport, SequentialRule, SequentialTest};
pub use series::{SeriesReport, SeriesSettings, SeriesTrend, analyze_series, analyze_series_online};
pub use settings::{
    AnomalyAlgorithm, AnomalySettings, MetricThreshold, RegressionSettings, Sensitivity, StatisticalSettings,
};
