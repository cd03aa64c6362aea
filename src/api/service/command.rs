//! Writes as commands, and the batches of those that count no text.

use crate::{
    api::error::{ApiError, ErrorKind},
    base::hash,
    base::limits::MAX_WORD_BYTES,
    data::command::{IdempotencyKey, WriteBatch},
    data::counters::shown_namespace,
    data::counts::{WriteOp, word_counts::WordCounts},
    data::entries::{EntryWrite, Expiry},
    engine::leader::AckLevel,
    engine::view::ServedDatabase,
    text::charset::check_no_nul,
};
use std::borrow::Cow;

/// A write.
#[derive(Debug)]
pub struct Command<'a> {
    /// The namespace that it changes.
    pub namespace: Cow<'a, str>,
    /// The change of that namespace.
    pub operation: Operation<'a>,
    /// Its name, if it may be sent again.
    pub once: Option<IdempotencyKey>,
    /// The level at which it is acknowledged; `None`: the default of the node.
    pub level: Option<AckLevel>,
}

/// The change that a write makes to a namespace.
#[derive(Debug)]
pub enum Operation<'a> {
    /// Counts the words of a text that [`check_text`] lets pass.
    AddText(Cow<'a, str>),
    /// Counts the words of such a text, and takes them back in time.
    LendText {
        /// The text.
        text: Cow<'a, str>,
        /// The time at which they are taken back.
        expiry: Expiry,
    },
    /// Changes entries, all or none.
    ChangeEntries(EntryChanges<'a>),
    /// Adds amounts to counts.
    AddAmounts {
        /// Each word with its amount.
        amounts: WordCounts,
        /// The sum of the amounts, each without its sign.
        words: u64,
        /// The request, by which a repeat is known.
        source: &'a [u8],
    },
    /// Takes words away, by names that fold to them.
    RemoveWords(Vec<Cow<'a, str>>),
    /// Takes the namespace away.
    DropNamespace,
    /// Has an increment of the counter with this key wait.
    Increment(Cow<'a, str>),
    /// Takes the counter with this key away.
    RemoveCounter(Cow<'a, str>),
}

/// Changes of entries, all or none.
#[derive(Debug)]
pub struct EntryChanges<'a> {
    /// The changes, each key once.
    pub writes: Vec<EntryWrite>,
    /// The text whose words are those of the entry that counts.
    pub text: Cow<'a, str>,
    /// True of what `POST /post` keeps, to which the rate of posts applies.
    pub is_post: bool,
}

/// Refuses a text that cannot be counted.
///
/// # Errors
/// If it is empty, or holds a NUL.
pub fn check_text(text: &str) -> Result<(), ApiError> {
    if text.is_empty() {
        return Err(ApiError::new(ErrorKind::EmptyText, "the text is empty; post at least one character"));
    }
    check_no_nul(text.as_bytes()).map_err(|error| ApiError::new(ErrorKind::InvalidBody, error.to_string()))
}

/// The batch that adds amounts to counts. `source` is the request, by which a repeat is known.
pub(super) fn given_amounts(
    (amounts, words): (WordCounts, u64),
    source: &[u8],
    namespace: Cow<'_, str>,
    once: Option<IdempotencyKey>,
) -> WriteBatch {
    WriteBatch {
        entries: Vec::new(),
        fingerprint: fingerprint(once.as_ref(), &[namespace.as_bytes(), b"update", source]),
        namespace: namespace.into(),
        op: WriteOp::AddGiven,
        is_post: false,
        counts: amounts,
        words,
        left_out: 0,
        key: once,
    }
}

/// The batch that takes a namespace away.
pub(super) fn namespace_drop(
    current: &ServedDatabase,
    namespace: Cow<'_, str>,
    once: Option<IdempotencyKey>,
) -> WriteBatch {
    let namespaces = current.reader.read().namespaces();
    let words =
        namespaces.iter().find(|(known, _)| shown_namespace(known) == Some(&namespace)).map_or(0, |&(_, words)| words);
    WriteBatch {
        entries: Vec::new(),
        fingerprint: fingerprint(once.as_ref(), &[namespace.as_bytes(), b"drop"]),
        namespace: namespace.into(),
        op: WriteOp::DropNamespace,
        is_post: false,
        counts: WordCounts::new(current.identity.hasher()),
        words,
        left_out: 0,
        key: once,
    }
}

/// The batch that takes words away.
///
/// # Errors
/// If a name folds to no word, or to one that is too long.
pub(super) fn removal(
    current: &ServedDatabase,
    namespace: Cow<'_, str>,
    names: &[Cow<'_, str>],
    once: Option<IdempotencyKey>,
) -> Result<WriteBatch, ApiError> {
    let identity = &current.identity;
    let mut tally = WordCounts::new(identity.hasher());
    for name in names {
        let word = identity.analyzer.normalize(name);
        if word.is_empty() || word.len() > MAX_WORD_BYTES {
            let detail = format!("a word has 1 to {MAX_WORD_BYTES} bytes");
            return Err(ApiError::new(ErrorKind::InvalidParameter, detail));
        }
        tally.add(&word, 0).expect("nothing is added, so nothing overflows");
    }
    let words = {
        let guard = current.reader.read();
        tally.iter().filter(|counted| guard.count(&namespace, counted.word) != 0).count() as u64
    };
    let named = names.iter().map(|word| word.as_bytes());
    let parts: Vec<&[u8]> = [namespace.as_bytes(), b"remove".as_slice()].into_iter().chain(named).collect();
    Ok(WriteBatch {
        entries: Vec::new(),
        fingerprint: fingerprint(once.as_ref(), &parts),
        op: WriteOp::RemoveWords,
        is_post: false,
        words,
        namespace: namespace.into(),
        counts: tally,
        left_out: 0,
        key: once,
    })
}

/// The fingerprint of a write. Only one that may be repeated is ever compared.
pub(super) fn fingerprint(once: Option<&IdempotencyKey>, parts: &[&[u8]]) -> u128 {
    if once.is_some() { hash::fingerprint(parts) } else { 0 }
}
