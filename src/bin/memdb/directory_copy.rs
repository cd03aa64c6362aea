//! A copy of what a node holds: what `memdb backup` and `memdb restore` share.

use crate::{
    output::{CommandError, CommandResult, GroupedNumber, say, tell},
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
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The way to the node, and the form of what is told.
#[derive(clap::Args)]
pub struct CopyFlags {
    /// File with the secret that the nodes of the cluster share.
    #[arg(long, value_name = "FILE")]
    cluster_secret_file: Option<PathBuf>,

    /// File with a token of a user who has the role replicate; or the token in MEMDB_TOKEN.
    #[arg(long, value_name = "FILE", env = "MEMDB_TOKEN_FILE", conflicts_with = "cluster_secret_file")]
    token_file: Option<PathBuf>,

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
        // Both are shown in the same way.
        let secret = match (&self.cluster_secret_file, &self.token_file) {
            (Some(path), _) => Some(secret::read("--cluster-secret-file", path)?),
            (None, Some(path)) => Some(secret::read("--token-file", path)?),
            (None, None) => secret::of_variable("MEMDB_TOKEN")?,
        };
        Ok(PeerCredentials { secret, tls: self.tls.read()?.or_system_authorities() })
    }

    /// Fetches everything that a node holds into a directory, or to standard output; `flag` is what named the node.
    pub fn fetch(
        &self,
        (flag, address): (&str, &str),
        to: CopyPlace<'_>,
        credentials: &PeerCredentials,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Result<RestoreReport, NodeError>, CommandError> {
        let from: NodeAddress =
            address.parse().map_err(|reason| CommandError::Usage(format!("{flag} {address:?}: {reason}")))?;
        let (from, timeout) = (from.to_string(), Duration::from_secs(self.timeout));
        Ok(match to {
            CopyPlace::Directory(path) => node::restore(&from, path, credentials, timeout, progress),
            CopyPlace::Stream => node::backup_stream(&from, &mut io::stdout().lock(), credentials, timeout, progress),
        })
    }

    /// Says what was made: as JSON, or in a sentence that begins with `done`, with `hint` behind it. Of a stream, which
    /// has standard output, it is said on standard error.
    pub fn tell(
        &self,
        made: Result<RestoreReport, NodeError>,
        to: CopyPlace<'_>,
        done: &str,
        hint: Option<String>,
    ) -> CommandResult {
        let RestoreReport { database, position, words } = made.map_err(|error| match error {
            NodeError::Interrupted => CommandError::Interrupted(error.to_string()),
            _ => CommandError::Failed(error.to_string()),
        })?;
        let token = PositionToken::of(database, position);
        let told = match self.json {
            true => json!({"database": format!("{database:032x}"), "position": token.to_string(), "words": words})
                .to_string(),
            false => {
                let hint = hint.map_or(String::new(), |hint| format!("\n{hint}"));
                format!("{done} database {database:032x} at {token}: {} words.{hint}", GroupedNumber(words))
            }
        };
        match to {
            CopyPlace::Directory(_) => say(&told),
            CopyPlace::Stream => {
                tell(&told);
                Ok(())
            }
        }
    }
}

/// The place that a copy goes to.
#[derive(Clone, Copy)]
pub enum CopyPlace<'a> {
    /// A directory, which must hold no database.
    Directory(&'a Path),
    /// Standard output.
    Stream,
}

impl<'a> CopyPlace<'a> {
    /// The place that an argument names; `-` is standard output.
    pub fn of(path: &'a Path) -> Self {
        if path == Path::new("-") { Self::Stream } else { Self::Directory(path) }
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
