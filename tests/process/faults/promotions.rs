//! The leader moves under load, again and again: a replica with files is promoted while writers write, and whoever
//! leads or is about to is killed on the way. Unforced, a promotion takes over all that was acknowledged, if the leader
//! answers, and all that a replica has acknowledged, if it does not: it is dead, or slow to start.

use super::load::{Load, Rate, status_of};
use memdb::{
    base::failpoint::{PLACES_OF_A_CANDIDATE, PLACES_OF_A_LEADER_THAT_GOES},
    base::position::{EpochTable, Position},
    engine::leader::AckLevel,
    storage::{disk::RealDisk, manifest::Manifest},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{
    PATIENCE, Random,
    client::{Counts, new_client, posted},
    number_from,
    process::{Node, REPAIR, Start, equal_within},
    wait_for,
};

/// How long nobody leads until a person promotes another.
const LEADERLESS: Duration = Duration::from_millis(1_500);

struct Reign {
    random: Random,
    /// Two with files, one of which leads, and one in memory.
    nodes: Vec<Node>,
    leader: usize,
    directories: [TempDir; 2],
    load: Option<Load>,
    /// True if somebody was promoted in this round while the leader did not answer.
    leader_was_silent: bool,
    /// The latest epoch that was promised to somebody: whoever leads in an earlier one is about to follow.
    promised: u64,
    told: std::collections::BTreeMap<String, u64>,
}

impl Reign {
    fn new(seed: u64) -> Self {
        let directories = [(); 2].map(|()| TempDir::new().expect("a directory"));
        let leader = Start::leader(directories[0].path()).with(&["--ack-timeout-ms", "300"]).run();
        let others = [Start::replica(&leader).data(directories[1].path()).run(), Start::replica(&leader).run()];
        let nodes: Vec<_> = std::iter::once(leader).chain(others).collect();
        nodes[0].until_connected(2);
        let rate = Rate {
            writers: 6,
            readers: 3,
            entry_clients: 3,
            pause: Duration::from_millis(3),
            all_kinds: true,
            counters: false,
        };
        let all: Vec<_> = nodes.iter().collect();
        let load = Some(Load::start(&all, (Position::ZERO, &Counts::new()), rate, seed));
        let random = Random::new(seed);
        let (leader_was_silent, promised, told) = Default::default();
        Self { random, nodes, leader: 0, directories, load, leader_was_silent, promised, told }
    }

    fn load(&self) -> &Load {
        self.load.as_ref().expect("it is there until the end")
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.told.entry(what.into()).or_default() += 1;
    }

    /// How a node is started, as long as this one leads.
    fn start_of(&self, seat: usize) -> Start {
        let data = |seat: usize| self.directories[seat].path();
        match seat {
            _ if seat == self.leader => Start::leader(data(seat)).with(&["--ack-timeout-ms", "300"]),
            2 => Start::replica(&self.nodes[self.leader]),
            _ => Start::replica(&self.nodes[self.leader]).data(data(seat)),
        }
    }

    /// Promotes the other under load; perhaps with one that is to die on the way.
    fn round(&mut self, place: Option<&'static str>) {
        let candidate = 1 - self.leader;
        self.load().moves(true);
        self.leader_was_silent = false;
        if let Some(place) = place {
            let victim = if PLACES_OF_A_CANDIDATE.contains(&place) { candidate } else { self.leader };
            let start = self.start_of(victim);
            self.nodes[victim].start_as_to_die(start, &format!("{place}=kill:1"));
        }
        self.nodes[candidate].until_ready();
        std::thread::sleep(Duration::from_millis(self.random.below(50) as u64)); // a random moment is what is wanted
        let answer = self.promote(candidate);
        self.count(format!("promotion {answer}"));
        if place.is_none() && self.random.percent(30) {
            std::thread::sleep(Duration::from_millis(self.random.below(30) as u64)); // as long as it pleases
            let victim = self.random.below(2);
            self.nodes[victim].kill();
            self.count("killed on the way");
        }
        if let Some(place) = place {
            // It may be passed a little later, or not: the other may not have come to it.
            let died = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(5));
                (0..2).any(|seat| self.nodes[seat].ended().is_some())
            });
            self.count(if died { place.to_owned() } else { format!("{place} was passed by") });
        }
        self.settle();
        let quiet = self.load().quiet();
        // What a leader has acknowledged by itself is lost with it where it does not answer: what a replica has is not.
        let forgives: &[_] = if self.leader_was_silent { &[AckLevel::Leader, AckLevel::Disk] } else { &[] };
        let (checked, _) = self.load().check_epochs(quiet, &self.all(), self.epochs(), forgives);
        *self.told.entry("lost as they might".to_owned()).or_default() += checked.lost as u64;
    }

    /// The epochs of the history that holds, as the leader's files have them.
    fn epochs(&self) -> EpochTable {
        epochs_in(self.directories[self.leader].path())
    }

    fn all(&self) -> Vec<&Node> {
        let others = (0..3).filter(|seat| *seat != self.leader);
        std::iter::once(self.leader).chain(others).map(|seat| &self.nodes[seat]).collect()
    }

    /// What the node answers: a status, or 0.
    fn promote(&mut self, seat: usize) -> u16 {
        let before = self.nodes[seat].lines_said();
        let asked = new_client().post(format!("{}/promote", self.nodes[seat].url)).send();
        let status = asked.as_ref().map_or(0, |answer| answer.status().as_u16());
        let told = asked.ok().and_then(|answer| answer.json::<serde_json::Value>().ok()).unwrap_or_default();
        self.promised = self.promised.max(told["epoch"].as_u64().unwrap_or(0));
        if self.has_gone_without_leader(seat, before, status) {
            self.leader_was_silent = true;
            self.count("the leader did not answer");
        }
        status
    }

    /// Whether it leads, or may, without the leader's word on where history ends: only that one may be silent.
    fn has_gone_without_leader(&mut self, seat: usize, before: usize, status: u16) -> bool {
        let node = &mut self.nodes[seat];
        match status {
            200 => {
                let said = || Some(node.said_behind(before)).filter(|said| said.contains("is about to lead"));
                wait_for("it says that it leads", said).contains("does not answer")
            }
            409 => false,
            // It dies only where it does not lead yet.
            0 => (0..100).all(|_| {
                std::thread::sleep(Duration::from_millis(10));
                node.ended().is_none()
            }),
            _ => true,
        }
    }

    /// Has all run, and one lead.
    fn settle(&mut self) {
        let begun = Instant::now();
        let mut leaderless = Instant::now();
        loop {
            for seat in 0..3 {
                if self.nodes[seat].ended().is_some() {
                    // As whoever watches over it would: as what it was.
                    self.nodes[seat].start_again();
                }
            }
            let leads = |seat: &usize| {
                let status = status_of(&self.nodes[*seat]);
                status["role"] == "leader" && status["epoch"].as_u64() >= Some(self.promised)
            };
            let leaders: Vec<_> = (0..2).filter(leads).collect();
            if let [leader] = leaders[..]
                && self.others_follow(leader)
            {
                self.leader = leader;
                break;
            }
            if !leaders.is_empty() {
                leaderless = Instant::now();
            } else if leaderless.elapsed() > LEADERLESS {
                let seat = self.random.below(2);
                let answer = self.promote(seat);
                self.count(format!("without a leader, promotion {answer}"));
            }
            assert!(begun.elapsed() < PATIENCE, "nobody leads, or not all follow");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.load().lead(self.leader);
        self.load().moves(false);
    }

    fn others_follow(&self, leader: usize) -> bool {
        let status = status_of(&self.nodes[leader]);
        let replicas = status["replicas"].as_array().cloned().unwrap_or_default();
        replicas.iter().filter(|one| one["state"] == "streaming").count() == 2
    }

    fn end(mut self, rounds: u64) {
        let load = self.load.take().expect("not taken before");
        println!("  {rounds} promotions; {}", load.told());
        println!("  {:?}", self.told);
    }
}

/// The epochs that a directory's MANIFEST tells of.
fn epochs_in(directory: &Path) -> EpochTable {
    let disk = RealDisk::existing(directory).expect("it is there");
    Manifest::read(&disk).expect("it can be read").expect("it leads").state.epochs
}

fn promotions(rounds: u64, seed: u64) {
    println!("{rounds} promotions under load, MEMDB_SEED={seed}");
    let mut reign = Reign::new(seed);
    let places: Vec<_> = PLACES_OF_A_CANDIDATE.into_iter().chain(PLACES_OF_A_LEADER_THAT_GOES).collect();
    for round in 0..rounds {
        // Each place, and then by chance.
        let place = places.get(round as usize).copied();
        let (by_chance, one) = (reign.random.percent(50), *reign.random.pick(&places));
        let place = place.or(by_chance.then_some(one));
        reign.round(place);
    }
    reign.end(rounds);
}

#[test]
fn a_leader_that_moves_under_load_loses_nothing() {
    promotions(7, 1);
}

/// `make crash RUNS=1000`: a tenth as many.
#[test]
#[ignore = "takes minutes: make crash"]
fn promotions_under_load() {
    promotions(number_from("MEMDB_CRASH_RUNS").unwrap_or(200).div_ceil(10), super::seed());
}

/// What the table of levels says of the loss of a machine: `replica` and `replica+disk` survive it, if that replica is
/// promoted, and the others need not.
#[test]
fn the_loss_of_the_leaders_machine_takes_only_what_no_replica_had() {
    let mut directories = [(); 2].map(|()| TempDir::new().expect("a directory"));
    let first = Start::leader(directories[0].path()).run();
    let second = Start::replica(&first).data(directories[1].path()).run();
    first.until_connected(1);
    let mut nodes = [first, second];
    let rate = Rate {
        writers: 6,
        readers: 2,
        entry_clients: 2,
        pause: Duration::from_millis(2),
        all_kinds: false,
        counters: false,
    };
    let load = Load::start(&nodes.each_ref(), (Position::ZERO, &Counts::new()), rate, 1);
    load.may_lose();
    let mut lost = 0;
    for round in 0..4 {
        let (old, new) = (round % 2, 1 - round % 2);
        load.until_more(150);
        let epoch = status_of(&nodes[old])["epoch"].as_u64().expect("it leads");
        // Something is acknowledged that the replica does not have.
        nodes[new].freeze();
        load.until_more(6);
        nodes[old].kill();
        nodes[new].thaw();
        // Its machine is gone, or comes back with records that nobody else has.
        if round < 2 {
            directories[old] = TempDir::new().expect("a directory");
        }
        let asked = new_client().post(format!("{}/promote?force=true", nodes[new].url)).send().expect("it answers");
        assert!(asked.status().is_success(), "{}", asked.text().unwrap_or_default());
        wait_for("it leads", || (status_of(&nodes[new])["role"] == "leader").then_some(()));
        // By what the leader has written down, and not by where it stands: it takes out what expires by itself.
        let ended = epochs_in(directories[new].path()).last_of(epoch).expect("that epoch has ended");
        load.led_by(new, Position::new(epoch, ended), &[AckLevel::Leader, AckLevel::Disk]);
        let (data, start) = (directories[old].path(), Start::leader(directories[new].path()));
        nodes[new].becomes(start);
        let start = Start::replica(&nodes[new]).data(data);
        nodes[old].start_as(start);
        nodes[new].until_connected(1);
        let (checked, _) = load.check(load.quiet(), &[&nodes[new], &nodes[old]]);
        println!("  {checked:?}");
        lost += checked.lost;
    }
    println!("  {}; {lost} lost as they might", load.told());
    assert!(lost > 0);
}

/// The candidate has all promises, dies, and comes back as a follower of the old leader, which follows it.
#[test]
fn a_promotion_that_breaks_off_leaves_nobody_waiting_for_a_person() {
    let directories = [(); 3].map(|()| TempDir::new().expect("a directory"));
    let leader = Start::leader(directories[0].path()).run();
    let other = Start::replica(&leader).data(directories[2].path()).run();
    let start = Start::replica(&leader).data(directories[1].path());
    let mut candidate = start.run();
    leader.until_connected(2);
    posted(&leader.url, "counted before");
    candidate.kill();
    candidate.start_as_to_die(start, "promote.elected=kill:1");
    leader.until_connected(2);
    let _ = new_client().post(format!("{}/promote", candidate.url)).send();
    wait_for("the candidate dies", || candidate.ended());
    candidate.start_again();
    let leads = |node: &Node| {
        let asked = new_client().get(format!("{}/health/leader", node.url)).send();
        asked.is_ok_and(|answer| answer.status() == 200)
    };
    let nodes = [&leader, &candidate, &other];
    wait_for("one leads", || nodes.iter().any(|node| leads(node)).then_some(()));
    nodes.iter().for_each(|node| node.until_ready());
    posted(&leader.url, "counted after");
    let (counts, _) = equal_within(REPAIR, &leader, &[&candidate, &other]);
    assert_eq!((counts["counted"], counts["before"], counts["after"]), (2, 1, 1));
}
