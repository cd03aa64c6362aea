//! Addresses of nodes, as people give them to clients and to other nodes.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The port of an address that names none.
const DEFAULT_PORT: u16 = 8080;

/// The address of a node: host and port, and whether it speaks TLS. Shown as `http://HOST:PORT` or
/// `https://HOST:PORT`, which parses to the same address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    scheme: &'static str,
    /// In lower case; an IPv6 address in brackets.
    host: String,
    port: u16,
}

impl NodeAddress {
    /// Returns whether the node speaks TLS.
    pub fn is_protected(&self) -> bool {
        self.scheme == "https"
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// Ends the message of a refused address: forms that are accepted.
const GIVE: &str = "give http://HOST:PORT without a path, or a port of this machine, such as http://127.0.0.1:8080 or \
                    8080; https:// where TLS is spoken";

impl FromStr for NodeAddress {
    type Err = String;

    /// `http://HOST:PORT`, of which `http://` and the port may be left out, or the port alone for this machine; or
    /// `https://HOST:PORT`, of which the port may be left out.
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map_err(|what| format!("{what}: {GIVE}"))
    }
}

fn parse(text: &str) -> Result<NodeAddress, &'static str> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
        Some(_) => return Err("nodes speak HTTP"),
        None => ("http", text),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    match authority.find(['/', '?', '#', '@', '\\']).map(|at| authority.as_bytes()[at]) {
        Some(b'?') => return Err("it has a query"),
        Some(b'#') => return Err("it has a fragment"),
        Some(b'@') => return Err("it names a user"),
        Some(_) => return Err("it has a path"),
        None => {}
    }
    if is_number(authority) {
        if rest.len() < text.len() {
            return Err("a port of this machine stands alone, without a scheme");
        }
        return Ok(NodeAddress { scheme, host: Ipv4Addr::LOCALHOST.to_string(), port: port(authority)? });
    }
    let (host, after) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("its bracket is not closed")?;
            let address: Ipv6Addr = address.parse().map_err(|_| "what is in brackets is no IPv6 address")?;
            (format!("[{address}]"), after)
        }
        None if authority.parse::<Ipv6Addr>().is_ok() => return Err("an IPv6 address goes into brackets"),
        None => {
            let (host, after) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (name(host)?, after)
        }
    };
    let port = match after.strip_prefix(':') {
        Some(digits) => port(digits)?,
        None if after.is_empty() => DEFAULT_PORT,
        None => return Err("a port goes behind a colon"),
    };
    Ok(NodeAddress { scheme, host, port })
}

/// A name or an IPv4 address, in lower case.
fn name(host: &str) -> Result<String, &'static str> {
    if host.is_empty() {
        return Err("it names no host");
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
        return Err("it names no host");
    }
    // A name that ends in a number is read as an address all over the web: 8081 as 0.0.31.145, 127.1 as 127.0.0.1.
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let counts = is_number(last) || last.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case("0x"));
    if counts && host.parse::<Ipv4Addr>().is_err() {
        return Err("it is no whole IPv4 address");
    }
    Ok(host.to_ascii_lowercase())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn port(digits: &str) -> Result<u16, &'static str> {
    let sound = is_number(digits) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| sound).ok_or("a port is a number from 1 to 65535")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_leave_out_what_goes_without_saying() {
        let good = [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://leader-1.example_x:1/", "http://leader-1.example_x:1"),
            ("HTTP://Leader:65535", "http://leader:65535"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("[0:0::1]", "http://[::1]:8080"),
            ("[::1]:81/", "http://[::1]:81"),
            ("8081", "http://127.0.0.1:8081"),
            ("localhost", "http://localhost:8080"),
            ("localhost/", "http://localhost:8080"),
            ("http://leader", "http://leader:8080"),
            ("HTTPS://Leader:8443/", "https://leader:8443"),
            ("https://[::1]", "https://[::1]:8080"),
            ("leader:80", "http://leader:80"),
            ("10.0.0.1", "http://10.0.0.1:8080"),
            ("node-1:8081", "http://node-1:8081"),
            ("1.example", "http://1.example:8080"),
        ];
        for (text, expected) in good {
            let address: NodeAddress = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(address.to_string(), expected, "{text}");
            assert_eq!(expected.parse(), Ok(address), "{text}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused_with_its_reason_and_an_example() {
        let bad = [
            ("", "no host"),
            ("http://", "no host"),
            ("http://8081", "stands alone"),
            ("http://8081/", "stands alone"),
            (":8080", "no host"),
            ("http://:8080", "no host"),
            ("lead er:8080", "no host"),
            ("a:1,b:1", "a port is"),
            ("http://a:1,http://b:1", "a path"),
            ("leader:", "a port is"),
            ("leader:port", "a port is"),
            ("leader:0", "a port is"),
            ("leader:08080", "a port is"),
            ("leader:+80", "a port is"),
            ("leader:65536", "a port is"),
            ("65536", "a port is"),
            ("0", "a port is"),
            ("ftp://leader", "speak HTTP"),
            ("http://leader:8080/post", "a path"),
            ("leader/post?x=1", "a path"),
            ("leader//", "a path"),
            ("leader:8080?x=1", "a query"),
            ("leader:8080/?", "a path"),
            ("leader:8080#x", "a fragment"),
            ("user:word@leader:8080", "a user"),
            ("::1", "brackets"),
            ("[::g]:8080", "no IPv6"),
            ("[::1", "bracket"),
            ("[::1]8080", "colon"),
            ("127.1", "IPv4"),
            ("256.0.0.1:80", "IPv4"),
            ("8081:80", "IPv4"),
            ("0x7f000001", "IPv4"),
            ("leader\u{e9}", "no host"),
        ];
        for (text, reason) in bad {
            let why = text.parse::<NodeAddress>().expect_err(text);
            assert!(why.contains(reason) && why.contains("give http://HOST:PORT without a path"), "{text}: {why}");
        }
    }
}
