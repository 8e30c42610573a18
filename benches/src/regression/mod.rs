//! How well changes and anomalies of real, labelled histories are found, and how fast.
//!
//! The data is not part of the repository: `--data DIR` names its folder. Without it only what needs no data is measured.

mod asv;
mod commits;
mod data;
mod nab;
mod scores;
mod speed;

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;
use evoseal_regression::{ChangePointMethod, change_points};
use evoseal_tests::measure::table;
use serde::Serialize;

use scores::{agreement, mean};

/// What is measured.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// The folder of labelled series, one folder per collection; without it, only speed is measured.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A Python that has the package `asv`: its step detection is run on the histories with known commits as well.
    #[arg(long, value_name = "PYTHON", requires = "data")]
    asv: Option<PathBuf>,
}

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// The value.
    pub(crate) value: f64,
    /// Its unit or scale.
    pub(crate) unit: &'static str,
}

impl Figure {
    fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit }
    }
}

/// Measures everything for which there is data.
pub(crate) fn measure(options: &Options, smoke: bool) -> Result<Vec<Figure>, Box<dyn Error>> {
    let mut figures = speed::measure(smoke)?;
    if let Some(folder) = options.data.as_deref() {
        if !folder.is_dir() {
            return Err(format!("{} is no folder", folder.display()).into());
        }
        figures.extend(annotated(folder)?);
        figures.extend(nab::measure(folder)?);
        figures.extend(commits::measure(folder, options.asv.as_deref())?);
        figures.extend(others(folder)?);
    }
    Ok(figures)
}

/// As a table.
pub(crate) fn render(figures: &[Figure]) -> String {
    let row =
        |figure: &Figure| vec![figure.what.clone(), format!("{:.3}", figure.value), figure.unit.to_owned()];
    table(&["what", "value", "unit"], &figures.iter().map(row).collect::<Vec<_>>())
}

fn places(values: &[f64]) -> Result<Vec<usize>, evoseal_regression::Error> {
    let found = change_points(values, None, ChangePointMethod::Auto)?;
    Ok(found.iter().map(|change| change.index).collect())
}

/// The annotated series of the Turing change point data set.
fn annotated(folder: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let series = data::read(folder, "tcpd")?;
    let mut scored = Vec::new();
    for one in &series {
        let people: Vec<Vec<usize>> = one.annotations.values().cloned().collect();
        let found = places(&one.values)?;
        let score = agreement(&people, &found, one.values.len());
        scored.push(score);
    }
    Ok(vec![
        Figure::new(
            format!("annotated changes, {} series: F1", series.len()),
            mean(scored.iter().map(|s| s.f1)),
            "",
        ),
        Figure::new("annotated changes: covering", mean(scored.iter().map(|s| s.cover)), ""),
    ])
}

/// Histories without complete labels: how many changes are reported, and how many of the expected ones are among them.
fn others(folder: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let mut figures = Vec::new();
    for collection in ["tigerbeetle-ci", "mongodb-tests", "mozilla-graphs", "otava-tests"] {
        for one in data::read(folder, collection)? {
            let found = places(&one.values)?;
            figures.push(Figure::new(format!("{}: changes found", one.id), found.len() as f64, ""));
            if !one.change_points.is_empty() {
                let near = |expected: &&usize| found.iter().any(|place| place.abs_diff(**expected) <= 5);
                let hits = one.change_points.iter().filter(near).count();
                let share = 100.0 * hits as f64 / one.change_points.len() as f64;
                figures.push(Figure::new(format!("{}: of the expected changes", one.id), share, "%"));
            }
        }
    }
    Ok(figures)
}
