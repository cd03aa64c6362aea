//! What becomes of writes when the files are taken away, and what is no reason to think so.

use super::node::{Node, Options, add, at};
use memdb::{
    engine::leader::{AckLevel, WriteError},
    storage::disk::Disk,
    storage::file_header::{LOG_PREFIX, MANIFEST},
};
use std::io;

const DISK: Option<AckLevel> = Some(AckLevel::Disk);

fn segment(node: &Node) -> String {
    let names = node.disk.list().expect("readable");
    names.into_iter().rfind(|name| name.starts_with(LOG_PREFIX)).expect("the log has one")
}

#[test]
fn a_leader_that_loses_a_file_refuses_writes_and_tells_those_that_wait() {
    let takings: [fn(&Node); 3] = [
        |node| node.disk.remove(MANIFEST).expect("removed"),
        |node| node.disk.remove(&segment(node)).expect("removed"),
        |node| node.disk.list().expect("readable").iter().for_each(|name| node.disk.remove(name).expect("removed")),
    ];
    for take in takings {
        let mut node = Node::new(Options::default());
        assert_eq!(at(&node.one(add(&[("a", 1)]))), (1, false));
        assert!(node.check_files().is_empty() && node.files_lost.is_empty(), "all is there");
        assert!(node.write([(add(&[("a", 1)]), DISK)]).is_empty(), "it waits for its sync");
        take(&node);
        assert_eq!(node.check_files(), [(0, Err(WriteError::OutcomeUnknown))]);
        assert_eq!((node.files_lost.len(), node.writer.is_poisoned()), (1, true));
        assert_eq!(node.one(add(&[("a", 1)])), Err(WriteError::FilesLost));
        assert_eq!((node.count("a"), node.writer.next_tick()), (2, None), "what is held can be read and saved");
    }
}

#[test]
fn a_look_that_cannot_be_made_or_was_of_another_segment_says_nothing() {
    let mut node = Node::new(Options::default());
    node.now_ms += 1_000;
    node.tick();
    let check = node.checks.pop_front().expect("a look was asked for");
    let cannot = Err(io::Error::other("too many open files"));
    node.writer.files_checked(&check, &cannot, &mut Vec::new());
    let mut elsewhere = Node::new(Options::default());
    elsewhere.now_ms += 1_000;
    elsewhere.tick();
    let check = elsewhere.checks.pop_front().expect("a look was asked for");
    node.writer.files_checked(&check, &Err(io::ErrorKind::NotFound.into()), &mut Vec::new());
    assert!(!node.writer.is_poisoned());
    assert_eq!(at(&node.one(add(&[("a", 1)]))), (1, false));
}

#[test]
fn a_sync_that_finds_the_file_gone_is_no_failed_disk_but_files_that_are_lost() {
    let mut node = Node::new(Options::default());
    assert!(node.write([(add(&[("a", 1)]), DISK)]).is_empty());
    let sync = node.syncs.pop_front().expect("asked for");
    assert_eq!(node.synced(&sync, Err(io::ErrorKind::NotFound.into())), [(0, Err(WriteError::OutcomeUnknown))]);
    assert_eq!((node.poisoned.len(), node.files_lost.len()), (0, 1));
}
