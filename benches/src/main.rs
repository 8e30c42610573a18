//! Benchmarks: `cargo xtask bench [checkpoint|detect|regression]`.
//!
//! Whatever is compared is run in turns within one process, and reported as a ratio of medians: the machine's drift over the run
//! then concerns both sides alike, which no comparison with a figure from another day can say. That is why there is no
//! benchmark framework here: those that we know measure one subject to the end before the next.

mod checkpoint;
mod detect;
mod regression;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use evoseal_tests::measure::{Summary, ms, table, write_json};
use serde::Serialize;

/// Measures and prints a table.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything by default.
    subject: Option<Subject>,
    /// Small inputs and few rounds: shows that it works.
    #[arg(long)]
    smoke: bool,
    /// The folder of the labelled series for `regression`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A file of this package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Capturing and restoring.
    Checkpoint,
    /// One call of the detector.
    Detect,
    /// Changes and anomalies of labelled histories: how well, and how fast.
    Regression,
}

/// One line: a task, what it took us, and what it took or takes someone else.
#[derive(Debug, Serialize)]
struct Figures {
    /// What was done.
    task: String,
    /// What it took.
    ours: Summary,
    /// Who else was measured in turns with us, or published a figure.
    peer: Option<&'static str>,
    /// What the peer took.
    theirs: Option<Summary>,
    /// Median of theirs over median of ours: above 1 we are faster.
    ratio: Option<f64>,
}

impl Figures {
    /// Two sides that were measured in turns; `theirs` is empty where the peer is not installed.
    fn new(task: String, ours: Vec<Duration>, peer: &'static str, theirs: Vec<Duration>) -> Option<Self> {
        let ours = Summary::of(ours)?;
        let theirs = Summary::of(theirs);
        let ratio = theirs.map(|theirs| theirs.median_ms / ours.median_ms);
        Some(Self { task, ours, peer: theirs.map(|_| peer), theirs, ratio })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let wanted = |subject| arguments.subject.is_none_or(|wanted| wanted == subject);
    let mut all = Vec::new();
    if wanted(Subject::Checkpoint) {
        all.extend(checkpoint::measure(arguments.smoke)?);
    }
    if wanted(Subject::Detect) {
        all.extend(detect::measure(arguments.smoke)?);
    }
    let mut text = if all.is_empty() { String::new() } else { render(&all) };
    let figures = if wanted(Subject::Regression) {
        regression::measure(arguments.data.as_deref(), arguments.smoke)?
    } else {
        Vec::new()
    };
    if !figures.is_empty() {
        text.push_str(&regression::render(&figures));
    }
    std::io::stdout().write_all(text.as_bytes())?;
    match arguments.json {
        Some(file) if all.is_empty() => write_json(&file, &figures)?,
        Some(file) if figures.is_empty() => write_json(&file, &all)?,
        Some(file) => write_json(&file, &(all, figures))?,
        None => {}
    }
    Ok(())
}

fn render(all: &[Figures]) -> String {
    let range = |summary: &Summary| {
        format!("{} ({}..{})", ms(summary.median_ms), ms(summary.min_ms), ms(summary.max_ms))
    };
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|figures| {
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            vec![
                figures.task.clone(),
                range(&figures.ours),
                or_none(figures.peer.map(str::to_owned)),
                or_none(figures.theirs.as_ref().map(range)),
                or_none(figures.ratio.map(|ratio| format!("{ratio:.2}x"))),
            ]
        })
        .collect();
    table(&["in ms: median (range)", "evoseal", "peer", "its time", "its time over ours"], &rows)
}
