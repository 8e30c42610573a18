//! Ranks that equal values share.

/// Twice the rank of each value from 1, which is a whole number: equal values share the mean of theirs. In the order of the values.
pub(super) fn doubled_ranks(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0; values.len()];
    let mut first = 0;
    // Zero and its negative are equal.
    for group in order.chunk_by(|a, b| values[*a] >= values[*b]) {
        // The mean of the ranks first + 1 to first + group.len().
        for index in group {
            ranks[*index] = 2 * first + group.len() + 1;
        }
        first += group.len();
    }
    ranks
}

/// `sum t^3 - t` over groups of t equal values, by which ties shrink the variance of rank sums; from the ranks of all values.
pub(super) fn tie_term(doubled: &[usize]) -> f64 {
    let mut sorted = doubled.to_vec();
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).map(|group| (group.len() as f64).powi(3) - group.len() as f64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_the_mean_of_their_ranks() {
        let ranks = doubled_ranks(&[3.0, -0.0, 7.0, 0.0, 3.0, 3.0]);
        assert_eq!(ranks, [8, 3, 12, 3, 8, 8]);
        assert!(
            (tie_term(&ranks) - 30.0).abs() < 1e-12 && tie_term(&doubled_ranks(&[1.0, 2.0])).abs() < 1e-12
        );
    }
}
