//! `memdb replica`: runs a node that follows a leader over the network.

use crate::{
    output::{CommandError, CommandResult},
    settings::started,
};
use memdb::{
    config::{ReplicaFlags, StartRole},
    node,
};

const EXAMPLES: &str = "\
EXAMPLES
  memdb replica --leader http://127.0.0.1:8080
  memdb replica --leader http://127.0.0.1:8080 --port 8082 --data-dir ./replica
  MEMDB_LEADER=http://127.0.0.1:8080 memdb replica

On another machine than the leader; the secret file is the leader's:
  memdb replica --leader http://10.0.0.1:8080 --bind 10.0.0.2 --insecure \\
    --cluster-secret-file secret

Then, in another terminal:
  curl 'http://127.0.0.1:8081/wordcount?word=hello'

It announces itself to the leader, loads what is there, and follows. Writes sent to it go to the leader. With \
--data-dir it keeps a copy of its own on disk, goes on from there after a restart, and can acknowledge replica+disk. \
Every flag has a variable (--data-dir is MEMDB_DATA_DIR) and a key in the TOML file (data-dir = \"./replica\").

Exits 0 after a stop by Ctrl-C or SIGTERM, 1 if it cannot start or go on, 2 on wrong usage.";

/// Run a replica: a node that follows a leader and answers reads.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ReplicaArguments {
    #[command(flatten)]
    flags: ReplicaFlags,
}

pub fn run(arguments: &ReplicaArguments) -> CommandResult {
    let (resolved, source) = started(StartRole::Replica, &arguments.flags.0)?;
    node::run(resolved, source).map_err(|error| CommandError::Failed(error.to_string()))
}
