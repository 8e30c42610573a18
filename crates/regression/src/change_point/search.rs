//! The least-cost segmentation: over all places (PELT), or over the places that a multi-scale scan proposes.

use super::costs::SegmentCost;

/// Where segments start, in order; the first is 0.
pub(crate) type Starts = Vec<usize>;

/// The most places among which [`segment`] looks for the best combination; the strongest are kept. The work of the
/// combination is at most half the square of this, whatever the length of the series; pruning leaves little of that where many
/// places are changes.
const CANDIDATES_MAX: usize = 16_384;

/// Which share of the price of a change a place must earn in some interval to be a candidate. Below one, because a place
/// may pay only beside the right neighbours.
const CANDIDATE_SHARE: f64 = 0.5;

/// How often segments are looked through again for places that the scan passed over.
const ROUNDS: usize = 4;

/// The exact minimum of `sum of costs + penalty * segments` over all segmentations with segments of at least
/// [`SegmentCost::LEAST`] values (a shorter series is one segment): optimal partitioning with the pruning of Killick,
/// Fearnhead and Eckley (2012), "PELT", theorem 3.1 with K = 0.
///
/// Linear time where changes are regular; quadratic where there are none.
pub(crate) fn pelt<C: SegmentCost>(cost: &C, penalty: f64) -> Starts {
    let nodes: Vec<usize> = (0..=cost.len()).collect();
    combine(cost, &nodes, penalty)
}

/// The best combination of the places that a multi-scale scan proposes, refined.
///
/// Seeded binary segmentation (Kovács, Bühlmann, Li and Munk 2023, *Biometrika* 110) proposes: intervals of lengths n, n/2, n/4, …
/// that overlap by half each give their best split if it earns half the penalty. Among the proposals the exact
/// least-cost segmentation is computed; each change is moved to the best place between its neighbours; and each
/// segment is searched once more as a whole. `O(n log n)` beside the combination, which is bounded.
pub(crate) fn segment<C: SegmentCost>(cost: &C, penalty: f64) -> Starts {
    let n = cost.len();
    if n < 2 * C::LEAST {
        return vec![0];
    }
    let mut candidates = seeds(cost, CANDIDATE_SHARE * penalty);
    let mut starts = combine(cost, &nodes(&candidates, n), penalty);
    for _ in 0..ROUNDS {
        let refined = refine(cost, &starts);
        let mut news: Vec<usize> = refined.iter().copied().filter(|place| !starts.contains(place)).collect();
        news.extend(bounds(&refined, n).filter_map(|(start, end)| {
            best_split(cost, start, end).filter(|(_, gain)| *gain > penalty).map(|(place, _)| place)
        }));
        if news.is_empty() {
            break;
        }
        news.truncate(CANDIDATES_MAX.saturating_sub(candidates.len()));
        candidates.extend(news);
        candidates.sort_unstable();
        candidates.dedup();
        let next = combine(cost, &nodes(&candidates, n), penalty);
        if next == starts {
            break;
        }
        starts = next;
    }
    starts
}

/// Segments as pairs of their first index and the one past their last.
pub(crate) fn bounds(starts: &[usize], n: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
    starts.iter().copied().zip(starts.iter().copied().skip(1).chain([n]))
}

/// The best place to cut a segment in two and what that saves; `None` where it is too short.
pub(crate) fn best_split<C: SegmentCost>(cost: &C, start: usize, end: usize) -> Option<(usize, f64)> {
    let mut best: Option<(usize, f64)> = None;
    if end - start < 2 * C::LEAST {
        return best;
    }
    let whole = cost.cost(start, end);
    for place in start + C::LEAST..=end - C::LEAST {
        let gain = whole - cost.cost(start, place) - cost.cost(place, end);
        if best.is_none_or(|(_, most)| gain > most) {
            best = Some((place, gain));
        }
    }
    best
}

/// The best splits of the seeded intervals that earn at least `least_gain`, in order.
fn seeds<C: SegmentCost>(cost: &C, least_gain: f64) -> Vec<usize> {
    let n = cost.len();
    let mut found: Vec<(usize, f64)> = Vec::new();
    let mut length = n;
    while length >= 2 * C::LEAST {
        let step = (length / 2).max(1);
        let mut start = 0;
        loop {
            let end = (start + length).min(n);
            // The last interval is moved back so that it is as long as the others.
            let from = end - length;
            found.extend(best_split(cost, from, end).filter(|(_, gain)| *gain >= least_gain));
            if end == n {
                break;
            }
            start += step;
        }
        length /= 2;
    }
    // A place that many intervals propose counts with its greatest gain.
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    found.dedup_by_key(|(place, _)| *place);
    if found.len() > CANDIDATES_MAX {
        found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(CANDIDATES_MAX);
    }
    let mut places: Vec<usize> = found.into_iter().map(|(place, _)| place).collect();
    places.sort_unstable();
    places
}

/// Both ends of a series and the candidates between.
fn nodes(candidates: &[usize], n: usize) -> Vec<usize> {
    [0].into_iter().chain(candidates.iter().copied()).chain([n]).collect()
}

/// The exact least-cost segmentation with changes at the given places only, of which the first is 0 and the last the length.
fn combine<C: SegmentCost>(cost: &C, nodes: &[usize], penalty: f64) -> Starts {
    let last = nodes.len() - 1;
    let mut best = vec![f64::INFINITY; nodes.len()];
    let mut from = vec![0; nodes.len()];
    best[0] = -penalty;
    // Nodes that may begin a segment, each with the place from which on it cannot any more.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut waiting = 0;
    for end in 1..=last {
        let place = nodes[end];
        open.retain(|(_, closed)| *closed > place);
        while waiting < end && nodes[waiting] + C::LEAST <= place {
            if best[waiting].is_finite() {
                open.push((waiting, usize::MAX));
            }
            waiting += 1;
        }
        if end == last && place < C::LEAST {
            // A series shorter than a segment is one.
            open.push((0, usize::MAX));
        }
        for (start, closed) in &mut open {
            let without = best[*start] + cost.cost(nodes[*start], place);
            if without + penalty < best[end] {
                best[end] = without + penalty;
                from[end] = *start;
            } else if *closed == usize::MAX && without > best[end] {
                // A start that is dearer than the best way to this place begins no optimum that could go through this place
                // instead, which it could once a segment of the least length fits behind it.
                *closed = place + C::LEAST;
            }
        }
    }
    back(&from, last).into_iter().map(|node| nodes[node]).collect()
}

/// Each change at its best place between the changes before and after it.
fn refine<C: SegmentCost>(cost: &C, starts: &[usize]) -> Starts {
    let n = cost.len();
    let mut refined = starts.to_vec();
    for index in 1..refined.len() {
        let end = refined.get(index + 1).copied().unwrap_or(n);
        if let Some((place, _)) = best_split(cost, refined[index - 1], end) {
            refined[index] = place;
        }
    }
    refined
}

fn back(from: &[usize], last: usize) -> Starts {
    let mut starts = Vec::new();
    let mut end = last;
    while end > 0 {
        end = from[end];
        starts.push(end);
    }
    starts.reverse();
    starts
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::costs::{LevelCost, LineCost};
    use super::*;

    /// Numbers between -1 and 1 from a recorded seed.
    fn noise(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        }
    }

    /// What a segmentation costs.
    fn price<C: SegmentCost>(cost: &C, starts: &[usize], penalty: f64) -> f64 {
        bounds(starts, cost.len()).map(|(start, end)| cost.cost(start, end) + penalty).sum()
    }

    /// The least price over all segmentations, each looked at.
    fn least<C: SegmentCost>(cost: &C, penalty: f64) -> f64 {
        let n = cost.len();
        let mut best = vec![f64::INFINITY; n + 1];
        best[0] = 0.0;
        for end in 1..=n {
            for start in 0..end {
                if end - start >= C::LEAST || (start, end) == (0, n) {
                    best[end] = f64::min(best[end], best[start] + cost.cost(start, end) + penalty);
                }
            }
        }
        best[n]
    }

    #[test]
    fn pruning_loses_no_optimum() {
        for seed in 0..60 {
            let mut next = noise(seed);
            let n = 3 + usize::try_from(seed).unwrap();
            let values: Vec<f64> =
                (0..n).map(|index| next() + if (index / 9) % 2 == 0 { 0.0 } else { 2.0 }).collect();
            for penalty in [0.05, 0.5, 3.0] {
                let (level, line) = (LevelCost::new(&values), LineCost::new(&values));
                let (exact, found) = (least(&level, penalty), price(&level, &pelt(&level, penalty), penalty));
                assert!((exact - found).abs() < 1e-9, "seed {seed}: {found} instead of {exact}");
                let (exact, found) = (least(&line, penalty), price(&line, &pelt(&line, penalty), penalty));
                assert!((exact - found).abs() < 1e-9, "lines, seed {seed}: {found} instead of {exact}");
            }
        }
    }

    #[test]
    fn the_scan_is_hardly_ever_dearer_than_the_exact_search() {
        let (mut same, mut trials) = (0, 0);
        for seed in 0..40 {
            let mut next = noise(1000 + seed);
            let mut level = 0.0;
            let values: Vec<f64> = (0..400)
                .map(|_| {
                    if next() > 0.97 {
                        level = 3.0 * next();
                    }
                    level + next()
                })
                .collect();
            let cost = LevelCost::new(&values);
            let penalty = (400.0_f64).ln();
            let (exact, found) = (pelt(&cost, penalty), segment(&cost, penalty));
            let excess = price(&cost, &found, penalty) / price(&cost, &exact, penalty) - 1.0;
            assert!(excess < 0.02, "seed {seed}: dearer by {excess}");
            same += u32::from(found == exact);
            trials += 1;
        }
        assert!(same * 10 >= trials * 8, "{same} of {trials} are the optimum");
    }

    /// Counts how often costs are asked for.
    struct Counted<'a>(LevelCost, &'a Cell<usize>);

    impl SegmentCost for Counted<'_> {
        const LEAST: usize = LevelCost::LEAST;

        fn len(&self) -> usize {
            self.0.len()
        }

        fn cost(&self, start: usize, end: usize) -> f64 {
            self.1.set(self.1.get() + 1);
            self.0.cost(start, end)
        }
    }

    #[test]
    fn the_work_on_long_series_grows_hardly_faster_than_their_length() {
        for (n, changes) in [(200_000, 0), (200_000, 50), (200_000, 2000)] {
            let mut next = noise(7);
            let values: Vec<f64> = (0..n)
                .map(|index| next() + if changes > 0 && (index * changes / n) % 2 == 1 { 2.0 } else { 0.0 })
                .collect();
            let count = Cell::new(0);
            let found = segment(&Counted(LevelCost::new(&values), &count), 3.0 * (n as f64).ln());
            assert_eq!(found.len(), changes.max(1), "all changes and no others");
            // Two costs for each place of each interval, two intervals over each place of each of log2 n lengths, three passes
            // for each round, and the combination.
            let bound = 2 * n * (2 * n.ilog2() as usize + 3 * ROUNDS + 6);
            assert!(count.get() < bound, "{changes} changes: {} costs, {bound} allowed", count.get());
        }
    }
}
