//! `memdb restore`: a leader's directory, from what another node holds.

use crate::{
    directory_copy::{CopyFlags, with_bar},
    output::CommandResult,
};
use memdb::node;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
EXAMPLES
  memdb restore --from http://127.0.0.1:8081 --data-dir ./data
  memdb leader --data-dir ./data --replica http://127.0.0.1:8081
  memdb restore --from /backups/monday --data-dir ./data

For a leader whose own directory is lost. The node it comes from is a replica with a --data-dir that has all there is; \
compare the positions in `memdb status` of each, and take the highest. The directory must hold no database.

Exits 0 once all is there, 1 if not, 2 on wrong usage.";

/// Make a leader's directory from what a replica or a backup holds.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArguments {
    /// The node it comes from, such as http://127.0.0.1:8081, or the directory of a backup.
    #[arg(long, value_name = "URL|DIR")]
    from: String,

    /// Directory to restore into; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,

    #[command(flatten)]
    copy: CopyFlags,
}

pub fn run(arguments: &RestoreArguments) -> CommandResult {
    let RestoreArguments { from, data_dir, copy } = arguments;
    let credentials = copy.credentials()?;
    let restored = with_bar(|progress| match Path::new(from).is_dir() {
        true => Ok(node::restore_files(Path::new(from), data_dir, progress)),
        false => copy.fetch(("--from", from), data_dir, &credentials, progress),
    })?;
    copy.tell(restored, "Restored", Some(format!("Start it with: memdb leader --data-dir {}", data_dir.display())))
}
