//! `memdb promote`: makes a replica the leader.

use crate::{
    credentials,
    output::{CommandError, CommandResult, say},
    read::block_on,
    secret,
};
use memdb::{
    client::{Client, ClientError, ServerKind},
    config::{ClientTlsFlags, CredentialFlags},
};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};
use tokio::time::{Instant, sleep};

const EXAMPLES: &str = "\
EXAMPLES
  memdb promote http://127.0.0.1:8082
  memdb promote http://127.0.0.1:8082 --force

The replica needs a --data-dir of its own. It asks every node it knows. A leader that still answers hands over: it refuses \
writes from then on (503 stepped-down), and follows. Without --force nothing is done if another node is ahead, or a replica does \
not answer and may be. Clients repeat with their keys at the new leader; each key still counts once.

Exits 0 once the replica leads, 1 if it does not, 2 on wrong usage.";

/// Make a replica the leader, by hand.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PromoteArguments {
    /// The replica that is to lead, such as http://127.0.0.1:8082.
    #[arg(value_name = "URL")]
    node: String,

    /// Also without records that other nodes have, or may have: they are lost.
    #[arg(long)]
    force: bool,

    /// File with the secret that the nodes of the cluster share.
    #[arg(long, value_name = "FILE")]
    cluster_secret_file: Option<PathBuf>,

    #[command(flatten)]
    credentials: CredentialFlags,

    /// Seconds to wait until it leads.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,

    /// Seconds that an answer may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    #[command(flatten)]
    tls: ClientTlsFlags,

    /// As JSON: {"leader", "epoch"}.
    #[arg(long)]
    json: bool,
}

/// Interval at which the node is asked whether it leads.
const ASK_EVERY: Duration = Duration::from_millis(10);

pub fn run(arguments: &PromoteArguments) -> CommandResult {
    let secret = arguments.cluster_secret_file.as_ref();
    let secret = secret.map(|path| secret::read("--cluster-secret-file", path)).transpose()?;
    let timeout = Duration::from_secs(arguments.timeout);
    let client = Client::with_tls(&arguments.node, timeout, &arguments.tls.read()?)?.meant_for(ServerKind::Replica);
    let client = credentials::with(client, &arguments.credentials)?;
    let patience = Duration::from_secs(arguments.wait);
    block_on(async {
        let before = client.status().await?["not_promoted"].clone();
        let epoch = client.promote(arguments.force, secret.as_ref()).await?;
        let begun = Instant::now();
        loop {
            match standing(&client, &before).await {
                Ok(PromotionState::Leads) if arguments.json => {
                    return say(&json!({"leader": client.base(), "epoch": epoch}).to_string());
                }
                Ok(PromotionState::Leads) => return say(&format!("{} leads, in epoch {epoch}.", client.base())),
                Ok(PromotionState::Refused(why)) => {
                    return Err(CommandError::Failed(format!("it does not lead: {why}")));
                }
                Err(error) if !error.is_passing() => return Err(error.into()),
                Ok(PromotionState::Follows) | Err(_) if begun.elapsed() < patience => sleep(ASK_EVERY).await,
                Ok(PromotionState::Follows) | Err(_) => {
                    let message = format!("it does not lead after {} s: see its log", arguments.wait);
                    return Err(CommandError::Failed(message));
                }
            }
        }
    })
}

enum PromotionState {
    Leads,
    Follows,
    /// It was to lead, and something came in between.
    Refused(String),
}

async fn standing(client: &Client, before: &Value) -> Result<PromotionState, ClientError> {
    let status = client.status().await?;
    if status["role"] == "leader" && status["ready"] == true {
        return Ok(PromotionState::Leads);
    }
    // What it says of an earlier try is no news.
    Ok(match status["not_promoted"].as_str() {
        Some(why) if status["not_promoted"] != *before => PromotionState::Refused(why.to_owned()),
        _ => PromotionState::Follows,
    })
}
