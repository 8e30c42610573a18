//! The change of one metric against the incumbent, iteration by iteration, with intervals and thresholds.

use evoseal_regression::{Finding, Verdict};
use evoseal_types::{Direction, MetricSpec};

use super::scale::drawable;
use super::{Frame, Mark, NARROW, Plot, Role, Scale, Shape, WIDE, draw, thin};
use crate::history::RunHistory;
use crate::number;
use crate::terminal::verdicts;
use crate::text::plural;

/// One change to draw.
struct Effect {
    iteration: f64,
    change: f64,
    low: f64,
    high: f64,
    verdict: Verdict,
}

/// The relative changes of a metric against the incumbents, each with its interval, and the threshold on both sides.
/// `None` if no finding has a relative change.
pub(crate) fn effect_plot(history: &RunHistory, spec: &MetricSpec) -> Option<Plot> {
    let findings: Vec<(u64, &Finding)> =
        history.iterations.iter().filter_map(|row| Some((row.iteration, row.finding(&spec.name)?))).collect();
    let effects: Vec<Effect> = findings.iter().filter_map(|(at, finding)| effect(*at, finding)).collect();
    let threshold = findings.last()?.1.threshold;
    let tolerated = threshold.threshold();

    let changes: Vec<f64> =
        effects.iter().flat_map(|effect| [effect.low, effect.change, effect.high]).collect();
    if changes.is_empty() {
        return None;
    }
    let (low, high) = Scale::robust_range(&changes, &[0.0, tolerated, -tolerated])?;
    let y = Scale::covering(low, high, 6, 100.0, " %");
    let first = history.iterations.first().map_or(0.0, |row| row.iteration as f64);
    let last = history.iterations.last().map_or(0.0, |row| row.iteration as f64);
    let name = format!(
        "Relative change of {} against the incumbent, tolerated {} {}: {}",
        spec.name,
        number::tolerance(tolerated),
        threshold.direction(),
        verdicts(history, spec)
    );
    let render = |frame: Frame| {
        let x = Scale::iterations(first, last, frame.x_ticks);
        draw(frame, &name, &x, &y, &shapes(&effects, tolerated, threshold.direction(), &y, frame))
    };
    let mut marks: Vec<Mark> = effects.iter().map(|effect| Mark::of_verdict(effect.verdict)).collect();
    marks.sort_unstable();
    marks.dedup();
    let mut notes = notes(&effects, &y);
    let missing = findings.len() - effects.len();
    if missing > 0 {
        notes.insert(0, format!("{} without a relative change to draw.", plural(missing, "iteration")));
    }
    Some(Plot {
        wide: render(Frame { height: 250, ..WIDE }),
        narrow: render(Frame { height: 230, ..NARROW }),
        notes,
        marks,
    })
}

fn effect(iteration: u64, finding: &Finding) -> Option<Effect> {
    let change = finding.change.filter(|change| drawable(*change))?;
    // An end at infinity is drawn as far as the axis goes.
    let end = |end: f64, instead: f64| {
        if end.is_nan() {
            change
        } else if drawable(end) {
            end
        } else {
            instead
        }
    };
    let (low, high) = finding
        .interval
        .map_or((change, change), |interval| (end(interval.low, f64::MIN), end(interval.high, f64::MAX)));
    Some(Effect { iteration: iteration as f64, change, low, high, verdict: finding.verdict })
}

fn shapes(effects: &[Effect], tolerated: f64, harmful: Direction, y: &Scale, frame: Frame) -> Vec<Shape> {
    let worse = harmful.harm_sign() * tolerated;
    let edge = if worse.is_sign_negative() { y.low } else { y.high };
    let mut shapes = vec![
        Shape::Band { from: worse.max(edge), to: worse.min(edge), role: Role::Bad },
        Shape::Level { y: 0.0, role: Role::Muted },
        Shape::Level { y: worse, role: Role::BadDashed },
        Shape::Level { y: -worse, role: Role::MutedDashed },
    ];
    let regressed = |index: usize| effects[index].verdict == Verdict::Regressed;
    let kept = thin(effects.len(), frame.points_max, regressed, |index| effects[index].change.abs());
    for effect in kept.iter().map(|index| &effects[*index]) {
        let mark = Mark::of_verdict(effect.verdict);
        let (x, role) = (effect.iteration, mark.role());
        if effect.low < effect.high {
            shapes.push(Shape::Span { x, low: effect.low, high: effect.high, role });
        }
        shapes.push(Shape::Point { x, y: effect.change, mark });
    }
    shapes
}

fn notes(effects: &[Effect], y: &Scale) -> Vec<String> {
    let mut notes = Vec::new();
    let outside = effects.iter().filter(|effect| !(y.low..=y.high).contains(&effect.change)).count();
    if outside > 0 {
        notes.push(format!("{} far outside, drawn at the edge.", plural(outside, "change")));
    }
    notes.extend(super::thinning_note(effects.len(), "every regression", "the largest change"));
    notes
}
