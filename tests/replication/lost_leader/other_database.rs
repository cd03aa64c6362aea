//! A leader whose directory is lost starts anew, and so leads another database at the same address.

use memdb::{
    node::{LeaderNode, ReplicaNode},
    replication::HELLO_TYPE,
};
use reqwest::blocking::{RequestBuilder, Response};
use serde_json::Value;
use std::{net::SocketAddr, path::Path};
use tempfile::TempDir;
use testkit::{
    node::{follow, lead, url},
    wait_until,
};

/// What came of one request.
struct Told {
    status: u16,
    position: String,
    tag: String,
    body: Value,
}

impl Told {
    fn of(request: RequestBuilder) -> Self {
        let answer: Response = request.send().expect("it answers");
        let field = |name| answer.headers().get(name).map_or("", |value| value.to_str().expect("ASCII")).to_owned();
        let (position, tag) = (field("memdb-position"), field("etag"));
        let status = answer.status().as_u16();
        Self { status, position, tag, body: serde_json::from_str(&answer.text().expect("a body")).unwrap_or_default() }
    }

    fn problem(&self) -> (u16, &str) {
        let kind = self.body["type"].as_str().unwrap_or_default();
        (self.status, kind.strip_prefix("urn:memdb:problem:").unwrap_or_default())
    }
}

fn post(to: SocketAddr, text: &str) -> Told {
    Told::of(
        testkit::client::new_client()
            .post(format!("{}/post", url(to)))
            .header("content-type", "text/plain")
            .body(text.to_owned()),
    )
}

fn get(from: SocketAddr, target: &str) -> Told {
    Told::of(testkit::client::new_client().get(format!("{}{target}", url(from))))
}

fn read_with(from: SocketAddr, name: &str, value: &str) -> Told {
    Told::of(testkit::client::new_client().get(format!("{}/wordcount?word=fresh", url(from))).header(name, value))
}

/// A leader on this port.
fn lead_at(address: SocketAddr, data: &Path) -> LeaderNode {
    lead(data, &[("port", &address.port().to_string())]).expect("a leader")
}

fn is_ready(node: SocketAddr) -> bool {
    get(node, "/health/ready").status == 200
}

/// Three posts on a leader and its replica, as when nothing is lost.
fn cluster(data: &Path, replica_data: &Path) -> (LeaderNode, ReplicaNode, Told) {
    let leading = lead(data, &[]).expect("a leader");
    let following = follow(leading.address(), Some(replica_data));
    wait_until("the replica is ready", || is_ready(following.address()));
    let [_, _, last] = [(); 3].map(|()| post(leading.address(), "old"));
    assert_eq!(last.status, 202);
    assert_eq!(read_with(following.address(), "memdb-min-position", &last.position).status, 200);
    (leading, following, last)
}

#[test]
fn a_follower_passes_no_write_on_to_a_leader_of_another_database() {
    let [lost, kept, anew] = [(); 3].map(|()| TempDir::new().expect("a directory"));
    let (leading, following, last) = cluster(lost.path(), kept.path());
    let (leader, follower) = (leading.address(), following.address());
    let before = read_with(follower, "accept", "*/*");
    leading.stop().expect("a clean stop");
    let leading = lead_at(leader, anew.path());

    // The follower may not have noticed yet; the leader has nothing to notice.
    let refused = post(follower, "fresh");
    assert_eq!(refused.problem(), (503, "other-database"));
    assert_eq!(get(leader, "/status").body["sequence"], 0, "nothing was applied");
    wait_until("the follower knows", || get(follower, "/health/ready").problem() == (503, "other-database"));
    assert_eq!(post(follower, "fresh").problem(), (503, "other-database"));
    let (status, theirs) = (get(follower, "/status").body, get(leader, "/status").body);
    assert_eq!((&status["ready"], &status["other_database"]), (&false.into(), &theirs["database"]));
    assert_ne!(status["database"], theirs["database"]);

    // Nobody is sent to it, and whatever tells of readiness tells the same.
    let lines = testkit::client::new_client()
        .post(format!("{}/bulk", url(follower)))
        .header("content-type", "text/plain")
        .body("fresh");
    let announced = testkit::client::new_client()
        .post(format!("{}/sync", url(follower)))
        .header("content-type", HELLO_TYPE)
        .body("hello");
    for refused in [Told::of(lines), Told::of(announced), get(follower, "/health/leader")] {
        assert_eq!(refused.problem(), (503, "other-database"), "{}", refused.body);
        assert_eq!(refused.body.get("leader"), None, "{}", refused.body);
    }
    assert_eq!(status.get("leader"), None, "{status}");
    let ready = get(follower, "/health/ready").body;
    assert!(!ready["detail"].as_str().is_some_and(|detail| detail.contains("the write came")), "{ready}");
    let numbers = testkit::client::new_client().get(format!("{}/metrics", url(follower))).send().expect("it answers");
    assert!(numbers.text().expect("text").contains("\nmemdb_ready 0\n"));

    wait_until("the leader refuses it", || get(leader, "/status").body["replicas"][0]["state"] == "refused");
    let refused = get(leader, "/status").body["replicas"][0].clone();
    assert_eq!((&refused["applied"], &refused["position"]), (&0.into(), &status["position"]), "{refused}");

    // Positions of one database are nothing in the other, whoever has more records.
    let fresh = post(leader, "fresh");
    assert_eq!(fresh.status, 202);
    let gone = |node, position: &str| {
        read_with(node, "memdb-min-position", position).problem() == (410, "position-other-database")
    };
    assert!(gone(follower, &fresh.position), "{}", fresh.position);
    for _ in 0..3 {
        assert_eq!(post(leader, "more").status, 202);
    }
    assert!(gone(leader, &last.position), "{}", last.position);
    // Nor are tags, though the counts are the same.
    let removed = testkit::client::new_client().delete(format!("{}/wordcount?word=fresh", url(leader)));
    assert_eq!(Told::of(removed).status, 202);
    let same = read_with(leader, "if-none-match", &before.tag);
    assert_eq!((same.status, &same.body), (200, &before.body));
    assert_eq!(read_with(follower, "if-none-match", &before.tag).status, 304);

    // The directory is found again: all is as it was.
    leading.stop().expect("a clean stop");
    let leading = lead_at(leader, lost.path());
    wait_until("the follower is ready again", || is_ready(follower));
    let written = post(follower, "fresh");
    assert_eq!(written.status, 202, "{}", written.body);
    assert_eq!(read_with(follower, "memdb-min-position", &written.position).body["fresh"], 1);
    following.stop().expect("a clean stop");
    leading.stop().expect("a clean stop");
}
