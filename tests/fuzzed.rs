//! Mutated stores, sealed again so that every digest fits: nothing panics, hangs or leaves its target.
//!
//! `cargo xtask fuzz --seconds N` tries new seeds for as long as is wanted; a seed that ever failed is added here.

use evoseal_tests::fuzzing::FuzzedStores;

/// Seeds that once failed, in an engine of that day or with a fault planted.
const CORPUS: [u64; 0] = [];

/// New seeds that are tried as well.
const SEEDS: std::ops::Range<u64> = 0..150;

#[test]
fn stores_that_a_hostile_hand_wrote_are_used_without_a_panic_and_without_leaving_the_target() {
    let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let stores = FuzzedStores::new(place.path()).unwrap();
    for count in stores.seal_counts() {
        assert!(count >= 12, "only {count} digests of a store were found: it cannot be sealed again");
    }
    for seed in CORPUS.into_iter().chain(SEEDS) {
        stores.try_seed(seed, &place.path().join("mutated")).unwrap();
    }
}
