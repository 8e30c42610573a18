//! E-divisive: changes of the whole distribution, by the energy statistic.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

/// The fewest values of a segment.
const LEAST: usize = 3;

/// The best cut of a sample, and its energy statistic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnergySplit {
    /// How many values lie before the cut.
    pub index: usize,
    /// The scaled energy distance between the two sides, not negative.
    pub statistic: f64,
}

/// The cut of at least six finite values at which the two sides differ most, over **all** cuts with three values or more on each side.
///
/// The statistic of a cut into `m` values `x` and `k` values `y` is
/// `m k / (m + k) (2 mean |x - y| - mean |x - x'| - mean |y - y'|)` (Matteson and James 2014, *JASA* 109, equations 5 to 7
/// with exponent 1; the means over all ordered pairs). It is zero only for equal distributions, so a change of spread counts as well
/// as one of level. Moving the cut by one value changes the three sums by distances from that value, which a Fenwick
/// tree over the ranks has in logarithmic time: exact in `O(n log n)`, where the definition takes `O(n^3)`.
///
/// `None` for fewer than six values.
///
/// ```
/// use evoseal_regression::energy_split;
/// let split = energy_split(&[1.0, 1.2, 0.9, 1.1, 5.0, 5.2, 4.9]).expect("seven values");
/// assert_eq!(split.index, 4);
/// ```
pub fn energy_split(values: &[f64]) -> Option<EnergySplit> {
    if values.len() < 2 * LEAST {
        return None;
    }
    Some(Ranked::of(values).best(&(0..values.len()).collect::<Vec<_>>()))
}

/// The starts of the segments that E-divisive finds: the best cut of all segments is kept while a permutation test of it
/// rejects at `level`, with `permutations` permutations of a fixed seed.
pub(crate) fn e_divisive(values: &[f64], level: f64, permutations: u32, seed: u64) -> Vec<usize> {
    let mut starts = vec![0];
    let mut open = vec![(0, values.len())];
    let mut generator = ChaCha12Rng::seed_from_u64(seed);
    while let Some((start, end)) = open.pop() {
        let part = &values[start..end];
        if part.len() < 2 * LEAST {
            continue;
        }
        let ranked = Ranked::of(part);
        let mut order: Vec<usize> = (0..part.len()).collect();
        let split = ranked.best(&order);
        if split.statistic <= 0.0 {
            continue;
        }
        // As soon as the test cannot reject any more it ends (Besag and Clifford 1991).
        let at_most = level * f64::from(permutations + 1) - 1.0;
        let mut as_large = 0;
        for _ in 0..permutations {
            order.shuffle(&mut generator);
            if ranked.best(&order).statistic >= split.statistic {
                as_large += 1;
                if f64::from(as_large) > at_most {
                    break;
                }
            }
        }
        if f64::from(as_large) <= at_most {
            starts.push(start + split.index);
            open.push((start + split.index, end));
            open.push((start, start + split.index));
        }
    }
    starts.sort_unstable();
    starts
}

/// A sample with what any order of it shares.
struct Ranked<'a> {
    values: &'a [f64],
    /// The place of each value among the sorted ones, from 1.
    ranks: Vec<usize>,
    /// The sum of distances of each value from all.
    distances: Vec<f64>,
}

impl<'a> Ranked<'a> {
    fn of(values: &'a [f64]) -> Self {
        let n = values.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        let total: f64 = values.iter().sum();
        let (mut ranks, mut distances) = (vec![0; n], vec![0.0; n]);
        let mut below = 0.0;
        for (place, &index) in order.iter().enumerate() {
            let value = values[index];
            ranks[index] = place + 1;
            distances[index] = value * place as f64 - below + (total - below) - value * (n - place) as f64;
            below += value;
        }
        Self { values, ranks, distances }
    }

    /// The best cut of the values in `order`.
    fn best(&self, order: &[usize]) -> EnergySplit {
        let n = order.len();
        // Fenwick tree over the ranks of the left side: how many values, and their sum.
        let mut tree = vec![(0.0, 0.0); n + 1];
        let (mut within_left, mut between) = (0.0, 0.0);
        let mut within_right: f64 = self.distances.iter().sum::<f64>() / 2.0;
        let mut left_sum = 0.0;
        let mut best = EnergySplit { index: 0, statistic: f64::NEG_INFINITY };
        for (place, &index) in order.iter().enumerate() {
            let (value, rank) = (self.values[index], self.ranks[index]);
            let (mut count, mut sum) = (0.0, 0.0);
            let mut node = rank;
            while node > 0 {
                count += tree[node].0;
                sum += tree[node].1;
                node &= node - 1;
            }
            let from_left = value * count - sum + (left_sum - sum) - value * (place as f64 - count);
            let from_right = self.distances[index] - from_left;
            within_left += from_left;
            within_right -= from_right;
            between += from_right - from_left;
            left_sum += value;
            node = rank;
            while node <= n {
                tree[node].0 += 1.0;
                tree[node].1 += value;
                node += node & node.wrapping_neg();
            }
            let (left, right) = (place + 1, n - place - 1);
            if left >= LEAST && right >= LEAST {
                let (m, k) = (left as f64, right as f64);
                let statistic = m * k / (m + k)
                    * (2.0 * between / (m * k) - 2.0 * within_left / (m * m) - 2.0 * within_right / (k * k));
                if statistic > best.statistic {
                    best = EnergySplit { index: left, statistic: statistic.max(0.0) };
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, pair by pair.
    fn by_definition(values: &[f64]) -> EnergySplit {
        let mean = |a: &[f64], b: &[f64]| {
            a.iter().flat_map(|x| b.iter().map(move |y| (x - y).abs())).sum::<f64>()
                / (a.len() * b.len()) as f64
        };
        let mut best = EnergySplit { index: 0, statistic: f64::NEG_INFINITY };
        for index in LEAST..=values.len() - LEAST {
            let (x, y) = values.split_at(index);
            let (m, k) = (x.len() as f64, y.len() as f64);
            let statistic = m * k / (m + k) * (2.0 * mean(x, y) - mean(x, x) - mean(y, y));
            if statistic > best.statistic + 1e-12 {
                best = EnergySplit { index, statistic };
            }
        }
        best
    }

    #[test]
    fn the_fast_search_equals_the_definition() {
        let mut state = 7_u64;
        for length in [6, 7, 20, 41] {
            let values: Vec<f64> = (0..length)
                .map(|index| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // Ties on purpose.
                    f64::from((state >> 60) as u32) + if index > length / 2 { 3.0 } else { 0.0 }
                })
                .collect();
            let (fast, slow) = (energy_split(&values).unwrap(), by_definition(&values));
            assert_eq!(fast.index, slow.index, "{values:?}");
            assert!((fast.statistic - slow.statistic).abs() < 1e-9, "{fast:?} {slow:?}");
        }
        assert_eq!(energy_split(&[1.0; 5]), None);
    }

    #[test]
    fn a_change_of_spread_alone_is_found() {
        let values: Vec<f64> = (0..80)
            .map(|index| f64::from((index * 37) % 11 - 5) * if index < 40 { 1.0 } else { 10.0 })
            .collect();
        let starts = e_divisive(&values, 0.05, 199, 1);
        assert!(starts.iter().any(|start| (36..=44).contains(start)), "{starts:?}");
        assert_eq!(starts, e_divisive(&values, 0.05, 199, 1), "the same seed, the same answer");
    }
}
