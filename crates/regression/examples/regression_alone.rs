//! Regression detection alone: no store, no runtime, two lists of numbers and a verdict.
//!
//! Run with `cargo run -p evoseal-regression --example regression_alone`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;

use evoseal_regression::{
    Detector, Measurements, RegressionDetector, RegressionSettings, SeriesSettings, analyze_series,
};
use evoseal_types::{Direction, MetricSamples, MetricSpec};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let latency = MetricSpec::new("latency", "ms", Direction::Increase)?;
    let accuracy = MetricSpec::new("accuracy", "", Direction::Decrease)?;
    let measurements = Measurements {
        incumbent: vec![
            MetricSamples::independent(latency.clone(), &[12.1, 11.8, 12.6, 12.0, 12.3]),
            MetricSamples::independent(accuracy.clone(), &[0.92, 0.91, 0.93, 0.92, 0.92]),
        ],
        candidate: vec![
            MetricSamples::independent(latency, &[15.9, 16.4, 15.7, 16.1, 16.3]),
            MetricSamples::independent(accuracy, &[0.92, 0.92, 0.91, 0.93, 0.92]),
        ],
        paired: false,
        history: BTreeMap::new(),
        baselines: Vec::new(),
        run: None,
    };
    let assessment = RegressionDetector::new(&RegressionSettings::default())?.assess(&measurements)?;
    for finding in &assessment.findings {
        println!("{:>12}  {}", finding.verdict, finding.reason);
    }
    println!("advice: {:?}", assessment.recommendation);

    let nightly = [10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 12.1, 11.9, 12.0, 12.2];
    for change in
        analyze_series(&nightly, Some(Direction::Increase), &SeriesSettings::default())?.change_points
    {
        println!("since run {}: {:.2} instead of {:.2}", change.index, change.after, change.before);
    }
    Ok(())
}
