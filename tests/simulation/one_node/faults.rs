//! What goes wrong in a history, and when: crashes, faults of the disk, of the clock, and of whoever looks after them.

use super::simulation::Simulation;
use crate::{
    checker::Truth,
    disk::{Fault, Survives},
};
use memdb::storage::file_header::DatabaseIdentity;
use std::collections::BTreeMap;
use testkit::Random;

/// Of a thousand steps, so many end the process or set the clock, however few other faults there are.
const CRASHES: usize = 22;
const CLOCKS: usize = 6;
const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// A copy of the directory, and what was true when it was made.
pub struct Copied {
    files: BTreeMap<String, Vec<u8>>,
    truth: Truth,
    database: Option<DatabaseIdentity>,
}

impl Simulation {
    /// How many of a thousand steps meet a fault.
    pub fn faults_of_a_thousand_steps(&self) -> usize {
        CRASHES + CLOCKS + self.settings.faults
    }

    /// What it is, is drawn from `random` alone.
    pub fn meet_a_fault(&mut self, mut random: Random) {
        let number = self.faults.number;
        self.history.note(format_args!("fault {number}:"));
        match random.below(self.faults_of_a_thousand_steps()) {
            ..CRASHES => self.goes_down(random),
            at if at < CRASHES + CLOCKS => self.set_the_clock(&mut random),
            _ => self.arm_a_fault(&mut random),
        }
    }

    fn set_the_clock(&mut self, random: &mut Random) {
        let (years_ms, hours_ms) = (random.between(1, 20) as i64 * YEAR_MS, random.between(1, 30) as i64 * HOUR_MS);
        let (what, by_ms) = match random.below(6) {
            0 => ("fault: clock put on by years", years_ms),
            1 => ("fault: clock put back by years", -years_ms),
            2 => ("fault: clock put on by hours", hours_ms),
            // Less than a start believes.
            3 => ("fault: clock put on by minutes", random.below(400_000) as i64),
            4 => ("fault: clock put back a little", -(random.below(400) as i64)),
            _ => ("fault: clock put right", -self.clock.0),
        };
        self.clock.0 += by_ms;
        self.history.note(format_args!("the clock is off by {} ms", self.clock.0));
        self.tally(what);
    }

    fn arm_a_fault(&mut self, random: &mut Random) {
        let fault = match random.below(100) {
            _ if self.settings.misplaces && random.percent(25) => Fault::Misplaced,
            0..30 => Fault::CrashIn(random.below(12)),
            30..48 => Fault::CrashInRename(random.below(3)),
            48..58 => Fault::Sync,
            58..63 => Fault::SyncDirectory,
            63..76 => Fault::Append,
            76..81 => Fault::Truncate,
            81..90 => Fault::Full(random.between(1, 6)),
            90..94 => return self.fill_the_disk(random),
            _ => Fault::Read,
        };
        self.history.note(format_args!("armed: {fault:?}"));
        self.machine.lock().arm(fault);
    }

    /// There is no room for long; then there is again.
    fn fill_the_disk(&mut self, random: &mut Random) {
        let until_ms = self.now_ms + random.between(500, 5_000) as u64;
        self.room_again_ms = Some(until_ms);
        self.machine.lock().has_no_room = true;
        self.history.note(format_args!("the disk is full until {until_ms}"));
        self.tally("fault: disk full for long");
    }

    /// The process ends, and perhaps the machine with it.
    pub fn goes_down(&mut self, mut random: Random) {
        let was_up = self.node.is_some();
        self.process_ended();
        let survives = [Survives::Nothing, Survives::Everything, Survives::Anything, Survives::Anything];
        let mut machine = self.machine.lock();
        let power = random.percent(55);
        if power {
            let survives = *random.pick(&survives);
            let lacks = machine.lose_power(survives);
            self.truth.misfortunes.power_lost = true;
            self.truth.misfortunes.page_lost |= lacks;
            self.history
                .note(format_args!("power lost: survives {survives:?}{}", if lacks { ", pages are lost" } else { "" }));
        } else {
            machine.kill();
            self.history.note(format_args!("killed"));
        }
        let mut flipped = None;
        if random.percent(40) && self.settings.flips && self.database.is_some() {
            flipped = machine.flip_a_bit();
            self.truth.misfortunes.bit_flipped |= flipped.is_some();
            self.history.note(format_args!("flipped: {flipped:?}"));
        }
        drop(machine);
        if flipped.is_some() {
            self.tally("fault: bit flipped");
        }
        if was_up {
            self.tally(if power { "fault: power loss" } else { "fault: kill" });
        }
        if self.settings.replaces {
            self.replace_the_disk(&mut random);
        }
    }

    /// Somebody makes a copy of the directory while the process is down, puts one back, or a new disk in.
    fn replace_the_disk(&mut self, random: &mut Random) {
        let window = self.settings.window;
        match random.below(10) {
            0..4 => {
                let files = self.machine.lock().copy();
                self.copied = Some(Copied { files, truth: self.truth.clone(), database: self.database });
                self.history.note(format_args!("the directory was copied"));
            }
            4 | 5 => {
                let Some(Copied { files, truth, database }) = &self.copied else { return };
                self.machine.lock().replace_by(files);
                (self.truth, self.database) = (truth.clone(), *database);
                self.history.note(format_args!("the copy of the directory was put back"));
                self.tally("fault: old copy of the directory put back");
            }
            6 => {
                self.machine.lock().replace_by(&BTreeMap::new());
                (self.truth, self.database, self.was_emptied) = (Truth::new(window), None, true);
                self.history.note(format_args!("the directory was emptied"));
                self.tally("fault: directory emptied");
            }
            _ => {}
        }
    }
}
