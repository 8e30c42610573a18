//! Isolated outliers of the segments between two changes.

use evoseal_types::Severity;

use super::adaptive_limit;
use crate::Anomaly;
use crate::change_point::{Prepared, against_estimated};
use crate::statistics::modified_score;

/// How many neighbours on each side a value is judged against.
const NEIGHBOURS: usize = 50;
/// What the median absolute deviation is worth in degrees of freedom per value: its efficiency (Rousseeuw and Croux 1993).
const MAD_FREEDOM: f64 = 0.37;
/// The fewest values of a segment in which one can be called an outlier.
const SEGMENT_MIN: usize = 9;

/// The values that lie far from the others of their segment: spikes and drops of one to three values in a row.
///
/// A value is looked at if it lies more than three standard deviations of the noise from the median of the seven around it, and marked if its
/// modified z-score against the up to fifty values before and after it in its segment, itself left out, passes
/// [`adaptive_limit`], raised for their scale being an estimate. A season that was found is taken away first.
pub(crate) fn outliers(prepared: &Prepared, starts: &[usize], least: f64) -> Vec<Anomaly> {
    let (plain, tamed) = (&prepared.plain, &prepared.tamed);
    let limit = adaptive_limit(least, plain.len());
    let mut found = Vec::new();
    let mut others: Vec<f64> = Vec::with_capacity(2 * NEIGHBOURS);
    let ends = starts.iter().copied().skip(1).chain([plain.len()]);
    for (start, end) in starts.iter().copied().zip(ends).filter(|(start, end)| end - start >= SEGMENT_MIN) {
        for index in start..end {
            if (plain[index] - tamed[index]).abs() <= 0.0 {
                continue;
            }
            let (first, last) =
                (start.max(index.saturating_sub(NEIGHBOURS)), end.min(index + 1 + NEIGHBOURS));
            others.clear();
            others.extend_from_slice(&plain[first..index]);
            others.extend_from_slice(&plain[index + 1..last]);
            let score = modified_score(&mut others, plain[index]);
            let limit = against_estimated(limit * limit, MAD_FREEDOM * others.len() as f64).sqrt();
            if score.abs() > limit {
                let severity = if score.abs() > 1.5 * limit { Severity::High } else { Severity::Medium };
                let method = if score > 0.0 { "spike" } else { "drop" };
                found.push(Anomaly { method: method.to_owned(), severity, score, index });
            }
        }
    }
    found
}
