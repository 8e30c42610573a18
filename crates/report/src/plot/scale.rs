//! The range of an axis and its ticks.

use crate::number;

/// A finite, non-empty range with ticks at round numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    /// Tick positions with labels, ascending.
    pub(super) ticks: Vec<(f64, String)>,
}

/// Values beyond this are not drawn: their differences would overflow.
const SIZE_MAX: f64 = 1e150;

/// Whether a value has a place on an axis.
pub(super) fn drawable(value: f64) -> bool {
    value.abs() <= SIZE_MAX
}

impl Scale {
    /// An axis from `low` to `high` (both drawable) and a little beyond, with about `ticks` ticks; `factor` and
    /// `suffix` turn a position into its label.
    pub(super) fn covering(low: f64, high: f64, ticks: usize, factor: f64, suffix: &str) -> Self {
        let size = low.abs().max(high.abs());
        // A single value stands in the middle of an axis about as wide as a tenth of it. Differences that are small beside
        // the values get an axis on which they look small; the finest labels would not fit beside it either.
        let margin = if high > low { ((high - low) * 0.06).max(size * 1e-4) } else { size * 0.05 };
        let margin = if margin > 1e-300 { margin } else { 1.0 };
        let (low, high) = (low - margin, high + margin);
        let step = round_step((high - low) / ticks.max(1) as f64);
        Self { low, high, ticks: ticks_between(low, high, step, factor, suffix) }
    }

    /// An axis of iteration numbers.
    pub(super) fn iterations(first: f64, last: f64, ticks: usize) -> Self {
        let margin = ((last - first) * 0.012).max(0.3);
        let step = round_step((last - first) / ticks.max(1) as f64).max(1.0).round();
        let (low, high) = (first - margin, last + margin);
        Self { low, high, ticks: ticks_between(low, high, step, 1.0, "") }
    }

    /// The range that shows most of `values`, widened to hold all of `must`.
    ///
    /// First the values that are no extreme outliers (beyond three interquartile ranges from the quartiles; Tukey
    /// 1977, "outer fences"); then also those that an axis of four times that length on either side would hold, for
    /// with few values nearly everything is an outlier. One candidate that is a hundred times slower would otherwise
    /// flatten everything else. `None` without a value.
    pub(super) fn robust_range(values: &[f64], must: &[f64]) -> Option<(f64, f64)> {
        let must: Vec<f64> = must.iter().copied().filter(|value| drawable(*value)).collect();
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| drawable(*value)).collect();
        sorted.sort_by(f64::total_cmp);
        let quartile = |quarter: usize| sorted.get(sorted.len().saturating_sub(1) * quarter / 4).copied();
        let fences = match (quartile(1), quartile(3)) {
            (Some(low), Some(high)) if high > low => (low - 3.0 * (high - low), high + 3.0 * (high - low)),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let (low, high) = extremes(sorted.iter().copied(), fences, &must)?;
        let reach = 4.0 * (high - low);
        extremes(sorted.iter().copied(), (low - reach, high + reach), &[low, high])
    }
}

/// The least and the largest of `must` and of those `values` that lie within the bounds.
fn extremes(values: impl Iterator<Item = f64>, bounds: (f64, f64), must: &[f64]) -> Option<(f64, f64)> {
    let inside = values.filter(|value| (bounds.0..=bounds.1).contains(value));
    inside.chain(must.iter().copied()).fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((f64::min(low, value), f64::max(high, value)))
    })
}

/// The round number (1, 2, 5 times a power of ten) nearest above `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-300).log10().floor());
    let multiple = [1.0, 2.0, 5.0].into_iter().find(|multiple| multiple * power >= step * 0.999);
    multiple.unwrap_or(10.0) * power
}

fn ticks_between(low: f64, high: f64, step: f64, factor: f64, suffix: &str) -> Vec<(f64, String)> {
    // The range is at most a few ticks wide by construction; the bound is for rounding.
    const TICKS_MAX: usize = 50;
    let first = (low / step).ceil();
    let largest = low.abs().max(high.abs()) * factor;
    (0..TICKS_MAX)
        .map(|index| (first + index as f64) * step)
        .take_while(|tick| *tick <= high)
        .map(|tick| (tick, format!("{}{suffix}", label(tick * factor, step * factor, largest))))
        .collect()
}

/// A tick's label on an axis whose ticks lie `step` apart and whose largest number is `largest`.
fn label(value: f64, step: f64, largest: f64) -> String {
    let (divisor, letter) = match largest {
        1e-4..1e6 => (1.0, ""),
        1e6..1e9 => (1e6, "\u{a0}M"),
        1e9..1e12 => (1e9, "\u{a0}G"),
        _ if value == 0.0 => return "0".to_owned(),
        _ => return format!("{value:.1e}").replace('-', "\u{2212}"),
    };
    let decimals = number::first_decimal(step / divisor, 12);
    let digits = format!("{:.decimals$}", value.abs() / divisor);
    let zero = digits.chars().all(|digit| matches!(digit, '0' | '.'));
    let sign = if value < 0.0 && !zero { "\u{2212}" } else { "" };
    format!("{sign}{}{letter}", number::grouped(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&Scale::covering(10.0, 13.0, 5, 1.0, "")), ["10", "11", "12", "13"]);
        assert_eq!(labels(&Scale::covering(-0.02, 0.02, 4, 100.0, " %")), ["−2 %", "0 %", "2 %"]);
        assert_eq!(labels(&Scale::iterations(0.0, 3.0, 12)), ["0", "1", "2", "3"]);
    }

    #[test]
    fn labels_stay_short_enough_for_the_axis() {
        let cases = [
            (0.0, 0.0),
            (12.9, 12.9),
            (12.9, 12.900_000_1),
            (123_456_789.0, 123_459_999.0),
            (-3e11, 5e11),
            (1e-9, 5e-9),
            (-1e140, 1e140),
        ];
        for (low, high) in cases {
            let scale = Scale::covering(low, high, 6, 1.0, "");
            let mut seen = labels(&scale);
            assert!(seen.len() > 2 && seen.iter().all(|label| label.chars().count() <= 9), "{seen:?}");
            seen.dedup();
            assert_eq!(seen.len(), scale.ticks.len(), "each label once");
        }
    }

    #[test]
    fn an_axis_is_finite_and_has_a_width_whatever_the_values() {
        for (low, high) in [(0.0, 0.0), (5.0, 5.0), (-1e150, 1e150), (1e15, 1e15 + 0.1), (1e-200, 2e-200)] {
            let scale = Scale::covering(low, high, 5, 1.0, "");
            assert!(scale.low < scale.high && (scale.high - scale.low).is_finite(), "{scale:?}");
            assert!(scale.ticks.len() < 50, "{scale:?}");
        }
    }

    #[test]
    fn an_extreme_outlier_does_not_stretch_the_range() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 900.0, f64::NAN, f64::INFINITY];
        assert_eq!(Scale::robust_range(&values, &[0.5]), Some((0.5, 5.0)));
        assert_eq!(Scale::robust_range(&values, &[1_000.0]), Some((1.0, 1_000.0)));
        assert_eq!(Scale::robust_range(&[0.0, 0.1, 0.2, 0.3, 3.0], &[-1.0]), Some((-1.0, 3.0)));
        assert_eq!(Scale::robust_range(&[f64::NAN], &[]), None);
    }
}
