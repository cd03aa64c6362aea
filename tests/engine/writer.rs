//! The Writer from outside: what is admitted, what it answers and when, and what is there after a restart.

mod acks;
mod admission;
mod counter_history;
mod counters;
mod entries;
mod files;
mod history;
mod keys;
pub mod node;
mod posts;
mod quotas;
mod replicas;
