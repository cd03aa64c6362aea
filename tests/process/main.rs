//! Real processes with real files: one node as an operator meets it, kills, clusters under load, crowds of bad clients.

mod crash;
mod faults;
mod hostile;
mod node;
