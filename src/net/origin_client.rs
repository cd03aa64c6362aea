//! Fetches values from the origin: an HTTP server that has what the cache does not.
//!
//! The server is the one of the settings: no request can name another, and a redirect is a failure.

use super::{
    address_limits::{Resource, Usage},
    budget::{Budget, BudgetShare},
    http_client,
    tls::client::ClientTls,
};
use crate::base::limits::{MAX_CONTENT_TYPE_BYTES, MAX_ORIGIN_URL_BYTES, ORIGIN_FETCHED_BYTES};
use bytes::{Bytes, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE},
};
use std::{fmt, str::FromStr, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The places of a key in a template.
const PLACES: [&str; 2] = ["{id}", "{key}"];
/// Encoded in a key: everything that could end a segment of a path, or the path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The URLs of an origin's values: `http://127.0.0.1:8000/data/{id}`.
#[derive(Clone, PartialEq, Eq)]
pub struct OriginTemplate(String);

impl OriginTemplate {
    /// The URL of a key's value; `None` if no URL can name the key.
    fn url(&self, key: &str) -> Option<Url> {
        let encoded = utf8_percent_encode(key, ENCODED).to_string();
        let text = PLACES.iter().fold(self.0.clone(), |text, place| text.replace(place, &encoded));
        if text.len() > MAX_ORIGIN_URL_BYTES || has_dots(&text) {
            return None;
        }
        text.parse().ok()
    }
}

/// Returns whether a segment of a URL's path is of dots alone: such a segment, however its dots are written, is taken
/// out of the path, which then names another place.
fn has_dots(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.split('/').any(|segment| matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | ".."))
}

impl FromStr for OriginTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WANTED: &str = "give the URL of a value with {id} in its path or query, such as \
                              http://127.0.0.1:8000/data/{id}";
        let refused = |why: &str| Err(format!("{why}; {WANTED}"));
        if !PLACES.iter().any(|place| text.contains(place)) {
            return refused("it has no {id}");
        }
        let template = Self(text.to_owned());
        let (Some(one), Some(other)) = (template.url("0"), template.url("1")) else {
            return refused("it is no URL");
        };
        if !matches!(one.scheme(), "http" | "https") {
            return refused("its scheme is neither http nor https");
        }
        if one.host_str() != other.host_str() || one.port() != other.port() || one.host_str().is_none() {
            return refused("no key may choose the host");
        }
        if !one.username().is_empty() || one.password().is_some() || one.fragment().is_some() {
            return refused("it names a user, a password or a fragment");
        }
        Ok(template)
    }
}

impl fmt::Display for OriginTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OriginTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as the origin has sent it.
#[derive(Debug)]
pub struct FetchedValue {
    /// The bytes.
    pub bytes: Bytes,
    /// The media type; empty if it has sent none that could be stored.
    pub content_type: Box<str>,
    /// The part that it has of the memory for such values, as long as it is on its way to the store.
    pub share: BudgetShare,
}

/// The reason why the origin has given no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginError {
    /// No URL can name the key.
    NoUrl,
    /// The origin says that there is none.
    NotFound,
    /// It has not answered in time.
    TimedOut,
    /// Values on their way take as much memory as they may.
    Busy,
    /// It cannot be reached, or has answered with something else.
    Failed(String),
}

/// Fetches values. Cheap to clone.
#[derive(Clone)]
pub struct OriginClient {
    http: Client,
    template: OriginTemplate,
    patience: Duration,
    max_value_bytes: usize,
    /// Bytes of values on their way. No address has a share: who waits for a value may be many.
    fetched: Arc<Budget>,
}

impl OriginClient {
    /// A client that waits so long for a value of at most so many bytes.
    ///
    /// # Errors
    /// If the system has no HTTP client.
    pub fn new(
        template: OriginTemplate,
        tls: &ClientTls,
        patience: Duration,
        max_value_bytes: usize,
    ) -> Result<Self, String> {
        let http = http_client::builder(tls).connect_timeout(patience).build();
        let http = http.map_err(|error| format!("no HTTP client: {error}"))?;
        let fetched = Budget::new(Resource::FetchedBytes, ORIGIN_FETCHED_BYTES, ORIGIN_FETCHED_BYTES);
        Ok(Self { http, template, patience, max_value_bytes, fetched })
    }

    /// Returns whether a URL can name a key.
    pub fn can_name(&self, key: &str) -> bool {
        self.template.url(key).is_some()
    }

    /// Fetches the value of a key.
    ///
    /// # Errors
    /// [`OriginError`] if the origin has given none.
    pub async fn fetch(&self, key: &str) -> Result<FetchedValue, OriginError> {
        let url = self.template.url(key).ok_or(OriginError::NoUrl)?;
        timeout(self.patience, self.value(url)).await.unwrap_or(Err(OriginError::TimedOut))
    }

    async fn value(&self, url: Url) -> Result<FetchedValue, OriginError> {
        let mut response = self.http.get(url).header(ACCEPT, "*/*").send().await.map_err(|error| failed(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(OriginError::NotFound),
            other => return Err(OriginError::Failed(format!("the origin has answered {}", other.as_u16()))),
        }
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err(OriginError::Failed(
                "the origin has encoded its answer, which nobody has asked for".to_owned(),
            ));
        }
        let content_type = storable_type(&response);
        // One buffer for each value: none is used again.
        let (mut bytes, mut share) = (BytesMut::new(), BudgetShare::of(&self.fetched, &Usage::default()));
        while let Some(piece) = response.chunk().await.map_err(|error| failed(&error))? {
            if bytes.len() + piece.len() > self.max_value_bytes {
                let most = self.max_value_bytes;
                return Err(OriginError::Failed(format!("the origin's value is larger than {most} bytes")));
            }
            share.grow(piece.len()).map_err(|_| OriginError::Busy)?;
            bytes.extend_from_slice(&piece);
        }
        Ok(FetchedValue { bytes: bytes.freeze(), content_type, share })
    }
}

/// The media type of an answer, if an entry can have it.
fn storable_type(response: &Response) -> Box<str> {
    let given = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if given.len() <= MAX_CONTENT_TYPE_BYTES { given.into() } else { Box::default() }
}

fn failed(error: &reqwest::Error) -> OriginError {
    if error.is_timeout() {
        return OriginError::TimedOut;
    }
    OriginError::Failed(format!("the origin cannot be reached: {}", http_client::reason(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    #[test]
    fn a_template_is_an_http_url_whose_path_or_query_alone_depends_on_the_key() {
        for good in ["http://127.0.0.1:8000/data/{id}", "http://origin/{key}.json", "http://origin/a?q={id}&v=1"] {
            assert_eq!(good.parse::<OriginTemplate>().map(|it| it.to_string()), Ok(good.to_owned()));
        }
        for (bad, why) in [
            ("http://origin/data", "no {id}"),
            ("{id}", "no URL"),
            ("/data/{id}", "no URL"),
            ("ftp://origin/{id}", "scheme"),
            ("file:///{id}", "scheme"),
            ("{id}://origin/a", "no URL"),
            ("http://{id}/a", "host"),
            ("http://origin{id}.example/a", "host"),
            ("http://origin:80{id}/a", "host"),
            ("http://ann:secret@origin/{id}", "user"),
            ("http://{id}@origin/", "user"),
            ("http://origin/a#{id}", "fragment"),
        ] {
            let refused = bad.parse::<OriginTemplate>().expect_err(bad);
            assert!(refused.contains(why), "{bad}: {refused}");
        }
    }

    #[test]
    fn a_key_fills_one_segment_whatever_it_holds() {
        let template: OriginTemplate = "http://origin/data/{id}?x=1".parse().expect("sound");
        let url = |key| template.url(key).map(|url| url.to_string());
        for (key, path) in [
            ("a", "a"),
            ("a/../b", "a%2F..%2Fb"),
            ("a?b#c", "a%3Fb%23c"),
            ("a b+%", "a%20b%2B%25"),
            ("北\n", "%E5%8C%97%0A"),
            ("@evil.example", "%40evil.example"),
            ("{id}", "%7Bid%7D"),
        ] {
            assert_eq!(url(key), Some(format!("http://origin/data/{path}?x=1")));
        }
        assert_eq!([url("."), url(".."), url(&"\0".repeat(2_000))], [None, None, None]);
        let dotted: OriginTemplate = "http://origin/a/.{id}/b".parse().expect("sound");
        assert_eq!(dotted.url("."), None);
    }

    /// An origin whose next answers are these bodies.
    fn origin_of(bodies: &'static [&'static str]) -> OriginTemplate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let template = format!("http://{}/{{id}}", listener.local_addr().expect("bound")).parse().expect("sound");
        let serve = move || {
            for body in bodies {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut head = [0; 4_096];
                let _ = stream.read(&mut head).expect("a request");
                let length = body.len();
                write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
                    .expect("sent");
            }
        };
        std::thread::Builder::new().spawn(serve).expect("a thread");
        template
    }

    #[tokio::test]
    async fn values_on_their_way_take_no_more_memory_than_they_may() {
        let template = origin_of(&["abc", "de", "fgh"]);
        let client =
            OriginClient::new(template, &ClientTls::default(), Duration::from_secs(60), 100).expect("a client");
        let client = OriginClient { fetched: Budget::new(Resource::FetchedBytes, 4, 4), ..client };
        let first = client.fetch("1").await.expect("three bytes are there");
        assert_eq!(client.fetch("2").await.expect_err("one byte is left"), OriginError::Busy);
        drop(first);
        assert_eq!(client.fetch("3").await.expect("it was given back").bytes, "fgh");
    }
}
