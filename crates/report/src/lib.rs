//! The history of a run, for people: terminal tables and one self-contained HTML page.
//!
//! # The problem
//!
//! A run that has gone on overnight leaves hundreds of decisions. Someone has to see in a minute what was gained,
//! what was turned down and why, and whether to believe it; and has to see it where they are: in a narrow terminal
//! over a slow line, in a log file, in a browser, on paper. The words in that history are partly written by the
//! programs under judgement, so a report must not become a way to talk to the reader's terminal or browser.
//!
//! # The concept
//!
//! [`RunHistory`] is the run as plain data: where it started, one [`IterationRow`] per candidate with its findings
//! and reasons, where it ended. Whoever runs a run fills it in; its JSON form is a public format. Everything else in
//! this crate is a pure function from that data to a `String`. Nothing here prints, reads files, or looks at the
//! clock or the terminal: width, colour and the time of the report are given.
//!
//! # How the parts fit
//!
//! - [`iteration_table`] lists every candidate, [`metric_table`] every metric, [`iteration_detail`] all about one
//!   iteration, [`status_lines`] and [`gain_summary`] the run in a few lines. [`TableOptions`] gives the width.
//! - [`html_report`] is the page: tables, plots and details, without a script and without a request to anywhere.
//! - [`sample`] is a made-up run to look at.
//!
//! Three rules hold everywhere. A change is shown with its interval, or not shown as known: a gain that was not
//! measured side by side says so in the next sentence. A meaning is never carried by colour alone: there is always a
//! word and a symbol or shape. Every text of a candidate goes through one function that writes out control, invisible
//! and reordering characters as their codes.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use evoseal_report::{
//!     IterationRow, MetricSummary, RowOutcome, RunHistory, TableOptions, VersionRow, gain_summary, html_report,
//!     iteration_table,
//! };
//! use evoseal_types::{Direction, MetricSpec, Objective, Timestamp, VersionId};
//!
//! let time = MetricSpec::new("time", "ms", Direction::Increase)?;
//! let measured = |mean| vec![MetricSummary { spec: time.clone(), mean, interval: None, count: 20 }];
//! let start = VersionId::new("v0")?;
//! let history = RunHistory {
//!     title: "sort".to_owned(),
//!     generated_at: Timestamp::from_unix_ns(120_000_000_000),
//!     objective: Some(Objective { metric: time.name.clone(), direction: Direction::Increase }),
//!     started_at: Timestamp::from_unix_ns(0),
//!     ended_at: None,
//!     stop_reason: None,
//!     baseline: VersionRow {
//!         version_id: start.clone(),
//!         checkpoint: None,
//!         tests_passed: 31,
//!         tests_run: 31,
//!         metrics: measured(20.0),
//!     },
//!     iterations: vec![IterationRow {
//!         iteration: 1,
//!         version_id: VersionId::new("iter-0001")?,
//!         incumbent: start,
//!         change: "insertion sort for <script>short</script> runs\u{1b}[2J".to_owned(),
//!         outcome: RowOutcome::Accepted,
//!         decided_by: "no objection".to_owned(),
//!         notes: Vec::new(),
//!         reasons: vec!["the objective improved and nothing got worse".to_owned()],
//!         safety_score: Some(1.0),
//!         score_terms: Vec::new(),
//!         improvement_score: Some(99.0),
//!         findings: Vec::new(),
//!         metrics: measured(18.0),
//!         tests_passed: 31,
//!         tests_run: 31,
//!         started_at: Timestamp::from_unix_ns(0),
//!         duration: Duration::from_secs(60),
//!         files_changed: 1,
//!         checkpoint: None,
//!     }],
//!     final_version: VersionId::new("iter-0001")?,
//!     final_tree: None,
//!     remeasured: Vec::new(),
//!     unprotected: Vec::new(),
//! };
//!
//! let options = TableOptions { width: Some(80), color: false };
//! let gain = gain_summary(&history, options);
//! assert!(gain.starts_with("time: −10.0 % (20 ms → 18 ms, −2 ms, lower is better)."));
//! assert!(gain.contains("Not measured again side by side"));
//! assert!(iteration_table(&history, options).contains(r"\u{1b}[2J"));
//!
//! let page = html_report(&history);
//! assert!(page.contains("−10") && !page.contains("<script"));
//! # Ok::<(), evoseal_types::Error>(())
//! ```
//!
//! # What it does not do
//!
//! It judges nothing: verdicts, severities and intervals are shown as the detector gave them. It collects nothing:
//! filling in a [`RunHistory`] from stores and journals is the caller's part. It has no live view. A page of many
//! thousand iterations grows with them (three to four kilobytes for each, with three metrics); its plots are thinned
//! and say so.

mod gain;
mod history;
mod html;
mod number;
mod plot;
pub mod sample;
mod terminal;
mod text;

pub use history::{
    IterationRow, MetricSummary, OutcomeCounts, RowOutcome, RunHistory, ScoreTerm, VersionRow,
};
pub use html::html_report;
pub use terminal::{
    TableOptions, gain_summary, iteration_detail, iteration_table, metric_table, status_lines,
};
