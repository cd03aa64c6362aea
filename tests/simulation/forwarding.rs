//! Writes by way of a follower, while the leader dies and others take its place: the real [`ForwardPlan`] against a
//! model of three nodes that lead in turn. Answers are late or lost, tries arrive after they were given up, nodes
//! refuse, and the forwarder learns late who leads.

use crate::run::{self, Plant, Ran, Suite, Tallies, Task};
use memdb::{
    base::{failpoint::Defect as Core, limits::FORWARD_WAIT_MS},
    replication::{ForwardPlan, ForwardStep, TryResult},
};
use std::collections::BTreeMap;
use testkit::Random;

const NODES: usize = 3;
/// One write takes no more tries than this.
const MOST_TRIES: usize = 64;
/// A leader that is replaced within so long, in milliseconds, costs no write.
const WAITED_FOR: u64 = FORWARD_WAIT_MS - 500;
const STATUSES: [u16; 5] = [429, 503, 507, 412, 500];

const SUITE: Suite<()> = Suite {
    verb: "sim",
    run: of_task,
    seeds: 3_000,
    seeds_that_meet_all: 1_000,
    must_happen: &[
        "answered 202",
        "given up, not applied",
        "given up, may count",
        "refused",
        "sent on",
        "a leader died within a try",
        "counted by another leader than the first",
        "arrived after it was given up",
        "another led meanwhile",
        "waited for a leader",
    ],
    bugs: &[
        Plant::Core(Core::RetriesUnderAnotherKey),
        Plant::Core(Core::LosesTheKeyWithTheLeader),
        Plant::Core(Core::ForgetsThatItWasSent),
        Plant::Core(Core::BelievesALaterRefusal),
        Plant::Core(Core::GivesUpWithoutALeader),
        Plant::Core(Core::FollowsEveryName),
    ],
};

#[test]
fn histories_hold() {
    run::histories_hold(&SUITE);
}

#[test]
fn planted_bugs_are_found() {
    run::planted_bugs_are_found(&SUITE);
}

fn of_task(task: &Task<'_, ()>) -> Ran {
    let mut world = World::new(task.seed);
    let wrong = run::guarded(|| world.write()).err();
    let faults = world.met.values().sum();
    Ran { wrong, tallies: world.met, steps: 1, faults, simulated_ms: world.now, ..Ran::default() }
}

/// What becomes of a try that reaches a leader.
enum Fate {
    Taken,
    Refused(u16),
    BetweenLeaders,
    /// No answer comes; the try has been applied, or comes later, or never.
    Lost {
        applied: bool,
        later: bool,
    },
}

struct World {
    random: Random,
    now: u64,
    /// Nothing goes wrong but that leaders die, and others take their place in time.
    is_calm: bool,
    /// The node that leads; none between two leaders.
    leader: Option<usize>,
    alive: [bool; NODES],
    /// The node that each follows; a dead leader is followed for a while.
    follows: [Option<usize>; NODES],
    /// What the forwarder has heard.
    known: Option<usize>,
    /// When the next leader leads, and when the forwarder hears of it.
    next: Option<(u64, usize)>,
    heard_at: Option<u64>,
    changes_left: usize,
    /// A try under this key that arrives so late.
    late: Vec<(u64, usize, String)>,
    /// By key: the node that has counted the write. Every leader has what those before it had.
    counted: BTreeMap<String, usize>,
    met: Tallies,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let is_calm = random.percent(40);
        let leader = random.below(NODES);
        let known = if random.percent(90) { Some(random.below(NODES)) } else { None };
        let changes_left = random.below(4);
        let known = if is_calm { Some(leader) } else { known };
        let follows = [(); NODES].map(|()| Some(if is_calm { leader } else { random.below(NODES) }));
        Self {
            random,
            now: 1_000,
            is_calm,
            leader: Some(leader),
            alive: [true; NODES],
            follows,
            known,
            next: None,
            heard_at: Some(1_500),
            changes_left: if is_calm { changes_left.min(1) } else { changes_left },
            late: Vec::new(),
            counted: BTreeMap::new(),
            met: Tallies::new(),
        }
    }

    fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    /// Sends one write until it is answered or given up, and checks what is said of it.
    fn write(&mut self) -> Result<(), String> {
        if self.random.percent(50) {
            self.kill_leader();
        }
        let mut plan = ForwardPlan::new(Some("key".to_owned()), self.random.below(1 << 30) as u64);
        let (begun, mut tries, mut failed_at) = (self.now, 0, None);
        let status = loop {
            let known = self.known.map(name);
            match plan.next(self.now - begun, known.as_deref()) {
                ForwardStep::Wait(ms) => {
                    self.meet("waited for a leader");
                    failed_at.get_or_insert(self.now);
                    let ms = ms.min(FORWARD_WAIT_MS);
                    self.pass(ms, true);
                }
                ForwardStep::GiveUp { may_count } => break Err(may_count),
                ForwardStep::Try(url) => {
                    tries += 1;
                    if tries > MOST_TRIES {
                        return Err(format!("more than {MOST_TRIES} tries"));
                    }
                    let at = (0..NODES).find(|at| name(*at) == url).ok_or("nobody is at that address")?;
                    let (result, status) = self.attempt(at, plan.key().ok_or("it has no key")?);
                    let has_failed = !matches!(result, TryResult::SentOn(Some(_)));
                    if plan.tried(self.now - begun, result) {
                        break Ok(status);
                    }
                    if has_failed {
                        failed_at.get_or_insert(self.now);
                    }
                }
            }
        };
        let waited = self.now - failed_at.unwrap_or(self.now);
        self.settle_late();
        self.classify(status, waited)
    }

    /// Checks what was said of the write against what became of it.
    fn classify(&mut self, status: Result<u16, bool>, waited: u64) -> Result<(), String> {
        let counted = self.counted.len();
        if counted > 1 {
            return Err(format!("it counts {counted} times: {:?}", self.counted));
        }
        if waited > FORWARD_WAIT_MS + 10_000 {
            return Err(format!("it has waited {waited} ms"));
        }
        if self.is_calm && status != Ok(202) {
            return Err(format!("a leader came in time, and it ended with {status:?}"));
        }
        match status {
            Ok(202) if counted == 1 => self.meet("answered 202"),
            Ok(202) => return Err("202, and it does not count".to_owned()),
            Ok(other) if counted == 1 => return Err(format!("{other}, and it counts")),
            Ok(_) => self.meet("refused"),
            Err(false) if counted == 1 => return Err("said not to be applied, and it counts".to_owned()),
            Err(false) => self.meet("given up, not applied"),
            Err(true) => self.meet("given up, may count"),
        }
        Ok(())
    }

    /// A try at a node: its result, and the status of its answer.
    fn attempt(&mut self, at: usize, key: &str) -> (TryResult, u16) {
        let takes = self.random.below(20) as u64;
        self.pass(takes, false);
        if !self.alive[at] {
            return (TryResult::NotReached, 0);
        }
        if self.leader != Some(at) {
            self.meet("sent on");
            let named = self.follows[at].filter(|named| self.random.percent(90) || *named != at);
            return (TryResult::SentOn(named.filter(|named| *named != at).map(name)), 0);
        }
        match self.fate() {
            Fate::Taken => {
                self.count(at, key);
                (TryResult::Answered { status: 202, retry_after_ms: None }, 202)
            }
            Fate::Refused(status) => {
                if status == 500 && self.random.percent(50) {
                    self.count(at, key);
                }
                // What has counted is answered so, whatever else is wrong.
                let status = if self.counted.contains_key(key) && status != 500 { 202 } else { status };
                let retry_after_ms = if self.random.percent(50) { Some(1_000) } else { None };
                (TryResult::Answered { status, retry_after_ms }, status)
            }
            Fate::BetweenLeaders => (TryResult::BetweenLeaders, 0),
            Fate::Lost { applied, later } => {
                if applied {
                    self.count(at, key);
                }
                if self.is_calm || self.random.percent(60) {
                    self.meet("a leader died within a try");
                    self.kill_leader();
                } else {
                    // It hangs until it is given up, or another leads.
                    self.pass(5_000, true);
                }
                if later && !applied {
                    let arrives = self.now + self.random.below(4_000) as u64;
                    self.late.push((arrives, at, key.to_owned()));
                }
                (TryResult::Unanswered, 0)
            }
        }
    }

    fn fate(&mut self) -> Fate {
        if self.is_calm {
            // At most, the leader dies; what it has taken is with the next one.
            let dies = self.changes_left > 0 && self.random.percent(50);
            return if dies { Fate::Lost { applied: self.random.percent(50), later: false } } else { Fate::Taken };
        }
        match self.random.below(100) {
            0..35 => Fate::Taken,
            35..55 => Fate::Refused(*self.random.pick(&STATUSES)),
            55..65 => Fate::BetweenLeaders,
            _ => Fate::Lost { applied: self.random.percent(50), later: self.random.percent(30) },
        }
    }

    fn count(&mut self, at: usize, key: &str) {
        if !self.counted.contains_key(key) {
            self.counted.insert(key.to_owned(), at);
        } else if self.counted[key] != at {
            self.meet("counted by another leader than the first");
        }
    }

    /// The leader dies; another takes its place after a while, unless this was the last time.
    fn kill_leader(&mut self) {
        if self.changes_left == 0 {
            return;
        }
        let Some(leader) = self.leader.take() else { return };
        self.changes_left -= 1;
        self.alive[leader] = false;
        self.late.retain(|(_, node, _)| *node != leader);
        let after = self.random.below(if self.is_calm { WAITED_FOR as usize - 600 } else { 5_000 }) as u64;
        let next = (leader + 1 + self.random.below(NODES - 1)) % NODES;
        self.next = Some((self.now + after, next));
    }

    /// Time passes, until another is known to lead if that wakes.
    fn pass(&mut self, ms: u64, wakes: bool) {
        let until = self.now + ms;
        let known = self.known;
        loop {
            let due = [self.next.map(|(at, _)| at), self.heard_at, self.late.iter().map(|(at, ..)| *at).min()];
            let Some(at) = due.into_iter().flatten().min().filter(|at| *at <= until) else { break };
            self.now = self.now.max(at);
            self.happen(at);
            if wakes && self.known != known {
                self.meet("another led meanwhile");
                return;
            }
        }
        self.now = until;
    }

    /// What is due at that moment.
    fn happen(&mut self, at: u64) {
        if let Some((due, next)) = self.next.filter(|(due, _)| *due <= at) {
            self.next = None;
            (self.leader, self.alive) = (Some(next), [true; NODES]);
            for follower in 0..NODES {
                if self.random.percent(80) {
                    self.follows[follower] = Some(next);
                }
            }
            self.heard_at = Some(due + self.random.below(500) as u64);
        }
        if self.heard_at.is_some_and(|due| due <= at) {
            self.heard_at = None;
            self.known = self.leader.or(self.known);
        }
        for (_, node, key) in self.late.extract_if(.., |(due, ..)| *due <= at).collect::<Vec<_>>() {
            if self.leader == Some(node) {
                self.meet("arrived after it was given up");
                self.count(node, &key);
            }
        }
    }

    /// What is still on its way arrives.
    fn settle_late(&mut self) {
        self.pass(20_000, false);
    }
}

fn name(node: usize) -> String {
    format!("http://n{node}")
}
