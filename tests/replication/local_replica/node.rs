//! The node around a local replica: whom it names as leader, and when it is ready.

use memdb::{
    config,
    net::{peer_credentials::PeerCredentials, peer_link::PeerLink},
    node::FileFollowerNode,
    storage::disk::RealDisk,
    storage::manifest::Manifest,
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};
use testkit::{
    database::{Making, SMALL},
    node::settings_of,
    wait_until,
};

fn follow(directory: &Path) -> FileFollowerNode {
    let directory = directory.to_str().expect("UTF-8");
    FileFollowerNode::start(&settings_of(config::StartRole::LocalReplica, &[("data-dir", directory)]))
        .expect("a local replica")
}

fn status(node: &FileFollowerNode) -> String {
    let mut stream = TcpStream::connect(node.address()).expect("it listens");
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_new_address_of_the_leader_is_seen_without_a_record() {
    let leader = Making::begin(SMALL).write(2);
    let node = follow(leader.directory());
    wait_until("readiness", || node.view().is_ready());
    let disk = RealDisk::at(leader.directory());
    let mut manifest = Manifest::read(&disk).expect("whole").expect("there");
    manifest.state.leader_url = Some("http://elsewhere.example:8080".to_owned());
    manifest.write(&disk).expect("the disk works");
    wait_until("the new address", || status(&node).contains(r#""leader":"http://elsewhere.example:8080""#));
    node.stop().expect("a clean stop");
}

#[test]
fn a_local_replica_is_not_ready_while_it_loads_the_files_anew() {
    let leader = Making::begin(SMALL).write(2);
    let node = follow(leader.directory());
    wait_until("readiness", || node.view().is_ready());
    let (manifest, away) = (leader.directory().join("MANIFEST"), leader.directory().join("away"));
    fs::rename(&manifest, &away).expect("moved");
    wait_until("the reload", || !node.view().is_ready());
    fs::rename(&away, &manifest).expect("moved back");
    wait_until("readiness again", || node.view().is_ready());
    node.stop().expect("a clean stop");
}

#[test]
fn the_leaders_notice_is_taken_and_never_passed_on_as_a_write() {
    let leader = Making::begin(SMALL).write(2);
    let node = follow(leader.directory());
    wait_until("readiness", || node.view().is_ready());
    let link = PeerLink::new(&format!("http://{}", node.address()), &PeerCredentials::default()).expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // The files name no leader, so what was passed on would be refused.
    runtime.block_on(link.notice()).expect("taken");
    node.stop().expect("a clean stop");
}
