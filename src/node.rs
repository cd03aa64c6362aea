//! A node, built and closed in a stated order. Threads, clocks, signals and randomness live here and nowhere below.
//!
//! [`run`] and [`run_local_replica`] are what the verbs of the command line run; [`SwitchingNode`] and
//! [`FileFollowerNode`] are the same without signals, for tests, and [`LeaderNode`] and [`ReplicaNode`] one role alone.
//!
//! `process` has the signals, `reload` what a running node takes over, `service_manager` what systemd is told,
//! `resources` what outlives a role, `role_switch` the change from one to the next. Each role has a file that builds
//! and closes it; `threads` are what they run on.

mod backup;
mod database_copy;
mod error;
mod file_follower_node;
mod full_sync;
mod leader_files;
mod leader_node;
mod leader_run;
mod leader_start;
mod logging;
mod machine;
mod process;
mod promote;
mod recover_tail;
mod reload;
mod replica_node;
mod resources;
mod restore;
mod restore_directory;
mod restore_files;
mod role_switch;
mod room_wait;
mod service_manager;
mod threads;
#[cfg(feature = "opentelemetry")]
mod trace_export;

pub use backup::backup_stream;
pub use database_copy::RestoreReport;
pub use error::NodeError;
pub use file_follower_node::FileFollowerNode;
pub use leader_node::LeaderNode;
pub use machine::MachineClock;
pub use process::{run, run_local_replica};
pub use reload::SettingsSource;
pub use replica_node::ReplicaNode;
pub use restore::{restore, restore_stream};
pub use restore_files::restore_files;
pub use role_switch::SwitchingNode;
