//! The program can be started. All else about it is tested in the package `evoseal-tests`; cargo builds the program for tests of
//! its own package only, and so this file is what makes `cargo test --workspace` build it at all.

use std::process::Command;

#[test]
fn the_program_says_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_evoseal")).arg("--version").output();
    let output = output.expect("cargo has built the program");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("evoseal {}\n", env!("CARGO_PKG_VERSION")));
}
