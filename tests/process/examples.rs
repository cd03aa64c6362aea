//! The examples that run as plain processes: their `check`, at a small size.

#![allow(clippy::disallowed_methods, reason = "lays the binary where a build has it")]

use crate::faults::starved::skipped;
use std::{
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;
use testkit::process::memdb_binary;

/// Returns whether a program can be started.
fn is_here(program: &str) -> bool {
    let places = [program.to_owned(), format!("/usr/sbin/{program}")];
    places.iter().any(|place| Command::new(place).arg("--version").output().is_ok())
}

/// Says aloud which of the programs that an example needs is missing, if one is.
fn lacks(example: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !is_here(program));
    if let Some(program) = missing {
        skipped(&format!("examples/{example}: {program} is not here"));
    }
    missing.is_some()
}

/// Runs a program of `examples/` with the binary of this test.
fn run(program: &str, environment: &[(&str, &str)]) -> Output {
    let target = TempDir::new().expect("a directory");
    std::fs::create_dir(target.path().join("release")).expect("made");
    symlink(memdb_binary(), target.path().join("release/memdb")).expect("linked");
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(program))
        .env("CARGO_TARGET_DIR", target.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(environment.iter().copied())
        .output()
        .expect("it can be started")
}

#[track_caller]
fn assert_good(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn heavy_read_works_as_its_page_says() {
    if lacks("heavy-read", &["python3", "curl", "haproxy"]) {
        return;
    }
    assert_good(&run("heavy-read/check", &[]));
}

#[test]
fn heavy_read_is_measured_and_reported_at_a_small_size() {
    if lacks("heavy-read/run_benchmark.sh", &["python3", "curl", "haproxy"]) {
        return;
    }
    let report = TempDir::new().expect("a directory");
    let directory = report.path().to_str().expect("UTF-8");
    let small = [
        ("REPORT_DIR", directory),
        ("READERS", "2"),
        ("POSTS", "400"),
        ("CREATES", "200"),
        ("PROBES", "20"),
        ("SECONDS_EACH", "1"),
        ("ROUNDS", "1"),
        ("CONNECTIONS", "8"),
    ];
    assert_good(&run("heavy-read/run_benchmark.sh", &small));
    for file in ["report.md", "throughput.svg", "propagation.svg", "memory.svg", "bandwidth.svg"] {
        assert!(report.path().join(file).exists(), "{file}");
    }
}

#[test]
fn cache_works_as_its_page_says() {
    if lacks("cache", &["python3", "curl"]) {
        return;
    }
    assert_good(&run("cache/check", &[("WRITES", "20")]));
}

#[test]
fn back_pressure_works_as_its_page_says_and_counts_what_waits_when_its_leader_dies() {
    if lacks("back-pressure", &["python3", "curl", "haproxy"]) {
        return;
    }
    assert_good(&run("back-pressure/check", &[("QUEUED", "300")]));
}

#[test]
fn back_pressure_for_kubernetes_agrees_with_itself_and_with_the_settings() {
    if lacks("back-pressure/k8s", &["python3", "kubectl"]) || !has_yaml() {
        return;
    }
    assert_good(&run("back-pressure/k8s/validate", &[]));
}

/// Says aloud that Python cannot read YAML, if it cannot.
fn has_yaml() -> bool {
    let found = Command::new("python3").args(["-c", "import yaml"]).output().is_ok_and(|tried| tried.status.success());
    if !found {
        skipped("examples/back-pressure/k8s: Python's yaml is not here");
    }
    found
}

#[test]
fn read_through_works_as_its_page_says() {
    if lacks("read-through", &["python3", "curl", "nginx"]) {
        return;
    }
    assert_good(&run("read-through/check", &[("ROUNDS", "3"), ("READS", "640")]));
}
