//! From shapes to SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Circle, Color, DrawingArea, DrawingAreaErrorKind, EmptyElement,
    IntoDrawingArea, IntoFont, PathElement, Polygon, RGBColor, Rectangle, SVGBackend, ShapeStyle,
};

use super::{Frame, Scale, Shape};
use crate::history::RowOutcome;
use evoseal_regression::Verdict;

/// What a colour means. The page's style sheet has a variable of the same name for light and for dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Accepted, improved.
    Good,
    /// Rejected, regressed, the harmful side of a threshold.
    Bad,
    /// Rolled back.
    Back,
    /// Inconclusive.
    Unsure,
    /// Equivalent; lines of reference.
    Muted,
    /// Errors and text.
    Ink,
    /// Grid lines.
    Grid,
    /// A dashed line in [`Role::Bad`].
    BadDashed,
    /// A dashed line in [`Role::Muted`].
    MutedDashed,
}

impl Role {
    const ALL: [Self; 9] = [
        Self::Good,
        Self::Bad,
        Self::Back,
        Self::Unsure,
        Self::Muted,
        Self::Ink,
        Self::Grid,
        Self::BadDashed,
        Self::MutedDashed,
    ];

    /// The name of the style sheet's variable.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad | Self::BadDashed => "bad",
            Self::Back => "back",
            Self::Unsure => "unsure",
            Self::Muted | Self::MutedDashed => "muted",
            Self::Ink => "ink",
            Self::Grid => "grid",
        }
    }

    /// A colour that stands for the role until the drawing is finished, since the backend knows colours by value
    /// only.
    const fn placeholder(self) -> RGBColor {
        RGBColor(1, 2, self as u8)
    }

    fn stroke(self, width: u32) -> ShapeStyle {
        self.placeholder().stroke_width(width)
    }
}

/// A point's shape and colour. Shapes differ as well as colours, so that no one needs to tell colours apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// A disc: accepted, improved.
    Disc,
    /// A cross: rejected, regressed.
    Cross,
    /// A triangle: rolled back.
    Triangle,
    /// A ring: inconclusive.
    Ring,
    /// A square: error.
    Square,
    /// A triangle on its base, where that of a rollback stands on its tip: tampered.
    Wedge,
    /// A small grey diamond: equivalent.
    Diamond,
}

impl Mark {
    /// The mark of an outcome.
    pub(crate) const fn of_outcome(outcome: RowOutcome) -> Self {
        match outcome {
            RowOutcome::Accepted => Self::Disc,
            RowOutcome::Rejected => Self::Cross,
            RowOutcome::RolledBack => Self::Triangle,
            RowOutcome::Inconclusive => Self::Ring,
            RowOutcome::Error => Self::Square,
            RowOutcome::Tampered => Self::Wedge,
        }
    }

    /// The mark of a verdict.
    pub(crate) const fn of_verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Improved => Self::Disc,
            Verdict::Equivalent => Self::Diamond,
            Verdict::Regressed => Self::Cross,
            Verdict::Inconclusive => Self::Ring,
            Verdict::InsufficientData => Self::Square,
        }
    }

    /// The mark's colour.
    pub(crate) const fn role(self) -> Role {
        match self {
            Self::Disc => Role::Good,
            Self::Cross | Self::Wedge => Role::Bad,
            Self::Triangle => Role::Back,
            Self::Ring => Role::Unsure,
            Self::Square => Role::Ink,
            Self::Diamond => Role::Muted,
        }
    }

    /// The id under which the page defines the mark as an icon.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Disc => "disc",
            Self::Cross => "cross",
            Self::Triangle => "triangle",
            Self::Ring => "ring",
            Self::Square => "square",
            Self::Wedge => "wedge",
            Self::Diamond => "diamond",
        }
    }
}

type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Scale, Scale>>;
type PaintResult = Result<(), DrawingAreaErrorKind<std::io::Error>>;

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    #[expect(
        clippy::cast_possible_truncation,
        reason = "every value is clamped to the range before it is drawn, so the result lies within the limits"
    )]
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        (f64::from(limit.0) + share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(position, _)| *position).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

/// Draws the shapes, first to last, under the given name for people who hear the page.
pub(super) fn draw(frame: Frame, name: &str, x: &Scale, y: &Scale, shapes: &[Shape]) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (frame.width, frame.height)).into_drawing_area();
        paint(&area, frame, x, y, shapes).expect("drawing into a string has no way to fail");
    }
    dress(&svg, frame, name)
}

fn paint(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    frame: Frame,
    x: &Scale,
    y: &Scale,
    shapes: &[Shape],
) -> PaintResult {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(26)
        .y_label_area_size(frame.labels_width)
        .build_cartesian_2d(x.clone(), y.clone())?;
    let labels = ("sans-serif", frame.font_size * 1.24).into_font().color(&Role::Muted.placeholder());
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .bold_line_style(Role::Grid.stroke(1))
        .axis_style(Role::Grid.stroke(1))
        .x_label_formatter(&|position| label_of(x, *position))
        .y_label_formatter(&|position| label_of(y, *position))
        .label_style(labels)
        .draw()?;
    let points = shapes.iter().filter(|shape| matches!(shape, Shape::Point { .. })).count();
    let size = mark_size(frame, points);
    for shape in shapes {
        paint_shape(&mut chart, (x, y), size, shape)?;
    }
    area.present()
}

fn label_of(scale: &Scale, position: f64) -> String {
    let nearest = scale
        .ticks
        .iter()
        .min_by(|left, right| (left.0 - position).abs().total_cmp(&(right.0 - position).abs()));
    nearest.map(|(_, label)| label.clone()).unwrap_or_default()
}

/// Half the size of a mark: as large as the distance between neighbours allows.
fn mark_size(frame: Frame, points: usize) -> i32 {
    match frame.width as usize / points.max(1) {
        0..8 => 3,
        8..16 => 4,
        _ => 5,
    }
}

fn paint_shape(chart: &mut Chart<'_>, (x, y): (&Scale, &Scale), size: i32, shape: &Shape) -> PaintResult {
    let area = chart.plotting_area();
    let fit = |value: f64| value.clamp(y.low, y.high);
    match shape {
        Shape::Line { points, role } => area.draw(&PathElement::new(points.clone(), role.stroke(2))),
        Shape::Level { y: level, role } => {
            area.draw(&PathElement::new(vec![(x.low, fit(*level)), (x.high, fit(*level))], role.stroke(1)))
        }
        Shape::Band { from, to, role } => {
            let corners = [(x.low, fit(*from)), (x.high, fit(*to))];
            area.draw(&Rectangle::new(corners, role.placeholder().mix(0.08).filled()))
        }
        Shape::Span { x, low, high, role } => {
            let width = if size > 3 { 2 } else { 1 };
            area.draw(&PathElement::new(vec![(*x, fit(*low)), (*x, fit(*high))], role.stroke(width)))
        }
        Shape::Point { x, y: value, mark } => paint_mark(chart, (*x, fit(*value)), size, *mark),
    }
}

fn paint_mark(chart: &Chart<'_>, at: (f64, f64), size: i32, mark: Mark) -> PaintResult {
    let area = chart.plotting_area();
    let color = mark.role().placeholder();
    // A thin line keeps small crosses and rings from closing up.
    let line = mark.role().stroke(if size > 3 { 2 } else { 1 });
    match mark {
        // Where marks are small they are many, and discs would grow together.
        Mark::Disc => area.draw(&Circle::new(at, if size > 3 { size } else { 2 }, color.filled())),
        Mark::Ring => area.draw(&Circle::new(at, size, line)),
        Mark::Cross => {
            let down = PathElement::new(vec![(-size, -size), (size, size)], line);
            let up = PathElement::new(vec![(-size, size), (size, -size)], line);
            area.draw(&(EmptyElement::at(at) + down + up))
        }
        Mark::Triangle => {
            let corners = vec![(-size, -size + 1), (size, -size + 1), (0, size + 1)];
            area.draw(&(EmptyElement::at(at) + Polygon::new(corners, color)))
        }
        Mark::Square => {
            let side = size - 1;
            area.draw(
                &(EmptyElement::at(at) + Rectangle::new([(-side, -side), (side, side)], color.filled())),
            )
        }
        Mark::Wedge => {
            let corners = vec![(-size, size - 1), (size, size - 1), (0, -size - 1)];
            area.draw(&(EmptyElement::at(at) + Polygon::new(corners, color)))
        }
        Mark::Diamond => {
            let corners = vec![(0, -size), (size, 0), (0, size), (-size, 0)];
            area.draw(&(EmptyElement::at(at) + Polygon::new(corners, color)))
        }
    }
}

/// Makes the backend's document one that stands inside the page: named, scalable, coloured by role, without what the
/// page's style sheet or the defaults say already.
fn dress(svg: &str, frame: Frame, name: &str) -> String {
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let mut body = body
        .replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"", "")
        .replace(" stroke-width=\"1\"", "")
        .replace(" font-family=\"sans-serif\"", "")
        .replace(" \"/>", "\"/>")
        .replace("\n</text>", "</text>")
        .replace("\">\n", "\">");
    for role in Role::ALL {
        let RGBColor(red, green, blue) = role.placeholder();
        let placeholder = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
        let dashes = match role {
            Role::BadDashed => " stroke-dasharray=\"2 4\"",
            Role::MutedDashed => " stroke-dasharray=\"7 5\"",
            _ => "",
        };
        body = body.replace(&placeholder, &format!("\"var(--{})\"{dashes}", role.name()));
    }
    let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    format!(
        "<svg class=\"plot {}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{name}\"><title>{name}</title>{}",
        frame.class, frame.width, frame.height, body
    )
}
