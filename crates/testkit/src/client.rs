//! The requests of clients, and their answers.

use crate::{guard::TOKEN, tls::AUTHORITY};
use memdb::{base::position::PositionToken, net::tls::client::ClientTls};
use reqwest::{
    blocking::{Client, ClientBuilder, RequestBuilder, Response},
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde_json::Value;
use std::{collections::BTreeMap, sync::LazyLock, time::Duration};
use tokio_rustls::rustls::ClientConfig;

/// Word to count.
pub type Counts = BTreeMap<String, i64>;

static CLIENT: LazyLock<Client> = LazyLock::new(new_client);

/// A client with connections of its own, which believes the authority of the tests ([`AUTHORITY`]), and shows guarded
/// nodes certificate and token.
pub fn new_client() -> Client {
    builder().build().expect("a client")
}

/// Begins a client. `Client::new` of reqwest has no TLS here, and panics: nobody installs a provider of cryptography
/// for the whole process.
pub fn builder() -> ClientBuilder {
    builder_with(tls_config())
}

/// As [`builder`], for a client that believes and shows something else.
pub fn builder_with(tls: ClientConfig) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .default_headers(shown())
        .no_proxy()
        .timeout(Duration::from_secs(30))
}

/// A client that does not block.
pub fn async_client() -> reqwest::Client {
    async_builder().build().expect("a client")
}

/// As [`builder`], for a client that does not block.
pub fn async_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().tls_backend_preconfigured(tls_config()).default_headers(shown()).no_proxy()
}

fn shown() -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {TOKEN}")).expect("ASCII");
    HeaderMap::from_iter([(AUTHORIZATION, value)])
}

fn tls_config() -> ClientConfig {
    static CONFIG: LazyLock<ClientTls> = LazyLock::new(|| AUTHORITY.client(Some(&AUTHORITY.node("tests"))));
    (**CONFIG.config()).clone()
}

/// The answer to a write.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// `Memdb-Acks`.
    pub acks: Option<u64>,
    pub body: Value,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        let acks = response.headers().get("memdb-acks").map(|acks| acks.to_str().expect("ASCII").to_owned());
        let status = response.status().as_u16();
        let body = response.bytes().ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
        Self { status, acks: acks.map(|acks| acks.parse().expect("a number")), body }
    }
}

fn send(request: RequestBuilder) -> Answer {
    request.send().expect("it answers").into()
}

/// Posts a text; `level` is empty or such as `?ack=replica`.
pub fn post(url: &str, level: &str, text: &str) -> Answer {
    send(CLIENT.post(format!("{url}/post{level}")).header("content-type", "text/plain").body(text.to_owned()))
}

/// Posts a text that must be counted.
#[track_caller]
pub fn posted(url: &str, text: &str) -> Answer {
    let answer = post(url, "", text);
    assert_eq!(answer.status, 202, "{answer:?}");
    answer
}

pub fn update(url: &str, amounts: &Value) -> Answer {
    send(CLIENT.post(format!("{url}/update")).header("content-type", "application/json").body(amounts.to_string()))
}

/// Counts of some words, read at one position.
pub fn read(url: &str, words: &[&str]) -> Counts {
    let query: Vec<_> = words.iter().map(|word| ("word", *word)).collect();
    let response = CLIENT.get(format!("{url}/wordcount")).query(&query).send().expect("it answers");
    let (status, body) = (response.status(), response.bytes().expect("a body"));
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).expect("words with counts")
}

/// Every word, and the position at which that was.
pub fn counts(url: &str) -> (PositionToken, Counts) {
    let response = CLIENT.get(format!("{url}/sync")).send().expect("it answers");
    let position = response.headers()["memdb-position"].to_str().expect("ASCII").parse();
    let position = position.expect("a position");
    (position, serde_json::from_slice(&response.bytes().expect("whole")).expect("words with counts"))
}

/// `/status`, if there is an answer.
pub fn status(url: &str) -> Option<Value> {
    let answer = CLIENT.get(format!("{url}/status")).timeout(Duration::from_secs(2)).send().ok()?;
    serde_json::from_slice(&answer.bytes().ok()?).ok()
}
