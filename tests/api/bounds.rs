//! What bad requests and idle connections cost: in a process of its own, so that its memory and descriptors are theirs.

#![allow(clippy::disallowed_methods, reason = "reads /proc")]

use crate::{
    cases,
    node::{Node, settings},
};
use testkit::{is_alone, wait_until, wire::Wire};

const ROUNDS: usize = 10;
const IDLE: usize = 300;
/// What an idle connection may cost on both of its ends, which live in this process.
const BYTES_PER_IDLE: usize = 64 << 10;
const BYTES_FOR_NOISE: usize = 16 << 20;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4_096
}

fn run_cases(node: &Node) {
    for case in cases::cases() {
        let mut wire = Wire::to(node.address());
        assert_eq!(wire.send(&case.bytes).answer().status, case.status, "{}", case.name);
    }
}

#[test]
fn bad_requests_and_idle_connections_leave_memory_and_descriptors_bounded() {
    if !is_alone("bounds::bad_requests_and_idle_connections_leave_memory_and_descriptors_bounded") {
        return;
    }
    let node = Node::start(settings());
    run_cases(&node); // whatever is made once is made now
    let settled = |expected: usize| {
        wait_until(&format!("{expected} descriptors are left"), || descriptors() <= expected);
    };
    let before = resident_bytes();
    let mut idle: Vec<Wire> = (0..IDLE).map(|_| Wire::to(node.address())).collect();
    for wire in &mut idle {
        assert_eq!(wire.get("/health").status, 200);
    }
    let cost = resident_bytes().saturating_sub(before);
    assert!(cost < IDLE * BYTES_PER_IDLE, "{IDLE} idle connections cost {cost} bytes");
    let (begin_bytes, begin_descriptors) = (resident_bytes(), descriptors());
    for _ in 0..ROUNDS {
        run_cases(&node);
    }
    let grown = resident_bytes().saturating_sub(begin_bytes);
    assert!(grown < BYTES_FOR_NOISE, "{ROUNDS} rounds of bad requests left {grown} bytes");
    settled(begin_descriptors);
    drop(idle);
    settled(begin_descriptors - 2 * IDLE);
    let mut wire = Wire::to(node.address());
    assert_eq!(wire.post("counted").status, 202);
    assert_eq!(wire.get("/wordcount?word=counted").text(), r#"{"counted":1}"#);
}
