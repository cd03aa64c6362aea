//! `memdb local-replica`: runs a node that follows the files of a leader on the same machine.

use crate::{
    output::{CommandError, CommandResult},
    settings::started,
};
use memdb::{
    config::{LocalReplicaFlags, StartRole},
    node::run_local_replica,
};

const EXAMPLES: &str = "\
EXAMPLES
  memdb local-replica --data-dir ./data
  memdb local-replica --data-dir ./data --port 8082

Then, in another terminal:
  curl 'http://127.0.0.1:8081/wordcount?word=hello'

It reads the data directory of a leader on the same machine and writes nothing there: more processes that answer \
reads, without another copy on disk. It finds the leader by what the directory says; writes sent to it go there. \
Every flag has a variable (--data-dir is MEMDB_DATA_DIR) and a key in the TOML file (data-dir = \"./data\").

Exits 0 after a stop by Ctrl-C or SIGTERM, 1 if it cannot start or go on, 2 on wrong usage.";

/// Run a local replica: a node that reads a leader's files on the same machine and answers reads.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct LocalReplicaArguments {
    #[command(flatten)]
    flags: LocalReplicaFlags,
}

pub fn run(arguments: &LocalReplicaArguments) -> CommandResult {
    let (resolved, source) = started(StartRole::LocalReplica, &arguments.flags.0)?;
    run_local_replica(resolved, source).map_err(|error| CommandError::Failed(error.to_string()))
}
