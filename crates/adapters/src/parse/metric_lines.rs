//! `METRIC name=value unit` lines.
//!
//! ```text
//! line  = "METRIC" 1*blank name "=" value [ 1*blank unit ] *blank
//! name  = a letter, then letters, digits and _ . - / : %      (ASCII, at most 100)
//! value = a decimal number with optional sign, fraction and exponent, or NaN, inf, -inf
//! unit  = 1 to 32 characters without white space or control characters
//! blank = space or tab
//! ```
//!
//! A metric line starts at the start of a line. All other lines are ignored, so that a program may talk; a line that starts with
//! the word `METRIC` and does not have this form is an error. The same metric may stand on any number of lines: these are its
//! iterations, in order.

use std::fmt;

use evoseal_types::MetricName;

use super::{Error, Reading, check_unit};
use crate::text;

const WORD: &str = "METRIC";

/// Reads all metric lines of a text.
///
/// ```
/// use evoseal_adapters::parse::metric_lines;
///
/// let readings = metric_lines::parse("warming up\nMETRIC latency=12.5 ms\nMETRIC latency=12.7 ms\n")?;
/// assert_eq!(readings.len(), 2);
/// assert_eq!(readings[1].to_string(), "METRIC latency=12.7 ms");
/// assert!(metric_lines::parse("METRIC latency: 12.5").is_err());
/// # Ok::<(), evoseal_adapters::parse::Error>(())
/// ```
pub fn parse(text: &str) -> Result<Vec<Reading>, Error> {
    let lines = text.lines().enumerate().filter_map(|(index, line)| {
        let rest = line.strip_prefix(WORD)?;
        (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '='])).then_some((index + 1, rest))
    });
    lines.map(|(number, rest)| parse_line(rest).map_err(|reason| Error::at(number, reason))).collect()
}

/// What stands behind the word.
fn parse_line(rest: &str) -> Result<Reading, String> {
    let form = || format!("\"METRIC{}\" is not of the form METRIC name=value unit", text::line(rest, 80));
    let mut words =
        rest.split([' ', '\t']).map(|word| word.trim_end_matches('\r')).filter(|word| !word.is_empty());
    let (name, value) = words.next().and_then(|word| word.split_once('=')).ok_or_else(form)?;
    let unit = words.next();
    if words.next().is_some() || rest.starts_with('=') {
        return Err(form());
    }
    let name = MetricName::new(name).map_err(|error| error.to_string())?;
    let value = parse_value(value)
        .ok_or_else(|| format!("{:?} of metric {name} is not a number", text::line(value, 40)))?;
    if let Some(unit) = unit {
        check_unit(unit)?;
    }
    Ok(Reading { name, value, unit: unit.map(str::to_owned) })
}

/// A number as the grammar has it; the standard library would also take `infinity` and `.`-less oddities such as `nan`.
fn parse_value(text: &str) -> Option<f64> {
    match text {
        "NaN" => return Some(f64::NAN),
        "inf" | "+inf" => return Some(f64::INFINITY),
        "-inf" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let is_decimal =
        text.len() <= 400 && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    // A finite number that is too large for a double would silently become infinite.
    text.parse().ok().filter(|value: &f64| is_decimal && value.is_finite())
}

/// The line that reads back as this value.
impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{WORD} {}={}", self.name, self.value)?;
        match &self.unit {
            Some(unit) => write!(f, " {unit}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<f64> {
        parse(text).unwrap().iter().map(|reading| reading.value).collect()
    }

    #[test]
    fn metric_lines_are_read_among_other_lines() {
        let text = "hello\r\nMETRIC a=1\r\nMETRICS are good\n METRIC a=2\nMETRIC\ta/p99=-1.5e-3  ms \nMETRIC a=+7 µs";
        let readings = parse(text).unwrap();
        let shown: Vec<_> = readings.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["METRIC a=1", "METRIC a/p99=-0.0015 ms", "METRIC a=7 µs"]);
    }

    #[test]
    fn numbers_that_are_none_are_kept_as_values() {
        let read = values("METRIC a=NaN\nMETRIC a=inf\nMETRIC a=-inf");
        assert!(read[0].is_nan());
        assert_eq!(read[1..], [f64::INFINITY, f64::NEG_INFINITY]);
    }

    #[test]
    fn lines_that_almost_parse_are_errors_with_their_number() {
        for bad in [
            "METRIC",
            "METRIC ",
            "METRIC a",
            "METRIC a=",
            "METRIC =1",
            "METRIC=1",
            "METRIC a = 1",
            "METRIC 1a=1",
            "METRIC a=1,5",
            "METRIC a=0x10",
            "METRIC a=nan",
            "METRIC a=infinity",
            "METRIC a=1e999",
            "METRIC a=1 m s",
            "METRIC a=1 ms\u{7}",
            "METRIC a=1e",
        ] {
            let error = parse(&format!("first\n{bad}\n")).unwrap_err();
            assert_eq!(error.line, Some(2), "{bad:?}");
        }
    }
}
