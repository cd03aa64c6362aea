//! The faults of the earlier system, each with a test of its name that shows it gone: real processes, real files.
//!
//! | fault | test | also |
//! |---|---|---|
//! | updates lost for good under load | [`under_load::updates_are_not_lost_under_load_for_want_of_descriptors`] | `make flood` |
//! | a missed update never repaired | [`repair::a_missed_update_is_repaired`] | `tests/simulation` |
//! | a start while posts arrive loses or doubles | [`repair::a_replica_that_starts_while_posts_arrive_loses_and_doubles_nothing`] | `make replica-starts` |
//! | kill -9 loses what was acknowledged | [`crashes::kill_9_of_the_leader_loses_nothing_acknowledged`] | `make crash`, `make crash-cluster` |
//! | SIGTERM loses the same | [`crashes::sigterm_loses_nothing`] | `tests/process/crash.rs` |
//! | a crash while the backup is written empties it | [`crashes::a_crash_while_the_backup_is_written_leaves_the_old_one`] | `tests/storage/damage/crashes.rs` |
//! | a hung replica leaks per post | [`under_load::a_hung_replica_costs_no_task_and_no_descriptor_per_post`] | `make flood` |
//! | the answer before a replica's; a failed send as an answer | [`answers::the_answer_comes_after_a_replica_has_answered_and_a_failed_send_is_no_answer`] | `tests/engine/writer/acks.rs` |
//! | writes stall while the backup is written | [`files::a_backup_does_not_stall_writes`] | `perf/snapshot_pause` |
//! | local replicas a backup behind, empty after a restart | [`local::local_replicas_do_not_stay_a_backup_behind_and_are_not_empty_after_their_own_restart`] | |
//! | readers see half a text | [`readers::readers_never_see_half_a_text`] | `tests/process/node/whole_posts.rs` |
//! | a count overflows silently | [`answers::a_count_that_would_overflow_is_refused_silently_never`] | `tests/engine/writer/admission.rs` |
//! | an odd backup half read or overwritten | [`files::an_odd_backup_file_is_neither_half_read_nor_overwritten`] | `tests/storage/damage.rs` |
//! | exit code 0 when the port is taken | [`files::the_process_exits_non_zero_when_its_port_is_taken`] | `tests/process/node.rs` |
//! | local replicas inconsistent after a run | [`local::local_replicas_are_consistent_after_a_run`] | `make run-perf-local-replicas` |
//!
//! Beside them what tries hard to break a cluster, watched by the checker of `testkit::checker`: kill loops
//! ([`storms`]), too little of something ([`starved`]), bad lines between machines ([`netns`]), and all of it for an
//! hour ([`soak`]).
//!
//! The long runs are tests that are ignored by default; the verbs `make crash`, `make soak`, `make replica-starts`,
//! `make crash-cluster` and `make flood` start them. `MEMDB_SEED` repeats one choice of moments, as far as real
//! processes let it.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests of real processes: real time, real files"
)]

mod answers;
mod crashes;
mod fake;
mod files;
mod flood;
mod forwarded;
mod full_at_start;
mod load;
mod local;
mod netns;
mod posters;
mod promotions;
mod readers;
mod repair;
mod soak;
pub mod starved;
mod storms;
mod under_load;

/// What the choice of moments follows from.
fn seed() -> u64 {
    testkit::number_from("MEMDB_SEED").unwrap_or_else(|| std::process::id().into())
}
