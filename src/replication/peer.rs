//! A leader's side of one replica: one exchange in flight, and what it learns from the answers.
//!
//! A state machine. Its owner asks [`PeerReplication::next_send`] what to do, sends the append request, and reports
//! back by [`PeerReplication::answered`] or [`PeerReplication::failed`]. While a request is under way, records gather
//! in the backlog and go out together with the next one.

use super::{
    AppendAnswer, AppendCommand, AppendOutcome, AppendRequest, CatchUpPlan, CatchUpRecords, ClusterMembers,
    LeaderState, NodeId, NodeState, PeerCatchUp, PeerProgress, ReplicationBacklog, follower_check::classify_follower,
};
use crate::{
    base::clock::Monotonic,
    base::failpoint::inject,
    base::limits::{EXCHANGE_TIMEOUT_MS, HEARTBEAT_MS, LEAST_BYTES_PER_MS, RETRY_MAX_MS, RETRY_MIN_MS},
    base::position::{Epoch, EpochTable, Position, PositionToken, Sequence},
    base::retry::RetryPolicy,
    storage::disk::Disk,
    storage::file_header::FileError,
};
use bytes::Bytes;
use std::sync::Arc;

/// The next step for a replica.
#[derive(Debug, PartialEq, Eq)]
pub enum NextSend {
    /// Send this, the head of the append request, then records, and wait so many milliseconds for the answer.
    Send(Vec<Bytes>, u64),
    /// Nothing before this time, unless a record or an announcement comes.
    Rest(Monotonic),
}

/// A fact that the leader learns from an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The replica stands there.
    Progress(PeerProgress),
    /// The replica did not answer in time, or cannot be counted on: nobody waits for it.
    Lost,
    /// The replica is not served any more, and counts for nothing.
    Gone,
    /// Something a person should look at.
    Alarm(String),
    /// The replica has seen this later epoch: somebody else leads.
    StepDown(Epoch),
}

/// The state of a replica, for `/status`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PeerStatus {
    /// Its URL.
    pub url: String,
    /// `unknown`, `streaming`, `syncing`, `refused`, `away`.
    pub state: &'static str,
    /// Its position, once known.
    pub position: Option<String>,
    /// The last record it has applied.
    pub applied: Sequence,
    /// The last record it has synced; none if it keeps no files.
    pub synced: Option<Sequence>,
    /// Records it is behind.
    pub lag_records: u64,
    /// Milliseconds since its last answer.
    pub silent_ms: Option<u64>,
    /// Exchanges that failed since the last that did not.
    pub failures: u32,
    /// Exchanges that failed in all.
    pub failed_exchanges: u64,
}

impl PeerStatus {
    /// Gives its URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// What the leader knows of a replica, and so what it sends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerState {
    /// It has to report its state.
    Unknown,
    /// It says that it is on this history, at this position, and has yet to apply an append request from there.
    Resuming(Position),
    /// It has applied append requests up to this position, which it does only if the records follow its own.
    Streaming(Position),
    /// It has to load a snapshot, and has not been asked to yet.
    Behind,
    /// It loads a snapshot.
    Loading,
    /// It is refused, and must not be touched.
    Refused,
}

/// The exchange that is under way.
struct PeerExchange {
    command: AppendCommand,
    /// True if it carries records.
    has_records: bool,
    /// The members of the cluster, if it names them.
    members: Option<Arc<ClusterMembers>>,
}

/// Exchanges that have failed.
#[derive(Default)]
struct PeerFailures {
    /// Those since the last that did not fail.
    in_a_row: u32,
    /// Those that carried records, since the last one with records that did not fail.
    with_records: u32,
    total: u64,
    /// The first of those in a row.
    since: Option<Monotonic>,
}

/// What a replica has reported of itself.
struct PeerReport {
    hello: NodeState,
    /// True if that is a state of another database.
    is_of_other_database: bool,
}

/// The meaning of an answer, of what the replica reports and of what became of the request.
enum PeerVerdict {
    /// A later epoch ends this leadership.
    StepDown(Epoch),
    /// The replica is not served for a while; for a person, why.
    Refused(Option<String>),
    /// It loads a snapshot.
    Loads,
    /// It needs a snapshot; for a person, why.
    NeedsSnapshot(Option<String>),
    /// It has applied what it was sent, or was asked for its state alone, and stands there.
    Applied(Position),
    /// It stands elsewhere than the request has assumed.
    Gap(Position),
}

/// Brings one replica up to date and keeps it so.
pub struct PeerReplication {
    url: String,
    state: PeerState,
    catch_up: PeerCatchUp,
    /// Its last report.
    report: Option<PeerReport>,
    in_flight: Option<PeerExchange>,
    failures: PeerFailures,
    rest_until: Monotonic,
    /// The time at which the last append request went out; `None`: there was none, or its time no longer matters.
    sent: Option<Monotonic>,
    answered: Option<Monotonic>,
    alarmed: Option<String>,
    /// The members that the replica knows.
    known_members: Option<Arc<ClusterMembers>>,
}

impl PeerVerdict {
    // The order decides. A later epoch ends this leadership whatever the outcome, and every write that it still takes
    // may be lost. A replica that loads a snapshot needs one by the state that it still reports.
    fn of(plan: CatchUpPlan, outcome: AppendOutcome) -> Self {
        let at = match (plan, &outcome) {
            (CatchUpPlan::StepDown(epoch), _) => return Self::StepDown(epoch),
            (CatchUpPlan::Refused(why), _) => return Self::Refused(Some(format!("is refused: {why}"))),
            (_, AppendOutcome::OtherLeader) => {
                let why =
                    "is led by another process in this very epoch: two copies of one directory lead, stop one of them";
                return Self::Refused(Some(why.to_owned()));
            }
            (_, AppendOutcome::Syncing) => return Self::Loads,
            (CatchUpPlan::NeedSnapshot(why), _) => {
                return Self::NeedsSnapshot(Some(format!("needs a snapshot: {why}")));
            }
            (CatchUpPlan::Resume(at), _) => at,
        };
        match outcome {
            AppendOutcome::Applied => Self::Applied(at),
            AppendOutcome::Gap => Self::Gap(at),
            AppendOutcome::Diverged => Self::NeedsSnapshot(None),
            AppendOutcome::OtherDatabase => Self::Refused(Some("is refused: it holds another database".to_owned())),
            AppendOutcome::Unreadable(why) => Self::Refused(Some(format!("cannot read what it is sent: {why}"))),
            AppendOutcome::OldEpoch | AppendOutcome::OtherLeader | AppendOutcome::Syncing => Self::Refused(None),
        }
    }
}

impl PeerReplication {
    /// For the replica at `url`, of which nothing is known yet.
    pub fn new(url: String) -> Self {
        Self {
            url,
            state: PeerState::Unknown,
            catch_up: PeerCatchUp::default(),
            report: None,
            in_flight: None,
            failures: PeerFailures::default(),
            rest_until: Monotonic::default(),
            sent: None,
            answered: None,
            alarmed: None,
            known_members: None,
        }
    }

    /// The run of the replica that has answered last.
    pub fn node(&self) -> Option<NodeId> {
        self.hello().map(|hello| hello.node)
    }

    fn hello(&self) -> Option<&NodeState> {
        self.report.as_ref().map(|report| &report.hello)
    }

    /// Gives the replica's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The replica has announced itself: whatever was waited for, it is there now.
    pub fn announced(&mut self) {
        if self.in_flight.is_none() {
            (self.rest_until, self.sent) = (Monotonic::default(), None);
        }
    }

    /// Decides the next step. Errors in the leader's own files are among `events`.
    pub fn next_send(
        &mut self,
        now: Monotonic,
        lead: &LeaderState,
        feed: &ReplicationBacklog,
        disk: &dyn Disk,
        events: &mut Vec<PeerEvent>,
    ) -> NextSend {
        // Whatever is written meanwhile goes out with the next one, so a replica that hangs costs one request.
        assert!(self.in_flight.is_none(), "one exchange at a time");
        if now < self.rest_until {
            return NextSend::Rest(self.rest_until);
        }
        let heartbeat = self.sent.map_or(now, |sent| sent.after_ms(HEARTBEAT_MS));
        let (command, after, records) = match self.state {
            PeerState::Unknown => (AppendCommand::Probe, Position::ZERO, vec![]),
            PeerState::Loading if now < heartbeat => return NextSend::Rest(heartbeat),
            PeerState::Loading | PeerState::Refused => (AppendCommand::Probe, Position::ZERO, vec![]),
            PeerState::Behind => (AppendCommand::InstallSnapshot, Position::ZERO, vec![]),
            PeerState::Resuming(after) | PeerState::Streaming(after) => {
                match self.catch_up.gather(after.sequence, lead.last.position.sequence, feed, disk, &lead.identity) {
                    Ok(CatchUpRecords::Records(records)) => (AppendCommand::Append, after, records),
                    Ok(CatchUpRecords::Nothing) if self.may_rest(now, heartbeat, lead) => {
                        return NextSend::Rest(heartbeat);
                    }
                    Ok(CatchUpRecords::Nothing) => (AppendCommand::Append, after, vec![]),
                    Ok(CatchUpRecords::NeedSnapshot) => self.behind(),
                    // Reading it again would find the same damage. A snapshot leads past it, unless it lies behind the
                    // newest one.
                    Err(error @ FileError::Damaged(_)) => {
                        self.alarm(format!("the log cannot be read for replica {}: {error}", self.url), events);
                        self.behind()
                    }
                    // Too many open files, perhaps: that passes.
                    Err(error) => {
                        self.alarm(format!("the log cannot be read for replica {}: {error}", self.url), events);
                        self.rest_until = now.after_ms(RETRY_MAX_MS);
                        return NextSend::Rest(self.rest_until);
                    }
                }
            }
        };
        let bytes: usize = records.iter().map(Bytes::len).sum();
        // A line that is too slow for records is given twice the time at each try.
        let slow = if bytes > 0 { self.failures.with_records.min(6) } else { 0 };
        let patience_ms = (EXCHANGE_TIMEOUT_MS + bytes as u64 / LEAST_BYTES_PER_MS) << slow;
        let names_members = command != AppendCommand::Probe && self.known_members.as_ref() != Some(&lead.members);
        let members = names_members.then(|| Arc::clone(&lead.members));
        let exchange = PeerExchange { command, has_records: !records.is_empty(), members };
        let request = self.append_request(&exchange, after, records, lead);
        (self.in_flight, self.sent) = (Some(exchange), Some(now));
        NextSend::Send(request, patience_ms)
    }

    fn behind(&mut self) -> (AppendCommand, Position, Vec<Bytes>) {
        self.state = PeerState::Behind;
        (AppendCommand::InstallSnapshot, Position::ZERO, vec![])
    }

    /// With nothing to send, whether the replica need not hear from the leader now.
    fn may_rest(&self, now: Monotonic, heartbeat: Monotonic, lead: &LeaderState) -> bool {
        let has_synced = |hello: &NodeState| hello.synced.is_none_or(|synced| synced >= hello.position.sequence);
        matches!(self.state, PeerState::Streaming(_))
            && self.is_in(lead.epoch)
            && now < heartbeat
            // Where a write waits for the replica's sync, it is asked again: it reports a sync only in an answer.
            && (!lead.durable || self.hello().is_none_or(has_synced))
    }

    /// Returns whether the replica stands in this epoch: it has the table of those before, then, and does not look at
    /// another.
    fn is_in(&self, epoch: Epoch) -> bool {
        self.hello().is_some_and(|hello| hello.position.epoch == epoch)
    }

    fn append_request(
        &self,
        exchange: &PeerExchange,
        after: Position,
        records: Vec<Bytes>,
        lead: &LeaderState,
    ) -> Vec<Bytes> {
        let offer = AppendRequest {
            identity: lead.identity,
            leader: lead.node,
            epoch: lead.epoch,
            epochs: if exchange.command == AppendCommand::Append && self.is_in(lead.epoch) {
                EpochTable::default()
            } else {
                (*lead.epochs).clone()
            },
            last: lead.last,
            command: exchange.command,
            after,
            durable: lead.durable,
            members: exchange.members.as_deref().cloned(),
            records: &[],
        };
        let mut body = vec![Bytes::from(offer.encode_head())];
        body.extend(records);
        body
    }

    /// The replica has answered.
    pub fn answered(&mut self, answer: AppendAnswer, now: Monotonic, lead: &LeaderState, events: &mut Vec<PeerEvent>) {
        let exchange = self.in_flight.take().expect("an answer is to an offer");
        (self.failures.in_a_row, self.failures.since, self.answered) = (0, None, Some(now));
        if exchange.has_records {
            self.failures.with_records = 0;
        }
        let AppendAnswer { outcome, hello } = answer;
        let has_followed = exchange.command == AppendCommand::Append && outcome == AppendOutcome::Applied;
        self.note_known_members(hello.node, exchange.members.filter(|_| has_followed));
        self.state = match PeerVerdict::of(classify_follower(&hello, lead), outcome) {
            PeerVerdict::StepDown(epoch) => {
                events.push(PeerEvent::StepDown(epoch));
                self.refused(now)
            }
            PeerVerdict::Refused(why) => {
                self.alarm_of_replica(why, events);
                self.refused(now)
            }
            PeerVerdict::Loads => PeerState::Loading,
            PeerVerdict::NeedsSnapshot(why) => {
                // It was asked to load one already, and has not begun.
                if why.is_some() && self.state == PeerState::Behind {
                    self.rest_until = now.after_ms(HEARTBEAT_MS);
                }
                self.alarm_of_replica(why, events);
                PeerState::Behind
            }
            PeerVerdict::Applied(at) => {
                self.alarmed = None;
                if has_followed { PeerState::Streaming(at) } else { PeerState::Resuming(at) }
            }
            // The pause keeps two nodes that do not agree on a position from asking each other without end.
            PeerVerdict::Gap(at) => {
                self.rest_until = now.after_ms(RETRY_MIN_MS);
                PeerState::Resuming(at)
            }
        };
        match self.state {
            PeerState::Streaming(at) => events.push(PeerEvent::Progress(PeerProgress {
                applied: at.sequence,
                synced: hello.synced,
                connected: true,
            })),
            PeerState::Resuming(_) => {}
            _ => events.push(PeerEvent::Lost),
        }
        let is_of_other_database = hello.database.is_some_and(|held| held != lead.identity.database_id);
        self.report = Some(PeerReport { hello, is_of_other_database });
    }

    /// Notes that a run of a replica knows the members, once it has followed an append request that names them.
    fn note_known_members(&mut self, node: NodeId, followed: Option<Arc<ClusterMembers>>) {
        if self.node() != Some(node) {
            self.known_members = None;
        }
        if followed.is_some() {
            self.known_members = followed;
        }
    }

    /// Stops serving the replica for a while.
    fn refused(&mut self, now: Monotonic) -> PeerState {
        self.rest_until = now.after_ms(RETRY_MAX_MS);
        PeerState::Refused
    }

    /// The exchange has failed, or took too long. `random` is any number; it spreads the next tries.
    pub fn failed(&mut self, now: Monotonic, random: u64, events: &mut Vec<PeerEvent>) {
        if self.in_flight.take().is_some_and(|exchange| exchange.has_records) {
            self.failures.with_records += 1;
        }
        // What became of the append request is not known: the replica has to say where it is.
        self.state = PeerState::Unknown;
        // Random, so that replicas that failed together are not all tried again at one moment.
        self.rest_until = now.after_ms(RetryPolicy::PEERS.wait_ms(self.failures.in_a_row, random));
        self.failures.in_a_row = self.failures.in_a_row.saturating_add(1);
        self.failures.total += 1;
        self.failures.since.get_or_insert(now);
        events.push(PeerEvent::Lost);
        inject!(CountsAFailedSend, {
            if let Some(hello) = self.hello() {
                let applied = hello.position.sequence + 1;
                events.push(PeerEvent::Progress(PeerProgress { applied, synced: hello.synced, connected: true }));
            }
        });
    }

    /// Returns whether it waits out a pause that new records do not end.
    pub fn is_waiting(&self, now: Monotonic) -> bool {
        now < self.rest_until || !matches!(self.state, PeerState::Resuming(_) | PeerState::Streaming(_))
    }

    /// Since when every exchange has failed; `None` if the last one did not.
    pub fn away_since(&self) -> Option<Monotonic> {
        self.failures.since
    }

    /// For `/status`.
    pub fn status(&self, now: Monotonic, last: Sequence) -> PeerStatus {
        // Records of another database are none of this one's.
        let own = self.report.as_ref().filter(|report| !report.is_of_other_database);
        let hello = own.map(|report| &report.hello);
        let applied = hello.map_or(0, |hello| hello.position.sequence);
        PeerStatus {
            url: self.url.clone(),
            state: match self.state {
                _ if self.failures.in_a_row > 0 => "away",
                PeerState::Streaming(_) => "streaming",
                // It is asked, or has not applied anything yet: it acknowledges nothing.
                PeerState::Unknown | PeerState::Resuming(_) => "unknown",
                PeerState::Behind | PeerState::Loading => "syncing",
                PeerState::Refused => "refused",
            },
            position: self.hello().and_then(|hello| {
                hello.database.map(|database| PositionToken::of(database, hello.position).to_string())
            }),
            applied,
            synced: hello.and_then(|hello| hello.synced),
            lag_records: last.saturating_sub(applied),
            silent_ms: self.answered.map(|at| now.since_ms(at)),
            failures: self.failures.in_a_row,
            failed_exchanges: self.failures.total,
        }
    }

    fn alarm_of_replica(&mut self, why: Option<String>, events: &mut Vec<PeerEvent>) {
        if let Some(why) = why {
            self.alarm(format!("replica {} {why}", self.url), events);
        }
    }

    /// Says something once, and again only when it has changed.
    fn alarm(&mut self, what: String, events: &mut Vec<PeerEvent>) {
        if self.alarmed.as_ref() != Some(&what) {
            self.alarmed = Some(what.clone());
            events.push(PeerEvent::Alarm(what));
        }
    }
}
