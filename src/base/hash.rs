//! The keyed hash of words, and the digest of counts.
//!
//! One hash of a word serves the word counts, the index and the digest, so a word is hashed once per post.
//! The seed is drawn at random when a database is made and is kept in its files: the same after a restart and on
//! every node, unknown to clients (`docs/decisions/0003-keyed-hash.md` argues flooding).

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed, xxh3_128};

/// Hashes words under the secret seed of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordHasher {
    seed: u64,
}

impl WordHasher {
    /// A hasher for the database with this seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The hash of one word (XXH3-64, seeded).
    #[inline]
    pub fn hash(self, word: &str) -> u64 {
        xxh3_64_with_seed(word.as_bytes(), self.seed)
    }

    /// The odd factor a namespace's digest enters the database's digest with, so that equal words in two
    /// namespaces do not cancel out.
    pub fn namespace_factor(self, namespace: &str) -> u64 {
        xxh3_64_with_seed(namespace.as_bytes(), !self.seed) | 1
    }
}

impl WordHasher {
    /// The hash of a key or a value of any bytes, under the seed and a number that sets it apart.
    #[inline]
    pub fn hash_bytes(self, bytes: &[u8], salt: u64) -> u64 {
        xxh3_64_with_seed(bytes, self.seed ^ salt)
    }

    /// [`WordHasher::hash_bytes`] of parts that do not lie behind each other.
    pub fn hash_parts(self, parts: &[&[u8]], salt: u64) -> u64 {
        let mut hash = Xxh3::with_seed(self.seed ^ salt);
        parts.iter().for_each(|part| hash.update(part));
        hash.digest()
    }
}

/// The contribution of one count to the digest of its namespace: hash × count, mod 2^64.
///
/// The digest of a namespace is the sum over its words, so a change of one count from `old` to `new` moves it by
/// `weight(hash, new) - weight(hash, old)`, in any order.
#[inline]
pub const fn weight(hash: u64, count: i64) -> u64 {
    hash.wrapping_mul(count.cast_unsigned())
}

/// The fingerprint of a request: what must be equal for a repeated key to be a repeat (XXH3-128 over the parts,
/// each after its length).
pub fn fingerprint(parts: &[&[u8]]) -> u128 {
    let mut joined = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        joined.extend_from_slice(&(part.len() as u64).to_le_bytes());
        joined.extend_from_slice(part);
    }
    xxh3_128(&joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_hash_of_what_they_are_together() {
        let (hasher, whole) = (WordHasher::new(7), [0x5a; 700].map(|byte: u8| byte.wrapping_mul(31)));
        for bytes in [0, 1, 3, 16, 17, 128, 129, 240, 241, 512, 700] {
            for cut in [0, bytes / 3, bytes] {
                let (one, other) = whole[..bytes].split_at(cut);
                assert_eq!(hasher.hash_parts(&[one, other], 9), hasher.hash_bytes(&whole[..bytes], 9), "{bytes} {cut}");
            }
        }
    }

    #[test]
    fn the_seed_changes_every_hash() {
        assert_ne!(WordHasher::new(1).hash("hello"), WordHasher::new(2).hash("hello"));
        assert_eq!(WordHasher::new(1).hash("hello"), WordHasher::new(1).hash("hello"));
    }

    #[test]
    fn weights_add_up_in_any_order() {
        let hash = WordHasher::new(7).hash("hello");
        let step = weight(hash, 5).wrapping_sub(weight(hash, 2));
        assert_eq!(weight(hash, 2).wrapping_add(step), weight(hash, 5));
        assert_eq!(weight(hash, -3).wrapping_add(weight(hash, 3)), 0);
    }

    #[test]
    fn fingerprints_keep_the_borders_between_parts() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_ne!(fingerprint(&[b"ab"]), fingerprint(&[b"ab", b""]));
    }
}
