//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::audit_args::{AuditCommand, RejudgeArguments};
use crate::detect_args::{LOOP_SCHEMA, LoopArguments, PlanArguments, SimulateOverTime};

/// The safety layer for programs that change programs.
///
/// Each iteration of a run is: checkpoint, propose, check the edit, evaluate under limits, judge, accept or roll back. Only a
/// version that is measurably no worse stays; whatever happens, the workspace ends as the last accepted version.
#[derive(Debug, Parser)]
#[command(name = "evoseal", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 finished, and something was rejected or found; 2 usage or settings; \
3 environment (permission, disk, missing tool); 4 damaged data; 5 internal; 130 interrupted.";

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct GlobalArguments {
    /// Work in this folder instead of the present one.
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Print results as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but results and errors.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// When to colour results.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Evolve real code: the published source of the lz4_flex compressor, in a fresh folder.
    Demo(DemoArguments),
    /// Write a commented evoseal.toml for the project in this folder.
    Init(InitArguments),
    /// Run iterations; an unfinished run is recovered and continued.
    #[command(visible_alias = "resume")]
    Run(RunArguments),
    /// Show the state of the run and of the safety layer.
    Status,
    /// List the iterations so far.
    Log(LogArguments),
    /// Show everything about one iteration.
    Show(ShowArguments),
    /// Show what a version changed, as a unified diff.
    Diff(DiffArguments),
    /// Write the history as one self-contained HTML page.
    Report(ReportArguments),
    /// Return the workspace to an accepted version.
    Rollback(RollbackArguments),
    /// Check, list and print the head of the log of everything that was decided and done.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Make every decision again from its evidence, with the present settings or others, and show which would flip.
    ///
    /// Without `--set` each decision must come out the same, byte for byte, as long as the settings are what they were: the
    /// detector judges the kept measurements again, and the policy decides. With `--set` of the policy's keys alone, the
    /// judgement of then is decided on; a key of the detector asks the detector again.
    Rejudge(RejudgeArguments),
    /// Make the candidate of an iteration the accepted version, whatever the loop decided.
    Approve(ApproveArguments),
    /// Decide that the candidate of an iteration is not to be the accepted version; where it is, go back to the one before.
    Reject(OverrideArguments),
    /// Keep the candidate of an iteration without accepting it.
    Hold(OverrideArguments),
    /// Capture, list, compare, restore, verify, prune, pin and delete checkpoints.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Name versions that later ones are compared with.
    #[command(subcommand)]
    Baseline(BaselineCommand),
    /// Record, import, list, compare and export measurements.
    #[command(subcommand)]
    Metrics(MetricsCommand),
    /// Detect regressions and changes in files of numbers, without a run.
    #[command(subcommand)]
    Detect(DetectCommand),
    /// Delete old checkpoints that no rollback needs.
    Gc(GcArguments),
    /// Check what this machine and this project provide.
    Doctor,
    /// Print the effective settings and where each comes from.
    Config,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

impl Command {
    /// Whether it deletes checkpoints.
    pub(crate) fn deletes(&self) -> bool {
        match self {
            Self::Gc(arguments) => !arguments.dry_run,
            Self::Checkpoint(CheckpointCommand::Delete { dry_run, .. }) => !dry_run,
            Self::Checkpoint(CheckpointCommand::Prune(arguments)) => !arguments.dry_run,
            _ => false,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// How many iterations to run.
    #[arg(short = 'n', long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) iterations: u64,
    /// What the proposer draws from: the same seed proposes the same candidates.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where to work; it must not exist or be empty. A new folder in the system's temporary folder by default.
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// Overwrite an evoseal.toml that is there already.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// How many iterations to run [default: `run.iterations` of the settings].
    #[arg(short = 'n', long)]
    pub(crate) iterations: Option<u64>,
    /// What proposers draw from [default: `run.seed` of the settings].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Make no checkpoints: nothing can be rolled back.
    #[arg(long)]
    pub(crate) no_checkpoints: bool,
    /// Leave a refused candidate in the workspace and end the run.
    #[arg(long)]
    pub(crate) no_rollback: bool,
    /// Refuse to run unless the sandbox enforces all its walls here.
    #[arg(long)]
    pub(crate) require_sandbox: bool,
    /// Show the plan and check the settings, and run nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogArguments {
    /// Show only the newest so many.
    #[arg(short = 'n', long)]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The iteration, or its version: `7` or `v7`.
    pub(crate) iteration: String,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// A version, a checkpoint id, or the beginning of one.
    pub(crate) from: String,
    /// The same [default: the workspace as it is].
    pub(crate) to: Option<String>,
    /// Only list the paths.
    #[arg(long)]
    pub(crate) name_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// Where to write the page.
    #[arg(short, long, default_value = "evoseal-report.html")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    /// Where to: `known-good`, `parent`, `best` (by the objective), the name of a baseline, a version or an iteration, a
    /// checkpoint id or the beginning of one [default: known-good, the last accepted version].
    ///
    /// Where one text has several meanings, `baseline:`, `version:` or `checkpoint:` before it says which is meant.
    #[arg(conflicts_with = "undo")]
    pub(crate) target: Option<String>,
    /// Change nothing here; restore the accepted version and the newest N known-good ones into temporary folders, and say of
    /// each whether it verifies. Ends with 4 if one does not.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "3", conflicts_with_all = ["target", "undo", "dry_run"])]
    pub(crate) drill: Option<usize>,
    /// Undo the last rollback: return to what the workspace held before it.
    #[arg(long)]
    pub(crate) undo: bool,
    /// Why, for the record.
    #[arg(long, default_value = "manual rollback")]
    pub(crate) reason: String,
    /// Build the whole version beside the workspace and let the two change places at one instant, whatever `mode` in
    /// `[safety.rollback]` says: nobody ever sees a tree between two versions. A shell that stands in the workspace must
    /// enter it anew.
    #[arg(long, conflicts_with = "drill")]
    pub(crate) exchange: bool,
    /// List what would change, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What every decision of a person needs.
#[derive(Debug, Args)]
pub(crate) struct OverrideArguments {
    /// The iteration, or its version: `7` or `v7`.
    pub(crate) iteration: String,
    /// Why, for the record.
    #[arg(long)]
    pub(crate) reason: String,
    /// Who decides, for the record [default: the name of the user].
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Show what would happen, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArguments {
    #[command(flatten)]
    pub(crate) common: OverrideArguments,
    /// Approve also what hard evidence stands against: a failed test, a crash, tampering, or no evaluation at all.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Capture the workspace.
    Create {
        /// The version's name [default: `manual-` and the time].
        version: Option<String>,
        /// A sentence about it.
        #[arg(long, default_value = "")]
        note: String,
        /// Capture ignored files too, and nested repositories with their `.git`; as `include_ignored` in the settings.
        #[arg(long)]
        include_ignored: bool,
        /// Keep times of modification; as `keep_mtimes`.
        #[arg(long)]
        mtimes: bool,
        /// Keep extended attributes; as `keep_xattrs`.
        #[arg(long)]
        xattrs: bool,
    },
    /// List all checkpoints, oldest first.
    List,
    /// Show one checkpoint and its entries.
    Show {
        /// A version, an id, or the beginning of one.
        checkpoint: String,
        /// Print the content of this file instead.
        #[arg(long, value_name = "PATH")]
        file: Option<String>,
    },
    /// Write one file of a checkpoint to standard output.
    Cat {
        /// A version, an id, or the beginning of one.
        checkpoint: String,
        /// The file, below the top of the tree.
        path: OsString,
    },
    /// List what differs between two checkpoints.
    Diff {
        /// A version, an id, or the beginning of one.
        from: String,
        /// The same.
        to: String,
    },
    /// Write a checkpoint into a folder.
    Restore {
        /// A version, an id, or the beginning of one.
        checkpoint: String,
        /// The folder; it must be empty or missing.
        target: PathBuf,
        /// Make a folder that is not empty equal to the checkpoint.
        #[arg(long)]
        in_place: bool,
        /// Only what matches, as in `.gitignore`: `src/**/*.rs`, or a folder with all that is in it; may be repeated. Everything
        /// else in the folder stays as it is.
        #[arg(long = "path", value_name = "GLOB")]
        paths: Vec<String>,
        /// List what would change, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Read everything and list all damage.
    Verify {
        /// Only these [default: all].
        checkpoints: Vec<String>,
        /// Look at the structure only: that everything is there and no list or index is damaged.
        #[arg(long)]
        quick: bool,
        /// Store again what is damaged and what this folder still holds.
        #[arg(long, value_name = "WORKSPACE", conflicts_with_all = ["quick", "checkpoints"])]
        heal: Option<PathBuf>,
    },
    /// Delete the checkpoints that no rule keeps, and the oldest of a store that is too large.
    ///
    /// Without a rule, those of the settings hold. What is pinned, the newest, its parent, and what a rollback may need is kept
    /// in any case.
    Prune(PruneArguments),
    /// Keep a checkpoint whatever clean-up says.
    Pin {
        /// A version, an id, or the beginning of one.
        checkpoint: String,
        /// Why.
        #[arg(long, default_value = "pinned by hand")]
        reason: String,
        /// Take the pin back.
        #[arg(long)]
        remove: bool,
    },
    /// Delete checkpoints.
    Delete {
        /// Versions, ids, or the beginnings of some.
        #[arg(required = true)]
        checkpoints: Vec<String>,
        /// List what would be deleted, and delete nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Counts and sizes.
    Stats,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// Keep so many in all.
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<u64>,
    /// Keep all that are no older than this when the newest was made: `90m`, `12h`, `7d`, `2w`.
    #[arg(long, value_name = "TIME", value_parser = crate::quantity::duration)]
    pub(crate) keep_within: Option<Duration>,
    /// Keep the newest of each of the last N hours that have one.
    #[arg(long, value_name = "N")]
    pub(crate) hourly: Option<u64>,
    /// The same for days.
    #[arg(long, value_name = "N")]
    pub(crate) daily: Option<u64>,
    /// The same for weeks.
    #[arg(long, value_name = "N")]
    pub(crate) weekly: Option<u64>,
    /// The same for months.
    #[arg(long, value_name = "N")]
    pub(crate) monthly: Option<u64>,
    /// The same for years.
    #[arg(long, value_name = "N")]
    pub(crate) yearly: Option<u64>,
    /// Delete the oldest until the store takes up no more than this, such as `500MB` or `2GiB`.
    #[arg(long, value_name = "SIZE", value_parser = crate::quantity::bytes)]
    pub(crate) max_size: Option<u64>,
    /// List what would stay and what would go, with the reasons, and delete nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BaselineCommand {
    /// Give a version a name under which later versions are compared with it.
    Set {
        /// The name.
        name: String,
        /// The version [default: the last accepted one].
        version: Option<String>,
    },
    /// List the named versions.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MetricsCommand {
    /// Record values of one metric of a version.
    Record {
        /// The version.
        version: String,
        /// The metric.
        metric: String,
        /// The values.
        #[arg(required = true, allow_negative_numbers = true)]
        values: Vec<f64>,
        /// The unit.
        #[arg(long, default_value = "")]
        unit: String,
        /// The harmful direction: `increase` or `decrease`.
        #[arg(long, value_enum)]
        direction: HarmfulDirection,
    },
    /// Import records from a file that `export` wrote, or from CSV.
    Import {
        /// The file; its ending says the format: .csv or .jsonl.
        file: PathBuf,
    },
    /// Show a metric over the versions.
    History {
        /// The metric [default: list all metrics].
        metric: Option<String>,
        /// Only accepted versions.
        #[arg(long)]
        accepted: bool,
    },
    /// Compare two versions, metric by metric.
    Compare {
        /// The old version.
        old: String,
        /// The new version.
        new: String,
    },
    /// Write all records to a file.
    Export {
        /// The file; its ending says the format: .csv or .jsonl.
        file: PathBuf,
    },
}

/// The direction of change that is harmful.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum HarmfulDirection {
    /// A rise is harmful, as for time.
    Increase,
    /// A fall is harmful, as for accuracy.
    Decrease,
}

impl From<HarmfulDirection> for evoseal_types::Direction {
    fn from(direction: HarmfulDirection) -> Self {
        match direction {
            HarmfulDirection::Increase => Self::Increase,
            HarmfulDirection::Decrease => Self::Decrease,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum DetectCommand {
    /// Find change points, anomalies and the trend in series of numbers.
    Series(SeriesArguments),
    /// Compare two sets of values, or many from a file.
    Compare {
        /// A file of JSON lines `{"id", "baseline", "candidate", "direction", "threshold", "paired", "alpha"}`.
        #[arg(long, value_name = "FILE")]
        batch: PathBuf,
    },
    /// Say how many samples a threshold needs on this machine's noise.
    Plan(PlanArguments),
    /// Judge the iterations of a run, in order, with one error budget and a guard against drift.
    #[command(after_help = LOOP_SCHEMA)]
    Loop(LoopArguments),
    /// Simulate noise whose truth is known, from a seed, and count how often the judgement is wrong.
    #[command(subcommand)]
    Simulate(SimulateCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SimulateCommand {
    /// False regressions of unchanged code, and at the edge of the threshold, for every noise, CV and number of samples.
    Aa(CellArguments),
    /// The same for noise that wanders while all of one side is measured before all of the other: why to measure in turn.
    Blocks(CellArguments),
    /// How often harmful changes of 5 and 10 % are seen, beside the best classical test at the same error.
    Power(CellArguments),
    #[command(flatten)]
    OverTime(SimulateOverTime),
}

#[derive(Debug, Args)]
pub(crate) struct CellArguments {
    /// Comparisons per row of the table; the more, the finer.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) trials: u32,
    /// What the noise is drawn from: the same seed gives the same table.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// One minus the confidence level of the judgement.
    #[arg(long, default_value_t = 0.05)]
    pub(crate) alpha: f64,
}

/// What scripts read; stable.
const SERIES_JSON: &str = "With --json, one object per series and line: {\"series\", \"n\", \"change_points\": [{\"index\", \
\"before\", \"after\", \"relative_change\", \"confidence\", \"interval\": [first, last], \"is_harmful\"}], \"anomalies\": \
[{\"index\", \"method\", \"severity\", \"score\"}], \"trend\"}. An index is zero-based; that of a change is the first of \
the new segment.";

#[derive(Debug, Args)]
#[command(after_help = SERIES_JSON)]
pub(crate) struct SeriesArguments {
    /// CSV files (`index,value` or `time,value`, header optional) or JSON lines.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The column to read, by name or zero-based number [default: `value` if there is one, else the last].
    #[arg(long)]
    pub(crate) column: Option<String>,
    /// Split each file into one series per value of this column.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) group_by: Option<String>,
    /// The harmful direction: only then is an outlier an anomaly [default: both].
    #[arg(long, value_enum)]
    pub(crate) direction: Option<HarmfulDirection>,
    /// Decide on each value with those before it alone, as if they arrived one by one.
    #[arg(long)]
    pub(crate) online: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GcArguments {
    /// How many checkpoints to keep, besides those that a rollback may need [default: `safety.checkpoints.max_checkpoints`].
    #[arg(long)]
    pub(crate) keep: Option<usize>,
    /// List what would be deleted, and delete nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
