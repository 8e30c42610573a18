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

use clap::{Parser, Subcommand};
use evoseal_tests::measure::{Summary, ms, table, write_json};
use serde::Serialize;

/// Measures and prints tables.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything by default.
    #[command(subcommand)]
    subject: Option<Subject>,
    /// Small inputs and few rounds: shows that it works.
    #[arg(long, global = true)]
    smoke: bool,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
}

/// A file of this package.
#[derive(Debug, Subcommand)]
enum Subject {
    /// Capturing and restoring, beside whichever peers are installed.
    Checkpoint(checkpoint::Options),
    /// One call of the detector.
    Detect,
    /// Changes and anomalies of labelled histories: how well they are found, and how fast.
    Regression(regression::Options),
    /// Measures the plan on standard input: how this program starts what it measures.
    #[command(name = checkpoint::LAUNCH, hide = true)]
    Launch,
    /// Does the least that a system must do.
    #[command(name = checkpoint::FLOOR, hide = true)]
    Floor {
        /// Operation, tree, folder, edited files.
        words: Vec<String>,
    },
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
struct Measured {
    checkpoint: Option<checkpoint::Report>,
    detect: Option<Vec<Figures>>,
    regression: Option<Vec<regression::Figure>>,
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

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let smoke = arguments.smoke;
    // Removes what was measured when it goes, after the report is out.
    let mut _place = None;
    let mut checkpoints = |options: &checkpoint::Options| {
        let (report, place) = checkpoint::measure(options, smoke)?;
        _place = Some(place);
        Ok::<_, Box<dyn Error>>(Some(report))
    };
    let measured = match arguments.subject {
        Some(Subject::Launch) => return checkpoint::launch(),
        Some(Subject::Floor { words }) => return checkpoint::floor(&words),
        Some(Subject::Checkpoint(options)) => {
            Measured { checkpoint: checkpoints(&options)?, ..Measured::default() }
        }
        Some(Subject::Detect) => Measured { detect: Some(detect::measure(smoke)?), ..Measured::default() },
        Some(Subject::Regression(options)) => {
            Measured { regression: Some(regression::measure(&options, smoke)?), ..Measured::default() }
        }
        None => Measured {
            checkpoint: checkpoints(&checkpoint::Options::standard())?,
            detect: Some(detect::measure(smoke)?),
            regression: Some(regression::measure(&regression::Options::default(), smoke)?),
        },
    };
    let mut stdout = std::io::stdout();
    if let Some(report) = &measured.checkpoint {
        stdout.write_all(checkpoint::render(report).as_bytes())?;
    }
    if let Some(figures) = &measured.detect {
        stdout.write_all(render(figures).as_bytes())?;
    }
    if let Some(figures) = &measured.regression {
        stdout.write_all(regression::render(figures).as_bytes())?;
    }
    if let Some(file) = arguments.json {
        write_json(&file, &measured)?;
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
