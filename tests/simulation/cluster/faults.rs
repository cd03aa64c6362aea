//! What goes wrong: ends of processes and machines, disks, lines, pauses, clocks.

use super::{
    network::{PLACES, Place, Way},
    simulation::Cluster,
};
use crate::disk::Fault;

impl Cluster {
    /// A replica's place, or any if there is no other.
    fn some_seat(&mut self) -> Place {
        let seats: Vec<Place> = (0..PLACES).filter(|&at| !self.is_the_leaders(at)).collect();
        if seats.is_empty() { 0 } else { *self.random.pick(&seats) }
    }

    /// Whether a leader runs there, or is to begin there.
    pub fn is_the_leaders(&self, at: Place) -> bool {
        let node = &self.nodes[at];
        node.leading().is_some() || !node.runs() && node.is_to_lead
    }

    fn some_leader(&mut self) -> Option<Place> {
        let leaders = self.leaders();
        if leaders.is_empty() { None } else { Some(*self.random.pick(&leaders)) }
    }

    pub fn fault(&mut self) -> Result<(), String> {
        let (seat, leader) = (self.some_seat(), self.some_leader());
        match (self.random.below(100), leader) {
            (0..8, Some(leader)) => self.goes_down(leader),
            (0..8, None) => {}
            (8..18, _) => self.goes_down(seat),
            (18..28, _) => {
                self.goes_down(seat);
                self.start(seat)?; // whoever watches over it is quick: its leader may not have noticed
                self.check_after_crash()?;
            }
            (28..34, leader) => {
                let fault = if self.random.percent(80) { Fault::CrashIn(self.random.below(12)) } else { Fault::Sync };
                self.arm(leader.unwrap_or(0), fault);
            }
            (34..46, _) if self.nodes[seat].keeps_files => {
                let fault = match self.random.below(10) {
                    0 => Fault::Sync,
                    1 => Fault::Append,
                    2 => Fault::Full(self.random.between(1, 4)),
                    _ => Fault::CrashIn(self.random.below(12)),
                };
                self.arm(seat, fault);
            }
            (34..66, leader) => self.line_is_cut(seat, leader.unwrap_or(0)),
            (66..84, _) => {
                self.network.mend();
                self.note(format_args!("all lines are whole"));
            }
            (84..92, _) => {
                let until_ms = self.now_ms + *self.random.pick(&[100, 1_500, 5_000]);
                let at = self.random.below(PLACES);
                self.nodes[at].paused_until_ms = until_ms;
                self.note(format_args!("node {at} pauses until {until_ms}"));
                self.tally("pauses");
            }
            _ => self.clock_is_off(),
        }
        Ok(())
    }

    /// Somebody decides that another is to lead; perhaps by mistake.
    pub fn somebody_promotes(&mut self) {
        let at = self.random.below(PLACES);
        let forced = self.random.percent(self.settings.forced);
        if self.is_awake(at) {
            self.promote(at, forced);
        }
    }

    fn arm(&mut self, at: Place, fault: Fault) {
        self.note(format_args!("armed on node {at}: {fault:?}"));
        self.nodes[at].machine.lock().arm(fault);
    }

    fn line_is_cut(&mut self, seat: Place, leader: Place) {
        let way = Way { from: leader, to: seat };
        match self.random.below(8) {
            0 | 1 => self.network.cut(way),
            2 | 3 => self.network.cut(way.back()),
            4 | 5 => {
                self.network.cut(way);
                self.network.cut(way.back());
            }
            6 => {
                let other = (seat + self.random.between(1, PLACES - 1)) % PLACES;
                self.network.part(&[seat, other]);
                self.note(format_args!("{seat} and {other} are parted from the others"));
            }
            _ => self.network.part(&[seat]),
        }
        self.note(format_args!("a line between {leader} and {seat} is cut"));
        self.tally("lines cut");
    }

    fn clock_is_off(&mut self) {
        const HOUR_MS: i64 = 3_600_000;
        const YEAR_MS: i64 = 365 * 24 * HOUR_MS;
        let at = self.random.below(PLACES);
        let off_ms = *self.random.pick(&[0, 0, 200, -200, 30_000, -900_000, HOUR_MS, -HOUR_MS, 10 * YEAR_MS, -YEAR_MS]);
        self.nodes[at].clock_ms = off_ms;
        self.note(format_args!("wall clock {at} is off by {off_ms} ms"));
        self.tally(match off_ms {
            0 => "clocks put right",
            _ if off_ms.abs() >= HOUR_MS => "clocks wrong by hours or years",
            _ => "clocks wrong by less",
        });
    }
}
