//! Taking words back: the amounts by which the claim of an entry that goes lowers the counts.

use super::{claim, count_words, post_text};
use crate::{
    base::failpoint::inject,
    data::counts::word_counts::WordCounts,
    data::entries::{CollectionId, CollectionKind, Entry, stored::StoredEntries},
    text::tokenizer::Analyzer,
};

/// The part of the store that a claim is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Takeback<'a> {
    /// The analyzer by which the words were counted.
    pub(crate) analyzer: Analyzer,
    /// The entries, with the marks of removals among them.
    pub(crate) stored: &'a StoredEntries,
    /// The namespace that the entry counts in.
    pub(crate) namespace: &'a str,
}

/// Takes from `counts` what the claim of an entry has added to the stored counts. A word that was taken away since the
/// entry was written, alone or with its namespace, has no claim left.
pub(crate) fn take_back(of: Takeback<'_>, kind: CollectionKind, entry: &Entry, counts: &mut WordCounts) {
    let Takeback { analyzer, stored, namespace } = of;
    let removals = CollectionId::new(CollectionKind::Removals, namespace);
    let mut has_marks = stored.has_collection(removals);
    inject!(TakesBackWhatIsGone, has_marks = false);
    let has_ended =
        |word: &str| has_marks && stored.get(removals, word).is_some_and(|mark| mark.version() >= entry.version());
    // The mark of the whole namespace.
    if has_ended("") {
        return;
    }
    let hasher = counts.hasher();
    let mut lower = |word: &str, count: i64| {
        if !has_ended(word) {
            counts.add(word, -count).expect("a text has fewer words than an i64 counts");
        }
    };
    if kind == CollectionKind::Texts {
        return claim::each_word(&entry.value(), lower);
    }
    // It was counted, so it has a text.
    let value = entry.value();
    let Ok(text) = post_text(entry.content_type(), &value) else { return };
    // Counted apart first: the marks are looked up once a word, and not once an occurrence.
    let mut words = WordCounts::new(hasher);
    count_words(analyzer, &text, &mut words);
    words.iter().for_each(|counted| lower(counted.word, counted.amount));
}
