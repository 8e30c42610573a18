//! stub
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
pub use terminal::{TableOptions, gain_summary, iteration_detail, iteration_table, metric_table, status_lines};
