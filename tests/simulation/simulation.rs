//! One history: a machine, a process that starts, works, stops and is killed, and clients; all from one seed.

use crate::{
    checker::{Truth, shows},
    client::{Clients, NAMESPACES},
    disk::{Fault, Machine, Survives},
    history::History,
    node::Node,
    plant::Bug,
    random::Random,
};
use memdb::{
    leader::{AckLevel, AdmissionLimits, WriterSettings},
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
    pub page: usize,
    pub segment_bytes: u64,
    pub window: WindowLimits,
    pub writer: WriterSettings,
    /// Of a hundred steps, so many arm a fault.
    pub faults: usize,
    /// Whether bits flip while the process is down.
    pub flips: bool,
}

impl Settings {
    fn random(random: &mut Random) -> Self {
        let small = random.percent(30);
        let window = WindowLimits {
            keys: if small { random.between(2, 8) } else { 1_000 },
            key_age_ms: *random.pick(&[2_000, 20_000, 600_000]),
            streams: if small { random.between(1, 3) } else { 100 },
            stream_age_ms: *random.pick(&[5_000, 60_000, 6_000_000]),
        };
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
                admission: AdmissionLimits::default(),
                snapshot: SnapshotSettings { interval_ms: *random.pick(&[0, 20, 50, 300]) },
            },
            faults: *random.pick(&[0, 3, 3, 10]),
            flips: random.percent(15),
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

/// How often what happened: a simulation that meets nothing shows nothing.
pub type Tallies = BTreeMap<&'static str, usize>;

/// The client's side of one attempt to have a wish counted.
pub struct Attempt {
    pub wish: usize,
    pub level: AckLevel,
    /// What the answer must be, once the Writer has taken it.
    pub expected: Option<Result<memdb::leader::Receipt, memdb::leader::WriteError>>,
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
    pub now_ms: u64,
    pub bug: Option<Bug>,
    pub tallies: Tallies,
    /// The identity of the database once it has one.
    pub database: Option<memdb::format::Identity>,
    pub refused: bool,
    next_attempt: usize,
}

impl Simulation {
    pub fn new(seed: u64, bug: Option<Bug>, print: bool) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings::random(&mut random);
        let mut history = History::new(print);
        history.note(format_args!("seed {seed}: {settings:?}"));
        Self {
            machine: Arc::new(Mutex::new(Machine::new(random.fork(), settings.page, bug))),
            clients: Clients::new(random.fork()),
            truth: Truth::new(settings.window),
            random,
            settings,
            history,
            attempts: BTreeMap::new(),
            node: None,
            now_ms: 1_000_000,
            bug,
            tallies: Tallies::new(),
            database: None,
            refused: false,
            next_attempt: 0,
        }
    }

    /// Runs the history to its end.
    ///
    /// # Errors
    /// What the checker found.
    pub fn run(&mut self) -> Result<End, String> {
        for step in 0..self.settings.steps {
            self.now_ms += self.random.below(40) as u64;
            let done = self.step();
            self.note_events();
            done.map_err(|what| format!("step {step}: {what}"))?;
            if self.refused {
                return Ok(End::Refused);
            }
            if self.machine.lock().crashed() {
                self.tally("crashes in an operation of the disk");
                self.goes_down();
            }
        }
        self.end()
    }

    pub fn tally(&mut self, what: &'static str) {
        *self.tallies.entry(what).or_default() += 1;
    }

    pub fn note_events(&mut self) {
        for event in std::mem::take(&mut self.machine.lock().events) {
            self.history.note(format_args!("  disk: {event}"));
        }
    }

    fn step(&mut self) -> Result<(), String> {
        if self.random.percent(self.settings.faults) {
            self.arm_a_fault();
        }
        if self.node.is_none() {
            return self.start();
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
                let passed_ms = *self.random.pick(&[500, 3_000, 30_000]);
                self.now_ms += passed_ms;
                self.history.note(format_args!("{passed_ms} ms pass"));
                Ok(())
            }
            94 => {
                self.now_ms -= self.random.below(400) as u64; // somebody sets the clock back
                Ok(())
            }
            95..97 => {
                self.tally("crashes between operations");
                self.goes_down();
                Ok(())
            }
            97 => self.stop(),
            _ => self.write(),
        }
    }

    fn arm_a_fault(&mut self) {
        let random = &mut self.random;
        let fault = match random.below(100) {
            0..50 => Fault::CrashIn(random.below(12)),
            50..60 => Fault::Sync,
            60..65 => Fault::SyncDirectory,
            65..77 => Fault::Append,
            77..82 => Fault::Truncate,
            82..94 => Fault::Full(random.between(1, 6)),
            _ => Fault::Read,
        };
        self.history.note(format_args!("armed: {fault:?}"));
        self.machine.lock().arm(fault);
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
        self.history.note(format_args!(
            "send {id}: wish {wish} {:?} {} {:?} {:?} at {level}",
            asked.verb, asked.namespace, asked.words, asked.once
        ));
        node.queue(asked, id, again, self.bug);
        self.attempts.insert(id, Attempt { wish, level, expected: None });
        if again {
            self.tally("repeats sent");
        }
    }

    /// The process ends, and perhaps the machine with it.
    fn goes_down(&mut self) {
        self.process_ended();
        let survives = [Survives::Nothing, Survives::Everything, Survives::Anything, Survives::Anything];
        let mut machine = self.machine.lock();
        if self.random.percent(45) {
            machine.kill();
            self.history.note(format_args!("killed"));
        } else {
            let survives = *self.random.pick(&survives);
            machine.lose_power(survives);
            self.truth.misfortunes.power_lost = true;
            self.history.note(format_args!("power lost: survives {survives:?}"));
        }
        if self.settings.flips && self.database.is_some() && self.random.percent(40) {
            let flipped = machine.flip_a_bit();
            self.truth.misfortunes.bit_flipped |= flipped.is_some();
            self.history.note(format_args!("flipped: {flipped:?}"));
        }
        drop(machine);
        if self.truth.misfortunes.bit_flipped {
            self.tally("flipped bits");
        }
        self.tally(if self.truth.misfortunes.power_lost { "power losses" } else { "kills" });
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
                self.machine.lock().lose_power(Survives::Nothing);
            }
        }
        self.start()?;
        self.note_events();
        if self.node.is_none() {
            return Err("it did not start at the end, without any fault".into());
        }
        let wishes = &self.clients.wishes;
        let key = |wish: usize| match &wishes[wish].once {
            Some(Once::Key(key)) => Some(key.to_string()),
            _ => None,
        };
        self.truth.once_each(key)?;
        Ok(End::Exact)
    }
}
