//! The published scores: F1 and covering of change points, and the score of the Numenta benchmark.

use std::collections::{BTreeMap, BTreeSet};

/// How far from an annotation a change point may lie.
const MARGIN: usize = 5;

/// How well change points agree with those of several people: van den Burg and Williams (2020), "An Evaluation of
/// Change Point Detection Algorithms", section 3.2. Index 0 is a change in every annotation and every answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Agreement {
    /// Precision is counted against all people's changes together, recall is the mean over people; margin 5, each change is
    /// matched once.
    pub(crate) f1: f64,
    /// The mean over people of `sum |A| / n max Jaccard(A, A')` over their segments A and the answer's A'.
    pub(crate) cover: f64,
}

/// Scores the `found` change points of `n` values against those of each person.
pub(crate) fn agreement(people: &[Vec<usize>], found: &[usize], n: usize) -> Agreement {
    let with_zero = |points: &[usize]| -> BTreeSet<usize> { points.iter().copied().chain([0]).collect() };
    let found = with_zero(found);
    let each: Vec<BTreeSet<usize>> = people.iter().map(|points| with_zero(points)).collect();
    let all: BTreeSet<usize> = each.iter().flatten().copied().collect();
    let precision = matched(&all, &found) as f64 / found.len() as f64;
    let recall = mean(each.iter().map(|one| matched(one, &found) as f64 / one.len() as f64));
    let f1 = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
    let answer = segments(&found, n);
    let cover = mean(each.iter().map(|one| {
        let covered: f64 = segments(one, n)
            .iter()
            .map(|own| {
                (own.1 - own.0) as f64 * answer.iter().map(|other| jaccard(*own, *other)).fold(0.0, f64::max)
            })
            .sum();
        covered / n as f64
    }));
    Agreement { f1, cover }
}

/// How many true changes have one of the found ones within the margin, each of these used once, nearest first.
fn matched(truth: &BTreeSet<usize>, found: &BTreeSet<usize>) -> usize {
    let mut left = found.clone();
    let mut hits = 0;
    for point in truth {
        let near = left.range(point.saturating_sub(MARGIN)..=point + MARGIN);
        if let Some(nearest) = near.min_by_key(|other| (other.abs_diff(*point), **other)).copied() {
            left.remove(&nearest);
            hits += 1;
        }
    }
    hits
}

fn segments(points: &BTreeSet<usize>, n: usize) -> Vec<(usize, usize)> {
    let starts: Vec<usize> = points.iter().copied().filter(|point| *point < n).collect();
    let ends = starts.iter().copied().skip(1).chain([n]);
    starts.iter().copied().zip(ends).collect()
}

fn jaccard(a: (usize, usize), b: (usize, usize)) -> f64 {
    let common = a.1.min(b.1).saturating_sub(a.0.max(b.0));
    common as f64 / (a.1.max(b.1) - a.0.min(b.0)).max(1) as f64
}

pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// A file of the Numenta benchmark, with the scores of a detector.
#[derive(Debug)]
pub(crate) struct Scored {
    /// First and last row of each labelled window, both inside.
    pub(crate) windows: Vec<(usize, usize)>,
    /// Rows at the beginning that are not scored.
    pub(crate) probation: usize,
    /// One score per row; an alarm is a score at or above the threshold.
    pub(crate) scores: Vec<f64>,
}

/// What a false alarm costs in the standard profile, where a hit gains and a miss costs one.
const FALSE_ALARM: f64 = 0.11;

/// The score of the Numenta benchmark, standard profile: Lavin and Ahmad (2015), "Evaluating Real-time Anomaly Detection
/// Algorithms", section III, as in its version 1.1; 0 for a detector that never alarms, 100 for the earliest possible
/// hits and no false alarm. Gives the best threshold over all files together, as the benchmark does, and its score.
pub(crate) fn numenta(files: &[Scored]) -> (f64, f64) {
    let mut rows = Vec::new();
    let mut windows = BTreeSet::new();
    for (number, file) in files.iter().enumerate() {
        for (row, score) in file.scores.iter().enumerate().skip(file.probation) {
            let (value, window) = worth(row, &file.windows);
            let window = window.map(|window| (number, window));
            windows.extend(window);
            rows.push((*score, value, window));
        }
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let nothing = -(windows.len() as f64);
    let (mut total, mut best, mut threshold) = (nothing, nothing, f64::INFINITY);
    let mut hits: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for (index, (score, value, window)) in rows.iter().enumerate() {
        match window {
            None => total += value,
            // Only the best hit of a window counts, instead of the miss.
            Some(window) => {
                let before = hits.get(window).copied().unwrap_or(-1.0);
                if *value > before {
                    total += value - before;
                    hits.insert(*window, *value);
                }
            }
        }
        // Rows of equal score alarm together.
        let last_of_equals = rows.get(index + 1).is_none_or(|next| next.0 < *score);
        if last_of_equals && total > best {
            (best, threshold) = (total, *score);
        }
    }
    let perfect = windows.len() as f64;
    let score = if windows.is_empty() { 0.0 } else { 100.0 * (best - nothing) / (perfect - nothing) };
    (score, threshold)
}

/// What keeps a detector from a Numenta score of 100, in points of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Losses {
    /// How many windows there are, and how many have no alarm.
    pub(crate) windows: usize,
    pub(crate) missed: usize,
    /// What the missed windows cost, the late hits, and the false alarms.
    pub(crate) misses: f64,
    pub(crate) lateness: f64,
    pub(crate) false_alarms: f64,
}

/// Takes the score at a threshold apart: 100 minus the three losses.
pub(crate) fn losses(files: &[Scored], threshold: f64) -> Losses {
    let mut losses = Losses::default();
    for file in files {
        let mut best: BTreeMap<usize, f64> = BTreeMap::new();
        for row in file.probation..file.scores.len() {
            let (value, window) = worth(row, &file.windows);
            let is_alarm = file.scores[row] >= threshold;
            match window {
                // -1 is a miss.
                Some(window) => {
                    let hit = best.entry(window).or_insert(-1.0);
                    *hit = if is_alarm { hit.max(value) } else { *hit };
                }
                None if is_alarm => losses.false_alarms -= value,
                None => {}
            }
        }
        losses.windows += best.len();
        losses.missed += best.values().filter(|hit| **hit <= -1.0).count();
        losses.lateness += best.values().filter(|hit| **hit > -1.0).map(|hit| 1.0 - hit).sum::<f64>();
    }
    let points = 100.0 / (2.0 * losses.windows.max(1) as f64);
    losses.misses = 2.0 * points * losses.missed as f64;
    losses.lateness *= points;
    losses.false_alarms *= points;
    losses
}

/// What an alarm in this row is worth, and the window it lies in.
fn worth(row: usize, windows: &[(usize, usize)]) -> (f64, Option<usize>) {
    let sigmoid = |place: f64| if place > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * place).exp()) - 1.0 };
    if let Some(number) = windows.iter().position(|(first, last)| (*first..=*last).contains(&row)) {
        let (first, last) = windows[number];
        let place = -((last - row + 1) as f64) / (last - first + 1) as f64;
        return (sigmoid(place) / sigmoid(-1.0), Some(number));
    }
    let before = windows.iter().rev().find(|(_, last)| *last < row);
    let value =
        before.map_or(-1.0, |(first, last)| sigmoid((row - last) as f64 / (last - first).max(1) as f64));
    (FALSE_ALARM * value, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_that_of_a_worked_example() {
        // Two people, one change found 3 off, one invented: 2 of 3 found are near; recall 1 and 1/2.
        let scored = agreement(&[vec![50], vec![50, 80]], &[53, 20], 100);
        let (precision, recall) = (2.0 / 3.0, f64::midpoint(1.0, 2.0 / 3.0));
        assert!((scored.f1 - 2.0 * precision * recall / (precision + recall)).abs() < 1e-12, "{scored:?}");
        // The answer's segments are 0..20, 20..53 and 53..100.
        let first = 0.5 * (30.0 / 53.0) + 0.5 * (47.0 / 50.0);
        let second = 0.5 * (30.0 / 53.0) + 0.3 * (27.0 / 50.0) + 0.2 * (20.0 / 47.0);
        assert!((scored.cover - f64::midpoint(first, second)).abs() < 1e-12, "{scored:?} {first} {second}");
        assert_eq!(agreement(&[vec![]], &[], 10), Agreement { f1: 1.0, cover: 1.0 });
    }

    #[test]
    fn losses_make_up_what_a_score_lacks() {
        let mut scores = vec![0.0; 200];
        for row in [30, 56, 120] {
            scores[row] = 4.0;
        }
        let files = [Scored { windows: vec![(50, 59), (150, 160)], probation: 15, scores }];
        let (score, threshold) = numenta(&files);
        let found = losses(&files, threshold);
        assert_eq!((found.windows, found.missed), (2, 1));
        let lost = found.misses + found.lateness + found.false_alarms;
        assert!(
            (score + lost - 100.0).abs() < 1e-9 && found.lateness > 0.0 && found.false_alarms > 0.0,
            "{found:?}"
        );
    }

    #[test]
    fn the_numenta_score_rewards_early_hits_and_counts_false_alarms() {
        let file = |alarms: &[usize]| {
            let mut scores = vec![0.0; 100];
            for row in alarms {
                scores[*row] = 1.0;
            }
            Scored { windows: vec![(50, 59)], probation: 15, scores }
        };
        let (perfect, threshold) = numenta(&[file(&[50])]);
        assert!((perfect - 100.0).abs() < 1e-9 && threshold >= 1.0, "{perfect} {threshold}");
        assert!(numenta(&[file(&[])]).0.abs() < 1e-9, "silence");
        let late = numenta(&[file(&[59])]).0;
        assert!(late > 50.0 && late < perfect, "{late}");
        let (false_alarm, _) = numenta(&[file(&[20, 50])]);
        assert!((false_alarm - (100.0 - 50.0 * FALSE_ALARM)).abs() < 1e-9, "{false_alarm}");
        assert!((numenta(&[file(&[3, 50])]).0 - 100.0).abs() < 1e-9, "rows on probation do not count");
    }
}
