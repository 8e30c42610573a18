//! Which model of a series a change must beat: independent noise, noise with a memory, a season, or a wandering level.

use super::costs::SegmentCost;
use super::noise::{Differences, differences, season, tame};
use super::search::bounds;

/// How much more than at lag 1 values must differ at longer lags to be called dependent: more than double.
const MEMORY: f64 = 2.0;
/// How far the ratio of two such variances of independent noise strays from 1, over `sqrt n`: so much of a ratio is no memory.
const MEMORY_ERROR: f64 = 2.0;
/// The longest lag at which dependence is looked for, in values and as a share of the series: at an eighth of the series
/// three changes still spoil less than half of the differences.
const LAG_MAX: usize = 8;
const LAG_SHARE: usize = 8;
/// `1 - 1/e`: the share of the whole variance that differences reach at the correlation time of a series.
const FORGOTTEN: f64 = 0.632_120_558_828_557_7;
/// The strongest dependence of neighbours that is reckoned with.
const DEPENDENCE_MAX: f64 = 0.999;
/// What a change of level costs, in natural logarithms of the length and variances of the noise.
///
/// One logarithm is Schwarz's criterion for one number; the place of the change is a second (Yao 1988); the third keeps the chance of any
/// change in a series of independent noise near a hundredth.
const LEVEL_PRICE: f64 = 3.0;
/// What a change of line costs, in logarithms of the length and variances of the whole series: its two numbers.
const LINE_PRICE: f64 = 2.0;
/// What the scale from the upper quantile of differences is worth in degrees of freedom per value: its efficiency.
pub(crate) const SCALE_FREEDOM: f64 = 0.65;

/// What changes are searched among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model {
    /// The level is constant between changes; noise may depend on its predecessors, but forgets within `sqrt n` values.
    Level,
    /// The series wanders: only what is more than its own wandering is a change, and between changes it may drift.
    Line,
}

/// A series made ready for the search.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Centred, of variance one, without its season.
    pub(crate) plain: Vec<f64>,
    /// The same with isolated outliers drawn in.
    pub(crate) tamed: Vec<f64>,
    /// What one unit of these is in the units of the series.
    pub(crate) scale: f64,
    pub(crate) model: Model,
    /// The variance of the noise, from differences of neighbours.
    pub(crate) noise: f64,
    /// The variance that a change must beat, long-run where values depend on their predecessors.
    pub(crate) variance: f64,
    /// By which factor the long-run variance exceeds that of single values.
    pub(crate) dependence: f64,
}

impl Prepared {
    /// The mean of the values of a segment, isolated outliers drawn in.
    pub(crate) fn level(&self, values: &[f64], start: usize, end: usize) -> f64 {
        let n = (end - start) as f64;
        let first = values[start];
        // Divided first: sums of numbers near the largest float overflow.
        let mean = first + values[start..end].iter().map(|value| value / n - first / n).sum::<f64>();
        let drawn =
            self.tamed[start..end].iter().zip(&self.plain[start..end]).map(|(tamed, plain)| tamed - plain);
        (mean + drawn.sum::<f64>() / n * self.scale).clamp(f64::MIN, f64::MAX)
    }

    /// Raises the variance to that around the levels of a segmentation, if that is larger; says whether it is.
    pub(crate) fn raise_to_residuals<C: SegmentCost>(&mut self, cost: &C, starts: &[usize]) -> bool {
        let residuals: f64 = bounds(starts, cost.len()).map(|(start, end)| cost.cost(start, end)).sum();
        let variance = residuals / (cost.len() - starts.len()).max(1) as f64 * self.dependence;
        let is_larger = variance > self.variance;
        self.variance = self.variance.max(variance);
        is_larger
    }

    /// What one change costs in the units of the squared tamed values.
    pub(crate) fn penalty(&self) -> f64 {
        let logarithm = (self.tamed.len() as f64).ln();
        match self.model {
            Model::Level => self.variance * self.against_estimated(LEVEL_PRICE * logarithm),
            Model::Line => self.variance * LINE_PRICE * logarithm,
        }
    }

    fn against_estimated(&self, known: f64) -> f64 {
        against_estimated(known, SCALE_FREEDOM * self.tamed.len() as f64)
    }

    /// The inverse of what [`Self::penalty`] does: the likelihood ratio statistic of a change that saves `gain`.
    pub(crate) fn statistic(&self, gain: f64) -> f64 {
        let ratio = (gain / self.variance).max(0.0);
        match self.model {
            Model::Level => {
                let freedom = SCALE_FREEDOM * self.tamed.len() as f64;
                freedom * (ratio / freedom).ln_1p()
            }
            Model::Line => ratio,
        }
    }
}

/// What a likelihood ratio statistic, or a squared distance, must be where the variance is estimated with `freedom` degrees of freedom
/// instead of `known` where it is known: `v (exp(known / v) - 1)`, as the F statistic relates to its likelihood ratio.
pub(crate) fn against_estimated(known: f64, freedom: f64) -> f64 {
    freedom * (known / freedom).exp_m1()
}

/// Looks at the noise of a series of finite values and chooses the model; `None` for a constant series and below four values.
///
/// - Differences of neighbours give the scale (see [`differences`]).
/// - Where differences at up to eight steps are no more than twice as large, the series is *level*: steps and noise. The
///   variance is scaled up to the long-run variance of a first-order autoregression with the same differences,
///   `(1 + r) / (1 - r)`.
/// - Otherwise a season is looked for and taken away.
/// - If the differences still grow, but reach `1 - 1/e` of the whole variance within `sqrt n` steps, the series forgets
///   within that time: it is one stationary process, *level* with the whole variance as its own.
/// - Otherwise it *wanders*, and a change must explain a part of the whole variance.
pub(crate) fn prepare(values: &[f64]) -> Option<Prepared> {
    prepare_with(values, true)
}

/// The same for whoever cannot take a season away: it then counts as noise with a memory.
pub(crate) fn prepare_with_season_as_noise(values: &[f64]) -> Option<Prepared> {
    prepare_with(values, false)
}

fn prepare_with(values: &[f64], takes_season_away: bool) -> Option<Prepared> {
    let n = values.len();
    let (mut y, mut scale) = standardise(values)?;
    let room = &mut Vec::with_capacity(n);
    let lag_max = (n / LAG_SHARE).clamp(1, LAG_MAX);
    let mut memory = Memory::of(&y, lag_max, room);
    if takes_season_away
        && memory.growth >= MEMORY
        && let Some((period, profile)) = season(&y, room)
    {
        for (index, value) in y.iter_mut().enumerate() {
            *value -= profile[index % period];
        }
        let (adjusted, factor) = standardise(&y)?;
        (y, scale) = (adjusted, scale * factor);
        memory = Memory::of(&y, lag_max, room);
    }
    let noise = memory.nearest.by_quantile;
    let mut tamed = Vec::with_capacity(n);
    tame(&y, noise, &mut tamed);
    let level = |single: f64| {
        let ratio = (single / noise).max(1.0);
        let correlation = (1.0 - 1.0 / ratio).min(DEPENDENCE_MAX);
        let dependence = (1.0 + correlation) / (1.0 - correlation);
        (Model::Level, single * dependence, dependence)
    };
    let (model, variance, dependence) = if memory.growth < MEMORY {
        level((noise * memory.plateau).min(1.0).max(noise.min(1.0)))
    } else if forgets(&y, memory.nearest.by_median, room) {
        level(1.0)
    } else {
        let square = tamed.iter().map(|value| value * value).sum::<f64>() / n as f64;
        let mean = tamed.iter().sum::<f64>() / n as f64;
        (Model::Line, square - mean * mean, 1.0)
    };
    Some(Prepared { plain: y, tamed, scale, model, noise, variance, dependence })
}

/// How differences grow with the lag.
struct Memory {
    nearest: Differences,
    /// The largest variance over that at lag 1.
    growth: f64,
    /// The mean variance of the longer lags over that at lag 1, less what chance makes of 1; at least 1.
    plateau: f64,
}

impl Memory {
    fn of(y: &[f64], lag_max: usize, room: &mut Vec<f64>) -> Self {
        let nearest = differences(y, 1, room);
        let (mut largest, mut sum, mut count) = (nearest.by_median, 0.0, 0.0);
        for lag in [2, 4, 6, 8] {
            if lag > lag_max {
                break;
            }
            let variance = differences(y, lag, room).by_median;
            largest = f64::max(largest, variance);
            if 2 * lag > lag_max {
                (sum, count) = (sum + variance, count + 1.0);
            }
        }
        let over = |variance: f64| variance / nearest.by_median.max(f64::MIN_POSITIVE);
        let chance = MEMORY_ERROR / (y.len() as f64).sqrt();
        let plateau = if count > 0.0 { 1.0 + (over(sum / count) - 1.0 - chance).max(0.0) } else { 1.0 };
        Self { growth: over(largest), plateau, nearest }
    }
}

/// Whether differences reach `1 - 1/e` of the variance, which is 1, within `sqrt n` steps.
fn forgets(y: &[f64], nearest: f64, room: &mut Vec<f64>) -> bool {
    let longest = y.len().isqrt();
    let lags = (1..).map(|step| 2_f64.powf(f64::from(step) / 2.0)).map(|lag| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let whole = lag as usize;
        whole
    });
    nearest >= FORGOTTEN
        || lags.take_while(|lag| *lag <= longest).any(|lag| differences(y, lag, room).by_median >= FORGOTTEN)
}

/// The values centred and with variance one, and the standard deviation they had; `None` where there is no spread.
fn standardise(values: &[f64]) -> Option<(Vec<f64>, f64)> {
    let n = values.len();
    if n < 4 {
        return None;
    }
    let widest = values.iter().fold(0.0_f64, |widest, value| widest.max(value.abs()));
    let unit = crate::statistics::power_of_two_below(widest);
    let mut y: Vec<f64> = values.iter().map(|value| value / unit).collect();
    let first = y[0];
    // Against the first value, so that equal values stay exactly equal.
    let centre = first + y.iter().map(|value| value - first).sum::<f64>() / n as f64;
    let variance = y.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / n as f64;
    let deviation = variance.sqrt();
    if deviation <= 0.0 || !(1.0 / deviation).is_finite() {
        return None;
    }
    for value in &mut y {
        *value = (*value - centre) / deviation;
    }
    Some((y, deviation * unit))
}
