//! A directory that is made of what a node holds: what `memdb backup` and `memdb restore` share.

use crate::{
    output::{CommandError, CommandResult, GroupedNumber, say},
    secret,
};
use indicatif::{ProgressBar, ProgressStyle};
use memdb::{
    base::address::NodeAddress,
    base::position::PositionToken,
    config::ClientTlsFlags,
    net::peer_credentials::PeerCredentials,
    node::{self, NodeError, RestoreReport},
};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The way to the node, and the form of what is told.
#[derive(clap::Args)]
pub struct CopyFlags {
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

impl CopyFlags {
    /// Reads what this process shows the node.
    pub fn credentials(&self) -> Result<PeerCredentials, CommandError> {
        let secret = self.cluster_secret_file.as_ref().map(secret::read).transpose()?;
        Ok(PeerCredentials { secret, tls: self.tls.read()?.or_system_authorities() })
    }

    /// Fetches everything that a node holds into a directory; `flag` is what named the node.
    pub fn fetch(
        &self,
        (flag, address): (&str, &str),
        directory: &Path,
        credentials: &PeerCredentials,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Result<RestoreReport, NodeError>, CommandError> {
        let from: NodeAddress =
            address.parse().map_err(|reason| CommandError::Usage(format!("{flag} {address:?}: {reason}")))?;
        let timeout = Duration::from_secs(self.timeout);
        Ok(node::restore(&from.to_string(), directory, credentials, timeout, progress))
    }

    /// Says what was made: as JSON, or in a sentence that begins with `done`, with `hint` behind it.
    pub fn tell(&self, made: Result<RestoreReport, NodeError>, done: &str, hint: Option<String>) -> CommandResult {
        let RestoreReport { database, position, words } =
            made.map_err(|error| CommandError::Failed(error.to_string()))?;
        let token = PositionToken::of(database, position);
        if self.json {
            let told = json!({"database": format!("{database:032x}"), "position": token.to_string(), "words": words});
            return say(&told.to_string());
        }
        say(&format!("{done} database {database:032x} at {token}: {} words.", GroupedNumber(words)))?;
        hint.map_or(Ok(()), |hint| say(&hint))
    }
}

/// Runs a copy with a bar for its bytes, which goes when it has ended.
pub fn with_bar<T>(copy: impl FnOnce(&mut dyn FnMut(u64, Option<u64>)) -> T) -> T {
    let bar = ProgressBar::new_spinner();
    let style = "loading {wide_bar} {bytes}/{total_bytes}  {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of this program"));
    let copied = copy(&mut |bytes, total| {
        total.into_iter().for_each(|total| bar.set_length(total));
        bar.set_position(bytes);
    });
    bar.finish_and_clear();
    copied
}
