//! Tests that measure their own process.

use std::process::Command;

const VARIABLE: &str = "MEMDB_TEST_ALONE";

/// Runs `test` in a process of its own, with its whole path as the list of tests shows it; true inside of that process.
///
/// Memory and descriptors of a process belong to all tests that run in it, as they do under `cargo test`. A test that
/// counts them begins with `if !is_alone("module::test") { return; }`.
///
/// # Panics
///
/// If the test fails there, or is not found.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os(VARIABLE).is_some() {
        return true;
    }
    let binary = std::env::current_exe().expect("a test is a file");
    let output = Command::new(binary).args([test, "--exact", "--nocapture"]).env(VARIABLE, "1").output();
    let output = output.expect("it can be started again");
    let said = String::from_utf8_lossy(&output.stdout);
    let is_run = said.contains("1 passed");
    assert!(output.status.success() && is_run, "{test}, alone: {said}{}", String::from_utf8_lossy(&output.stderr));
    false
}
