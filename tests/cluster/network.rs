//! A network that delays, loses, doubles and reorders, and that parts in one direction or both.

use crate::random::Random;

/// A replica, by its place.
pub type Seat = usize;
pub const SEATS: usize = 3;

/// What is on its way.
#[derive(Clone, Debug)]
pub enum Packet {
    /// Leader to replica: the number of the exchange, and the offer.
    Offer(u64, Vec<u8>),
    /// Replica to leader: the number of the exchange, and the answer.
    Answer(u64, Vec<u8>),
    /// Replica to leader: it is there.
    Announce,
}

impl Packet {
    pub fn is_for_the_leader(&self) -> bool {
        !matches!(self, Packet::Offer(..))
    }
}

/// A direction of one replica's line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub from_leader_cut: bool,
    pub to_leader_cut: bool,
}

impl Line {
    /// Whether a question gets there and its answer back.
    pub fn is_whole(self) -> bool {
        self == Line::default()
    }
}

pub struct Network {
    random: Random,
    /// Of a hundred packets.
    pub lost: usize,
    pub doubled: usize,
    pub late: usize,
    pub lines: [Line; SEATS],
    /// When each arrives, the replica at the other end, and what.
    packets: Vec<(u64, Seat, Packet)>,
}

impl Network {
    pub fn new(mut random: Random) -> Self {
        let (lost, doubled, late) =
            (*random.pick(&[0, 1, 5, 15]), *random.pick(&[0, 3, 15]), *random.pick(&[0, 3, 15]));
        Self { random, lost, doubled, late, lines: Default::default(), packets: Vec::new() }
    }

    pub fn send(&mut self, seat: Seat, packet: Packet, now_ms: u64) {
        let line = self.lines[seat];
        let cut = if packet.is_for_the_leader() { line.to_leader_cut } else { line.from_leader_cut };
        if cut || self.random.percent(self.lost) {
            return;
        }
        let copies = if self.random.percent(self.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let late = self.random.percent(self.late);
            let delay_ms = if late { self.random.between(50, 3_000) } else { self.random.below(4) };
            self.packets.push((now_ms + delay_ms as u64, seat, packet.clone()));
        }
    }

    /// Some packet that has arrived, of those for which `ready` says yes.
    pub fn arrived(&mut self, now_ms: u64, ready: impl Fn(Seat, &Packet) -> bool) -> Option<(Seat, Packet)> {
        let due: Vec<usize> = (0..self.packets.len())
            .filter(|&at| self.packets[at].0 <= now_ms && ready(self.packets[at].1, &self.packets[at].2))
            .collect();
        if due.is_empty() {
            return None;
        }
        let (_, seat, packet) = self.packets.swap_remove(*self.random.pick(&due));
        Some((seat, packet))
    }

    /// No more faults; what is under way still arrives.
    pub fn heal(&mut self) {
        (self.lost, self.doubled, self.late, self.lines) = (0, 0, 0, Default::default());
    }
}
