//! Test suites for whoever implements a trait of this crate.
//!
//! Each case is a plain function that panics when the contract is broken, so that it can be run against a deliberately
//! wrong implementation too. The macros make one test of each case; a case that is added later reaches every
//! implementer.
//!
//! ```
//! use evoseal_checkpoint::conformance::BackendFixture;
//! use evoseal_checkpoint::MemoryBackend;
//! use std::sync::Arc;
//!
//! fn memory() -> BackendFixture {
//!     let backend = MemoryBackend::new();
//!     BackendFixture::new(Arc::new(backend.clone()), move || Arc::new(backend.clone()), ())
//! }
//! evoseal_checkpoint::object_backend_conformance!(memory);
//! # fn main() {}
//! ```

pub mod backend;
pub mod store;
mod workspace;

use std::fmt;
use std::sync::Arc;

use crate::{CheckpointStore, ObjectBackend};

/// A fresh, empty backend for one case.
pub struct BackendFixture {
    /// The backend.
    pub backend: Arc<dyn ObjectBackend>,
    reopen: Box<dyn Fn() -> Arc<dyn ObjectBackend>>,
    _guard: Box<dyn std::any::Any>,
}

impl BackendFixture {
    /// A backend, how to open the same bytes once more as another user of them would, and what cleans up when dropped.
    pub fn new(
        backend: Arc<dyn ObjectBackend>,
        reopen: impl Fn() -> Arc<dyn ObjectBackend> + 'static,
        guard: impl std::any::Any,
    ) -> Self {
        Self { backend, reopen: Box::new(reopen), _guard: Box::new(guard) }
    }

    /// The same bytes, opened once more.
    pub fn reopened(&self) -> Arc<dyn ObjectBackend> {
        (self.reopen)()
    }
}

impl fmt::Debug for BackendFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendFixture").field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// A fresh, empty store for one case.
pub struct StoreFixture {
    /// The store.
    pub store: Arc<dyn CheckpointStore>,
    reopen: Box<dyn Fn() -> Arc<dyn CheckpointStore>>,
    _guard: Box<dyn std::any::Any>,
}

impl StoreFixture {
    /// A store, how to open the same checkpoints once more, and what cleans up when dropped.
    pub fn new(
        store: Arc<dyn CheckpointStore>,
        reopen: impl Fn() -> Arc<dyn CheckpointStore> + 'static,
        guard: impl std::any::Any,
    ) -> Self {
        Self { store, reopen: Box::new(reopen), _guard: Box::new(guard) }
    }

    /// The same checkpoints, opened once more.
    pub fn reopened(&self) -> Arc<dyn CheckpointStore> {
        (self.reopen)()
    }
}

impl fmt::Debug for StoreFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreFixture").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Tests of an [`ObjectBackend`]: `object_backend_conformance!(fixture)`, where `fixture` is a function that returns a
/// [`BackendFixture`]. Makes one test of each case.
#[macro_export]
macro_rules! object_backend_conformance {
    ($fixture:path) => {
        $crate::object_backend_conformance! { @cases $fixture;
            what_was_put_is_read_back
            an_object_may_be_empty_or_large
            a_large_object_is_written_piece_by_piece
            an_object_appears_when_its_writer_finishes
            a_dropped_writer_leaves_nothing
            a_part_of_an_object_is_read
            a_range_beyond_the_end_is_damage
            putting_the_same_bytes_again_is_fine
            an_object_is_never_overwritten
            a_missing_object_is_not_found
            names_that_could_escape_are_refused
            a_listing_is_complete_sorted_and_by_prefix
            a_listing_sees_every_write_that_returned
            a_deleted_object_is_gone_and_may_be_deleted_again
            a_deleted_object_is_gone_for_every_user
            a_cell_is_empty_until_it_is_written
            a_cell_is_written_only_over_what_was_expected
            a_cell_grows_only_over_what_was_expected
            an_append_replaces_a_torn_end
            a_cell_is_read_from_where_it_was_asked_for
            what_was_acknowledged_is_not_forgotten
            cells_are_not_objects
            of_concurrent_swaps_exactly_one_wins
            of_concurrent_appends_exactly_one_wins
            everything_is_seen_by_another_user
            writers_share_the_lock
            whoever_holds_the_lock_alone_keeps_others_out
        }
    };
    (@cases $fixture:path; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::backend::$case(&$fixture());
            }
        )*

        #[test]
        fn every_case_of_the_suite_is_run() {
            assert_eq!([$(stringify!($case)),*].len(), $crate::conformance::backend::CASES.len());
        }
    };
}

/// Tests of a [`CheckpointStore`]: `checkpoint_store_conformance!(fixture)`, where `fixture` is a function that returns
/// a [`StoreFixture`]. Makes one test of each case.
#[macro_export]
macro_rules! checkpoint_store_conformance {
    ($fixture:path) => {
        $crate::checkpoint_store_conformance! { @cases $fixture;
            a_durable_checkpoint_is_listed_and_survives_reopening
            details_are_kept_word_for_word
            equal_trees_have_equal_digests_and_others_do_not
            entries_are_sorted_and_complete
            a_file_is_read_back_byte_for_byte
            unknown_ids_are_not_found
            listings_are_in_order_of_creation
            restoring_into_an_empty_directory_gives_the_tree_back
            restoring_into_a_directory_with_something_in_it_is_refused
            an_in_place_restore_touches_only_what_differs
            ignored_entries_and_git_folders_survive_a_restore
            a_plan_changes_nothing_and_says_what_a_restore_does
            a_symlink_in_the_target_is_never_followed
            the_digest_of_a_workspace_is_that_of_its_checkpoint
            a_deleted_checkpoint_is_gone_and_the_others_are_whole
            one_wrong_id_refuses_a_whole_deletion
            a_pinned_checkpoint_cannot_be_deleted
            an_undamaged_store_verifies
            statistics_count_what_is_there
            a_source_that_is_missing_leaves_no_trace
            checkpoints_made_at_the_same_time_are_all_kept
        }
    };
    (@cases $fixture:path; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::store::$case(&$fixture());
            }
        )*

        #[test]
        fn every_case_of_the_suite_is_run() {
            assert_eq!([$(stringify!($case)),*].len(), $crate::conformance::store::CASES.len());
        }
    };
}
