//! Whole nodes, with clocks that the test sets: no step of a wall clock moves an age.

use memdb::{
    base::clock::{Clock, Monotonic, WallClock},
    config::StartRole,
    node::{MachineClock, SwitchingNode},
};
use reqwest::{StatusCode, blocking::Client};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};
use testkit::{node::settings_of, wait_until};

const HOUR_MS: i64 = 3_600_000;
const TEN_YEARS_MS: i64 = 10 * 365 * 24 * HOUR_MS;
/// The age of keys, as it is set by default.
const AGE_MS: u64 = memdb::base::limits::DEFAULT_KEY_AGE_MS;

/// The machine's clocks, set by so much.
#[derive(Default)]
struct SetClock {
    passed_ms: AtomicU64,
    wall_ms: AtomicI64,
}

impl Clock for SetClock {
    fn monotonic(&self) -> Monotonic {
        MachineClock.monotonic().after_ms(self.passed_ms.load(Relaxed))
    }

    fn wall(&self) -> WallClock {
        const NOW_MS: u64 = 1_796_000_000_000;
        let passed_ms = self.passed_ms.load(Relaxed);
        WallClock::from_ms((NOW_MS + passed_ms).saturating_add_signed(self.wall_ms.load(Relaxed)))
    }
}

fn start(clock: &Arc<SetClock>, role: StartRole, given: &[(&'static str, &str)]) -> SwitchingNode {
    let clock: Arc<dyn Clock> = Arc::<SetClock>::clone(clock);
    SwitchingNode::start_with(settings_of(role, given), clock).expect("a node")
}

/// Posts a text under a key; tells whether it counted now (else it had before).
fn counts(client: &Client, at: SocketAddr, key: &str) -> Result<bool, StatusCode> {
    let post = client.post(format!("http://{at}/post")).header("Idempotency-Key", key).body("word");
    let answer = post.header("Content-Type", "text/plain").send().expect("an answer");
    match answer.status() {
        StatusCode::ACCEPTED => Ok(!answer.headers().contains_key("memdb-replayed")),
        status => Err(status),
    }
}

#[test]
fn a_leader_whose_wall_clock_is_set_while_it_runs_ages_keys_by_elapsed_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("UTF-8");
    let (clock, client) = (Arc::new(SetClock::default()), testkit::client::new_client());
    let node = start(&clock, StartRole::Leader, &[("data-dir", data)]);
    let at = node.address();
    for step_ms in [HOUR_MS, TEN_YEARS_MS, -HOUR_MS, -TEN_YEARS_MS] {
        let key = format!("key {step_ms}");
        assert_eq!(counts(&client, at, &key), Ok(true));
        clock.wall_ms.store(step_ms, Relaxed);
        assert_eq!(counts(&client, at, &key), Ok(false), "set by {step_ms} ms");
        clock.passed_ms.fetch_add(AGE_MS, Relaxed);
        assert_eq!(counts(&client, at, &key), Ok(true), "set by {step_ms} ms, after its age");
    }
    node.stop().expect("a clean stop");
}

#[test]
fn a_window_filled_ten_years_ahead_has_room_after_the_age_of_its_keys_and_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("UTF-8");
    let (clock, client) = (Arc::new(SetClock::default()), testkit::client::new_client());
    let given = [("data-dir", data), ("max-keys", "2")];
    clock.wall_ms.store(TEN_YEARS_MS, Relaxed);
    let node = start(&clock, StartRole::Leader, &given);
    for key in ["a", "b"] {
        assert_eq!(counts(&client, node.address(), key), Ok(true));
    }
    node.stop().expect("a clean stop");
    clock.wall_ms.store(0, Relaxed);
    let node = start(&clock, StartRole::Leader, &given);
    assert_eq!(counts(&client, node.address(), "c"), Err(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(counts(&client, node.address(), "a"), Ok(false));
    clock.passed_ms.fetch_add(AGE_MS, Relaxed);
    assert_eq!(counts(&client, node.address(), "c"), Ok(true));
    node.stop().expect("a clean stop");
}

/// Waits until the node is ready in this role; one that changes its role may not answer for a moment.
fn wait_for_role(client: &Client, at: SocketAddr, role: &str) {
    let status = || -> Option<Value> { client.get(format!("http://{at}/status")).send().ok()?.json().ok() };
    wait_until(&format!("{at} is a ready {role}"), || {
        status().is_some_and(|status| status["role"] == role && status["ready"] == true)
    });
}

/// Reads or writes under `/cache`; the status, and the position.
fn cache(client: &Client, method: &str, at: SocketAddr, target: &str, after: &str) -> (u16, String) {
    let method = method.parse().expect("a method");
    let request = client.request(method, format!("http://{at}/cache/{target}")).header("Memdb-Min-Position", after);
    let answer = request.body(String::new()).send().expect("an answer");
    let position = answer.headers()["memdb-position"].to_str().expect("ASCII").to_owned();
    (answer.status().as_u16(), position)
}

/// A follower that caught up went by the time of each record, so that an entry it had hidden showed again.
#[test]
fn an_entry_that_a_follower_has_hidden_does_not_show_again_by_an_old_record() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("UTF-8");
    let (clock, ahead, client) =
        (Arc::new(SetClock::default()), Arc::new(SetClock::default()), testkit::client::new_client());
    let leader = start(&clock, StartRole::Leader, &[("data-dir", data)]);
    let url = format!("http://{}", leader.address());
    let replica = start(&ahead, StartRole::Replica, &[("leader", &url)]);
    wait_for_role(&client, replica.address(), "replica");
    let stored = cache(&client, "PUT", leader.address(), "short?ttl=3600", "").1;
    assert_eq!(cache(&client, "GET", replica.address(), "short", &stored).0, 200);
    ahead.passed_ms.fetch_add(3_600_000, Relaxed);
    // By the leader's clock no time has passed, as if it had written this long ago.
    let other = cache(&client, "PUT", leader.address(), "other", "").1;
    assert_eq!(cache(&client, "GET", replica.address(), "other", &other).0, 200);
    assert_eq!(cache(&client, "GET", replica.address(), "short", &other).0, 404);
    replica.stop().expect("a clean stop");
    leader.stop().expect("a clean stop");
}

#[test]
fn a_new_leader_that_has_counted_less_time_is_gone_by() {
    let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let path = |directory: &tempfile::TempDir| directory.path().to_str().expect("UTF-8").to_owned();
    let (clock, ahead, client) =
        (Arc::new(SetClock::default()), Arc::new(SetClock::default()), testkit::client::new_client());
    let old = start(&ahead, StartRole::Leader, &[("data-dir", &path(&one))]);
    let url = format!("http://{}", old.address());
    let new = start(&clock, StartRole::Replica, &[("data-dir", &path(&other)), ("leader", &url)]);
    cache(&client, "PUT", old.address(), "first", "");
    wait_for_role(&client, new.address(), "replica");
    ahead.passed_ms.fetch_add(3_600_000, Relaxed);
    let promoted = client.post(format!("http://{}/promote", new.address())).send().expect("an answer");
    assert!(promoted.status().is_success(), "{}", promoted.text().expect("a body"));
    wait_for_role(&client, new.address(), "leader");
    wait_for_role(&client, old.address(), "replica");
    let stored = cache(&client, "PUT", new.address(), "short?ttl=600", "").1;
    assert_eq!(cache(&client, "GET", old.address(), "short", &stored).0, 200, "it has ten minutes");
    old.stop().expect("a clean stop");
    new.stop().expect("a clean stop");
}

#[test]
fn a_promoted_replica_whose_wall_clock_is_ahead_ages_no_key() {
    let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let path = |directory: &tempfile::TempDir| directory.path().to_str().expect("UTF-8").to_owned();
    let (clock, wrong, client) =
        (Arc::new(SetClock::default()), Arc::new(SetClock::default()), testkit::client::new_client());
    wrong.wall_ms.store(HOUR_MS / 30, Relaxed); // two minutes: a start would believe that
    let leader = start(&clock, StartRole::Leader, &[("data-dir", &path(&one))]);
    let url = format!("http://{}", leader.address());
    let replica = start(&wrong, StartRole::Replica, &[("data-dir", &path(&other)), ("leader", &url)]);
    assert_eq!(counts(&client, leader.address(), "key"), Ok(true));
    let at = replica.address();
    wait_for_role(&client, at, "replica");
    // All but a minute of its age has passed there.
    wrong.passed_ms.fetch_add(AGE_MS - 60_000, Relaxed);
    let promoted = client.post(format!("http://{at}/promote")).send().expect("an answer");
    assert!(promoted.status().is_success(), "{}", promoted.text().expect("a body"));
    wait_for_role(&client, at, "leader");
    assert_eq!(counts(&client, at, "key"), Ok(false));
    wrong.passed_ms.fetch_add(60_000, Relaxed);
    assert_eq!(counts(&client, at, "key"), Ok(true));
    replica.stop().expect("a clean stop");
    leader.stop().expect("a clean stop");
}
