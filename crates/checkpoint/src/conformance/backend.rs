//! What every [`ObjectBackend`] must do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::BackendFixture;
use crate::{Cell, CellState, Error, LockMode, ObjectBackend, ObjectBackendExt};

/// One case by name.
pub type Case = (&'static str, fn(&BackendFixture));

/// All cases of the suite.
pub const CASES: &[Case] = &[
    ("what_was_put_is_read_back", what_was_put_is_read_back),
    ("an_object_may_be_empty_or_large", an_object_may_be_empty_or_large),
    ("a_large_object_is_written_piece_by_piece", a_large_object_is_written_piece_by_piece),
    ("an_object_appears_when_its_writer_finishes", an_object_appears_when_its_writer_finishes),
    ("a_dropped_writer_leaves_nothing", a_dropped_writer_leaves_nothing),
    ("a_part_of_an_object_is_read", a_part_of_an_object_is_read),
    ("a_range_beyond_the_end_is_damage", a_range_beyond_the_end_is_damage),
    ("putting_the_same_bytes_again_is_fine", putting_the_same_bytes_again_is_fine),
    ("an_object_is_never_overwritten", an_object_is_never_overwritten),
    ("a_missing_object_is_not_found", a_missing_object_is_not_found),
    ("names_that_could_escape_are_refused", names_that_could_escape_are_refused),
    ("a_listing_is_complete_sorted_and_by_prefix", a_listing_is_complete_sorted_and_by_prefix),
    ("a_listing_sees_every_write_that_returned", a_listing_sees_every_write_that_returned),
    ("a_deleted_object_is_gone_and_may_be_deleted_again", a_deleted_object_is_gone_and_may_be_deleted_again),
    ("a_deleted_object_is_gone_for_every_user", a_deleted_object_is_gone_for_every_user),
    ("a_cell_is_empty_until_it_is_written", a_cell_is_empty_until_it_is_written),
    ("a_cell_is_written_only_over_what_was_expected", a_cell_is_written_only_over_what_was_expected),
    ("a_cell_grows_only_over_what_was_expected", a_cell_grows_only_over_what_was_expected),
    ("an_append_replaces_a_torn_end", an_append_replaces_a_torn_end),
    ("a_cell_is_read_from_where_it_was_asked_for", a_cell_is_read_from_where_it_was_asked_for),
    ("what_was_acknowledged_is_not_forgotten", what_was_acknowledged_is_not_forgotten),
    ("cells_are_not_objects", cells_are_not_objects),
    ("of_concurrent_swaps_exactly_one_wins", of_concurrent_swaps_exactly_one_wins),
    ("of_concurrent_appends_exactly_one_wins", of_concurrent_appends_exactly_one_wins),
    ("everything_is_seen_by_another_user", everything_is_seen_by_another_user),
    ("writers_share_the_lock", writers_share_the_lock),
    ("whoever_holds_the_lock_alone_keeps_others_out", whoever_holds_the_lock_alone_keeps_others_out),
];

const WORKS: &str = "the call must succeed";
const CELL: &str = "cell";

/// The cell as it is now, which must have been written.
fn cell(backend: &dyn ObjectBackend) -> Cell {
    backend.load(CELL, 0).expect(WORKS).expect("the cell was written")
}

fn names(backend: &dyn ObjectBackend) -> Vec<String> {
    backend.list("").expect(WORKS).into_iter().map(|object| object.name).collect()
}

/// `get` answers what `put` was given.
pub fn what_was_put_is_read_back(fixture: &BackendFixture) {
    fixture.backend.put("a", b"one").expect(WORKS);
    fixture.backend.put("packs/b", b"two").expect(WORKS);
    assert_eq!(fixture.backend.get("a").expect(WORKS), b"one");
    assert_eq!(fixture.backend.get("packs/b").expect(WORKS), b"two");
}

/// Neither an empty object nor one of several megabytes is torn.
pub fn an_object_may_be_empty_or_large(fixture: &BackendFixture) {
    let large: Vec<u8> = (0..=250_u8).collect::<Vec<_>>().repeat(20_000);
    fixture.backend.put("empty", b"").expect(WORKS);
    fixture.backend.put("large", &large).expect(WORKS);
    assert_eq!(fixture.backend.get("empty").expect(WORKS), b"");
    assert!(fixture.backend.get("large").expect(WORKS) == large, "a large object must come back whole");
    let end = large.len() as u64;
    let last = fixture.backend.get_range("large", end - 10..end).expect(WORKS);
    assert_eq!(last, large[large.len() - 10..], "the end of a large object must be there");
}

/// The pieces of a writer are one object, whatever their sizes.
pub fn a_large_object_is_written_piece_by_piece(fixture: &BackendFixture) {
    let whole: Vec<u8> = (0..=250_u8).collect::<Vec<_>>().repeat(36_000);
    let mut writer = fixture.backend.writer().expect(WORKS);
    let mut rest = &whole[..];
    for length in [1, 0, 3_000_000, 17, 65_536, 1_000_000].into_iter().cycle() {
        let (piece, later) = rest.split_at(rest.len().min(length));
        writer.write(piece).expect(WORKS);
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    writer.finish("packs/large").expect(WORKS);
    assert!(fixture.backend.get("packs/large").expect(WORKS) == whole, "all pieces must be there, in order");
    let middle = fixture.backend.get_range("packs/large", 4_000_000..4_000_100).expect(WORKS);
    assert_eq!(middle, whole[4_000_000..4_000_100]);
}

/// Before `finish` nobody sees anything of an object, and writers do not disturb each other.
pub fn an_object_appears_when_its_writer_finishes(fixture: &BackendFixture) {
    let mut first = fixture.backend.writer().expect(WORKS);
    let mut second = fixture.backend.writer().expect(WORKS);
    first.write(b"one").expect(WORKS);
    second.write(b"two").expect(WORKS);
    let other = fixture.reopened();
    for backend in [&fixture.backend, &other] {
        assert_eq!(names(backend), Vec::<String>::new(), "an unfinished object must not be seen");
    }
    second.finish("packs/b").expect(WORKS);
    assert_eq!(names(&other), ["packs/b"]);
    first.finish("a").expect(WORKS);
    assert_eq!(names(&other), ["a", "packs/b"]);
    assert_eq!(other.get("a").expect(WORKS), b"one");
    assert_eq!(other.get("packs/b").expect(WORKS), b"two");
}

/// A writer that is dropped, or refused, was never there.
pub fn a_dropped_writer_leaves_nothing(fixture: &BackendFixture) {
    let mut writer = fixture.backend.writer().expect(WORKS);
    writer.write(b"unwanted").expect(WORKS);
    drop(writer);
    let mut writer = fixture.backend.writer().expect(WORKS);
    writer.write(b"unwanted").expect(WORKS);
    assert!(writer.finish("../a").is_err());
    assert_eq!(names(&fixture.backend), Vec::<String>::new());
    assert_eq!(names(&fixture.reopened()), Vec::<String>::new());
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

/// What one user removed is gone for another that has just read it, and what takes its name is what is read then.
pub fn a_deleted_object_is_gone_for_every_user(fixture: &BackendFixture) {
    let other = fixture.reopened();
    fixture.backend.put("packs/a", b"one").expect(WORKS);
    assert_eq!(other.get_range("packs/a", 0..3).expect(WORKS), b"one");
    fixture.backend.delete("packs/a").expect(WORKS);
    for answer in [other.get_range("packs/a", 0..3), other.get("packs/a")] {
        assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
    }
    fixture.backend.put("packs/a", b"another").expect(WORKS);
    assert_eq!(other.get_range("packs/a", 0..7).expect(WORKS), b"another");
}

/// A cell that was never written is `None`.
pub fn a_cell_is_empty_until_it_is_written(fixture: &BackendFixture) {
    assert_eq!(fixture.backend.load(CELL, 0).expect(WORKS), None);
    assert_eq!(fixture.backend.load(CELL, 5).expect(WORKS), None);
    assert!(
        !fixture.backend.append(CELL, &CellState::of(b""), b"x").expect(WORKS),
        "there is nothing to add to"
    );
    assert!(fixture.backend.swap(CELL, None, b"one").expect(WORKS));
    assert_eq!(cell(&fixture.backend).bytes, b"one");
    assert_eq!(cell(&fixture.backend).state, CellState::of(b"one"));
}

/// `swap` compares before it writes: length and end.
pub fn a_cell_is_written_only_over_what_was_expected(fixture: &BackendFixture) {
    let swap = |expected: Option<&[u8]>, new: &[u8]| {
        let expected = expected.map(CellState::of);
        fixture.backend.swap(CELL, expected.as_ref(), new).expect(WORKS)
    };
    assert!(!swap(Some(b""), b"one"), "an unwritten cell does not hold anything");
    assert!(!swap(Some(b"zero"), b"one"), "an unwritten cell does not hold anything");
    assert!(swap(None, b"one"));
    assert!(!swap(None, b"two"), "a written cell is not empty");
    assert!(!swap(Some(b"eno"), b"two"), "as long, but another");
    assert!(!swap(Some(b"some one"), b"two"));
    assert!(!swap(Some(b"e"), b"two"));
    assert_eq!(cell(&fixture.backend).bytes, b"one");
    let cut = CellState::of(b"one").cut(2, b"on");
    assert!(
        fixture.backend.swap(CELL, Some(&cut), b"two").expect(WORKS),
        "a torn end is part of what was seen"
    );
    assert_eq!(cell(&fixture.backend).bytes, b"two");
    assert!(swap(Some(b"two"), b""), "a cell may be written empty");
    assert!(!swap(None, b"three"), "an empty content is not an unwritten cell");
    assert!(swap(Some(b""), b"three"));
}

/// `append` compares before it writes: length and end; and keeps what is there.
pub fn a_cell_grows_only_over_what_was_expected(fixture: &BackendFixture) {
    let start = "a head that is longer than what is compared, ";
    assert!(fixture.backend.swap(CELL, None, start.as_bytes()).expect(WORKS));
    let append = |expected: &str, bytes: &str| {
        let expected = CellState::of(expected.as_bytes());
        fixture.backend.append(CELL, &expected, bytes.as_bytes()).expect(WORKS)
    };
    let mut whole = start.to_owned();
    for piece in ["one", " and two", "", " and three"] {
        assert!(append(&whole, piece), "{piece:?}");
        whole.push_str(piece);
        assert_eq!(cell(&fixture.backend).bytes, whole.as_bytes());
        assert_eq!(cell(&fixture.backend).state, CellState::of(whole.as_bytes()));
    }
    let as_long = format!("{}X", &whole[..whole.len() - 1]);
    for other in [start, "", &as_long, &format!("{whole}!")] {
        assert!(!append(other, "no"), "the cell is not {other:?}");
    }
    assert_eq!(cell(&fixture.backend).bytes, whole.as_bytes(), "what was refused must change nothing");
}

/// What stands behind the valid part goes when something is added, however short that is.
pub fn an_append_replaces_a_torn_end(fixture: &BackendFixture) {
    let (whole, torn) = ("a record that is whole, and long enough;", "half of a reco");
    let seen = format!("{whole}{torn}");
    for added in ["x", "something longer than what was torn"] {
        let state = fixture.backend.load(CELL, 0).expect(WORKS).map(|cell| cell.state);
        assert!(fixture.backend.swap(CELL, state.as_ref(), seen.as_bytes()).expect(WORKS));
        let cut = CellState::of(seen.as_bytes()).cut(whole.len() as u64, whole.as_bytes());
        let moved =
            CellState::of(seen.as_bytes()).cut(whole.len() as u64 - 1, &whole.as_bytes()[..whole.len() - 1]);
        let other = CellState { tail: moved.tail, ..cut.clone() };
        assert!(!fixture.backend.append(CELL, &other, b"no").expect(WORKS), "its valid part ends otherwise");
        let whole_cell = CellState::of(whole.as_bytes());
        assert!(!fixture.backend.append(CELL, &whole_cell, b"no").expect(WORKS), "it is longer than that");
        assert!(fixture.backend.append(CELL, &cut, added.as_bytes()).expect(WORKS));
        assert_eq!(cell(&fixture.backend).bytes, format!("{whole}{added}").as_bytes());
        assert!(!fixture.backend.append(CELL, &cut, b"no").expect(WORKS), "it is no longer what was seen");
    }
}

/// `load` answers the bytes from an offset, and the state of the whole cell.
pub fn a_cell_is_read_from_where_it_was_asked_for(fixture: &BackendFixture) {
    let whole: Vec<u8> = (0..100).collect();
    assert!(fixture.backend.swap(CELL, None, &whole).expect(WORKS));
    for from in [0, 1, 50, 80, 99, 100, 101, u64::MAX] {
        let found = fixture.backend.load(CELL, from).expect(WORKS).expect("the cell was written");
        let start = usize::try_from(from).map_or(whole.len(), |from| from.min(whole.len()));
        assert_eq!(found.bytes, whole[start..], "from {from}");
        assert_eq!(found.state, CellState::of(&whole), "from {from}");
        assert_eq!(found.problem, None, "from {from}");
    }
}

/// `acknowledged_len` is unknown, or at least what was acknowledged; and nothing of it is missing.
pub fn what_was_acknowledged_is_not_forgotten(fixture: &BackendFixture) {
    let check = |expected: &[u8]| {
        for backend in [&fixture.backend, &fixture.reopened()] {
            let found = cell(backend);
            assert_eq!(found.bytes, expected);
            let len = expected.len() as u64;
            assert!(found.acknowledged_len.is_none_or(|known| known == len), "{len}: {found:?}");
            assert_eq!(found.problem, None);
        }
    };
    assert!(fixture.backend.swap(CELL, None, b"").expect(WORKS));
    let mut whole = Vec::new();
    for number in 0..40_u8 {
        assert!(fixture.backend.append(CELL, &CellState::of(&whole), &[number; 7]).expect(WORKS));
        whole.extend_from_slice(&[number; 7]);
        check(&whole);
    }
    for new in [b"short".as_slice(), &[7; 500], b""] {
        assert!(fixture.backend.swap(CELL, Some(&cell(&fixture.backend).state), new).expect(WORKS));
        check(new);
    }
}

/// Cells do not show among objects, and do not share names with them.
pub fn cells_are_not_objects(fixture: &BackendFixture) {
    assert!(fixture.backend.swap("same", None, b"cell").expect(WORKS));
    fixture.backend.put("same", b"object").expect(WORKS);
    assert_eq!(fixture.backend.get("same").expect(WORKS), b"object");
    let found = fixture.backend.load("same", 0).expect(WORKS).expect("the cell was written");
    assert_eq!(found.bytes, b"cell");
    assert_eq!(fixture.backend.list("").expect(WORKS).len(), 1);
}

/// Of several swaps with the same expectation one succeeds.
pub fn of_concurrent_swaps_exactly_one_wins(fixture: &BackendFixture) {
    for round in 0..10 {
        let before = fixture.backend.load(CELL, 0).expect(WORKS).map(|cell| cell.state);
        let wins = AtomicU32::new(0);
        thread::scope(|scope| {
            for contender in 0..4 {
                let (backend, before, wins) = (&fixture.backend, before.as_ref(), &wins);
                scope.spawn(move || {
                    let new = format!("{round} {contender}");
                    if backend.swap(CELL, before, new.as_bytes()).expect(WORKS) {
                        wins.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(wins.load(Ordering::Relaxed), 1, "round {round}");
    }
}

/// Of several appends with the same expectation one succeeds, and nothing of the others is left.
pub fn of_concurrent_appends_exactly_one_wins(fixture: &BackendFixture) {
    assert!(fixture.backend.swap(CELL, None, b"start").expect(WORKS));
    let backends = [Arc::clone(&fixture.backend), fixture.reopened()];
    let mut expected = b"start".to_vec();
    for round in 0..10 {
        let before = cell(&fixture.backend).state;
        let winners = thread::scope(|scope| {
            let contenders: Vec<_> = (0..4)
                .map(|contender| {
                    let (backend, before) = (&backends[contender % 2], &before);
                    scope.spawn(move || {
                        let bytes = format!(" {round} {}", "x".repeat(contender));
                        backend.append(CELL, before, bytes.as_bytes()).expect(WORKS).then_some(bytes)
                    })
                })
                .collect();
            let ended = contenders.into_iter().map(|thread| thread.join().expect("no thread panics"));
            ended.flatten().collect::<Vec<String>>()
        });
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        expected.extend_from_slice(winners[0].as_bytes());
        assert_eq!(cell(&fixture.backend).bytes, expected, "round {round}");
    }
}

/// What returned is there for whoever opens the same bytes next.
pub fn everything_is_seen_by_another_user(fixture: &BackendFixture) {
    fixture.backend.put("packs/a", b"one").expect(WORKS);
    assert!(fixture.backend.swap(CELL, None, b"content").expect(WORKS));
    let other = fixture.reopened();
    assert_eq!(other.get("packs/a").expect(WORKS), b"one");
    assert_eq!(cell(&other).bytes, b"content");
    assert!(other.append(CELL, &CellState::of(b"content"), b", more").expect(WORKS));
    assert_eq!(cell(&fixture.backend).bytes, b"content, more");
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
