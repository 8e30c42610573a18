//! Fieller's interval for a ratio of means, with Welch's or the pairs' degrees of freedom.

use super::{Analyzer, Comparison, Estimate, point};
use crate::statistics::{
    Dependence, mean, power_of_two_below, satterthwaite, t_quantile, t_tail, trimmed_mean, welch_freedom,
};
use crate::{Interval, Result};

/// The standard method: the interval for the relative change of the mean after Fieller (1954).
///
/// For a ratio `rho` of new to old mean, `mean(y) - rho mean(x)` has mean zero and the estimated variance
/// `vyy - 2 rho vxy + rho^2 vxx`, where `vxx` and `vyy` are squared standard errors and `vxy` is the covariance of the
/// means. The interval holds every `rho` with `(mean(y) - rho mean(x))^2 <= t^2 (vyy - 2 rho vxy + rho^2 vxx)`, minus
/// one. Unlike a difference divided by the old mean, it counts the noise of the old mean as well.
///
/// - *Independent samples:* `vxy = 0`, and t has Satterthwaite's degrees of freedom at the estimated ratio (Tamhane and
///   Logan 2004). The p-value is that of Welch's test. Method `welch_t`.
/// - *Pairs:* `vxy` is estimated from the pairs, and t has n - 1 degrees of freedom. The p-value is that of the paired
///   t-test. Method `paired_t`.
///
/// Assumes that the samples (the pairs) are independent and their means about normal. At least two values on each side.
/// Two constant sides are compared exactly: an interval of no width, no p-value, method `exact`. Where the old mean is
/// zero the interval is that of the difference of means. Where the old mean is so noisy that it cannot be told from zero,
/// the relative change has no bounded interval: if the new mean can be told from zero, the interval is bounded on one side
/// only, assuming that the true old mean has the sign of the measured one; else it spans all floats.
///
/// ```
/// use evoseal_regression::{Analyzer, Comparison, TInterval};
/// // The machine drifts by ten percent while both are measured in turn: only the pairs see the difference.
/// let (old, new) = ([100.0, 104.0, 108.0, 112.0], [106.0, 110.4, 114.4, 118.8]);
/// let comparison = Comparison { incumbent: &old, candidate: &new, paired: true, level: 0.95 };
/// assert!(TInterval.analyze(&comparison)?.interval.low > 0.055);
/// let unpaired = Comparison { paired: false, ..comparison };
/// assert!(TInterval.analyze(&unpaired)?.interval.low < 0.0);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TInterval;

impl Analyzer for TInterval {
    fn name(&self) -> &'static str {
        "t_interval"
    }

    fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate> {
        comparison.check("an interval for the change of a mean", 2)?;
        if comparison.is_exact() {
            return point(comparison, "exact", comparison.level);
        }
        let method = if comparison.paired { "paired_t" } else { "welch_t" };
        t_estimate(comparison, Freedom::Satterthwaite, method)
    }
}

/// How location, its error and the degrees of freedom are estimated.
#[derive(Debug, Clone, Copy)]
pub(super) enum Freedom {
    /// Means, with Satterthwaite's degrees of freedom: what `welch_t` means elsewhere.
    Satterthwaite,
    /// Means, with Welch's own: see [`welch_freedom`].
    Welch,
    /// Means of values that depend on their predecessors.
    Dependent(Dependence),
    /// Trimmed means without this share on either side.
    Trimmed(f64),
}

/// The interval and the p-value of values that scatter.
pub(super) fn t_estimate(
    comparison: &Comparison<'_>,
    freedom: Freedom,
    method: &'static str,
) -> Result<Estimate> {
    let widest = comparison
        .incumbent
        .iter()
        .chain(comparison.candidate)
        .fold(0.0, |widest, value| value.abs().max(widest));
    let scale = power_of_two_below(widest);
    let means = Means::of(comparison, scale, freedom)?;
    let ratio = if means.x.abs() > 0.0 { (means.y / means.x).abs() } else { 1.0 };
    let at_ratio = means.degrees_of_freedom(ratio, freedom);
    let at_ratio = if at_ratio.is_finite() { at_ratio } else { means.degrees_of_freedom(1.0, freedom) };
    let (low, high) = means.change_interval(t_quantile(comparison.level, at_ratio)?);
    let unit = if means.x.abs() > 0.0 { 1.0 } else { scale };
    let bounded = |value: f64| (value * unit).clamp(f64::MIN, f64::MAX);
    Ok(Estimate {
        old_value: means.x * scale,
        new_value: means.y * scale,
        interval: Interval { low: bounded(low), high: bounded(high), level: comparison.level },
        p_value: means.p_value(freedom)?,
        method,
    })
}

/// Two means and what is known about their errors.
struct Means {
    x: f64,
    y: f64,
    /// Standard errors, and the covariance of the means.
    error_x: f64,
    error_y: f64,
    vxy: f64,
    /// How many values stand behind each mean.
    nx: f64,
    ny: f64,
    paired: bool,
}

impl Means {
    /// In units of `scale`, a power of two, so that no square overflows and no bit is lost.
    fn of(comparison: &Comparison<'_>, scale: f64, freedom: Freedom) -> Result<Self> {
        let (x, y, paired) = (comparison.incumbent, comparison.candidate, comparison.paired);
        let (nx, ny) = (x.len() as f64, y.len() as f64);
        if let Freedom::Trimmed(share) = freedom {
            let (x, y) = (trimmed_mean(x, share)?, trimmed_mean(y, share)?);
            return Ok(Self {
                x: x.mean / scale,
                y: y.mean / scale,
                error_x: x.standard_error / scale,
                error_y: y.standard_error / scale,
                vxy: 0.0,
                nx: x.kept as f64,
                ny: y.kept as f64,
                paired: false,
            });
        }
        let factor = match freedom {
            Freedom::Dependent(dependence) => dependence.error_factor,
            _ => 1.0,
        };
        let (mean_x, mean_y) = (mean(x)? / scale, mean(y)? / scale);
        let squares = |values: &[f64], mean: f64| {
            values.iter().map(|value| (value / scale - mean).powi(2)).sum::<f64>()
        };
        let error =
            |values: &[f64], mean: f64, n: f64| (squares(values, mean) / (n - 1.0) / n * factor).sqrt();
        let (error_x, error_y) = (error(x, mean_x, nx), error(y, mean_y, ny));
        let products = |(old, new): (&f64, &f64)| (old / scale - mean_x) * (new / scale - mean_y);
        let vxy =
            if paired { x.iter().zip(y).map(products).sum::<f64>() / (nx - 1.0) / nx * factor } else { 0.0 };
        Ok(Self { x: mean_x, y: mean_y, error_x, error_y, vxy, nx, ny, paired })
    }

    /// The degrees of freedom of `y - ratio x`; not a number where neither scatters.
    fn degrees_of_freedom(&self, ratio: f64, freedom: Freedom) -> f64 {
        let Self { error_x, error_y, nx, ny, .. } = *self;
        let satterthwaite = || satterthwaite(ratio * error_x, nx, error_y, ny);
        match freedom {
            _ if self.paired && !matches!(freedom, Freedom::Dependent(_)) => nx - 1.0,
            Freedom::Satterthwaite | Freedom::Trimmed(_) => satterthwaite(),
            Freedom::Welch => welch_freedom(ratio * error_x, nx, error_y, ny),
            Freedom::Dependent(dependence) => {
                let independent = if self.paired { nx - 1.0 } else { satterthwaite() };
                (independent * dependence.freedom_factor).max(1.0)
            }
        }
    }

    /// The two-sided p-value of equal means; none where the difference has no error.
    fn p_value(&self, freedom: Freedom) -> Result<Option<f64>> {
        let error = (self.error_x.powi(2) + self.error_y.powi(2) - 2.0 * self.vxy).max(0.0).sqrt();
        let difference = (self.y - self.x).abs();
        // Pairs whose differences are all equal: what is left of their variance is rounding.
        if error <= 1e-15 * self.error_x.max(self.error_y) {
            return Ok(None);
        }
        let tail = t_tail((difference / error).min(f64::MAX), self.degrees_of_freedom(1.0, freedom))?;
        Ok(Some((2.0 * tail).min(1.0)))
    }

    /// The interval of the relative change, or of the difference where the old mean is zero.
    fn change_interval(&self, t: f64) -> (f64, f64) {
        let Self { x, y, error_x, error_y, vxy, .. } = *self;
        if x.abs() <= 0.0 {
            let half = t * (error_x * error_x + error_y * error_y - 2.0 * vxy).max(0.0).sqrt();
            return (y - half, y + half);
        }
        let ratio = y / x;
        let (low, high) = match self.ratio_offsets(ratio, t) {
            Some((low, high)) => (ratio - 1.0 + low, ratio - 1.0 + high),
            None => (f64::MIN, f64::MAX),
        };
        if x > 0.0 { (low, high) } else { (-high, -low) }
    }

    /// How far below and above the estimated `ratio` the interval reaches; `None` if it is unbounded on both sides.
    ///
    /// With `d = rho - ratio` the condition becomes `a d^2 - 2 h d - t^2 v <= 0`, which cancels no leading digits.
    fn ratio_offsets(&self, ratio: f64, t: f64) -> Option<(f64, f64)> {
        let Self { x, y, error_x, error_y, vxy, .. } = *self;
        let v = (error_y.powi(2) - 2.0 * ratio * vxy + (ratio * error_x).powi(2)).max(0.0);
        let a = x * x - (t * error_x).powi(2);
        let h = t * t * (ratio * error_x * error_x - vxy);
        let root = (h * h + a * t * t * v).max(0.0).sqrt();
        if !(v.is_finite() && h.is_finite() && root.is_finite()) {
            return None;
        }
        if a > 0.0 {
            return Some(((h - root) / a, (h + root) / a));
        }
        // The old mean may be zero, and the set is everything outside two roots. If the new mean is not zero, the root
        // beyond zero belongs to an old mean of the other sign.
        let new_mean_is_certain = y.abs() > t * error_y;
        if !new_mean_is_certain || a.abs() <= 0.0 {
            return None;
        }
        if ratio > 0.0 {
            Some(((h + root) / a).max((h - root) / a)).map(|low| (low, f64::MAX))
        } else {
            Some(((h + root) / a).min((h - root) / a)).map(|high| (f64::MIN, high))
        }
    }
}
