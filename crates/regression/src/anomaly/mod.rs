//! Values of a finished series that stand out from those around them.

mod outliers;
mod pattern;

pub(crate) use outliers::outliers;
pub use pattern::{Pattern, PatternKind, patterns};

use crate::statistics::normal_limit;

/// The chance that a series of independent normal noise has any outlier at all.
const FALSE_ALARM: f64 = 0.01;

/// From how many standard deviations on a value of a series of `n` stands out: `least`, or more in a long series, so that the
/// chance of any outlier among independent normal values stays at most a hundredth: `z(1 - 0.005 / n)`.
pub(crate) fn adaptive_limit(least: f64, n: usize) -> f64 {
    let z = normal_limit(FALSE_ALARM / n.max(1) as f64);
    least.max(z)
}

#[cfg(test)]
mod tests {
    use super::adaptive_limit;

    #[test]
    fn the_limit_grows_with_the_length() {
        assert!((adaptive_limit(3.5, 10) - 3.5).abs() < f64::EPSILON);
        // scipy.stats.norm.isf(0.005 / 10_000)
        assert!(
            (adaptive_limit(3.5, 10_000) - 4.891_638_475_698_591).abs() < 1e-9,
            "{}",
            adaptive_limit(3.5, 10_000)
        );
    }
}
