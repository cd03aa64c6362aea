//! The recovery of a lost end of the log before a node leads, as a state machine: it asks the nodes it knows whether
//! one has led since, or has records that this log has lost, and fetches those.
//!
//! After the machine went down, or the log had to be cut, replicas may have records that this log has lost. A node does
//! not lead without records that it knows to exist. An empty directory whose replicas hold a database is an accident,
//! and refused.
//!
//! The owner carries out each [`TailAction`], in any order and at any pace, and reports what came of it. What is right
//! to take from whom is decided in `tail_plan.rs`.

use super::{
    AppendAnswer, AppendRequest, AppendTailError, ElectedLeader, NodeState, TailRecoveryPlan, append_tail,
    missing_tail, plan,
};
use crate::{
    base::limits,
    base::position::{Epoch, Position, Sequence},
    storage::manifest::Manifest,
    storage::recovery::RecoveredDatabase,
};
use bytes::Bytes;
use std::collections::VecDeque;

/// Time to wait for other nodes if something may be missing here, and for the next records of a tail, in milliseconds.
const PATIENCE_MS: u64 = 5_000;
/// Time to wait for them otherwise, in milliseconds: only to hear whether another leads.
const SHORT_PATIENCE_MS: u64 = 1_000;
/// Time that an elected node waits for records of the nodes that have promised, in milliseconds. Nobody leads
/// meanwhile.
// A leader that steps down goes on in memory and gives records at once. Where it cannot (decision 18), it reads its
// files anew first: seconds with millions of words.
const HAND_OVER_PATIENCE_MS: u64 = 60_000;
/// The pause before a node is asked again, in milliseconds.
const PAUSE_MS: u64 = 200;

/// A node that is about to lead.
#[derive(Clone, Debug)]
pub struct StartingNode {
    /// The URL by which others reach it.
    pub url: String,
    /// The machine's boot.
    pub boot_id: String,
    /// The nodes that its settings name.
    pub named: Vec<String>,
    /// The one of them that it was started to follow, if any.
    pub told_to_follow: Option<String>,
    /// True if its settings say that an empty directory is to become a new database, whatever others hold.
    pub init: bool,
    /// The promises of other nodes, if it was promoted.
    pub elected: Option<ElectedLeader>,
}

/// Returns whether a node begins by asking whether it may lead, rather than as a follower. `verb` says whether it was
/// started with the verb of a leader: that is how an empty directory begins. A directory with a database goes on as
/// what its node was last. A node that led the latest epoch leads again, or nobody would, as all others wait for it. A
/// node that followed waits for whoever has led since.
pub fn leads_at_start(manifest: Option<&Manifest>, verb: bool) -> bool {
    manifest.map_or(verb, |manifest| manifest.state.has_led())
}

/// An effect that the driver of a start carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailAction {
    /// Send this append request to the node at this URL, wait for the answer for so many milliseconds at most, and
    /// report to [`TailRecovery::answered`].
    Ask(String, Bytes, u64),
    /// Ask the node at this URL for the records behind this position, and report to [`TailRecovery::fetched`].
    Fetch(String, Position),
    /// Nothing to do before this time, or a report.
    Wait(u64),
    /// Something a person should look at.
    Alarm(String),
    /// The recovered state can no longer be used: read the files again.
    ReadAgain,
    /// Lead, from what is recovered now.
    Lead,
    /// Do not lead.
    Refused(TailRefusal),
}

/// The reason why a node does not lead. The message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailRefusal {
    /// Records that it would lead without may be elsewhere.
    #[error("{0}")]
    NotLeader(String),
    /// Records that were fetched lead to other counts than they state.
    #[error("{0}")]
    Diverged(String),
    /// Another leads in a later epoch, or is about to.
    #[error("{told}")]
    Succeeded {
        /// Its URL, if that is known.
        by: Option<String>,
        /// The evidence, for a person.
        told: String,
    },
}

/// The reason why a node did not say where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// The node does not run: nothing listens there.
    NotThere,
    /// The way to it was bad, or it is busy, starting or stopping: asking again may go better.
    MayPass(String),
    /// The node there is not one of this cluster, or does not let this one ask.
    Strange(String),
}

/// The state of one node's answer.
#[derive(Clone, Debug)]
enum PolledState {
    /// The node is to be asked at this time, and failed to answer before for this reason.
    Due(u64, String),
    /// The question is under way; the node failed to answer before for this reason.
    Asked(String),
    Answered(NodeState),
    /// The node will not answer.
    Silent,
}

#[derive(Clone, Debug)]
struct TailNode {
    url: String,
    state: PolledState,
}

/// A node that has more than this log.
#[derive(Clone, Debug)]
struct TailSource {
    url: String,
    /// The last record it has.
    last: Sequence,
}

/// Records are fetched from all sources in turn, again and again.
#[derive(Clone, Debug)]
struct TailFetch {
    /// The sources of the tail, the most advanced first.
    sources: Vec<TailSource>,
    /// The source that is asked next.
    at: usize,
    is_under_way: bool,
    /// The end of the log before anything was fetched, and at the beginning of this turn.
    before: Sequence,
    turn_began: Sequence,
    troubles: Vec<String>,
    deadline_ms: u64,
    /// The pause between two turns ends.
    pause_until_ms: u64,
}

#[derive(Clone, Debug)]
enum TailStep {
    Asking,
    Fetching(TailFetch),
    /// A candidate asks everybody again: those who have promised may be changing their role just now.
    Pausing(u64),
    /// Then it leads, or asks everybody again.
    ReadAgain {
        leads: bool,
    },
    Leads,
    Refused(TailRefusal),
}

/// A start under way.
pub struct TailRecovery {
    starter: StartingNode,
    is_new: bool,
    nodes: Vec<TailNode>,
    patience_ms: u64,
    began_ms: u64,
    deadline_ms: u64,
    step: TailStep,
    alarms: VecDeque<String>,
}

impl TailRecovery {
    /// A start that has asked nobody yet, of a node whose files gave `recovered`.
    pub fn new(mut starter: StartingNode, recovered: &RecoveredDatabase, now_ms: u64) -> Self {
        let state = &recovered.manifest.state;
        // An earlier attempt of its own has begun that epoch, and failed once the MANIFEST had it: nothing was written
        // in it, and nobody else can have it. From here on a node starts that led, in the epoch behind that one.
        starter.elected = starter.elected.take().filter(|elected| !state.has_begun(elected.epoch));
        let elected = starter.elected.as_ref();
        // The death of the process alone loses nothing that was appended, since the kernel has it. Only the loss of the
        // machine does.
        let went_down = state.clean_stop.is_none() && state.boot_id != starter.boot_id;
        let may_miss = recovered.new || recovered.report.cut.is_some() || went_down || elected.is_some();
        let known = elected.map_or(&state.replicas, |elected| &elected.others);
        let named = starter.named.iter().chain(known).chain(&state.leader_url);
        let mut urls: Vec<String> = named.filter(|other| **other != starter.url).cloned().collect();
        urls.sort_unstable();
        urls.dedup();
        let nodes =
            urls.into_iter().map(|url| TailNode { url, state: PolledState::Due(now_ms, String::new()) }).collect();
        // Asked at every start, also after a clean stop: another node may have been promoted since (decision 8).
        let patience_ms = if may_miss { PATIENCE_MS } else { SHORT_PATIENCE_MS };
        let step = match unasked(&starter, recovered) {
            Some(refusal) => TailStep::Refused(refusal),
            None if recovered.new && starter.init => TailStep::Leads,
            None => TailStep::Asking,
        };
        let deadline_ms = now_ms + patience_ms;
        Self {
            starter,
            is_new: recovered.new,
            nodes,
            patience_ms,
            began_ms: now_ms,
            deadline_ms,
            step,
            alarms: VecDeque::new(),
        }
    }

    /// The nodes that it asks.
    pub fn asks(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.url.as_str())
    }

    /// Gives the next action.
    pub fn poll(&mut self, recovered: &mut RecoveredDatabase, now_ms: u64) -> TailAction {
        loop {
            if let Some(alarm) = self.alarms.pop_front() {
                return TailAction::Alarm(alarm);
            }
            let action = match &self.step {
                TailStep::Asking => self.ask(recovered, now_ms),
                TailStep::Fetching(_) => self.fetch(recovered, now_ms),
                TailStep::Pausing(until_ms) if now_ms < *until_ms => Some(TailAction::Wait(*until_ms)),
                TailStep::Pausing(_) => {
                    self.nodes.iter_mut().for_each(|node| node.state = PolledState::Due(now_ms, String::new()));
                    (self.step, self.deadline_ms) = (TailStep::Asking, now_ms + self.patience_ms);
                    None
                }
                TailStep::ReadAgain { leads } => {
                    self.step = if *leads { TailStep::Leads } else { TailStep::Pausing(now_ms) };
                    Some(TailAction::ReadAgain)
                }
                TailStep::Leads => {
                    self.start_epoch(recovered);
                    Some(TailAction::Lead)
                }
                TailStep::Refused(refusal) => Some(TailAction::Refused(refusal.clone())),
            };
            if let Some(action) = action {
                return action;
            }
        }
    }

    /// Sets the epoch that starts, and what the MANIFEST notes with it.
    fn start_epoch(&self, recovered: &mut RecoveredDatabase) {
        if let Some(elected) = &self.starter.elected {
            recovered.manifest.state.replicas.clone_from(&elected.others);
            recovered.promote(elected.epoch);
        }
        // It may have been a replica of the leader before.
        let state = &mut recovered.manifest.state;
        state.replicas.retain(|url| *url != self.starter.url);
        state.leader_url = Some(self.starter.url.clone());
    }

    /// Asks whoever is due, until all have answered or their time is over.
    fn ask(&mut self, recovered: &mut RecoveredDatabase, now_ms: u64) -> Option<TailAction> {
        let epoch = recovered.manifest.state.epoch;
        let is_over = now_ms >= self.deadline_ms;
        let mut wake_ms = self.deadline_ms;
        for node in &mut self.nodes {
            let url = &node.url;
            match std::mem::replace(&mut node.state, PolledState::Silent) {
                // Only reported: a replica that is away for good must not keep its leader from starting.
                PolledState::Due(_, why) if is_over => self.alarms.push_back(format!(
                    "replica {url} did not answer in time, and may have what is missing here: {why}"
                )),
                PolledState::Due(at_ms, why) if at_ms <= now_ms => {
                    let patience_ms = limits::EXCHANGE_TIMEOUT_MS.min(self.deadline_ms - now_ms);
                    let question = AppendRequest::probe(recovered.manifest.identity, epoch).encode_head().into();
                    node.state = PolledState::Asked(why);
                    return Some(TailAction::Ask(url.clone(), question, patience_ms));
                }
                other => {
                    if let PolledState::Due(at_ms, _) = &other {
                        wake_ms = wake_ms.min(*at_ms);
                    }
                    node.state = other;
                }
            }
        }
        if self.nodes.iter().any(|node| matches!(node.state, PolledState::Due(..) | PolledState::Asked(_))) {
            return Some(TailAction::Wait(wake_ms));
        }
        self.decide(recovered, now_ms);
        None
    }

    /// The node at `url` has answered, or not.
    pub fn answered(&mut self, url: &str, answer: Result<AppendAnswer, ProbeError>, now_ms: u64) {
        let Some(node) = self.nodes.iter_mut().find(|node| node.url == url) else { return };
        let PolledState::Asked(before) = std::mem::replace(&mut node.state, PolledState::Silent) else {
            unreachable!("one question at a time, and an answer to each")
        };
        match answer {
            Ok(answer) => node.state = PolledState::Answered(answer.hello),
            // That nothing listens is an answer: the replica does not run, and waiting would not change that.
            Err(ProbeError::NotThere) => {}
            Err(ProbeError::MayPass(why)) => {
                // What it said before its time was cut short tells more.
                let why = if now_ms < self.deadline_ms || before.is_empty() { why } else { before };
                node.state = PolledState::Due(now_ms + PAUSE_MS, why);
            }
            // An empty directory is most likely a wrong path or a disk that is not mounted, and the replica then has
            // the only copy.
            Err(ProbeError::Strange(why)) if self.is_new => {
                let refusal = format!(
                    "this directory is empty, and whether replica {url} holds a database cannot be told, because {why}: put \
                     that right, take it from --replica, or say --init to begin a new database"
                );
                self.step = TailStep::Refused(TailRefusal::NotLeader(refusal));
            }
            Err(ProbeError::Strange(why)) => {
                self.alarms.push_back(format!("replica {url} may have what is missing here, but {why}"));
            }
        }
    }

    /// All have answered that will.
    fn decide(&mut self, recovered: &RecoveredDatabase, now_ms: u64) {
        let answered = self.nodes.iter().filter_map(|node| match &node.state {
            PolledState::Answered(hello) => Some((node.url.clone(), hello.clone())),
            _ => None,
        });
        let (urls, hellos): (Vec<String>, Vec<NodeState>) = answered.unzip();
        // Before epochs and positions are compared: a new database has none that mean anything to others.
        if self.is_new {
            let holds =
                hellos.iter().zip(&urls).find_map(|(hello, url)| hello.database.map(|database| (database, url)));
            self.step = holds.map_or(TailStep::Leads, |(database, url)| TailStep::Refused(is_empty(database, url)));
            return;
        }
        let (database, epoch) = (recovered.manifest.identity.database_id, recovered.manifest.state.epoch);
        let is_told_to_follow = |url: &&String| self.starter.told_to_follow.as_ref() == Some(*url);
        let other = hellos.iter().zip(&urls).find(|(hello, url)| {
            hello.leads && hello.database.is_some_and(|theirs| theirs != database) && is_told_to_follow(url)
        });
        if let Some((_, url)) = other.filter(|_| self.starter.elected.is_none()) {
            let told = format!(
                "this node was started to follow {url}, which leads another database than {database:032x}: give it the right \
                 --leader, or start it by `memdb leader`"
            );
            self.step = TailStep::Refused(TailRefusal::Succeeded { by: Some(url.clone()), told });
            return;
        }
        let end = end_of(recovered);
        let promised = self.starter.elected.as_ref().map_or(epoch, |elected| elected.epoch);
        match plan(&hellos, database, epoch, end, promised) {
            TailRecoveryPlan::Nobody => self.has_all(recovered, now_ms),
            TailRecoveryPlan::HigherEpoch(at, seen) => {
                let url = &urls[at];
                let told = format!(
                    "{url} has seen epoch {seen}, and the last one here was {epoch}: another leader has taken over, or \
                     these files are an old copy"
                );
                let by = hellos[at].leads.then(|| url.clone());
                self.step = TailStep::Refused(TailRefusal::Succeeded { by, told });
            }
            TailRecoveryPlan::From(ahead) => {
                let source = |at: usize| TailSource { url: urls[at].clone(), last: hellos[at].position.sequence };
                self.step = TailStep::Fetching(TailFetch {
                    sources: ahead.into_iter().map(source).collect(),
                    at: 0,
                    is_under_way: false,
                    before: end,
                    turn_began: end,
                    troubles: Vec::new(),
                    deadline_ms: now_ms + PATIENCE_MS,
                    pause_until_ms: now_ms,
                });
            }
        }
    }

    /// Fetches the next records, or has none to fetch.
    fn fetch(&mut self, recovered: &RecoveredDatabase, now_ms: u64) -> Option<TailAction> {
        let TailStep::Fetching(fetching) = &mut self.step else { return None };
        let (end, wanted) = (end_of(recovered), fetching.sources[0].last);
        if fetching.is_under_way {
            return Some(TailAction::Wait(u64::MAX));
        }
        if now_ms < fetching.pause_until_ms {
            return Some(TailAction::Wait(fetching.pause_until_ms));
        }
        if let Some(skipped) = fetching.sources[fetching.at..].iter().position(|source| source.last > end) {
            fetching.at += skipped;
            fetching.is_under_way = true;
            let url = fetching.sources[fetching.at].url.clone();
            return Some(TailAction::Fetch(url, recovered.store.mark().position));
        }
        // A turn is over.
        if end >= wanted {
            let records = end - fetching.before;
            self.alarms.push_back(format!("took {records} records back from replicas that this log had lost"));
            self.has_all(recovered, now_ms);
            return None;
        }
        // A tail of any length may be fetched, as long as it gets longer.
        if end > fetching.turn_began {
            fetching.deadline_ms = now_ms + PATIENCE_MS;
        }
        if now_ms < fetching.deadline_ms {
            fetching.troubles.clear();
            // From the most advanced again: another source may have filled the gap that it could not.
            (fetching.at, fetching.turn_began, fetching.pause_until_ms) = (0, end, now_ms + PAUSE_MS);
            return None;
        }
        let (url, troubles) = (fetching.sources[0].url.clone(), fetching.troubles.join("; "));
        let why = format!(
            "the log here ends at record {end}, replica {url} has the records up to {wanted}, and they cannot be taken back \
             ({troubles}): start again once it gives them, or `memdb restore --from {url}` into an empty directory. To lead \
             without those records, stop that replica first"
        );
        self.give_up_on_tail(why, now_ms);
        None
    }

    /// The source that was asked has given records (empty: no more; `None`: it has those behind the position no
    /// longer), or not; then why.
    pub fn fetched(&mut self, records: Result<Option<Bytes>, String>, recovered: &mut RecoveredDatabase) {
        let TailStep::Fetching(fetching) = &mut self.step else { return };
        fetching.is_under_way = false;
        let source = &fetching.sources[fetching.at];
        let trouble = match records {
            Ok(Some(records)) if records.is_empty() => Some("it gives no more records".to_owned()),
            Ok(Some(records)) => {
                let (identity, epoch) = (recovered.manifest.identity, recovered.manifest.state.epoch);
                let RecoveredDatabase { store, open, report, .. } = &mut *recovered;
                // In no log, they are durable only once a snapshot has them.
                report.clean &= open.is_some();
                match append_tail(store, open.as_mut(), &identity, epoch, &records) {
                    Ok(_) => None,
                    Err(AppendTailError::Foreign(why)) => Some(why),
                    Err(AppendTailError::Diverged(why)) => {
                        let url = source.url.clone();
                        return self.has_diverged(&url, &why);
                    }
                    Err(AppendTailError::Log(why)) => {
                        self.alarms.push_back(format!(
                            "the log takes no records back ({why}): the files are read again, to go on from what they hold"
                        ));
                        self.step = TailStep::ReadAgain { leads: false };
                        return;
                    }
                }
            }
            Ok(None) => Some("it no longer has the records in between".to_owned()),
            Err(why) => Some(why),
        };
        if let Some(why) = trouble {
            fetching.troubles.push(format!("{}: {why}", source.url));
            fetching.at += 1;
        }
    }

    /// The state cannot be used any more. The files are as they were.
    fn has_diverged(&mut self, url: &str, why: &str) {
        let why = format!(
            "what replica {url} gives back does not lead to the counts that it states ({why}). To lead without those records, \
             stop that replica first"
        );
        if self.is_forced() {
            self.alarms.push_back(format!("leading without taking anything back, as it was forced: {why}"));
            // The store has applied the record before its digest was compared, so it is of no use any more.
            self.step = TailStep::ReadAgain { leads: true };
        } else {
            self.step = TailStep::Refused(TailRefusal::Diverged(why));
        }
    }

    /// Nobody who has answered has more. Who has promised, and cannot be asked again, may have.
    fn has_all(&mut self, recovered: &RecoveredDatabase, now_ms: u64) {
        let here = recovered.stands();
        let elected = self.starter.elected.as_ref();
        // An elected node also knows what was reported when it was promised. Of that nothing may be missing, even if
        // those who said it are silent by now.
        let missing =
            elected.and_then(|elected| Some((missing_tail(elected.promised.iter().copied(), here)?, elected.epoch)));
        let Some((most, epoch)) = missing else {
            self.step = TailStep::Leads;
            return;
        };
        let why = format!(
            "a node that has promised epoch {epoch} was at {most}, this one is at {here}, and that node cannot be asked any more"
        );
        self.give_up_on_tail(why, now_ms);
    }

    /// Decides what to do about records that exist elsewhere and cannot be fetched.
    fn give_up_on_tail(&mut self, why: String, now_ms: u64) {
        let waits = self.starter.elected.is_some() && now_ms.saturating_sub(self.began_ms) <= HAND_OVER_PATIENCE_MS;
        self.step = if self.is_forced() {
            self.alarms.push_back(format!("leading all the same, as it was forced: {why}"));
            TailStep::Leads
        } else if waits {
            // Those who have promised may be changing their role just now, the old leader above all, and give their
            // records once they have.
            TailStep::Pausing(now_ms + PAUSE_MS)
        } else {
            TailStep::Refused(TailRefusal::NotLeader(why))
        };
    }

    fn is_forced(&self) -> bool {
        self.starter.elected.as_ref().is_some_and(|elected| elected.force)
    }
}

/// Gives the reason not to lead that is known without asking anybody, if there is one.
fn unasked(starter: &StartingNode, recovered: &RecoveredDatabase) -> Option<TailRefusal> {
    let state = &recovered.manifest.state;
    let own: Epoch = starter.elected.as_ref().map_or(state.epoch, |elected| elected.epoch);
    // A promise is not undone by a restart: whoever has it may lead by now. One's own counts from the last record on:
    // whoever leads in that very epoch was quicker.
    if state.highest() > own || (starter.elected.is_some() && state.epoch == own) {
        let told =
            format!("epoch {} was promised to another node, or is led by it, and this one's is {own}", state.highest());
        return Some(TailRefusal::Succeeded { by: None, told });
    }
    // The leader that was followed may have acknowledged more than is here, and a start does not elect.
    if starter.elected.is_none() && state.has_followed() {
        let told = format!(
            "the files here are a follower's, in epoch {}; if nobody leads, promote it or another",
            state.epoch
        );
        return Some(TailRefusal::Succeeded { by: state.leader_url.clone().filter(|by| *by != starter.url), told });
    }
    None
}

fn is_empty(database: u128, url: &str) -> TailRefusal {
    TailRefusal::NotLeader(format!(
        "this directory is empty, and replica {url} holds database {database:032x}: give the right --data-dir, `memdb restore \
         --from {url}`, or say --init to begin a new database"
    ))
}

fn end_of(recovered: &RecoveredDatabase) -> Sequence {
    recovered.store.mark().position.sequence
}

#[cfg(test)]
mod tests;
