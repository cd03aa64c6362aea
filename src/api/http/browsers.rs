//! Decides which pages in browsers may use a node, and adds the headers of CORS.
//!
//! A browser sends requests for any page that somebody has open, to any address that it reaches: also to a node on
//! loopback. Three rules keep such pages out, and none is in the way of a client that is no browser:
//!
//! - What may change something, and says that another origin's page sends it (`Origin`, `Sec-Fetch-Site`), is
//!   refused, unless the origin is one of `--cors-origin`.
//! - Only pages of these origins are let read answers (CORS). Others have their browsers in the way.
//! - A node on loopback answers only to names that no name server decides: a page whose own name comes to mean
//!   127.0.0.1 is of the same origin as the node, as far as its browser can tell, and could read and write everything
//!   (DNS rebinding).

use crate::{
    api::error::{ApiError, ErrorKind},
    base::web_origin::{self, CorsOrigins, WebOrigin},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use std::borrow::Cow;
use warp::reply::Response;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
/// Methods that pages of `--cors-origin` may use (`Access-Control-Allow-Methods`).
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS: &str = "Authorization, Content-Type, Content-Encoding, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, \
                               Memdb-Min-Position, Memdb-Stream, Memdb-Stream-Seq";
/// Response headers that these pages may read (`Access-Control-Expose-Headers`).
const ANSWER_HEADERS: &str = "Memdb-Position, Memdb-Acks, Memdb-Replayed, Memdb-Lag, Memdb-Next, ETag, Retry-After, \
     RateLimit, RateLimit-Policy, Allow, Accept-Post, X-Response-Time";
/// For so many seconds a browser need not ask again whether it may.
const PREFLIGHT_SECONDS: u32 = 600;
/// Of what a client calls itself, so much is told back.
const TOLD_BYTES: usize = 200;

/// The rules for pages in browsers. By default, pages may read and write where the node is their own origin, whatever
/// name it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserPolicy {
    /// The names the node answers to beside IP addresses and `localhost`; `None`: to every name.
    pub hosts: Option<Vec<String>>,
    /// Origins whose pages may read and write, beside the node's own.
    pub cors: CorsOrigins,
    /// The scheme that the node is reached by: `http`, or `https` if it serves TLS.
    pub scheme: &'static str,
}

impl Default for BrowserPolicy {
    fn default() -> Self {
        Self { hosts: None, cors: CorsOrigins::These(Vec::new()), scheme: "http" }
    }
}

/// The CORS headers of one response.
#[derive(Debug, Default)]
pub(super) struct CorsAnswer {
    allowed: Option<HeaderValue>,
    varies: bool,
}

impl BrowserPolicy {
    /// Returns whether the node answers to a `Host`. No browser leaves it empty.
    pub(super) fn answers_to(&self, host: &[u8]) -> bool {
        let Some(names) = &self.hosts else { return true };
        let host = host.trim_ascii();
        host.is_empty()
            || std::str::from_utf8(host).ok().and_then(web_origin::split).is_some_and(|(host, _)| {
                web_origin::is_address_or_localhost(host) || names.iter().any(|name| name.eq_ignore_ascii_case(host))
            })
    }

    /// Returns whether the node answers to every name, so that nobody need look.
    pub(super) fn answers_to_every_name(&self) -> bool {
        self.hosts.is_none()
    }

    /// Returns whether answers depend on `Origin`, so that caches must know.
    pub(super) fn varies(&self) -> bool {
        matches!(&self.cors, CorsOrigins::These(list) if !list.is_empty())
    }

    /// Gives the CORS headers for the response to a request with these headers.
    pub(super) fn cors(&self, fields: &HeaderMap) -> CorsAnswer {
        let allowed = match (&self.cors, fields.get(header::ORIGIN)) {
            (_, None) => None,
            (CorsOrigins::Every, Some(_)) => Some(HeaderValue::from_static("*")),
            (cors, Some(given)) => cors.allow(origin_of(given).as_ref()).then(|| given.clone()),
        };
        CorsAnswer { allowed, varies: self.varies() }
    }

    /// Refuses what no page may send, and what is sent to a name that is not this node's. Gives the answer to a
    /// question whether a page may (a preflight). `only_reads`: the route changes nothing, whatever its method.
    pub(super) fn admit<B>(&self, request: &Request<B>, only_reads: bool) -> Result<Option<Response>, ApiError> {
        let fields = request.headers();
        let authority = request.uri().authority().map(|authority| authority.as_str());
        let host = fields.get(header::HOST).map(HeaderValue::as_bytes);
        for name in authority.map(str::as_bytes).into_iter().chain(host) {
            if !self.answers_to(name) {
                return Err(host_not_allowed(name));
            }
        }
        let asks = *request.method() == Method::OPTIONS && fields.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let reads = only_reads || matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if reads && !asks {
            return Ok(None);
        }
        let own =
            authority.or_else(|| std::str::from_utf8(host?).ok()).and_then(|host| WebOrigin::of(self.scheme, host));
        let (mut origins, mut all_allowed) = (0, true);
        for given in fields.get_all(header::ORIGIN) {
            origins += 1;
            let origin = origin_of(given);
            let allowed = self.cors.allow(origin.as_ref());
            if !allowed && (origin.is_none() || origin != own) {
                return Err(cross_site(given));
            }
            all_allowed &= allowed;
        }
        if asks && origins > 0 {
            return Ok(all_allowed.then(|| preflight(fields)));
        }
        let mut sites = fields.get_all(SEC_FETCH_SITE).iter();
        let crosses = sites.any(|site| site.as_bytes().trim_ascii().eq_ignore_ascii_case(b"cross-site"));
        let allowed = if origins > 0 { all_allowed } else { self.cors.allow(None) };
        if crosses && !allowed {
            return Err(ApiError::new(
                ErrorKind::CrossSite,
                "a browser says that a page of another site sends this (Sec-Fetch-Site: cross-site); nothing was applied. \
                 Pages of an origin may if the node is started with --cors-origin ORIGIN",
            ));
        }
        Ok(None)
    }
}

impl CorsAnswer {
    /// Says it in the answer.
    pub(super) fn mark(self, response: &mut Response) {
        let fields = response.headers_mut();
        if let Some(allowed) = self.allowed {
            fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            fields.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(ANSWER_HEADERS));
        }
        if self.varies {
            fields.append(header::VARY, HeaderValue::from_static(VARY_BY));
        }
    }
}

/// The value of `Vary` where answers depend on `Origin`.
pub(super) const VARY_BY: &str = "Origin";

fn origin_of(given: &HeaderValue) -> Option<WebOrigin> {
    given.to_str().ok()?.trim().parse().ok()
}

fn preflight(fields: &HeaderMap) -> Response {
    let mut response = Response::new(bytes::Bytes::new().into());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let said = response.headers_mut();
    said.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    said.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
    said.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(PREFLIGHT_SECONDS));
    if fields.get("access-control-request-private-network").is_some_and(|asked| asked == "true") {
        said.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    response
}

fn cross_site(given: &HeaderValue) -> ApiError {
    let (given, origin) = (told(given.as_bytes()), origin_of(given));
    let flag = origin.map_or_else(|| "*".to_owned(), |origin| told(origin.to_string().as_bytes()).into_owned());
    let detail = format!(
        "this comes from a page of another origin, {given}; nothing was applied. Its pages may if the node is started \
         with --cors-origin {flag}"
    );
    ApiError::new(ErrorKind::CrossSite, detail)
}

fn host_not_allowed(name: &[u8]) -> ApiError {
    let host = std::str::from_utf8(name).ok().and_then(web_origin::split).map(|(host, _)| told(host.as_bytes()));
    let detail = format!(
        "this node does not answer to the name {}: ask it by an IP address or as localhost, or start it with \
         --allowed-host {}",
        told(name),
        host.as_deref().unwrap_or("NAME")
    );
    ApiError::new(ErrorKind::HostNotAllowed, detail)
}

fn told(given: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&given[..given.len().min(TOLD_BYTES)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(hosts: Option<&[&str]>, origins: &[&str]) -> BrowserPolicy {
        let hosts = hosts.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let cors = match origins {
            ["*"] => CorsOrigins::Every,
            list => CorsOrigins::These(list.iter().map(|text| text.parse().expect("an origin")).collect()),
        };
        BrowserPolicy { hosts, cors, scheme: "http" }
    }

    /// Whether a request is let through; its refusal otherwise.
    fn admitted(policy: &BrowserPolicy, method: &str, target: &str, fields: &[(&str, &str)]) -> Result<bool, String> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let preflight = policy.admit(&request.body(()).expect("a request"), false);
        preflight
            .map(|answer| answer.is_some())
            .map_err(|problem| String::from_utf8(problem.body()).expect("JSON is UTF-8"))
    }

    #[test]
    fn a_name_that_a_name_server_decides_is_not_answered_to_on_loopback() {
        let policy = policy(Some(&["Leader", "memdb.example"]), &[]);
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080", "leader:9", "MEMDB.example", "", " "] {
            assert_eq!(admitted(&policy, "GET", "/", &[("host", host)]), Ok(false), "{host}");
            assert!(policy.answers_to(host.as_bytes()), "{host}");
        }
        assert_eq!(admitted(&policy, "GET", "/", &[]), Ok(false), "HTTP/1.0 may name none");
        for host in
            ["evil.example", "localhost.evil.example", "localhost.", "127.0.0.1.nip.io:8080", "a@localhost", "x y"]
        {
            let told = admitted(&policy, "GET", "/", &[("host", host)]).expect_err(host);
            assert!(told.contains("host-not-allowed") && told.contains("--allowed-host "), "{told}");
        }
        let both = [("host", "localhost")];
        assert!(admitted(&policy, "GET", "http://evil.example/", &both).is_err(), "the target has the host too");
        assert!(admitted(&policy, "GET", "http://localhost/", &[("host", "evil.example")]).is_err());
    }

    #[test]
    fn a_changing_request_needs_the_nodes_own_origin() {
        let policy = policy(None, &[]);
        for (host, origin) in [
            ("a:8080", "http://a:8080"),
            ("A:8080", "HTTP://a:8080"),
            ("a", "http://a:80"),
            ("a:80", "http://a"),
            ("[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(
                admitted(&policy, "POST", "/post", &[("host", host), ("origin", origin)]),
                Ok(false),
                "{origin}"
            );
        }
        for origin in
            ["http://b:8080", "https://a:8080", "http://a", "http://a:8081", "null", "", "http://a:8080/", "\u{e4}"]
        {
            for method in ["POST", "DELETE", "PUT", "PATCH", "BREW"] {
                let fields = [("host", "a:8080"), ("origin", origin)];
                let told = admitted(&policy, method, "/post", &fields).expect_err(origin);
                assert!(told.contains("cross-site") && told.contains("--cors-origin "), "{told}");
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert_eq!(admitted(&policy, method, "/sync", &[("host", "a:8080"), ("origin", origin)]), Ok(false));
            }
        }
        let two = [("host", "a"), ("origin", "http://a"), ("origin", "http://b")];
        assert!(admitted(&policy, "POST", "/post", &two).is_err(), "each is looked at");
        assert!(
            admitted(&policy, "POST", "/post", &[("origin", "http://a")]).is_err(),
            "there is no host to be the same"
        );
        let target = "http://a:8080/post"; // as HTTP/2 and clients of proxies have it
        assert_eq!(admitted(&policy, "POST", target, &[("origin", "http://a:8080")]), Ok(false));
        assert!(admitted(&policy, "POST", target, &[("host", "b"), ("origin", "http://b")]).is_err());
    }

    #[test]
    fn a_browser_that_says_cross_site_is_believed() {
        let own = policy(None, &[]);
        for (site, passes) in [("cross-site", false), ("Cross-Site", false), ("same-origin", true), ("none", true)] {
            let fields = [("host", "a"), ("sec-fetch-site", site)];
            assert_eq!(admitted(&own, "POST", "/post", &fields).is_ok(), passes, "{site}");
            assert!(admitted(&own, "GET", "/top", &fields).is_ok(), "{site}");
        }
        let fields = [("host", "a"), ("sec-fetch-site", "cross-site"), ("origin", "http://b")];
        assert!(admitted(&policy(None, &["http://b"]), "POST", "/post", &fields).is_ok());
        assert!(admitted(&policy(None, &["http://b"]), "POST", "/post", &fields[..2]).is_err());
        assert!(admitted(&policy(None, &["*"]), "POST", "/post", &fields[..2]).is_ok());
    }

    #[test]
    fn a_preflight_is_answered_for_the_origins_that_are_named() {
        let policy = policy(None, &["https://app.example"]);
        let asked =
            |origin: &'static str| [("host", "a"), ("origin", origin), ("access-control-request-method", "POST")];
        assert_eq!(admitted(&policy, "OPTIONS", "/post", &asked("https://app.example")), Ok(true));
        assert!(admitted(&policy, "OPTIONS", "/post", &asked("https://other.example")).is_err());
        assert_eq!(admitted(&policy, "OPTIONS", "/post", &asked("http://a")), Ok(false), "its own pages need not ask");
        assert_eq!(admitted(&policy, "OPTIONS", "/post", &asked("https://app.example")[..2]), Ok(false));
    }
}
