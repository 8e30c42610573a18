//! Histories of benchmark runs of which long stretches ran the same commit: whether changes are seen inside one, and whether changes
//! planted at a commit are found. Beside asv, where it can be run.

use std::error::Error;
use std::path::Path;

use super::{Figure, asv, data, places};

/// By what all runs from a commit on are multiplied.
const FACTORS: [f64; 3] = [1.05, 1.10, 1.20];

/// How far from its commit a planted change may be found.
const MARGIN: usize = 5;

/// A history with a change planted at the first run of a commit.
struct Planted {
    values: Vec<f64>,
    at: usize,
}

/// Measures both; nothing where there is no data.
pub(super) fn measure(folder: &Path, asv: Option<&Path>) -> Result<Vec<Figure>, Box<dyn Error>> {
    let series = data::read(folder, "rocksdb-ci")?;
    if series.is_empty() {
        return Ok(Vec::new());
    }
    let unchanged: Vec<&[f64]> = series.iter().map(|one| one.values.as_slice()).collect();
    let ours = find(&unchanged)?;
    let mut figures = within_commits("", &series, &ours);
    let mut version = None;
    if let Some(python) = asv {
        let theirs = asv::steps(python, &unchanged)?;
        figures.extend(within_commits(&format!(", asv {}", theirs.version), &series, &theirs.found));
        version = Some(theirs.version);
    }
    for factor in FACTORS {
        let planted: Vec<Planted> = series.iter().flat_map(|one| plant(one, factor)).collect();
        let values: Vec<&[f64]> = planted.iter().map(|one| one.values.as_slice()).collect();
        figures.extend(planted_figures("", factor, &planted, &find(&values)?));
        if let (Some(python), Some(version)) = (asv, &version) {
            let theirs = asv::steps(python, &values)?;
            figures.extend(planted_figures(&format!(", asv {version}"), factor, &planted, &theirs.found));
        }
    }
    Ok(figures)
}

fn find(series: &[&[f64]]) -> Result<Vec<Vec<usize>>, evoseal_regression::Error> {
    series.iter().map(|values| places(values)).collect()
}

/// A history for each commit that has margins on both sides; none where nothing can be multiplied.
fn plant(series: &data::Series, factor: f64) -> Vec<Planted> {
    if series.values.iter().all(|value| value.abs() <= 0.0) {
        return Vec::new();
    }
    let starts = series.segments.iter().map(|(start, ..)| *start);
    let inside = starts.filter(|start| *start >= MARGIN && start + MARGIN <= series.values.len());
    inside
        .map(|at| {
            let changed = |(i, value): (usize, &f64)| if i < at { *value } else { value * factor };
            Planted { values: series.values.iter().enumerate().map(changed).collect(), at }
        })
        .collect()
}

/// How many changes lie inside a commit.
fn within_commits(who: &str, series: &[data::Series], found: &[Vec<usize>]) -> Vec<Figure> {
    let (mut accused, mut inside, mut between) = (0, 0, 0);
    for (one, found) in series.iter().zip(found) {
        let at_commit = |place: &&usize| one.segments.iter().any(|(start, ..)| start == *place);
        let right = found.iter().filter(at_commit).count();
        accused += usize::from(right < found.len());
        inside += found.len() - right;
        between += right;
    }
    let figure =
        |what: &str, value: f64, unit| Figure::new(format!("unchanged code{who}: {what}"), value, unit);
    vec![
        Figure::new(
            format!("unchanged code{who}, {} series: with a change inside a commit", series.len()),
            percent(accused, series.len()),
            "%",
        ),
        figure("changes inside a commit", inside as f64, ""),
        figure("changes between commits", between as f64, ""),
    ]
}

/// How many planted changes are found, and how many histories have one elsewhere.
fn planted_figures(who: &str, factor: f64, planted: &[Planted], found: &[Vec<usize>]) -> Vec<Figure> {
    let is_near = |one: &Planted, place: &usize| place.abs_diff(one.at) <= MARGIN;
    let pairs = || planted.iter().zip(found);
    let hits = pairs().filter(|(one, found)| found.iter().any(|place| is_near(one, place))).count();
    let strays = pairs().filter(|(one, found)| found.iter().any(|place| !is_near(one, place))).count();
    let what = format!("{:+.0} % planted at {} commits{who}", (factor - 1.0) * 100.0, planted.len());
    vec![
        Figure::new(format!("{what}: found"), percent(hits, planted.len()), "%"),
        Figure::new(format!("{what}: with a change elsewhere"), percent(strays, planted.len()), "%"),
    ]
}

fn percent(part: usize, all: usize) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}
