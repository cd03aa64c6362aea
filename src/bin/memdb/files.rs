//! `memdb inspect` and `memdb repair`: the files of a database that is not running.

use crate::output::{Ended, Failure};
use std::path::PathBuf;

const INSPECT_EXAMPLES: &str = "\
EXAMPLES
  memdb inspect ./data
  memdb inspect ./data/log-0000000000000001

Reads only, and may be run beside a running leader. Exits 0 if everything is whole, 1 if not.";

/// Show what a file of a database holds, and whether it is whole.
#[derive(clap::Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub struct InspectArguments {
    /// A database directory, or one file of it.
    path: PathBuf,
}

const REPAIR_EXAMPLES: &str = "\
EXAMPLES
  memdb repair ./data          shows what would be lost, and asks
  memdb repair ./data --yes

Cuts what cannot be read, so that the leader starts again. Stop the leader first, and copy the directory.";

/// Cut what cannot be read out of a damaged database, after saying exactly what is lost.
#[derive(clap::Args)]
#[command(after_help = REPAIR_EXAMPLES)]
pub struct RepairArguments {
    /// The database directory.
    directory: PathBuf,

    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

pub fn inspect(arguments: &InspectArguments) -> Ended {
    // CONNECT: memdb::inspect
    Err(Failure::Failed(format!("would inspect {}", arguments.path.display())))
}

pub fn repair(arguments: &RepairArguments) -> Ended {
    // CONNECT: memdb::inspect
    let asking = if arguments.yes { "without asking" } else { "after asking" };
    Err(Failure::Failed(format!("would repair {} {asking}", arguments.directory.display())))
}
