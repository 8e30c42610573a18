//! The Numenta benchmark.

use std::error::Error;
use std::path::Path;

use evoseal_regression::OnlineAnomalies;

use super::scores::{Scored, numenta};
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
    Ok(vec![
        Figure::new(format!("Numenta benchmark, standard profile, {} files: score", files.len()), score, ""),
        Figure::new("Numenta benchmark: the threshold that gives it", threshold, "sd"),
    ])
}
