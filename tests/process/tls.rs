//! Nodes that speak TLS, as real processes: a cluster, the command line, certificates that are replaced, and what
//! another implementation of TLS is answered.

#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "tests of real processes: real time, real files")]

mod openssl;
mod renewal;

use memdb::net::tls::files::IdentityFiles;
use rustix::process::Signal;
use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};
use tempfile::TempDir;
use testkit::{
    client::{post, posted, read, status},
    process::{Node, REPAIR, Start, equal_within, memdb_binary},
    tls::{AUTHORITY, TestAuthority},
    wait_until,
};

fn memdb(arguments: &[&str]) -> Output {
    Command::new(memdb_binary()).env_clear().args(arguments).output().expect("the binary is built")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn address(node: &Node) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], node.port))
}

fn authority() -> String {
    AUTHORITY.file().to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_cluster_that_knows_its_nodes_by_certificates_forwards_replicates_and_promotes() {
    let data: Vec<TempDir> = (0..4).map(|_| TempDir::new().expect("a directory")).collect();
    let ca = authority();
    let known = ["--tls-client-ca", ca.as_str()];
    let shown = |name: &str| AUTHORITY.node(name);
    let leader = Start::leader(data[0].path()).protected(&shown("leader")).with(&known).run();
    assert!(leader.url.starts_with("https://"));
    posted(&leader.url, "before any replica");
    let replica = |at: usize, name| Start::replica(&leader).data(data[at].path()).protected(&shown(name)).with(&known);
    let (one, other) = (replica(1, "one").run(), replica(2, "other").run());
    leader.until_connected(2);
    for number in 0..20 {
        posted(&one.url, &format!("hello n{number}"));
        posted(&leader.url, "hello");
        assert_eq!(post(&other.url, "?ack=replica", "far").status, 202);
    }
    equal_within(REPAIR, &leader, &[&one, &other]);
    assert_eq!(read(&other.url, &["hello", "far", "before"]).into_values().collect::<Vec<_>>(), [1, 20, 40]);
    // A full copy, by a node's certificate.
    let identity = shown("operator");
    let [certificate, key] = [&identity.certificate, &identity.key].map(|path| path.to_str().expect("UTF-8"));
    let tls = ["--tls-ca", &ca, "--tls-cert", certificate, "--tls-key", key];
    let copy = data[3].path().join("copy");
    let restore = ["restore", "--from", &leader.url, "--data-dir", copy.to_str().expect("UTF-8")];
    wait_until("it has a snapshot", || memdb(&[&restore[..], &tls].concat()).status.success());
    let promoted = memdb(&[&["promote", &one.url][..], &tls].concat());
    assert!(promoted.status.success(), "{}", said(&promoted));
    one.until_connected(2);
    posted(&other.url, "promoted");
    posted(&leader.url, "promoted");
    equal_within(REPAIR, &one, &[&leader, &other]);
    assert_eq!(read(&leader.url, &["promoted"])["promoted"], 2);
    // A node of another authority is nobody here.
    let foreign = TestAuthority::new("somebody else").keep();
    let (impostor, ca) = (foreign.node("impostor"), foreign.file());
    let impostor = Start::replica(&one).data(&data[3].path().join("impostor")).protected(&impostor);
    let impostor = impostor.with(&["--tls-ca", ca.to_str().expect("UTF-8")]).run();
    wait_until("it does not believe the leader", || impostor.said().contains("an authority that is not trusted here"));
    assert_eq!(status(&one.url).expect("it answers")["replicas"].as_array().map(Vec::len), Some(2));
    for node in [one, other, leader] {
        node.finish(Signal::TERM);
    }
}

#[test]
fn the_command_line_speaks_tls_and_says_in_plain_words_what_is_wrong() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).protected(&AUTHORITY.node("commands")).run();
    let text = data.path().join("text");
    std::fs::write(&text, "hello tls\nhello\n").expect("room");
    let (ca, text) = (authority(), text.to_str().expect("UTF-8").to_owned());
    let counted = memdb(&["post", &text, "--leader", &leader.url, "--tls-ca", &ca]);
    assert!(counted.status.success(), "{}", said(&counted));
    let got = memdb(&["get", "hello", "--server", &leader.url, "--tls-ca", &ca]);
    assert_eq!(String::from_utf8_lossy(&got.stdout), "2  hello\n", "{}", said(&got));
    let plain = leader.url.replace("https", "http");
    let unknown = TestAuthority::new("somebody else").keep().file();
    for (url, ca, words) in [
        (&leader.url, unknown.to_str().expect("UTF-8"), "an authority that is not trusted here"),
        (&plain, ca.as_str(), "this port speaks TLS"),
        (&leader.url, text.as_str(), "it has no line -----BEGIN CERTIFICATE-----"),
    ] {
        let refused = memdb(&["get", "hello", "--server", url, "--tls-ca", ca]);
        assert!(!refused.status.success() && said(&refused).contains(words), "{words}: {}", said(&refused));
    }
    leader.finish(Signal::TERM);
}

#[test]
fn an_authority_made_for_trying_is_enough_to_serve_and_ask() {
    let directory = TempDir::new().expect("a directory");
    let certs = directory.path().join("certs").to_str().expect("UTF-8").to_owned();
    for arguments in
        [&["certificate", &certs][..], &["certificate", &certs, "--name", "db-2", "--host", "db-2.example"]]
    {
        let made = memdb(arguments);
        assert!(made.status.success(), "{}", said(&made));
    }
    let again = memdb(&["certificate", &certs]);
    assert!(again.status.code() == Some(1) && said(&again).contains("give another --name"), "{}", said(&again));
    let [ca, certificate, key] = ["ca.pem", "node.pem", "node-key.pem"].map(|name| format!("{certs}/{name}"));
    let mode = std::fs::metadata(&key).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let identity = IdentityFiles { certificate: certificate.clone().into(), key: key.clone().into() };
    let leader =
        Start::leader(&directory.path().join("data")).protected(&identity).with(&["--tls-client-ca", &ca]).run();
    let shown = ["--tls-ca", &ca, "--tls-cert", &certificate, "--tls-key", &key];
    let top = memdb(&[&["top", "--server", &leader.url][..], &shown].concat());
    assert!(top.status.success(), "{}", said(&top));
    // The second certificate is of the same authority, and for another name.
    let second = ["db-2.pem", "db-2-key.pem"].map(|name| format!("{certs}/{name}"));
    let shown = ["--tls-ca", &ca, "--tls-cert", &second[0], "--tls-key", &second[1]];
    let top = memdb(&[&["top", "--server", &leader.url][..], &shown].concat());
    assert!(top.status.success(), "{}", said(&top));
    leader.finish(Signal::TERM);
}

#[test]
fn a_node_does_not_start_with_a_certificate_that_cannot_be_used_and_warns_of_one_that_has_expired() {
    let data = TempDir::new().expect("a directory");
    let mut mixed = AUTHORITY.node("mixed");
    mixed.key = AUTHORITY.node("another").key;
    let (code, told) = Start::leader(data.path()).protected(&mixed).refused(0);
    assert!(code == Some(1) && told.contains("does not fit the certificate"), "{code:?} {told}");
    let half = ["--tls-cert", "cert.pem"];
    let (code, told) = Start::leader(data.path()).with(&half).refused(0);
    assert!(code == Some(2) && told.contains("--tls-cert needs the key too: --tls-key FILE"), "{code:?} {told}");
    let leader = Start::leader(data.path()).protected(&AUTHORITY.expired("late")).run();
    wait_until("it warns", || leader.said().contains("late-cert.pem has expired on 2021-02-03"));
    leader.finish(Signal::TERM);
}
