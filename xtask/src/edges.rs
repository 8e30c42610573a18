//! Which crate may use which.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::task::{Failure, Result, cargo, output};

/// Every crate that runs for a user, and the crates of this workspace that it may use. The fake and broken parts are only
/// for tests and stand in nobody's list.
const ALLOWED: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("regression", &["types"]),
    ("metrics", &["types", "regression"]),
    ("checkpoint", &["types"]),
    ("rollback", &["types", "checkpoint"]),
    ("sandbox", &["types"]),
    ("safety", &["types", "metrics", "checkpoint", "regression", "rollback", "sandbox"]),
    ("pipeline", &["types", "metrics", "checkpoint", "regression", "rollback", "sandbox", "safety"]),
    ("adapters", &["types", "sandbox", "safety", "pipeline"]),
    ("report", &["types", "metrics", "regression"]),
    (
        "cli",
        &[
            "types",
            "metrics",
            "checkpoint",
            "regression",
            "rollback",
            "sandbox",
            "safety",
            "pipeline",
            "adapters",
            "report",
        ],
    ),
];

/// Packages that only test, measure or build, and may use every crate but [`TEST_ONLY`].
const OUTSIDE: &[&str] = &["tests", "benches", "xtask", TEST_ONLY];

/// What only ever is a dependency of tests.
const TEST_ONLY: &str = "testkit";

/// The part of `cargo metadata` that is needed.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// Absent for a normal dependency.
    kind: Option<String>,
    /// Where it lies, if it is one of ours.
    path: Option<String>,
}

/// Compares what cargo says with what is allowed.
pub(crate) fn check() -> Result<String> {
    let json = output(cargo(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Metadata = serde_json::from_slice(&json)
        .map_err(|error| Failure(format!("cannot read the answer of `cargo metadata`: {error}")))?;
    let used = used(&metadata);
    let wrong = violations(&used);
    if wrong.is_empty() {
        let count: usize = used.values().map(BTreeSet::len).sum();
        return Ok(format!("{} packages, {count} dependencies between them, all allowed\n", used.len()));
    }
    Err(Failure(format!("dependencies that the design does not allow:\n  {}", wrong.join("\n  "))))
}

/// The normal and build dependencies among our packages, by folder.
fn used(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let folder = |name: &str| name.strip_prefix("evoseal-").unwrap_or(name).to_owned();
    let ours =
        |dependency: &&Dependency| dependency.path.is_some() && dependency.kind.as_deref() != Some("dev");
    let of = |package: &Package| {
        package.dependencies.iter().filter(ours).map(|dependency| folder(&dependency.name)).collect()
    };
    metadata.packages.iter().map(|package| (folder(&package.name), of(package))).collect()
}

/// What is used and not allowed, a line each.
fn violations(used: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (package, dependencies) in used {
        let allowed = ALLOWED.iter().find(|(name, _)| name == package).map(|(_, allowed)| *allowed);
        if allowed.is_none() && !OUTSIDE.contains(&package.as_str()) {
            wrong.push(format!("{package} does not stand in the table; add it with what it may use"));
            continue;
        }
        for dependency in dependencies {
            let is_allowed = match allowed {
                Some(allowed) => allowed.contains(&dependency.as_str()),
                None => dependency != TEST_ONLY,
            };
            if !is_allowed {
                wrong.push(format!("{package} uses {dependency}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(edges: &[(&str, &[&str])]) -> Vec<String> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        violations(&edges.iter().map(|(name, uses)| ((*name).to_owned(), owned(uses))).collect())
    }

    #[test]
    fn the_workspace_keeps_to_the_table() {
        let report = check().unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.contains("all allowed"), "{report}");
    }

    #[test]
    fn an_edge_that_points_the_wrong_way_is_named() {
        assert_eq!(found(&[("types", &["checkpoint"])]), ["types uses checkpoint"]);
        assert_eq!(found(&[("report", &["safety"])]), ["report uses safety"]);
    }

    #[test]
    fn what_is_for_tests_alone_is_nobodys_normal_dependency() {
        let edges: &[(&str, &[&str])] = &[("tests", &["testkit", "cli"]), ("safety", &["testkit"])];
        assert_eq!(found(edges), ["safety uses testkit", "tests uses testkit"]);
    }

    #[test]
    fn a_crate_that_nobody_placed_is_named() {
        assert_eq!(found(&[("new", &[])]), ["new does not stand in the table; add it with what it may use"]);
    }

    #[test]
    fn the_table_has_no_cycle() {
        let place = |name: &str| ALLOWED.iter().position(|(other, _)| *other == name);
        for (name, allowed) in ALLOWED {
            for dependency in *allowed {
                assert!(place(dependency) < place(name), "{name} comes before {dependency}");
            }
        }
    }
}
