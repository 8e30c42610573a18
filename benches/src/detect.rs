//! One call of the regression detector, beside the published figures of the first implementation.

use std::error::Error;
use std::time::Instant;

use evoseal_regression::{Detector, Measurements, RegressionDetector, RegressionSettings};
use evoseal_tests::measure::Summary;
use evoseal_types::{Direction, MetricSamples, MetricSpec};

use crate::Figures;

/// What the first implementation of the published description takes for six metrics, in milliseconds, by points of history.
const FIRST_IMPLEMENTATION_MS: [(usize, f64); 2] = [(10, 1.3), (1_000, 23.0)];

/// Metrics of a candidate.
const METRICS: u32 = 6;
/// Samples per metric and side.
const SAMPLES: u32 = 10;

/// Measures both lengths of history, in turns.
pub(crate) fn measure(smoke: bool) -> Result<Vec<Figures>, Box<dyn Error>> {
    let rounds = if smoke { 3 } else { 301 };
    let detector = RegressionDetector::new(&RegressionSettings::default())?;
    let inputs = FIRST_IMPLEMENTATION_MS.map(|(points, _)| input(points));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (times, input) in times.iter_mut().zip(&inputs) {
            let input = input.as_ref().map_err(ToString::to_string)?;
            let start = Instant::now();
            let assessment = detector.assess(std::hint::black_box(input))?;
            times.push(start.elapsed());
            if assessment.findings.len() != METRICS as usize {
                return Err("a metric was left out".into());
            }
        }
    }
    let lines = times.into_iter().zip(FIRST_IMPLEMENTATION_MS);
    Ok(lines
        .filter_map(|(times, (points, published))| {
            let ours = Summary::of(times)?;
            let theirs = Summary { count: 1, median_ms: published, min_ms: published, max_ms: published };
            Some(Figures {
                task: format!("detection, {METRICS} metrics, {points} points of history"),
                ours,
                peer: Some("first implementation, as published"),
                theirs: Some(theirs),
                ratio: Some(published / ours.median_ms),
            })
        })
        .collect())
}

/// Numbers that scatter like measurements, the same on every machine.
fn input(points: usize) -> Result<Measurements, evoseal_types::Error> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut scattered = move |mean: f64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        mean * (1.0 + 0.02 * ((state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5))
    };
    let mut measurements = Measurements {
        incumbent: Vec::new(),
        candidate: Vec::new(),
        paired: false,
        history: std::collections::BTreeMap::new(),
        baselines: Vec::new(),
        run: None,
    };
    for number in 0..METRICS {
        let spec = MetricSpec::new(format!("metric_{number}"), "ms", Direction::Increase)?;
        let mean = 10.0 * f64::from(number + 1);
        let mut samples = |mean| {
            let values: Vec<f64> = (0..SAMPLES).map(|_| scattered(mean)).collect();
            MetricSamples::independent(spec.clone(), &values)
        };
        measurements.incumbent.push(samples(mean));
        measurements.candidate.push(samples(mean * 1.01));
        measurements.history.insert(spec.name.clone(), (0..points).map(|_| scattered(mean)).collect());
    }
    Ok(measurements)
}
