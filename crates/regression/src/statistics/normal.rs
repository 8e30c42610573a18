//! The standard normal distribution: its tails, its quantiles, and what scales are measured by.

use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::erf::{erfc, erfc_inv};

/// The 0.75 quantile: half of all absolute values lie below, so that a median absolute deviation over it estimates the standard
/// deviation (Hampel 1974).
pub(crate) const MEDIAN_ABSOLUTE: f64 = 0.674_489_750_196_081_7;

/// `sqrt(2 / pi)`, the mean absolute value.
pub(crate) const MEAN_ABSOLUTE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;

/// The probability that a value exceeds `z`.
pub(crate) fn normal_tail(z: f64) -> f64 {
    Normal::standard().sf(z)
}

/// The number below which a value lies with probability `p`.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

/// The probability that a value lies farther than `z` from zero; that chi squared with one degree of freedom exceeds `z^2`.
pub(crate) fn normal_outside(z: f64) -> f64 {
    erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// The distance from zero that a value exceeds with this probability, on either side.
pub(crate) fn normal_limit(chance: f64) -> f64 {
    std::f64::consts::SQRT_2 * erfc_inv(chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_tails_are_those_of_the_distribution() {
        assert!((normal_quantile(0.75) - MEDIAN_ABSOLUTE).abs() < 1e-12);
        assert!((MEAN_ABSOLUTE - 0.797_884_560_802_865_4).abs() < 1e-15);
        // scipy.stats.norm.sf(3) and .isf(0.0005)
        let outside = normal_outside(-3.0) / 2.0;
        assert!((outside - 0.001_349_898_031_630_095_7).abs() < 1e-13, "{outside:e}");
        assert!((normal_tail(3.0) - normal_outside(3.0) / 2.0).abs() < 1e-15);
        assert!((normal_limit(0.001) - 3.290_526_731_491_925_5).abs() < 1e-12);
    }
}
