//! Settings with other values than the file has: `--set KEY=VALUE`.

use crate::failure::{Failure, Result};
use crate::settings::{LoadedSettings, Settings};
use crate::settings_error;

/// Sections that a decision is made from, and the keys in them that it is not.
const DECIDING: &[&str] = &["safety", "validation", "metrics.thresholds"];
const NOT_DECIDING: &[&str] = &[
    "safety.auto_checkpoint",
    "safety.auto_rollback",
    "safety.checkpoints",
    "safety.rollback",
    "safety.safety_checks_enabled",
];

/// The settings with these assignments on top, each of a key that decisions depend on.
pub(crate) fn with_deciding(loaded: &LoadedSettings, assignments: &[String]) -> Result<LoadedSettings> {
    let mut changed = loaded.clone();
    for assignment in assignments {
        let refuse = |problem: &str| Failure::usage(format!("--set {assignment}: {problem}"));
        let table = parse(assignment).ok_or_else(|| {
            refuse("it is no KEY=VALUE")
                .hint("write `--set safety.minimum_safety_score=0.9`, as in evoseal.toml")
        })?;
        merge(&mut changed.written, table.clone());
        // An unknown key is told before one that decides nothing: it may be a misspelt one that does.
        let settings: Settings = changed.written.clone().try_into().map_err(|error: toml::de::Error| {
            settings_error::explain_message("--set", assignment, error.message())
        })?;
        if let Some(key) = first_key(&table, "").filter(|key| !decides(key)) {
            return Err(refuse(&format!("no decision depends on `{key}`")).hint(
                "keys of [safety], [safety.regression], [validation] and [metrics.thresholds] can be set",
            ));
        }
        changed.settings = settings;
    }
    Ok(changed)
}

/// `KEY=VALUE` as in a settings file; a value that is none there is a text.
fn parse(assignment: &str) -> Option<toml::Table> {
    let (key, value) = assignment.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let one_line = !assignment.contains(['\n', '\r']);
    let read = |value: &str| toml::from_str::<toml::Table>(&format!("{key} = {value}")).ok();
    let text = toml::Value::String(value.to_owned()).to_string();
    (one_line && !value.is_empty()).then(|| read(value).or_else(|| read(&text))).flatten()
}

/// Puts the leaves of one table into another.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// The dotted key of the first leaf.
fn first_key(table: &toml::Table, prefix: &str) -> Option<String> {
    let (key, value) = table.iter().next()?;
    let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
    match value {
        toml::Value::Table(inner) if !inner.is_empty() => first_key(inner, &path),
        _ => Some(path),
    }
}

fn decides(key: &str) -> bool {
    let within = |section: &&str| {
        key.strip_prefix(*section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    DECIDING.iter().any(within) && !NOT_DECIDING.iter().any(within)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::failure::Exit;
    use crate::settings::FILE_NAME;

    const LEAST: &str = "[propose]\ncommand = [\"agent\"]\n[evaluate.test]\ncommand = [\"make\", \"test\"]\nformat = \"exit_code\"\n[safety]\nminimum_safety_score = 0.7\nrollback_severity = \"high\"\n";

    fn set(assignments: &[&str]) -> Result<Settings> {
        let loaded = LoadedSettings::parse(Path::new(FILE_NAME), LEAST).unwrap();
        let assignments: Vec<String> = assignments.iter().map(|text| (*text).to_owned()).collect();
        with_deciding(&loaded, &assignments).map(|changed| changed.settings)
    }

    #[test]
    fn later_values_stand_on_top_of_earlier_ones_and_of_the_file() {
        let settings =
            set(&["safety.minimum_safety_score=0.5", " safety.minimum_safety_score = 0.9"]).unwrap();
        assert!((settings.safety.minimum_safety_score - 0.9).abs() < 1e-12);
        assert_eq!(
            settings.safety.rollback_severity,
            evoseal_types::Severity::High,
            "the rest is the file's"
        );
    }

    #[test]
    fn values_and_names_are_written_as_in_the_file_and_words_need_no_quotes() {
        let settings = set(&[
            "safety.reject_severity=medium",
            "safety.regression.metric_thresholds.\"http.p99\".threshold=0.02",
            "metrics.thresholds.size={ threshold = 0.5, direction = \"increase\" }",
            "validation.enabled=false",
        ])
        .unwrap();
        assert_eq!(settings.safety.reject_severity, evoseal_types::Severity::Medium);
        let named: Vec<&str> = settings
            .safety
            .regression
            .metric_thresholds
            .keys()
            .map(evoseal_types::MetricName::as_str)
            .collect();
        assert_eq!((named, settings.validation.enabled), (vec!["http.p99"], false));
        assert_eq!(settings.metrics.thresholds.len(), 1);
    }

    #[test]
    fn a_misspelt_key_is_told_as_in_the_file() {
        let failure = set(&["safety.regression.regresion_threshold=0.1"]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(
            failure.message,
            "--set: unknown key `regresion_threshold`\n    safety.regression.regresion_threshold=0.1"
        );
        assert_eq!(failure.hint.as_deref(), Some("did you mean `regression_threshold`?"));
        assert!(set(&["saftey.x=1"]).unwrap_err().hint.is_some_and(|hint| hint.contains("`safety`")));
    }

    #[test]
    fn what_decides_nothing_or_is_no_assignment_is_refused() {
        for (bad, problem) in [
            ("run.iterations=3", "no decision depends on `run.iterations`"),
            ("safety.auto_rollback=false", "no decision depends on `safety.auto_rollback`"),
            ("safety.checkpoints.max_checkpoints=3", "no decision depends on"),
            ("safety.minimum_safety_score", "it is no KEY=VALUE"),
            ("safety.minimum_safety_score=", "it is no KEY=VALUE"),
            ("=0.5", "it is no KEY=VALUE"),
            ("validation.enabled=false\n[run]", "it is no KEY=VALUE"),
            ("safety.minimum_safety_score=high", "invalid type"),
        ] {
            let failure = set(&[bad]).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{bad}");
            assert!(failure.message.contains(problem), "{bad}: {}", failure.message);
        }
    }
}
