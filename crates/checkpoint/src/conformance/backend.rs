//! What every [`ObjectBackend`](crate::ObjectBackend) must do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::BackendFixture;
use crate::{Error, LockMode};

/// One case by name.
pub type Case = (&'static str, fn(&BackendFixture));

/// All cases of the suite.
pub const CASES: &[Case] = &[
    ("what_was_put_is_read_back", what_was_put_is_read_back),
    ("an_object_may_be_empty_or_large", an_object_may_be_empty_or_large),
    ("a_part_of_an_object_is_read", a_part_of_an_object_is_read),
    ("a_range_beyond_the_end_is_damage", a_range_beyond_the_end_is_damage),
    ("putting_the_same_bytes_again_is_fine", putting_the_same_bytes_again_is_fine),
    ("an_object_is_never_overwritten", an_object_is_never_overwritten),
    ("a_missing_object_is_not_found", a_missing_object_is_not_found),
    ("names_that_could_escape_are_refused", names_that_could_escape_are_refused),
    ("a_listing_is_complete_sorted_and_by_prefix", a_listing_is_complete_sorted_and_by_prefix),
    ("a_listing_sees_every_write_that_returned", a_listing_sees_every_write_that_returned),
    ("a_deleted_object_is_gone_and_may_be_deleted_again", a_deleted_object_is_gone_and_may_be_deleted_again),
    ("a_cell_is_empty_until_it_is_written", a_cell_is_empty_until_it_is_written),
    ("a_cell_is_written_only_over_what_was_expected", a_cell_is_written_only_over_what_was_expected),
    ("cells_are_not_objects", cells_are_not_objects),
    ("of_concurrent_swaps_exactly_one_wins", of_concurrent_swaps_exactly_one_wins),
    ("everything_is_seen_by_another_user", everything_is_seen_by_another_user),
    ("writers_share_the_lock", writers_share_the_lock),
    ("whoever_holds_the_lock_alone_keeps_others_out", whoever_holds_the_lock_alone_keeps_others_out),
];

const WORKS: &str = "the call must succeed";

/// `get` answers what `put` was given.
pub fn what_was_put_is_read_back(fixture: &BackendFixture) {
    fixture.backend.put("a", b"one").expect(WORKS);
    fixture.backend.put("packs/b", b"two").expect(WORKS);
    assert_eq!(fixture.backend.get("a").expect(WORKS), b"one");
    assert_eq!(fixture.backend.get("packs/b").expect(WORKS), b"two");
}

/// Neither an empty object nor one of several megabytes is torn.
pub fn an_object_may_be_empty_or_large(fixture: &BackendFixture) {
    let large: Vec<u8> = (0..=250_u8).cycle().take(5_000_000).collect();
    fixture.backend.put("empty", b"").expect(WORKS);
    fixture.backend.put("large", &large).expect(WORKS);
    assert_eq!(fixture.backend.get("empty").expect(WORKS), b"");
    assert!(fixture.backend.get("large").expect(WORKS) == large, "a large object must come back whole");
    let end = large.len() as u64;
    let last = fixture.backend.get_range("large", end - 10..end).expect(WORKS);
    assert_eq!(last, large[large.len() - 10..], "the end of a large object must be there");
}

/// `get_range` answers exactly the bytes asked for.
pub fn a_part_of_an_object_is_read(fixture: &BackendFixture) {
    fixture.backend.put("a", b"0123456789").expect(WORKS);
    for (range, expected) in [(0..10, "0123456789"), (3..5, "34"), (10..10, ""), (0..0, "")] {
        assert_eq!(
            fixture.backend.get_range("a", range.clone()).expect(WORKS),
            expected.as_bytes(),
            "{range:?}"
        );
    }
}

/// A range that ends beyond the object is refused, never cut short.
pub fn a_range_beyond_the_end_is_damage(fixture: &BackendFixture) {
    fixture.backend.put("a", b"0123").expect(WORKS);
    for range in [0..5, 4..5, 3..u64::MAX] {
        let answer = fixture.backend.get_range("a", range.clone());
        assert!(matches!(answer, Err(Error::Damaged { .. })), "{range:?}: {answer:?}");
    }
}

/// `put` can be repeated.
pub fn putting_the_same_bytes_again_is_fine(fixture: &BackendFixture) {
    fixture.backend.put("a", b"one").expect(WORKS);
    fixture.backend.put("a", b"one").expect("the same bytes again must be fine");
    assert_eq!(fixture.backend.get("a").expect(WORKS), b"one");
}

/// Other bytes under a name that exists are refused and the old ones stay.
pub fn an_object_is_never_overwritten(fixture: &BackendFixture) {
    fixture.backend.put("a", b"one").expect(WORKS);
    assert!(fixture.backend.put("a", b"two").is_err(), "other bytes must be refused");
    assert_eq!(fixture.backend.get("a").expect(WORKS), b"one", "the old bytes must stay");
}

/// What is not there is `NotFound`.
pub fn a_missing_object_is_not_found(fixture: &BackendFixture) {
    for answer in [fixture.backend.get("missing"), fixture.backend.get_range("missing", 0..1)] {
        assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
    }
}

/// Names are checked before anything is touched.
pub fn names_that_could_escape_are_refused(fixture: &BackendFixture) {
    for name in
        ["", "/a", "../a", "a/../b", "a//b", "a/", "A", "a b", "a\0", "ä", "a/b/c/d/e", &"x".repeat(201)]
    {
        let answer = fixture.backend.put(name, b"x");
        assert!(matches!(answer, Err(Error::Invalid { .. })), "{name:?}: {answer:?}");
        assert!(fixture.backend.get(name).is_err(), "{name:?}");
        assert!(fixture.backend.swap(name, None, b"x").is_err(), "{name:?}");
    }
}

/// Listings are sorted by name, carry sizes, and hold what starts with the prefix and nothing else.
pub fn a_listing_is_complete_sorted_and_by_prefix(fixture: &BackendFixture) {
    for (name, bytes) in [("packs/b", "22"), ("packs/a", "1"), ("packsx", "333"), ("other", "")] {
        fixture.backend.put(name, bytes.as_bytes()).expect(WORKS);
    }
    let list = |prefix| -> Vec<(String, u64)> {
        let found = fixture.backend.list(prefix).expect(WORKS);
        found.into_iter().map(|object| (object.name, object.size_bytes)).collect()
    };
    assert_eq!(list("packs/"), [("packs/a".to_owned(), 1), ("packs/b".to_owned(), 2)]);
    let names: Vec<String> = list("").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["other", "packs/a", "packs/b", "packsx"]);
    assert_eq!(list("nothing"), []);
}

/// A listing is never older than the last write that returned.
pub fn a_listing_sees_every_write_that_returned(fixture: &BackendFixture) {
    for number in 0..20 {
        fixture.backend.put(&format!("a{number:02}"), b"x").expect(WORKS);
        assert_eq!(fixture.backend.list("a").expect(WORKS).len(), number + 1, "after write {number}");
    }
    for number in 0..20 {
        fixture.backend.delete(&format!("a{number:02}")).expect(WORKS);
        assert_eq!(fixture.backend.list("a").expect(WORKS).len(), 19 - number, "after deletion {number}");
    }
}

/// `delete` removes, and is fine where there is nothing to remove.
pub fn a_deleted_object_is_gone_and_may_be_deleted_again(fixture: &BackendFixture) {
    fixture.backend.put("packs/a", b"one").expect(WORKS);
    fixture.backend.put("packs/b", b"two").expect(WORKS);
    for _ in 0..2 {
        fixture.backend.delete("packs/a").expect("deleting must be repeatable");
        assert!(matches!(fixture.backend.get("packs/a"), Err(Error::NotFound { .. })));
    }
    assert_eq!(fixture.backend.get("packs/b").expect(WORKS), b"two", "another object must stay");
    fixture.backend.delete("never/there").expect("deleting what never was must be fine");
    fixture.backend.put("packs/a", b"other").expect("a freed name can be used again");
}

/// A cell that was never written is `None`.
pub fn a_cell_is_empty_until_it_is_written(fixture: &BackendFixture) {
    assert_eq!(fixture.backend.load("cell").expect(WORKS), None);
    assert!(fixture.backend.swap("cell", None, b"one").expect(WORKS));
    assert_eq!(fixture.backend.load("cell").expect(WORKS).as_deref(), Some(b"one".as_slice()));
}

/// `swap` compares before it writes.
pub fn a_cell_is_written_only_over_what_was_expected(fixture: &BackendFixture) {
    let swap = |expected, new| fixture.backend.swap("cell", expected, new).expect(WORKS);
    assert!(!swap(Some(b"zero"), b"one"), "an empty cell does not hold anything");
    assert!(swap(None, b"one"));
    assert!(!swap(None, b"two"), "a written cell is not empty");
    assert!(!swap(Some(b"other"), b"two"));
    assert_eq!(fixture.backend.load("cell").expect(WORKS).as_deref(), Some(b"one".as_slice()));
    assert!(swap(Some(b"one"), b"two"));
    assert!(swap(Some(b"two"), b""), "a cell may be written empty");
    assert!(!swap(None, b"three"), "an empty content is not an unwritten cell");
}

/// Cells do not show among objects, and do not share names with them.
pub fn cells_are_not_objects(fixture: &BackendFixture) {
    assert!(fixture.backend.swap("same", None, b"cell").expect(WORKS));
    fixture.backend.put("same", b"object").expect(WORKS);
    assert_eq!(fixture.backend.get("same").expect(WORKS), b"object");
    assert_eq!(fixture.backend.load("same").expect(WORKS).as_deref(), Some(b"cell".as_slice()));
    assert_eq!(fixture.backend.list("").expect(WORKS).len(), 1);
}

/// Of several swaps with the same expectation one succeeds.
pub fn of_concurrent_swaps_exactly_one_wins(fixture: &BackendFixture) {
    for round in 0..10 {
        let before = fixture.backend.load("cell").expect(WORKS);
        let wins = AtomicU32::new(0);
        thread::scope(|scope| {
            for contender in 0..4 {
                let (backend, before, wins) = (&fixture.backend, before.as_deref(), &wins);
                scope.spawn(move || {
                    let new = format!("{round} {contender}");
                    if backend.swap("cell", before, new.as_bytes()).expect(WORKS) {
                        wins.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(wins.load(Ordering::Relaxed), 1, "round {round}");
    }
}

/// What returned is there for whoever opens the same bytes next.
pub fn everything_is_seen_by_another_user(fixture: &BackendFixture) {
    fixture.backend.put("packs/a", b"one").expect(WORKS);
    assert!(fixture.backend.swap("cell", None, b"content").expect(WORKS));
    let other = fixture.reopened();
    assert_eq!(other.get("packs/a").expect(WORKS), b"one");
    assert_eq!(other.load("cell").expect(WORKS).as_deref(), Some(b"content".as_slice()));
    assert_eq!(other.name(), fixture.backend.name());
    other.put("packs/b", b"two").expect(WORKS);
    assert_eq!(fixture.backend.get("packs/b").expect(WORKS), b"two");
}

/// Several holders of the shared lock do not wait for each other.
pub fn writers_share_the_lock(fixture: &BackendFixture) {
    let first = fixture.backend.lock(LockMode::Shared).expect(WORKS);
    let second = fixture.reopened().lock(LockMode::Shared).expect(WORKS);
    drop((first, second));
    let _alone = fixture.backend.lock(LockMode::Exclusive).expect("all guards were dropped");
}

/// The exclusive lock is refused while anyone holds it, and a shared one waits for it.
pub fn whoever_holds_the_lock_alone_keeps_others_out(fixture: &BackendFixture) {
    let other = fixture.reopened();
    let shared = other.lock(LockMode::Shared).expect(WORKS);
    let refused = fixture.backend.lock(LockMode::Exclusive);
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    drop(shared);
    let alone = fixture.backend.lock(LockMode::Exclusive).expect(WORKS);
    assert!(matches!(other.lock(LockMode::Exclusive), Err(Error::Locked { .. })));
    let released = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&released);
    let waiting = thread::spawn(move || {
        let _shared = other.lock(LockMode::Shared).expect(WORKS);
        seen.load(Ordering::SeqCst)
    });
    released.store(1, Ordering::SeqCst);
    drop(alone);
    assert_eq!(waiting.join().expect("the waiting thread must not panic"), 1, "a shared lock must wait");
}
