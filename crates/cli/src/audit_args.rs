//! The arguments of looking back: `evoseal audit` and `evoseal rejudge`.

use clap::{Args, Subcommand};
use evoseal_types::Digest;

/// What scripts read; stable.
const VERIFY_JSON: &str = "With --json: {\"ok\", \"head\": {\"count\", \"digest\"}, \"damage\": {\"record\", \"problem\"} or \
null, \"tail_bytes\", \"evidence\", \"problems\": […], \"notes\": […]}. `problems` are damage outside the log itself; \
`notes` are what a killed process or a run that goes on leaves.";
const LIST_JSON: &str = "With --json, one record per line as it stands in the log: {\"sequence\", \"timestamp\", \"previous\", \
\"what\": {\"event\", …}}.";
/// The same of `evoseal rejudge`.
const REJUDGE_JSON: &str = "With --json: {\"decisions\", \"flips\", \"changed\", \"detector_asked\", \"must_be_same\", \
\"rows\": [{\"record\", \"version_id\", \"evidence\", \"flips\", \"same\", \"before\", \"after\", \"judgement_changed\"}], \"unreadable\": \
[{\"record\", \"version_id\", \"evidence\", \"problem\"}]}. `before` and `after` are decisions: {\"outcome\", \"decided_by\", \
\"reasons\", \"safety_score\", \"improvement_score\"}.

Exit codes: 0 nothing flips; 1 something does, or came out otherwise under the present settings; 4 evidence is damaged or missing.";

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check the whole log: its chain, its end, and that it has what the journal, the evidence and the rollbacks speak of.
    ///
    /// Names the first record that was changed, dropped, swapped, repeated or cut off, and ends with exit code 4 if there is
    /// one. Whoever can write all of these files can forge them all: give a head that was kept elsewhere to notice that.
    #[command(after_help = VERIFY_JSON)]
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
    #[command(after_help = LIST_JSON)]
    List {
        /// Show only the newest so many.
        #[arg(short = 'n', long)]
        limit: Option<usize>,
    },
}

#[derive(Debug, Args)]
#[command(after_help = REJUDGE_JSON)]
pub(crate) struct RejudgeArguments {
    /// Another value for a key of `[safety]`, `[safety.regression]`, `[validation]` or `[metrics.thresholds]`, as in
    /// evoseal.toml: `safety.minimum_safety_score=0.9`, `safety.regression.metric_thresholds.latency.threshold=0.02`. May be
    /// repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}
