//! Which checkpoints are kept: the rules against a naive model, and what a store does with them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use evoseal_checkpoint::{
    CheckpointManager, CheckpointSettings, Error, KeepReason, NewCheckpoint, RetentionCandidate,
    RetentionPolicy, Source, Verdict, VerifyDepth,
};
use evoseal_types::{CheckpointId, Digest, ManualClock, Timestamp};
use proptest::prelude::*;

const HOUR_NS: i64 = 3_600_000_000_000;
const DAY_NS: i64 = 24 * HOUR_NS;

fn id(number: usize) -> CheckpointId {
    CheckpointId::new(Digest::of(&number.to_le_bytes()))
}

/// Days since 1970 as year, month and day: Howard Hinnant's `civil_from_days`, so that the calendar of the code under test
/// is not asked about itself.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The period that a time is in: 1970 began on a Thursday, so weeks begin four days into it.
fn period(reason: KeepReason, time_ns: i64) -> (i64, i64) {
    let days = time_ns.div_euclid(DAY_NS);
    let (year, month, _) = civil(days);
    match reason {
        KeepReason::Hourly => (time_ns.div_euclid(HOUR_NS), 0),
        KeepReason::Daily => (days, 0),
        KeepReason::Weekly => ((days + 3).div_euclid(7), 0),
        KeepReason::Monthly => (year, month),
        _ => (year, 0),
    }
}

/// For each rule by itself: every period, its newest checkpoint, the last so many periods.
fn kept_by_calendar(listed: &[RetentionCandidate], reason: KeepReason, count: u64) -> BTreeSet<CheckpointId> {
    let mut newest: BTreeMap<(i64, i64), (i64, usize)> = BTreeMap::new();
    for (place, candidate) in listed.iter().enumerate() {
        let time = candidate.created_at.unix_ns();
        let best = newest.entry(period(reason, time)).or_insert((time, place));
        *best = (*best).max((time, place));
    }
    newest.values().rev().take(usize::try_from(count).unwrap()).map(|(_, place)| listed[*place].id).collect()
}

fn histories() -> impl Strategy<Value = Vec<RetentionCandidate>> {
    // Steps from seconds to months, now and then backwards.
    let step = prop_oneof![-HOUR_NS..HOUR_NS, 0..DAY_NS, 0..40 * DAY_NS, Just(0),];
    let entry = (step, prop::bool::weighted(0.1), prop::option::of(1_usize..5));
    (-20_000 * DAY_NS..40_000 * DAY_NS, prop::collection::vec(entry, 0..60)).prop_map(|(start, steps)| {
        let mut time = start;
        let mut list = Vec::new();
        for (number, (step, is_pinned, back)) in steps.into_iter().enumerate() {
            time += step;
            list.push(RetentionCandidate {
                id: id(number),
                created_at: Timestamp::from_unix_ns(time),
                parent: back.and_then(|back| number.checked_sub(back)).map(id),
                is_pinned,
            });
        }
        list
    })
}

fn policies() -> impl Strategy<Value = RetentionPolicy> {
    let count = || prop_oneof![Just(0_u64), 1..10_u64];
    (count(), prop_oneof![Just(0_u64), 1..100 * 86_400_u64], [count(), count(), count(), count(), count()])
        .prop_map(|(last, within_sec, [hourly, daily, weekly, monthly, yearly])| RetentionPolicy {
            last,
            within: Duration::from_secs(within_sec),
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
        })
}

proptest! {
    #[test]
    fn the_rules_keep_what_a_naive_model_keeps(
        listed in histories(),
        policy in policies(),
        protected in prop::collection::btree_set(0_usize..60, 0..4),
    ) {
        let protected: BTreeSet<CheckpointId> = protected.into_iter().map(id).collect();
        if policy == RetentionPolicy::default() {
            let is_refused = matches!(policy.decide(&listed, &protected), Err(Error::Invalid { .. }));
            prop_assert!(is_refused);
            return Ok(());
        }
        let decided = policy.decide(&listed, &protected).unwrap();
        prop_assert_eq!(decided.len(), listed.len());

        let newest = listed.last().map(|candidate| candidate.id);
        let parent = listed.last().and_then(|candidate| candidate.parent);
        let is_bound = |candidate: &RetentionCandidate| {
            candidate.is_pinned
                || protected.contains(&candidate.id)
                || Some(candidate.id) == newest
                || Some(candidate.id) == parent
        };
        // The last rule: the oldest that may go, one by one, while there are too many.
        let mut last: Vec<&RetentionCandidate> = listed.iter().collect();
        while policy.last > 0 && last.len() as u64 > policy.last {
            let Some(place) = last.iter().position(|candidate| !is_bound(candidate)) else { break };
            last.remove(place);
        }
        let last: BTreeSet<CheckpointId> = last.iter().map(|candidate| candidate.id).collect();
        let latest = listed.iter().map(|candidate| candidate.created_at.unix_ns()).max();
        for (candidate, decision) in listed.iter().zip(&decided) {
            let mut reasons = Vec::new();
            let mut add = |holds: bool, reason| if holds { reasons.push(reason) };
            add(candidate.is_pinned, KeepReason::Pinned);
            add(protected.contains(&candidate.id), KeepReason::Protected);
            add(Some(candidate.id) == newest, KeepReason::Newest);
            add(Some(candidate.id) == parent, KeepReason::ParentOfNewest);
            add(policy.last > 0 && last.contains(&candidate.id), KeepReason::Last);
            let age_ns = i128::from(latest.unwrap()) - i128::from(candidate.created_at.unix_ns());
            add(!policy.within.is_zero() && age_ns <= policy.within.as_nanos().cast_signed(), KeepReason::Within);
            for (count, reason) in [
                (policy.hourly, KeepReason::Hourly),
                (policy.daily, KeepReason::Daily),
                (policy.weekly, KeepReason::Weekly),
                (policy.monthly, KeepReason::Monthly),
                (policy.yearly, KeepReason::Yearly),
            ] {
                add(kept_by_calendar(&listed, reason, count).contains(&candidate.id), reason);
            }
            let expected = if reasons.is_empty() { Verdict::Surplus } else { Verdict::Keep(reasons) };
            prop_assert_eq!(decision.id, candidate.id);
            prop_assert_eq!(&decision.verdict, &expected);
        }
    }
}

/// Bytes that do not compress and have nothing in common.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn save(manager: &CheckpointManager, seed: u8) -> CheckpointId {
    let entries = BTreeMap::from([("a".parse().unwrap(), noise(seed, 100_000))]);
    let details = NewCheckpoint::of(format!("v{seed}").parse().unwrap());
    manager.create_blocking(&Source::Entries(entries), details).unwrap().0.id
}

fn store(settings: CheckpointSettings) -> CheckpointManager {
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_unix_ns(0)));
    CheckpointManager::builder().in_memory().clock(clock).settings(settings).create().unwrap()
}

fn ids(manager: &CheckpointManager) -> Vec<CheckpointId> {
    manager.list_blocking().unwrap().iter().map(|checkpoint| checkpoint.id).collect()
}

#[test]
fn a_budget_takes_the_oldest_that_may_go_and_the_storage_comes_back() {
    let manager = store(CheckpointSettings { auto_cleanup: false, ..CheckpointSettings::default() });
    let made: Vec<CheckpointId> = (0..8).map(|seed| save(&manager, seed)).collect();
    manager.pin_blocking(made[1], Some("kept")).unwrap();
    manager.protect(BTreeSet::from([made[3]]));
    let policy = RetentionPolicy { last: 50, ..RetentionPolicy::default() };
    let budget = 450_000;
    let plan = manager.plan_prune_blocking(&policy, budget).unwrap();
    assert_eq!(ids(&manager), made, "a plan changes nothing");
    assert_eq!(plan.removed(), [made[0], made[2], made[4], made[5]]);
    assert!(plan.bytes_after <= budget && plan.bytes_over_budget == 0, "{plan:?}");

    let report = manager.prune_blocking(&policy, budget).unwrap();
    assert_eq!(report.decisions, plan.decisions);
    assert_eq!(ids(&manager), [made[1], made[3], made[6], made[7]]);
    assert!(report.bytes_before > 800_000 && report.bytes_after <= budget, "{report:?}");
    assert_eq!(report.bytes_after, manager.get_checkpoint_statistics().unwrap().total_size_bytes);
    let estimate_off = plan.bytes_after.abs_diff(report.bytes_after);
    assert!(estimate_off < 20_000, "planned {} got {}", plan.bytes_after, report.bytes_after);
    assert!(manager.verify_to_depth_blocking(&[], VerifyDepth::Full).unwrap().damage.is_empty());
}

#[test]
fn what_must_be_kept_is_kept_above_the_budget_and_the_report_says_so() {
    let manager = store(CheckpointSettings { auto_cleanup: false, ..CheckpointSettings::default() });
    let made: Vec<CheckpointId> = (0..3).map(|seed| save(&manager, seed)).collect();
    manager.pin_blocking(made[0], Some("kept")).unwrap();
    let policy = RetentionPolicy { last: 50, ..RetentionPolicy::default() };
    let report = manager.prune_blocking(&policy, 1).unwrap();
    assert_eq!(ids(&manager), [made[0], made[2]]);
    assert_eq!(report.bytes_over_budget, report.bytes_after - 1);
}

#[test]
fn cleanup_obeys_the_budget_by_itself() {
    let manager = store(CheckpointSettings { max_store_bytes: 500_000, ..CheckpointSettings::default() });
    for seed in 0..12 {
        save(&manager, seed);
        let size = manager.get_checkpoint_statistics().unwrap().total_size_bytes;
        assert!(size <= 500_000, "{size} after {seed}");
    }
    let left = ids(&manager).len();
    assert!((3..=4).contains(&left), "{left} are left");
}

#[test]
fn calendar_rules_add_to_the_number_that_is_kept() {
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_unix_ns(0)));
    let settings = CheckpointSettings { max_checkpoints: 2, keep_daily: 3, ..CheckpointSettings::default() };
    let manager = CheckpointManager::builder()
        .in_memory()
        .clock(Arc::clone(&clock) as _)
        .settings(settings)
        .create()
        .unwrap();
    let mut made = Vec::new();
    for seed in 0..16 {
        made.push(save(&manager, seed));
        clock.advance(Duration::from_hours(6));
    }
    // Four a day: the last of the last three days, and the last two.
    assert_eq!(ids(&manager), [made[7], made[11], made[14], made[15]]);
}
