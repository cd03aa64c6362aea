//! One history: a machine, a process that starts, works, stops and is killed, and clients; all from one seed.

use super::{faults::Copied, node::Node};
use crate::{
    checker::{Truth, shows},
    client::{Clients, NAMESPACES, STEPS_WHERE_WIDE},
    counters::{CounterClients, KEPT_KEYS, WITH_COUNTERS},
    disk::{Machine, Survives},
    entries::{EntryClients, WITH_ENTRIES},
    history::History,
    model::gained,
    plant::Bug,
    run::{Tallies, Task, schedule::Faults},
};
use memdb::{
    base::clock::{Monotonic, WallClock},
    data::counters::{COUNTERS, COUNTERS_STORED, CounterLimits, QUEUES_STORED},
    data::store::DedupLimits,
    engine::leader::{AckLevel, AdmissionLimits, WriterSettings},
    storage::snapshot::SnapshotSettings,
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use testkit::Random;

/// How a history is to be.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub steps: usize,
    pub page: usize,
    pub segment_bytes: u64,
    pub window: DedupLimits,
    pub writer: WriterSettings,
    /// Of a thousand steps, so many arm a fault.
    pub faults: usize,
    /// Whether bits flip while the process is down.
    pub flips: bool,
    /// Whether the disk misplaces writes.
    pub misplaces: bool,
    /// Whether the disk may be replaced while the process is down.
    pub replaces: bool,
    /// Of a hundred syncs, so many are slow.
    pub slow_syncs: usize,
}

/// True time at the begin of a history, in 2026: wall clocks can be set back by decades.
const BEGIN_MS: u64 = 1_780_000_000_000;

impl Settings {
    fn random(random: &mut Random) -> Self {
        let small = random.percent(30);
        let window = DedupLimits {
            keys: if small { random.between(2, 8) } else { 1_000 },
            key_age_ms: *random.pick(&[2_000, 20_000, 600_000]),
            streams: if small { random.between(1, 3) } else { 100 },
            stream_age_ms: *random.pick(&[5_000, 60_000, 6_000_000]),
        };
        // Without snapshots there is more in the log that a flip can damage.
        let flips = random.percent(18);
        let intervals: &[u64] = if flips && random.percent(60) { &[0] } else { &[0, 20, 50, 300] };
        let level = |random: &mut Random| if random.percent(25) { AckLevel::Disk } else { AckLevel::Leader };
        Self {
            steps: random.between(100, 500),
            page: *random.pick(&[512, 512, 4_096, 64]),
            segment_bytes: random.between(300, 4_000) as u64,
            window,
            writer: WriterSettings {
                ack: level(random),
                synced: random.percent(25),
                ack_timeout_ms: 1_000,
                admission: AdmissionLimits {
                    memory_bytes: if random.percent(25) { random.between(2_000, 60_000) } else { usize::MAX },
                    ..AdmissionLimits::default()
                },
                counters: CounterLimits::default(),
                snapshot: SnapshotSettings { interval_ms: *random.pick(intervals) },
            },
            faults: *random.pick(&[0, 30, 30, 100]),
            flips,
            misplaces: random.percent(15),
            replaces: random.percent(10),
            slow_syncs: *random.pick(&[0, 0, 10, 50]),
        }
    }
}

/// How a history ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything was there.
    Exact,
    /// A bit had flipped, and the process refused to start.
    Refused,
}

/// The client's side of one attempt to have a wish counted.
pub struct Attempt {
    pub wish: usize,
    pub level: AckLevel,
    /// What the answer must be, once the Writer has taken it.
    pub expected: Option<Result<memdb::engine::leader::WriteReceipt, memdb::engine::leader::WriteError>>,
}

/// A running history.
pub struct Simulation {
    pub random: Random,
    pub settings: Settings,
    pub machine: Arc<Mutex<Machine>>,
    pub history: History,
    pub clients: Clients,
    pub truth: Truth,
    pub attempts: BTreeMap<usize, Attempt>,
    pub node: Option<Node>,
    /// True time, which no clock shows.
    pub now_ms: u64,
    /// When the process was started.
    pub started_ms: u64,
    /// The wall clock of the machine.
    pub clock: Clock,
    pub faults: Faults,
    /// When there will be room on the disk again.
    pub room_again_ms: Option<u64>,
    /// A copy of the directory, and of what was true then.
    pub copied: Option<Copied>,
    /// Whether the disk was replaced by an empty one.
    pub was_emptied: bool,
    pub bug: Option<Bug>,
    pub tallies: Tallies,
    /// The identity of the database once it has one.
    pub database: Option<memdb::storage::file_header::DatabaseIdentity>,
    pub refused: bool,
    next_attempt: usize,
    seed: u64,
    /// Steps that were begun.
    pub steps: usize,
}

/// How far a wall clock is off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock(pub i64);

impl Clock {
    /// What it shows at a true time.
    pub fn of(self, now_ms: u64) -> u64 {
        now_ms.saturating_add_signed(self.0)
    }
}

impl Simulation {
    pub fn new(task: &Task<'_, Bug>) -> Self {
        let Task { seed, schedule, bug, lines } = *task;
        let mut random = Random::new(seed);
        let mut settings = Settings::random(&mut random);
        settings.steps = schedule.steps.unwrap_or(settings.steps);
        let mut history = History::new(lines);
        history.note(format_args!("seed {seed}: {settings:?}"));
        let mut machine = Machine::new(random.fork(), settings.page, bug);
        machine.tells = history.is_kept();
        let mut clients = Clients::new(random.fork());
        // By a stream of its own: histories without entries are what they were before there were any.
        let mut of_entries = Random::new(seed ^ 0x0e27_1e50);
        if of_entries.percent(WITH_ENTRIES) {
            let has_little = of_entries.percent(40);
            settings.writer.admission.entry_bytes =
                if has_little { of_entries.between(600, 3_000) } else { usize::MAX };
            clients.of_entries = Some(EntryClients::new(of_entries));
        }
        let mut of_counters = Random::new(seed ^ 0x0c0c_27e5);
        if of_counters.percent(WITH_COUNTERS) {
            let mut of_counters = CounterClients { random: of_counters };
            settings.writer.counters = of_counters.limits();
            clients.of_counters = Some(of_counters);
        }
        if clients.wide {
            settings.steps = settings.steps.min(STEPS_WHERE_WIDE);
        }
        Self {
            machine: Arc::new(Mutex::new(machine)),
            clients,
            truth: Truth::new(settings.window),
            faults: Faults::new(random.fork(), schedule),
            random,
            settings,
            history,
            attempts: BTreeMap::new(),
            node: None,
            now_ms: BEGIN_MS,
            started_ms: BEGIN_MS,
            clock: Clock::default(),
            room_again_ms: None,
            copied: None,
            was_emptied: false,
            bug,
            tallies: Tallies::new(),
            database: None,
            refused: false,
            next_attempt: 0,
            seed,
            steps: 0,
        }
    }

    /// Runs the history to its end.
    ///
    /// # Errors
    /// What the checker found.
    pub fn run(&mut self) -> Result<End, String> {
        for step in 0..self.settings.steps {
            self.steps += 1;
            self.begin_step(step);
            let done = self.step();
            self.note_events();
            done.map_err(|what| format!("step {step}: {what}"))?;
            if self.refused {
                return Ok(End::Refused);
            }
            if self.machine.lock().crashed() {
                let random = self.random.fork();
                self.goes_down(random);
            }
        }
        self.begin_step(usize::MAX);
        self.end()
    }

    /// Each step has chance of its own, so that leaving one out, or a fault, leaves the others what they were.
    fn begin_step(&mut self, step: usize) {
        self.random = Random::at_step(self.seed, step);
        self.machine.lock().reseed(self.random.fork());
        self.now_ms += self.random.below(40) as u64;
        if self.room_again_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
            self.room_again_ms = None;
            self.machine.lock().has_no_room = false;
            self.tally("room on the disk again");
        }
    }

    /// What the clock of the process reads that counts the time that passes: true time, from another moment on at each
    /// start.
    pub fn monotonic(&self) -> Monotonic {
        if self.bug == Some(Bug::TakesTheWallForElapsed) {
            return Monotonic::from_ms(self.clock.of(self.now_ms));
        }
        Monotonic::from_ms(self.now_ms - self.started_ms)
    }

    /// What the wall clock of the machine shows.
    pub fn wall(&self) -> WallClock {
        WallClock::from_ms(self.clock.of(self.now_ms))
    }

    /// True milliseconds since its begin.
    pub fn simulated_ms(&self) -> u64 {
        self.now_ms - BEGIN_MS
    }

    pub fn tally(&mut self, what: &'static str) {
        *self.tallies.entry(what).or_default() += 1;
    }

    pub fn note_events(&mut self) {
        if !self.history.is_kept() {
            return;
        }
        for event in std::mem::take(&mut self.machine.lock().events) {
            self.history.note(format_args!("  disk: {event}"));
        }
    }

    fn step(&mut self) -> Result<(), String> {
        if let Some(random) = self.faults.at_step(self.faults_of_a_thousand_steps()) {
            self.meet_a_fault(random);
        }
        if self.node.is_none() {
            // As long as there is no room, most starts would be in vain.
            let waits = self.room_again_ms.is_some() && self.random.percent(80);
            return if waits { Ok(()) } else { self.start() };
        }
        match self.random.below(100) {
            0..30 => {
                for _ in 0..self.random.between(1, 4) {
                    let wish = self.clients.next();
                    self.send(wish);
                }
                Ok(())
            }
            30..58 => self.write(),
            58..70 => self.go_on_with_sync(),
            70..82 => {
                for _ in 0..self.random.between(1, 4) {
                    self.go_on_with_snapshot()?;
                }
                Ok(())
            }
            82..89 => self.tick(),
            89..93 => self.look_around(),
            93 => {
                let passed_ms = *self.random.pick(&[500, 3_000, 30_000, 30_000, 400_000]);
                self.now_ms += passed_ms;
                self.history.note(format_args!("{passed_ms} ms pass"));
                Ok(())
            }
            94 => self.stop(),
            _ => self.write(),
        }
    }

    /// A client sends its wish; it waits in the queue.
    pub fn send(&mut self, wish: usize) {
        let Some(node) = &mut self.node else { return };
        let id = self.next_attempt;
        self.next_attempt += 1;
        let asked = &mut self.clients.wishes[wish];
        asked.open += 1;
        let again = asked.open > 1 || asked.unknown || asked.acknowledged;
        let writer = self.settings.writer;
        let level = asked.level.unwrap_or(writer.ack);
        let level = if writer.synced { level.synced() } else { level };
        self.history.note(format_args!("send {id}: wish {wish} {asked} at {level}"));
        node.queue(asked, id, again, self.bug);
        self.attempts.insert(id, Attempt { wish, level, expected: None });
        if again {
            self.tally("repeats sent");
        }
    }

    /// Whatever clients wait for, they will not hear of it.
    pub fn process_ended(&mut self) {
        self.node = None;
        for (_, attempt) in std::mem::take(&mut self.attempts) {
            let wish = &mut self.clients.wishes[attempt.wish];
            wish.open -= 1;
            wish.unknown = true;
        }
    }

    /// A reader looks at everything, and at a walk that goes on while writes come.
    fn look_around(&mut self) -> Result<(), String> {
        let Some(node) = &mut self.node else { return Ok(()) };
        let position = node.reader.read().position();
        if position.sequence != self.truth.last() {
            return Err(format!("a reader is at {position}, the last record is {}", self.truth.last()));
        }
        shows(&node.reader, self.truth.state()).map_err(|what| format!("a reader at {position}: {what}"))?;
        let namespace = *self.random.pick(&NAMESPACES);
        match node.walk.take() {
            None => node.walk = node.reader.scan(namespace).map(|scan| (namespace, self.truth.last(), scan)),
            Some((namespace, begun, mut scan)) => {
                let mut wrong = None;
                let truth = &self.truth;
                let more = scan.step(|word, count| {
                    let was = |at| truth.state_at(at).counts.get(namespace).and_then(|words| words.get(word));
                    if !(begun..=truth.last()).any(|at| was(at) == Some(&count)) {
                        wrong = Some(format!("a walk gives {namespace}/{word} as {count}, which it never was"));
                    }
                });
                if let Some(wrong) = wrong {
                    return Err(wrong);
                }
                node.walk = more.then_some((namespace, begun, scan));
            }
        }
        Ok(())
    }

    /// The end of a history: no more faults; everything that is unknown is asked again; then all must be there.
    fn end(&mut self) -> Result<End, String> {
        self.history.note(format_args!("the end"));
        for round in 0..3 {
            self.machine.lock().heal();
            self.room_again_ms = None;
            while self.node.is_none() {
                self.start()?;
                self.note_events();
                if self.refused {
                    return Ok(End::Refused);
                }
            }
            self.now_ms += 2_000; // a full disk is tried again
            for wish in self.clients.unsettled() {
                self.send(wish);
            }
            self.write()?;
            self.note_events();
            self.stop()?;
            self.note_events();
            if round == 0 {
                self.truth.misfortunes.power_lost = true;
                let lacks = self.machine.lock().lose_power(Survives::Nothing);
                self.truth.misfortunes.page_lost |= lacks;
            }
        }
        self.start()?;
        self.note_events();
        if self.refused {
            return Ok(End::Refused);
        }
        if self.node.is_none() {
            return Err("it did not start at the end, without any fault".into());
        }
        self.truth.once_each(|wish| self.clients.wishes[wish].names())?;
        self.work_off()?;
        Ok(End::Exact)
    }

    /// The workers come to an end, and then every counter has what was counted.
    fn work_off(&mut self) -> Result<(), String> {
        for round in 0.. {
            if !self.truth.state().counts.contains_key(QUEUES_STORED) {
                break;
            }
            if round > 20_000 {
                return Err("increments wait for ever".into());
            }
            self.now_ms += 250;
            self.tick()?;
            self.go_on_with_sync()?;
            self.go_on_with_snapshot()?;
            self.note_events();
        }
        let reader = &self.node.as_ref().expect("it runs").reader;
        for key in KEPT_KEYS {
            let counts = |wish: &usize| {
                let wish = &self.clients.wishes[*wish];
                wish.namespace == COUNTERS && wish.words == [(key, 1)]
            };
            let counted = self.truth.counted().filter(counts).count() as i64;
            let value = reader.read().count(COUNTERS_STORED, key);
            if value != counted || gained(reader, key) != counted {
                return Err(format!("the counter {key:?} is {value} behind {counted} increments"));
            }
        }
        Ok(())
    }
}
