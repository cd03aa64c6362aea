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
        // A text has fewer words than an i64 counts. Not so a claim of a file that nobody encoded.
        if !has_ended(word) && counts.add(word, -count).is_err() {
            counts.set_hashed(hasher.hash(word), word, -i64::MAX);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::hash::WordHasher,
        data::record::{EntryValue, ValueEncoding},
    };

    #[test]
    fn a_claim_of_more_than_can_be_counted_takes_back_what_can() {
        let hasher = WordHasher::new(1);
        let most = [&[0, 0, b'a'], &[0xff; 8][..], &[0x7f]].concat();
        let value = EntryValue {
            content_type: "",
            expires: None,
            counted: true,
            encoding: ValueEncoding::Plain,
            raw_bytes: 2 * most.len() as u32,
            hash: &[],
            bytes: &most.repeat(2),
        };
        let (stored, entry) = (StoredEntries::new(hasher), Entry::new(0, "k", &value, 1));
        let of = Takeback { analyzer: Analyzer::Standard, stored: &stored, namespace: "words" };
        let mut counts = WordCounts::new(hasher);
        take_back(of, CollectionKind::Texts, &entry, &mut counts);
        assert_eq!(counts.get(hasher.hash("a"), "a"), Some(-i64::MAX));
    }
}
