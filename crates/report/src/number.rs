//! Numbers as people read them.

use std::time::Duration;

use evoseal_regression::{DataProblem, Finding, Interval};
use evoseal_types::{Direction, Timestamp};

/// Keeps a number and its unit, and the groups of a number, on one line.
pub(crate) const NBSP: char = '\u{a0}';
const MINUS: char = '\u{2212}';

/// A number with four significant digits, whole numbers in full, thousands in groups, a true minus sign.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let digits = if value.is_nan() {
        return "not a number".to_owned();
    } else if value.is_infinite() {
        "∞".to_owned()
    } else if value == 0.0 {
        return "0".to_owned();
    } else if !(1e-4..1e12).contains(&size) {
        format!("{size:.3e}").replace('-', &MINUS.to_string())
    } else if size.fract() == 0.0 {
        grouped(&format!("{size:.0}"))
    } else {
        grouped(&format!("{size:.*}", decimals(size)))
    };
    if value < 0.0 { format!("{MINUS}{digits}") } else { digits }
}

/// [`number`] without zeros at the end of its fraction: for settings and scores, which are not measured.
pub(crate) fn plain(value: f64) -> String {
    let text = number(value);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// [`number`] with its unit.
pub(crate) fn value(value: f64, unit: &str) -> String {
    let unit = crate::text::one_line(unit, 20).replace(' ', &NBSP.to_string());
    if unit.is_empty() { number(value) } else { format!("{}{NBSP}{unit}", number(value)) }
}

/// [`value`] with its sign always written.
pub(crate) fn signed_value(change: f64, unit: &str) -> String {
    let text = value(change, unit);
    if change > 0.0 { format!("+{text}") } else { text }
}

/// A fraction as percent with its sign always written and the given number of decimals; no sign on what rounds to
/// zero.
pub(crate) fn signed_percent(fraction: f64, decimals: usize) -> String {
    if fraction.is_nan() {
        return "not a number".to_owned();
    }
    let size = if fraction.is_infinite() {
        "∞".to_owned()
    } else {
        let percent = fraction.abs() * 100.0;
        if percent < 1e9 { grouped(&format!("{percent:.decimals$}")) } else { format!("{percent:.1e}") }
    };
    let sign = match fraction {
        _ if size.chars().all(|digit| matches!(digit, '0' | '.')) => "",
        negative if negative < 0.0 => "\u{2212}",
        _ => "+",
    };
    format!("{sign}{size}")
}

/// The change that a finding found, `−2.9 % [−3.0, −2.8]`; absolute with unit where a relative one does not exist;
/// `None` where there is none at all.
pub(crate) fn effect(finding: &Finding) -> Option<String> {
    match (finding.change, finding.absolute_change) {
        (Some(change), _) => Some(relative(change, finding.interval)),
        (None, Some(change)) => {
            let interval = finding.interval.map_or_else(String::new, |interval| {
                format!(" [{},{NBSP}{}]", number(interval.low), number(interval.high))
            });
            Some(signed_value(change, &finding.metric.unit) + &interval.replace(' ', &NBSP.to_string()))
        }
        (None, None) => None,
    }
}

/// A relative change with its interval.
pub(crate) fn relative(change: f64, interval: Option<Interval>) -> String {
    let spread = interval.map_or(change.abs(), |interval| interval.high - interval.low) * 100.0;
    // Down to the first digit of the interval's width, or of the change itself; at least one.
    let decimals = if spread > 0.0 { first_decimal(spread, 3).max(1) } else { 1 };
    let ends = interval.map_or_else(String::new, |interval| {
        let [low, high] = [interval.low, interval.high].map(|end| signed_percent(end, decimals));
        format!("{NBSP}[{low},{NBSP}{high}]")
    });
    format!("{}{NBSP}%{ends}", signed_percent(change, decimals))
}

/// A tolerated change in percent, without sign.
pub(crate) fn tolerance(fraction: f64) -> String {
    let percent = fraction * 100.0;
    format!("{}{NBSP}%", plain((percent * 1e6).round() / 1e6))
}

/// `p < 0.001`, `p = 0.032`.
pub(crate) fn p_value(p: f64) -> String {
    match p {
        p if p.is_nan() => "p is not a number".to_owned(),
        p if p < 0.001 => format!("p{NBSP}<{NBSP}0.001"),
        p => format!("p{NBSP}={NBSP}{p:.3}"),
    }
}

/// A duration in the two largest units that matter.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}{NBSP}ms", duration.as_millis()),
        1..60 => format!("{:.1}{NBSP}s", duration.as_secs_f64()),
        60..3_600 => format!("{}{NBSP}min {:02}{NBSP}s", seconds / 60, seconds % 60),
        _ => format!("{}{NBSP}h {:02}{NBSP}min", grouped(&(seconds / 3_600).to_string()), seconds / 60 % 60),
    }
}

/// A time in UTC, to the second.
pub(crate) fn time(time: Timestamp) -> String {
    let text = time.to_string();
    let (day, rest) = text.split_once('T').unwrap_or((&text, ""));
    let clock = rest.split(['.', 'Z']).next().unwrap_or_default();
    format!("{day} {clock} UTC")
}

/// Which way is better.
pub(crate) fn better(direction: Direction) -> &'static str {
    match direction {
        Direction::Increase => "lower is better",
        Direction::Decrease => "higher is better",
    }
}

/// Why a metric could not be compared, in words.
pub(crate) fn problem(problem: DataProblem) -> &'static str {
    match problem {
        DataProblem::MissingInCandidate => "the candidate does not have it",
        DataProblem::MissingInIncumbent => "the incumbent does not have it",
        DataProblem::NonFiniteInCandidate => "a sample of the candidate is not a finite number",
        DataProblem::NonFiniteInIncumbent => "a sample of the incumbent is not a finite number",
        DataProblem::TooFewSamples => "too few samples",
        DataProblem::SpecMismatch => "incumbent and candidate disagree about unit or direction",
    }
}

/// How many decimals leave four significant digits of a positive number.
fn decimals(size: f64) -> usize {
    match size {
        ..1.0 => first_decimal(size, 4) + 3,
        1.0..10.0 => 3,
        10.0..100.0 => 2,
        100.0..1_000.0 => 1,
        _ => 0,
    }
}

/// The decimal in which the first digit of a positive number stands, zero for numbers from one on; at most
/// `decimals_max`.
pub(crate) fn first_decimal(size: f64, decimals_max: usize) -> usize {
    // Forgives what binary fractions lack: 0.009 999 999 is 0.01.
    let mut scaled = size * 1.000_001;
    let mut decimals = 0;
    while scaled < 1.0 && decimals < decimals_max {
        scaled *= 10.0;
        decimals += 1;
    }
    decimals
}

/// Thousands of a plain decimal number in groups.
pub(crate) fn grouped(digits: &str) -> String {
    let (whole, fraction) =
        digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let mut text = String::with_capacity(digits.len() + 4);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push(NBSP);
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits_and_whole_numbers_all() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (12.412_345, "12.41"),
            (0.012_345_6, "0.01235"),
            (999.96, "1\u{a0}000.0"),
            (1_234_567.0, "1\u{a0}234\u{a0}567"),
            (-1_234.5, "−1\u{a0}234"),
            (1.5e-7, "1.500e−7"),
            (2.5e15, "2.500e15"),
            (f64::NAN, "not a number"),
            (f64::NEG_INFINITY, "−∞"),
        ];
        for (input, expected) in cases {
            assert_eq!(number(input), expected, "{input}");
        }
    }

    #[test]
    fn the_width_of_the_interval_decides_how_many_decimals_a_change_has() {
        let interval = |low, high| Some(Interval { low, high, level: 0.95 });
        let cases = [
            (-0.029, interval(-0.030, -0.028), "−2.9 % [−3.0, −2.8]"),
            (-0.0291, interval(-0.0293, -0.0289), "−2.91 % [−2.93, −2.89]"),
            (0.1, interval(0.1, 0.1), "+10.0 % [+10.0, +10.0]"),
            (12.5, None, "+1 250.0 %"),
            (-0.0001, None, "−0.01 %"),
            (0.0001, None, "+0.01 %"),
            (-0.000_001, None, "0.000 %"),
            (0.01, interval(f64::NEG_INFINITY, f64::INFINITY), "+1.0 % [−∞, +∞]"),
            (f64::NAN, None, "not a number %"),
        ];
        for (change, interval, expected) in cases {
            assert_eq!(relative(change, interval).replace(NBSP, " "), expected);
        }
    }

    #[test]
    fn settings_and_scores_have_no_idle_zeros() {
        for (input, expected) in
            [(0.6, "0.6"), (-0.4, "−0.4"), (10.0, "10"), (0.125, "0.125"), (2e-5, "2.000e−5")]
        {
            assert_eq!(plain(input), expected);
        }
        assert_eq!(tolerance(0.005).replace(NBSP, " "), "0.5 %");
    }

    #[test]
    fn durations_have_two_units() {
        let cases = [(850, "850 ms"), (12_340, "12.3 s"), (245_000, "4 min 05 s"), (7_380_000, "2 h 03 min")];
        for (milliseconds, expected) in cases {
            assert_eq!(duration(Duration::from_millis(milliseconds)).replace(NBSP, " "), expected);
        }
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(time(Timestamp::from_unix_ns(1_500_000_000)), "1970-01-01 00:00:01 UTC");
    }
}
