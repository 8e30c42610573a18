//! E-processes: evidence that may be looked at after every value.

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::Result;
use crate::statistics::invalid;

/// The precision `g` of the half-normal prior over the standardised effect `mean / standard deviation`: one, so that effects
/// from a third of a standard deviation to three lose little evidence against the best prior for each.
pub(crate) const EFFECT_PRECISION: f64 = 1.0;

/// The logarithm of the one-sided mixture t e-value for "the mean is at most zero", after `n` values with t statistic `t`.
///
/// The likelihood ratio of the t statistic is averaged over a half-normal prior on the standardised effect,
/// `|N(0, 1 / g)|`, and over the right Haar prior on the scale (Robbins 1970; Lai 1976; Wang and Ramdas 2024,
/// "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance"; Perez-Ortiz, Lardy, de Heide
/// and Grünwald 2024, "E-statistics, group invariance and anytime-valid testing"):
///
/// `E = 2 P sqrt(g / (g + n)) ((1 + t^2 / v) / (1 + (t^2 / v) g / (g + n)))^(n / 2)`, `v = n - 1`,
///
/// where `P` is the posterior probability of a positive mean: Student's distribution function with n degrees of freedom
/// at `t n / sqrt((n + g) (v + t^2 g / (n + g)))`. Under a normal mean of zero it is a martingale in n whatever the
/// variance; it rises with t, and a lower mean lowers every t of the same noise, so by Ville's inequality the chance that
/// it ever reaches `1 / alpha` is at most `alpha` for every mean at or below zero.
///
/// With fewer than two values there is no evidence: zero.
pub(crate) fn t_evidence(n: usize, t: f64) -> Result<f64> {
    if n < 2 {
        return Ok(0.0);
    }
    // Beyond this t evidence is what it is at infinity.
    let t = t.clamp(-1e12, 1e12);
    let (g, n, v) = (EFFECT_PRECISION, n as f64, n as f64 - 1.0);
    let (ratio, shrink) = (t * t / v, g / (g + n));
    let two_sided = 0.5 * shrink.ln() + 0.5 * n * (ratio.ln_1p() - (ratio * shrink).ln_1p());
    let place = t * n / ((n + g) * (v + t * t * shrink)).sqrt();
    let student =
        StudentsT::new(0.0, 1.0, n).map_err(|error| invalid("degrees of freedom", error.to_string()))?;
    let positive = student.cdf(place).max(f64::MIN_POSITIVE);
    Ok(std::f64::consts::LN_2 + positive.ln() + two_sided)
}

/// The t statistic from which on [`t_evidence`] after `n` values reaches `1 / alpha`: the boundary of the confidence
/// sequence. `None` where no statistic does, with fewer than two values.
pub(crate) fn t_boundary(n: usize, alpha: f64) -> Result<Option<f64>> {
    if n < 2 {
        return Ok(None);
    }
    let wanted = -alpha.ln();
    let mut high = 1.0;
    while t_evidence(n, high)? < wanted {
        high *= 2.0;
        // With two values the evidence is bounded: no statistic reaches a small level.
        if high > 1e12 {
            return Ok(None);
        }
    }
    let mut low = 0.0;
    // Halving 60 times leaves nothing of the first interval but rounding.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if t_evidence(n, middle)? < wanted { low = middle } else { high = middle }
    }
    Ok(Some(high))
}

/// The bets of [`bounded_evidence`], as shares of the largest that can never lose everything.
const BETS: [f64; 8] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.98];

/// The logarithm of a betting e-value for "the mean is at most zero" of values between -2 and 2.
///
/// The average over fixed bets of the capital `prod(1 + bet z / 2)` (Waudby-Smith and Ramdas 2024, "Estimating means of
/// bounded random variables by betting", section 4.2). Nothing is assumed but the bounds and that each value's mean given
/// the earlier ones is at most zero: exact after every value, for every distribution.
pub(crate) fn bounded_evidence(values: impl Iterator<Item = f64>) -> f64 {
    let mut capitals = [0.0_f64; BETS.len()];
    for value in values {
        for (capital, bet) in capitals.iter_mut().zip(BETS) {
            *capital += (bet * value / 2.0).ln_1p();
        }
    }
    log_mean_exp(&capitals)
}

/// `ln(mean(exp(x)))` without overflow.
pub(crate) fn log_mean_exp(logs: &[f64]) -> f64 {
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        return largest;
    }
    let sum: f64 = logs.iter().map(|log| (log - largest).exp()).sum();
    largest + (sum / logs.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Integrates the density ratio of the t statistic over the prior by brute force.
    fn by_quadrature(n: f64, t: f64) -> f64 {
        let simpson = |low: f64, high: f64, f: &dyn Fn(f64) -> f64| {
            let (steps, width) = (2000, (high - low) / 2000.0);
            let weight = |i: i32| {
                if i == 0 || i == steps {
                    1.0
                } else if i % 2 == 1 {
                    4.0
                } else {
                    2.0
                }
            };
            (0..=steps).map(|i| weight(i) * f(low + f64::from(i) * width)).sum::<f64>() * width / 3.0
        };
        // Of n values with sum of squares 1 the density of the direction is the integral over the scale u.
        let sum = t * (n / (n - 1.0 + t * t)).sqrt();
        let marginal = |delta: f64| {
            simpson(1e-9, 14.0, &|u| {
                ((n - 1.0) * u.ln() - u * u / 2.0 + delta * u * sum - n * delta * delta / 2.0).exp()
            })
        };
        let prior = |delta: f64| 2.0 * (-delta * delta / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        simpson(0.0, 9.0, &|delta| prior(delta) * marginal(delta)) / marginal(0.0)
    }

    #[test]
    fn the_closed_form_is_the_integral_over_effect_and_scale() {
        for (n, t) in [(2, 1.0), (3, -0.7), (5, 2.5), (10, 4.0), (10, -2.0), (24, 1.3)] {
            let (closed, integral) = (t_evidence(n, t).unwrap().exp(), by_quadrature(n as f64, t));
            assert!((closed / integral - 1.0).abs() < 1e-6, "{n} {t}: {closed} {integral}");
        }
    }

    #[test]
    fn the_boundary_is_where_the_evidence_suffices() {
        for (n, alpha) in [(5, 0.05), (20, 0.025), (100, 1e-6)] {
            let boundary = t_boundary(n, alpha).unwrap().unwrap();
            assert!((t_evidence(n, boundary).unwrap() + alpha.ln()).abs() < 1e-9);
        }
        assert_eq!(t_boundary(1, 0.05).unwrap(), None);
        assert_eq!(t_boundary(2, 1e-6).unwrap(), None);
    }

    #[test]
    fn evidence_rises_with_the_statistic_and_ends_finite() {
        let mut last = f64::NEG_INFINITY;
        for t in [f64::NEG_INFINITY, -1e9, -30.0, -3.0, 0.0, 1.0, 5.0, 1e3, 1e9] {
            let evidence = t_evidence(8, t).unwrap();
            assert!(evidence >= last - 1e-9, "{t}: {evidence} after {last}");
            last = evidence;
        }
    }

    #[test]
    fn bets_gain_on_a_positive_mean_and_never_lose_all() {
        assert!(bounded_evidence([1.0; 40].into_iter()) > 10.0);
        let lost = bounded_evidence([-2.0; 40].into_iter());
        assert!(lost < 0.0 && lost.is_finite());
    }
}
