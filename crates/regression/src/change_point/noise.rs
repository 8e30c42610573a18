//! What scatters in a series although nothing changes: its scale, its memory, its season, its outliers.

use crate::statistics::{MEAN_ABSOLUTE, MEDIAN_ABSOLUTE};

/// The quantile of the absolute differences of neighbours from which the scale is taken. The median would tell
/// the scale less surely and takes noise with two modes for quiet; at 0.8 a tenth of the values may be outliers.
const SCALE_QUANTILE: f64 = 0.8;
/// The 0.9 quantile of the standard normal distribution: 0.8 of its absolute values lie below.
const SCALE_NORMAL: f64 = 1.281_551_565_544_600_4;
/// How many neighbours on each side of a value say whether it is an outlier.
const TAME_HALF: usize = 3;
/// How many standard deviations of the noise a value may lie from the median of its neighbourhood.
const TAME_REACH: f64 = 3.0;
/// How many cycles a season needs: then the error of its profile is small beside the noise.
const CYCLES_MIN: usize = 8;
/// The longest season that is looked for.
const PERIOD_MAX: usize = 400;
/// How many differences at each lag the search for a season looks at.
const SEASON_SAMPLE: usize = 512;

/// The variance of the noise from differences at one lag: half the squared scale of `y[i + lag] - y[i]`.
///
/// A difference is spoiled by a change only where it straddles one, so that few changes do not move a quantile of them.
/// Over the lags this is the structure function (half a variogram): flat for independent noise, rising to
/// a plateau where values depend on their predecessors, rising all the way where the series wanders.
#[derive(Debug)]
pub(crate) struct Differences {
    /// The median gives this variance.
    pub(crate) by_median: f64,
    /// The upper quantile gives this one.
    pub(crate) by_quantile: f64,
}

/// The differences at `lag`, at least 1 and less than the number of values. `room` is overwritten.
pub(crate) fn differences(values: &[f64], lag: usize, room: &mut Vec<f64>) -> Differences {
    room.clear();
    room.extend(values[lag..].iter().zip(values).map(|(later, earlier)| (later - earlier).abs()));
    variances(room)
}

fn variances(room: &mut [f64]) -> Differences {
    let fallback = room.iter().sum::<f64>() / room.len() as f64 / MEAN_ABSOLUTE;
    let last = room.len() - 1;
    let upper = quantile(room, SCALE_QUANTILE);
    // What lies below the upper quantile stands before it now.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the slice")]
    let below = (last as f64 * SCALE_QUANTILE) as usize;
    let median = if last < 4 { quantile(room, 0.5) } else { middle(&mut room[..=below], last) };
    let half_square = |quantile: f64, normal: f64| {
        let scale = if quantile > 0.0 { quantile / normal } else { fallback };
        scale * scale / 2.0
    };
    Differences {
        by_median: half_square(median, MEDIAN_ABSOLUTE),
        by_quantile: half_square(upper, SCALE_NORMAL),
    }
}

/// The median of `last + 1` values of which the lower ones are given.
fn middle(lower: &mut [f64], last: usize) -> f64 {
    let place = last / 2;
    let (_, low, above) = lower.select_nth_unstable_by(place, f64::total_cmp);
    let low = *low;
    if last.is_multiple_of(2) {
        low
    } else {
        f64::midpoint(low, above.iter().copied().fold(f64::INFINITY, f64::min))
    }
}

/// A quantile by linear interpolation (type 7), which reorders the values.
fn quantile(values: &mut [f64], part: f64) -> f64 {
    let place = (values.len() - 1) as f64 * part;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the slice")]
    let below = place as usize;
    let (_, low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let low = *low;
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    if high.is_finite() { low + (high - low) * (place - below as f64) } else { low }
}

/// The values with isolated outliers taken back (Hampel's filter), into `tamed`: one that lies more than three standard deviations
/// from the median of itself and three neighbours on each side becomes that median. So up to three odd values in a row
/// cannot pay for a segment of their own, and a step stays where it is, because four of seven lie on its own side.
///
/// Near both ends, where the neighbourhood is cut off, half of it may be another level; there a value is only drawn to within
/// three standard deviations.
pub(crate) fn tame(values: &[f64], variance: f64, tamed: &mut Vec<f64>) {
    let reach = TAME_REACH * variance.sqrt();
    tamed.clear();
    tamed.extend((0..values.len()).map(|index| {
        let (first, end) = (index.saturating_sub(TAME_HALF), (index + TAME_HALF + 1).min(values.len()));
        tame_one(values[index], &values[first..end], reach)
    }));
}

/// A value among its neighbours, itself included, at most seven.
pub(crate) fn tame_one(value: f64, near: &[f64], reach: f64) -> f64 {
    let median = small_median(near);
    if (value - median).abs() <= reach {
        value
    } else if near.len() > 2 * TAME_HALF {
        median
    } else {
        value.clamp(median - reach, median + reach)
    }
}

/// The median of one to seven values.
fn small_median(values: &[f64]) -> f64 {
    if let Ok(seven) = <[f64; 7]>::try_from(values) {
        return median_of_seven(seven);
    }
    let mut room = [0.0; 7];
    let room = &mut room[..values.len()];
    room.copy_from_slice(values);
    room.sort_unstable_by(f64::total_cmp);
    let half = room.len() / 2;
    if room.len() % 2 == 1 { room[half] } else { f64::midpoint(room[half - 1], room[half]) }
}

/// The fourth of seven, by the 13 exchanges of the usual selection network (Paeth 1990, *Graphics Gems*).
fn median_of_seven(mut p: [f64; 7]) -> f64 {
    let mut sort = |a: usize, b: usize| {
        let (low, high) = (p[a].min(p[b]), p[a].max(p[b]));
        p[a] = low;
        p[b] = high;
    };
    for (a, b) in [
        (0, 5),
        (0, 3),
        (1, 6),
        (2, 4),
        (0, 1),
        (3, 5),
        (2, 6),
        (2, 3),
        (3, 6),
        (4, 5),
        (1, 4),
        (1, 3),
        (3, 4),
    ] {
        sort(a, b);
    }
    p[3]
}

/// The period of a season, if there is one that pays: a lag at which differences are smaller than at shorter ones, and whose profile, taken away, shrinks the differences at half the lag by more than its parameters cost
/// (`n ln(before / after) > 2 period ln n`, after Schwarz 1978).
pub(crate) fn season(values: &[f64], room: &mut Vec<f64>) -> Option<(usize, Vec<f64>)> {
    let n = values.len();
    let longest = (n / CYCLES_MIN).min(PERIOD_MAX);
    if longest < 4 {
        return None;
    }
    let mut by_lag = vec![0.0; longest + 1];
    for (lag, variance) in by_lag.iter_mut().enumerate().skip(1) {
        // Evenly spread pairs; an odd step meets every phase of an even period.
        let pairs = n - lag;
        let step = (pairs / SEASON_SAMPLE) | 1;
        room.clear();
        room.extend((0..pairs).step_by(step).map(|index| (values[index + lag] - values[index]).abs()));
        *variance = variances(room).by_median;
    }
    // How small the differences over one period are beside the largest over less.
    let mut largest = 0.0_f64;
    let dips: Vec<f64> = by_lag
        .iter()
        .map(|variance| {
            let dip = if largest > 0.0 { variance / largest } else { f64::INFINITY };
            largest = largest.max(*variance);
            dip
        })
        .collect();
    let deepest = dips[4..].iter().copied().min_by(f64::total_cmp)?;
    if deepest >= 1.0 {
        return None;
    }
    // Two periods dip as deep as one: the shortest that comes close is meant.
    let period = (4..=longest).find(|period| dips[*period] <= 1.25 * deepest)?;
    let profile = profile(values, period, room);
    let half = period / 2;
    let before = differences(values, half, room).by_median;
    let adjusted: Vec<f64> =
        values.iter().enumerate().map(|(index, value)| value - profile[index % period]).collect();
    let after = differences(&adjusted, half, room).by_median;
    let n = n as f64;
    (after <= 0.0 || n * (before / after).ln() > 2.0 * period as f64 * n.ln()).then_some((period, profile))
}

/// The median deviation of each phase from the moving average over one period, less the mean of these.
fn profile(values: &[f64], period: usize, room: &mut Vec<f64>) -> Vec<f64> {
    let n = values.len();
    let mut sums = Vec::with_capacity(n + 1);
    sums.push(0.0);
    for value in values {
        sums.push(sums[sums.len() - 1] + value);
    }
    let half = period / 2;
    // Over an even period the two ends count half, so that each phase weighs the same.
    let average = |centre: usize| {
        let (first, last) = (centre - half, centre + half);
        let whole = sums[last + 1] - sums[first];
        let ends = if period.is_multiple_of(2) { f64::midpoint(values[first], values[last]) } else { 0.0 };
        (whole - ends) / period as f64
    };
    let mut profile: Vec<f64> = (0..period)
        .map(|phase| {
            room.clear();
            let first = if phase >= half { phase } else { phase + period };
            room.extend((first..n - half).step_by(period).map(|index| values[index] - average(index)));
            if room.is_empty() { 0.0 } else { quantile(room, 0.5) }
        })
        .collect();
    let mean = profile.iter().sum::<f64>() / period as f64;
    for deviation in &mut profile {
        *deviation -= mean;
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_finds_the_median_of_every_order_of_seven() {
        let mut order = [0, 1, 2, 3, 4, 5, 6];
        // Heap's algorithm, all 5040.
        let mut counts = [0; 7];
        let mut index = 0;
        let mut seen = 0;
        while index < 7 {
            if counts[index] < index {
                order.swap(if index % 2 == 0 { 0 } else { counts[index] }, index);
                assert!((median_of_seven(order.map(f64::from)) - 3.0).abs() < f64::EPSILON, "{order:?}");
                seen += 1;
                counts[index] += 1;
                index = 0;
            } else {
                counts[index] = 0;
                index += 1;
            }
        }
        assert_eq!(seen, 5039, "all orders but the first");
    }

    #[test]
    fn a_season_is_found_and_taken_away_exactly() {
        let shape = [0.0, 4.0, -1.0, -3.0, 2.0, -2.0];
        let noise = [0.1, -0.2, 0.05, 0.3, -0.1, 0.15, -0.25];
        let values: Vec<f64> = (0..120).map(|i| shape[i % 6] + noise[i % 7] + 0.01 * i as f64).collect();
        let (period, profile) = season(&values, &mut Vec::new()).expect("twenty cycles");
        assert_eq!(period, 6);
        for (found, wanted) in profile.iter().zip(shape) {
            assert!((found - wanted).abs() < 0.2, "{profile:?}");
        }
        let flat: Vec<f64> = (0..120).map(|i| noise[i % 7] * ((i * 37) % 11) as f64).collect();
        assert_eq!(season(&flat[..40], &mut Vec::new()), None, "five cycles are too few");
    }
}
