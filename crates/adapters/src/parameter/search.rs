//! Choosing what to try next.

use std::collections::BTreeSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Combination;
use super::settings::Parameter;

/// How often a random draw is tried before all neighbours are gone through in order. At this number of draws a
/// neighbourhood of which half is untried gives one with all but certainty.
const DRAWS_MAX: usize = 32;
/// One proposal in this many changes two parameters at once, to get past a pair that only pays off together.
const PAIR_ONE_IN: u32 = 5;

/// A combination that was not tried, near the incumbent: usually one parameter away, sometimes two, further only when
/// nothing nearer is left. `None` when every combination that can be reached was tried.
pub(super) fn next(
    rng: &mut ChaCha8Rng,
    parameters: &[Parameter],
    incumbent: &Combination,
    tried: &BTreeSet<&Combination>,
) -> Option<Combination> {
    // What a parameter may change to; one without an alternative is never moved.
    let moves: Vec<(&str, Vec<&str>)> = parameters
        .iter()
        .map(|parameter| (parameter.name.as_str(), alternatives(parameter, incumbent)))
        .filter(|(_, values)| !values.is_empty())
        .collect();
    let first = if moves.len() > 1 && rng.random_ratio(1, PAIR_ONE_IN) { 2 } else { 1 };
    let order = std::iter::once(first).chain((1..=moves.len()).filter(move |distance| *distance != first));
    for distance in order {
        if distance > moves.len() {
            continue;
        }
        for _ in 0..DRAWS_MAX {
            let combination = draw(rng, &moves, incumbent, distance);
            if !tried.contains(&combination) {
                return Some(combination);
            }
        }
        let mut combination = incumbent.clone();
        if first_untried(&moves, distance, &mut combination, tried) {
            return Some(combination);
        }
    }
    None
}

fn alternatives<'a>(parameter: &'a Parameter, incumbent: &Combination) -> Vec<&'a str> {
    let current = incumbent.get(&parameter.name).and_then(|value| value.as_deref());
    let texts = parameter.values.texts().iter().map(String::as_str);
    texts.filter(|text| Some(*text) != current).collect()
}

/// A random combination that differs from the incumbent in exactly `distance` parameters.
fn draw(
    rng: &mut ChaCha8Rng,
    moves: &[(&str, Vec<&str>)],
    incumbent: &Combination,
    distance: usize,
) -> Combination {
    let mut combination = incumbent.clone();
    let mut left: Vec<usize> = (0..moves.len()).collect();
    for _ in 0..distance {
        let (name, values) = &moves[left.swap_remove(rng.random_range(0..left.len()))];
        let value = values[rng.random_range(0..values.len())];
        combination.insert((*name).to_owned(), Some(value.to_owned()));
    }
    combination
}

/// Goes through all combinations at a distance in order and leaves the first untried one in `combination`.
///
/// Bounded although there may be astronomically many: each step that does not end the search meets a different tried
/// combination, so there are at most as many steps as proposals were made. The recursion is as deep as there are
/// parameters.
fn first_untried(
    moves: &[(&str, Vec<&str>)],
    distance: usize,
    combination: &mut Combination,
    tried: &BTreeSet<&Combination>,
) -> bool {
    if distance == 0 {
        return !tried.contains(combination);
    }
    let Some((((name, values), rest), room)) = moves.split_first().zip(moves.len().checked_sub(distance))
    else {
        return false;
    };
    let before = combination.get(*name).cloned();
    for value in values {
        combination.insert((*name).to_owned(), Some((*value).to_owned()));
        if first_untried(rest, distance - 1, combination, tried) {
            return true;
        }
    }
    combination.insert((*name).to_owned(), before.flatten());
    room > 0 && first_untried(rest, distance, combination, tried)
}
