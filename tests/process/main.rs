//! Real processes with real files: one node as an operator meets it, kills, clusters under load, crowds of bad
//! clients, the examples, upgrades.

mod crash;
mod examples;
mod faults;
mod guarded;
mod hostile;
mod node;
mod tls;
#[cfg(feature = "opentelemetry")]
mod traces;
mod upgrade;
