//! A cluster with TLS, certificates on both sides, users and a secret: all that goes between its nodes goes on as it
//! does without, and what is wrong with a certificate is said on both sides.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "tests of real processes: real time, real files")]

use memdb::{api::http::DemoOrigin, net::tls::files::IdentityFiles};
use reqwest::{blocking::RequestBuilder, header::AUTHORIZATION};
use rustix::process::Signal;
use serde_json::json;
use std::{
    io::{BufRead, BufReader},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use testkit::{
    client::{new_client, posted, read, status, update},
    guard::{NodeGuard, READER_TOKEN},
    process::{Node, REPAIR, Start, equal_within},
    tls::{AUTHORITY, TestAuthority},
    wait_for, wait_until,
};

/// Status and text of an answer.
fn sent(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().expect("it answers");
    (answer.status().as_u16(), answer.text().expect("a whole answer"))
}

/// An origin that runs as long as this process, and the setting that names it.
fn origin() -> (Arc<DemoOrigin>, String) {
    let origin = DemoOrigin::new(Duration::ZERO, false, || SystemTime::UNIX_EPOCH);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let template = format!("http://{}/data/{{id}}", listener.local_addr().expect("bound"));
    let served = Arc::clone(&origin);
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { served.serve(tokio::net::TcpListener::from_std(listener)?).await })
    };
    std::thread::Builder::new().spawn(serve).expect("a thread");
    (origin, template)
}

/// A leader whose log no longer begins with its first record, so that whoever comes needs a full sync.
fn leader_of_several_lives(data: &TempDir, origin: &str) -> Node {
    let start = Start::leader(data.path()).guarded(NodeGuard::TlsAndUsers).segments(4_000);
    let mut leader = start.with(&["--origin", origin, "--origin-timeout", "4s"]).run();
    for _ in 0..2 {
        for number in 0..50 {
            posted(&leader.url, &format!("before n{number}"));
        }
        wait_for("there is a snapshot", || {
            let mut files = std::fs::read_dir(data.path()).expect("a directory").map_while(Result::ok);
            files.find(|file| {
                let name = file.file_name().to_string_lossy().into_owned();
                name.starts_with("snapshot-") && !name.ends_with(".new")
            })
        });
        leader.end(Signal::TERM);
        leader.start_again();
    }
    leader
}

#[test]
fn followers_of_a_guarded_leader_sync_find_it_forward_watch_and_read_through() {
    let [data, files] = [(); 2].map(|()| TempDir::new().expect("a directory"));
    let (origin, template) = origin();
    let leader = leader_of_several_lives(&data, &template);
    let through = ["--origin", template.as_str(), "--origin-timeout", "4s"];
    let replica = Start::replica(&leader).data(files.path()).with(&through).run();
    let local = Start::local_replica(data.path()).guarded(NodeGuard::TlsAndUsers).with(&through).run();
    leader.until_connected(1);
    replica.until_ready();
    local.until_ready();
    assert!(replica.said().contains("loaded the leader's snapshot"), "a full sync: {}", replica.said());
    assert_eq!(read(&replica.url, &["before"])["before"], 100);
    let followers = [&replica, &local];
    let http = new_client();
    for (number, follower) in followers.into_iter().enumerate() {
        let url = &follower.url;
        assert_eq!(status(url).expect("it answers")["leader"], leader.url.as_str(), "it has found the leader");
        // Each kind of write, by way of the follower.
        posted(url, "passed on");
        assert_eq!(update(url, &json!({ "passed": 1 })).status, 202);
        let text =
            |request: RequestBuilder, body: &'static str| request.header("content-type", "text/plain").body(body);
        assert_eq!(sent(text(http.post(format!("{url}/bulk")), "passed\npassed\n")).0, 202);
        assert_eq!(sent(text(http.put(format!("{url}/posts/p{number}")), "passed")).0, 200);
        assert_eq!(sent(text(http.put(format!("{url}/cache/k{number}")), "value")).0, 200);
        assert_eq!(sent(http.post(format!("{url}/counter/c{number}/increment"))).0, 202);
        // A value that no node has is fetched by the leader, once.
        let (status, value) = sent(http.get(format!("{url}/data/{number}")));
        assert!(status == 200 && value.contains(&format!("\"{number}\"")), "{status} {value}");
        assert_eq!(sent(http.get(format!("{}/data/{number}", leader.url))), (200, value));
        assert_eq!(origin.asked(), number as u64 + 1);
        // A stream of changes that come by the leader.
        let watch = http.get(format!("{url}/watch?word=seen&every=10ms")).send().expect("it answers");
        assert_eq!(watch.status(), 200);
        let mut lines = BufReader::new(watch).lines().map(|line| line.expect("the stream goes on"));
        assert!(lines.any(|line| line.starts_with("data: ") && line.contains(&format!("\"seen\":{number}"))));
        posted(&leader.url, "seen");
        assert!(lines.any(|line| line.contains(&format!("\"seen\":{}", number + 1))), "the change comes");
        // Rights are those of whoever asks, at the node that is asked.
        let reader = |request: RequestBuilder| request.header(AUTHORIZATION, format!("Bearer {READER_TOKEN}"));
        assert_eq!(sent(reader(http.get(format!("{url}/wordcount?word=passed")))).0, 200);
        let (status, said) = sent(reader(text(http.post(format!("{url}/post")), "never")));
        assert!(status == 403 && said.contains("urn:memdb:problem:forbidden"), "{status} {said}");
        let unknown = |request: RequestBuilder| request.header(AUTHORIZATION, "Bearer memdb_nobody");
        let (status, said) = sent(unknown(text(http.post(format!("{url}/post")), "never")));
        assert!(status == 401 && said.contains("urn:memdb:problem:unauthenticated"), "{status} {said}");
    }
    let (counts, _) = equal_within(REPAIR, &leader, &followers);
    assert_eq!((counts["passed"], counts["seen"], counts.get("never")), (10, 2, None));
    for node in [local, replica, leader] {
        node.finish(Signal::TERM);
    }
}

/// A pair of nodes that do not come together: how the one is started, and what each of them says.
struct Mismatch {
    what: &'static str,
    leader: IdentityFiles,
    /// None: the replica has no certificate, and serves plain HTTP.
    replica: Option<IdentityFiles>,
    /// The authority that the replica believes.
    believes: String,
    replica_says: &'static str,
    leader_says: &'static str,
}

#[test]
fn both_sides_say_what_is_wrong_with_a_certificate_between_nodes() {
    let foreign = TestAuthority::new("somebody else").keep();
    let file = |authority: &TestAuthority| authority.file().to_str().expect("UTF-8").to_owned();
    let good = AUTHORITY.node("mismatch");
    let sound = |what| Mismatch {
        what,
        leader: good.clone(),
        replica: Some(good.clone()),
        believes: file(&AUTHORITY),
        replica_says: "",
        leader_says: "",
    };
    for Mismatch { what, leader, replica, believes, replica_says, leader_says } in [
        Mismatch {
            leader: AUTHORITY.expired("mismatch-late"),
            replica_says: "its certificate has expired",
            leader_says: "the client refuses this node's certificate, which has expired",
            ..sound("the leader's certificate has expired")
        },
        Mismatch {
            leader: AUTHORITY.issue("mismatch-named", &["db.example"], |_| {}),
            replica_says: "its certificate is for db.example, not for 127.0.0.1",
            leader_says: "the client refuses this node's certificate (BadCertificate): does it name the host",
            ..sound("the leader's certificate is for another name")
        },
        Mismatch {
            believes: file(foreign),
            replica_says: "an authority that is not trusted here",
            leader_says: "the client refuses this node's certificate, whose authority it does not know",
            ..sound("the replica does not know the leader's authority")
        },
        Mismatch {
            replica: None,
            replica_says: "it wants a certificate from its clients: give --tls-cert FILE and --tls-key FILE",
            leader_says: "the client has shown no certificate, and --tls-client-ca wants one",
            ..sound("the replica shows no certificate")
        },
        Mismatch {
            replica: Some(foreign.node("impostor")),
            replica_says: "it refuses this side's certificate",
            leader_says: "the client's certificate is of an authority that --tls-client-ca does not have",
            ..sound("the leader does not know the replica's authority")
        },
        Mismatch {
            replica: Some(AUTHORITY.expired("mismatch-old")),
            replica_says: "it refuses this side's certificate, which has expired",
            leader_says: "the client's certificate has expired",
            ..sound("the replica's certificate has expired")
        },
    ] {
        println!("{what}"); // it is shown if what follows fails
        let data = TempDir::new().expect("a directory");
        let ca = file(&AUTHORITY);
        let leader = Start::leader(data.path()).protected(&leader).with(&["--tls-client-ca", &ca]).run();
        let start = Start::replica(&leader).with(&["--tls-ca", &believes]);
        let start = replica.iter().fold(start, |start, identity| start.protected(identity));
        let replica = start.run();
        wait_until(&format!("the replica says: {replica_says}"), || replica.said().contains(replica_says));
        wait_until(&format!("the leader says: {leader_says}"), || leader.said().contains(leader_says));
        for node in [replica, leader] {
            node.finish(Signal::TERM);
        }
    }
}
