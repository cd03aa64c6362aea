//! Three nodes are stopped, killed, started again by the commands of their first start, and promoted, in every order:
//! there is one leader in the end.

use super::{
    machines::Process,
    network::Place,
    simulation::{Cluster, Settings, ended},
};
use crate::run::{Lines, Task, schedule::Schedule};
use memdb::engine::leader::AckLevel;
use testkit::{Random, number_from};

/// The nodes that take part: the first is started as a leader, the others as its replicas.
const NODES: usize = 3;
/// How many things happen in every order, unless `MEMDB_WALK_DEPTH` says another number.
const DEPTH: usize = 2;
/// Longer walks, by chance.
const LONG_WALKS: u64 = 60;
const LONG_DEPTH: usize = 9;
/// What a walk waits after each thing, at least and at most, and at its end, in milliseconds.
const LEAST_MS: u64 = 400;
const SETTLES_MS: u64 = 2_000;
const ENDS_MS: u64 = 15_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Stop(Place),
    Kill(Place),
    Start(Place),
    /// Asked of a replica. It may be refused.
    Promote(Place),
    /// Promoted by force, and killed after so many steps.
    PromoteAndKill(Place, usize),
}

impl Cluster {
    fn calm() -> Self {
        let schedule = Schedule { without: Default::default(), steps: Some(0) };
        let mut cluster = Cluster::new(&Task { seed: 1, schedule: &schedule, bug: None, lines: Lines::Kept });
        let Settings { writer, .. } = &mut cluster.settings;
        (writer.ack, writer.synced) = (AckLevel::Replica, false);
        let settings = &mut cluster.settings;
        (settings.configured, settings.writes_down, settings.cut_off, settings.step_ms) = (false, false, 0, 10);
        cluster.network.heal();
        for node in &mut cluster.nodes {
            (node.keeps_files, node.follows) = (true, 0);
        }
        cluster
    }

    /// What can happen now.
    fn acts(&self) -> Vec<Act> {
        let acts = (0..NODES).flat_map(|at| match &self.nodes[at].process {
            Process::None => vec![Act::Start(at)],
            Process::Follows(_) => {
                vec![
                    Act::Stop(at),
                    Act::Kill(at),
                    Act::Promote(at),
                    Act::PromoteAndKill(at, 4),
                    Act::PromoteAndKill(at, 7),
                ]
            }
            Process::Starts(_) | Process::Leads(_) => vec![Act::Stop(at), Act::Kill(at)],
        });
        acts.collect()
    }

    fn happens_in_walk(&mut self, act: Act) -> Result<(), String> {
        self.note(format_args!("{act:?}"));
        match act {
            Act::Start(at) => self.start(at),
            Act::Stop(at) if self.nodes[at].leading().is_some() => self.stop_leader(at),
            Act::Stop(at) => self.stop_replica(at),
            Act::Kill(at) => {
                self.dies(at);
                Ok(())
            }
            Act::Promote(at) => {
                self.promote(at, false);
                Ok(())
            }
            Act::PromoteAndKill(at, steps) => {
                self.promote(at, true);
                (0..steps).try_for_each(|_| self.step_candidate(at).and_then(|()| self.step_start(at)))?;
                self.dies(at);
                Ok(())
            }
        }
    }

    fn dies(&mut self, at: Place) {
        let position = match &self.nodes[at].process {
            Process::Leads(leading) => Some(leading.position()),
            Process::Follows(following) => following.position(),
            Process::Starts(_) | Process::None => None,
        };
        ended(self, at);
        let node = &mut self.nodes[at];
        node.machine.lock().kill();
        node.killed_at = position.or(node.killed_at);
    }

    /// Time passes, until there is nothing more to do; a client writes now and then.
    fn settles(&mut self, for_ms: u64) -> Result<(), String> {
        let (least_ms, until_ms) = (self.now_ms + LEAST_MS, self.now_ms + for_ms);
        let mut writes_ms = self.now_ms + LEAST_MS / 2;
        while self.now_ms < until_ms && (self.now_ms < least_ms || !self.is_whole()) {
            self.now_ms += 40;
            if self.now_ms >= writes_ms
                && let Some(leader) = self.only_leader()
            {
                writes_ms = self.now_ms + 2_000;
                let wish = self.clients.next();
                self.send_at(leader, wish, None);
            }
            self.works()?;
        }
        Ok(())
    }

    /// Whether one leads, and all others that run have what it has.
    fn is_whole(&self) -> bool {
        let Some(leader) = self.only_leader() else { return false };
        if self.nodes.iter().any(|node| node.following().is_some_and(|it| it.promoting.is_some())) {
            return false;
        }
        let here = self.nodes[leader].leading().map(|leader| leader.position());
        let runs = |at: &Place| *at != leader && self.nodes[*at].runs();
        (0..NODES).filter(runs).all(|at| {
            self.nodes[at].following().is_some_and(|following| following.ready && following.position() == here)
        })
    }

    fn standing(&self) -> String {
        let nodes = (0..NODES).map(|at| match &self.nodes[at].process {
            Process::None => format!("{at} is down"),
            Process::Starts(_) => format!("{at} asks"),
            Process::Leads(leading) => format!("{at} leads at {}", leading.position()),
            Process::Follows(following) => {
                format!("{at} follows {:?}, at {:?}", following.discovery.leader(), following.position())
            }
        });
        nodes.collect::<Vec<_>>().join(", ")
    }
}

/// Walks as `choose` says, which is given the number of the step and what may happen; gives what may happen next, or
/// what was wrong in the end.
fn walk(mut choose: impl FnMut(usize, &[Act]) -> Option<Act>) -> Result<Vec<Act>, String> {
    let mut cluster = Cluster::calm();
    let mut acts = Vec::new();
    let mut go = || -> Result<Vec<Act>, String> {
        (0..NODES).try_for_each(|at| cluster.start(at))?;
        cluster.settles(SETTLES_MS)?;
        while let Some(act) = choose(acts.len(), &cluster.acts()) {
            acts.push(act);
            cluster.happens_in_walk(act)?;
            cluster.settles(SETTLES_MS)?;
        }
        let next = cluster.acts();
        for at in (0..NODES).rev() {
            if !cluster.nodes[at].runs() {
                cluster.start(at)?;
            }
        }
        cluster.settles(ENDS_MS)?;
        if cluster.leaders().is_empty() && acts.iter().any(|act| matches!(act, Act::PromoteAndKill(..))) {
            // Somebody has promised to follow a candidate that died: whoever leads then, a person says.
            let at = (0..NODES).max_by_key(|&at| cluster.nodes[at].following().and_then(|it| it.position()));
            cluster.promote(at.expect("there are some"), false);
            cluster.settles(ENDS_MS)?;
        }
        if cluster.is_whole() { Ok(next) } else { Err("there is no one leader that all follow".to_owned()) }
    };
    let gone = go();
    gone.map_err(|what| format!("{acts:?}: {what}: {}", cluster.standing()))
}

/// All walks of this length that begin with `acts`.
fn walk_all(acts: &mut Vec<Act>, depth: usize, wrong: &mut Vec<String>) {
    let next = match walk(|step, _| acts.get(step).copied()) {
        Ok(next) => next,
        Err(what) => return wrong.push(what),
    };
    for act in next.into_iter().filter(|_| depth > 0) {
        acts.push(act);
        walk_all(acts, depth - 1, wrong);
        acts.pop();
    }
}

#[test]
fn nodes_that_are_started_as_at_first_have_one_leader_in_the_end_whatever_was_promoted_meanwhile() {
    let depth = number_from("MEMDB_WALK_DEPTH").map_or(DEPTH, |depth| depth as usize);
    let mut wrong = Vec::new();
    walk_all(&mut Vec::new(), depth, &mut wrong);
    for seed in 0..LONG_WALKS {
        let mut random = Random::new(seed);
        let gone = walk(|step, acts| (step < LONG_DEPTH).then(|| *random.pick(acts)));
        wrong.extend(gone.err());
    }
    let all = wrong.len();
    wrong.truncate(12);
    assert!(wrong.is_empty(), "{all} walks went wrong, such as\n{}", wrong.join("\n"));
}
