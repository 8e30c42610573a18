//! Samples and test results of versions, and questions about their history.
//!
//! # The problem
//!
//! A judgement is as good as what it is given: every sample that was measured, under the version that it was measured of,
//! with its unit and harmful direction, and the history of what was accepted before. A file that is rewritten on each
//! measurement loses that on the first crash; two processes that share one lose it sooner.
//!
//! # The concept
//!
//! A *record* is one measurement session of one version: samples by metric, test reports, tags. Records are only ever
//! appended, each as a whole. A version can be marked as accepted; the *history* of a metric is its mean over the accepted
//! versions. A metric keeps its unit and direction for good.
//!
//! # The parts
//!
//! - [`MetricStore`] is the seam: four methods. [`MetricsTracker`] keeps an SQLite database, [`MemoryMetricStore`] nothing
//!   beyond the process.
//! - [`MetricQueries`] has the published questions for every store: history, comparison, summary, percentiles, trends. All
//!   formulas are those of [`evoseal_regression::statistics`].
//! - [`read_csv`], [`read_json_lines`], [`write_csv`], [`write_json_lines`], [`import`] and [`import_records`] move records in
//!   and out as text.
//! - The feature `conformance` adds the test suite for custom stores.
//!
//! ```
//! use evoseal_metrics::{MetricQueries, MetricStore, MetricsTracker, NewRecord, comparison_table};
//! use evoseal_regression::{RegressionDetector, RegressionSettings, Verdict};
//! use evoseal_types::{Direction, MetricSamples, MetricSpec, Timestamp};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! let tracker = MetricsTracker::open(folder.path().join("metrics.db")).await?;
//! let latency = MetricSpec::new("latency", "ms", Direction::Increase)?;
//! for (version, values) in [("v1", [12.1, 11.8, 12.6]), ("v2", [16.4, 15.9, 16.1])] {
//!     let record = NewRecord {
//!         version_id: version.parse()?,
//!         recorded_at: Timestamp::from_unix_ns(0),
//!         metrics: vec![MetricSamples::independent(latency.clone(), &values)],
//!         test_results: Vec::new(),
//!         tags: Default::default(),
//!     };
//!     tracker.append(record).await?;
//! }
//! tracker.set_accepted(&"v1".parse()?, true).await?;
//!
//! let detector = RegressionDetector::new(&RegressionSettings::default())?;
//! let assessment = tracker.compare_metrics(&detector, &"v1".parse()?, &"v2".parse()?).await?;
//! assert_eq!(comparison_table(&assessment)[0].status, Verdict::Regressed);
//! assert_eq!(tracker.get_metrics_history(&latency.name).await?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does not do
//!
//! It measures nothing and judges nothing itself. It never deletes: a session of a thousand samples takes about 16 KB. It
//! does not know the time; whoever appends says when.

mod check;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod memory;
mod metric_queries;
mod queries;
mod schema;
mod settings;
mod store;
mod tracker;
mod transfer;

pub use error::{Error, Result};
pub use memory::MemoryMetricStore;
pub use metric_queries::{ComparisonRow, HistoryPoint, MetricQueries, NormalizedMetrics, comparison_table};
pub use settings::MetricsSettings;
pub use store::{MetricStore, NewRecord, Record, RecordFilter};
pub use tracker::MetricsTracker;
pub use transfer::{import, import_records, read_csv, read_json_lines, write_csv, write_json_lines};
