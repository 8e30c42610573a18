//! What a pilot says about the noise.

use serde::{Deserialize, Serialize};

use crate::statistics::{check_values, invalid, lag_one_autocorrelation, mean, std_dev, steady_state};
use crate::{Error, Result};

/// How the pilot's samples hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PilotDesign {
    /// The noise was stated, not measured.
    Stated,
    /// Each sample has a process start of its own.
    Samples,
    /// Several samples in each of several process starts: a start counts once.
    Starts,
}

/// The noise of one metric on one machine.
///
/// ```
/// use evoseal_regression::NoiseProfile;
/// let noise = NoiseProfile::of_samples(&[100.0, 104.0, 97.0, 101.0, 99.0])?;
/// assert!((noise.cv - 0.026).abs() < 0.001);
/// // Two starts that differ by far more than the iterations within them: only starts count.
/// let starts = NoiseProfile::of_starts(&[vec![100.0, 100.1, 99.9], vec![110.0, 110.1, 109.9]])?;
/// assert!(starts.cv > 0.06);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NoiseProfile {
    /// Standard deviation over mean of one independent value (one sample, or the mean of one process start).
    pub cv: f64,
    /// How the pilot was laid out.
    pub design: PilotDesign,
    /// How many independent values the pilot had; zero where the noise was stated.
    pub count: usize,
    /// The correlation of neighbouring values; `None` below ten. Above about 0.3 independent samples say too much: measure
    /// in turn.
    pub autocorrelation: Option<f64>,
    /// The smallest step between two different values, over the mean: no smaller change can be seen in a single value.
    /// `None` where all values differ, so that no resolution shows.
    pub resolution: Option<f64>,
}

impl NoiseProfile {
    /// A stated coefficient of variation: positive and finite.
    pub fn stated(cv: f64) -> Result<Self> {
        if !(cv > 0.0 && cv.is_finite()) {
            return Err(invalid("the coefficient of variation", format!("{cv} is not a positive number")));
        }
        Ok(Self { cv, design: PilotDesign::Stated, count: 0, autocorrelation: None, resolution: None })
    }

    /// The noise of independent samples, in the order in which they were measured: three or more, whose mean is not zero
    /// and which scatter.
    pub fn of_samples(values: &[f64]) -> Result<Self> {
        Self::of(values, PilotDesign::Samples, values)
    }

    /// The noise of process starts with several samples each: two starts or more. Between-start and within-start scatter
    /// are both in the scatter of the starts' means, which are taken after the warm-up, as they are for a judgement.
    pub fn of_starts(starts: &[Vec<f64>]) -> Result<Self> {
        let steady_mean = |start: &Vec<f64>| mean(&start[steady_state(start)?.first..]);
        let means: Vec<f64> = starts.iter().map(steady_mean).collect::<Result<_>>()?;
        let all: Vec<f64> = starts.concat();
        Self::of(&means, PilotDesign::Starts, &all)
    }

    fn of(values: &[f64], design: PilotDesign, raw: &[f64]) -> Result<Self> {
        const WHAT: &str = "a pilot";
        check_values(WHAT, values, if design == PilotDesign::Starts { 2 } else { 3 })?;
        let (centre, spread) = (mean(values)?, std_dev(values)?);
        if centre.abs() <= 0.0 {
            return Err(Error::Data {
                what: WHAT,
                needed: "a mean other than zero",
                found: "zero".to_owned(),
            });
        }
        if spread <= 0.0 {
            return Err(Error::Data {
                what: WHAT,
                needed: "values that scatter",
                found: "no spread at all: one sample of each side decides".to_owned(),
            });
        }
        Ok(Self {
            cv: spread / centre.abs(),
            design,
            count: values.len(),
            autocorrelation: (values.len() >= 10).then(|| lag_one_autocorrelation(values)).transpose()?,
            resolution: resolution(raw).map(|step| step / centre.abs()),
        })
    }
}

/// The smallest step between different values, if a tenth of the values or more are ties.
fn resolution(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let steps = sorted.windows(2).map(|pair| pair[1] - pair[0]);
    let ties = steps.clone().filter(|step| *step <= 0.0).count();
    let smallest = steps.filter(|step| *step > 0.0).fold(f64::INFINITY, f64::min);
    (ties * 10 >= values.len() && smallest.is_finite()).then_some(smallest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_timer_and_a_memory_between_samples_are_seen() {
        let coarse: Vec<f64> = (0..20).map(|i| 10.0 + f64::from(i % 3)).collect();
        assert!(
            NoiseProfile::of_samples(&coarse)
                .unwrap()
                .resolution
                .is_some_and(|step| (step - 1.0 / 10.95).abs() < 0.01)
        );
        let slow: Vec<f64> = (0..40).map(|i| 100.0 + (f64::from(i) / 6.0).sin()).collect();
        let noise = NoiseProfile::of_samples(&slow).unwrap();
        assert!(noise.autocorrelation.is_some_and(|r| r > 0.8) && noise.resolution.is_none());
    }

    #[test]
    fn the_warm_up_of_a_start_is_no_noise() {
        let steady = |level: f64| (0..20).map(move |i| level + f64::from(i % 3) * 0.1).collect::<Vec<f64>>();
        let warming = |level: f64, first: f64| [vec![first, level + 40.0], steady(level)].concat();
        let starts = [warming(100.0, 900.0), warming(101.0, 300.0), steady(99.0)];
        let (with, without) = (
            NoiseProfile::of_starts(&starts).unwrap(),
            NoiseProfile::of_starts(&[steady(100.0), steady(101.0), steady(99.0)]).unwrap(),
        );
        assert!((with.cv - without.cv).abs() < 1e-12, "{with:?} {without:?}");
    }

    #[test]
    fn pilots_that_say_nothing_are_refused() {
        for values in [&[1.0, 2.0][..], &[5.0, 5.0, 5.0], &[-1.0, 0.0, 1.0], &[1.0, f64::NAN, 2.0]] {
            assert!(NoiseProfile::of_samples(values).is_err(), "{values:?}");
        }
        assert!(NoiseProfile::of_starts(&[vec![1.0, 2.0]]).is_err());
        assert!(NoiseProfile::of_starts(&[vec![1.0, 2.0], vec![]]).is_err());
        assert!(NoiseProfile::stated(0.0).is_err() && NoiseProfile::stated(f64::INFINITY).is_err());
    }
}
