//! `memdb backup`: a directory with everything that a running node holds.

use crate::{
    directory_copy::{CopyFlags, with_bar},
    output::CommandResult,
};
use std::path::PathBuf;

const EXAMPLES: &str = "\
EXAMPLES
  memdb backup /backups/monday
  memdb backup --cluster-secret-file secret /backups/monday
  memdb restore --from /backups/monday --data-dir ./data

Everything up to the position at which it begins: the node's newest snapshot and the records behind it, whose digests are \
compared before it is said to be done. The node must keep files, and have written a snapshot. The directory must hold no \
database.

Exits 0 once all is there, 1 if not, 2 on wrong usage.";

/// Back up a running node into a directory.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct BackupArguments {
    /// Directory to write; made if it is not there.
    #[arg(value_name = "DIR")]
    to: PathBuf,

    /// The node.
    #[arg(long, value_name = "URL", env = "MEMDB_SERVER", default_value = "http://127.0.0.1:8080", alias = "leader")]
    server: String,

    #[command(flatten)]
    copy: CopyFlags,
}

pub fn run(arguments: &BackupArguments) -> CommandResult {
    let BackupArguments { to, server, copy } = arguments;
    let credentials = copy.credentials()?;
    let made = with_bar(|progress| copy.fetch(("--server", server), to, &credentials, progress))?;
    copy.tell(made, "Backed up", None)
}
