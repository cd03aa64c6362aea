//! The thread that sends a leader's records to its replicas.
//!
//! One task per replica, all on one thread: what they share nobody else locks, and reading a piece of the log for one
//! holds up the others for less than a millisecond. The tasks are the runtime's own: one of a `LocalSet` costs two
//! system calls more for each answer that comes.

use crate::node::machine::random;
use crate::{
    base::clock::{Clock, Monotonic},
    base::limits,
    base::position::{Epoch, EpochTable},
    base::trace::CommitTrail,
    engine::leader::{Leader, LeaderEvent},
    net::{link_error::LinkError, peer_credentials::PeerCredentials, peer_link::PeerLink},
    replication::{
        AppendAnswer, ClusterMembers, LeaderState, NextSend, NodeId, NodeState, PeerEvent, PeerIndex, PeerRegistry,
        PeerReplication,
    },
    storage::disk::Disk,
    storage::file_header::DatabaseIdentity,
    storage::manifest::Manifest,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{collections::BTreeMap, io, pin::pin, sync::Arc, thread::JoinHandle, time::Duration};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// A replica that announced itself and has been away for so long is forgotten, until it announces itself again.
const FORGET_MS: u64 = 10 * 60 * 1_000;
/// A local replica that has not announced itself for so long gets no more notices; it does so every second or so.
const FORGET_LOCAL_MS: u64 = 30_000;
/// One that has not for so long makes room for others.
const SILENT_LOCAL_MS: u64 = 5_000;
/// The least time between two notices: what is written meanwhile is told with the next one.
const NOTICE_PAUSE: Duration = Duration::from_millis(1);
/// Followers that are served at once.
const MOST: usize = limits::MAX_REPLICAS;

/// The context of the replication thread: everything that its tasks share.
pub(in crate::node) struct ReplicationContext {
    pub(in crate::node) leader: Leader,
    pub(in crate::node) node: NodeId,
    pub(in crate::node) identity: DatabaseIdentity,
    pub(in crate::node) clock: Arc<dyn Clock>,
    pub(in crate::node) epoch: Epoch,
    pub(in crate::node) epochs: Arc<EpochTable>,
    /// The leader's URL, for the replicas to know.
    pub(in crate::node) url: String,
    /// The nodes of the cluster, as replicas are told; made anew when the MANIFEST's replicas change.
    pub(in crate::node) members: Mutex<Arc<ClusterMembers>>,
    pub(in crate::node) disk: Arc<dyn Disk>,
    pub(in crate::node) manifest: Arc<Mutex<Manifest>>,
    pub(in crate::node) registry: PeerRegistry,
    pub(in crate::node) credentials: PeerCredentials,
    /// Replicas that the settings name.
    pub(in crate::node) configured: Vec<String>,
    /// The task that serves each run of a replica: one that is known under two addresses is served, and counted, once.
    pub(in crate::node) serving: Mutex<BTreeMap<NodeId, PeerIndex>>,
}

impl ReplicationContext {
    /// From here on replicas are told of these, and of those that the settings name.
    fn tell_members(&self, known: &[String]) {
        let more = known.iter().filter(|url| !self.configured.contains(url));
        let there_is_room = |url: &&String| url.len() <= limits::MAX_URL_BYTES;
        let others = self.configured.iter().chain(more).filter(|url| **url != self.url);
        let replicas = others.filter(there_is_room).take(limits::MAX_REPLICAS);
        let replicas = replicas.cloned().collect();
        *self.members.lock() = Arc::new(ClusterMembers { leader: self.url.clone(), replicas });
    }
}

/// The running thread.
pub(in crate::node) struct ReplicationThread {
    stopping: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// It ends with whoever has it: one that went on would write the MANIFEST of an epoch that is over.
impl Drop for ReplicationThread {
    fn drop(&mut self) {
        self.stopping.cancel();
        // A panic in it was logged, and takes nothing with it.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl ReplicationThread {
    pub(in crate::node) fn start(place: ReplicationContext, announced: mpsc::Receiver<NodeState>) -> io::Result<Self> {
        let stopping = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = stopping.clone();
        let thread = std::thread::Builder::new().name("memdb-replicate".into()).spawn(move || {
            runtime.block_on(async move {
                let running = run(Arc::new(place), announced);
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = running => {}
                }
            });
        })?;
        Ok(Self { stopping, thread: Some(thread) })
    }

    /// Ends it, and waits for that.
    pub(in crate::node) fn stop(self) {
        drop(self);
    }
}

/// A follower that is served.
struct ServedPeer {
    /// True if it gets notices and no records.
    local: bool,
    announced: Arc<Notify>,
    /// Since when it has been of no use: away, refused, or a local replica that is silent.
    idle_since: Arc<Mutex<Option<Monotonic>>>,
    task: tokio::task::JoinHandle<()>,
}

async fn run(place: Arc<ReplicationContext>, mut announced: mpsc::Receiver<NodeState>) {
    let mut served: BTreeMap<String, ServedPeer> = BTreeMap::new();
    let mut next: PeerIndex = 1;
    let mut serve = |served: &mut BTreeMap<String, ServedPeer>, url: &str, local: bool| {
        served.retain(|_, one| !one.task.is_finished());
        if url == place.url {
            return; // its settings, or those of a replica, name the leader itself
        }
        match served.get(url) {
            Some(known) if known.local == local => return known.announced.notify_one(),
            Some(_) => {
                tracing::info!(url, local, "another kind of follower is at this address now");
                stop_serving(&place, served, url);
            }
            None => {}
        }
        if served.len() >= MOST && !make_room(&place, served) {
            return tracing::warn!(url, "there are {MOST} followers already; this one is not served");
        }
        let link = match PeerLink::new(url, &place.credentials) {
            Ok(link) => link,
            Err(error) => return tracing::warn!(url, error, "a follower cannot be served"),
        };
        let (peer, announced, idle_since) = (next, Arc::new(Notify::new()), Arc::default());
        next += 1;
        let (announces, idle) = (Arc::clone(&announced), Arc::clone(&idle_since));
        let (place, commits) = (Arc::clone(&place), CommitTrail::default());
        let task = PeerTask { place, peer, link, commits, announced: announces, idle_since: idle };
        let url = url.to_owned();
        let task =
            if local { tokio::spawn(task.notices(url.clone())) } else { tokio::spawn(task.records(url.clone())) };
        served.insert(url, ServedPeer { local, announced, idle_since, task });
    };
    let known = place.manifest.lock().state.replicas.clone();
    place.tell_members(&known);
    for url in place.configured.iter().chain(&known) {
        serve(&mut served, url, false);
    }
    while let Some(hello) = announced.recv().await {
        tracing::debug!(url = hello.url, position = %hello.position, "a follower has announced itself");
        serve(&mut served, &hello.url, hello.local);
    }
}

/// Forgets the follower that has been of no use for longest, so that one that is there can be served: where a replica
/// has another address after each start, most of those that are known are gone. Tells whether there is room now.
fn make_room(place: &ReplicationContext, served: &mut BTreeMap<String, ServedPeer>) -> bool {
    let others = served.iter().filter(|(url, _)| !place.configured.contains(url));
    let longest = others.filter_map(|(url, one)| Some(((*one.idle_since.lock())?, url.clone()))).min();
    let Some((_, url)) = longest else { return false };
    tracing::info!(url, "a follower that is of no use makes room for another");
    stop_serving(place, served, &url);
    true
}

fn stop_serving(place: &ReplicationContext, served: &mut BTreeMap<String, ServedPeer>, url: &str) {
    if let Some(gone) = served.remove(url) {
        gone.task.abort();
        note(place, url, false);
    }
}

/// Notes in the MANIFEST which replicas there are, so that they are asked after a restart.
fn note(place: &ReplicationContext, url: &str, there: bool) {
    let mut manifest = place.manifest.lock();
    let replicas = &mut manifest.state.replicas;
    let known = replicas.iter().position(|known| known == url);
    match (known, there) {
        (None, true) => {
            if replicas.len() >= limits::MAX_REPLICAS {
                let Some(useless) = replicas.iter().position(|known| !is_there(place, known)) else {
                    return tracing::warn!(
                        url,
                        "a restart will not know of this replica: it knows of too many already"
                    );
                };
                replicas.remove(useless);
            }
            replicas.push(url.to_owned());
        }
        (Some(at), false) => {
            replicas.remove(at);
        }
        _ => return,
    }
    place.tell_members(&manifest.state.replicas);
    if let Err(error) = manifest.write(&*place.disk) {
        tracing::warn!(%error, url, "the MANIFEST could not be written: a restart will not know of this replica");
    }
}

/// Returns whether the replica at this address is served and, as far as is known, there.
fn is_there(place: &ReplicationContext, url: &str) -> bool {
    place.registry.statuses().iter().any(|one| one.url == url && !matches!(one.state, "away" | "refused"))
}

/// One follower's task.
struct PeerTask {
    place: Arc<ReplicationContext>,
    peer: PeerIndex,
    link: PeerLink,
    commits: CommitTrail,
    announced: Arc<Notify>,
    idle_since: Arc<Mutex<Option<Monotonic>>>,
}

/// However a task ends, also by a panic or from outside: from then on its replica counts for nothing.
impl Drop for PeerTask {
    fn drop(&mut self) {
        let ReplicationContext { registry, serving, leader, .. } = &*self.place;
        leader.send(LeaderEvent::Replica(self.peer, PeerEvent::Gone));
        serving.lock().retain(|_, serving| *serving != self.peer);
        registry.forget(self.peer);
    }
}

impl PeerTask {
    fn now(&self) -> Monotonic {
        self.place.clock.monotonic()
    }

    fn lead(&self) -> LeaderState {
        let ReplicationContext { node, identity, epoch, epochs, leader, members, .. } = &*self.place;
        let current = leader.view().current();
        let last = current.as_ref().expect("a leader serves from the start").reader.read().state_id();
        LeaderState {
            node: *node,
            identity: *identity,
            epoch: *epoch,
            epochs: Arc::clone(epochs),
            last,
            durable: leader.wants_durable(),
            members: Arc::clone(&members.lock()),
        }
    }

    /// Sends records to a replica.
    async fn records(self, url: String) {
        let mut sender = PeerReplication::new(url.clone());
        let mut records = self.place.leader.backlog().subscribe();
        let (mut told, mut said) = (Vec::new(), None);
        let (mut refused_since, mut followed) = (None, None);
        self.place.registry.note(self.peer, sender.status(self.now(), *records.borrow()));
        loop {
            records.borrow_and_update();
            match sender.next_send(self.now(), &self.lead(), self.place.leader.backlog(), &*self.place.disk, &mut told)
            {
                NextSend::Send(offer, patience_ms) => {
                    match self.exchange(offer, patience_ms, &mut said).await {
                        Ok(answer) => sender.answered(answer, self.now(), &self.lead(), &mut told),
                        Err(error) => {
                            tracing::debug!(url, %error, "an exchange has failed");
                            let random = random().map_or(0, |random| random as u64);
                            sender.failed(self.now(), random, &mut told);
                        }
                    }
                    if !self.is_mine(&sender) {
                        tracing::info!(
                            "{url} is this leader, or a replica that is served under another address already"
                        );
                        break;
                    }
                    told.drain(..).for_each(|told| self.tell(&url, told, &mut said));
                }
                NextSend::Rest(until) => {
                    told.drain(..).for_each(|told| self.tell(&url, told, &mut said));
                    let until = Duration::from_millis(until.since_ms(self.now()).max(1));
                    // While an earlier failure is waited out, a new record is no reason to try again.
                    let waits = sender.is_waiting(self.now());
                    tokio::select! {
                        _ = records.changed(), if !waits => {}
                        () = self.announced.notified() => sender.announced(),
                        () = tokio::time::sleep(until) => {}
                    }
                }
            }
            let last = *records.borrow();
            let status = sender.status(self.now(), last);
            // For a replica that answers, the newest records are in memory; for one that is away they are in the log.
            let answers = matches!(status.state, "streaming" | "syncing");
            followed = answers.then(|| followed.take().unwrap_or_else(|| self.place.leader.backlog().follow()));
            let away_since = sender.away_since();
            refused_since = (status.state == "refused").then(|| refused_since.unwrap_or(self.now()));
            *self.idle_since.lock() = away_since.or(refused_since);
            self.place.registry.note(self.peer, status);
            let is_configured = self.place.configured.contains(&url);
            if !is_configured && away_since.is_some_and(|since| self.now().since_ms(since) > FORGET_MS) {
                tracing::info!(url, "a replica has been away for long: it is forgotten until it announces itself");
                break;
            }
        }
        note(&self.place, &url, false);
    }

    /// Returns whether no other task serves the replica that has answered.
    fn is_mine(&self, sender: &PeerReplication) -> bool {
        let Some(node) = sender.node() else { return true };
        if node == self.place.node {
            return false; // it is this leader, under another address
        }
        let mut serving = self.place.serving.lock();
        if let Some(peer) = serving.get(&node) {
            return *peer == self.peer;
        }
        serving.retain(|_, peer| *peer != self.peer); // it was restarted
        serving.insert(node, self.peer);
        true
    }

    /// One exchange. A replica that takes longer than usual is not waited for meanwhile.
    async fn exchange(
        &self,
        offer: Vec<Bytes>,
        patience_ms: u64,
        said: &mut Option<PeerEvent>,
    ) -> Result<AppendAnswer, LinkError> {
        let mut span = self.commits.exchange();
        span.set_text("server.address", || self.link.base().to_owned());
        let trace = span.place();
        let mut answer = pin!(self.link.append_traced(&offer, Duration::from_millis(patience_ms), &trace));
        let usual = Duration::from_millis(limits::EXCHANGE_TIMEOUT_MS);
        match tokio::time::timeout(usual, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.tell(self.link.base(), PeerEvent::Lost, said);
                answer.await
            }
        }
    }

    /// Passes on what is new.
    fn tell(&self, url: &str, told: PeerEvent, said: &mut Option<PeerEvent>) {
        match &told {
            PeerEvent::Alarm(what) => return tracing::error!("{what}"),
            PeerEvent::StepDown(epoch) => {
                tracing::error!(
                    "replica {url} has seen epoch {epoch}, and this leader is in {}: another leads. No more writes here",
                    self.place.epoch
                );
                self.place.leader.view().set_ready(false);
            }
            PeerEvent::Lost if matches!(said, Some(PeerEvent::Progress(_))) => {
                tracing::warn!("replica {url} does not acknowledge any more");
            }
            PeerEvent::Progress(_) if !matches!(said, Some(PeerEvent::Progress(_))) => {
                tracing::info!("replica {url} is connected");
                // Not before: anybody can announce any address.
                note(&self.place, url, true);
            }
            _ => {}
        }
        if said.as_ref() != Some(&told) {
            *said = Some(told.clone());
            self.place.leader.send(LeaderEvent::Replica(self.peer, told));
        }
    }

    /// Tells a local replica when there is something new in the files.
    async fn notices(self, url: String) {
        let mut records = self.place.leader.backlog().subscribe();
        let (mut heard, mut said) = (self.now(), false);
        while self.now().since_ms(heard) < FORGET_LOCAL_MS {
            let is_silent = self.now().since_ms(heard) > SILENT_LOCAL_MS;
            *self.idle_since.lock() = is_silent.then_some(heard);
            tokio::select! {
                changed = records.changed() => if changed.is_err() { return },
                () = self.announced.notified() => heard = self.now(),
                () = tokio::time::sleep(Duration::from_millis(SILENT_LOCAL_MS)) => continue,
            }
            // It looks by itself every tenth of a second: what it is not told of costs time, and nothing else.
            let noticed = self.link.notice().await;
            if let Err(error) = &noticed
                && !said
            {
                tracing::warn!(url, %error, "a local replica does not take notices");
            }
            said = noticed.is_err();
            tokio::time::sleep(if said { Duration::from_millis(limits::HEARTBEAT_MS) } else { NOTICE_PAUSE }).await;
        }
    }
}
