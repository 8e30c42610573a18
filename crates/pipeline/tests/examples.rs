//! The examples do what they show.
#![allow(clippy::unwrap_used, unreachable_pub, dead_code, reason = "tests")]

#[path = "../examples/basic_cycle.rs"]
mod basic_cycle;
#[path = "../examples/custom_component.rs"]
mod custom_component;

#[test]
fn a_basic_cycle_keeps_what_is_better_and_rolls_back_the_rest() {
    basic_cycle::main().unwrap();
}

#[test]
fn custom_components_work_in_the_loop() {
    custom_component::main().unwrap();
}
