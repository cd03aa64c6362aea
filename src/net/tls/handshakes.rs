//! Bounds the handshakes under way.
//!
//! A handshake takes an honest client milliseconds, and costs somebody who leaves it half done nothing. So the bound
//! refuses nobody: where it is reached, the handshake that has waited longest gives way to the new one.

use crate::net::address_limits::Usage;
use parking_lot::Mutex;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use tokio::sync::Notify;

/// The handshakes under way, of all threads.
#[derive(Debug)]
pub struct HandshakeSlots {
    slots: Mutex<OpenHandshakes>,
    bound: usize,
    /// The most that one address may have.
    share: usize,
}

/// The handshakes under way, the oldest first.
#[derive(Debug, Default)]
struct OpenHandshakes {
    next: u64,
    /// Each with the address that it is counted for, if that has a share, and a way to end it.
    open: BTreeMap<u64, (Option<IpAddr>, Arc<Notify>)>,
}

impl HandshakeSlots {
    /// One address may have `share` of `bound`.
    pub fn new(bound: usize, share: usize) -> Arc<Self> {
        Arc::new(Self { slots: Mutex::default(), bound, share })
    }

    /// Begins a handshake of a client at this address. The oldest one of that address gives way if there are more than
    /// its share, and the oldest of all if there are more than the bound.
    pub(super) fn begin(self: &Arc<Self>, usage: &Usage) -> HandshakeSlot {
        let (address, gives_way) = (usage.address(), Arc::new(Notify::new()));
        let mut slots = self.slots.lock();
        let id = slots.next;
        slots.next += 1;
        let of_address = |(of, _): &&(Option<IpAddr>, _)| address.is_some() && *of == address;
        let oldest = if slots.open.values().filter(of_address).count() >= self.share {
            slots.open.iter().find(|(_, slot)| of_address(slot)).map(|(id, _)| *id)
        } else if slots.open.len() >= self.bound {
            slots.open.first_key_value().map(|(id, _)| *id)
        } else {
            None
        };
        if let Some((_, ended)) = oldest.and_then(|id| slots.open.remove(&id)) {
            ended.notify_one();
        }
        slots.open.insert(id, (address, Arc::clone(&gives_way)));
        HandshakeSlot { id, gives_way, slots: Arc::clone(self) }
    }
}

/// A handshake under way, until dropped.
#[derive(Debug)]
pub(super) struct HandshakeSlot {
    id: u64,
    gives_way: Arc<Notify>,
    slots: Arc<HandshakeSlots>,
}

impl HandshakeSlot {
    /// Ends once the handshake has to give way to another.
    pub(super) async fn gives_way(&self) {
        self.gives_way.notified().await;
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        self.slots.slots.lock().open.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address_limits::tests::halves;
    use futures::FutureExt;

    #[test]
    fn beyond_the_bound_the_oldest_handshake_gives_way() {
        let slots = HandshakeSlots::new(2, 2);
        let anybody = Usage::default();
        let (first, second) = (slots.begin(&anybody), slots.begin(&anybody));
        assert!(first.gives_way().now_or_never().is_none());
        let third = slots.begin(&anybody);
        assert!(first.gives_way().now_or_never().is_some());
        drop(third);
        let _fourth = slots.begin(&anybody);
        assert!(second.gives_way().now_or_never().is_none(), "a handshake that has ended makes room");
    }

    #[test]
    fn an_address_beyond_its_share_ends_its_own_oldest_handshake_and_nobody_else_s() {
        let (slots, addresses) = (HandshakeSlots::new(8, 1), halves());
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|text| addresses.usage(text.parse().expect("an address")));
        let (of_other, first) = (slots.begin(&other), slots.begin(&one));
        let second = slots.begin(&one);
        assert!(first.gives_way().now_or_never().is_some());
        assert!(second.gives_way().now_or_never().is_none() && of_other.gives_way().now_or_never().is_none());
    }
}
