//! An import: items in batches with numbers, so that each batch counts once however often it is sent.
//!
//! The cut into batches, and the stream and number of each, follow from the input alone. So the same input under the
//! same name sends the same batches, and the node, which remembers the last number of each stream, counts none of them
//! twice.

use super::{
    Client, ClientError,
    entries::EntryPath,
    import_reader::{ImportFault, ImportItem, ImportedEntry, ReadItem},
};
use crate::{
    base::limits::{
        IMPORT_BATCH_BYTES, IMPORT_BATCH_ENTRIES, IMPORT_BATCH_ENTRY_BYTES, IMPORT_BATCH_WORDS, IMPORT_STREAMS,
    },
    base::retry::RetryBackoff,
    data::entries::CollectionKind,
};
use reqwest::{Method, RequestBuilder, header};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The number of the cut: which items make a batch, and which stream and number the batch has. It is part of the names
/// under which imports are remembered, since batches of one cut must not be taken for those of another. Raise it where
/// the golden test of the cut changes. What was imported under another number is not known then: the changelog says so.
pub const CUT_NUMBER: u32 = 1;

/// What has been done so far.
#[derive(Debug, Default)]
pub struct ImportProgress {
    /// Bytes of the input that are done.
    pub bytes: AtomicU64,
    /// Lines of the input that are done.
    pub lines: AtomicU64,
    /// Items that were applied.
    pub applied: AtomicU64,
    /// Items that had been applied before.
    pub applied_before: AtomicU64,
}

impl ImportProgress {
    pub(super) fn add(&self, batch: &ImportBatch, was_there: bool) {
        let items = if was_there { &self.applied_before } else { &self.applied };
        items.fetch_add(batch.items, Ordering::Relaxed);
        self.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
        self.lines.fetch_add(batch.line_count, Ordering::Relaxed);
    }
}

/// The options of an import.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The name under which the node remembers it.
    pub name: String,
    /// True if the name says nothing of the content: it may come to an end too early, and come again.
    pub is_pipe: bool,
    /// The acknowledgement level, if not the leader's own.
    pub ack: Option<String>,
    /// The time for which a batch is tried again.
    pub patience: Duration,
    /// Random, for the waits between tries.
    pub seed: u64,
}

/// Items that are sent as one write.
#[derive(Debug)]
pub struct ImportBatch {
    pub(super) namespace: String,
    content: BatchContent,
    items: u64,
    bytes: u64,
    /// The first line and the last.
    pub(super) lines: (u64, u64),
    /// Lines of the input since the batch before.
    line_count: u64,
    /// The number among the batches of its namespace, from 0.
    number: u64,
}

#[derive(Debug)]
enum BatchContent {
    Amounts(BTreeMap<String, i64>),
    /// The members of a JSON list.
    Entries(String),
    Post(ImportedEntry),
}

/// Cuts items into batches.
#[derive(Debug, Default)]
pub struct ImportBatcher {
    open: Option<ImportBatch>,
    /// Bytes of its JSON.
    size: usize,
    /// The line of the last item.
    line: u64,
    /// The keys of the entries that are in the open batch: a list with one of them twice is refused.
    keys: HashSet<String>,
    numbers: HashMap<String, u64>,
}

impl ImportBatcher {
    /// Takes an item, and gives the batches that are full.
    ///
    /// # Errors
    /// If the amounts of a word leave the 64-bit range.
    pub fn take(&mut self, read: ReadItem) -> Result<Vec<ImportBatch>, ImportFault> {
        let ReadItem { line, bytes, item } = read;
        let mut done = Vec::new();
        match item {
            ImportItem::Count { namespace, word, amount } => {
                let has_room = self.open_in(&namespace).is_some_and(|open| match &open.content {
                    BatchContent::Amounts(all) => all.len() < IMPORT_BATCH_WORDS && self.size < IMPORT_BATCH_BYTES,
                    _ => false,
                });
                if !has_room {
                    done.extend(self.end());
                    self.begin(namespace, BatchContent::Amounts(BTreeMap::new()), line);
                }
                let batch = self.open.as_mut().expect("it was begun");
                let BatchContent::Amounts(amounts) = &mut batch.content else { unreachable!("it was looked at") };
                self.size += json_bytes(&word) + 24;
                let sum = amounts.get(&word).copied().unwrap_or(0).checked_add(amount);
                let reason = || format!("the amounts of {word:?} leave the 64-bit range");
                let sum = sum.ok_or_else(|| ImportFault { line, reason: reason() })?;
                amounts.insert(word, sum);
            }
            ImportItem::Entry(entry) if entry.kind == CollectionKind::Cache => {
                let json = entry.json();
                let has_room = self.open_in(&entry.namespace).is_some_and(|open| {
                    matches!(open.content, BatchContent::Entries(_))
                        && open.items < IMPORT_BATCH_ENTRIES as u64
                        && self.size + json.len() < IMPORT_BATCH_ENTRY_BYTES
                });
                if !has_room || self.keys.contains(&entry.key) {
                    done.extend(self.end());
                    self.begin(entry.namespace.clone(), BatchContent::Entries(String::new()), line);
                }
                let batch = self.open.as_mut().expect("it was begun");
                let BatchContent::Entries(list) = &mut batch.content else { unreachable!("it was looked at") };
                self.size += json.len();
                self.keys.insert(entry.key);
                list.push_str(if list.is_empty() { "" } else { "," });
                list.push_str(&json);
            }
            ImportItem::Entry(entry) => {
                done.extend(self.end());
                self.begin(entry.namespace.clone(), BatchContent::Post(entry), line);
            }
        }
        let batch = self.open.as_mut().expect("an item is in it");
        (batch.items, batch.bytes, batch.lines.1) = (batch.items + 1, batch.bytes + bytes, line);
        batch.line_count += line - std::mem::replace(&mut self.line, line);
        Ok(done)
    }

    /// Gives the batch that is not full.
    pub fn end(&mut self) -> Option<ImportBatch> {
        let mut batch = self.open.take()?;
        let number = self.numbers.entry(batch.namespace.clone()).or_insert(0);
        batch.number = *number;
        *number += 1;
        Some(batch)
    }

    /// The open batch, if it is one of this namespace.
    fn open_in(&self, namespace: &str) -> Option<&ImportBatch> {
        self.open.as_ref().filter(|open| open.namespace == namespace)
    }

    fn begin(&mut self, namespace: String, content: BatchContent, line: u64) {
        self.size = 0;
        self.keys.clear();
        self.open =
            Some(ImportBatch { namespace, content, items: 0, bytes: 0, lines: (line, line), line_count: 0, number: 0 });
    }
}

/// Bytes of a word within JSON, without its quotes.
fn json_bytes(word: &str) -> usize {
    let escaped = |byte: u8| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    word.bytes().map(escaped).sum()
}

impl ImportBatch {
    /// The stream in which it is sent.
    pub(super) fn stream(&self) -> usize {
        (self.number % IMPORT_STREAMS as u64) as usize
    }

    /// Its number in that stream.
    pub(super) fn sequence(&self) -> u64 {
        self.number / IMPORT_STREAMS as u64 + 1
    }
}

/// The reason why an import stopped, with the lines that were not applied.
#[derive(Debug, thiserror::Error)]
pub enum ImportRefusal {
    /// The node did not take a batch.
    #[error("lines {} to {}: {error}; {}", lines.0, lines.1, outcome(*is_unknown))]
    Batch {
        /// The lines of the batch.
        lines: (u64, u64),
        /// The node's last answer.
        error: ClientError,
        /// True if this try, or one before it, may have been applied.
        is_unknown: bool,
    },
    /// A pipe gives another text than the one that came before under its name.
    #[error(
        "lines {} to {}: another text was imported under this name, {difference}; give this one, or only what is \
         missing of it, a name of its own",
        lines.0, lines.1
    )]
    AnotherText {
        /// The lines of the batch.
        lines: (u64, u64),
        /// The difference, for a person.
        difference: String,
    },
}

fn outcome(is_unknown: bool) -> &'static str {
    match is_unknown {
        true => "it is not known whether they were applied: the same command goes on, and counts them once",
        false => "nothing of them was applied",
    }
}

/// The part of an answer that an import looks at.
#[derive(Deserialize)]
pub(super) struct NumberedAnswer {
    /// Told by a header, which the answers of all writes have.
    #[serde(skip)]
    pub(super) replayed: bool,
    #[serde(default)]
    pub(super) stream_last: Option<u64>,
}

impl Client {
    async fn numbered(&self, request: RequestBuilder) -> Result<NumberedAnswer, ClientError> {
        let response = self.send(request).await?;
        let replayed = response.headers().contains_key("memdb-replayed");
        let body = response.bytes().await.map_err(|error| self.lost(&error))?;
        let answer: NumberedAnswer = serde_json::from_slice(&body).map_err(|error| self.strange(error.to_string()))?;
        Ok(NumberedAnswer { replayed, ..answer })
    }

    pub(super) async fn import_batch(
        &self,
        batch: &ImportBatch,
        stream: &str,
        sequence: u64,
        options: &ImportOptions,
    ) -> Result<NumberedAnswer, ImportRefusal> {
        let (mut query, mut content_type) = (vec![("ns", batch.namespace.as_str())], "application/json");
        query.extend(options.ack.as_deref().map(|level| ("ack", level)));
        let (method, path, body) = match &batch.content {
            BatchContent::Amounts(amounts) => {
                (Method::POST, "/update".to_owned(), serde_json::to_vec(amounts).expect("texts and numbers are JSON"))
            }
            BatchContent::Entries(list) => {
                (Method::POST, "/cache".to_owned(), format!("{{\"entries\":[{list}]}}").into_bytes())
            }
            BatchContent::Post(post) => {
                // Its words came with the counts.
                query.push(("count", if post.is_counted { "already" } else { "false" }));
                query.extend(post.ttl.as_deref().map(|ttl| ("ttl", ttl)));
                content_type = &post.content_type;
                let path = EntryPath { kind: CollectionKind::Posts, namespace: None, key: &post.key };
                (Method::PUT, path.url_path(), post.value.clone())
            }
        };
        let address = self.address(&path, &query);
        let request = || {
            let mut request = self
                .http
                .request(method.clone(), address.clone())
                .header("Memdb-Stream", stream)
                .header("Memdb-Stream-Seq", sequence)
                .header(header::CONTENT_LENGTH, body.len());
            if !content_type.is_empty() {
                request = request.header(header::CONTENT_TYPE, content_type);
            }
            self.numbered(request.body(body.clone()))
        };
        patiently(options, batch.stream(), request).await.map_err(|(error, is_unknown)| match error {
            ClientError::Refused { problem, .. } if options.is_pipe && *problem == *"key-reused" => {
                ImportRefusal::AnotherText { lines: batch.lines, difference: "with other lines here".to_owned() }
            }
            error => ImportRefusal::Batch { lines: batch.lines, error, is_unknown },
        })
    }
}

/// The stream of a node for the batches of one of the streams of an import.
pub(super) fn batch_stream(stream: usize, options: &ImportOptions) -> String {
    format!("{}.{stream}", options.name)
}

/// Returns whether a request may have been applied: no answer came, or none that says it was not.
fn may_be_applied(error: &ClientError) -> bool {
    match error {
        ClientError::Lost { .. } | ClientError::Strange { .. } => true,
        ClientError::Refused { status, .. } => matches!(status, 500 | 502 | 504),
        ClientError::BadAddress { .. } | ClientError::NothingThere { .. } | ClientError::Unprotected { .. } => false,
    }
}

/// Asks again, as long as the patience lasts, where that may help. With the last error comes whether one of the tries
/// may have been applied.
pub(super) async fn patiently<A: Future<Output = Result<T, ClientError>>, T>(
    options: &ImportOptions,
    stream: usize,
    mut ask: impl FnMut() -> A,
) -> Result<T, (ClientError, bool)> {
    let begun = Instant::now();
    let mut backoff = RetryBackoff::new(options.seed ^ (stream as u64 + 1));
    let mut is_unknown = false;
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        is_unknown |= may_be_applied(&error);
        if !error.is_passing() || begun.elapsed() >= options.patience {
            return Err((error, is_unknown));
        }
        tokio::time::sleep(backoff.wait(error.retry_after())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(word: &str, amount: i64) -> ReadItem {
        let item = ImportItem::Count { namespace: "words".to_owned(), word: word.to_owned(), amount };
        ReadItem { line: 1, bytes: 10, item }
    }

    #[test]
    fn a_batch_has_no_more_bytes_than_a_body_whatever_its_words_are_escaped_to() {
        let mut batcher = ImportBatcher::default();
        let mut batches = Vec::new();
        for at in 0..10_000 {
            let word = format!("{at}{}", "\u{1}".repeat(250));
            batches.extend(batcher.take(count(&word, i64::MIN / 20_000)).expect("in range"));
        }
        batches.extend(batcher.end());
        for batch in &batches {
            let BatchContent::Amounts(amounts) = &batch.content else { panic!("they are counts") };
            let bytes = serde_json::to_vec(amounts).expect("JSON").len();
            assert!(bytes <= crate::base::limits::DEFAULT_MAX_BODY_BYTES, "{bytes}");
        }
        assert!(batches.len() > 40, "{}", batches.len());
    }

    #[test]
    fn batches_follow_from_the_items_alone_and_hold_each_once() {
        let cut = || {
            let (mut batcher, mut all) = (ImportBatcher::default(), Vec::new());
            for at in 0..25_000 {
                let read = ReadItem { line: at / 5 + 1, ..count(&format!("w{}", at % 24_000), 1) };
                all.extend(batcher.take(read).expect("in range"));
            }
            all.extend(batcher.end());
            all
        };
        let batches = cut();
        assert_eq!(
            batches.iter().map(|batch| (batch.items, batch.bytes, batch.line_count)).fold((0, 0, 0), |sum, one| (
                sum.0 + one.0,
                sum.1 + one.1,
                sum.2 + one.2
            )),
            (25_000, 250_000, 5_000)
        );
        assert_eq!(
            batches.iter().map(|batch| batch.number).collect::<Vec<_>>(),
            (0..batches.len() as u64).collect::<Vec<_>>()
        );
        let shown =
            |batches: &[ImportBatch]| batches.iter().map(|batch| format!("{:?}", batch.content)).collect::<Vec<_>>();
        assert_eq!(shown(&batches), shown(&cut()));
        let mut batcher = ImportBatcher::default();
        batcher.take(count("a", i64::MAX)).expect("in range");
        assert!(batcher.take(count("a", 1)).is_err());
    }

    fn entry(kind: CollectionKind, key: &str, value: &[u8]) -> ReadItem {
        let (namespace, key, content_type, value) = ("words".to_owned(), key.to_owned(), String::new(), value.to_vec());
        let item = ImportedEntry { kind, namespace, key, content_type, ttl: None, is_counted: false, value };
        ReadItem { line: 1, bytes: 10, item: ImportItem::Entry(item) }
    }

    #[test]
    fn a_key_that_comes_again_is_in_another_batch() {
        let mut batcher = ImportBatcher::default();
        for (key, full) in [("a", 0), ("b", 0), ("a", 1), ("b", 0), ("c", 0)] {
            assert_eq!(batcher.take(entry(CollectionKind::Cache, key, b"v")).expect("sound").len(), full, "{key}");
        }
        assert_eq!(batcher.end().expect("open").items, 3);
    }

    /// The batches of one text are the same in every release with this [`CUT_NUMBER`].
    #[test]
    fn the_cut_is_that_of_its_number() {
        assert_eq!(CUT_NUMBER, 1);
        let plain = || (b'!'..=b'~').map(char::from).filter(|letter| !['"', '\\'].contains(letter));
        let pairs = plain().flat_map(|first| plain().map(move |second| String::from_iter([first, second])));
        let two_bytes = pairs.chain(('\u{80}'..='\u{7ff}').map(String::from));
        let words = (0..20_000).map(|at| count(&format!("w{at:05}"), 1));
        let short = two_bytes.map(|word| {
            let item = ImportItem::Count { namespace: "b".to_owned(), word, amount: 1 };
            ReadItem { line: 1, bytes: 10, item }
        });
        let cached = |key: &str, value: &[u8]| entry(CollectionKind::Cache, key, value);
        let small = (0..1_100).map(|at| cached(&format!("k{at}"), b"v"));
        let large = ["k1099", "l1", "l2"].map(|key| cached(key, &[0; 1_572_864]));
        let posts = ["1", "2"].map(|id| entry(CollectionKind::Posts, id, b"rain"));
        let all = words.chain(short).chain([count("a", 1)]).chain(small).chain(large).chain(posts);
        let mut batcher = ImportBatcher::default();
        let mut batches: Vec<_> = all.flat_map(|item| batcher.take(item).expect("in range")).collect();
        batches.extend(batcher.end());
        let told = |batch: &ImportBatch| {
            format!("{} {}.{} {}", batch.namespace, batch.stream(), batch.sequence(), batch.items)
        };
        let expected = [
            "words 0.1 8739",
            "words 1.1 8739",
            "words 2.1 2522",
            "b 0.1 10000",
            "b 1.1 384",
            "words 3.1 1",
            "words 0.2 500",
            "words 1.2 500",
            "words 2.2 100",
            "words 3.2 1",
            "words 0.3 1",
            "words 1.3 1",
            "words 2.3 1",
            "words 3.3 1",
        ];
        assert_eq!(batches.iter().map(told).collect::<Vec<_>>(), expected);
    }
}
