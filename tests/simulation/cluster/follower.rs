//! A replica's process: what the threads of `src/node/{following,full_sync}.rs` do, a step at a time.

use super::{
    bug::Bug,
    candidates::Promoting,
    leader::{place_of, url_of},
    machines::Process,
    network::{Packet, Place, Way},
    simulation::{Cluster, ended},
};
use crate::disk::SimDisk;
use memdb::{
    base::position::Position,
    data::store::{DedupLimits, StateId, Store, StoreReader},
    engine::replica::{LoadedSnapshot, Replica, ReplicaAction, ReplicaDirectory, ReplicaFindings, ReplicaSettings},
    replication::{
        AnnounceResult, AppendAnswer, AppendOutcome, AppendRequest, ClusterMembers, HistorySource, LeaderDiscovery,
        ReplicationBacklog, SnapshotOffer, SnapshotUpload, has_promised,
    },
    storage::disk::{Disk, DiskFile, temporary_name},
    storage::file_header::{DatabaseIdentity, FileError, SNAPSHOT_PREFIX},
    storage::recovery::{self, NodeRun, RecoveredDatabase},
    storage::snapshot::{JobStep, SnapshotJob, SnapshotLoader, SnapshotSettings},
    storage::wal,
};
use std::{collections::VecDeque, io, sync::Arc};

/// Where an answer goes: to whom, and the number of the exchange; 0 is the question of a leader that starts.
pub type Reply = (Place, u64);

/// A running replica.
pub struct Following {
    pub disk: Option<Arc<dyn Disk>>,
    pub replica: Replica<Reply>,
    feed: Arc<ReplicationBacklog>,
    pub archive: HistorySource,
    /// What is served.
    pub view: Option<StoreReader>,
    pub ready: bool,
    /// Syncs that are asked for, each with its result once it has run, in their order.
    syncs: VecDeque<(wal::SyncJob, Option<io::Result<()>>)>,
    snapshot: Option<SnapshotJob>,
    load: Option<Load>,
    /// A snapshot is loaded, and waits until the own one is written.
    takes_over: bool,
    /// What the question of a leader that starts was answered.
    told_starting: Option<AppendAnswer>,
    asked: bool,
    /// Where its leader may be.
    pub discovery: LeaderDiscovery,
    /// The nodes of the cluster, as its leader has told.
    pub members: ClusterMembers,
    /// It is about to lead.
    pub promoting: Option<Promoting>,
    /// Its role ends: a snapshot that is being written is not waited for.
    pub hands_over: bool,
}

/// A full sync under way.
enum Load {
    Wanted(DatabaseIdentity),
    Coming(Coming),
}

struct Coming {
    outgoing: SnapshotUpload,
    identity: DatabaseIdentity,
    at: u64,
    loader: Box<SnapshotLoader>,
    file: Option<Arc<dyn DiskFile>>,
}

impl Following {
    /// Where its store is; `None` if it holds nothing, or what it holds is known to be wrong.
    pub fn position(&self) -> Option<Position> {
        let hello = self.replica.node_state();
        hello.database.filter(|_| !hello.diverged).map(|_| hello.position)
    }

    /// Whether it keeps what it applies.
    pub fn keeps(&self) -> bool {
        self.replica.node_state().synced.is_some()
    }
}

impl Cluster {
    /// Starts a replica, as far as the faults let it.
    pub fn start_replica(&mut self, seat: Place) -> Result<(), String> {
        let machine = Arc::clone(&self.nodes[seat].machine);
        let keeps = self.nodes[seat].keeps_files;
        let disk = keeps.then(|| -> Arc<dyn Disk> { Arc::new(SimDisk::new(&machine)) });
        let met = machine.lock().met;
        let segment_bytes = self.settings.segment_bytes;
        let mut run = self.node_run(seat);
        let found = disk.as_ref().map_or(Ok(ReplicaFindings::Nothing), |disk| {
            let looked = recovery::look_follower(&**disk, self.settings.window)?;
            let Some(mut recovered) = looked else { return Ok(ReplicaFindings::Nothing) };
            Ok(match recovered.go_on(disk, &mut run, segment_bytes) {
                Err(error) if error.is_no_room() => ReplicaFindings::Read(Box::new(recovered), error.to_string()),
                begun => ReplicaFindings::Settled(Box::new(recovered.into_settled(begun?))),
            })
        });
        self.note_events();
        match found {
            Ok(found) => self.follow(seat, disk, run, found),
            Err(error) => self.did_not_start(seat, &error, met),
        }
    }

    /// A replica begins with what the role before had in memory.
    pub fn replica_goes_on(&mut self, seat: Place, disk: Arc<dyn Disk>, kept: RecoveredDatabase) -> Result<(), String> {
        let met = self.nodes[seat].machine.lock().met;
        let mut run = self.node_run(seat);
        match kept.follow(&disk, &mut run, self.settings.segment_bytes) {
            Ok(settled) => self.follow(seat, Some(disk), run, ReplicaFindings::Settled(Box::new(settled))),
            Err(error) => self.did_not_start(seat, &error, met),
        }
    }

    fn follow(
        &mut self,
        seat: Place,
        disk: Option<Arc<dyn Disk>>,
        run: NodeRun,
        found: ReplicaFindings,
    ) -> Result<(), String> {
        let (now, segment_bytes) = (self.monotonic(seat), self.settings.segment_bytes);
        let read = match &found {
            ReplicaFindings::Settled(settled) => Some((settled.store.mark().position, settled.store.reader())),
            ReplicaFindings::Read(recovered, _) => {
                self.tally("replicas that start without room");
                Some((recovered.stands(), recovered.store.reader()))
            }
            _ => None,
        };
        let at = match found.manifest().zip(read) {
            Some((manifest, (at, reader))) => {
                let promised_epoch = self.nodes[seat].promised_epoch;
                if manifest.state.highest() < promised_epoch {
                    return Err(format!(
                        "replica {seat} has promised epoch {promised_epoch}, and knows nothing of it any more"
                    ));
                }
                // As a leader it may have begun an epoch, and died before it said so.
                let state = &manifest.state;
                self.truth.may_have_begun(state.epoch, &state.epochs)?;
                self.truth.recovered(&format!("replica {seat}"), &reader, at)?;
                at
            }
            None => Position::ZERO,
        };
        self.check_kept(seat, at)?;
        let mut known = vec![url_of(self.nodes[seat].follows)];
        if let Some(manifest) = found.manifest() {
            known.extend(manifest.state.leader_url.iter().chain(&manifest.state.replicas).cloned());
        }
        let discovery = LeaderDiscovery::new(url_of(seat), known);
        let settings = ReplicaSettings {
            node: u128::from(self.random.next_u64()),
            url: url_of(seat),
            window: self.settings.window,
            snapshot: SnapshotSettings { interval_ms: self.settings.writer.snapshot.interval_ms },
        };
        let directory = disk.clone().map(|disk| ReplicaDirectory { disk, segment_bytes, run });
        let mut actions = Vec::new();
        let replica = Replica::new(settings, directory, found, self.nodes[seat].logged, now, &mut actions);
        let feed = Arc::new(ReplicationBacklog::new(0, self.settings.feed_bytes));
        let archive = HistorySource::new(disk.clone(), Arc::clone(&feed));
        let (view, syncs, snapshot, load, told_starting) = Default::default();
        let (ready, takes_over, asked, members, promoting, hands_over) = Default::default();
        self.nodes[seat].process = Process::Follows(Box::new(Following {
            disk,
            replica,
            feed,
            archive,
            view,
            ready,
            syncs,
            snapshot,
            load,
            takes_over,
            told_starting,
            asked,
            discovery,
            members,
            promoting,
            hands_over,
        }));
        self.note(format_args!("replica {seat} starts at {at}"));
        self.tally(if at == Position::ZERO { "replicas that start with nothing" } else { "replicas that go on" });
        self.act(seat, actions)
    }

    /// An offer has arrived.
    pub fn take_offer(&mut self, (from, number): Reply, seat: Place, bytes: &[u8]) -> Result<(), String> {
        if self.nodes[seat].leading().is_some() {
            if let Some(answer) = self.ask_leader(seat, bytes)? {
                let way = Way { from: seat, to: from };
                self.network.send(way, &Packet::Answer(number, answer.encode()), self.now_ms);
            }
            return Ok(());
        }
        let now = self.monotonic(seat);
        let Some(process) = self.nodes[seat].following_mut() else { return Ok(()) };
        let mut actions = Vec::new();
        let before = process.replica.node_state().epoch;
        // As the node does, which takes what it can where it has come in.
        match process.replica.try_apply_inline(bytes, (from, number), now, &mut actions) {
            Err(reply) => process.replica.on_append_request(bytes, reply, now, &mut actions),
            Ok(()) if actions.iter().all(is_quick) => {}
            Ok(()) => return Err(format!("replica {seat} has taken more than records at once")),
        }
        let after = process.replica.node_state().epoch;
        if after < before {
            return Err(format!("replica {seat} has seen epoch {before}, and follows a leader of epoch {after}"));
        }
        if self.bug == Some(Bug::SkipsGaps)
            && let Ok(offer) = AppendRequest::decode(bytes)
            && !offer.records.is_empty()
        {
            for action in &mut actions {
                if let ReplicaAction::Answer(_, answer) = action
                    && answer.outcome == AppendOutcome::Gap
                {
                    answer.outcome = AppendOutcome::Applied;
                    answer.hello.position = offer.last.position;
                }
            }
        }
        self.act(seat, actions)
    }

    /// A leader that starts asks; gives the answer.
    pub fn ask(&mut self, from: Place, seat: Place, question: &[u8]) -> Result<Option<AppendAnswer>, String> {
        if let Some(process) = self.nodes[seat].following_mut() {
            (process.asked, process.told_starting) = (true, None);
        }
        self.take_offer((from, 0), seat, question)?;
        Ok(self.nodes[seat].following_mut().and_then(|process| process.told_starting.take()))
    }

    pub fn act(&mut self, seat: Place, actions: Vec<ReplicaAction<Reply>>) -> Result<(), String> {
        self.counts_on(seat);
        for action in actions {
            let now = self.monotonic(seat);
            let Some(process) = self.nodes[seat].following_mut() else { return Ok(()) };
            match action {
                ReplicaAction::Unready => {}
                ReplicaAction::Answer(to, answer) => self.answer(seat, to, answer)?,
                ReplicaAction::Serve(_, reader, sequence) => {
                    process.feed.restart(sequence);
                    self.truth.check(&format!("replica {seat}, which serves another state,"), &reader)?;
                    process.view = Some(reader);
                    self.notice(seat);
                }
                ReplicaAction::Withdraw => {
                    (process.view, process.ready) = (None, false);
                    self.tally("replicas that found themselves wrong");
                }
                ReplicaAction::Published(position, record) => {
                    process.feed.push(position.sequence, record);
                    self.notice(seat);
                    if self.random.percent(10) {
                        self.check_replica(seat)?;
                    }
                }
                ReplicaAction::Stands(_) => self.notice(seat),
                ReplicaAction::CaughtUp => process.ready = true,
                ReplicaAction::Members(members) => {
                    process.discovery.follow_hint(members.leader.clone());
                    process.members = members;
                }
                ReplicaAction::Load(identity) => process.load = Some(Load::Wanted(identity)),
                ReplicaAction::Sync(sync) => process.syncs.push_back((sync, None)),
                ReplicaAction::Snapshot(identity, reader, mark, place) => {
                    let disk = Arc::clone(process.disk.as_ref().expect("it keeps files"));
                    match SnapshotJob::start(disk, identity, reader, mark, place) {
                        Ok(job) => process.snapshot = Some(job),
                        Err(error) => {
                            let mut more = Vec::new();
                            process.replica.snapshot_ended(&Err(error), 1, now, &mut more);
                            self.act(seat, more)?;
                        }
                    }
                }
                ReplicaAction::CheckFiles(check) => {
                    let mut more = Vec::new();
                    process.replica.files_checked(&check, &check.run(), &mut more);
                    self.act(seat, more)?;
                }
                ReplicaAction::FilesLost(what) => {
                    return Err(format!("files are missed that nobody took away: {what}"));
                }
                ReplicaAction::Alarm(what) => {
                    self.note(format_args!("replica {seat}: {what}"));
                    if what.contains("without files") || what.contains("keeps no files") {
                        self.tally("replicas that lost their files");
                        self.nodes[seat].forgets_its_files(); // it says so from here on
                    }
                }
            }
        }
        self.note_events();
        Ok(())
    }

    /// The process counts logged time from the last record on.
    fn counts_on(&mut self, seat: Place) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[seat];
        let Some(following) = node.following() else { return };
        let logged = following.replica.logged_clock();
        if logged != node.logged {
            (node.logged, node.counts_from_ms) = (logged, now_ms);
        }
    }

    /// Remembers how far it is: what it has had, it may acknowledge.
    fn notice(&mut self, seat: Place) {
        let had = &mut self.nodes[seat];
        if let Some(at) = had.following().and_then(Following::position) {
            let most = had.had.entry(at.epoch).or_default();
            *most = (*most).max(at.sequence);
        }
    }

    fn answer(&mut self, seat: Place, (to, number): Reply, mut answer: AppendAnswer) -> Result<(), String> {
        let process = self.nodes[seat].following_mut().expect("it answers");
        let hello = &mut answer.hello;
        if self.bug == Some(Bug::SaysSyncedTooSoon) && hello.synced.is_some() {
            hello.synced = Some(hello.position.sequence);
        }
        let (position, synced, keeps) = (hello.position, hello.synced, hello.database.is_some() && !hello.diverged);
        if std::mem::take(&mut process.asked) && number == 0 {
            if self.promised_to > 0 && has_promised(&answer, self.promised_to) && synced.is_some() {
                self.nodes[seat].promised_epoch = self.promised_to;
            }
            let process = self.nodes[seat].following_mut().expect("it answers");
            process.told_starting = Some(answer);
            return Ok(());
        }
        if let Some(synced) = synced.filter(|_| keeps) {
            let at = self.truth.entry_at(Position::new(position.epoch, synced.min(position.sequence)))?;
            let most = self.nodes[seat].has_synced.entry(position.epoch).or_default();
            *most = (*most).max(synced.min(position.sequence));
            self.nodes[seat].claimed = at.map(|id| {
                let sequence = self.truth.position_of(id).sequence;
                Position::new(position.epoch, sequence)
            });
        }
        let seat_of = &mut self.nodes[seat];
        if self.bug == Some(Bug::ClaimsItsOldPosition) {
            seat_of.was_at = seat_of.was_at.max(position);
            answer.hello.position = seat_of.was_at;
        }
        self.network.send(Way { from: seat, to }, &Packet::Answer(number, answer.encode()), self.now_ms);
        Ok(())
    }

    /// What a replica shows is right in every respect.
    pub fn check_replica(&self, seat: Place) -> Result<(), String> {
        match self.nodes[seat].following().and_then(|process| process.view.as_ref()) {
            Some(reader) => self.truth.check(&format!("replica {seat}"), reader),
            None => Ok(()),
        }
    }

    /// The replica's sync that is under way runs, or its end is told.
    pub fn sync_replica(&mut self, seat: Place) -> Result<(), String> {
        let Some(process) = self.nodes[seat].following_mut() else { return Ok(()) };
        let mut actions = Vec::new();
        match process.syncs.pop_front() {
            None => {}
            Some((sync, None)) => {
                let result = sync.run();
                process.syncs.push_front((sync, Some(result)));
            }
            Some((sync, Some(result))) => process.replica.synced(&sync, result, &mut actions),
        }
        self.act(seat, actions)
    }

    /// The replica's snapshot takes a step.
    pub fn snapshot_replica(&mut self, seat: Place) -> Result<(), String> {
        let now = self.monotonic(seat);
        let node = &mut self.nodes[seat];
        let (met, machine) = (node.machine.lock().met, Arc::clone(&node.machine));
        let Some(process) = node.following_mut() else { return Ok(()) };
        let Some(job) = &mut process.snapshot else { return Ok(()) };
        let result = match job.step() {
            Ok(JobStep::More) => return Ok(()),
            Ok(JobStep::Done(published)) => Ok(published),
            Err(_) if machine.lock().crashed() => return Ok(()),
            Err(error) => Err(error),
        };
        process.snapshot = None;
        let keeps = process.keeps() && !process.hands_over; // else the log has ended before its time
        let takes_over = std::mem::take(&mut process.takes_over);
        let mut actions = Vec::new();
        process.replica.snapshot_ended(&result, 5, now, &mut actions);
        match result {
            Ok(_) => self.tally("snapshots of replicas"),
            Err(_) if machine.lock().met > met || !keeps => {}
            Err(error) => return Err(format!("a snapshot of replica {seat} failed without a fault: {error}")),
        }
        self.act(seat, actions)?;
        if takes_over {
            self.nodes[seat].forgets_its_files();
        }
        Ok(())
    }

    /// Time has passed for a replica.
    pub fn tick_replica(&mut self, seat: Place) -> Result<(), String> {
        let now = self.monotonic(seat);
        let Some(process) = self.nodes[seat].following_mut() else { return Ok(()) };
        let mut actions = Vec::new();
        process.replica.tick(now, &mut actions);
        let wants_to_announce = process.replica.wants_to_announce(now);
        self.act(seat, actions)?;
        if wants_to_announce {
            self.announces(seat);
        }
        Ok(())
    }

    /// A replica announces itself to whoever may lead, and to whom that one sends it on.
    fn announces(&mut self, seat: Place) {
        while let Some(following) = self.nodes[seat].following() {
            let Some(to) = following.discovery.next().and_then(place_of) else { return };
            let reaches = self.network.gets_through(seat, to) && self.is_awake(to);
            let announced = if reaches { self.take_announcement(to, seat) } else { AnnounceResult::Failed };
            let announced = if self.network.gets_through(to, seat) { announced } else { AnnounceResult::Failed };
            if matches!(announced, AnnounceResult::SentOn(_)) {
                self.tally("announcements sent on");
            }
            let Some(following) = self.nodes[seat].following_mut() else { return };
            if !following.discovery.announced(announced) {
                return;
            }
        }
    }

    /// A graceful stop.
    pub fn stop_replica(&mut self, seat: Place) -> Result<(), String> {
        for _ in 0..1_000 {
            self.sync_replica(seat)?;
            self.snapshot_replica(seat)?;
            let Some(following) = self.nodes[seat].following_mut() else { return Ok(()) };
            if following.replica.is_at_rest() {
                break;
            }
            let mut actions = Vec::new();
            following.replica.start_sync(&mut actions);
            self.act(seat, actions)?;
        }
        let position = self.nodes[seat].following().and_then(Following::position);
        if let Process::Follows(following) = std::mem::replace(&mut self.nodes[seat].process, Process::None) {
            following.replica.close().map_err(|error| format!("replica {seat} does not stop cleanly: {error}"))?;
        }
        ended(self, seat);
        let node = &mut self.nodes[seat];
        node.machine.lock().kill();
        node.killed_at = position.or(node.killed_at);
        Ok(())
    }

    /// A full sync goes on by a piece, or breaks off.
    pub fn load(&mut self, seat: Place) -> Result<(), String> {
        let now = self.monotonic(seat);
        let discovery = self.nodes[seat].following().map(|following| &following.discovery);
        let Some(leader) = discovery.and_then(|it| it.leader()).and_then(place_of) else { return Ok(()) };
        let reachable = self.reaches(seat, leader) && self.nodes[leader].leading().is_some();
        let cut_off = !reachable || self.random.percent(self.settings.cut_off);
        let Some(process) = self.nodes[seat].following_mut() else { return Ok(()) };
        let Some(load) = process.load.take() else { return Ok(()) };
        let disk = process.disk.clone();
        let mut window = self.settings.window;
        if self.bug == Some(Bug::LosesTheWindow) {
            window = DedupLimits { key_age_ms: 0, stream_age_ms: 0, ..window };
        }
        let loaded = match load {
            _ if cut_off => Err("it was cut off".to_owned()),
            Load::Wanted(identity) => {
                let snapshot = self.nodes[leader].leading().expect("it is reachable").archive.snapshot();
                begin_load(snapshot, identity, window, disk)
            }
            Load::Coming(coming) => coming.go_on(self.random.between(1, 600), self.bug),
        };
        let loaded = match loaded {
            Ok(Err(more)) => {
                self.nodes[seat].following_mut().expect("it loads").load = Some(more);
                self.note_events();
                return Ok(());
            }
            Ok(Ok(loaded)) => Ok(loaded),
            Err(what) => Err(what),
        };
        self.note_events();
        let node = &mut self.nodes[seat];
        if node.machine.lock().crashed() {
            return Ok(());
        }
        let mut actions = Vec::new();
        let tally = if loaded.is_ok() { "full syncs" } else { "full syncs cut off" };
        let replaces = loaded.is_ok();
        let Some(process) = node.following_mut() else { return Ok(()) };
        process.takes_over |= replaces && process.snapshot.is_some();
        process.replica.loaded(loaded, now, &mut actions);
        self.tally(tally);
        self.act(seat, actions)?;
        if replaces {
            self.nodes[seat].forgets_its_files(); // also what was answered on the way
        }
        Ok(())
    }
}

/// A step of a full sync: what was loaded, or what is still to come; or why it broke off.
type LoadStep = Result<Result<LoadedSnapshot, Load>, String>;

fn begin_load(
    snapshot: Result<SnapshotOffer, FileError>,
    identity: DatabaseIdentity,
    window: DedupLimits,
    disk: Option<Arc<dyn Disk>>,
) -> LoadStep {
    match snapshot.map_err(|error| error.to_string())? {
        SnapshotOffer::Busy => Err("another is being sent".into()),
        SnapshotOffer::None => {
            Ok(Ok(LoadedSnapshot { identity, store: Store::new(identity.hasher(), window), temporary: None }))
        }
        SnapshotOffer::File(outgoing) => {
            let temporary = temporary();
            let file = disk.map(|disk| disk.create(&temporary)).transpose().map_err(|error| error.to_string())?;
            let loader = Box::new(SnapshotLoader::new(identity, window));
            Ok(Err(Load::Coming(Coming { outgoing, identity, at: 0, loader, file })))
        }
    }
}

/// Whether an action takes no longer than to apply records, and is one of these or says what became of them.
fn is_quick(action: &ReplicaAction<Reply>) -> bool {
    use ReplicaAction::{Alarm, Answer, CaughtUp, Published, Sync, Withdraw};
    matches!(action, Answer(..) | Published(..) | CaughtUp | Sync(_) | Alarm(_) | Withdraw)
}

fn temporary() -> String {
    temporary_name(&format!("{SNAPSHOT_PREFIX}received"))
}

impl Coming {
    /// The next piece, of so many bytes.
    fn go_on(mut self, bytes: usize, bug: Option<Bug>) -> LoadStep {
        let told = |error: io::Error| error.to_string();
        let mut piece = vec![0; bytes];
        let read = self.outgoing.file.read_at(self.at, &mut piece).map_err(told)?;
        if read > 0 {
            if let Some(file) = &self.file {
                file.append(&piece[..read]).map_err(told)?;
            }
            self.loader.feed(&piece[..read]).map_err(|damage| damage.to_string())?;
            self.at += read as u64;
            return Ok(Err(Load::Coming(self)));
        }
        if let Some(file) = &self.file {
            file.sync().map_err(told)?;
        }
        let (mut store, trailer) = self.loader.finish().map_err(|damage| damage.to_string())?;
        if bug == Some(Bug::SnapshotAtItsBegin) {
            let position = trailer.start.position;
            store.set_state_id(StateId { position, ..store.mark() }, store.time_ms());
        }
        Ok(Ok(LoadedSnapshot { identity: self.identity, store, temporary: self.file.map(|_| temporary()) }))
    }
}
