//! Count, mean and sum of squares, one value at a time.

use serde::{Deserialize, Serialize};

/// Running moments (Welford 1962), which add and pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moments {
    pub(crate) count: f64,
    pub(crate) mean: f64,
    /// The sum of squared deviations from the mean.
    pub(crate) squares: f64,
}

impl Moments {
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut moments = Self::default();
        for value in values {
            moments.push(*value);
        }
        moments
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.count += 1.0;
        let before = value - self.mean;
        self.mean += before / self.count;
        self.squares += before * (value - self.mean);
    }

    /// Joins two groups as if they were one (Chan, Golub and LeVeque 1979).
    pub(crate) fn join(self, other: Self) -> Self {
        if other.count <= 0.0 {
            return self;
        }
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + apart * other.count / count,
            squares: self.squares + other.squares + apart * apart * self.count * other.count / count,
        }
    }

    /// Degrees of freedom of the sum of squares.
    pub(crate) fn degrees_of_freedom(self) -> f64 {
        (self.count - 1.0).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_groups_have_the_moments_of_all_values() {
        let (left, right) = ([1.0, 5.0, 2.5], [10.0, -3.0]);
        let all: Vec<f64> = left.into_iter().chain(right).collect();
        let (joined, whole) = (Moments::of(&left).join(Moments::of(&right)), Moments::of(&all));
        assert!((joined.mean - whole.mean).abs() < 1e-12 && (joined.squares - whole.squares).abs() < 1e-9);
        assert_eq!((joined.count, Moments::default().join(whole)), (5.0, whole));
    }
}
