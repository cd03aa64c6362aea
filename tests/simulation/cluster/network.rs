//! A network that delays, loses, doubles and reorders, and that parts in one direction or both.

use testkit::Random;

/// A machine, by its number.
pub type Place = usize;
pub const PLACES: usize = 4;

/// What is on its way.
#[derive(Clone, Debug)]
pub enum Packet {
    /// Leader to replica: the number of the exchange, and the offer.
    Offer(u64, Vec<u8>),
    /// Replica to leader: the number of the exchange, and the answer.
    Answer(u64, Vec<u8>),
}

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub from: Place,
    pub to: Place,
}

impl Way {
    pub fn back(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

pub struct Network {
    random: Random,
    /// Of a hundred packets.
    pub lost: usize,
    pub doubled: usize,
    pub late: usize,
    /// Whether nothing gets from one place (the first) to another.
    cut: [[bool; PLACES]; PLACES],
    /// When each arrives, on which way, and what.
    packets: Vec<(u64, Way, Packet)>,
}

impl Network {
    pub fn new(mut random: Random) -> Self {
        let (lost, doubled, late) =
            (*random.pick(&[0, 1, 5, 15]), *random.pick(&[0, 3, 15]), *random.pick(&[0, 5, 20, 35]));
        Self { random, lost, doubled, late, cut: Default::default(), packets: Vec::new() }
    }

    /// Nothing gets through on this way any more; the way back may be open.
    pub fn cut(&mut self, way: Way) {
        self.cut[way.from][way.to] = true;
    }

    /// Nothing gets from these places to the others or back.
    pub fn part(&mut self, group: &[Place]) {
        for from in 0..PLACES {
            for to in 0..PLACES {
                self.cut[from][to] |= group.contains(&from) != group.contains(&to);
            }
        }
    }

    pub fn mend(&mut self) {
        self.cut = Default::default();
    }

    /// Whether a question gets from one to the other, and its answer back.
    pub fn is_whole(&self, one: Place, other: Place) -> bool {
        !self.cut[one][other] && !self.cut[other][one]
    }

    /// Whether a message that is answered at once gets there.
    pub fn gets_through(&mut self, from: Place, to: Place) -> bool {
        !self.cut[from][to] && !self.random.percent(self.lost)
    }

    pub fn send(&mut self, way: Way, packet: &Packet, now_ms: u64) {
        if self.cut[way.from][way.to] || self.random.percent(self.lost) {
            return;
        }
        let copies = if self.random.percent(self.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let late = self.random.percent(self.late);
            let delay_ms = if late { self.random.between(50, 3_000) } else { self.random.below(4) };
            self.packets.push((now_ms + delay_ms as u64, way, packet.clone()));
        }
    }

    /// Some packet that has arrived at one of those who are awake.
    pub fn arrived(&mut self, now_ms: u64, awake: &[bool; PLACES]) -> Option<(Way, Packet)> {
        let is_due = |&(at_ms, way, _): &(u64, Way, Packet)| at_ms <= now_ms && awake[way.to];
        let due: Vec<usize> = (0..self.packets.len()).filter(|&at| is_due(&self.packets[at])).collect();
        if due.is_empty() {
            return None;
        }
        let (_, way, packet) = self.packets.swap_remove(*self.random.pick(&due));
        Some((way, packet))
    }

    /// No more faults; what is under way still arrives.
    pub fn heal(&mut self) {
        (self.lost, self.doubled, self.late) = (0, 0, 0);
        self.mend();
    }
}
