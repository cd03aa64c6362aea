//! A digest of what a database holds that does not depend on which database it is.
//!
//! The digest of a state (`data/store`) hashes words with the database's secret seed, and entries with the records that
//! wrote them: two databases with the same content have different ones. This one is of the content alone, so that an
//! export, and what is imported from it, can be compared.

use crate::base::hash::fingerprint;

/// The digest of counts and entries, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentDigest(u64);

/// An entry, as far as it is the same in another database: not its version, nor how much of its time is left.
#[derive(Clone, Copy, Debug)]
pub struct EntryContent<'a> {
    /// The name of its kind.
    pub kind: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The key.
    pub key: &'a str,
    /// The media type.
    pub content_type: &'a str,
    /// True if its words are in the counts.
    pub is_counted: bool,
    /// True if it expires at some time.
    pub expires: bool,
    /// The value.
    pub value: &'a [u8],
}

impl ContentDigest {
    /// Adds a word's count.
    pub fn add_count(&mut self, namespace: &str, word: &str, count: i64) {
        // As the digest of a state: hash times count, so that counts in parts make the same sum as counts in one.
        let hash = fingerprint(&[b"count", namespace.as_bytes(), word.as_bytes()]) as u64;
        self.0 = self.0.wrapping_add((hash | 1).wrapping_mul(count as u64));
    }

    /// Adds an entry.
    pub fn add_entry(&mut self, entry: EntryContent<'_>) {
        let EntryContent { kind, namespace, key, content_type, is_counted, expires, value } = entry;
        let flags = [u8::from(is_counted), u8::from(expires)];
        let parts =
            [kind.as_bytes(), namespace.as_bytes(), key.as_bytes(), content_type.as_bytes(), flags.as_slice(), value];
        self.0 = self.0.wrapping_add(fingerprint(&parts) as u64);
    }

    /// The digest as sixteen hexadecimal digits.
    pub fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counts: &[(&str, &str, i64)]) -> ContentDigest {
        let mut digest = ContentDigest::default();
        counts.iter().for_each(|&(namespace, word, count)| digest.add_count(namespace, word, count));
        digest
    }

    #[test]
    fn a_content_digest_is_of_the_content_whatever_its_order_and_parts() {
        let whole = of(&[("a", "x", 5), ("a", "y", -1), ("b", "x", 2)]);
        assert_eq!(whole, of(&[("b", "x", 2), ("a", "x", 4), ("a", "y", -1), ("a", "x", 1)]));
        assert_ne!(whole, of(&[("a", "x", 5), ("a", "y", -1), ("c", "x", 2)]));
        assert_ne!(of(&[("a", "x", 1)]), of(&[("a", "x", 2)]));
    }

    #[test]
    fn everything_about_an_entry_is_in_its_content_digest() {
        let entry = EntryContent {
            kind: "cache",
            namespace: "a",
            key: "k",
            content_type: "text/plain",
            is_counted: false,
            expires: false,
            value: b"v",
        };
        let of = |entry| {
            let mut digest = ContentDigest::default();
            digest.add_entry(entry);
            digest
        };
        for other in [
            EntryContent { kind: "posts", ..entry },
            EntryContent { namespace: "b", ..entry },
            EntryContent { key: "l", ..entry },
            EntryContent { content_type: "", ..entry },
            EntryContent { is_counted: true, ..entry },
            EntryContent { expires: true, ..entry },
            EntryContent { value: b"w", ..entry },
        ] {
            assert_ne!(of(entry), of(other), "{other:?}");
        }
    }
}
