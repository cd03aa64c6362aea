//! One history of a cluster: what happens when, clients and readers, faults, and the end; all from one seed.

use super::{
    bug::Bug,
    client_history::ClientHistory,
    fetches::{Origin, WITH_ORIGIN},
    leader::url_of,
    local::Local,
    machines::{Node, Process},
    network::{Network, PLACES, Packet, Place, Way},
    truth::{Id, Truth},
    watcher::Watcher,
};
use crate::{
    checker::shows,
    client::{Clients, NAMESPACES, STEPS_WHERE_WIDE},
    counters::{CounterClients, WITH_COUNTERS},
    entries::{EntryClients, WITH_ENTRIES},
    history::History,
    run::{Tallies, Task, schedule::Faults},
};
use memdb::{
    base::position::{Epoch, Position},
    data::counters::CounterLimits,
    data::store::DedupLimits,
    engine::leader::{AckLevel, AdmissionLimits, WriteError, WriteReceipt, WriterSettings},
    storage::file_header::DatabaseIdentity,
    storage::snapshot::SnapshotSettings,
};
use std::collections::BTreeMap;
use testkit::Random;

/// How a history is to be.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub steps: usize,
    /// A step takes up to so many milliseconds.
    pub step_ms: usize,
    pub page: usize,
    pub segment_bytes: u64,
    pub feed_bytes: usize,
    pub window: DedupLimits,
    pub writer: WriterSettings,
    /// Whether the leader's settings name the replicas; else they announce themselves.
    pub configured: bool,
    /// Of a thousand steps, so many meet a fault.
    pub faults: usize,
    /// Whether the operator changes the verbs and the `--leader` of the nodes when another leads.
    pub writes_down: bool,
    /// Of a thousand steps, in so many somebody promotes a replica.
    pub promotions: usize,
    /// Of a hundred of these, so many by force.
    pub forced: usize,
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
            window: DedupLimits {
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
                counters: CounterLimits::default(),
                snapshot: SnapshotSettings { interval_ms: *random.pick(&[0, 50, 300, 1_000]) },
            },
            configured: random.percent(50),
            faults: *random.pick(&[0, 20, 50, 120]),
            cut_off: *random.pick(&[0, 2, 20]),
            promotions: *random.pick(&[0, 5, 15, 40]),
            forced: *random.pick(&[0, 30, 70]),
            writes_down: random.percent(30),
        }
    }
}

/// The client's side of one attempt to have a wish counted.
pub struct Attempt {
    /// The leader that it was sent to.
    pub at: Place,
    pub wish: usize,
    pub level: Option<AckLevel>,
    /// What the answer must be, once the Writer has taken it; `None` then: no more than a refusal, or not known.
    pub expected: Option<Result<WriteReceipt, WriteError>>,
    pub since_ms: u64,
    /// Whether there was a moment since it was written at which no replica was connected: any, and one that keeps
    /// files.
    pub alone: (bool, bool),
}

/// A running history.
pub struct Cluster {
    pub random: Random,
    pub settings: Settings,
    pub history: History,
    pub clients: Clients,
    pub truth: Truth,
    /// What clients have seen.
    pub client_history: ClientHistory,
    pub network: Network,
    pub attempts: BTreeMap<usize, Attempt>,
    pub nodes: Vec<Node>,
    /// A follower of some machine's files.
    pub local: Option<Local>,
    /// True time, that no clock in the cluster shows.
    pub now_ms: u64,
    pub faults: Faults,
    pub bug: Option<Bug>,
    pub tallies: Tallies,
    /// The identity of the database once it has one.
    pub database: Option<DatabaseIdentity>,
    /// The epoch that a candidate asks for just now; 0: none does.
    pub promised_to: Epoch,
    /// What each reader has seen last, which it asks for on every node.
    pub readers: [Option<(Position, Id)>; 3],
    pub watcher: Watcher,
    /// Where values are fetched, if anywhere.
    pub origin: Option<Origin>,
    pub next_exchange: u64,
    pub next_attempt: usize,
    seed: u64,
    /// Steps that were begun.
    pub steps: usize,
}

/// True time at the begin of a history.
const BEGIN_MS: u64 = 1_000_000;

impl Cluster {
    pub fn new(task: &Task<'_, Bug>) -> Self {
        let Task { seed, schedule, bug, lines } = *task;
        let mut random = Random::new(seed ^ 0x00c1_0572);
        let mut settings = Settings::random(&mut random);
        settings.steps = schedule.steps.unwrap_or(settings.steps);
        let mut history = History::new(lines);
        history.note(format_args!("seed {seed}: {settings:?}"));
        let nodes = (0..PLACES).map(|at| {
            let keeps_files = at == 0 || random.percent(60);
            Node { is_to_lead: at == 0, ..Node::new(random.fork(), settings.page, keeps_files, bug) }
        });
        let nodes: Vec<Node> = nodes.collect();
        nodes.iter().for_each(|node| node.machine.lock().tells = history.is_kept());
        let mut clients = Clients::new(random.fork());
        if clients.wide {
            settings.steps = settings.steps.min(STEPS_WHERE_WIDE);
        }
        // By a stream of its own: histories without entries are what they were before there were any.
        let mut of_entries = Random::new(seed ^ 0x0e27_1e51);
        if of_entries.percent(WITH_ENTRIES) {
            if of_entries.percent(30) {
                settings.writer.admission.entry_bytes = of_entries.between(600, 3_000);
            }
            clients.of_entries = Some(EntryClients::new(of_entries));
        }
        let mut of_origin = Random::new(seed ^ 0x0416_1e5e);
        let has_origin = clients.of_entries.is_some() && of_origin.percent(WITH_ORIGIN);
        let origin = has_origin.then(|| Origin::new(of_origin));
        let mut of_counters = Random::new(seed ^ 0x0c0c_27e6);
        if of_counters.percent(WITH_COUNTERS) {
            let mut of_counters = CounterClients { random: of_counters };
            settings.writer.counters = of_counters.limits();
            clients.of_counters = Some(of_counters);
        }
        clients.growing = if seed % 2 == 0 { &NAMESPACES[..1] } else { &NAMESPACES[2..] };
        Self {
            clients,
            client_history: ClientHistory::default(),
            network: Network::new(random.fork()),
            truth: Truth::new(settings.window),
            faults: Faults::new(random.fork(), schedule),
            random,
            settings,
            history,
            attempts: BTreeMap::new(),
            nodes,
            local: None,
            now_ms: BEGIN_MS,
            bug,
            tallies: Tallies::new(),
            database: None,
            promised_to: 0,
            readers: [None; 3],
            watcher: Watcher::new(seed),
            origin,
            next_exchange: 1,
            next_attempt: 0,
            seed,
            steps: 0,
        }
    }

    /// True milliseconds since its begin.
    pub fn simulated_ms(&self) -> u64 {
        self.now_ms - BEGIN_MS
    }

    /// Runs the history to its end.
    ///
    /// # Errors
    /// What the checker found.
    pub fn run(&mut self) -> Result<(), String> {
        for step in 0..self.settings.steps {
            self.steps += 1;
            self.begin_step(step);
            self.now_ms += self.random.below(self.settings.step_ms) as u64;
            let done = self.step().and_then(|()| self.check_after_crash());
            self.note_events();
            done.map_err(|what| format!("step {step}: {what}"))?;
        }
        self.begin_step(usize::MAX);
        self.end().map_err(|what| format!("at the end: {what}"))
    }

    /// Each step has chance of its own, so that leaving one out, or a fault, leaves the others what they were.
    fn begin_step(&mut self, step: usize) {
        self.random = Random::at_step(self.seed ^ 0x00c1_0572, step);
        for node in &self.nodes {
            node.machine.lock().reseed(self.random.fork());
        }
    }

    pub fn tally(&mut self, what: &'static str) {
        *self.tallies.entry(what).or_default() += 1;
    }

    pub fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.history.note(format_args!("{} {line}", self.now_ms));
    }

    pub fn note_events(&mut self) {
        if !self.history.is_kept() {
            return;
        }
        for (at, node) in self.nodes.iter().enumerate() {
            for event in std::mem::take(&mut node.machine.lock().events) {
                self.history.note(format_args!("  disk of node {at}: {event}"));
            }
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let Settings { faults, promotions, .. } = self.settings;
        if let Some(random) = self.faults.at_step(faults + promotions) {
            let of_the_step = std::mem::replace(&mut self.random, random);
            if self.random.below(faults + promotions) < promotions {
                self.somebody_promotes();
            } else {
                self.fault()?;
            }
            self.random = of_the_step;
        }
        let at = self.random.below(PLACES);
        let begins = self.database.is_none() && self.nodes[at].is_to_lead;
        if !self.nodes[at].runs() && (begins || self.random.percent(if self.nodes[at].is_to_lead { 32 } else { 16 })) {
            self.start(at)?;
        }
        self.check_after_crash()?;
        let parcels = self.random.below(4);
        self.deliver(parcels)?;
        self.check_after_crash()?;
        if self.random.percent(75)
            && let Some(at) = self.some_replica()
        {
            self.work_of_replica(at)?;
            self.check_after_crash()?;
        }
        for at in 0..PLACES {
            if self.is_awake(at) {
                self.moves(at)?;
                self.check_after_crash()?;
            }
            if self.is_awake(at) && self.nodes[at].leading().is_some() {
                self.work_of_leader(at)?;
                self.check_after_crash()?;
            }
        }
        Ok(())
    }

    /// Leadership moves, a step.
    fn moves(&mut self, at: Place) -> Result<(), String> {
        if self.random.percent(50) {
            self.step_candidate(at)?;
            self.step_start(at)?;
        }
        if self.random.percent(30) { self.becomes_a_replica(at) } else { Ok(()) }
    }

    /// Any replica that is awake.
    fn some_replica(&mut self) -> Option<Place> {
        let at = self.random.below(PLACES);
        let follows = |at: &Place| self.is_awake(*at) && self.nodes[*at].following().is_some();
        (at..at + 2).map(|at| at % PLACES).find(follows)
    }

    fn work_of_replica(&mut self, at: Place) -> Result<(), String> {
        match self.random.below(100) {
            0..20 => self.sync_replica(at),
            20..40 => self.repeated(|cluster| cluster.snapshot_replica(at)),
            40..60 => self.tick_replica(at),
            60..80 => self.repeated(|cluster| cluster.load(at)),
            80..88 => self.repeated(Self::step_local),
            _ => self.read().and_then(|()| self.watch()),
        }
    }

    fn work_of_leader(&mut self, at: Place) -> Result<(), String> {
        let seat = self.random.below(PLACES);
        self.poll(at, seat)?;
        self.go_on_with_fetches(at)?;
        match self.random.below(100) {
            0..30 => {
                for _ in 0..self.random.between(1, 4) {
                    let wish = self.clients.next();
                    self.send(at, wish);
                }
                Ok(())
            }
            30..55 => self.write(at),
            55..70 => self.sync_leader(at),
            70..85 => self.repeated(|cluster| cluster.snapshot_leader(at)),
            85..94 => self.tick_leader(at),
            94..98 => self.read().and_then(|()| self.watch()),
            98 => {
                self.now_ms += *self.random.pick(&[300, 1_200, 6_000]);
                Ok(())
            }
            _ if self.random.percent(20) => self.stop_leader(at),
            _ => self.write(at),
        }
    }

    fn repeated(&mut self, mut what: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        for _ in 0..self.random.between(1, 5) {
            what(self)?;
            self.check_after_crash()?;
        }
        Ok(())
    }

    /// Brings up to so many packets that have arrived to those who are awake.
    pub fn deliver(&mut self, most: usize) -> Result<(), String> {
        for _ in 0..most {
            let awake = std::array::from_fn(|at| self.now_ms >= self.nodes[at].paused_until_ms);
            let Some((way, packet)) = self.network.arrived(self.now_ms, &awake) else { return Ok(()) };
            let Way { from, to } = way;
            match packet {
                Packet::Offer(number, bytes) => self.take_offer((from, number), to, &bytes)?,
                Packet::Answer(number, bytes) => self.take_answer(to, from, number, &bytes)?,
            }
            self.check_after_crash()?;
        }
        Ok(())
    }

    /// The end: everything works again and is started; clients repeat what they do not know; then all nodes are one.
    fn end(&mut self) -> Result<(), String> {
        self.note(format_args!("the end"));
        self.network.heal();
        for at in 0..PLACES {
            self.nodes[at].machine.lock().heal();
            self.nodes[at].paused_until_ms = 0;
            if self.nodes[at].leading().is_some_and(|leader| leader.writer.is_poisoned()) {
                ended(self, at);
                self.nodes[at].logged = None;
                self.nodes[at].machine.lock().kill();
            }
        }
        self.settings.cut_off = 0;
        let until_ms = self.now_ms + 120_000;
        let mut last = None;
        while self.now_ms < until_ms {
            self.now_ms += self.random.between(1, 60) as u64;
            self.round()?;
            self.somebody_sees_to_it(until_ms);
            let Some(leader) = self.only_leader().filter(|_| self.attempts.is_empty()) else { continue };
            let unsettled = self.clients.unsettled();
            if !unsettled.is_empty() {
                unsettled.into_iter().for_each(|wish| self.send_at(leader, wish, None));
            } else if !self.is_one(leader) {
                continue;
            } else if last.is_none() {
                // One more, that all are there for.
                let wish = self.clients.next();
                last = Some(wish);
                self.send_at(leader, wish, Some(AckLevel::Replica));
            } else {
                return self.compare(leader);
            }
        }
        let has_records = |at: Option<Position>| at.is_some_and(|at| at.sequence > 0);
        let is_left =
            |node: &Node| node.leading().is_some() || node.keeps_files && has_records(node.killed_at.or(node.claimed));
        if !self.nodes.iter().any(is_left) {
            self.tally("histories of which no record is left");
            return Ok(());
        }
        let hellos: Vec<_> = self.nodes.iter().map(|node| node.following().map(|p| p.replica.node_state())).collect();
        let leaders: Vec<_> = self.nodes.iter().map(|node| node.leading().map(|leader| leader.position())).collect();
        Err(format!("two minutes later the leaders are at {leaders:?}, and the replicas at {hellos:#?}"))
    }

    /// Everybody is started, and does all there is to do.
    fn round(&mut self) -> Result<(), String> {
        for at in 0..PLACES {
            if !self.nodes[at].runs() {
                self.start(at)?;
            }
        }
        self.works()
    }

    /// Everybody who runs does all there is to do.
    pub fn works(&mut self) -> Result<(), String> {
        self.deliver(20)?;
        for at in 0..PLACES {
            self.sync_replica(at)?;
            self.snapshot_replica(at)?;
            self.load(at)?;
            self.tick_replica(at)?;
            self.moves(at)?;
            for seat in 0..PLACES {
                self.poll(at, seat)?;
            }
            self.write(at)?;
            self.sync_leader(at)?;
            self.snapshot_leader(at)?;
            self.tick_leader(at)?;
        }
        self.step_local()?;
        self.note_events();
        Ok(())
    }

    /// At the end somebody sees to it that there is one leader.
    fn somebody_sees_to_it(&mut self, until_ms: u64) {
        let late = self.now_ms + 80_000 > until_ms;
        let leaders = self.leaders();
        if leaders.is_empty() && late && self.random.percent(5) {
            let stands = |at: &Place| self.nodes[*at].following().filter(|it| it.keeps()).and_then(|it| it.position());
            let best = (0..PLACES).filter(|at| stands(at).is_some()).max_by_key(stands);
            if let Some(best) = best {
                self.tally("promotions for want of a leader");
                self.promote(best, true);
            } else {
                // Nobody is fit to lead as it is. What is in the files may be.
                for at in 0..PLACES {
                    if self.nodes[at].keeps_files {
                        self.tally("restarts for want of a leader");
                        ended(self, at);
                        self.nodes[at].logged = None;
                        self.nodes[at].machine.lock().kill();
                    }
                }
            }
        }
        if let [leader] = leaders[..]
            && late
        {
            // Who has not heard of this one is started again, with other settings.
            for at in (0..PLACES).filter(|&at| at != leader) {
                self.nodes[at].follows = leader;
                if let Some(following) = self.nodes[at].following_mut() {
                    following.discovery.follow_hint(url_of(leader));
                }
            }
        }
        if leaders.len() > 1 && late {
            let last = leaders.iter().copied().max_by_key(|&at| self.nodes[at].leading().map(|it| it.position()));
            for at in leaders.into_iter().filter(|&at| Some(at) != last) {
                self.note(format_args!("leader {at} is stopped, to follow {last:?}"));
                self.tally("leaders stopped by hand");
                ended(self, at);
                let node = &mut self.nodes[at];
                node.logged = None;
                node.machine.lock().kill();
                (node.is_to_lead, node.follows) = (false, last.unwrap_or(0));
            }
        }
    }

    pub fn only_leader(&self) -> Option<Place> {
        let leaders = self.leaders();
        (leaders.len() == 1).then(|| leaders[0])
    }

    /// Whether all replicas are ready and where the leader is.
    fn is_one(&mut self, leader: Place) -> bool {
        // Another machine's files may have been given up.
        self.local = self.local.take().filter(|local| local.at == leader);
        let here = self.nodes[leader].leading().map(|leader| leader.position());
        let local = self.local.as_ref().and_then(|local| local.core.reader()).map(|reader| reader.read().position());
        let is_here = |at: Place| {
            let follows = |process: &super::follower::Following| {
                process.ready && process.view.is_some() && process.position() == here
            };
            at == leader || self.nodes[at].following().is_some_and(follows)
        };
        here.is_some() && local == here && (0..PLACES).all(is_here)
    }

    fn compare(&mut self, at: Place) -> Result<(), String> {
        self.check_what_was_seen(at)?;
        if self.truth.is_blind {
            return Ok(());
        }
        let leader = self.nodes[at].leading().expect("it runs");
        let epoch = leader.position().epoch;
        self.truth.check("the leader", &leader.reader)?;
        shows(&leader.reader, self.truth.state(epoch))?;
        for seat in 0..PLACES {
            self.check_replica(seat)?;
        }
        for who in 0..30 {
            self.read().and_then(|()| self.watch()).map_err(|what| format!("read {who}: {what}"))?;
        }
        self.truth.once_each(epoch, |wish| self.clients.wishes[wish].names())
    }
}

/// The process there has ended: whatever clients wait for from it, they will not hear of it.
pub fn ended(cluster: &mut Cluster, at: Place) {
    cluster.nodes[at].process = Process::None;
    let wishes = &mut cluster.clients.wishes;
    cluster.attempts.retain(|_, attempt| {
        if attempt.at == at {
            let wish = &mut wishes[attempt.wish];
            wish.open -= 1;
            wish.unknown = true;
        }
        attempt.at != at
    });
}
