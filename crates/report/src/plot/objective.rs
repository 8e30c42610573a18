//! The objective over the iterations.

use evoseal_types::MetricSpec;

use super::scale::drawable;
use super::{Frame, Mark, NARROW, Plot, Role, Scale, Shape, WIDE, draw, thin};
use crate::history::{IterationRow, RowOutcome, RunHistory, find_metric};
use crate::number;
use crate::text::plural;

/// The objective over the iterations: the incumbents as a step line from the baseline, every candidate as a point.
/// `None` without iterations, or if neither the baseline nor any candidate has a value.
pub(crate) fn objective_plot(history: &RunHistory, spec: &MetricSpec) -> Option<Plot> {
    let start = find_metric(&history.baseline.metrics, &spec.name).map(|summary| summary.mean);
    let start = start.filter(|value| drawable(*value));
    let values: Vec<Option<f64>> = history.iterations.iter().map(|row| value(row, spec)).collect();
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    let accepted = history.iterations.iter().zip(&values);
    let accepted = accepted.filter(|(row, _)| row.outcome == RowOutcome::Accepted);
    let must: Vec<f64> = accepted.filter_map(|(_, value)| *value).chain(start).collect();
    let (low, high) = Scale::robust_range(&known, &must)?;

    let first = history.iterations.first()?.iteration as f64 - 1.0;
    let last = history.iterations.last()?.iteration as f64;
    let y = Scale::covering(low, high, 6, 1.0, "");
    let name = format!(
        "{} over the iterations, {}: {}",
        spec.name,
        number::better(spec.direction),
        crate::terminal::outcome_counts(history)
    );
    let render = |frame: Frame| {
        let x = Scale::iterations(first, last, frame.x_ticks);
        draw(frame, &name, &x, &y, &shapes(history, &values, start, (first, last), frame))
    };
    let mut marks: Vec<Mark> = history
        .iterations
        .iter()
        .zip(&values)
        .filter(|(_, value)| value.is_some())
        .map(|(row, _)| Mark::of_outcome(row.outcome))
        .collect();
    marks.sort_unstable();
    marks.dedup();
    Some(Plot { wide: render(WIDE), narrow: render(NARROW), notes: notes(&values, &y), marks })
}

fn value(row: &IterationRow, spec: &MetricSpec) -> Option<f64> {
    let summary = row.metric(&spec.name).map(|summary| summary.mean);
    summary.or_else(|| row.finding(&spec.name)?.new_value).filter(|value| drawable(*value))
}

fn shapes(
    history: &RunHistory,
    values: &[Option<f64>],
    start: Option<f64>,
    (first, last): (f64, f64),
    frame: Frame,
) -> Vec<Shape> {
    let rows = &history.iterations;
    let mut shapes = Vec::new();
    let mut steps: Vec<(f64, f64)> = Vec::new();
    if let Some(start) = start {
        shapes.push(Shape::Level { y: start, role: Role::MutedDashed });
        steps.push((first, start));
    }
    for (row, value) in rows.iter().zip(values) {
        if let (RowOutcome::Accepted, Some(value)) = (row.outcome, value) {
            let at = row.iteration as f64;
            if let Some((_, before)) = steps.last().copied() {
                steps.push((at, before));
            }
            steps.push((at, *value));
        }
    }
    if let Some((_, incumbent)) = steps.last().copied() {
        steps.push((last, incumbent));
        shapes.push(Shape::Line { points: steps, role: Role::Good });
    }
    let middle = start.unwrap_or(0.0);
    let weight = |index: usize| values[index].map_or(-1.0, |value| (value - middle).abs());
    let accepted = |index: usize| rows[index].outcome == RowOutcome::Accepted;
    let kept = thin(rows.len(), frame.points_max, accepted, weight);
    // Accepted candidates come last so that nothing covers them.
    let (kept_accepted, kept_others): (Vec<usize>, Vec<usize>) =
        kept.into_iter().partition(|index| accepted(*index));
    for index in kept_others.into_iter().chain(kept_accepted) {
        if let Some(value) = values[index] {
            let mark = Mark::of_outcome(rows[index].outcome);
            shapes.push(Shape::Point { x: rows[index].iteration as f64, y: value, mark });
        }
    }
    shapes
}

fn notes(values: &[Option<f64>], y: &Scale) -> Vec<String> {
    let mut notes = Vec::new();
    let missing = values.iter().filter(|value| value.is_none()).count();
    if missing > 0 {
        notes.push(format!("{} without a value to draw.", plural(missing, "iteration")));
    }
    let outside = values.iter().flatten().filter(|value| !(y.low..=y.high).contains(*value)).count();
    if outside > 0 {
        notes.push(format!("{} far outside, drawn at the edge.", plural(outside, "value")));
    }
    notes.extend(super::thinning_note(
        values.len(),
        "every accepted candidate",
        "the farthest from the baseline",
    ));
    notes
}
