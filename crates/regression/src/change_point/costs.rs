//! What a segment costs: the sum of squared residuals around its own level or line, in constant time.

/// The sum of squared residuals of a segment around the best model of its own.
///
/// `cost` never rises when a segment is cut in two, which is what pruning and the search rest on.
pub(crate) trait SegmentCost {
    /// The fewest values that a segment needs so that its residuals mean something.
    const LEAST: usize;

    /// How many values there are.
    fn len(&self) -> usize;

    /// The cost of the values from `start` up to, and without, `end`; `start < end`.
    fn cost(&self, start: usize, end: usize) -> f64;
}

/// Segments of constant level.
#[derive(Debug)]
pub(crate) struct LevelCost {
    /// Sums of the first i values and of their squares.
    sums: Vec<(f64, f64)>,
}

impl LevelCost {
    /// The values should be centred and of moderate size: sums of squares are differences of prefixes.
    pub(crate) fn new(values: &[f64]) -> Self {
        let mut sums = Vec::with_capacity(values.len() + 1);
        let (mut sum, mut squares) = (0.0, 0.0);
        sums.push((sum, squares));
        for value in values {
            sum += value;
            squares += value * value;
            sums.push((sum, squares));
        }
        Self { sums }
    }
}

impl SegmentCost for LevelCost {
    const LEAST: usize = 3;

    fn len(&self) -> usize {
        self.sums.len() - 1
    }

    #[inline]
    fn cost(&self, start: usize, end: usize) -> f64 {
        let (from, to) = (self.sums[start], self.sums[end]);
        let (sum, squares) = (to.0 - from.0, to.1 - from.1);
        (squares - sum * sum / (end - start) as f64).max(0.0)
    }
}

/// Segments that are straight lines of any slope.
#[derive(Debug)]
pub(crate) struct LineCost {
    /// Sums of the first i values, of their squares, and of their products with the index.
    sums: Vec<(f64, f64, f64)>,
}

impl LineCost {
    /// The values should be centred and of moderate size.
    pub(crate) fn new(values: &[f64]) -> Self {
        let mut sums = Vec::with_capacity(values.len() + 1);
        let (mut sum, mut squares, mut products) = (0.0, 0.0, 0.0);
        sums.push((sum, squares, products));
        for (index, value) in values.iter().enumerate() {
            sum += value;
            squares += value * value;
            products += value * index as f64;
            sums.push((sum, squares, products));
        }
        Self { sums }
    }
}

impl SegmentCost for LineCost {
    const LEAST: usize = 3;

    fn len(&self) -> usize {
        self.sums.len() - 1
    }

    #[inline]
    fn cost(&self, start: usize, end: usize) -> f64 {
        let (from, to) = (self.sums[start], self.sums[end]);
        let (sum, squares, products) = (to.0 - from.0, to.1 - from.1, to.2 - from.2);
        let n = (end - start) as f64;
        // The mean of the indices, and the sum of their squared distances from it, in closed form.
        let (centre, spread) = ((start + end - 1) as f64 / 2.0, n * (n * n - 1.0) / 12.0);
        let slope_part = products - centre * sum;
        let explained = if spread > 0.0 { slope_part * slope_part / spread } else { 0.0 };
        (squares - sum * sum / n - explained).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_the_residuals_of_the_fitted_models() {
        let values = [1.0, 3.0, 2.0, 5.0, 4.0, 8.0];
        let (level, line) = (LevelCost::new(&values), LineCost::new(&values));
        // Around the mean 3.5 of 2, 5, 4, 8 less the first: by hand.
        assert!((level.cost(1, 5) - 5.0).abs() < 1e-12, "{}", level.cost(1, 5));
        // The line through 3, 2, 5, 4: slope 0.6, residuals -0.1·…: RSS = 5 - 0.6² · 5 = 3.2.
        assert!((line.cost(1, 5) - 3.2).abs() < 1e-12, "{}", line.cost(1, 5));
        assert!(line.cost(2, 4).abs() < 1e-12, "two points lie on a line");
        assert!(level.cost(3, 4).abs() < 1e-12, "one point is a level");
    }
}
