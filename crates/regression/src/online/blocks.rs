//! A stream's past in blocks that grow with their age.

/// How many blocks of each size are kept before two become one of the double size: a change's place is known to a share of its age.
const EACH: usize = 8;

/// Sums of a stream since some start, in blocks of 1, 2, 4, … values, the oldest first: memory that grows with the logarithm.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocks {
    /// How many values, and their sum.
    parts: Vec<(usize, f64)>,
    count: usize,
    sum: f64,
}

/// Where a stream falls apart best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    /// How many values come after it.
    pub(super) newer: usize,
    /// By how much the cut lowers the sum of squared residuals.
    pub(super) gain: f64,
    /// Among how many cuts it is the best.
    pub(super) cuts: usize,
}

impl Blocks {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn push(&mut self, value: f64) {
        self.parts.push((1, value));
        self.count += 1;
        self.sum += value;
        let mut end = self.parts.len();
        // From the newest on: where one size has become too frequent, its two oldest become one.
        while let Some(size) = end.checked_sub(1).map(|last| self.parts[last].0) {
            let start =
                self.parts[..end].iter().rposition(|(other, _)| *other != size).map_or(0, |at| at + 1);
            if end - start <= EACH {
                break;
            }
            let (count, sum) = self.parts.remove(start);
            self.parts[start].0 += count;
            self.parts[start].1 += sum;
            end = start + 1;
        }
    }

    /// The best cut between two blocks with at least `older_min` values before it.
    pub(super) fn best_cut(&self, older_min: usize) -> Option<Cut> {
        let (mut newer, mut newer_sum) = (0, 0.0);
        let mut best: Option<Cut> = None;
        let mut cuts = 0;
        for (count, sum) in self.parts.iter().skip(1).rev() {
            newer += count;
            newer_sum += sum;
            let older = self.count - newer;
            if older < older_min {
                break;
            }
            cuts += 1;
            let (m, k) = (older as f64, newer as f64);
            let difference = newer_sum / k - (self.sum - newer_sum) / m;
            let gain = difference * difference * m * k / (m + k);
            if best.is_none_or(|best| gain > best.gain) {
                best = Some(Cut { newer, gain, cuts: 0 });
            }
        }
        best.map(|best| Cut { cuts, ..best })
    }

    /// The mean of all but the newest `newer` values, which must be whole blocks.
    pub(super) fn older_mean(&self, newer: usize) -> f64 {
        let (mut count, mut newer_sum) = (0, 0.0);
        for (size, part) in self.parts.iter().rev() {
            if count >= newer {
                break;
            }
            count += size;
            newer_sum += part;
        }
        (self.sum - newer_sum) / (self.count - newer).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_the_logarithm_and_sums_stay_right() {
        let mut blocks = Blocks::default();
        for index in 0..1_000_000_u32 {
            blocks.push(f64::from(index % 3));
        }
        assert_eq!(blocks.count(), 1_000_000);
        assert!(blocks.parts.len() <= EACH * 21, "{}", blocks.parts.len());
        assert!((blocks.sum - 999_999.0).abs() < 1e-6, "{}", blocks.sum);
        assert!(blocks.parts.is_sorted_by(|older, newer| older.0 >= newer.0), "the oldest are the largest");
    }

    #[test]
    fn the_cut_lies_where_the_level_changes() {
        let mut blocks = Blocks::default();
        (0..60).for_each(|_| blocks.push(1.0));
        (0..6).for_each(|_| blocks.push(3.0));
        let cut = blocks.best_cut(3).unwrap();
        assert_eq!(cut.newer, 6);
        assert!((cut.gain - 4.0 * 360.0 / 66.0).abs() < 1e-9, "{cut:?}");
        assert!((blocks.older_mean(6) - 1.0).abs() < 1e-12);
    }
}
