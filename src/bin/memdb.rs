//! The memdb command.
fn main() {}
