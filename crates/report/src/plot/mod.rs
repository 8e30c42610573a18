//! Plots as SVG, for the page.
//!
//! A plot is first a list of [`Shape`]s in the units of its axes, then drawn by [`draw`]. Colours are roles that the
//! page's style sheet gives a value, so that one plot serves light and dark pages. Every plot is drawn twice, for
//! wide and for narrow pages: an SVG that is merely scaled down has unreadable labels.

mod effect;
mod objective;
mod paint;
mod scale;

pub(crate) use effect::effect_plot;
pub(crate) use objective::objective_plot;
pub(crate) use paint::{Mark, Role};

use paint::draw;
use scale::Scale;

/// A plot for both page widths, and what it cannot show in words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plot {
    /// The SVG for wide pages.
    pub(crate) wide: String,
    /// The SVG for narrow pages.
    pub(crate) narrow: String,
    /// What was left out or moved to the edge; empty if nothing was.
    pub(crate) notes: Vec<String>,
    /// The marks that occur, for the legend.
    pub(crate) marks: Vec<Mark>,
}

/// Something to draw, in the units of the axes.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    /// A line through points.
    Line { points: Vec<(f64, f64)>, role: Role },
    /// A line over the whole width.
    Level { y: f64, role: Role },
    /// A filled stripe over the whole width.
    Band { from: f64, to: f64, role: Role },
    /// A vertical line: an interval.
    Span { x: f64, low: f64, high: f64, role: Role },
    /// A point.
    Point { x: f64, y: f64, mark: Mark },
}

/// The size of a drawing, in the units of its view box.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// The class that the page shows at one of its widths.
    class: &'static str,
    width: u32,
    height: u32,
    /// Room for the labels of the vertical axis.
    labels_width: u32,
    font_size: f64,
    /// How many iterations have room for a mark each.
    points_max: usize,
    x_ticks: usize,
}

const WIDE: Frame = Frame {
    class: "wide",
    width: 1_040,
    height: 340,
    labels_width: 76,
    font_size: 13.0,
    points_max: 400,
    x_ticks: 12,
};

const NARROW: Frame = Frame {
    class: "narrow",
    width: 420,
    height: 300,
    labels_width: 66,
    font_size: 12.5,
    points_max: 120,
    x_ticks: 7,
};

/// Which of `count` points to draw where only `count_max` have room: all that must be drawn, and of each group of
/// neighbours the one with the largest weight. Indices in ascending order.
fn thin(
    count: usize,
    count_max: usize,
    must: impl Fn(usize) -> bool,
    weight: impl Fn(usize) -> f64,
) -> Vec<usize> {
    if count <= count_max {
        return (0..count).collect();
    }
    let group = count.div_ceil(count_max);
    let mut kept = Vec::with_capacity(count_max * 2);
    for start in (0..count).step_by(group) {
        let members = start..(start + group).min(count);
        let heaviest = members.clone().max_by(|left, right| weight(*left).total_cmp(&weight(*right)));
        kept.extend(members.filter(|index| must(*index) || Some(*index) == heaviest));
    }
    kept
}

/// Says what [`thin`] left out of `count` points, if anything.
fn thinning_note(count: usize, kept: &str, extreme: &str) -> Option<String> {
    let [wide, narrow] = [WIDE, NARROW].map(|frame| count.div_ceil(frame.points_max));
    let groups = match (wide, narrow) {
        (_, 0 | 1) => return None,
        (1, narrow) => format!("group of {narrow} on narrow pages"),
        (wide, narrow) => format!("group of {wide} ({narrow} on narrow pages)"),
    };
    Some(format!("Thinned: drawn are {kept} and, of the others, {extreme} in each {groups}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_what_must_be_drawn_and_the_extremes() {
        let kept = thin(1_000, 100, |index| index % 50 == 3, |index| if index == 777 { 9.0 } else { 0.0 });
        assert!((0..1_000).filter(|index| index % 50 == 3).all(|index| kept.contains(&index)));
        assert!(kept.contains(&777) && kept.len() <= 120, "{}", kept.len());
        assert!(kept.is_sorted());
        assert_eq!(thin(3, 100, |_| false, |_| 0.0), [0, 1, 2]);
    }
}
