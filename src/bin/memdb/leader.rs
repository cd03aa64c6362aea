//! `memdb leader`: runs the one node that takes writes.

use crate::{
    output::{CommandError, CommandResult},
    settings::started,
};
use memdb::{
    config::{LeaderFlags, StartRole},
    node,
};

const EXAMPLES: &str = "\
EXAMPLES
  memdb leader
  memdb leader --port 9090 --data-dir /var/lib/memdb
  memdb leader --analyzer whitespace --durability synced
  memdb leader --replica http://10.0.0.2:8081 --ack replica+disk
  MEMDB_PORT=9090 memdb leader --config memdb.toml

Then, in another terminal:
  curl -d 'text=hello world' http://127.0.0.1:8080/post
  curl 'http://127.0.0.1:8080/wordcount?word=hello'

Every flag has a variable (--max-body-bytes is MEMDB_MAX_BODY_BYTES) and a key in the TOML file \
(max-body-bytes = \"2MiB\"); flags come first, then variables, then the file. `memdb config` shows the result. \
Replicas announce themselves (`memdb replica --leader URL`); --replica is for those that cannot. \
Ctrl-C or SIGTERM stops it in order: it answers what it took, syncs, writes a snapshot. SIGHUP has it read its \
settings anew: what can change takes effect, and the log says what needs a restart.

Exits 0 after a stop by Ctrl-C or SIGTERM, 1 if it cannot start or go on, 2 on wrong usage.";

/// Run the leader: the node that takes text and counts it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct LeaderArguments {
    #[command(flatten)]
    flags: LeaderFlags,
}

pub fn run(arguments: &LeaderArguments) -> CommandResult {
    let (resolved, source) = started(StartRole::Leader, &arguments.flags.0)?;
    node::run(resolved, source).map_err(|error| CommandError::Failed(error.to_string()))
}
