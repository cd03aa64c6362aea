//! Certificates, and at last the authority, replaced under load: on a leader and a replica with users, by SIGHUP and by
//! the change of the files alone, beside clients that read and post without a pause, over kept connections and new
//! ones. Nothing is sent twice, and no request may fail.

use memdb::net::tls::{client::ClientTls, files::IdentityFiles};
use rustix::process::Signal;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
};
use tempfile::TempDir;
use testkit::{
    client::{builder_with, read},
    guard::{NodeGuard, TOKEN},
    process::{Node, REPAIR, Start, equal_within},
    tls::{AUTHORITY, TestAuthority, connect, replace},
    wait_until,
    wire::Wire,
};

/// Requests that clients must have answered meanwhile before the next thing happens.
const MEANWHILE: u64 = 60;

/// Both authorities in one file, as a cluster has them that moves from the one to the other.
fn bundle(directory: &Path, authorities: &[&TestAuthority]) -> PathBuf {
    let path = directory.join("authorities.pem");
    let text = |authority: &&TestAuthority| std::fs::read_to_string(authority.file()).expect("it is there");
    replace(&path, &authorities.iter().map(text).collect::<String>());
    path
}

/// Clients at work.
struct Clients {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    posted: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Of each node: one with new connections, one whose connections are kept, one with a single connection.
    fn start(nodes: &[&Node], tls: &ClientTls) -> Self {
        let (over, answered, posted) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let mut clients = Self { over, answered, posted, threads: Vec::new() };
        for node in nodes {
            for idle in [0, 4] {
                let http = builder_with((**tls.config()).clone()).pool_max_idle_per_host(idle).build();
                let (http, url) = (http.expect("a client"), node.url.clone());
                clients.work(move |posts| {
                    let request = match posts {
                        true => http.post(format!("{url}/post")).header("content-type", "text/plain").body("rolling"),
                        false => http.get(format!("{url}/wordcount?word=rolling")),
                    };
                    request.send().expect("no request fails").status().as_u16()
                });
            }
            let address = SocketAddr::from(([127, 0, 0, 1], node.port));
            let mut wire = Wire::over_tls(connect(address, "127.0.0.1", tls.config()));
            clients.work(move |posts| {
                let (line, body) = if posts { ("POST /post", "rolling") } else { ("GET /wordcount?word=rolling", "") };
                let head = format!("{line} HTTP/1.1\r\nContent-Type: text/plain\r\nAuthorization: Bearer {TOKEN}");
                wire.ask(&head, body).status
            });
        }
        clients
    }

    /// Reads and posts in turn until it is over.
    fn work(&mut self, mut ask: impl FnMut(bool) -> u16 + Send + 'static) {
        let (over, answered, posted) = (Arc::clone(&self.over), Arc::clone(&self.answered), Arc::clone(&self.posted));
        let work = move || {
            while !over.load(Relaxed) {
                assert_eq!(ask(true), 202, "a post");
                posted.fetch_add(1, Relaxed);
                assert_eq!(ask(false), 200, "a read");
                answered.fetch_add(2, Relaxed);
            }
        };
        self.threads.push(std::thread::Builder::new().spawn(work).expect("a thread"));
    }

    fn go_on(&self) {
        let so_far = self.answered.load(Relaxed);
        let failed = || self.threads.iter().any(JoinHandle::is_finished);
        wait_until("clients go on", || failed() || self.answered.load(Relaxed) >= so_far + MEANWHILE);
        assert!(!failed(), "a request has failed");
    }

    /// Gives the number of posts.
    fn finish(self) -> u64 {
        self.over.store(true, Relaxed);
        self.threads.into_iter().for_each(|client| client.join().expect("no request has failed"));
        self.posted.load(Relaxed)
    }
}

/// Counts how often a node has said that it has read its certificate.
fn renewals(node: &Node) -> usize {
    node.said().matches("read anew: the certificate in").count()
}

/// Counts how often it has read all that it reads at a SIGHUP.
fn reloads(node: &Node) -> usize {
    node.said().matches("read anew: nothing has changed part=\"settings\"").count()
}

#[test]
fn certificates_are_replaced_under_load_without_a_failed_request() {
    let [data, files] = [(); 2].map(|()| TempDir::new().expect("a directory"));
    let next = TestAuthority::new("the next authority").keep();
    let believed = bundle(files.path(), &[&AUTHORITY]);
    let path = believed.to_str().expect("UTF-8");
    let start = |start: Start, identity: &IdentityFiles| {
        let start = start.guarded(NodeGuard::TlsAndUsers).protected(identity);
        start.with(&["--tls-ca", path, "--tls-client-ca", path])
    };
    let names = ["rolling-leader", "rolling-replica"];
    let identities = names.map(|name| AUTHORITY.node(name));
    let leader = start(Start::leader(data.path()), &identities[0]).run();
    let replica = start(Start::replica(&leader), &identities[1]).run();
    leader.until_connected(1);
    let nodes = [&leader, &replica];
    let both = bundle(data.path(), &[&AUTHORITY, next]);
    let tls = ClientTls::from_files(Some(&both), Some(&AUTHORITY.node("rolling-client"))).expect("sound files");
    let clients = Clients::start(&nodes, &tls);
    clients.go_on();
    let hang_up = || {
        for node in nodes {
            let before = reloads(node);
            node.signal(Signal::HUP);
            wait_until("all is read anew", || reloads(node) > before);
        }
        clients.go_on();
    };
    let renew = || names.iter().for_each(|name| drop(AUTHORITY.node(name)));
    let renew_and_wait = || {
        let before = nodes.map(renewals);
        renew();
        for (node, before) in nodes.iter().zip(before) {
            wait_until("it is seen that there is another certificate", || renewals(node) > before);
        }
        clients.go_on();
    };
    for _ in 0..3 {
        renew();
        hang_up();
    }
    renew_and_wait();
    // To another authority: first both are believed, then the certificates are the other's.
    bundle(files.path(), &[&AUTHORITY, next]);
    hang_up();
    for (name, identity) in names.iter().zip(&identities) {
        let issued = next.node(name);
        let text = |path: &Path| std::fs::read_to_string(path).expect("it is there");
        replace(&identity.key, &text(&issued.key));
        replace(&identity.certificate, &text(&issued.certificate));
    }
    hang_up();
    // What cannot be used changes nothing.
    for identity in &identities {
        std::fs::write(&identity.certificate, "nonsense").expect("room");
    }
    for node in nodes {
        wait_until("it is refused", || node.said().contains("-cert.pem is no file of certificates"));
    }
    clients.go_on();
    renew_and_wait();
    let posts = clients.finish();
    let (counts, _) = equal_within(REPAIR, &leader, &[&replica]);
    assert_eq!(counts["rolling"] as u64, posts, "each post counts once");
    assert_eq!(read(&leader.url, &["rolling"])["rolling"] as u64, posts);
    replica.finish(Signal::TERM);
    leader.finish(Signal::TERM);
}
