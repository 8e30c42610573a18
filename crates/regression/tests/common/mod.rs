//! Builders of measurements and noise.
#![allow(dead_code, reason = "each test file uses some of these")]
#![allow(unreachable_pub, reason = "a module of tests")]

use std::collections::BTreeMap;

use evoseal_regression::{Detector, Finding, Measurements, RegressionDetector, RegressionSettings};
use evoseal_types::{Direction, MetricName, MetricSamples, MetricSpec};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub fn spec(name: &str, direction: Direction) -> MetricSpec {
    MetricSpec::new(name, "", direction).expect("a valid name")
}

pub fn side(name: &str, direction: Direction, values: &[f64]) -> MetricSamples {
    MetricSamples::independent(spec(name, direction), values)
}

pub fn measurements(incumbent: Vec<MetricSamples>, candidate: Vec<MetricSamples>) -> Measurements {
    Measurements {
        incumbent,
        candidate,
        paired: false,
        history: BTreeMap::new(),
        baselines: Vec::new(),
        run: None,
    }
}

/// One metric, old and new values.
pub fn two(name: &str, direction: Direction, old: &[f64], new: &[f64]) -> Measurements {
    measurements(vec![side(name, direction, old)], vec![side(name, direction, new)])
}

pub fn with_history(mut measurements: Measurements, metric: &str, history: &[f64]) -> Measurements {
    measurements.history.insert(MetricName::new(metric).expect("a valid name"), history.to_vec());
    measurements
}

pub fn standard() -> RegressionDetector {
    RegressionDetector::new(&RegressionSettings::default()).expect("the defaults are valid")
}

/// Settings as a user writes them.
pub fn from_toml(text: &str) -> evoseal_regression::Result<RegressionDetector> {
    RegressionDetector::new(&toml::from_str(text).expect("well-formed settings"))
}

/// The only finding.
#[track_caller]
pub fn judge(detector: &dyn Detector, measurements: &Measurements) -> Finding {
    let mut findings = detector.assess(measurements).expect("an assessment").findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings.remove(0)
}

/// Noise from a recorded seed.
pub struct Noise(ChaCha8Rng);

impl Noise {
    pub fn seeded(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A standard normal number (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (self.0.random(), self.0.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    pub fn normals(&mut self, count: usize, mean: f64, std_dev: f64) -> Vec<f64> {
        (0..count).map(|_| mean + std_dev * self.normal()).collect()
    }
}
