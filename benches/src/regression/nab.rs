//! The Numenta benchmark.

use std::error::Error;
use std::path::Path;

use evoseal_regression::OnlineAnomalies;

use super::scores::{Scored, losses, numenta};
use super::{Figure, data};

/// Scores the online detector on all files, with one threshold.
pub(super) fn measure(folder: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let mut files = Vec::new();
    for one in data::read(folder, "nab")? {
        let mut detector = OnlineAnomalies::new(None);
        let mut scores = Vec::with_capacity(one.values.len());
        for value in &one.values {
            scores.push(detector.push(*value)?.map_or(0.0, |alarm| alarm.score.abs()));
        }
        files.push(Scored { windows: one.windows, probation: one.probation, scores });
    }
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let (score, threshold) = numenta(&files);
    let lost = losses(&files, threshold);
    let figure =
        |what: &str, value: f64, unit| Figure::new(format!("Numenta benchmark: {what}"), value, unit);
    Ok(vec![
        Figure::new(format!("Numenta benchmark, standard profile, {} files: score", files.len()), score, ""),
        figure("the threshold that gives it", threshold, "sd"),
        figure("windows without an alarm", lost.missed as f64, ""),
        figure("of so many windows", lost.windows as f64, ""),
        figure("lost by them", lost.misses, "points"),
        figure("lost by alarms late in a window", lost.lateness, "points"),
        figure("lost by false alarms", lost.false_alarms, "points"),
    ])
}
