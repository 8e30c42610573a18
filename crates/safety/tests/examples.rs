//! The examples do what they show.
#![allow(clippy::unwrap_used, unreachable_pub, dead_code, reason = "tests")]

#[path = "../examples/manual_safety_operations.rs"]
mod manual_safety_operations;
#[path = "../examples/monitoring.rs"]
mod monitoring;

#[test]
fn manual_operations_accept_and_roll_back() {
    manual_safety_operations::main().unwrap();
}

#[test]
fn monitoring_shows_the_status_and_cleans_up() {
    monitoring::main().unwrap();
}
