//! By how much the mean of a step scatters, and how far it depends on the steps before it.

use serde::{Deserialize, Serialize};

use super::Moments;

/// How many degrees of freedom the scatter within steps must have before it is trusted.
const DEGREES_LEAST: f64 = 60.0;

/// How many differences between steps must show that it explains how steps scatter, before anything is concluded.
const DIFFERENCES_LEAST: f64 = 8.0;

/// How many differences stand in for it where steps have single values.
const DIFFERENCES_ALONE: f64 = 30.0;

/// From how many standard errors on steps scatter more than the values within them explain.
///
/// This and [`DOUBT`] were chosen by `evoseal detect simulate drift`: one quarter more lets less than 99 percent of the drifts
/// in independent noise be caught in time, one quarter less blames more than one in twenty flat runs of an autoregression of 0.5 with two or three
/// values a step.
const UNEXPLAINED: f64 = 2.0;

/// How many standard errors the dependence between steps is taken to be larger than it was measured, once there may be one.
const DOUBT: f64 = 1.0;

/// The largest dependence between steps that is counted. What wanders more slowly is a drift.
const DEPENDENCE_MAX: f64 = 0.9;

/// The share of the differences between neighbours that are degrees of freedom: von Neumann's estimate has about two thirds.
const FREEDOM_SHARE: f64 = 2.0 / 3.0;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub(super) mean: f64,
    /// The mean has the variance `v / count` where values are independent.
    pub(super) count: f64,
    /// The sum of squares within the step, which estimates `v` times `degrees_of_freedom`.
    pub(super) squares: f64,
    pub(super) degrees_of_freedom: f64,
}

impl From<Moments> for Step {
    fn from(of: Moments) -> Self {
        let Moments { count, mean, squares } = of;
        Self { mean, count, squares, degrees_of_freedom: of.degrees_of_freedom() }
    }
}

/// The variance of one value that makes the means of many steps as uncertain as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LongRunVariance {
    pub(super) variance: f64,
    pub(super) degrees_of_freedom: f64,
}

/// What the steps so far say about their scatter, in fixed size.
///
/// While steps scatter no more than the values within them explain, there is no room for a dependence between steps, and the
/// pooled variance within steps is the answer. Otherwise, and for single values, it comes from the differences between
/// neighbouring steps, around their mean, which a drift hardly moves: their mean square (von Neumann 1941) is `g (1 - phi)` and
/// their own autocorrelation at lag one is `-(1 - phi) / 2`, where the means of steps are a first-order autoregression with
/// the variance `g` and the coefficient `phi`. Its long-run variance is `g (1 + phi) / (1 - phi)`, with the upper limit of `phi`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    within: f64,
    degrees_of_freedom: f64,
    /// How many standardised differences between neighbouring steps, their sum and that of their squares.
    differences: f64,
    sum: f64,
    squares: f64,
    /// The sum of products of neighbouring differences.
    products: f64,
    /// The mean and the count of the last step, and its standardised difference from the one before it.
    last: Option<(f64, f64)>,
    last_difference: Option<f64>,
}

impl Spread {
    /// Learns from the next step.
    pub(super) fn take(&mut self, step: Step) {
        self.within += step.squares;
        self.degrees_of_freedom += step.degrees_of_freedom;
        if let Some((mean, count)) = self.last {
            let difference = (step.mean - mean) / (1.0 / step.count + 1.0 / count).sqrt();
            self.sum += difference;
            self.squares += difference * difference;
            self.differences += 1.0;
            self.products += self.last_difference.map_or(0.0, |before| before * difference);
            self.last_difference = Some(difference);
        }
        self.last = Some((step.mean, step.count));
    }

    /// Goes on at another level, where variances are so many times larger: the next step has no neighbour, and the trend up to here
    /// none after it.
    pub(super) fn rescale(&mut self, factor: f64) {
        let trend = self.trend();
        self.within *= factor;
        self.sum = 0.0;
        self.squares = (self.squares - trend).max(0.0) * factor;
        self.products = (self.products - trend) * factor;
        self.last = None;
        self.last_difference = None;
    }

    /// The variance, with the scatter within `next` but not its difference from the last step; `None` while it is unknown.
    pub(super) fn with(&self, next: Step) -> Option<LongRunVariance> {
        let within = self.within + next.squares;
        let degrees_of_freedom = self.degrees_of_freedom + next.degrees_of_freedom;
        if within <= 0.0 || degrees_of_freedom <= 0.0 {
            return (self.differences >= DIFFERENCES_ALONE && self.successive() > 0.0)
                .then(|| self.between());
        }
        if degrees_of_freedom < DEGREES_LEAST || self.differences < DIFFERENCES_LEAST {
            return None;
        }
        let variance = within / degrees_of_freedom;
        let dispersion = self.successive() / variance;
        // One standard error of the dispersion is about sqrt(3 / n).
        let is_explained = dispersion <= 1.0 + UNEXPLAINED * (3.0 / self.differences).sqrt();
        Some(if is_explained { LongRunVariance { variance, degrees_of_freedom } } else { self.between() })
    }

    /// What a steady trend adds to the sums of squares and products.
    fn trend(&self) -> f64 {
        self.sum * self.sum / self.differences.max(1.0)
    }

    /// The mean square of the differences around their mean, of which the levels at both ends alone decide.
    fn successive(&self) -> f64 {
        (self.squares - self.trend()).max(0.0) / self.differences
    }

    /// The variance from the differences between steps.
    fn between(&self) -> LongRunVariance {
        let (n, mean_square) = (self.differences, self.successive());
        let correlation = (self.products - self.trend()) / (n - 1.0) / mean_square;
        // The correlation of differences of independent values, -1/2, is estimated with the variance 1 / 2 n (Bartlett 1946).
        let error = (2.0 / n).sqrt();
        let phi = (1.0 + 2.0 * correlation + DOUBT * error).clamp(0.0, DEPENDENCE_MAX);
        LongRunVariance {
            variance: mean_square * (1.0 + phi) / (1.0 - phi).powi(2),
            degrees_of_freedom: n * FREEDOM_SHARE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{NoiseKind, NoiseSource};

    fn spread_of(kind: NoiseKind, samples: usize, steps: usize, slope: f64) -> Spread {
        let mut source = NoiseSource::new(kind, 3, 0);
        let mut spread = Spread::default();
        for step in 0..steps {
            let values = source.values(samples, 10.0 + slope * step as f64, 0.1);
            spread.take(Moments::of(&values).into());
        }
        spread
    }

    /// The estimate after the steps, with one more that says nothing.
    fn variance(spread: Spread) -> Option<f64> {
        let nothing = Step { mean: 0.0, count: 1.0, squares: 0.0, degrees_of_freedom: 0.0 };
        spread.with(nothing).map(|long_run| long_run.variance)
    }

    #[test]
    fn independent_values_have_the_variance_within_steps_even_while_they_drift() {
        for slope in [0.0, 0.001] {
            let found = variance(spread_of(NoiseKind::Normal, 10, 400, slope)).unwrap();
            assert!((found - 1.0).abs() < 0.08, "{slope}: {found}");
        }
    }

    #[test]
    fn an_autoregression_has_its_long_run_variance_or_more() {
        // (1 + 0.7) / (1 - 0.7) = 5.67. Means of few samples are no autoregression of the first order, and are given more.
        for (samples, most) in [(1, 8.0), (3, 15.0), (10, 9.0)] {
            let found = variance(spread_of(NoiseKind::Autoregressive, samples, 5000, 0.0)).unwrap();
            assert!(found > 5.0 && found < most, "{samples}: {found}");
        }
    }

    #[test]
    fn a_steep_trend_is_no_scatter() {
        let flat = variance(spread_of(NoiseKind::Normal, 1, 200, 0.0)).unwrap();
        let mut steep = Spread::default();
        let mut source = NoiseSource::new(NoiseKind::Normal, 3, 0);
        for step in 0..200 {
            steep.take(Moments::of(&[source.value(10.0, 0.1) + 20.0 * f64::from(step)]).into());
        }
        let steep = variance(steep).unwrap();
        assert!((steep / flat - 1.0).abs() < 0.1, "{flat} {steep}");
    }

    #[test]
    fn nothing_is_concluded_from_few_steps_or_few_values() {
        assert!(variance(spread_of(NoiseKind::Normal, 10, 8, 0.0)).is_none());
        assert!(variance(spread_of(NoiseKind::Normal, 10, 9, 0.0)).is_some());
        assert!(variance(spread_of(NoiseKind::Normal, 2, 39, 0.0)).is_none());
        assert!(variance(spread_of(NoiseKind::Normal, 1, 30, 0.0)).is_none());
        assert!(variance(spread_of(NoiseKind::Normal, 1, 31, 0.0)).is_some());
    }
}
