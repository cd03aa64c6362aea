//! The HTTP client that nodes and the command line speak through, and what its errors mean.

use super::tls::{client::ClientTls, explain::tls_reason};
use crate::base::limits;
use reqwest::{Client, ClientBuilder, redirect};
use std::{error::Error, io, time::Duration};

/// Patience between nodes for a connection, and for messages of a few bytes.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_millis(limits::EXCHANGE_TIMEOUT_MS);
/// The cause of an error that is a time-out, for a person.
pub const TOO_LATE: &str = "it took too long";

/// Begins a client: HTTP/1.1 over kept connections, small packets at once. Neither proxy nor redirects: requests may
/// carry the cluster's secret, and go to the node that was named or nowhere.
pub fn builder(tls: &ClientTls) -> ClientBuilder {
    // A configuration of our own: reqwest's looks for a provider of cryptography that somebody has installed.
    let tls = (**tls.config()).clone();
    let builder = Client::builder().tls_backend_preconfigured(tls);
    builder.http1_only().no_proxy().redirect(redirect::Policy::none()).tcp_nodelay(true)
}

/// Begins the same client for a thread that waits for it.
#[cfg(feature = "opentelemetry")]
pub fn blocking(tls: &ClientTls) -> reqwest::blocking::ClientBuilder {
    let tls = (**tls.config()).clone();
    let builder = reqwest::blocking::Client::builder().tls_backend_preconfigured(tls);
    builder.http1_only().no_proxy().redirect(redirect::Policy::none()).tcp_nodelay(true)
}

/// Walks an error and what has caused it, from the top.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Gives the reason for a person. reqwest's own message repeats the address; what happened is at the end of the chain.
pub fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return TOO_LATE.to_owned();
    }
    let deepest = || causes(error).last().map_or_else(String::new, ToString::to_string);
    tls_reason(error).unwrap_or_else(deepest)
}

/// Finds the system's error behind an error, if there is one.
pub fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    // The deepest one: those above wrap it under kinds of their own.
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).last()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[tokio::test]
    async fn where_nothing_listens_the_system_s_error_is_found_and_named() {
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("bound")
        };
        let client = builder(&ClientTls::default()).build().expect("a client");
        let error = client.get(format!("http://{address}/")).send().await.expect_err("nobody listens");
        assert_eq!(io_kind(&error), Some(io::ErrorKind::ConnectionRefused));
        assert!(reason(&error).contains("refused"), "{}", reason(&error));
    }
}
