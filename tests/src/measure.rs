//! Clocks, medians and tables for measurements.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Wall time and the CPU time of this process at a moment, and differences of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Times {
    /// Time on the wall, since an arbitrary point.
    pub wall: Duration,
    /// CPU time of all threads of this process, system calls included, child processes not.
    pub cpu: Duration,
}

impl Times {
    /// The clocks now.
    pub fn now() -> Self {
        let read = |clock| {
            let time = clock_gettime(clock);
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
        };
        Self { wall: read(ClockId::Monotonic), cpu: read(ClockId::ProcessCPUTime) }
    }

    /// What has passed since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self { wall: self.wall.saturating_sub(earlier.wall), cpu: self.cpu.saturating_sub(earlier.cpu) }
    }

    /// How long `work` takes, and what it gives.
    pub fn of<T>(work: impl FnOnce() -> T) -> (Self, T) {
        let start = Self::now();
        let result = work();
        (Self::now().since(start), result)
    }
}

/// The middle and both ends of some measured values, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many values.
    pub count: usize,
    /// The median.
    pub median_ms: f64,
    /// The smallest value.
    pub min_ms: f64,
    /// The largest value.
    pub max_ms: f64,
}

impl Summary {
    /// Summarises durations; `None` if there are none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use evoseal_tests::measure::Summary;
    /// let summary = Summary::of([9, 1, 2, 4].map(Duration::from_millis)).ok_or("no values")?;
    /// assert_eq!((summary.min_ms, summary.median_ms, summary.max_ms), (1.0, 3.0, 9.0));
    /// # Ok::<(), &str>(())
    /// ```
    pub fn of(values: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().map(|value| value.as_secs_f64() * 1e3).collect();
        values.sort_by(f64::total_cmp);
        let (min_ms, max_ms) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { count: values.len(), median_ms: f64::midpoint(low, high), min_ms, max_ms })
    }
}

/// Milliseconds with three significant digits.
///
/// ```
/// use evoseal_tests::measure::ms;
/// assert_eq!([ms(0.012_34), ms(1.5), ms(28.04), ms(490.2)], ["0.0123", "1.50", "28.0", "490"]);
/// ```
pub fn ms(value: f64) -> String {
    let steps = [(100.0, 0), (10.0, 1), (1.0, 2), (0.1, 3), (0.01, 4), (0.001, 5)];
    let digits = steps.iter().find(|(from, _)| value.abs() >= *from).map_or(6, |(_, digits)| *digits);
    format!("{value:.digits$}")
}

/// Rows under headings, columns aligned: the first to the left, figures to the right.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    for row in std::iter::once(&headings).chain(rows) {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ =
                if column == 0 { write!(text, "{cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// Writes figures as JSON.
pub fn write_json(file: &Path, figures: &impl Serialize) -> std::io::Result<()> {
    let mut json = serde_json::to_vec_pretty(figures)?;
    json.push(b'\n');
    std::fs::write(file, json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_counts_work_and_not_waiting() {
        let (work, sum) = Times::of(|| (0..3_000_000_u64).fold(0, |sum, x| std::hint::black_box(sum ^ x)));
        assert!(work.cpu > Duration::ZERO, "{work:?} {sum}");
        let start = Times::now();
        assert_eq!(start.since(Times::now()), Times::default(), "never negative");
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let rows = [vec!["a".to_owned(), "1.5".to_owned()], vec!["long".to_owned(), "20".to_owned()]];
        assert_eq!(table(&["what", "ms"], &rows), "what   ms\na     1.5\nlong   20\n");
    }
}
