//! memdb: an in-memory word-count database.
//!
//! Text is posted to a leader, which counts its words, keeps them in a log and in snapshots, and answers exact counts.
//! Replicas take its records over the network, local replicas read its files; both answer the same reads.
//!
//! # The rooms
//!
//! A room imports only rooms that stand above it in this table; `scripts/layers` holds it.
//!
//! | room | what it holds |
//! |---|---|
//! | [`base`] | bounds, clocks, positions, hashes, metrics |
//! | [`text`] | encodings; text to words |
//! | [`data`] | records, the store that applies them, a folder for each kind of data |
//! | [`storage`] | the files: log, snapshots, MANIFEST, and the way back from them |
//! | [`replication`] | messages between nodes, the leader's side of each replica, promotion, tail recovery |
//! | [`engine`] | the shard, one database with its role: leader, replica, file follower |
//! | [`net`] | sockets: the listener, what each client address may hold, HTTP clients, links to other nodes |
//! | [`client`] [`api`] | HTTP, from both ends |
//! | [`config`] [`node`] | settings; threads, clocks, signals |
//!
//! `base` to `storage` hold no async code. The cores of `replication` and `engine` are state machines that are handed
//! the time: the simulation (`tests/simulation`) runs the same code with made-up time on a faulty disk. Threads,
//! randomness and signals are in `node`.
//!
//! ARCHITECTURE.md follows one write and one read through these files.

// A function fits a page (clippy.toml); tests may list their cases at length.
#![warn(clippy::too_many_lines)]

pub mod api;
pub mod base;
pub mod client;
pub mod config;
pub mod data;
pub mod engine;
pub mod net;
pub mod node;
pub mod replication;
pub mod storage;
pub mod text;
