//! One history of a cluster: what happens when, clients and readers, faults, and the end; all from one seed.

use crate::{
    bug::Bug,
    checker::shows,
    client::Clients,
    disk::{Fault, Machine, Survives},
    follower::SeatOf,
    history::History,
    leader::Leading,
    network::{Network, Packet, SEATS, Seat},
    random::Random,
    truth::{Id, Truth},
};
use memdb::{
    format::Identity,
    leader::{AckLevel, AdmissionLimits, Receipt, Submission, WriteError, WriterSettings},
    position::{Position, Standing},
    snapshot::SnapshotSettings,
    store::WindowLimits,
    tally::Once,
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

/// How a history is to be.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub steps: usize,
    /// A step takes up to so many milliseconds.
    pub step_ms: usize,
    pub page: usize,
    pub segment_bytes: u64,
    pub feed_bytes: usize,
    pub window: WindowLimits,
    pub writer: WriterSettings,
    /// Whether the leader's settings name the replicas; else they announce themselves.
    pub configured: bool,
    /// Of a thousand steps, so many meet a fault.
    pub faults: usize,
    /// Of a hundred steps of a full sync, so many break it off.
    pub cut_off: usize,
}

impl Settings {
    fn random(random: &mut Random) -> Self {
        let levels = [AckLevel::Leader, AckLevel::Disk, AckLevel::Replica, AckLevel::Replica, AckLevel::ReplicaDisk];
        Self {
            steps: random.between(200, 900),
            step_ms: *random.pick(&[4, 10, 30, 80]),
            page: *random.pick(&[512, 512, 4_096, 64]),
            segment_bytes: random.between(300, 4_000) as u64,
            feed_bytes: *random.pick(&[0, 500, 2_000, 1 << 20]),
            window: WindowLimits {
                keys: 1_000,
                key_age_ms: *random.pick(&[2_000, 20_000, 600_000]),
                streams: 100,
                stream_age_ms: 6_000_000,
            },
            writer: WriterSettings {
                ack: *random.pick(&levels),
                synced: random.percent(15),
                ack_timeout_ms: *random.pick(&[50, 300, 1_000]),
                admission: AdmissionLimits::default(),
                snapshot: SnapshotSettings { interval_ms: *random.pick(&[0, 50, 300, 1_000]) },
            },
            configured: random.percent(50),
            faults: *random.pick(&[0, 20, 50, 120]),
            cut_off: *random.pick(&[0, 2, 20]),
        }
    }
}

/// How often what happened: a simulation that meets nothing shows nothing.
pub type Tallies = BTreeMap<&'static str, usize>;

/// The client's side of one attempt to have a wish counted.
pub struct Attempt {
    pub wish: usize,
    pub level: Option<AckLevel>,
    /// What the answer must be, once the Writer has taken it; `None` then: no more than a refusal, or not known.
    pub expected: Option<Result<Receipt, WriteError>>,
    pub since_ms: u64,
    /// Whether there was a moment since it was written at which no replica was connected: any, and one that keeps files.
    pub alone: (bool, bool),
}

/// A running history.
pub struct Cluster {
    pub random: Random,
    pub settings: Settings,
    pub history: History,
    pub clients: Clients,
    pub truth: Truth,
    pub network: Network,
    pub attempts: BTreeMap<usize, Attempt>,
    pub leader_machine: Arc<Mutex<Machine>>,
    /// How often the leader's machine was switched on.
    pub leader_boots: usize,
    pub leader: Option<Leading>,
    leader_paused_until_ms: u64,
    pub seats: Vec<SeatOf>,
    /// True time, that no clock in the cluster shows.
    pub now_ms: u64,
    /// How far off each machine's clock is: the leader's, then the replicas'.
    clocks_ms: [i64; SEATS + 1],
    pub bug: Option<Bug>,
    pub tallies: Tallies,
    /// The identity of the database once it has one.
    pub database: Option<Identity>,
    /// What each reader has seen last, which it asks for on every node.
    readers: [Option<(Position, Id)>; 3],
    pub next_exchange: u64,
    next_attempt: usize,
}

impl Cluster {
    pub fn new(seed: u64, bug: Option<Bug>, print: bool) -> Self {
        let mut random = Random::new(seed ^ 0x00c1_0572);
        let settings = Settings::random(&mut random);
        let mut history = History::new(print);
        history.note(format_args!("seed {seed}: {settings:?}"));
        let seats = (0..SEATS).map(|_| {
            let keeps = random.percent(60);
            SeatOf::new(random.fork(), settings.page, keeps, bug)
        });
        let seats = seats.collect();
        Self {
            leader_machine: Arc::new(Mutex::new(Machine::new(random.fork(), settings.page, None))),
            clients: Clients::new(random.fork()),
            network: Network::new(random.fork()),
            truth: Truth::new(settings.window),
            random,
            settings,
            history,
            attempts: BTreeMap::new(),
            leader_boots: 1,
            leader: None,
            leader_paused_until_ms: 0,
            seats,
            now_ms: 1_000_000,
            clocks_ms: [0; SEATS + 1],
            bug,
            tallies: Tallies::new(),
            database: None,
            readers: [None; 3],
            next_exchange: 1,
            next_attempt: 0,
        }
    }

    /// Runs the history to its end.
    ///
    /// # Errors
    /// What the checker found.
    pub fn run(&mut self) -> Result<(), String> {
        for step in 0..self.settings.steps {
            self.now_ms += self.random.below(self.settings.step_ms) as u64;
            let done = self.step().and_then(|()| self.bury());
            self.note_events();
            done.map_err(|what| format!("step {step}: {what}"))?;
        }
        self.end().map_err(|what| format!("at the end: {what}"))
    }

    pub fn tally(&mut self, what: &'static str) {
        *self.tallies.entry(what).or_default() += 1;
    }

    pub fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.history.note(format_args!("{} {line}", self.now_ms));
    }

    pub fn note_events(&mut self) {
        for event in std::mem::take(&mut self.leader_machine.lock().events) {
            self.history.note(format_args!("  leader's disk: {event}"));
        }
        for (seat, of) in self.seats.iter().enumerate() {
            for event in std::mem::take(&mut of.machine.lock().events) {
                self.history.note(format_args!("  disk of replica {seat}: {event}"));
            }
        }
    }

    /// What the leader's clock shows.
    pub fn leader_ms(&self) -> u64 {
        self.now_ms.saturating_add_signed(self.clocks_ms[SEATS])
    }

    /// What the clock of a replica shows.
    pub fn replica_ms(&self, seat: Seat) -> u64 {
        self.now_ms.saturating_add_signed(self.clocks_ms[seat])
    }

    pub fn leader_sleeps(&self) -> bool {
        self.now_ms < self.leader_paused_until_ms
    }

    fn step(&mut self) -> Result<(), String> {
        if self.random.below(1_000) < self.settings.faults {
            self.fault();
        }
        if self.leader.is_none() && self.random.percent(if self.now_ms == 1_000_000 { 100 } else { 8 }) {
            self.start_leader()?;
        }
        let seat = self.random.below(SEATS);
        if self.seats[seat].process.is_none() && self.random.percent(12) {
            self.start_replica(seat)?;
        }
        self.bury()?;
        let parcels = self.random.below(4);
        self.deliver(parcels)?;
        self.bury()?;
        if self.random.percent(75) && self.is_awake(seat) {
            self.work_of_replica(seat)?;
        } else if !self.leader_sleeps() {
            self.work_of_leader()?;
        }
        Ok(())
    }

    fn work_of_replica(&mut self, seat: Seat) -> Result<(), String> {
        match self.random.below(100) {
            0..20 => self.sync_replica(seat),
            20..40 => self.repeated(|cluster| cluster.snapshot_replica(seat)),
            40..60 => self.tick_replica(seat),
            60..80 => self.repeated(|cluster| cluster.load(seat)),
            _ => self.read(),
        }?;
        if self.leader_sleeps() { Ok(()) } else { self.work_of_leader() }
    }

    fn work_of_leader(&mut self) -> Result<(), String> {
        let seat = self.random.below(SEATS);
        self.poll(seat)?;
        match self.random.below(100) {
            0..30 => {
                for _ in 0..self.random.between(1, 4) {
                    let wish = self.clients.next();
                    self.send(wish);
                }
                Ok(())
            }
            30..55 => self.write(),
            55..70 => self.sync_leader(),
            70..85 => self.repeated(Self::snapshot_leader),
            85..94 => self.tick_leader(),
            94..98 => self.read(),
            98 => {
                self.now_ms += *self.random.pick(&[300, 1_200, 6_000]);
                Ok(())
            }
            _ if self.random.percent(20) => self.stop_leader(),
            _ => self.write(),
        }
    }

    fn repeated(&mut self, mut what: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        for _ in 0..self.random.between(1, 5) {
            what(self)?;
            self.bury()?;
        }
        Ok(())
    }

    /// Brings up to so many packets that have arrived to those who are awake.
    pub fn deliver(&mut self, most: usize) -> Result<(), String> {
        for _ in 0..most {
            let awake: Vec<bool> = (0..SEATS).map(|seat| self.now_ms >= self.seats[seat].paused_until_ms).collect();
            let leader_awake = !self.leader_sleeps();
            let ready =
                |seat: Seat, packet: &Packet| if packet.is_for_the_leader() { leader_awake } else { awake[seat] };
            let Some((seat, packet)) = self.network.arrived(self.now_ms, ready) else { return Ok(()) };
            match packet {
                Packet::Offer(number, bytes) => self.take_offer(seat, number, &bytes)?,
                Packet::Answer(number, bytes) => self.take_answer(seat, number, &bytes)?,
                Packet::Announce => self.take_announcement(seat),
            }
            self.bury()?;
        }
        Ok(())
    }

    /// Processes that met their end in an operation of their disk.
    fn bury(&mut self) -> Result<(), String> {
        if self.leader_machine.lock().crashed() {
            self.tally("crashes in an operation of a disk");
            self.leader_goes_down();
        }
        for seat in 0..SEATS {
            if self.seats[seat].machine.lock().crashed() {
                self.tally("crashes in an operation of a disk");
                self.seats[seat].process = None;
                self.replica_goes_down(seat);
            }
        }
        Ok(())
    }

    fn fault(&mut self) {
        let seat = self.random.below(SEATS);
        match self.random.below(100) {
            0..8 if self.leader.is_some() => self.leader_goes_down(),
            8..28 => self.replica_goes_down(seat),
            28..34 => {
                let fault = if self.random.percent(80) { Fault::CrashIn(self.random.below(12)) } else { Fault::Sync };
                self.note(format_args!("armed on the leader: {fault:?}"));
                self.leader_machine.lock().arm(fault);
            }
            34..46 if self.seats[seat].keeps_files => {
                let fault = match self.random.below(10) {
                    0 => Fault::Sync,
                    1 => Fault::Append,
                    2 => Fault::Full(self.random.between(1, 4)),
                    _ => Fault::CrashIn(self.random.below(12)),
                };
                self.note(format_args!("armed on replica {seat}: {fault:?}"));
                self.seats[seat].machine.lock().arm(fault);
            }
            46..66 => {
                let line = &mut self.network.lines[seat];
                (line.from_leader_cut, line.to_leader_cut) =
                    *self.random.pick(&[(true, true), (true, false), (false, true)]);
                let line = *line;
                self.note(format_args!("the line of replica {seat} is {line:?}"));
                self.tally("lines cut");
            }
            66..84 => {
                self.network.lines = Default::default();
                self.note(format_args!("all lines are whole"));
            }
            84..92 => {
                let until_ms = self.now_ms + *self.random.pick(&[100, 1_500, 5_000]);
                let at = self.random.below(SEATS + 1);
                if at == SEATS {
                    self.leader_paused_until_ms = until_ms;
                } else {
                    self.seats[at].paused_until_ms = until_ms;
                }
                self.note(format_args!("{at} pauses until {until_ms}"));
                self.tally("pauses");
            }
            _ => {
                let at = self.random.below(SEATS + 1);
                let off_ms = *self.random.pick(&[0, -900_000, 30_000, 200, -200]);
                self.clocks_ms[at] = off_ms;
                // Whoever waits may be taken for overdue once.
                self.attempts.values_mut().for_each(|attempt| attempt.alone = (true, true));
                self.note(format_args!("clock {at} is off by {off_ms} ms"));
            }
        }
    }

    fn leader_goes_down(&mut self) {
        ended(self);
        let power = self.random.percent(50);
        let survives = *self.random.pick(&[Survives::Nothing, Survives::Nothing, Survives::Anything]);
        let mut machine = self.leader_machine.lock();
        if power {
            machine.lose_power(survives);
            self.leader_boots += 1;
            self.truth.power_lost = true;
        } else {
            machine.kill();
        }
        drop(machine);
        self.leader_paused_until_ms = 0;
        self.note(format_args!("the leader goes down: {}", if power { "power lost" } else { "killed" }));
        self.tally(if power { "power losses of the leader" } else { "kills of the leader" });
    }

    fn replica_goes_down(&mut self, seat: Seat) {
        let of = &mut self.seats[seat];
        let process = of.process.take();
        of.paused_until_ms = 0;
        let what = match self.random.below(100) {
            0..10 => {
                let keeps = of.keeps_files;
                let had = std::mem::take(&mut of.had);
                let synced = std::mem::take(&mut of.has_synced);
                *of = SeatOf::new(self.random.fork(), self.settings.page, keeps, self.bug);
                (of.had, of.has_synced) = (had, synced);
                "replicas emptied"
            }
            10..50 => {
                of.machine.lock().lose_power(*self.random.pick(&[Survives::Nothing, Survives::Anything]));
                of.killed_at = None;
                "power losses of replicas"
            }
            _ => {
                of.machine.lock().kill();
                if let Some(process) = process.filter(|process| process.keeps()) {
                    of.killed_at = process.position();
                }
                "kills of replicas"
            }
        };
        self.note(format_args!("replica {seat} goes down: {what}"));
        self.tally(what);
    }

    /// A client sends its wish; it waits in the queue.
    pub fn send(&mut self, wish: usize) {
        let level = match self.random.below(10) {
            0..4 => None,
            4 => Some(AckLevel::Disk),
            5 | 6 => Some(AckLevel::Replica),
            7 => Some(AckLevel::ReplicaDisk),
            _ => Some(AckLevel::Leader),
        };
        self.send_at(wish, level);
    }

    fn send_at(&mut self, wish: usize, level: Option<AckLevel>) {
        let Some(leader) = &mut self.leader else { return };
        let id = self.next_attempt;
        self.next_attempt += 1;
        let asked = &mut self.clients.wishes[wish];
        asked.open += 1;
        let batch = asked.batch(leader.hasher);
        leader.queue.push(Submission { batch, level, reply: id });
        self.history.note(format_args!(
            "send {id}: wish {wish} {:?} {} {:?} {:?} at {level:?}",
            asked.verb, asked.namespace, asked.words, asked.once
        ));
        let attempt = Attempt { wish, level, expected: None, since_ms: 0, alone: (false, false) };
        self.attempts.insert(id, attempt);
    }

    /// The level that an attempt is answered at, and whether the request named it.
    pub fn level(&self, level: Option<AckLevel>) -> (AckLevel, bool) {
        let writer = self.settings.writer;
        let wanted = level.unwrap_or(writer.ack);
        (if writer.synced { wanted.synced() } else { wanted }, level.is_some())
    }

    /// A client has its answer.
    pub fn answered(&mut self, id: usize, answer: &Result<Receipt, WriteError>) -> Result<(), String> {
        self.note(format_args!("answer {id}: {answer:?}"));
        let attempt = self.attempts.remove(&id).ok_or_else(|| format!("attempt {id} was answered twice"))?;
        let leader = self.leader.as_ref().expect("it has just answered");
        let (level, strict) = self.level(attempt.level);
        let durable = level == AckLevel::ReplicaDisk;
        let waited_ms = self.leader_ms().checked_sub(attempt.since_ms);
        let gave_up = waited_ms.is_none_or(|waited_ms| waited_ms >= self.settings.writer.ack_timeout_ms)
            || !leader.may_ack(durable)
            || if durable { attempt.alone.1 } else { attempt.alone.0 };
        let poisoned = leader.writer.is_poisoned();
        let wrong = |what: &str| Err(format!("attempt {id} at {level} was answered {answer:?}: {what}"));
        let expected = attempt.expected;
        match (answer, &expected) {
            (Ok(receipt), Some(Ok(expected))) => {
                if (Receipt { acks: 0, ..*receipt }) != *expected {
                    return wrong(&format!("it should have been {expected:?}"));
                }
                if level.wants_sync() && receipt.position.sequence > leader.synced_upto {
                    return wrong("the leader has not synced that");
                }
                let (had, synced) = self.had_by(receipt.position);
                if receipt.acks as usize > had {
                    return wrong(&format!("{had} replicas ever had that record"));
                }
                let nothing = receipt.position.sequence == 0;
                let reached = nothing || had > 0 && receipt.acks > 0 && (!durable || synced > 0);
                if level.wants_replica() && !reached && (strict || !gave_up) {
                    return wrong("no replica has it, and it should have waited");
                }
            }
            (Err(WriteError::NotReplicated { position, .. }), Some(Ok(expected))) => {
                if *position != expected.position || !strict || !level.wants_replica() || !gave_up {
                    return wrong(&format!("after {waited_ms:?} ms; it should have been {expected:?}"));
                }
            }
            (Err(WriteError::OutcomeUnknown), None) => {}
            (Err(WriteError::OutcomeUnknown), Some(Ok(_))) if poisoned => {}
            (Err(WriteError::Poisoned), None) if poisoned => {}
            (Err(WriteError::Overflow { .. }), Some(Err(WriteError::Overflow { .. }))) => {}
            (Err(error), Some(Err(expected))) if error == expected => {}
            _ => return wrong(&format!("it should have been {expected:?}")),
        }
        self.tally(match answer {
            Ok(receipt) if receipt.replayed => "repeats answered as such",
            Ok(receipt) if level.wants_replica() && receipt.acks == 0 => "answers that no replica has acknowledged",
            Ok(_) => match level {
                AckLevel::Leader => "answers at level leader",
                AckLevel::Disk => "answers at level disk",
                AckLevel::Replica => "answers at level replica",
                AckLevel::DiskReplica => "answers at level disk, replica",
                AckLevel::ReplicaDisk => "answers at level replica+disk",
            },
            Err(WriteError::NotReplicated { .. }) => "refusals for want of a replica",
            Err(WriteError::NoReplicaKeepsFiles) => "refusals because no replica keeps files",
            Err(_) => "other refusals",
        });
        self.hear(attempt.wish, answer, level)
    }

    /// What a client makes of its answer.
    fn hear(&mut self, wish: usize, answer: &Result<Receipt, WriteError>, level: AckLevel) -> Result<(), String> {
        let asked = &mut self.clients.wishes[wish];
        asked.open -= 1;
        match answer {
            Ok(receipt) => {
                (asked.acknowledged, asked.unknown) = (true, false);
                if level.wants_sync() {
                    self.truth.kept = self.truth.kept.max(receipt.position.sequence);
                }
                if let Some(id) = self.truth.acknowledged(wish, receipt.position)? {
                    let reader = &mut self.readers[wish % 3];
                    *reader = (*reader).max(Some((receipt.position, id)));
                }
            }
            Err(WriteError::NotReplicated { position, .. }) => {
                (asked.acknowledged, asked.unknown) = (true, false);
                self.truth.acknowledged(wish, *position)?;
            }
            Err(WriteError::OutcomeUnknown) => asked.unknown = true,
            Err(error) => {
                asked.unknown = false;
                if let (WriteError::StreamGap { expected }, Some(Once::Stream { name, .. })) = (error, &asked.once) {
                    let name = name.clone();
                    self.clients.gap(&name, *expected);
                }
            }
        }
        Ok(())
    }

    /// How many replicas ever had the record at a position, and how many have ever said that they had synced it.
    fn had_by(&self, position: Position) -> (usize, usize) {
        let Ok(Some(id)) = self.truth.entry_at(Position::new(self.truth.epoch, position.sequence)) else {
            return (SEATS, SEATS);
        };
        let holds = |had: &BTreeMap<u64, u64>| {
            had.iter().any(|(&epoch, &sequence)| self.truth.holds(Position::new(epoch, sequence), id))
        };
        let count = |of: &dyn Fn(&SeatOf) -> bool| self.seats.iter().filter(|seat| of(seat)).count();
        (count(&|seat| holds(&seat.had)), count(&|seat| holds(&seat.has_synced)))
    }

    /// A reader asks some node for what it has seen before.
    fn read(&mut self) -> Result<(), String> {
        let (who, at) = (self.random.below(3), self.random.below(SEATS + 1));
        let (table, reader) = if at == SEATS {
            match &self.leader {
                Some(leader) if !self.leader_sleeps() => (leader.epochs(), leader.reader.clone()),
                _ => return Ok(()),
            }
        } else {
            match self.seats[at].process.as_ref().and_then(|process| process.view.as_ref()) {
                Some((table, reader)) if self.is_awake(at) => (table.clone(), reader.clone()),
                _ => return Ok(()),
            }
        };
        self.truth.check(&format!("node {at}"), &reader)?;
        let applied = reader.read().position();
        if let Some((asked, id)) = self.readers[who] {
            let standing = table.standing(asked, applied);
            let wrong = |what| format!("reader {who} asks node {at} for {asked}: {what}");
            self.truth.check_standing((asked, id), applied, standing).map_err(wrong)?;
            match standing {
                Standing::Reached => self.tally("positions reached by a reader"),
                Standing::Ahead => return Ok(()), // it waits, and is told to come again
                Standing::Lost => {
                    self.tally("lost positions told to a reader");
                    self.readers[who] = None;
                }
            }
        }
        if let Some(id) = self.truth.entry_at(applied)? {
            self.readers[who] = self.readers[who].max(Some((applied, id)));
        }
        Ok(())
    }

    /// The end: everything works again and is started; clients repeat what they do not know; then all nodes are one.
    fn end(&mut self) -> Result<(), String> {
        self.note(format_args!("the end"));
        self.network.heal();
        self.leader_machine.lock().heal();
        self.leader_paused_until_ms = 0;
        if self.leader.as_ref().is_some_and(|leader| leader.writer.is_poisoned()) {
            ended(self);
            self.leader_machine.lock().kill();
        }
        for of in &mut self.seats {
            of.machine.lock().heal();
            of.paused_until_ms = 0;
        }
        self.settings.cut_off = 0;
        let until_ms = self.now_ms + 120_000;
        let mut last = None;
        while self.now_ms < until_ms {
            self.now_ms += self.random.between(1, 60) as u64;
            if self.leader.is_none() {
                self.start_leader()?;
            }
            self.round()?;
            if !self.attempts.is_empty() || self.leader.is_none() {
                continue;
            }
            let unsettled = self.clients.unsettled();
            if !unsettled.is_empty() {
                unsettled.into_iter().for_each(|wish| self.send_at(wish, None));
            } else if !self.is_one() {
                continue;
            } else if last.is_none() {
                // One more, that all are there for.
                let wish = self.clients.next();
                last = Some(wish);
                self.send_at(wish, Some(AckLevel::Replica));
            } else {
                return self.compare();
            }
        }
        let positions: Vec<_> = self.seats.iter().map(|of| of.process.as_ref().map(|p| p.replica.hello())).collect();
        let leader = self.leader.as_ref().map(Leading::position);
        Err(format!("two minutes later the leader is at {leader:?}, and the replicas at {positions:#?}"))
    }

    /// Everybody does all there is to do.
    fn round(&mut self) -> Result<(), String> {
        self.deliver(20)?;
        for seat in 0..SEATS {
            if self.seats[seat].process.is_none() {
                self.start_replica(seat)?;
            }
            self.poll(seat)?;
            self.sync_replica(seat)?;
            self.snapshot_replica(seat)?;
            self.load(seat)?;
            self.tick_replica(seat)?;
        }
        self.write()?;
        self.sync_leader()?;
        self.snapshot_leader()?;
        self.tick_leader()?;
        self.note_events();
        Ok(())
    }

    /// Whether all replicas are ready and where the leader is.
    fn is_one(&self) -> bool {
        let here = self.leader.as_ref().map(Leading::position);
        self.seats.iter().all(|of| {
            of.process.as_ref().is_some_and(|process| {
                process.ready && process.view.is_some() && process.position() == here && here.is_some()
            })
        })
    }

    fn compare(&mut self) -> Result<(), String> {
        let leader = self.leader.as_ref().expect("it runs");
        self.truth.check("the leader", &leader.reader)?;
        shows(&leader.reader, self.truth.state())?;
        for seat in 0..SEATS {
            self.check_replica(seat)?;
        }
        for who in 0..30 {
            self.read().map_err(|what| format!("read {who}: {what}"))?;
        }
        let wishes = &self.clients.wishes;
        self.truth.once_each(|wish| match &wishes[wish].once {
            Some(Once::Key(key)) => Some(key.to_string()),
            _ => None,
        })
    }
}

/// The leader's process has ended: whatever clients wait for, they will not hear of it.
pub fn ended(cluster: &mut Cluster) {
    cluster.leader = None;
    for (_, attempt) in std::mem::take(&mut cluster.attempts) {
        let wish = &mut cluster.clients.wishes[attempt.wish];
        wish.open -= 1;
        wish.unknown = true;
    }
}
