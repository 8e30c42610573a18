//! The labelled series, one JSON file each, in a folder per collection.

use std::error::Error;
use std::path::Path;

use serde::Deserialize;

/// One series with whatever labels its collection has.
#[derive(Debug, Deserialize)]
pub(crate) struct Series {
    pub(crate) id: String,
    pub(crate) values: Vec<f64>,
    /// Change points by person.
    #[serde(default)]
    pub(crate) annotations: std::collections::BTreeMap<String, Vec<usize>>,
    /// First and last row of each anomalous window.
    #[serde(default)]
    pub(crate) windows: Vec<(usize, usize)>,
    /// Rows that are not scored.
    #[serde(default)]
    pub(crate) probation: usize,
    /// First run, one past the last run, commit.
    #[serde(default)]
    pub(crate) segments: Vec<(usize, usize, String)>,
    /// Where changes are expected.
    #[serde(default)]
    pub(crate) change_points: Vec<usize>,
}

/// All series of a collection, by file name; empty where the folder is missing.
pub(crate) fn read(folder: &Path, collection: &str) -> Result<Vec<Series>, Box<dyn Error>> {
    let folder = folder.join(collection);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files: Vec<_> =
        std::fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    let parse = |file: &std::path::PathBuf| {
        let text = std::fs::read(file)?;
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()).into())
    };
    files.iter().map(parse).collect()
}
