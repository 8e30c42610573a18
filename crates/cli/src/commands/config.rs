//! `evoseal config`.

use serde_json::{Map, Value};

use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::Project;
use crate::settings::FILE_NAME;

pub(crate) fn run(project: &Project, output: Output) -> Result<Exit> {
    let loaded = &project.loaded;
    let effective = serde_json::to_value(&loaded.settings)
        .and_then(|effective| Ok((effective, serde_json::to_value(&loaded.written)?)))
        .map_err(|error| Failure {
            exit: Exit::Internal,
            message: format!("cannot show the settings: {error}"),
            hint: None,
        })?;
    let mut rows = Vec::new();
    flatten("", &effective.0, Some(&effective.1), &mut rows);
    let value: Map<String, Value> = rows
        .iter()
        .map(|(key, value, written)| {
            let origin = if *written { FILE_NAME } else { "default" };
            (key.clone(), serde_json::json!({ "value": value, "from": origin }))
        })
        .collect();
    output.data(&value, || {
        let lines: Vec<String> = rows.iter().map(|(key, value, _)| format!("{key} = {value}")).collect();
        let width =
            lines.iter().map(|line| line.chars().count()).filter(|width| *width <= 70).max().unwrap_or(0);
        let origin = |written: bool| if written { FILE_NAME } else { "default" };
        let annotated = lines
            .iter()
            .zip(&rows)
            .map(|(line, (_, _, written))| format!("{line:<width$}  # {}", origin(*written)));
        format!("# {}\n{}", loaded.path.display(), annotated.collect::<Vec<_>>().join("\n"))
    });
    Ok(Exit::Done)
}

/// The leaves of the effective settings: key, value, and whether the file says it.
fn flatten(prefix: &str, effective: &Value, written: Option<&Value>, rows: &mut Vec<(String, Value, bool)>) {
    match effective {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, written.and_then(|written| written.get(key)), rows);
            }
        }
        Value::Null => {}
        leaf => rows.push((prefix.to_owned(), leaf.clone(), written.is_some())),
    }
}
