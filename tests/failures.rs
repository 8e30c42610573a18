//! Everything that goes wrong around a run, through the program: nothing is accepted that should not be, nothing is lost, and
//! the message says which.
//!
//! # Where the faults of the first implementation are tested
//!
//! What its description promised and it did not keep, and what its users ran into, as far as decisions, rollback and recovery
//! are concerned. Tests without a crate are here, by module.
//!
//! | fault | test |
//! | --- | --- |
//! | checkpoints came after the iteration, and held only what was named as changed | `bounds::the_version_in_the_workspace_is_captured_whole_before_anything_is_proposed` |
//! | `enable_checkpoints` and `enable_auto_rollback` were ignored | `switches::every_combination_does_what_it_says`, `switches::text_and_report_page_say_what_was_not_protected` |
//! | regression analysis compared nothing, since ids did not match | `candidates::a_metric_that_is_worse_is_a_regression_with_its_numbers` |
//! | a regression rolled back only if a test failed as well | `candidates::a_metric_that_is_worse_is_a_regression_with_its_numbers` |
//! | thresholds flagged gains | `candidates::an_improvement_of_any_size_is_no_regression` |
//! | changes beyond 100 % were divided by 100 | `candidates::eleven_times_as_slow_is_not_taken_for_a_tenth` |
//! | an error of the detector passed for "no regression" | `parts::a_detector_that_fails_denies_and_says_so` |
//! | missing and non-finite metrics passed | `candidates::a_metric_that_is_missing_is_never_no_regression`, `candidates::a_metric_that_is_not_a_number_is_never_no_regression` |
//! | failed iterations, no tests and crashed tests were accepted | `candidates::an_agent_that_fails_or_does_nothing_is_a_failed_iteration`, `candidates::zero_tests_are_no_reason_to_accept`, `candidates::a_test_command_that_crashes_rolls_back` |
//! | tests that were removed were not missed | `candidates::tests_that_no_longer_run_are_missed_by_name` |
//! | the code that judges could be edited | `candidates::protected_files_may_not_be_changed_removed_added_or_replaced`, `candidates::tampering_while_the_tests_run_is_seen_as_well`, `crashes::a_candidate_that_changed_the_tests_is_seen_after_a_crash_as_well` |
//! | a failing stage was retried without bound | `bounds::a_stage_that_fails_every_time_is_tried_once_in_each_iteration_and_ends_the_run_at_the_limit` |
//! | rollbacks and errors did not count as rejections | `bounds::fifteen_rollbacks_in_a_row_end_at_the_limit_and_each_is_counted_once` |
//! | automatic rollbacks were counted twice | `bounds::fifteen_rollbacks_in_a_row_end_at_the_limit_and_each_is_counted_once`; rollback: `each_call_is_counted_once_and_by_who_made_it` |
//! | clean-up deleted the accepted version | `people::the_accepted_version_and_pinned_ones_cannot_be_deleted`, `people::pruning_says_why_each_checkpoint_stays_or_goes_and_keeps_what_a_rollback_needs` |
//! | a restore wiped the target and brought back a part | `candidates::a_workspace_that_was_emptied_comes_back_whole`, `candidates::kinds_and_modes_come_back_too`; rollback: `the_workspace_itself_becomes_the_whole_checkpoint_and_nothing_else` |
//! | a restore that failed left the target empty | checkpoint: `an_in_place_restore_of_a_damaged_checkpoint_changes_nothing`; rollback: `when_every_target_fails_the_workspace_is_as_it_was_and_the_error_lists_them` |
//! | a symlink to a folder made a restore fail half-way | rollback: `a_directory_link_in_the_workspace_does_not_stop_a_rollback` |
//! | rollbacks went to a folder beside the code | rollback: `the_workspace_itself_becomes_the_whole_checkpoint_and_nothing_else` |
//! | a rollback to another version reported success | components: `a_damaged_target_is_named_and_an_older_good_version_is_restored`; rollback: `a_damaged_target_falls_back_and_says_so_everywhere` |
//! | recovery recursed without bound, and never ended where parents form a circle | rollback: `twelve_damaged_versions_and_parents_in_a_circle_cost_no_more_than_the_bound` |
//! | `rollback_timeout` and `max_rollback_attempts` were never read | rollback: `when_time_is_up_no_further_target_is_tried`, `without_recovery_only_the_requested_version_is_tried` |
//! | "known good" was what had been rolled back to most | rollback: `known_good_is_what_was_accepted_not_what_was_rolled_back_to_most` |
//! | system folders were accepted as targets | rollback: `directories_of_the_system_and_of_people_are_refused_by_their_place` |
//! | a crash left folders that passed for checkpoints | `crashes::a_run_that_is_killed_while_a_candidate_is_measured_evaluates_it_again`; rollback: `only_whole_checkpoints_are_offered_as_targets` |
//! | history was rewritten in place, lost by a kill, read as empty when damaged | `starts::a_damaged_journal_is_named_with_its_line`, `starts::a_journal_whose_last_line_was_torn_goes_on`; rollback: `managers_that_roll_back_at_once_keep_every_record` |
//! | two runs shared one folder | `ownership::a_second_run_at_the_same_time_is_told_who_works_there` |
//! | uncommitted work was overwritten | `people::work_that_was_not_saved_survives_a_rollback`, `crashes::what_a_killed_run_left_in_the_workspace_can_be_brought_back` |
//! | unknown keys were never reported | `starts::a_misspelt_key_is_shown_with_its_line_and_the_nearest_known_one` |

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

mod failures {
    mod bounds;
    mod candidates;
    mod crashes;
    mod decisions;
    mod exchange;
    mod ownership;
    mod parts;
    mod people;
    mod rollbacks;
    mod signals;
    mod starts;
    mod switches;
    mod unfinished;
}

use evoseal_tests::Project;
use serde_json::Value;

/// Runs one iteration with this agent and gives its result, after checking that the version to start from is back in the
/// workspace, as it was.
fn refused(project: &Project) -> Value {
    let before = project.files();
    let report = project.evoseal(&["run", "-n", "1", "--json"]).run().expect(1).json();
    assert_eq!(project.files(), before, "the workspace must be as it was");
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 1, "{report}");
    assert_eq!(results[0]["version_accepted"], false, "{report}");
    assert_eq!(report["final_version"]["version_id"], "v0", "{report}");
    results[0].clone()
}

/// Every reason of a result in one text.
fn reasons(result: &Value) -> String {
    let reasons = result["safety_result"]["decision"]["reasons"].as_array().unwrap();
    reasons.iter().map(|reason| reason["message"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Checks that the candidate of this agent is refused, with this outcome and for this reason.
fn refuses(project: &Project, outcome: &str, reason: &str) {
    let result = refused(project);
    let reasons = reasons(&result);
    assert_eq!(result["outcome"], outcome, "{reasons}");
    assert!(reasons.contains(reason), "no {reason:?} in:\n{reasons}");
}

/// The table at the top of this file names no test that does not exist.
#[test]
fn every_test_that_the_table_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = String::new();
    let mut folders = vec![root.join("tests"), root.join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let rows = include_str!("failures.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let cells = rows.filter_map(|row| row.rsplit(" | ").next());
    let names: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let function = name.rsplit("::").next().unwrap();
        assert!(sources.contains(&format!("fn {function}(")), "no test {name}");
    }
}
