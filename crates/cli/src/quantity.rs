//! Durations and sizes as people write them.

use std::time::Duration;

/// Reads a whole number with a unit out of `units`; a bare number counts in the first of them.
fn read(text: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let names =
        || units.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect::<Vec<_>>().join(", ");
    let number: u64 =
        digits.parse().map_err(|_| format!("expected a whole number with one of {}", names()))?;
    let factor = units.iter().find(|(name, _)| *name == unit.trim());
    let (_, factor) =
        factor.ok_or_else(|| format!("unknown unit `{}`; there are {}", unit.trim(), names()))?;
    number.checked_mul(*factor).ok_or_else(|| "the number is too large".to_owned())
}

/// A duration: `90s`, `15m`, `12h`, `7d`, `2w`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
    read(text, &units).map(Duration::from_secs)
}

/// A size in bytes, with decimal or binary units: `500MB`, `2GiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let units = [
        ("", 1),
        ("B", 1),
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    match read(text, &units)? {
        0 => Err("the size must not be zero".to_owned()),
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_read_and_everything_else_is_refused() {
        assert_eq!(duration("7d"), Ok(Duration::from_hours(7 * 24)));
        assert_eq!(duration("90 s"), Ok(Duration::from_secs(90)));
        assert_eq!((bytes("2GiB"), bytes("500MB"), bytes("17")), (Ok(2 << 30), Ok(500_000_000), Ok(17)));
        for wrong in ["", "7", "d", "-1d", "1.5h", "7y", "99999999999999999999s", "18446744073709551615w"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "GiB", "0", "0MB", "2gib", "18446744073709551615kB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
