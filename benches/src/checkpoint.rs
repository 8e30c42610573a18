//! Capturing and restoring a directory, beside its peers.
//!
//! All systems work on one tree, operation by operation and in turns, so that what the machine does meanwhile concerns
//! them alike; the order changes from round to round. Reported are the medians of the ratios within a round. Every round
//! begins with new stores. Nothing is deleted between rounds: for a minute after a deletion ext4 searches long for inodes that
//! it may use again, and that time would be taken for a system's. What was written before an operation is on the disk when it starts.

mod floor;
mod peers;
mod process;
mod rounds;
mod series;
mod systems;
mod table;
mod targets;
mod trees;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

pub(crate) use process::{LAUNCH, launch};
pub(crate) use rounds::Report;
pub(crate) use systems::FLOOR;
use trees::Tree;

pub(crate) type Failure = Box<dyn Error>;

/// What is measured, in the order in which a round does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    /// The first snapshot into an empty store.
    First,
    /// A snapshot with nothing changed.
    Same,
    /// A snapshot with 10 files changed; of `big`, with 1 MiB overwritten in the middle.
    Changed,
    /// Of `big` only: a snapshot with 1 MiB inserted near the front.
    Inserted,
    /// Writing the newest snapshot into an empty folder.
    Restore,
    /// Bringing 10 changed files and a new one back to the newest snapshot.
    RollBack,
    /// Of `series` only: removing nine of ten snapshots.
    Remove,
}

impl Operation {
    /// The name in tables.
    fn name(self) -> &'static str {
        match self {
            Self::First => "first snapshot",
            Self::Same => "nothing changed",
            Self::Changed => "changed",
            Self::Inserted => "inserted",
            Self::Restore => "restore",
            Self::RollBack => "roll back",
            Self::Remove => "remove 9 of 10",
        }
    }

    fn captures(self) -> bool {
        matches!(self, Self::First | Self::Same | Self::Changed | Self::Inserted)
    }
}

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// S (some hundred files), M (8 000), L (over 60 000, a gigabyte), big (one file of 1 GiB), series (a long history of
    /// a small tree), or any folder, of which a copy is used [default: S M].
    trees: Vec<Tree>,
    /// Only these, out of evoseal, library, git, git-tuned, git-durable, restic, borg, bupstash, cp, tar-lz4, floor,
    /// floor-library [default: all that are installed].
    #[arg(long, value_delimiter = ',')]
    systems: Vec<String>,
    /// Only the floors.
    #[arg(long, conflicts_with = "systems")]
    floor_only: bool,
    /// How often everything is measured; a series is measured once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// How many snapshots a series has.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(20..))]
    snapshots: u64,
    /// Report only this operation; those that it needs are done all the same.
    #[arg(long, value_enum)]
    only: Option<Operation>,
    /// Where trees and stores are written [default: target/bench].
    #[arg(long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Leave trees and stores behind.
    #[arg(long)]
    keep: bool,
}

impl Options {
    /// What a run without a subject measures.
    pub(crate) fn standard() -> Self {
        Self {
            trees: Vec::new(),
            systems: Vec::new(),
            floor_only: false,
            rounds: 5,
            snapshots: 1_000,
            only: None,
            workdir: None,
            keep: false,
        }
    }

    fn systems(&self, smoke: bool) -> Vec<String> {
        let names: &[&str] = if self.floor_only {
            &["floor", "floor-library"]
        } else if smoke {
            &["evoseal", "library", "git", "floor", "floor-library"]
        } else {
            &systems::NAMES
        };
        if self.systems.is_empty() {
            names.iter().map(|name| (*name).to_owned()).collect()
        } else {
            self.systems.clone()
        }
    }
}

/// Measures everything that was asked for. Dropping the folder removes trees and stores, which takes longer than some of
/// the measurements: the report should be out before.
pub(crate) fn measure(options: &Options, smoke: bool) -> Result<(Report, TempDir), Failure> {
    let standard = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    let parent = std::path::absolute(options.workdir.as_deref().unwrap_or(&standard))?;
    std::fs::create_dir_all(&parent)?;
    let place = tempfile::Builder::new()
        .prefix("run-")
        .disable_cleanup(options.keep)
        .tempdir_in(parent.canonicalize()?)?;
    let default: &[Tree] =
        if smoke { &[Tree::Small, Tree::Big, Tree::Series] } else { &[Tree::Small, Tree::Medium] };
    let trees = if options.trees.is_empty() { default } else { &options.trees };
    let names = options.systems(smoke);
    let (rounds, snapshots) = if smoke { (1, 20) } else { (options.rounds, options.snapshots) };
    let mut report = Report::new(&names, rounds);
    for (number, tree) in trees.iter().enumerate() {
        let mut found = systems::find(&names)?;
        let place = place.path().join(number.to_string());
        say(&format!("building tree {}", tree.name()));
        let root = place.join("tree");
        tree.build(&root, smoke)?;
        let session = rounds::Session::new(tree, &root, &place)?;
        report.trees.push(session.about()?);
        if *tree == Tree::Series {
            series::measure(&session, &mut found, snapshots, &mut report)?;
        } else {
            session.measure(&mut found, rounds, &mut report)?;
        }
    }
    if let Some(only) = options.only {
        report.figures.retain(|figure| figure.operation == only);
    }
    Ok((report, place))
}

/// A line about what goes on. A reader that has gone away is no error.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The report as tables.
pub(crate) fn render(report: &Report) -> String {
    table::render(report)
}

/// Does a floor's work: the hidden subject [`FLOOR`].
pub(crate) fn floor(words: &[String]) -> Result<(), Failure> {
    let [operation, tree, store, edited @ ..] = words else {
        return Err("expected an operation, a tree and a folder".into());
    };
    let edited: Vec<PathBuf> = edited.iter().map(PathBuf::from).collect();
    systems::work(serde_json::from_str(operation)?, Path::new(tree), Path::new(store), &edited)
}

/// A path as text, which plans are made of.
fn text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}
