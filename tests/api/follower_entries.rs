//! Entries and posts on followers: written by way of them, read there, and counted over all nodes.

use crate::followers::{cluster, json, read_own};
use testkit::{node::follow, wait_until, wire::Wire};

#[test]
fn entries_are_written_by_way_of_a_replica_and_read_there() {
    let (_data, leading, following) = cluster();
    let mut replica = Wire::to(following.address());
    // A path that a client on the way would shorten, and a condition that the leader has to hear of.
    let stored =
        replica.ask("PUT /cache/a/../b%2F?ttl=60 HTTP/1.1\r\nContent-Type: text/x\r\nIf-None-Match: *", "value");
    assert_eq!((stored.status, &stored.json()["key"]), (200, &"a/../b/".into()), "{stored:?}");
    assert_eq!((stored.header("memdb-acks"), stored.header("memdb-replayed")), (Some("1"), None));
    assert!(stored.header("etag").is_some());
    let read = read_own(&mut replica, "/cache/a/../b%2F", &stored);
    assert_eq!((read.text(), read.header("content-type")), ("value", Some("text/x")));
    assert!(read.header("memdb-lag").is_some());
    assert_eq!(Wire::to(leading.address()).get("/cache/a/../b%2F").text(), "value");
    let touched = replica.ask("PATCH /cache/a/../b%2F?ttl=0 HTTP/1.1\r\nIf-Match: *", "");
    assert_eq!((touched.status, touched.json()["expires_in"].is_null()), (200, true), "{touched:?}");
    let missing = replica.ask("PATCH /cache/absent?ttl=5 HTTP/1.1", "");
    assert_eq!((missing.status, &*missing.problem()), (404, "entry-not-found"));
    let refused = replica.ask("PUT /cache/a/../b%2F HTTP/1.1\r\nIf-None-Match: *", "other");
    assert_eq!((refused.status, &*refused.problem()), (412, "precondition-failed"));
    // No path can say it, so it is no key on any node, on whichever way.
    let mut leader = Wire::to(leading.address());
    for (line, body) in [
        ("PUT /cache/..", "v"),
        ("PATCH /cache/%2e?ttl=1", ""),
        ("GET /cache/..", ""),
        ("GET /cache/%2e%2E", ""),
        ("GET /cache?key=..", ""),
        ("GET /posts/.", ""),
        ("GET /post?id=..", ""),
        ("DELETE /posts/%2E.", ""),
        ("POST /cache", r#"{"entries":[{"key":"..","value":"v"}]}"#),
        ("POST /create", r#"{"id":"."}"#),
    ] {
        let line = format!("{line} HTTP/1.1\r\nContent-Type: application/json");
        let (here, there) = (replica.ask(&line, body), leader.ask(&line, body));
        assert_eq!((here.status, here.json()), (400, there.json()), "{line}");
        assert!(there.text().contains("is no key"), "{line}: {}", there.text());
    }
    let created = json(&mut replica, "/create?ns=n", r#"{"id":"7","title":"hello"}"#);
    assert_eq!((created.status, &created.json()["words"]), (200, &1.into()));
    assert_eq!(read_own(&mut replica, "/wordcount?word=hello&ns=n", &created).text(), r#"{"hello":1}"#);
    assert_eq!(replica.get("/post?id=7&ns=n").text(), r#"{"id":"7","title":"hello"}"#);
    // The id names the post, and no write: the second is another, made under another key.
    for text in ["one", "two"] {
        let kept = json(&mut replica, "/post?store=true", &format!(r#"{{"id":"a","text":"{text}"}}"#));
        assert_eq!((kept.status, kept.header("memdb-replayed")), (202, None));
    }
    let gone = replica.ask("DELETE /posts/7?ns=n HTTP/1.1", "");
    assert_eq!((gone.status, &gone.json()["deleted"]), (200, &1.into()));
    assert_eq!(read_own(&mut replica, "/posts/7?ns=n", &gone).problem(), "post-not-found");
    assert_eq!(replica.get("/wordcount?word=hello&ns=n").text(), r#"{"hello":0}"#);
}

/// A fault of the system that `/create` is taken from: a reader that started late never saw earlier posts.
#[test]
fn a_replica_that_starts_late_has_every_post_also_those_created_meanwhile() {
    const CLIENTS: usize = 8;
    const POSTS: usize = 100;
    let (_data, leading, early) = cluster();
    let post = |client: usize, number: usize| format!(r#"{{"id":"{client}-{number}","title":"each {number}"}}"#);
    let create = |client: usize, numbers: std::ops::Range<usize>| {
        let mut wire = Wire::to(leading.address());
        for number in numbers {
            assert_eq!(json(&mut wire, "/create", &post(client, number)).status, 200);
        }
    };
    (0..CLIENTS).for_each(|client| create(client, 0..POSTS / 2));
    let late = std::thread::scope(|scope| {
        (0..CLIENTS).for_each(|client| drop(scope.spawn(move || create(client, POSTS / 2..POSTS))));
        follow(leading.address(), None)
    });
    let last = json(&mut Wire::to(leading.address()), "/create", r#"{"id":"last"}"#);
    for node in [early.address(), late.address()] {
        let mut wire = Wire::to(node);
        wait_until("the replica to be ready", || wire.get("/health/ready").status == 200);
        assert_eq!(read_own(&mut wire, "/post?id=last", &last).status, 200);
        for (client, number) in (0..CLIENTS * POSTS).map(|at| (at / POSTS, at % POSTS)) {
            assert_eq!(wire.get(&format!("/post?id={client}-{number}")).text(), post(client, number));
        }
        let words = wire.get("/wordcount?word=each").text().to_owned();
        assert_eq!(words, format!(r#"{{"each":{}}}"#, CLIENTS * POSTS));
    }
}

#[test]
fn stats_are_those_of_all_nodes_that_answer_and_the_others_are_named() {
    let (_data, leading, following) = cluster();
    let (mut leader, mut replica) = (Wire::to(leading.address()), Wire::to(following.address()));
    let stored = leader.ask("PUT /cache/a HTTP/1.1", "value");
    read_own(&mut replica, "/cache/a", &stored);
    replica.get("/cache/absent");
    leader.get("/cache/a");
    let of_node = replica.get("/stats?scope=node").json();
    assert_eq!((&of_node["gets"], &of_node["hits"], &of_node["misses"]), (&2.into(), &1.into(), &1.into()));
    for wire in [&mut leader, &mut replica] {
        let all = wire.get("/stats").json();
        assert_eq!(
            (&all["entries"], &all["gets"], &all["hits"], &all["misses"]),
            (&1.into(), &3.into(), &2.into(), &1.into())
        );
        assert_eq!((all["nodes"].as_array().map(Vec::len), &all["silent"]), (Some(2), &serde_json::json!([])), "{all}");
    }
    let gone = format!("http://{}", following.address());
    drop(following);
    // A connection that was kept alive may still be answered for a moment.
    let mut left = serde_json::Value::Null;
    wait_until("the leader to name the silent node", || {
        left = leader.get("/stats").json();
        left["silent"] == serde_json::json!([gone])
    });
    assert_eq!(left["gets"], 1, "{left}");
    assert_eq!(leader.get("/stats?scope=all").problem(), "invalid-parameter");
}
