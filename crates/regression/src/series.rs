//! One series of numbers without any run around it: where its level changes, what stands out, where it goes.

use evoseal_types::Direction;
use serde::{Deserialize, Serialize};

use crate::anomaly::outliers;
use crate::change_point::{self, ChangePoint, ChangePointMethod, prepare, search_prepared};
use crate::statistics::{check_level, linear_prediction, linear_trend, mann_kendall, theil_sen};
use crate::{Anomaly, Error, Interval, OnlineAnomalies, OnlineChanges, Result, TrendDirection};

/// How a series is searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeriesSettings {
    /// How changes of level are searched; `auto`.
    pub method: ChangePointMethod,
    /// From which modified z-score on a value is an outlier of its segment, above 0; 3.5 after Iglewicz and Hoaglin. In a long
    /// series it takes more, so that its length alone makes no outliers.
    pub outlier_threshold: f64,
    /// The confidence level of the trend, between 0 and 1; 0.95.
    pub confidence_level: f64,
}

impl Default for SeriesSettings {
    fn default() -> Self {
        Self { method: ChangePointMethod::Auto, outlier_threshold: 3.5, confidence_level: 0.95 }
    }
}

/// What was found in a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesReport {
    /// Where the level changes, in order.
    pub change_points: Vec<ChangePoint>,
    /// Values that stand out, in order; with a direction, only those on its harmful side.
    pub anomalies: Vec<Anomaly>,
    /// Where the last segment goes; `None` below four values.
    pub trend: Option<SeriesTrend>,
}

/// Where the values since the last change go.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SeriesTrend {
    /// The index of the first value that it describes.
    pub start: usize,
    /// Increasing or decreasing if the Mann-Kendall test says so at the confidence level, else stable.
    pub direction: TrendDirection,
    /// The Theil-Sen slope per value.
    pub slope: f64,
    /// Its interval.
    pub slope_interval: Interval,
    /// The p-value of the Mann-Kendall test, corrected for autocorrelation after Hamed and Rao.
    pub p_value: f64,
    /// The share of the variance that the least squares line explains.
    pub r_squared: f64,
    /// The next value, if the least squares line goes on.
    pub predicted_next: f64,
    /// The interval of that value.
    pub prediction_interval: Interval,
}

/// Searches a finished series, oldest value first.
///
/// Changes are those of [`change_points`](crate::change_points). Anomalies are spikes and drops of up to three values, judged
/// by their modified z-scores among up to fifty values before and after them in the same segment (of at least nine values), themselves
/// left out and a season taken away; the chance of any in independent normal noise is at most a hundredth. The
/// trend is that of the values since the last change. At least two values, at most [`SERIES_LEN_MAX`](crate::SERIES_LEN_MAX).
///
/// ```
/// use evoseal_regression::{SeriesSettings, analyze_series};
/// use evoseal_types::Direction;
/// let latency = [10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 12.1, 11.9, 12.0, 12.2];
/// let report = analyze_series(&latency, Some(Direction::Increase), &SeriesSettings::default())?;
/// let found: Vec<_> = report.change_points.iter().map(|change| (change.index, change.is_harmful)).collect();
/// assert_eq!(found, [(6, Some(true))]);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn analyze_series(
    values: &[f64],
    direction: Option<Direction>,
    settings: &SeriesSettings,
) -> Result<SeriesReport> {
    check(values, settings)?;
    let mut report = SeriesReport { change_points: Vec::new(), anomalies: Vec::new(), trend: None };
    if let Some(mut prepared) = prepare(values) {
        report.change_points = search_prepared(values, &mut prepared, direction, settings.method);
        let starts: Vec<usize> =
            [0].into_iter().chain(report.change_points.iter().map(|change| change.index)).collect();
        report.anomalies = outliers(&prepared, &starts, settings.outlier_threshold);
        report
            .anomalies
            .retain(|anomaly| direction.is_none_or(|direction| anomaly.score * direction.harm_sign() > 0.0));
    }
    report.trend = trend(values, &report.change_points, settings.confidence_level)?;
    Ok(report)
}

/// Searches a series as if its values arrived one by one: each is judged by those before it alone.
///
/// Changes are those of [`OnlineChanges`]: `index` is where the level changed, which lies before the value that made it certain.
/// Anomalies are those of [`OnlineAnomalies`]. The trend describes the values since the last change. Of the settings only the
/// confidence level matters.
///
/// ```
/// use evoseal_regression::{SeriesSettings, analyze_series_online};
/// let values: Vec<f64> = (0..60).map(|i| if i < 40 { 5.0 } else { 9.0 } + f64::from(i % 4) * 0.1).collect();
/// let report = analyze_series_online(&values, None, &SeriesSettings::default())?;
/// assert_eq!(report.change_points[0].index, 40);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn analyze_series_online(
    values: &[f64],
    direction: Option<Direction>,
    settings: &SeriesSettings,
) -> Result<SeriesReport> {
    check(values, settings)?;
    let (mut changes, mut anomalies) = (OnlineChanges::new(direction), OnlineAnomalies::new(direction));
    let mut report = SeriesReport { change_points: Vec::new(), anomalies: Vec::new(), trend: None };
    for value in values {
        report.change_points.extend(changes.push(*value)?);
        report.anomalies.extend(anomalies.push(*value)?);
    }
    report.trend = trend(values, &report.change_points, settings.confidence_level)?;
    Ok(report)
}

fn check(values: &[f64], settings: &SeriesSettings) -> Result<()> {
    change_point::check(values, settings.method)?;
    check_level(settings.confidence_level)?;
    if !(settings.outlier_threshold.is_finite() && settings.outlier_threshold > 0.0) {
        let reason = "it must be a finite number above 0".to_owned();
        return Err(Error::Invalid { what: "outlier_threshold".to_owned(), reason });
    }
    Ok(())
}

/// The trend since the last change.
fn trend(values: &[f64], changes: &[ChangePoint], level: f64) -> Result<Option<SeriesTrend>> {
    let start = changes.last().map_or(0, |change| change.index);
    let last = &values[start..];
    if last.len() < 4 {
        return Ok(None);
    }
    let (line, robust, test) = (linear_trend(last, level)?, theil_sen(last, level)?, mann_kendall(last)?);
    let direction = match (test.p_value < 1.0 - level, test.s > 0.0) {
        (false, _) => TrendDirection::Stable,
        (true, true) => TrendDirection::Increasing,
        (true, false) => TrendDirection::Decreasing,
    };
    Ok(Some(SeriesTrend {
        start,
        direction,
        slope: robust.slope,
        slope_interval: robust.interval,
        p_value: test.p_value,
        r_squared: line.r_squared,
        predicted_next: line.predicted_next,
        prediction_interval: linear_prediction(last, 1, level)?,
    }))
}
