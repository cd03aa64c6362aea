//! Each client address's part of the budgets that all clients share, so that one of them cannot take all.
//!
//! Of every budget (`budget.rs`) one address may have a share. Where clients wait for their turn instead of being
//! refused, one address has so many in the line, and those of the others come in between. All connections of an address
//! have one [`AddressUsage`]; each gets it when it is accepted and hands it along, so that nobody looks it up again.
//!
//! An IPv6 client is counted by its /64, which is what one subscriber has; by single addresses it would have as many as
//! it likes. One that comes through NAT64 is counted by the IPv4 address in it: all of those share one /64.

use crate::engine::leader::{QueueLimits, QueueShare, QueueUsage};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Semaphore;

/// The part of the connections that one address may have if nobody says a number: one in so many.
const CONNECTION_SHARE: usize = 4;
/// The least that one address may have of every other budget: one in so many, so that it never has all of it.
const LEAST_SHARE: usize = 2;

/// The part of each budget that one address may have.
#[derive(Clone, Copy, Debug)]
pub struct AddressShares {
    connections: usize,
    max_connections: usize,
    /// Whether loopback is one address among others.
    pub bounds_loopback: bool,
}

impl AddressShares {
    /// Without a number of connections, an address may have a part of them, and loopback is not bounded: what comes
    /// from there are often all the clients of a proxy.
    pub fn new(connections: Option<usize>, max_connections: usize) -> Self {
        Self {
            connections: connections.unwrap_or((max_connections / CONNECTION_SHARE).max(1)),
            max_connections,
            bounds_loopback: connections.is_some(),
        }
    }

    /// Whether one address may have all there is.
    fn are_lifted(self) -> bool {
        self.connections >= self.max_connections
    }

    /// Connections that one address may have.
    pub fn connections(self) -> usize {
        self.connections
    }

    /// The share of another budget: half of it, or as large a part as of the connections if that is more.
    pub fn of(self, bound: usize) -> usize {
        let Self { connections, max_connections, .. } = self;
        if connections >= max_connections {
            return bound;
        }
        if connections <= max_connections / LEAST_SHARE {
            return (bound / LEAST_SHARE).max(1);
        }
        let part = bound as u128 * connections as u128 / max_connections as u128;
        usize::try_from(part).unwrap_or(bound).max(bound / LEAST_SHARE).max(1)
    }

    /// The share of the Writer's queue, beside bulk bodies, which have half of its bytes to themselves.
    pub fn of_queue(self, QueueLimits { batches, bytes }: QueueLimits) -> QueueLimits {
        let bytes = if self.of(bytes) == bytes { bytes } else { self.of(bytes / 2) };
        QueueLimits { batches: self.of(batches), bytes }
    }
}

/// A budget of which each address has a share.
#[derive(Clone, Copy, Debug)]
pub enum Resource {
    /// Connections.
    Connections,
    /// Bytes of request bodies.
    UploadBytes,
    /// Bytes of bodies that other nodes send.
    OfferBytes,
    /// Reads that wait for a position.
    WaitingReads,
    /// Answers in pieces that are encoded.
    EncodedAnswers,
    /// Bytes of long rankings that clients have not taken yet.
    RankingBytes,
    /// Streams of events.
    Watchers,
    /// Reads through to an origin.
    OriginReads,
    /// Bytes of values on their way from an origin.
    FetchedBytes,
}

const RESOURCES: usize = Resource::FetchedBytes as usize + 1;

/// A line in which clients wait for their turn.
#[derive(Clone, Copy, Debug)]
pub enum Line {
    /// Blocks of bulk bodies, which are counted a few at a time.
    BulkBlocks,
    /// Long texts, which are counted beside the serving threads.
    LongTexts,
    /// Writes that a follower passes on.
    ForwardedWrites,
    /// Reads through to an origin that a follower passes on.
    OriginReads,
}

const LINES: usize = Line::OriginReads as usize + 1;

/// Places in each line for one address: alone it loses nothing by them, and another waits for no more than these.
#[derive(Clone, Copy, Debug)]
pub struct LineLimits {
    /// Places for blocks of bulk bodies.
    pub bulk_blocks: usize,
    /// Places for long texts.
    pub long_texts: usize,
    /// Places for forwarded writes.
    pub forwarded_writes: usize,
    /// Places for reads through to an origin that are passed on.
    pub origin_reads: usize,
}

/// The addresses that hold something. There are at most as many as connections, and as blocks and long texts that are
/// counted though their connection has gone.
#[derive(Debug)]
pub struct AddressLimits {
    entries: Mutex<HashMap<IpAddr, Weak<AddressUsage>>>,
    lines: LineLimits,
    shares: AddressShares,
}

impl AddressLimits {
    /// Nobody holds anything.
    pub fn new(shares: AddressShares, lines: LineLimits) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::default(), lines, shares })
    }

    /// The usage of this address.
    pub fn usage(self: &Arc<Self>, address: IpAddr) -> Usage {
        let address = client_of(address);
        // An address that may have everything needs no count, and no line to wait in either.
        if address.is_loopback() && !self.shares.bounds_loopback || self.shares.are_lifted() {
            return Usage::default();
        }
        let mut entries = self.entries.lock();
        // Nothing of an entry is dropped here, under the lock that its drop takes.
        let usage = entries.get(&address).and_then(Weak::upgrade).unwrap_or_else(|| {
            let usage = Arc::new(AddressUsage::new(address, Arc::clone(self)));
            entries.insert(address, Arc::downgrade(&usage));
            usage
        });
        Usage(Some(usage))
    }
}

/// The amounts that one address holds. It lives as long as anything of the address does.
#[derive(Debug)]
struct AddressUsage {
    address: IpAddr,
    addresses: Arc<AddressLimits>,
    held: [AtomicUsize; RESOURCES],
    lines: [Semaphore; LINES],
    queue: QueueUsage,
}

impl AddressUsage {
    fn new(address: IpAddr, addresses: Arc<AddressLimits>) -> Self {
        let LineLimits { bulk_blocks, long_texts, forwarded_writes, origin_reads } = addresses.lines;
        Self {
            address,
            held: Default::default(),
            lines: [bulk_blocks, long_texts, forwarded_writes, origin_reads].map(Semaphore::new),
            queue: QueueUsage::default(),
            addresses,
        }
    }
}

impl Drop for AddressUsage {
    fn drop(&mut self) {
        let mut entries = self.addresses.entries.lock();
        // A new connection may have made another meanwhile.
        if entries.get(&self.address).is_some_and(|entry| entry.strong_count() == 0) {
            entries.remove(&self.address);
        }
    }
}

/// A handle on the amounts that a client's address holds; nothing is counted where it is not bounded. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Usage(Option<Arc<AddressUsage>>);

impl Usage {
    /// Whether the address has a share of anything.
    pub fn is_bounded(&self) -> bool {
        self.0.is_some()
    }

    /// The address that has a share.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.as_ref().map(|usage| usage.address)
    }

    /// Counts so much more of `resource` in; `false`, and nothing is counted, if the address would hold more than
    /// `share`.
    pub fn take(&self, resource: Resource, amount: usize, share: usize) -> bool {
        let Some(usage) = &self.0 else { return true };
        let held = &usage.held[resource as usize];
        // Counts are all there is to order: nothing else is read by them.
        let fits = held.fetch_add(amount, Ordering::Relaxed).saturating_add(amount) <= share;
        if !fits {
            held.fetch_sub(amount, Ordering::Relaxed);
        }
        fits
    }

    /// The other way round.
    pub fn give_back(&self, resource: Resource, amount: usize) {
        if let Some(usage) = &self.0 {
            usage.held[resource as usize].fetch_sub(amount, Ordering::Relaxed);
        }
    }

    /// Waits until the address may have one more in this line.
    pub async fn turn(&self, line: Line) -> Turn {
        let Some(usage) = &self.0 else { return Turn(None) };
        usage.lines[line as usize].acquire().await.expect("nobody closes it").forget(); // the turn gives it back
        Turn(Some((Arc::clone(usage), line)))
    }

    /// The address's part of a Writer's queue with these bounds.
    pub fn queue(&self, limits: QueueLimits) -> Option<QueueShare<'_>> {
        let usage = self.0.as_deref()?;
        Some(QueueShare { usage: &usage.queue, most: usage.addresses.shares.of_queue(limits) })
    }
}

/// A place of an address in a line, given back when dropped.
#[derive(Debug)]
pub struct Turn(Option<(Arc<AddressUsage>, Line)>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((usage, line)) = &self.0 {
            usage.lines[*line as usize].add_permits(1);
        }
    }
}

/// The 96 bits in front of an IPv4 address that was translated to IPv6: 64:ff9b::/96 (RFC 6052, section 2.1).
const NAT64: u128 = 0x64_ff9b << 64;

/// The address that a client is counted by: an IPv4 address, also one written as IPv6 or translated to it, or the /64
/// of an IPv6 address.
pub fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) if six == Ipv6Addr::LOCALHOST => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(six) => match six.to_ipv4_mapped().or_else(|| translated(six)) {
            Some(four) => IpAddr::V4(four),
            None => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
        },
    }
}

/// The IPv4 address of a client behind a NAT64.
fn translated(six: Ipv6Addr) -> Option<Ipv4Addr> {
    let four = Ipv4Addr::from_bits(six.to_bits() as u32);
    // No translator gives a loopback address, which is not bounded.
    (six.to_bits() >> 32 == NAT64 && !four.is_loopback()).then_some(four)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use futures::{FutureExt, poll};
    use std::pin::pin;

    const LINES: LineLimits = LineLimits { bulk_blocks: 2, long_texts: 1, forwarded_writes: 1, origin_reads: 1 };

    /// AddressLimits that have half of everything, loopback too.
    pub(crate) fn halves() -> Arc<AddressLimits> {
        AddressLimits::new(AddressShares::new(Some(1), 2), LINES)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_its_share_and_gets_it_back_and_costs_nothing_once_it_holds_nothing() {
        let addresses = halves();
        let take = |usage: &Usage| usage.take(Resource::UploadBytes, 5, 10);
        let usage = addresses.usage(address("10.0.0.1"));
        assert!(take(&usage) && take(&usage) && !take(&usage));
        assert!(!take(&addresses.usage(address("::ffff:10.0.0.1"))), "the same address, written as IPv6");
        assert!(usage.take(Resource::OfferBytes, 5, 10), "another budget");
        assert!(take(&addresses.usage(address("10.0.0.2"))), "another address");
        usage.give_back(Resource::UploadBytes, 5);
        assert!(take(&usage) && !take(&usage));
        let still_held = usage.clone();
        drop(usage);
        assert!(!take(&addresses.usage(address("10.0.0.1"))), "what is held outlives the connection that took it");
        drop(still_held);
        assert!(addresses.entries.lock().is_empty());
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let addresses = halves();
        let take = |usage: &Usage| usage.take(Resource::Connections, 1, 1);
        let kept = addresses.usage(address("2001:db8:1:2::1"));
        assert!(take(&kept));
        assert!(!take(&addresses.usage(address("2001:db8:1:2:ffff:ffff:ffff:ffff"))));
        assert!(take(&addresses.usage(address("2001:db8:1:3::1"))));
    }

    #[test]
    fn a_client_behind_a_nat64_is_its_ipv4_address() {
        let addresses = halves();
        let take = |usage: &Usage| usage.take(Resource::Connections, 1, 1);
        let kept = addresses.usage(address("64:ff9b::192.0.2.1"));
        assert!(take(&kept));
        assert!(!take(&addresses.usage(address("192.0.2.1"))), "the same client without it");
        assert!(take(&addresses.usage(address("64:ff9b::192.0.2.2"))), "another client behind the same one");
        assert_eq!(client_of(address("64:ff9b:1::192.0.2.1")), address("64:ff9b:1::"), "another prefix");
        assert_eq!(client_of(address("64:ff9b::127.0.0.1")), address("64:ff9b::"), "no loopback from outside");
    }

    #[test]
    fn unless_a_number_is_said_it_is_a_quarter_of_the_connections_half_of_the_rest_and_loopback_is_free() {
        let shares = AddressShares::new(None, 8);
        assert_eq!((shares.connections(), AddressShares::new(None, 1).connections()), (2, 1));
        assert_eq!((shares.of(100), shares.of(1)), (50, 1));
        let addresses = AddressLimits::new(shares, LINES);
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            let usage = addresses.usage(address(loopback));
            assert!(
                !usage.is_bounded()
                    && usage.queue(QueueLimits::default()).is_none()
                    && usage.take(Resource::Connections, 9, 1)
            );
        }
        assert!(addresses.usage(address("10.0.0.1")).is_bounded());
        let said = AddressLimits::new(AddressShares::new(Some(1), 8), LINES);
        let held = said.usage(address("127.0.0.1"));
        assert!(held.take(Resource::Connections, 1, 1), "a number holds for loopback too");
        assert!(!said.usage(address("::1")).take(Resource::Connections, 1, 1));
    }

    #[test]
    fn a_number_of_connections_beyond_half_is_the_part_of_everything() {
        let of = |connections| {
            let shares = AddressShares::new(Some(connections), 1_000);
            let queue = shares.of_queue(QueueLimits { batches: 100, bytes: 200 });
            (shares.of(100), queue.batches, queue.bytes)
        };
        assert_eq!((of(1), of(500), of(700)), ((50, 50, 50), (50, 50, 50), (70, 70, 70)));
        assert_eq!((of(1_000), of(1_000_000)), ((100, 100, 200), (100, 100, 200)));
    }

    #[tokio::test]
    async fn an_address_has_so_many_in_a_line_and_another_is_not_behind_the_rest() {
        let addresses = halves();
        let (one, other) = (addresses.usage(address("10.0.0.1")), addresses.usage(address("10.0.0.2")));
        let turns = [one.turn(Line::BulkBlocks).await, one.turn(Line::BulkBlocks).await];
        let mut third = pin!(one.turn(Line::BulkBlocks));
        assert!(poll!(&mut third).is_pending());
        assert!(other.turn(Line::BulkBlocks).now_or_never().is_some());
        drop(turns);
        assert!(poll!(&mut third).is_ready());
        assert!(Usage::default().turn(Line::LongTexts).now_or_never().is_some());
    }
}
