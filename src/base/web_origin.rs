//! Hosts and origins as HTTP names them, in one spelling, so that they can be compared.

use std::{fmt, net::Ipv4Addr, net::Ipv6Addr, str::FromStr};

/// The origin of a page: scheme, host and port, spelled as browsers spell it (lower case, no default port).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin(String);

/// Origins whose pages may read what a node answers, and write, beside the node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Pages of these origins.
    These(Vec<WebOrigin>),
    /// Pages of every origin, also of those that have none (`WebOrigin: null`).
    Every,
}

impl CorsOrigins {
    /// Returns whether pages of `origin` are allowed; `None` is an opaque origin.
    pub fn allow(&self, origin: Option<&WebOrigin>) -> bool {
        match self {
            CorsOrigins::These(list) => origin.is_some_and(|origin| list.contains(origin)),
            CorsOrigins::Every => true,
        }
    }
}

impl WebOrigin {
    /// The origin of what is asked for by this scheme at this host, as a `Host` header or `:authority` names it.
    pub fn of(scheme: &str, authority: &str) -> Option<Self> {
        let (host, port) = split(authority)?;
        let scheme = scheme.to_ascii_lowercase();
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => format!("[{}]", address.parse::<Ipv6Addr>().ok()?),
            None => host.to_ascii_lowercase(),
        };
        let default = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Some(WebOrigin(match port.filter(|port| Some(*port) != default) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }))
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WebOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (scheme, authority) = text.split_once("://")?;
            let mut letters = scheme.bytes();
            let sound = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
                && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
            if sound { Self::of(scheme, authority) } else { None }
        };
        parsed().ok_or_else(|| "give SCHEME://HOST or SCHEME://HOST:PORT without a path".to_owned())
    }
}

/// Host and port of `host`, `host:port` or `[address]:port`; `None` if it is none of them.
pub fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_bytes = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, _) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            address.len() + 2
        }
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_bytes);
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if host.is_empty() || !(host.starts_with('[') || host.bytes().all(named)) {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        None => None,
        Some("") => Some((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some((host, Some(digits.parse().ok()?))),
        Some(_) => None,
    }
}

/// Returns whether a host, without its port, is this machine by its own name or any machine by its address: names that
/// nobody else's name server can give a meaning.
pub fn is_address_or_localhost(host: &str) -> bool {
    host.starts_with('[') || host.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_equal_however_they_are_spelled() {
        for (text, expected) in [
            ("http://Example.org", "http://example.org"),
            ("HTTP://example.org:80", "http://example.org"),
            ("https://example.org:443", "https://example.org"),
            ("https://example.org:80", "https://example.org:80"),
            ("http://[::0001]:8080", "http://[::1]:8080"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(text.parse::<WebOrigin>().map(|origin| origin.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for (host, expected) in [("localhost:8080", "http://localhost:8080"), ("A:80", "http://a"), ("a:", "http://a")]
        {
            assert_eq!(
                WebOrigin::of("http", host).map(|origin| origin.to_string()).as_deref(),
                Some(expected),
                "{host}"
            );
        }
    }

    #[test]
    fn a_wrong_origin_is_refused() {
        for text in [
            "",
            "null",
            "example.org",
            "http://",
            "http://a/",
            "http://a?x",
            "http://a#x",
            "http://user@a",
            "http://a:b",
            "http://a:65536",
            "http://a:+1",
            "http://[::1",
            "http://[::g]",
            "http://[::1]x",
            "http://ä",
            "1http://a",
            "://a",
            "http://a b",
            "http://a,http://b",
        ] {
            assert!(text.parse::<WebOrigin>().is_err_and(|why| why.contains("SCHEME://HOST")), "{text}");
        }
    }

    #[test]
    fn hosts_that_no_name_server_decides_are_told_from_names() {
        for host in ["localhost", "LocalHost", "127.0.0.1", "10.1.2.3", "[::1]", "[fe80::1]"] {
            assert!(is_address_or_localhost(host), "{host}");
        }
        for host in ["example.org", "localhost.example.org", "127.0.0.1.example.org", "127.1", "0x7f.0.0.1", "a"] {
            assert!(!is_address_or_localhost(host), "{host}");
        }
    }
}
