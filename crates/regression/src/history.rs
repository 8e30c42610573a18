//! The candidate against the history of accepted versions.

use evoseal_types::Direction;

use crate::config::Config;
use crate::settings::AnomalyAlgorithm;
use crate::statistics::{iqr, linear_trend, modified_zscore, pattern_spike, prediction_interval, zscore};
use crate::{Anomaly, Result, Trend};

/// What the history says about a candidate's value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HistoryView {
    /// In the harmful direction only.
    pub(crate) anomalies: Vec<Anomaly>,
    pub(crate) trend: Option<Trend>,
    /// Whether the value lies outside the prediction interval on the harmful side.
    pub(crate) is_beyond_prediction: bool,
}

impl HistoryView {
    /// Whether a regression is worse than its size alone says.
    pub(crate) fn raises_severity(&self) -> bool {
        self.is_beyond_prediction || !self.anomalies.is_empty()
    }
}

/// Looks at `history`, oldest first, which does not contain `value`; `None` leaves the value out of it. Values that are
/// no numbers are passed over. Each method is used only where the history is long enough for it.
pub(crate) fn look(
    history: &[f64],
    value: Option<f64>,
    direction: Direction,
    config: &Config,
) -> Result<HistoryView> {
    let finite: Vec<f64> = history.iter().copied().filter(|value| value.is_finite()).collect();
    let settings = &config.statistics;
    let newest = |count: usize| &finite[finite.len().saturating_sub(count)..];
    let mut view = HistoryView::default();
    let line = newest(settings.trend_window);
    if settings.enable_trend_analysis && line.len() >= 3 {
        view.trend = Some(linear_trend(line, settings.confidence_level)?);
    }
    let Some(value) = value else { return Ok(view) };
    let reference = newest(settings.trend_window.saturating_mul(2));
    if config.use_statistics && reference.len() >= settings.min_samples {
        let next = prediction_interval(reference, settings.confidence_level)?;
        view.is_beyond_prediction = match direction {
            Direction::Increase => value > next.high,
            Direction::Decrease => value < next.low,
        };
    }
    view.anomalies = anomalies(reference, value, config)?;
    view.anomalies.retain(|anomaly| anomaly.score * direction.harm_sign() > 0.0);
    for anomaly in &mut view.anomalies {
        anomaly.index = history.len();
    }
    Ok(view)
}

/// The limit of Iglewicz and Hoaglin (1993).
const MODIFIED_Z_LIMIT: f64 = 3.5;

/// Runs the configured methods on one value, in a fixed order.
pub(crate) fn anomalies(reference: &[f64], value: f64, config: &Config) -> Result<Vec<Anomaly>> {
    let Some(settings) = &config.anomalies else { return Ok(Vec::new()) };
    let uses = |algorithm| settings.algorithms.contains(&algorithm);
    let mut found = Vec::new();
    if uses(AnomalyAlgorithm::Zscore) && reference.len() >= 3.max(config.statistics.min_samples) {
        found.extend(zscore(reference, value, config.statistics.outlier_threshold)?);
    }
    if uses(AnomalyAlgorithm::Iqr) && reference.len() >= 4 {
        found.extend(iqr(reference, value)?);
    }
    if uses(AnomalyAlgorithm::Mad) && reference.len() >= 4 {
        found.extend(modified_zscore(reference, value, MODIFIED_Z_LIMIT)?);
    }
    if settings.pattern_recognition && reference.len() >= 4 {
        found.extend(pattern_spike(reference, value, settings.sensitivity.step())?);
    }
    Ok(found)
}
