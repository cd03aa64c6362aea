//! `memdb restore`: a leader's directory, from what another node holds.

use crate::{
    output::{CommandError, CommandResult, GroupedNumber, say},
    secret,
};
use indicatif::{ProgressBar, ProgressStyle};
use memdb::{
    base::address::NodeAddress, base::position::PositionToken, config::ClientTlsFlags,
    net::peer_credentials::PeerCredentials, node,
};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

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

    /// File with the secret that the nodes of the cluster share.
    #[arg(long, value_name = "FILE")]
    cluster_secret_file: Option<PathBuf>,

    /// Seconds for which the node may be silent.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    #[command(flatten)]
    tls: ClientTlsFlags,

    /// As JSON: {"database", "position", "words"}.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &RestoreArguments) -> CommandResult {
    let secret = arguments.cluster_secret_file.as_ref().map(secret::read).transpose()?;
    let tls = arguments.tls.read()?.or_system_authorities();
    let credentials = PeerCredentials { secret, tls };
    let bar = ProgressBar::new_spinner();
    let style = "loading {wide_bar} {bytes}/{total_bytes}  {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of this program"));
    let mut progress = |bytes, total: Option<u64>| {
        total.into_iter().for_each(|total| bar.set_length(total));
        bar.set_position(bytes);
    };
    let restored = if Path::new(&arguments.from).is_dir() {
        node::restore_files(Path::new(&arguments.from), &arguments.data_dir, &mut progress)
    } else {
        let from: NodeAddress = arguments
            .from
            .parse()
            .map_err(|reason| CommandError::Usage(format!("--from {:?}: {reason}", arguments.from)))?;
        let timeout = Duration::from_secs(arguments.timeout);
        node::restore(&from.to_string(), &arguments.data_dir, &credentials, timeout, &mut progress)
    };
    bar.finish_and_clear();
    let restored = restored.map_err(|error| CommandError::Failed(error.to_string()))?;
    let node::RestoreReport { database, position, words } = restored;
    let token = PositionToken::of(database, position);
    if arguments.json {
        let told = json!({"database": format!("{database:032x}"), "position": token.to_string(), "words": words});
        return say(&told.to_string());
    }
    say(&format!("Restored database {database:032x} at {token}: {} words.", GroupedNumber(words)))?;
    say(&format!("Start it with: memdb leader --data-dir {}", arguments.data_dir.display()))
}
