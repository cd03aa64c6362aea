//! memdb: an in-memory word-count database.
//!
//! Text is posted to a leader, which counts its words, keeps them in a log and in snapshots, and answers exact counts.
//! Replicas take its records over the network, local replicas read its files; both answer the same reads.
//!
//! # The ladder
//!
//! A module imports only what stands above it in this list; `tests/docs/layering.rs` holds it.
//!
//! | level | modules | what they are |
//! |---|---|---|
//! | 0 | `atomics` [`limits`] [`failpoint`] [`clock`] [`position`] [`hash`] [`tally`] [`charset`] [`tokenizer`] [`record`] [`metrics`] [`secret`] [`origin`] [`address`] | what threads share memory by; bounds, clocks and plain values; text to words; switches for tests |
//! | 1 | [`words`] [`store`] | the counts in memory; a record changes them by [`store::Store::apply`] alone |
//! | 2 | [`disk`] [`mod@format`] [`manifest`] [`log`] [`snapshot`] [`recovery`] [`inspect`] [`repair`] | the files, and the way back from them |
//! | 3 | [`view`] [`replication`] | what reads are answered from; messages between nodes, and a leader's side of each replica |
//! | 4 | [`leader`] [`replica`] [`local_replica`] | the write path and its one Writer; the two kinds of follower: state machines |
//! | 5 | [`client`] [`api`] | HTTP, from both ends |
//! | 6 | [`config`] [`node`] | settings; threads, clocks, signals |
//!
//! Levels 0 to 2 hold no async code. The cores of levels 3 and 4 are state machines that are handed the time: the
//! simulation (`tests/simulation`) runs the same code with made-up time on a faulty disk. Threads, randomness and
//! signals are in `node`.
//!
//! # One write
//!
//! `api/http/writes.rs` bounds the body, takes text and key, and has `tokenizer` and `tally` make a
//! [`tally::Batch`] on its own core. [`leader::Leader::submit`] puts it into the bounded queue (`leader/queue.rs`).
//! The writer thread (`node/writing.rs`) gives what waits to [`leader::Writer::write`]: each batch is admitted into a
//! group on its own (`leader/group.rs`), the group becomes one record, and `log_and_apply` appends it
//! ([`log::Log::append`]), applies it ([`store::Store::apply`]) and publishes it, into the [`replication::Feed`] too.
//!
//! There each replica's task (`node/replicating.rs`) finds it: [`replication::Sender`] makes an offer of all that has
//! gathered, and `replication/link.rs` sends it. The thread that has received it, or the replica's
//! (`node/applying.rs`), gives it to [`replica::Replica::offered`], which appends the same bytes, applies them by the
//! same `Store::apply`, publishes, and answers where it stands. Back on the leader, [`leader::Writer::told`] releases
//! the waiters whose level is reached (`leader/waiting.rs`).
//!
//! # One read
//!
//! `api/http/lane.rs` finds plain reads, `/health` and small posts in the bytes of its connection; any other request
//! goes to hyper and the routes, and the connection with it. `api/http/reads.rs` takes a guard
//! ([`store::Reader::read`]), which marks its thread as inside and fixes one of two sides (`store/gate.rs`); looks each
//! word up in the side's namespace ([`words`]); drops the guard and answers. It takes no lock and never waits: the
//! Writer changes the other side, flips, and waits for readers that are still inside.

pub mod address;
pub mod api;
mod atomics;
pub mod charset;
pub mod client;
pub mod clock;
pub mod config;
pub mod disk;
pub mod failpoint;
pub mod format;
pub mod hash;
pub mod inspect;
pub mod leader;
pub mod limits;
pub mod local_replica;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod node;
pub mod origin;
pub mod position;
pub mod record;
pub mod recovery;
pub mod repair;
pub mod replica;
pub mod replication;
pub mod secret;
pub mod snapshot;
pub mod store;
pub mod tally;
pub mod tokenizer;
pub mod view;
pub mod words;
