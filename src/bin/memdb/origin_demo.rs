//! `memdb origin-demo`: an origin for examples and tests of reads that go through to one.

use crate::output::{CommandError, CommandResult, say, tell};
use memdb::api::http::DemoOrigin;
use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};
use tokio::{net::TcpListener, signal};

const EXAMPLES: &str = "\
EXAMPLES
  memdb origin-demo --port 8000 --delay-ms 50
  memdb leader --origin 'http://127.0.0.1:8000/data/{id}'
  curl http://127.0.0.1:8080/data/17

It answers any id with {\"guid\":ID,\"date_created\":TIME}, those that begin with `missing` with \
404, and GET /count with the number of values that it was asked for.

Exits 0 after a stop by Ctrl-C, 1 if it cannot start, 2 on wrong usage.";

/// Stand in for the origin of a cache that is read through.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct OriginDemoArguments {
    /// Port to listen on; 0 lets the system choose.
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,

    /// Address to listen on: it answers whoever reaches it.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,

    /// Milliseconds that each answer takes.
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    delay_ms: u64,

    /// Answer 503 to everything.
    #[arg(long)]
    fail: bool,
}

pub fn run(arguments: &OriginDemoArguments) -> CommandResult {
    let failed = |error: std::io::Error| CommandError::Failed(error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(failed)?.block_on(serve(arguments))
}

async fn serve(arguments: &OriginDemoArguments) -> CommandResult {
    let address = SocketAddr::new(arguments.bind, arguments.port);
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| CommandError::Failed(format!("cannot listen on {address}: {error}")))?;
    let address = listener.local_addr()?;
    say(&format!("listening on http://{address}"))?;
    let origin = DemoOrigin::new(Duration::from_millis(arguments.delay_ms), arguments.fail, now);
    tokio::select! {
        ended = origin.serve(listener) => ended.map_err(|error| CommandError::Failed(error.to_string())),
        _ = signal::ctrl_c() => {
            tell("stopped");
            Ok(())
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the time of day is what a demonstration shows")]
fn now() -> SystemTime {
    SystemTime::now()
}
