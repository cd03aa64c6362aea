//! `memdb backup`: a directory with everything that a running node holds.

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
use std::{path::PathBuf, time::Duration};

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

pub fn run(arguments: &BackupArguments) -> CommandResult {
    let secret = arguments.cluster_secret_file.as_ref().map(secret::read).transpose()?;
    let tls = arguments.tls.read()?.or_system_authorities();
    let credentials = PeerCredentials { secret, tls };
    let wrong = |reason| CommandError::Usage(format!("--server {:?}: {reason}", arguments.server));
    let from: NodeAddress = arguments.server.parse().map_err(wrong)?;
    let timeout = Duration::from_secs(arguments.timeout);
    let bar = ProgressBar::new_spinner();
    let style = "loading {wide_bar} {bytes}/{total_bytes}  {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of this program"));
    let made = node::restore(&from.to_string(), &arguments.to, &credentials, timeout, &mut |bytes, total| {
        total.into_iter().for_each(|total| bar.set_length(total));
        bar.set_position(bytes);
    });
    bar.finish_and_clear();
    let made = made.map_err(|error| CommandError::Failed(error.to_string()))?;
    let node::RestoreReport { database, position, words } = made;
    let token = PositionToken::of(database, position);
    if arguments.json {
        let told = json!({"database": format!("{database:032x}"), "position": token.to_string(), "words": words});
        return say(&told.to_string());
    }
    say(&format!("Backed up database {database:032x} at {token}: {} words.", GroupedNumber(words)))
}
