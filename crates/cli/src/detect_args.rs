//! The arguments of judging over time: `evoseal detect plan`, `loop` and `simulate`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use evoseal_regression::ErrorPolicy;
use evoseal_regression::simulation::NoiseKind;

/// What a line of `detect loop` holds, and what it is answered with.
pub(crate) const LOOP_SCHEMA: &str = r#"Each line of FILE is one iteration, in order:

  {"id": …, "metrics": {"latency": {"incumbent": […], "candidate": […],
                                    "confirmation": {"incumbent": […], "candidate": […]},
                                    "direction": "increase", "threshold": 0.0, "kind": "mean",
                                    "baselines": {"release": […]}}, …},
   "accepted": true}

  incumbent     samples of the accepted version, measured in this iteration; may be left out after the first line.
                Lists are numbers, or one list of numbers for each process start, which counts as one value.
  candidate     samples of the candidate
  confirmation  fresh samples of both, measured in turn after these, of equal number. They are looked at pair after
                pair, and only if the candidate is suspicious. A file in which no line has any is judged on its
                candidates' own pairs, which finds gross harm alone.
  direction     the harmful direction: "increase" (default) or "decrease"
  threshold     the tolerated change, a fraction [default: --threshold]
  kind          "mean", or "pass_rate" for samples from 0 to 1 [default: pass_rate where all samples are 0 or 1]
  baselines     samples of named versions, measured beside the candidate: drift is judged against each
  accepted      whether the run really went on with this candidate [default: as decided here]
  id            anything [default: the line's number]

Each is answered by one line:

  {"id", "decision", "reason", "level", "pairs", "metrics": [{"metric", "verdict", "stage", "change", "interval", "e_value",
   "samples", "screen", "problem", "gain", "reason"}], "drift": [{"metric", "baseline", "alarm": {"anchor", "level", "change",
   "since", "e_value"}}], "totals": {"iterations", "accepted", "rollbacks", "inconclusive", "decisions",
   "false_rollbacks_max", "false_acceptances_max"}}

  decision      "accept"; "rollback"; "inconclusive": neither; "confirm": fresh samples are needed, nothing was recorded
  level         the error of this iteration's decision, out of the budget of the run
  gain          for an accepted candidate that seemed better: the gain on the fresh samples, which did not choose it
  totals        the run so far: at most so many false rollbacks, and so many accepted candidates with the smallest
                harm, are to be expected

Exit code 1 where anything was rolled back."#;

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// A file of pilot samples of one version, CSV or JSON lines, instead of `--cv`.
    #[arg(required_unless_present = "cv", conflicts_with = "cv")]
    pub(crate) pilot: Option<PathBuf>,
    /// The noise of one sample: standard deviation over mean, as a fraction.
    #[arg(long, value_name = "FRACTION")]
    pub(crate) cv: Option<f64>,
    /// The column of the pilot to read, by name or zero-based number [default: the last].
    #[arg(long, requires = "pilot")]
    pub(crate) column: Option<String>,
    /// The column of the pilot that says the process start: starts count, not samples.
    #[arg(long, value_name = "COLUMN", requires = "pilot")]
    pub(crate) group_by: Option<String>,
    /// The tolerated change, as a fraction.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.05)]
    pub(crate) threshold: f64,
    /// The change that shall be called a regression [default: twice the threshold].
    #[arg(long, value_name = "FRACTION")]
    pub(crate) effect: Option<f64>,
    /// The chance of finding it.
    #[arg(long, value_name = "CHANCE", default_value_t = 0.95)]
    pub(crate) power: f64,
    /// The confidence level.
    #[arg(long, value_name = "LEVEL", default_value_t = 0.95)]
    pub(crate) level: f64,
    /// The most samples of each side that can be measured.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) max: usize,
    /// The two versions are not measured in turn.
    #[arg(long)]
    pub(crate) unpaired: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoopArguments {
    /// A file of JSON lines, one for each iteration; see below.
    #[arg(long, value_name = "FILE")]
    pub(crate) batch: PathBuf,
    /// Take thresholds and `[safety.regression.run]` from this evoseal.toml.
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// The tolerated change of metrics without one, as a fraction [default: that of the settings, else 0: every certain harm
    /// counts].
    #[arg(long, value_name = "FRACTION")]
    pub(crate) threshold: Option<f64>,
    #[command(flatten)]
    pub(crate) budget: BudgetArguments,
}

/// What replaces single settings of a run.
#[derive(Debug, Args)]
pub(crate) struct BudgetArguments {
    /// The error budget of the whole run [default: that of the settings, else 0.05].
    #[arg(long, value_name = "CHANCE")]
    pub(crate) alpha: Option<f64>,
    /// How it is spent [default: that of the settings, else family-wise].
    #[arg(long, value_enum)]
    pub(crate) policy: Option<Policy>,
    /// The smallest harm that must not slip through, as a fraction [default: that of the settings, else 0.05].
    #[arg(long, value_name = "FRACTION")]
    pub(crate) smallest_harm: Option<f64>,
}

/// How an error budget is spent.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Policy {
    /// The chance of any false rollback is at most the budget.
    FamilyWise,
    /// The expected share of false ones among the rollbacks is at most the budget: LORD++.
    Lord,
    /// The same: SAFFRON.
    Saffron,
    /// The same: ADDIS.
    Addis,
}

impl From<Policy> for ErrorPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::FamilyWise => Self::FamilyWise,
            Policy::Lord => Self::Lord,
            Policy::Saffron => Self::Saffron,
            Policy::Addis => Self::Addis,
        }
    }
}

/// What `detect simulate` offers about judging over time.
#[derive(Debug, Subcommand)]
pub(crate) enum SimulateOverTime {
    /// Whole runs: false rollbacks, harm that is caught in its iteration, and what it costs.
    Loop {
        /// How many runs for each effect.
        #[arg(long, default_value_t = 100)]
        runs: u64,
        /// Iterations of a run.
        #[arg(long, default_value_t = 1000)]
        iterations: usize,
        /// Metrics of an iteration.
        #[arg(long, default_value_t = 10)]
        metrics: usize,
        /// The share of iterations whose candidate is harmful, in one metric.
        #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
        harmful: f64,
        /// The harm of these, as a fraction; several for several rows.
        #[arg(long = "effect", value_name = "FRACTION", default_values_t = [0.0, 0.05, 0.10])]
        effects: Vec<f64>,
        /// Give each iteration so many samples of both versions, and no others [default: as they are asked for].
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(2..))]
        fixed_samples: Option<u16>,
        /// The tolerated change, as a fraction.
        #[arg(long, value_name = "FRACTION", default_value_t = 0.0)]
        threshold: f64,
        #[command(flatten)]
        budget: BudgetArguments,
        #[command(flatten)]
        noise: NoiseArguments,
    },
    /// A slow drift: how much accumulates until it is caught, and how often a flat run is blamed.
    Drift {
        /// How many runs.
        #[arg(long, default_value_t = 1000)]
        trials: u64,
        /// Samples of each version in a step.
        #[arg(long, default_value_t = 10)]
        samples: usize,
        /// How much worse each step is than the one before, as a fraction.
        #[arg(long, value_name = "FRACTION", default_value_t = 0.002)]
        slope: f64,
        /// What must not accumulate, as a fraction.
        #[arg(long, value_name = "FRACTION", default_value_t = 0.05)]
        limit: f64,
        /// The error rate of the guard.
        #[arg(long, value_name = "CHANCE", default_value_t = 0.05)]
        alpha: f64,
        /// Measure only the candidate of each step, not its incumbent.
        #[arg(long, conflicts_with = "baseline")]
        candidate_only: bool,
        /// Measure the first version in turn with each candidate, instead of its incumbent.
        #[arg(long)]
        baseline: bool,
        #[command(flatten)]
        noise: NoiseArguments,
    },
    /// Looking after every pair: false alarms, and pairs until a verdict.
    Peek {
        /// How many runs of samples for each row.
        #[arg(long, default_value_t = 2000)]
        trials: u64,
        /// The most pairs.
        #[arg(long, default_value_t = 100)]
        max: usize,
        /// The true changes, as fractions; several for several rows.
        #[arg(long = "effect", value_name = "FRACTION", default_values_t = [0.0, 0.02, 0.05, 0.10])]
        effects: Vec<f64>,
        /// The tolerated change, as a fraction.
        #[arg(long, value_name = "FRACTION", default_value_t = 0.0)]
        threshold: f64,
        #[command(flatten)]
        noise: NoiseArguments,
    },
    /// The best of several candidates: the gain by which it was chosen, and that on fresh samples.
    Gain {
        /// How many choices for each row.
        #[arg(long, default_value_t = 4000)]
        trials: u64,
        /// Out of how many candidates; several for several rows.
        #[arg(long = "candidates", default_values_t = [1, 3, 10])]
        candidates: Vec<usize>,
        /// Samples by which each is chosen.
        #[arg(long, default_value_t = 1)]
        samples: usize,
        /// Fresh pairs.
        #[arg(long, default_value_t = 10)]
        pairs: usize,
        #[command(flatten)]
        noise: NoiseArguments,
    },
}

/// What noise is drawn.
#[derive(Debug, Args)]
pub(crate) struct NoiseArguments {
    /// The noise of one sample: standard deviation over mean, as a fraction.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.05)]
    pub(crate) cv: f64,
    /// Its shape [default: normal; for `peek` all].
    #[arg(long, value_enum)]
    pub(crate) noise: Option<NoiseShape>,
    /// The seed: the same one gives the same table.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// The shape of noise.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum NoiseShape {
    /// Normal.
    Normal,
    /// A long tail of slow runs.
    LogNormal,
    /// Outliers on both sides: Student's t with 3 degrees of freedom.
    HeavyTailed,
    /// Each value depends on the one before: autoregressive, 0.7.
    Autoregressive,
    /// The same with 0.3.
    WeaklyAutoregressive,
    /// Two modes.
    TwoModes,
}

impl From<NoiseShape> for NoiseKind {
    fn from(shape: NoiseShape) -> Self {
        match shape {
            NoiseShape::Normal => Self::Normal,
            NoiseShape::LogNormal => Self::LogNormal,
            NoiseShape::HeavyTailed => Self::HeavyTailed,
            NoiseShape::Autoregressive => Self::Autoregressive,
            NoiseShape::WeaklyAutoregressive => Self::WeaklyAutoregressive,
            NoiseShape::TwoModes => Self::TwoModes,
        }
    }
}
