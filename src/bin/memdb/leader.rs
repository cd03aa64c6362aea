//! `memdb leader`: runs the one node that takes writes.

use crate::output::{Ended, Failure};
use memdb::{
    config::{LeaderFlags, Machine, Resolved, Surroundings, resolve},
    node::run_leader,
};
use std::{io, path::Path};

const EXAMPLES: &str = "\
EXAMPLES
  memdb leader
  memdb leader --port 9090 --data-dir /var/lib/memdb
  memdb leader --analyzer whitespace --durability synced
  MEMDB_PORT=9090 memdb leader --config memdb.toml

Then, in another terminal:
  curl -d 'text=hello world' http://127.0.0.1:8080/post
  curl 'http://127.0.0.1:8080/wordcount?word=hello'

Every flag has a variable (--max-body-bytes is MEMDB_MAX_BODY_BYTES) and a key in the TOML file
(max-body-bytes = \"2MiB\"); flags come first, then variables, then the file. `memdb config` shows the result.
Ctrl-C or SIGTERM stops it in order: answers what it took, syncs, writes a snapshot, exits 0.";

/// Run the leader: the node that takes text and counts it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    flags: LeaderFlags,
}

pub fn run(arguments: &Arguments) -> Ended {
    run_leader(&resolved(&arguments.flags)?.settings).map_err(|error| Failure::Failed(error.to_string()))
}

/// The settings these flags lead to on this machine.
#[allow(clippy::disallowed_methods, reason = "the settings are read before there is a database to keep files for")]
pub fn resolved(flags: &LeaderFlags) -> Result<Resolved, Failure> {
    let read_file = |path: &Path| -> io::Result<String> { std::fs::read_to_string(path) };
    let environment = |name: &str| std::env::var(name).ok();
    let around = Surroundings { environment: &environment, read_file: &read_file, machine: Machine::here(&read_file) };
    resolve(flags, &around).map_err(|error| Failure::Usage(error.to_string()))
}
