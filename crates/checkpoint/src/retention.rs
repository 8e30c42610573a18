//! Which checkpoints are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evoseal_types::{CheckpointId, Timestamp};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::store::{Checkpoint, CheckpointStore, DeleteReport};
use crate::{Error, Result};

/// Which checkpoints are worth keeping. One is kept if any rule asks for it; rules that are 0 ask for nothing.
///
/// The calendar rules (grandfather, father, son) keep the newest checkpoint of each of the last so many hours, days, ISO
/// weeks, months and years in UTC *that have one*: a pause costs nothing. `within` counts back from the newest checkpoint,
/// not from now, so that nothing goes merely because time passes.
///
/// Whatever the rules say, pinned checkpoints, protected ones, the newest and its parent are kept.
///
/// ```
/// use evoseal_checkpoint::{KeepReason, RetentionCandidate, RetentionPolicy, Verdict};
/// use evoseal_types::{CheckpointId, Digest, Timestamp};
/// use std::collections::BTreeSet;
///
/// let hour_ns = 3_600_000_000_000;
/// let candidates: Vec<_> = (0..48_u8)
///     .map(|hour| RetentionCandidate {
///         id: CheckpointId::new(Digest::of(&[hour])),
///         created_at: Timestamp::from_unix_ns(i64::from(hour) * hour_ns),
///         parent: None,
///         is_pinned: false,
///     })
///     .collect();
/// let policy = RetentionPolicy { daily: 2, ..RetentionPolicy::default() };
/// let decided = policy.decide(&candidates, &BTreeSet::new())?;
/// let kept: Vec<usize> = (0..48).filter(|place| decided[*place].verdict.is_keep()).collect();
/// assert_eq!(kept, [23, 47], "the last one of each day");
/// assert_eq!(decided[23].verdict, Verdict::Keep(vec![KeepReason::Daily]));
/// # Ok::<(), evoseal_checkpoint::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionPolicy {
    /// So many in all: the oldest go until no more are left. What is pinned or protected counts.
    pub last: u64,
    /// All that are no older than this when the newest was made.
    pub within: Duration,
    /// The newest of each of the last so many hours.
    pub hourly: u64,
    /// The newest of each of the last so many days.
    pub daily: u64,
    /// The newest of each of the last so many weeks, which begin on Monday.
    pub weekly: u64,
    /// The newest of each of the last so many months.
    pub monthly: u64,
    /// The newest of each of the last so many years.
    pub yearly: u64,
}

/// What of a checkpoint decides whether it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionCandidate {
    /// Its id.
    pub id: CheckpointId,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it came from.
    pub parent: Option<CheckpointId>,
    /// Whether it is pinned.
    pub is_pinned: bool,
}

impl From<&Checkpoint> for RetentionCandidate {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self {
            id: checkpoint.id,
            created_at: checkpoint.created_at,
            parent: checkpoint.details.parent,
            is_pinned: checkpoint.pinned.is_some(),
        }
    }
}

/// Why a checkpoint is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepReason {
    /// It is pinned.
    Pinned,
    /// Somebody may need it: a known-good version, a baseline, a rollback.
    Protected,
    /// It is the newest.
    Newest,
    /// The newest came from it.
    ParentOfNewest,
    /// It is one of the last.
    Last,
    /// It is recent.
    Within,
    /// It is the last one of an hour.
    Hourly,
    /// It is the last one of a day.
    Daily,
    /// It is the last one of a week.
    Weekly,
    /// It is the last one of a month.
    Monthly,
    /// It is the last one of a year.
    Yearly,
}

impl KeepReason {
    /// Whether it holds against a size budget too.
    pub fn is_binding(self) -> bool {
        matches!(self, Self::Pinned | Self::Protected | Self::Newest | Self::ParentOfNewest)
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Protected => "in use",
            Self::Newest => "the newest",
            Self::ParentOfNewest => "parent of the newest",
            Self::Last => "last",
            Self::Within => "within",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }
}

/// What becomes of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It stays, for at least one reason.
    Keep(Vec<KeepReason>),
    /// No rule asks for it.
    Surplus,
    /// A rule asks for it, but the store would be larger than its budget.
    OverBudget,
}

impl Verdict {
    /// Whether it stays.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep(_))
    }

    /// Whether it stays whatever the budget is.
    pub(crate) fn is_bound(&self) -> bool {
        matches!(self, Self::Keep(reasons) if reasons.iter().any(|reason| reason.is_binding()))
    }
}

/// What becomes of one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionDecision {
    /// The checkpoint.
    pub id: CheckpointId,
    /// Whether it stays, and why.
    pub verdict: Verdict,
}

/// What a pruning did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneReport {
    /// Every checkpoint, in order of creation.
    pub decisions: Vec<RetentionDecision>,
    /// Bytes that the store took up before.
    pub bytes_before: u64,
    /// Bytes that it takes up afterwards; of a plan, an estimate.
    pub bytes_after: u64,
    /// By how many bytes what must be kept is larger than the budget; 0 if it fits or there is none.
    pub bytes_over_budget: u64,
}

impl PruneReport {
    /// The checkpoints that go.
    pub fn removed(&self) -> Vec<CheckpointId> {
        let doomed = self.decisions.iter().filter(|decision| !decision.verdict.is_keep());
        doomed.map(|decision| decision.id).collect()
    }
}

impl RetentionPolicy {
    /// Decides on checkpoints in order of creation. A pure function: the same list gives the same answer.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if every rule is 0: that would ask for the loss of everything.
    pub fn decide(
        &self,
        listed: &[RetentionCandidate],
        protected: &BTreeSet<CheckpointId>,
    ) -> Result<Vec<RetentionDecision>> {
        if *self == Self::default() {
            let reason = "at least one rule must keep something".to_owned();
            return Err(Error::Invalid { argument: "retention", reason });
        }
        let mut reasons: BTreeMap<CheckpointId, BTreeSet<KeepReason>> = BTreeMap::new();
        let mut keep = |id: CheckpointId, reason| reasons.entry(id).or_default().insert(reason);
        for candidate in listed {
            if candidate.is_pinned {
                keep(candidate.id, KeepReason::Pinned);
            }
            if protected.contains(&candidate.id) {
                keep(candidate.id, KeepReason::Protected);
            }
        }
        let mut bound = protected.clone();
        if let Some(newest) = listed.last() {
            keep(newest.id, KeepReason::Newest);
            bound.insert(newest.id);
            if let Some(parent) = newest.parent {
                keep(parent, KeepReason::ParentOfNewest);
                bound.insert(parent);
            }
        }
        if self.last > 0 {
            let all = listed.iter().map(|candidate| (candidate.id, candidate.is_pinned));
            let surplus: BTreeSet<CheckpointId> = surplus_of(all, self.last, &bound).into_iter().collect();
            for candidate in listed.iter().filter(|candidate| !surplus.contains(&candidate.id)) {
                keep(candidate.id, KeepReason::Last);
            }
        }
        // A clock may have been set back, so the latest in time need not be the last that was made.
        let mut newest_first: Vec<&RetentionCandidate> = listed.iter().rev().collect();
        newest_first.sort_by_key(|candidate| std::cmp::Reverse(candidate.created_at));
        if !self.within.is_zero()
            && let Some(latest) = newest_first.first()
        {
            let is_recent = |candidate: &&&RetentionCandidate| {
                latest.created_at.since(candidate.created_at) <= self.within
            };
            for candidate in newest_first.iter().filter(is_recent) {
                keep(candidate.id, KeepReason::Within);
            }
        }
        for (count, reason, period) in self.calendar_rules() {
            let mut periods = 0;
            let mut last_period = None;
            for candidate in &newest_first {
                let current = period(civil(candidate.created_at));
                if periods < count && last_period != Some(current) {
                    last_period = Some(current);
                    periods += 1;
                    keep(candidate.id, reason);
                }
            }
        }
        let decide = |candidate: &RetentionCandidate| {
            let verdict = match reasons.get(&candidate.id) {
                Some(reasons) => Verdict::Keep(reasons.iter().copied().collect()),
                None => Verdict::Surplus,
            };
            RetentionDecision { id: candidate.id, verdict }
        };
        Ok(listed.iter().map(decide).collect())
    }

    fn calendar_rules(&self) -> [(u64, KeepReason, Period); 5] {
        [
            (self.hourly, KeepReason::Hourly, |time| (time.date().year(), time.day_of_year(), time.hour())),
            (self.daily, KeepReason::Daily, |time| (time.date().year(), time.day_of_year(), 0)),
            (self.weekly, KeepReason::Weekly, |time| {
                let week = time.date().iso_week_date();
                (week.year(), i16::from(week.week()), 0)
            }),
            (self.monthly, KeepReason::Monthly, |time| (time.year(), i16::from(time.month()), 0)),
            (self.yearly, KeepReason::Yearly, |time| (time.year(), 0, 0)),
        ]
    }
}

/// Names the hour, day, week, month or year that a time is in.
type Period = fn(DateTime) -> (i16, i16, i8);

fn civil(time: Timestamp) -> DateTime {
    let time = jiff::Timestamp::from_nanosecond(i128::from(time.unix_ns()))
        .expect("every 64-bit count of nanoseconds lies within jiff's range of ten thousand years");
    TimeZone::UTC.to_datetime(time)
}

/// Takes checkpoints away, oldest first, until the rest fits into `budget`. `growth` says by how many bytes the store grows
/// with each kept checkpoint when they are added from the bound ones and then from the newest to the oldest, and `base` what
/// the store takes up without any. Returns the estimate of what is left.
pub(crate) fn fit(
    decisions: &mut [RetentionDecision],
    order: &[CheckpointId],
    growth: &[u64],
    base: u64,
    budget: u64,
) -> u64 {
    let mut total = base;
    let mut is_full = false;
    let mut removed = BTreeSet::new();
    let bound: BTreeSet<CheckpointId> =
        decisions.iter().filter(|decision| decision.verdict.is_bound()).map(|decision| decision.id).collect();
    for (id, bytes) in order.iter().zip(growth) {
        is_full = is_full || (!bound.contains(id) && total.saturating_add(*bytes) > budget);
        if is_full && !bound.contains(id) {
            removed.insert(*id);
        } else {
            total = total.saturating_add(*bytes);
        }
    }
    for decision in decisions.iter_mut().filter(|decision| removed.contains(&decision.id)) {
        decision.verdict = Verdict::OverBudget;
    }
    total
}

/// Deletes the oldest checkpoints until at most `keep` are left. Pinned ones and `protected` ones are never deleted and
/// count, so that more than `keep` may be left.
///
/// # Errors
///
/// [`Error::Invalid`](crate::Error::Invalid) if `keep` is zero: that would ask for the loss of everything.
///
/// ```
/// use evoseal_checkpoint::{CheckpointManager, CheckpointStore, NewCheckpoint, Source, apply_retention};
/// use std::collections::{BTreeMap, BTreeSet};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let store = CheckpointManager::builder().in_memory().create()?;
/// for version in ["v1", "v2", "v3"] {
///     let source = Source::Entries(BTreeMap::from([("a".parse()?, version.into())]));
///     store.create(source, NewCheckpoint::of(version.parse()?)).await?.durable().await?;
/// }
/// apply_retention(&store, 2, &BTreeSet::new()).await?;
/// let left: Vec<String> =
///     store.list().await?.iter().map(|kept| kept.details.version_id.to_string()).collect();
/// assert_eq!(left, ["v2", "v3"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn apply_retention(
    store: &dyn CheckpointStore,
    keep: u64,
    protected: &BTreeSet<CheckpointId>,
) -> Result<DeleteReport> {
    let surplus = surplus(&store.list().await?, keep, protected)?;
    if surplus.is_empty() {
        return Ok(DeleteReport::default());
    }
    store.delete(&surplus).await
}

/// The checkpoints, out of a listing from oldest to newest, that are more than `keep` and may go.
pub fn surplus(
    listed: &[Checkpoint],
    keep: u64,
    protected: &BTreeSet<CheckpointId>,
) -> Result<Vec<CheckpointId>> {
    if keep == 0 {
        let reason = "at least one checkpoint must be kept".to_owned();
        return Err(Error::Invalid { argument: "keep", reason });
    }
    let candidates = listed.iter().map(|checkpoint| (checkpoint.id, checkpoint.pinned.is_some()));
    Ok(surplus_of(candidates, keep, protected))
}

/// The same over ids and whether they are pinned.
pub(crate) fn surplus_of(
    listed: impl ExactSizeIterator<Item = (CheckpointId, bool)>,
    keep: u64,
    protected: &BTreeSet<CheckpointId>,
) -> Vec<CheckpointId> {
    let excess = listed.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    let removable = listed.filter(|(id, is_pinned)| !is_pinned && !protected.contains(id));
    removable.take(excess).map(|(id, _)| id).collect()
}
