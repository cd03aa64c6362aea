//! A leader's side of each replica: a sender, and what it has told. What `src/node/threads/replication.rs` does, a step
//! at a time.

use super::{
    bug::Bug,
    hand_over::{HandOver, IN_MEMORY},
    leader::url_of,
    network::{Packet, Place, Way},
    simulation::{Cluster, ended},
};
use memdb::{
    base::clock::Monotonic,
    base::position::{Position, Sequence},
    data::store::StateId,
    engine::leader::StepDownReaction,
    replication::{
        AnnounceResult, AppendAnswer, AppendOutcome, AppendRequest, NextSend, PeerEvent, PeerProgress, PeerReplication,
    },
};

/// A replica that is served.
pub struct Served {
    sender: PeerReplication,
    /// The exchange under way, and when its time is over.
    exchange: Option<(u64, u64)>,
    rest_until: Monotonic,
    announced: bool,
    seen: Sequence,
    said: Option<PeerEvent>,
    /// How it stands, as the Writer was told.
    pub standing: Option<PeerProgress>,
}

impl Cluster {
    /// A sender looks what there is to do.
    pub fn poll(&mut self, at: Place, seat: Place) -> Result<(), String> {
        let (now_ms, now) = (self.now_ms, self.monotonic(at));
        let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
        let lead = leader.lead();
        let Some(served) = &mut leader.served[seat] else { return Ok(()) };
        let last = lead.last.position.sequence;
        if let Some((_, until_ms)) = served.exchange {
            if now_ms >= until_ms {
                served.exchange = None;
                let (mut told, random) = (Vec::new(), self.random.next_u64());
                served.sender.failed(now, random, &mut told);
                self.tally("exchanges that failed");
                return self.told(at, seat, told);
            }
            return Ok(());
        }
        let wakes = last != served.seen && !served.sender.is_waiting(now);
        if !(wakes || served.announced || now >= served.rest_until) {
            return Ok(());
        }
        if std::mem::take(&mut served.announced) {
            served.sender.announced();
        }
        served.seen = last;
        let mut told = Vec::new();
        match served.sender.next_send(now, &lead, &leader.feed, &*leader.disk, &mut told) {
            NextSend::Rest(until) => served.rest_until = until,
            NextSend::Send(parts, patience_ms) => {
                let number = self.next_exchange;
                self.next_exchange += 1;
                served.exchange = Some((number, now_ms + patience_ms));
                if self.bug == Some(Bug::CountsBeforeApplied) && parts.len() > 1 {
                    let standing = PeerProgress { applied: last, synced: None, connected: true };
                    self.told(at, seat, vec![PeerEvent::Progress(standing)])?;
                }
                let way = Way { from: at, to: seat };
                self.network.send(way, &Packet::Offer(number, parts.concat()), now_ms);
            }
        }
        self.note_events();
        self.told(at, seat, told)
    }

    /// An answer has arrived, perhaps after its exchange was given up.
    pub fn take_answer(&mut self, at: Place, seat: Place, number: u64, bytes: &[u8]) -> Result<(), String> {
        let now = self.monotonic(at);
        let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
        let lead = leader.lead();
        let Some(served) = &mut leader.served[seat] else { return Ok(()) };
        if served.exchange.is_none_or(|(under_way, _)| under_way != number) {
            return Ok(());
        }
        served.exchange = None;
        served.rest_until = Monotonic::default();
        let mut answer = AppendAnswer::decode(bytes)?;
        let mut told = Vec::new();
        if self.bug == Some(Bug::ResumesALostBranch) && answer.hello.database.is_some() {
            let last = lead.last.position.sequence;
            answer.hello.position = Position::new(lead.epoch, answer.hello.position.sequence.min(last));
        }
        let claimed = answer.hello.clone();
        served.sender.answered(answer, now, &lead, &mut told);
        if self.bug == Some(Bug::CountsOtherEpochs) && claimed.position.sequence > 0 {
            let applied = claimed.position.sequence.min(lead.last.position.sequence);
            told = vec![PeerEvent::Progress(PeerProgress { applied, synced: claimed.synced, connected: true })];
        }
        self.told(at, seat, told)
    }

    /// The Writer hears what is new.
    fn told(&mut self, at: Place, seat: Place, told: Vec<PeerEvent>) -> Result<(), String> {
        let now = self.monotonic(at);
        let leader = self.nodes[at].leading_mut().expect("it has just heard of it");
        for told in told {
            let served = leader.served[seat].as_mut().expect("it is served");
            match &told {
                PeerEvent::Alarm(what) => {
                    self.history.note(format_args!("alarm: {what}"));
                    if what.contains("is refused") || what.contains("is led by another process") {
                        return Err(format!("no replica is to be refused here: {what}"));
                    }
                    *self.tallies.entry("replicas told to load a snapshot").or_default() += 1;
                    continue;
                }
                PeerEvent::StepDown(epoch) => {
                    self.history.note(format_args!("leader {at} steps down: {seat} has seen {epoch}"));
                    *self.tallies.entry("leaders that hear of another").or_default() += 1;
                    leader.stands_down = true;
                    let has_promised =
                        !leader.step_down_gate.answer(AppendOutcome::Applied, StateId::default()).hello.leads;
                    let run = leader.step_down_gate.node;
                    if !has_promised {
                        self.hears_from(at, run, seat, *epoch)?;
                    }
                    let epoch = *epoch;
                    let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
                    let state = &mut leader.manifest.state;
                    state.promised = state.promised.max(epoch);
                    let _ = leader.manifest.write(&*leader.disk); // it learns it again, then
                    leader.writer.on_peer_event(seat as u32 + 1, &told, now, &mut leader.wanted);
                    return self.carry_out(at);
                }
                PeerEvent::Progress(standing) => served.standing = Some(*standing),
                PeerEvent::Lost | PeerEvent::Gone => {
                    if let Some(standing) = &mut served.standing {
                        standing.connected = false;
                    }
                }
            }
            let alone = (!leader.may_ack(false), !leader.may_ack(true));
            for attempt in self.attempts.values_mut().filter(|attempt| attempt.at == at) {
                attempt.alone = (attempt.alone.0 || alone.0, attempt.alone.1 || alone.1);
            }
            let served = leader.served[seat].as_mut().expect("it is served");
            if served.said.as_ref() != Some(&told) {
                served.said = Some(told.clone());
                leader.writer.on_peer_event(seat as u32 + 1, &told, now, &mut leader.wanted);
            }
        }
        self.carry_out(at)
    }

    /// Somebody asks a leader where it stands, has it promise, or leads in its place.
    pub fn ask_leader(&mut self, at: Place, bytes: &[u8]) -> Result<Option<AppendAnswer>, String> {
        let offer = AppendRequest::decode(bytes)?;
        let Some(leader) = self.nodes[at].leading_mut() else { return Ok(None) };
        let outcome = match leader.step_down_gate.on_append_request(&offer) {
            StepDownReaction::Answer(outcome) => outcome,
            StepDownReaction::StepDown(epoch, outcome) => {
                leader.writer.step_down(&mut leader.wanted);
                leader.stands_down = true;
                leader.manifest.state.promised = epoch;
                let noted = leader.manifest.write(&*leader.disk);
                self.note(format_args!("leader {at} stands down for {epoch}"));
                self.tally("leaders that stand down");
                self.carry_out(at)?;
                self.note_events();
                if noted.is_err() {
                    return Ok(None); // it promises nothing then
                }
                outcome
            }
        };
        let Some(leader) = self.nodes[at].leading() else { return Ok(None) };
        Ok(Some(leader.step_down_gate.answer(outcome, leader.writer.store().mark())))
    }

    /// A leader that has stood down becomes a replica of its own files.
    pub fn becomes_a_replica(&mut self, at: Place) -> Result<(), String> {
        let Some(leader) = self.nodes[at].leading().filter(|leader| leader.stands_down) else { return Ok(()) };
        let position = leader.position();
        self.note(format_args!("leader {at} becomes a replica"));
        if self.random.percent(IN_MEMORY) {
            match self.leader_hands_over(at)? {
                HandOver::Kept(disk, kept, _) => {
                    ended(self, at);
                    self.nodes[at].killed_at = Some(position);
                    self.tally("leaders that become replicas in memory");
                    return self.replica_goes_on(at, disk, *kept);
                }
                HandOver::ReadFiles => {}
                HandOver::Died => return Ok(()),
            }
        }
        ended(self, at);
        let node = &mut self.nodes[at];
        node.machine.lock().kill();
        node.killed_at = Some(position);
        self.tally("leaders that become replicas");
        self.start_replica(at)
    }

    /// A replica has announced itself: it is served from now on, and a restart will know of it. Whoever follows sends
    /// it on.
    pub fn take_announcement(&mut self, at: Place, seat: Place) -> AnnounceResult {
        if let Some(following) = self.nodes[at].following() {
            let leader = following.discovery.leader().map(str::to_owned);
            return leader.map_or(AnnounceResult::Failed, AnnounceResult::SentOn);
        }
        let Some(leader) = self.nodes[at].leading_mut().filter(|_| seat != at) else { return AnnounceResult::Failed };
        let url = url_of(seat);
        let replicas = &mut leader.manifest.state.replicas;
        if !replicas.contains(&url) {
            replicas.push(url);
            let _ = leader.manifest.write(&*leader.disk); // a restart will not know of it then
        }
        leader.served[seat].get_or_insert_with(|| Served::new(seat)).announced = true;
        self.tally("announcements");
        self.note_events();
        AnnounceResult::Taken
    }
}

impl Served {
    pub fn new(seat: Place) -> Self {
        let sender = PeerReplication::new(url_of(seat));
        let (exchange, announced, said, standing) = Default::default();
        Self { sender, exchange, rest_until: Monotonic::default(), announced, seen: 0, said, standing }
    }
}
