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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerState {
    /// It has to report its state.
    Unknown,
    /// It is on this history, and has everything up to this position.
    Streaming(Position),
    /// It has to load a snapshot, and has not been asked to yet.
    Behind,
    /// It loads a snapshot.
    Loading,
    /// It is refused, and must not be touched.
    Refused,
}

/// Brings one replica up to date and keeps it so.
pub struct PeerReplication {
    url: String,
    state: PeerState,
    catch_up: PeerCatchUp,
    /// The state that it reported last.
    hello: Option<NodeState>,
    /// True if that was a state of another database.
    holds_other: bool,
    /// The command of the exchange under way, and whether it carries records.
    in_flight: Option<(AppendCommand, bool)>,
    /// True if the replica has applied an append request since it was last classified.
    confirmed: bool,
    /// Append requests with records that failed since the last that did not.
    slow: u32,
    failures: u32,
    failed_exchanges: u64,
    rest_until: Monotonic,
    /// The time at which the last append request went out; `None`: there was none, or its time no longer matters.
    sent: Option<Monotonic>,
    answered: Option<Monotonic>,
    away_since: Option<Monotonic>,
    alarmed: Option<String>,
    /// The members that the replica knows, and those that it is sent in the exchange under way.
    knows: Option<Arc<ClusterMembers>>,
    telling: Option<Arc<ClusterMembers>>,
}

impl PeerReplication {
    /// For the replica at `url`, of which nothing is known yet.
    pub fn new(url: String) -> Self {
        Self {
            url,
            state: PeerState::Unknown,
            catch_up: PeerCatchUp::default(),
            hello: None,
            holds_other: false,
            in_flight: None,
            confirmed: false,
            slow: 0,
            failures: 0,
            failed_exchanges: 0,
            rest_until: Monotonic::default(),
            sent: None,
            answered: None,
            away_since: None,
            alarmed: None,
            knows: None,
            telling: None,
        }
    }

    /// The run of the replica that has answered last.
    pub fn node(&self) -> Option<NodeId> {
        self.hello.as_ref().map(|hello| hello.node)
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

    /// Decides the next step. Errors in the leader's own files are reported in `told`.
    pub fn next_send(
        &mut self,
        now: Monotonic,
        lead: &LeaderState,
        feed: &ReplicationBacklog,
        disk: &dyn Disk,
        told: &mut Vec<PeerEvent>,
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
            PeerState::Streaming(after) => {
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
                        self.alarm(format!("the log cannot be read for replica {}: {error}", self.url), told);
                        self.behind()
                    }
                    // Too many open files, perhaps: that passes.
                    Err(error) => {
                        self.alarm(format!("the log cannot be read for replica {}: {error}", self.url), told);
                        self.rest_until = now.after_ms(RETRY_MAX_MS);
                        return NextSend::Rest(self.rest_until);
                    }
                }
            }
        };
        (self.in_flight, self.sent) = (Some((command, !records.is_empty())), Some(now));
        let bytes: usize = records.iter().map(Bytes::len).sum();
        // A line that is too slow for records is given twice the time at each try.
        let slow = if bytes > 0 { self.slow.min(6) } else { 0 };
        let patience_ms = (EXCHANGE_TIMEOUT_MS + bytes as u64 / LEAST_BYTES_PER_MS) << slow;
        self.telling = (command != AppendCommand::Probe && self.knows.as_ref() != Some(&lead.members))
            .then(|| Arc::clone(&lead.members));
        NextSend::Send(self.append_request(command, after, records, lead), patience_ms)
    }

    fn behind(&mut self) -> (AppendCommand, Position, Vec<Bytes>) {
        self.state = PeerState::Behind;
        (AppendCommand::InstallSnapshot, Position::ZERO, vec![])
    }

    /// With nothing to send, whether the replica need not hear from the leader now.
    fn may_rest(&self, now: Monotonic, heartbeat: Monotonic, lead: &LeaderState) -> bool {
        let has_synced = |hello: &NodeState| hello.synced.is_none_or(|synced| synced >= hello.position.sequence);
        self.confirmed
            && self.is_in(lead.epoch)
            && now < heartbeat
            // Where a write waits for the replica's sync, it is asked again: it reports a sync only in an answer.
            && (!lead.durable || self.hello.as_ref().is_none_or(has_synced))
    }

    /// Returns whether the replica stands in this epoch: it has the table of those before, then, and does not look at
    /// another.
    fn is_in(&self, epoch: Epoch) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.position.epoch == epoch)
    }

    fn append_request(
        &self,
        command: AppendCommand,
        after: Position,
        records: Vec<Bytes>,
        lead: &LeaderState,
    ) -> Vec<Bytes> {
        let offer = AppendRequest {
            identity: lead.identity,
            leader: lead.node,
            epoch: lead.epoch,
            epochs: if command == AppendCommand::Append && self.is_in(lead.epoch) {
                EpochTable::default()
            } else {
                (*lead.epochs).clone()
            },
            last: lead.last,
            command,
            after,
            durable: lead.durable,
            members: self.telling.as_deref().cloned(),
            records: &[],
        };
        let mut body = vec![Bytes::from(offer.encode_head())];
        body.extend(records);
        body
    }

    /// The replica has answered.
    pub fn answered(&mut self, answer: AppendAnswer, now: Monotonic, lead: &LeaderState, told: &mut Vec<PeerEvent>) {
        let (command, with_records) = self.in_flight.take().expect("an answer is to an offer");
        (self.failures, self.away_since, self.answered) = (0, None, Some(now));
        if with_records {
            self.slow = 0;
        }
        let AppendAnswer { outcome, hello } = answer;
        let has_followed = command == AppendCommand::Append && outcome == AppendOutcome::Applied;
        self.note_what_it_knows(hello.node, has_followed);
        let before = self.state;
        self.state = match (classify_follower(&hello, lead), outcome) {
            // Whatever the outcome: a later epoch ends this leadership, and every write that it still takes may be
            // lost.
            (CatchUpPlan::StepDown(epoch), _) => {
                told.push(PeerEvent::StepDown(epoch));
                self.refused(now)
            }
            (CatchUpPlan::Refused(why), _) => {
                self.alarm(format!("replica {} is refused: {why}", self.url), told);
                self.refused(now)
            }
            (_, AppendOutcome::OtherLeader) => {
                self.alarm(
                    format!("replica {} is led by another process in this very epoch: two copies of one directory lead, stop \
                         one of them", self.url),
                    told,
                );
                self.refused(now)
            }
            // Before the plan: by the state that it still reports, a replica that loads a snapshot needs one.
            (_, AppendOutcome::Syncing) => PeerState::Loading,
            (CatchUpPlan::NeedSnapshot(why), _) => {
                self.alarm(format!("replica {} needs a snapshot: {why}", self.url), told);
                if before == PeerState::Behind {
                    self.rest_until = now.after_ms(HEARTBEAT_MS); // it was asked to load one, and has not begun
                }
                PeerState::Behind
            }
            (CatchUpPlan::Resume(at), AppendOutcome::Applied) => {
                self.alarmed = None;
                PeerState::Streaming(at)
            }
            // The pause keeps two nodes that do not agree on a position from asking each other without end.
            (CatchUpPlan::Resume(at), AppendOutcome::Gap) => {
                self.rest_until = now.after_ms(RETRY_MIN_MS);
                PeerState::Streaming(at)
            }
            (CatchUpPlan::Resume(_), AppendOutcome::Diverged) => PeerState::Behind,
            (CatchUpPlan::Resume(_), AppendOutcome::OldEpoch) => self.refused(now),
            (CatchUpPlan::Resume(_), AppendOutcome::OtherDatabase) => {
                self.alarm(format!("replica {} is refused: it holds another database", self.url), told);
                self.refused(now)
            }
            (CatchUpPlan::Resume(_), AppendOutcome::Unreadable(why)) => {
                self.alarm(format!("replica {} cannot read what it is sent: {why}", self.url), told);
                self.refused(now)
            }
        };
        match self.state {
            // It is known to be on this history once it has applied an append request, which it does only if the
            // records follow its own.
            PeerState::Streaming(at) if has_followed => {
                self.confirmed = true;
                told.push(PeerEvent::Progress(PeerProgress {
                    applied: at.sequence,
                    synced: hello.synced,
                    connected: true,
                }));
            }
            PeerState::Streaming(_) => self.confirmed = false,
            _ => told.push(PeerEvent::Lost),
        }
        self.holds_other = hello.database.is_some_and(|held| held != lead.identity.database_id);
        self.hello = Some(hello);
    }

    /// Notes that a run of a replica knows the members, once it has followed an append request that names them.
    fn note_what_it_knows(&mut self, node: NodeId, has_followed: bool) {
        if self.node() != Some(node) {
            self.knows = None;
        }
        if has_followed && self.telling.is_some() {
            self.knows = self.telling.take();
        }
    }

    /// Stops serving the replica for a while.
    fn refused(&mut self, now: Monotonic) -> PeerState {
        self.rest_until = now.after_ms(RETRY_MAX_MS);
        PeerState::Refused
    }

    /// The exchange has failed, or took too long. `random` is any number; it spreads the next tries.
    pub fn failed(&mut self, now: Monotonic, random: u64, told: &mut Vec<PeerEvent>) {
        if let Some((_, true)) = self.in_flight.take() {
            self.slow += 1;
        }
        // What became of the append request is not known: the replica has to say where it is.
        self.state = PeerState::Unknown;
        // Random, so that replicas that failed together are not all tried again at one moment.
        self.rest_until = now.after_ms(RetryPolicy::PEERS.wait_ms(self.failures, random));
        self.failures = self.failures.saturating_add(1);
        self.failed_exchanges += 1;
        self.away_since.get_or_insert(now);
        told.push(PeerEvent::Lost);
        inject!(CountsAFailedSend, {
            if let Some(hello) = &self.hello {
                let applied = hello.position.sequence + 1;
                told.push(PeerEvent::Progress(PeerProgress { applied, synced: hello.synced, connected: true }));
            }
        });
    }

    /// Returns whether it waits out a pause that new records do not end.
    pub fn is_waiting(&self, now: Monotonic) -> bool {
        now < self.rest_until || !matches!(self.state, PeerState::Streaming(_))
    }

    /// Since when every exchange has failed; `None` if the last one did not.
    pub fn away_since(&self) -> Option<Monotonic> {
        self.away_since
    }

    /// For `/status`.
    pub fn status(&self, now: Monotonic, last: Sequence) -> PeerStatus {
        // Records of another database are none of this one's.
        let hello = self.hello.as_ref().filter(|_| !self.holds_other);
        let applied = hello.map_or(0, |hello| hello.position.sequence);
        PeerStatus {
            url: self.url.clone(),
            state: match self.state {
                _ if self.failures > 0 => "away",
                PeerState::Streaming(_) if self.confirmed => "streaming",
                // It is asked, or has not applied anything yet: it acknowledges nothing.
                PeerState::Unknown | PeerState::Streaming(_) => "unknown",
                PeerState::Behind | PeerState::Loading => "syncing",
                PeerState::Refused => "refused",
            },
            position: self.hello.as_ref().and_then(|hello| {
                hello.database.map(|database| PositionToken::of(database, hello.position).to_string())
            }),
            applied,
            synced: hello.and_then(|hello| hello.synced),
            lag_records: last.saturating_sub(applied),
            silent_ms: self.answered.map(|at| now.since_ms(at)),
            failures: self.failures,
            failed_exchanges: self.failed_exchanges,
        }
    }

    /// Says something once, and again only when it has changed.
    fn alarm(&mut self, what: String, told: &mut Vec<PeerEvent>) {
        if self.alarmed.as_ref() != Some(&what) {
            self.alarmed = Some(what.clone());
            told.push(PeerEvent::Alarm(what));
        }
    }
}
