//! Counts the connections of each client address, so that one client cannot take them all.
//!
//! An IPv6 client is counted by its /64, which is what one subscriber has; by single addresses it would have as many as
//! it likes.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// The part of the connections that one address may have if nobody says a number: one in so many.
const SHARE: usize = 4;

/// The open connections by address. There are at most as many entries as connections.
#[derive(Debug)]
pub(super) struct ConnectionLimits {
    open: Mutex<HashMap<IpAddr, usize>>,
    limit: usize,
    bounds_loopback: bool,
}

/// One connection of an address, given back when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    addresses: Arc<ConnectionLimits>,
    /// `None`: not counted.
    client: Option<IpAddr>,
}

impl ConnectionLimits {
    /// `limit` holds for every address. Without one it is a part of `max_connections`, and none for loopback: what
    /// comes from there are often all the clients of a proxy.
    pub(super) fn new(limit: Option<usize>, max_connections: usize) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            limit: limit.unwrap_or((max_connections / SHARE).max(1)),
            bounds_loopback: limit.is_some(),
        })
    }

    /// Counts a connection from an address in; `None` if it has as many as it may.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPermit> {
        let client = client_of(address);
        if client.is_loopback() && !self.bounds_loopback {
            return Some(ConnectionPermit { addresses: Arc::clone(self), client: None });
        }
        let mut open = self.open.lock();
        let connections = open.entry(client).or_insert(0);
        if *connections >= self.limit {
            return None; // the entry was there: no limit is 0
        }
        *connections += 1;
        Some(ConnectionPermit { addresses: Arc::clone(self), client: Some(client) })
    }

    /// Connections that one address may have.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Some(client) = self.client else { return };
        let mut open = self.addresses.open.lock();
        if let Some(connections) = open.get_mut(&client) {
            *connections -= 1;
            if *connections == 0 {
                open.remove(&client);
            }
        }
    }
}

/// Maps an address to the client that is counted: an IPv4 address, also one written as IPv6, or the /64 of an IPv6
/// address.
fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) if six == Ipv6Addr::LOCALHOST => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) => IpAddr::V4(four),
            None => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_so_many_and_gets_each_back() {
        let addresses = ConnectionLimits::new(Some(2), 100);
        let admit = |text: &str| addresses.admit(address(text));
        let first = admit("10.0.0.1");
        let second = admit("10.0.0.1");
        assert!(first.is_some() && second.is_some());
        assert!(admit("10.0.0.1").is_none() && admit("::ffff:10.0.0.1").is_none());
        let other = admit("10.0.0.2");
        assert!(other.is_some());
        drop(first);
        let third = admit("10.0.0.1");
        assert!(third.is_some() && admit("10.0.0.1").is_none());
        drop((second, third, other));
        assert!(addresses.open.lock().is_empty(), "an address without connections costs nothing");
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let addresses = ConnectionLimits::new(Some(1), 100);
        let kept = addresses.admit(address("2001:db8:1:2::1"));
        assert!(kept.is_some());
        assert!(addresses.admit(address("2001:db8:1:2:ffff:ffff:ffff:ffff")).is_none());
        assert!(addresses.admit(address("2001:db8:1:3::1")).is_some());
    }

    #[test]
    fn unless_a_number_is_said_it_is_a_quarter_and_loopback_is_free() {
        let addresses = ConnectionLimits::new(None, 8);
        assert_eq!((addresses.limit(), ConnectionLimits::new(None, 1).limit()), (2, 1));
        let held: Vec<_> = (0..9).map(|_| addresses.admit(address("127.0.0.1"))).collect();
        assert!(held.iter().all(Option::is_some) && addresses.open.lock().is_empty());
        let six: Vec<_> = (0..9).map(|_| addresses.admit(address("::1"))).collect();
        assert!(six.iter().all(Option::is_some));
        let far: Vec<_> = (0..9).filter_map(|_| addresses.admit(address("10.0.0.1"))).collect();
        assert_eq!(far.len(), 2);
        let said = ConnectionLimits::new(Some(1), 8);
        let held = said.admit(address("127.0.0.1"));
        assert!(held.is_some() && said.admit(address("::1")).is_none(), "a number holds for loopback too");
    }
}
