//! Where a series changes.
//!
//! [`change_points`] is the whole of it; [`ChangePointMethod`] lists how it can search.

mod auto;
mod costs;
mod energy;
mod noise;
mod place;
mod search;

use evoseal_types::Direction;
use serde::{Deserialize, Serialize};

use crate::statistics::check_values;
use crate::{Error, Result};

pub(crate) use auto::{Prepared, SCALE_FREEDOM, against_estimated, prepare};
pub use energy::{EnergySplit, energy_split};
pub(crate) use noise::tame_one;
pub(crate) use place::RATIO_95;

use auto::{Model, prepare_with_season_as_noise};
use costs::{LevelCost, LineCost, SegmentCost};

/// The longest series that is searched: about 70 bytes of memory per value are needed.
pub const SERIES_LEN_MAX: usize = 2_000_000;

/// The longest series for [`ChangePointMethod::Pelt`], whose time can grow with the square of the length.
const PELT_LEN_MAX: usize = 50_000;

/// A change of level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChangePoint {
    /// The zero-based index of the first value of the new segment.
    pub index: usize,
    /// The mean of the segment before, isolated outliers drawn in.
    pub before: f64,
    /// The mean of the segment from `index` on, isolated outliers drawn in.
    pub after: f64,
    /// `(after - before) / |before|`; `None` where `before` is zero.
    pub relative_change: Option<f64>,
    /// One minus the chance (at most) that noise alone pays for a change anywhere in the series, by the likelihood ratio
    /// of the two segments with and without the change, times the number of places.
    pub confidence: f64,
    /// The first and the last index at which the change may lie, at 95 % (Hansen 2000); `index` is among them.
    pub interval: (usize, usize),
    /// Whether the change is in the harmful direction; `None` if none was given.
    pub is_harmful: Option<bool>,
}

/// How changes are searched.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ChangePointMethod {
    /// Chooses the model of the noise by itself; see [`change_points`]. The default, and the only one without a setting.
    #[default]
    Auto,
    /// The exact least-cost segmentation into constant levels (PELT), at a price of `penalty` variances of the noise for each
    /// change; `None` for the price of `Auto`. At most 50 000 values: its time can grow with the square of the length.
    Pelt {
        /// The price in variances of the noise, finite and above 0: `3 ln n` is usual.
        penalty: Option<f64>,
    },
    /// E-divisive: any change of the distribution, by the energy statistic and a permutation test of each change.
    Energy {
        /// The level of each test, between 0 and 1.
        level: f64,
        /// How many permutations a test makes at most; `1 / level - 1` is the least with which anything is found.
        permutations: u32,
        /// What the permutations are drawn from.
        seed: u64,
    },
}

/// Finds where the level of a series changes, oldest value first.
///
/// The segments are those of least cost: the squared residuals of each around its own level, and a price for each change that the noise
/// hardly ever pays. The work is in knowing the noise ([`ChangePointMethod::Auto`]):
///
/// - Its scale comes from the 0.8 quantile of the differences of neighbours, which changes of level and up to a tenth of
///   outliers do not move. Values more than three standard deviations from the median of the seven around them give way to it
///   first (Hampel), so that up to three odd values in a row are no level.
/// - Its memory comes from the differences at up to eight steps. While they at most double, the price is in long-run variances
///   of a first-order autoregression. Where they grow further, a season is looked for and taken away; where they reach `1 - 1/e`
///   of the whole variance within `sqrt n` steps, the series is one stationary process and the whole variance, made
///   long-run, is its noise; otherwise the series wanders, and a change between *straight lines* must explain `2 ln n` n-ths of
///   the whole variance.
/// - A change of level costs `3 ln n` variances, corrected for the scale being an estimate. Of series of 50 or more
///   independent normal values about one in a hundred then has any change.
///
/// The places come from a multi-scale scan and an exact combination (`O(n log n)`; see the source of `search`). At least two
/// values, at most [`SERIES_LEN_MAX`]; series of fewer than four values and constant ones have no changes. Deterministic; shifting or scaling the values
/// moves nothing, and turning them upside down turns only the signs.
///
/// ```
/// use evoseal_regression::{ChangePointMethod, change_points};
/// let latency = [10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 12.1, 11.9, 12.0, 12.2];
/// let found = change_points(&latency, None, ChangePointMethod::Auto)?;
/// assert_eq!(found.len(), 1);
/// assert_eq!((found[0].index, found[0].interval), (6, (6, 6)));
/// assert!(found[0].confidence > 0.999);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn change_points(
    values: &[f64],
    direction: Option<Direction>,
    method: ChangePointMethod,
) -> Result<Vec<ChangePoint>> {
    check(values, method)?;
    Ok(match prepare(values) {
        Some(mut prepared) => search_prepared(values, &mut prepared, direction, method),
        None => Vec::new(),
    })
}

/// Refuses what cannot be searched.
pub(crate) fn check(values: &[f64], method: ChangePointMethod) -> Result<()> {
    check_values("a series", values, 2)?;
    if values.len() > SERIES_LEN_MAX {
        let found = format!("{} values", values.len());
        return Err(Error::Data { what: "a series", needed: "at most 2000000 values", found });
    }
    if values.len() > PELT_LEN_MAX && matches!(method, ChangePointMethod::Pelt { .. }) {
        let found = format!("{} values", values.len());
        return Err(Error::Data { what: "an exact search (PELT)", needed: "at most 50000 values", found });
    }
    let refuse =
        |what: &str, reason: &str| Err(Error::Invalid { what: what.to_owned(), reason: reason.to_owned() });
    match method {
        ChangePointMethod::Pelt { penalty: Some(penalty) } if !(penalty.is_finite() && penalty > 0.0) => {
            refuse("the penalty", "it must be a finite number above 0")
        }
        ChangePointMethod::Energy { level, .. } if !(level > 0.0 && level < 1.0) => {
            refuse("the level of a permutation test", "it must lie between 0 and 1")
        }
        ChangePointMethod::Energy { level, permutations, .. }
            if level * f64::from(permutations) + level < 1.0 =>
        {
            refuse(
                "the number of permutations",
                "with so few no test can reject; take at least 1 / level - 1",
            )
        }
        _ => Ok(()),
    }
}

/// The changes of a series that was checked and prepared; the variance of its noise may grow by what is left beside them.
pub(crate) fn search_prepared(
    values: &[f64],
    prepared: &mut Prepared,
    direction: Option<Direction>,
    method: ChangePointMethod,
) -> Vec<ChangePoint> {
    match method {
        ChangePointMethod::Auto if prepared.model == Model::Line => {
            let cost = LineCost::new(&prepared.tamed);
            describe(values, prepared, &cost, &search::segment(&cost, prepared.penalty()), direction)
        }
        ChangePointMethod::Auto => {
            let cost = LevelCost::new(&prepared.tamed);
            let starts = levels(prepared, &cost);
            describe(values, prepared, &cost, &starts, direction)
        }
        ChangePointMethod::Pelt { penalty } => {
            let cost = LevelCost::new(&prepared.tamed);
            let price = penalty.map_or(prepared.penalty(), |penalty| penalty * prepared.noise);
            describe(values, prepared, &cost, &search::pelt(&cost, price), direction)
        }
        ChangePointMethod::Energy { level, permutations, seed } => {
            let cost = LevelCost::new(&prepared.tamed);
            let starts = energy::e_divisive(&prepared.plain, level, permutations, seed);
            describe(values, prepared, &cost, &starts, direction)
        }
    }
}

/// The segments of constant level. What is left beside them can be more than the differences of neighbours said; then the
/// variance is raised, and they are searched again.
fn levels(prepared: &mut Prepared, cost: &LevelCost) -> Vec<usize> {
    let starts = search::segment(cost, prepared.penalty());
    if prepared.raise_to_residuals(cost, &starts) && starts.len() > 1 {
        return search::segment(cost, prepared.penalty());
    }
    starts
}

/// The long-run variance of a series beside its levels, and the standard deviation of its single values, in its own unit;
/// a season counts as noise. `None` for a constant series and below four values.
pub(crate) fn noise_of(values: &[f64]) -> Option<(f64, f64)> {
    let mut prepared = prepare_with_season_as_noise(values)?;
    if prepared.model == Model::Level {
        let cost = LevelCost::new(&prepared.tamed);
        levels(&mut prepared, &cost);
    }
    Some((prepared.variance * prepared.scale * prepared.scale, prepared.noise.sqrt() * prepared.scale))
}

/// What is to be said about each change.
fn describe<C: SegmentCost>(
    values: &[f64],
    prepared: &Prepared,
    cost: &C,
    starts: &[usize],
    direction: Option<Direction>,
) -> Vec<ChangePoint> {
    if starts.len() < 2 {
        return Vec::new();
    }
    let segments: Vec<(usize, usize)> = search::bounds(starts, values.len()).collect();
    let levels: Vec<f64> = segments.iter().map(|(start, end)| prepared.level(values, *start, *end)).collect();
    segments
        .windows(2)
        .zip(levels.windows(2))
        .map(|(pair, levels)| {
            let place = place::place(cost, prepared, pair[0].0, pair[1].0, pair[1].1);
            let (before, after) = (levels[0], levels[1]);
            let relative_change = (after - before) / before.abs();
            ChangePoint {
                index: place.index,
                before,
                after,
                relative_change: relative_change.is_finite().then_some(relative_change),
                confidence: place.confidence,
                interval: place.interval,
                is_harmful: direction.map(|direction| (after - before) * direction.harm_sign() > 0.0),
            }
        })
        .collect()
}
