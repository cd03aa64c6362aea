//! `memdb backup`: everything that a running node holds, as a directory or a stream.

use crate::{
    directory_copy::{CopyFlags, CopyPlace, with_bar},
    output::{CommandError, CommandResult},
};
use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

const EXAMPLES: &str = "\
EXAMPLES
  memdb backup /backups/monday
  memdb backup --token-file backup.token /backups/monday
  memdb restore /backups/monday ./data

  memdb backup - | zstd > monday.zst
  zstdcat monday.zst | memdb restore - ./data
  memdb backup - | ssh db-2 memdb restore - /var/lib/memdb

Everything up to the position at which it begins: the node's newest snapshot and the records behind it, whose digests are \
compared before it is said to be done. The node must keep files, and have written a snapshot. A directory must hold no \
database. A stream ends with the digest that it leads to, and `memdb restore` takes it as a whole or not at all.

A node that has users gives it to a token with the role replicate, or to the cluster's secret.

Exits 0 once all is there, 1 if not, 2 on wrong usage, 130 after Ctrl-C.";

/// Back up a running node, into a directory or as a stream.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct BackupArguments {
    /// Directory to write, made if it is not there; - is standard output.
    #[arg(value_name = "TO")]
    to: PathBuf,

    /// The node.
    #[arg(long, value_name = "URL", env = "MEMDB_SERVER", default_value = "http://127.0.0.1:8080", alias = "leader")]
    server: String,

    #[command(flatten)]
    copy: CopyFlags,
}

pub fn run(arguments: &BackupArguments) -> CommandResult {
    let BackupArguments { to, server, copy } = arguments;
    let to = CopyPlace::of(to);
    if matches!(to, CopyPlace::Stream) && io::stdout().is_terminal() {
        return Err(CommandError::Usage("a backup is no text for a terminal: redirect it, or name a directory".into()));
    }
    let credentials = copy.credentials()?;
    let made = with_bar(|progress| copy.fetch(("--server", server), to, &credentials, progress))?;
    copy.tell(made, to, "Backed up", None)
}
