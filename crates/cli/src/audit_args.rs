//! The arguments of looking back: `evoseal audit` and `evoseal rejudge`.

use clap::{Args, Subcommand};
use evoseal_types::Digest;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check the whole log: its chain, its end, and that it has what the journal, the evidence and the rollbacks speak of.
    ///
    /// Names the first record that was changed, dropped, swapped, repeated or cut off, and ends with exit code 4 if there is
    /// one. Whoever can write all of these files can forge them all: give a head that was kept elsewhere to notice that.
    Verify {
        /// A digest that `evoseal audit head` printed once: its record must still be there.
        #[arg(long, value_name = "DIGEST")]
        head: Option<Digest>,
        /// How many records there were once: at least so many must be there, and with `--head` the last of them is it.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Print the digest of the last record, to keep it elsewhere.
    Head,
    /// List the records, oldest first.
    List {
        /// Show only the newest so many.
        #[arg(short = 'n', long)]
        limit: Option<usize>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RejudgeArguments {
    /// Another value for a key of `[safety]`, `[safety.regression]`, `[validation]` or `[metrics.thresholds]`, as in
    /// evoseal.toml: `safety.minimum_safety_score=0.9`, `safety.regression.metric_thresholds.latency.threshold=0.02`. May be
    /// repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}
