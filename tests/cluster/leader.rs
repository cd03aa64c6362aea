//! The leader's process: recovery, taking back, the Writer, a snapshot job and a sender for each replica, a step at a
//! time. What threads of `src/node/{leading,writing,replicating,take_back}.rs` do, a step does here.

use crate::{
    bug::Bug,
    cluster::{Cluster, ended},
    disk::SimDisk,
    model::{Verdict, answer_to},
    network::{Packet, SEATS, Seat},
    truth::Entry,
};
use memdb::{
    disk::Disk,
    format::{FileError, Identity},
    hash::WordHasher,
    leader::{AckLevel, Action, Submission, WriteError, Writer, close},
    log,
    manifest::Manifest,
    position::{EpochTable, Position, Sequence},
    recovery::{self, Recovered, RecoveryError},
    replication::{
        Answer, Archive, Choice, Command, Feed, Hello, Lead, Offer, Sender, Standing, Told, Turn, choose, extend,
    },
    snapshot::{Job, Step},
    store::{Mark, Reader},
    tokenizer::Analyzer,
};
use std::{io, sync::Arc};

/// A running leader.
pub struct Leading {
    disk: Arc<dyn Disk>,
    manifest: Manifest,
    pub writer: Writer<usize>,
    pub reader: Reader,
    pub hasher: WordHasher,
    feed: Arc<Feed>,
    pub archive: Archive,
    pub queue: Vec<Submission<usize>>,
    /// What the Writer wants done and its thread has not come to yet.
    wanted: Vec<Action<usize>>,
    sync: Option<(log::Sync, Option<io::Result<()>>)>,
    snapshot: Option<Job>,
    pub synced_upto: Sequence,
    wants_durable: bool,
    served: [Option<Served>; SEATS],
}

/// A replica that is served.
struct Served {
    sender: Sender,
    /// The exchange under way, and when its time is over.
    exchange: Option<(u64, u64)>,
    rest_until_ms: u64,
    announced: bool,
    seen: Sequence,
    said: Option<Told>,
    /// How it stands, as the Writer was told.
    standing: Option<Standing>,
}

impl Leading {
    pub fn position(&self) -> Position {
        self.writer.store().mark().position
    }

    pub fn epochs(&self) -> EpochTable {
        self.manifest.state.epochs.clone()
    }

    /// Whether any replica that is known keeps files.
    fn keeps_files(&self) -> bool {
        self.served.iter().flatten().any(|served| served.standing.is_some_and(|standing| standing.synced.is_some()))
    }

    fn lead(&self) -> Lead {
        let state = &self.manifest.state;
        Lead {
            // Every start takes an epoch of its own, so it names the run.
            node: state.epoch.into(),
            identity: self.manifest.identity,
            epoch: state.epoch,
            epochs: state.epochs.clone().into(),
            last: self.reader.read().mark(),
            durable: self.wants_durable,
            members: Default::default(),
        }
    }

    /// Whether waiting for a replica has a point.
    pub fn may_ack(&self, durable: bool) -> bool {
        let standings = self.served.iter().flatten().filter_map(|served| served.standing);
        let mut standings = standings.filter(|standing| standing.connected);
        standings.any(|standing| !durable || standing.synced.is_some())
    }
}

impl Cluster {
    /// Starts the leader, as far as the faults let it.
    pub fn start_leader(&mut self) -> Result<(), String> {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(&self.leader_machine));
        let met = self.leader_machine.lock().met;
        let new = self.new_identity();
        let looked = recovery::look(&*disk, new, self.settings.window);
        self.note_events();
        let mut recovered = match looked {
            Ok(recovered) => recovered,
            Err(error) => return self.leader_did_not_start(&error, met),
        };
        self.note(format_args!("leader looked: {}", recovered.report));
        if self.database.is_some_and(|database| recovered.new || recovered.manifest.identity != database) {
            return Err("it began a new database over the old one".into());
        }
        let state = &recovered.manifest.state;
        if state.epoch > self.truth.epoch {
            // An earlier start came as far as its MANIFEST.
            let end = state.epochs.last_of(state.epoch - 1).unwrap_or(0);
            self.truth.began(state.epoch, end, &state.epochs)?;
        }
        let end = recovered.store.mark().position.sequence;
        self.truth.recovered(&recovered.store.reader(), end)?;
        self.take_back(&mut recovered)?;
        let end = recovered.store.mark().position.sequence;
        self.truth.recovered(&recovered.store.reader(), end)?;
        if self.bug == Some(Bug::SameEpochAgain) && recovered.manifest.state.epoch > 1 {
            recovered.manifest.state.epoch -= 1;
            let mut epochs = EpochTable::default();
            let epoch = recovered.manifest.state.epoch;
            recovered.manifest.state.epochs.ended().iter().filter(|e| e.epoch < epoch).for_each(|e| epochs.end(*e));
            recovered.manifest.state.epochs = epochs;
        }
        let settled = recovered.settle(&disk, format!("boot {}", self.leader_boots), self.settings.segment_bytes);
        self.note_events();
        let settled = match settled {
            Ok(settled) => settled,
            Err(error) => return self.leader_did_not_start(&error, met),
        };
        self.database = Some(settled.manifest.identity);
        let state = &settled.manifest.state;
        if self.truth.last() > end {
            self.tally("leaders that lost records");
        }
        self.truth.began(state.epoch, end, &state.epochs)?;
        if self.truth.lost > 0 {
            self.tally("acknowledged records lost, and said so");
        }
        self.note(format_args!("epoch {} begins behind {end}", state.epoch));
        let feed = Arc::new(Feed::new(end, self.settings.feed_bytes));
        let writer = Writer::new(settled.store, settled.log, self.settings.writer, settled.snapshot, self.leader_ms());
        let known = settled.manifest.state.replicas.clone();
        let served = std::array::from_fn(|seat| {
            (self.settings.configured || known.contains(&url_of(seat))).then(|| Served::new(seat))
        });
        self.leader = Some(Leading {
            reader: writer.store().reader(),
            hasher: writer.store().hasher(),
            synced_upto: end,
            writer,
            archive: Archive::new(Some(Arc::clone(&disk)), Arc::clone(&feed)),
            feed,
            disk,
            manifest: settled.manifest,
            queue: Vec::new(),
            wanted: Vec::new(),
            sync: None,
            snapshot: None,
            wants_durable: false,
            served,
        });
        Ok(())
    }

    fn new_identity(&mut self) -> Identity {
        let (high, low) = (self.random.next(), self.random.next());
        Identity {
            database_id: u128::from(high) << 64 | u128::from(low),
            shard_id: 0,
            analyzer: Analyzer::Whitespace,
            hash_seed: self.random.next(),
        }
    }

    /// A start may fail for a fault that was met just now.
    fn leader_did_not_start(&mut self, error: &RecoveryError, met: usize) -> Result<(), String> {
        self.note(format_args!("leader did not start: {error}"));
        let mut machine = self.leader_machine.lock();
        if machine.crashed() {
            return Ok(());
        }
        if machine.met > met && matches!(error, RecoveryError::File(FileError::Io { .. })) {
            machine.kill();
            return Ok(());
        }
        Err(format!("the leader refused to start: {error}"))
    }

    /// As `src/node/take_back.rs`: asks the replicas, and takes from those that have more, first who has the most.
    fn take_back(&mut self, recovered: &mut Recovered) -> Result<(), String> {
        let state = &recovered.manifest.state;
        if recovered.new {
            return Ok(());
        }
        let (identity, epoch) = (recovered.manifest.identity, state.epoch);
        let question = Offer {
            identity,
            leader: 0,
            epoch,
            epochs: state.epochs.clone(),
            last: Mark::default(),
            command: Command::Ask,
            after: Position::ZERO,
            durable: false,
            members: None,
            records: &[],
        };
        let question = question.encode_head();
        let known = state.replicas.clone();
        let asked: Vec<Seat> = (0..SEATS)
            .filter(|&seat| self.settings.configured || known.contains(&url_of(seat)))
            .filter(|&seat| self.network.lines[seat].is_whole() && self.is_awake(seat))
            .collect();
        // What the one with the most has, whatever it says.
        let most = asked.iter().filter_map(|&seat| self.seats[seat].process.as_ref()?.position());
        let most = most.filter(|at| at.epoch == epoch).map(|at| at.sequence).max().unwrap_or(0);
        let mut hellos: Vec<(Seat, Hello)> = Vec::new();
        for seat in asked {
            if let Some(answer) = self.ask(seat, &question)? {
                hellos.push((seat, answer.hello));
            }
        }
        let before = recovered.store.mark().position.sequence;
        let (seats, hellos): (Vec<Seat>, Vec<Hello>) = hellos.into_iter().unzip();
        let diverged = hellos.iter().any(|hello| hello.diverged);
        let choice = choose(&hellos, identity.database_id, epoch, before, epoch);
        let mut gave_up = false;
        match choice {
            _ if self.bug == Some(Bug::TakesNothingBack) => {}
            Choice::Nobody => {}
            Choice::HigherEpoch(at, seen) => {
                return Err(format!("replica {} has seen epoch {seen}, the leader wrote {epoch} last", seats[at]));
            }
            Choice::From(ahead) => {
                let wanted = hellos[ahead[0]].position.sequence;
                for at in ahead {
                    self.take_from(recovered, seats[at], hellos[at].position.sequence)?;
                }
                if recovered.store.mark().position.sequence < wanted {
                    // The operator stops that replica for this start: to lead without those records is asked for.
                    gave_up = true;
                    self.tally("tails that could not be taken back");
                }
            }
        }
        let after = recovered.store.mark().position.sequence;
        self.note(format_args!("took {} records back behind {before}", after - before));
        if after < most && !gave_up && !diverged {
            return Err(format!("a replica that was there had {most}, and the leader went on behind {after}"));
        }
        Ok(())
    }

    /// Takes what one replica gives, until this log has what it has.
    fn take_from(&mut self, recovered: &mut Recovered, seat: Seat, last: u64) -> Result<(), String> {
        let (identity, epoch) = (recovered.manifest.identity, recovered.manifest.state.epoch);
        while recovered.store.mark().position.sequence < last {
            let position = recovered.store.mark().position;
            let records = self.records_of(seat, position, &identity).filter(|records| !records.is_empty());
            let Some(records) = records else { return Ok(()) };
            extend(&mut recovered.store, &identity, epoch, &records).map_err(|error| error.to_string())?;
            recovered.report.clean = false;
            self.tally("tails taken back");
        }
        Ok(())
    }

    fn records_of(&mut self, seat: Seat, after: Position, identity: &Identity) -> Option<Vec<u8>> {
        let process = self.seats[seat].process.as_ref()?;
        let last = process.position()?.sequence;
        let records = process.archive.records(after.sequence, last, identity).ok()??;
        Some(records.concat())
    }

    /// The Writer takes what is in the queue; the model says what must become of it.
    pub fn write(&mut self) -> Result<(), String> {
        let Some(leader) = &mut self.leader else { return Ok(()) };
        let submissions = std::mem::take(&mut leader.queue);
        if submissions.is_empty() {
            return Ok(());
        }
        let now_ms = self.leader_ms();
        let leader = self.leader.as_mut().expect("it is there");
        let before = leader.position();
        let position = Position::new(leader.manifest.state.epoch, before.sequence + 1);
        let refused = leader.writer.is_poisoned();
        let mut state = self.truth.state().clone();
        let time_ms = now_ms.max(state.time_ms);
        let mut verdicts = Vec::new();
        let keeps_files = leader.keeps_files();
        let alone = (!leader.may_ack(false), !leader.may_ack(true));
        let mut refused_at_once = Vec::new();
        for Submission { batch, reply, level } in &submissions {
            let attempt = self.attempts.get_mut(reply).expect("it is under way");
            (attempt.since_ms, attempt.alone) = (now_ms, alone);
            if *level == Some(AckLevel::ReplicaDisk) && !keeps_files {
                refused_at_once.push(*reply);
            } else {
                verdicts.push((*reply, state.admit(batch, position, time_ms, &self.settings.window)));
            }
        }
        state.time_ms = time_ms;
        let counts = verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Counted);
        let counts = counts.map(|(id, _)| self.attempts[id].wish).collect();
        let entry = Entry { position, state, counts };
        let (met, mut actions) = (self.leader_machine.lock().met, Vec::new());
        leader.writer.write(submissions, now_ms, &mut actions);
        let advanced = leader.position() != before;
        leader.wanted.extend(actions);
        self.note_events();
        let machine = self.leader_machine.lock();
        let (crashed, met_a_fault) = (machine.crashed(), machine.met > met);
        drop(machine);
        if crashed {
            self.truth.may_have_happened(entry);
            return Ok(());
        }
        let failed = !advanced && met_a_fault;
        if failed {
            self.truth.may_have_happened(entry);
        } else if advanced {
            self.tally("records");
            self.truth.happened(entry);
        }
        for (id, verdict) in verdicts {
            let attempt = self.attempts.get_mut(&id).expect("it is under way");
            let wish = &self.clients.wishes[attempt.wish];
            let expected = answer_to(wish, &verdict, if advanced { position } else { before });
            // What was in the group of an append that failed may count or not.
            attempt.expected = (!refused && (!failed || expected.is_err())).then_some(expected);
        }
        for id in refused_at_once.into_iter().filter(|_| !refused) {
            let attempt = self.attempts.get_mut(&id).expect("it is under way");
            attempt.expected = Some(Err(WriteError::NoReplicaKeepsFiles));
        }
        // Now and then the thread comes to it later: a record is applied and not in the feed yet.
        if self.random.percent(85) { self.carry_out() } else { Ok(()) }
    }

    /// The Writer's thread does what the Writer wants done.
    pub fn carry_out(&mut self) -> Result<(), String> {
        let Some(leader) = &mut self.leader else { return Ok(()) };
        for action in std::mem::take(&mut leader.wanted) {
            let leader = self.leader.as_mut().expect("it has just acted");
            match action {
                Action::Answer(id, answer) => self.answered(id, &answer)?,
                Action::Published(position, record) => leader.feed.push(position.sequence, record),
                Action::WantDurable(wanted) => leader.wants_durable = wanted,
                Action::Sync(sync) => {
                    if leader.sync.replace((sync, None)).is_some() {
                        return Err("a second sync was asked for while one is under way".into());
                    }
                }
                Action::Snapshot(mark, place) => {
                    let (disk, identity) = (Arc::clone(&leader.disk), leader.manifest.identity);
                    match Job::begin(disk, identity, leader.reader.clone(), mark, place) {
                        Ok(job) => leader.snapshot = Some(job),
                        Err(error) => leader.writer.snapshot_ended(&Err(error), 1),
                    }
                }
                Action::Poisoned(what) => {
                    self.note(format_args!("poisoned: {what}"));
                    self.tally("poisoned logs");
                }
            }
        }
        Ok(())
    }

    /// The leader's sync that is under way runs, or its end is told.
    pub fn sync_leader(&mut self) -> Result<(), String> {
        self.carry_out()?;
        let now_ms = self.leader_ms();
        let Some(leader) = &mut self.leader else { return Ok(()) };
        match leader.sync.take() {
            None => Ok(()),
            Some((sync, None)) => {
                let result = sync.run();
                leader.sync = Some((sync, Some(result)));
                Ok(())
            }
            Some((sync, Some(result))) => {
                if result.is_ok() {
                    leader.synced_upto = sync.upto;
                }
                leader.writer.synced(&sync, result, now_ms, &mut leader.wanted);
                self.carry_out()
            }
        }
    }

    /// The leader's snapshot takes a step.
    pub fn snapshot_leader(&mut self) -> Result<(), String> {
        let Some(leader) = &mut self.leader else { return Ok(()) };
        let Some(job) = &mut leader.snapshot else { return Ok(()) };
        let met = self.leader_machine.lock().met;
        let result = match job.step() {
            Ok(Step::More) => return Ok(()),
            Ok(Step::Done(published)) => Ok(published),
            Err(_) if self.leader_machine.lock().crashed() => return Ok(()),
            Err(error) => Err(error),
        };
        leader.snapshot = None;
        leader.writer.snapshot_ended(&result, 5);
        match result {
            Ok(_) => self.tally("snapshots of the leader"),
            Err(_) if self.leader_machine.lock().met > met => {}
            Err(error) => return Err(format!("a snapshot of the leader failed without a fault: {error}")),
        }
        Ok(())
    }

    pub fn tick_leader(&mut self) -> Result<(), String> {
        let now_ms = self.leader_ms();
        let Some(leader) = &mut self.leader else { return Ok(()) };
        leader.writer.tick(now_ms, &mut leader.wanted);
        self.carry_out()
    }

    /// A sender looks what there is to do.
    pub fn poll(&mut self, seat: Seat) -> Result<(), String> {
        let now_ms = self.now_ms;
        let Some(leader) = &mut self.leader else { return Ok(()) };
        let lead = leader.lead();
        let Some(served) = &mut leader.served[seat] else { return Ok(()) };
        let last = lead.last.position.sequence;
        if let Some((_, until_ms)) = served.exchange {
            if now_ms >= until_ms {
                served.exchange = None;
                let (mut told, random) = (Vec::new(), self.random.next());
                served.sender.failed(now_ms, random, &mut told);
                self.tally("exchanges that failed");
                return self.told(seat, told);
            }
            return Ok(());
        }
        let wakes = last != served.seen && !served.sender.is_waiting(now_ms);
        if !(wakes || served.announced || now_ms >= served.rest_until_ms) {
            return Ok(());
        }
        if std::mem::take(&mut served.announced) {
            served.sender.announced();
        }
        served.seen = last;
        let mut told = Vec::new();
        match served.sender.turn(now_ms, &lead, &leader.feed, &*leader.disk, &mut told) {
            Turn::Rest(until_ms) => served.rest_until_ms = until_ms,
            Turn::Send(parts, patience_ms) => {
                let number = self.next_exchange;
                self.next_exchange += 1;
                served.exchange = Some((number, now_ms + patience_ms));
                if self.bug == Some(Bug::CountsBeforeApplied) && parts.len() > 1 {
                    let standing = Standing { applied: last, synced: None, connected: true };
                    self.told(seat, vec![Told::Progress(standing)])?;
                }
                self.network.send(seat, &Packet::Offer(number, parts.concat()), now_ms);
            }
        }
        self.note_events();
        self.told(seat, told)
    }

    /// An answer has arrived, perhaps after its exchange was given up.
    pub fn take_answer(&mut self, seat: Seat, number: u64, bytes: &[u8]) -> Result<(), String> {
        let Some(leader) = &mut self.leader else { return Ok(()) };
        let lead = leader.lead();
        let Some(served) = &mut leader.served[seat] else { return Ok(()) };
        if served.exchange.is_none_or(|(under_way, _)| under_way != number) {
            return Ok(());
        }
        served.exchange = None;
        served.rest_until_ms = 0;
        let mut answer = Answer::decode(bytes)?;
        let mut told = Vec::new();
        if self.bug == Some(Bug::ResumesALostBranch) && answer.hello.database.is_some() {
            let last = lead.last.position.sequence;
            answer.hello.position = Position::new(lead.epoch, answer.hello.position.sequence.min(last));
        }
        let claimed = answer.hello.clone();
        served.sender.answered(answer, self.now_ms, &lead, &mut told);
        if self.bug == Some(Bug::CountsOtherEpochs) && claimed.position.sequence > 0 {
            let applied = claimed.position.sequence.min(lead.last.position.sequence);
            told = vec![Told::Progress(Standing { applied, synced: claimed.synced, connected: true })];
        }
        self.told(seat, told)
    }

    /// The Writer hears what is new.
    fn told(&mut self, seat: Seat, told: Vec<Told>) -> Result<(), String> {
        let now_ms = self.leader_ms();
        let leader = self.leader.as_mut().expect("it has just heard of it");
        for told in told {
            let served = leader.served[seat].as_mut().expect("it is served");
            match &told {
                Told::Alarm(what) => {
                    self.history.note(format_args!("alarm: {what}"));
                    if what.contains("is refused") {
                        return Err(format!("no replica is to be refused here: {what}"));
                    }
                    *self.tallies.entry("replicas told to load a snapshot").or_default() += 1;
                    continue;
                }
                Told::StepDown(epoch) => return Err(format!("the only leader is to step down for epoch {epoch}")),
                Told::Progress(standing) => served.standing = Some(*standing),
                Told::Lost | Told::Gone => {
                    if let Some(standing) = &mut served.standing {
                        standing.connected = false;
                    }
                }
            }
            let alone = (!leader.may_ack(false), !leader.may_ack(true));
            for attempt in self.attempts.values_mut() {
                attempt.alone = (attempt.alone.0 || alone.0, attempt.alone.1 || alone.1);
            }
            let served = leader.served[seat].as_mut().expect("it is served");
            if served.said.as_ref() != Some(&told) {
                served.said = Some(told.clone());
                leader.writer.told(seat as u32 + 1, &told, now_ms, &mut leader.wanted);
            }
        }
        self.carry_out()
    }

    /// A replica has announced itself: it is served from now on, and a restart will know of it.
    pub fn take_announcement(&mut self, seat: Seat) {
        let Some(leader) = &mut self.leader else { return };
        let url = url_of(seat);
        let replicas = &mut leader.manifest.state.replicas;
        if !replicas.contains(&url) {
            replicas.push(url);
            let _ = leader.manifest.write(&*leader.disk); // a restart will not know of it then
        }
        leader.served[seat].get_or_insert_with(|| Served::new(seat)).announced = true;
        self.tally("announcements");
        self.note_events();
    }

    /// A graceful stop.
    pub fn stop_leader(&mut self) -> Result<(), String> {
        self.write()?;
        for round in 0.. {
            if self.leader_machine.lock().crashed() {
                return Ok(());
            }
            self.carry_out()?;
            self.now_ms += 10;
            let now_ms = self.leader_ms();
            let Some(leader) = &mut self.leader else { return Ok(()) };
            if self.leader_machine.lock().crashed() {
                return Ok(());
            }
            if leader.writer.is_at_rest() {
                break;
            }
            if round > 5_000 {
                return Err("the leader does not come to rest".into());
            }
            leader.writer.tick(now_ms, &mut leader.wanted);
            leader.writer.start_sync(&mut leader.wanted);
            self.sync_leader()?;
            self.snapshot_leader()?;
            for seat in 0..SEATS {
                self.poll(seat)?;
            }
            self.deliver(3)?;
        }
        let Leading { writer, manifest, disk, .. } = self.leader.take().expect("it was there");
        let poisoned = writer.is_poisoned();
        if !poisoned && close(writer, manifest, &disk).is_ok() {
            self.truth.kept = self.truth.last();
            self.tally("clean stops");
            self.note(format_args!("the leader has stopped cleanly"));
        }
        self.note_events();
        if !self.leader_machine.lock().crashed() {
            ended(self);
            self.leader_machine.lock().kill();
        }
        Ok(())
    }
}

impl Served {
    fn new(seat: Seat) -> Self {
        let sender = Sender::new(url_of(seat));
        let (exchange, announced, said, standing) = Default::default();
        Self { sender, exchange, rest_until_ms: 0, announced, seen: 0, said, standing }
    }
}

pub fn url_of(seat: Seat) -> String {
    format!("replica {seat}")
}
