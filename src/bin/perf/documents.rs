//! Documents that are created on the leader and, once every replica must have them, read on each and compared.

use crate::{
    PHRASES,
    compare::ComparedNodes,
    load::{self, RequestSample},
};
use bytes::Bytes;
use indicatif::ProgressBar;
use memdb::{
    client::{
        Client, ClientError,
        entries::{EntryPath, EntryUpload},
    },
    data::entries::CollectionKind,
};
use parking_lot::Mutex;
use std::sync::Arc;

/// The documents of one run: each has its own text, and the same id in every run.
#[derive(Clone, Copy, Debug)]
pub struct DocumentSet {
    /// How many there are.
    pub total: u64,
    /// What no other run has in its texts.
    run: u32,
}

/// The report on documents.
#[derive(Debug)]
pub struct DocumentReport {
    /// Creates on the leader.
    pub created: RequestSample,
    /// Reads from the replicas, of every document on each.
    pub read: RequestSample,
    /// Documents that are missing or other ones on a replica, in words.
    pub differences: Vec<String>,
}

impl DocumentReport {
    /// Returns whether every replica has every document.
    pub fn is_consistent(&self) -> bool {
        self.created.failed + self.read.failed == 0 && self.differences.is_empty()
    }

    /// Describes the requests that failed.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        [self.created.failures("creates"), self.read.failures("reads of documents")].into_iter().flatten()
    }
}

impl DocumentSet {
    /// The documents of this run.
    pub fn new(total: u64) -> Self {
        Self { total, run: std::process::id() }
    }

    fn id(number: u64) -> String {
        format!("perf-{number}")
    }

    fn text(self, number: u64) -> String {
        let phrase = PHRASES[(number % PHRASES.len() as u64) as usize];
        format!("{phrase}, document {number} of run {}", self.run)
    }

    /// Creates all of them on the leader.
    pub async fn create(self, leader: &Client, concurrency: usize, bar: ProgressBar) -> RequestSample {
        let leader = leader.clone();
        let create = move |number: u64| {
            let (leader, text) = (leader.clone(), self.text(number));
            async move {
                let upload =
                    EntryUpload { bytes: Bytes::from(text), content_type: Some("text/plain"), ..Default::default() };
                let answer = leader.put_entry(path(&Self::id(number)), upload).await?;
                Ok(answer["position"].as_str().and_then(|position| position.parse().ok()))
            }
        };
        load::requests(self.total, concurrency, bar, create).await
    }

    /// Reads each on each replica, and holds it against what was sent.
    pub async fn compare(self, nodes: &ComparedNodes, concurrency: usize) -> (RequestSample, Vec<String>) {
        let (replicas, differences) = (nodes.replicas.clone(), Arc::new(Mutex::new(Vec::new())));
        let found = Arc::clone(&differences);
        let read = move |number: u64| {
            let replica = replicas[(number % replicas.len() as u64) as usize].clone();
            let (number, found) = (number / replicas.len() as u64, Arc::clone(&found));
            async move {
                let kept = read_document(&replica, number).await?;
                if kept.as_deref() != Some(self.text(number).as_bytes()) {
                    let what = if kept.is_some() { "holds another text" } else { "does not have it" };
                    let difference = format!(
                        "Inconsistency found for document {}: replica {} {what}",
                        Self::id(number),
                        replica.base()
                    );
                    found.lock().push(difference);
                }
                Ok(None)
            }
        };
        let reads = self.total * nodes.replicas.len() as u64;
        let sample = load::requests(reads, concurrency, ProgressBar::hidden(), read).await;
        let mut differences = std::mem::take(&mut *differences.lock());
        differences.sort_unstable();
        (sample, differences)
    }
}

async fn read_document(replica: &Client, number: u64) -> Result<Option<Bytes>, ClientError> {
    Ok(replica.entry(path(&DocumentSet::id(number))).await?.map(|answer| answer.bytes))
}

fn path(key: &str) -> EntryPath<'_> {
    EntryPath { kind: CollectionKind::Posts, namespace: None, key }
}
