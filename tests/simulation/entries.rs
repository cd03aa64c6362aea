//! What clients ask of entries: values of a cache, posts whose words count, texts whose words count for a while.

use crate::client::{NAMESPACES, WORDS};
use bytes::Bytes;
use memdb::{
    base::hash::WordHasher,
    base::position::Sequence,
    data::counts::word_counts::WordCounts,
    data::entries::{CollectionKind, EntryOp, EntryWrite, Expiry, NewValue, WriteCondition, WriteLease, hash_of},
    data::posts::encode_claim,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use testkit::Random;

/// Of a hundred histories, in so many clients write entries.
pub const WITH_ENTRIES: usize = 50;

/// Keys of each collection that clients use; few, so that they meet.
pub const CACHE_KEYS: [&str; 5] = ["a", "b/c", "ключ", "d", "the"];
const POST_KEYS: [&str; 4] = ["1", "2", "3", "a"];
/// Times to live in milliseconds; `None`: forever.
const TTLS_MS: [Option<u64>; 9] =
    [None, None, Some(1), Some(40), Some(300), Some(2_000), Some(10_000), Some(30_000), Some(400_000)];
/// Lengths of values: empty, short, with a hash of their own beside them, and longer.
const VALUE_BYTES: [usize; 5] = [0, 3, 64, 65, 400];

/// One change of an entry that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryWish {
    pub kind: CollectionKind,
    /// Empty: the Writer gives it one.
    pub key: String,
    pub asks: Asks,
    pub needs: Needs,
}

/// What is asked of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    Put { value: Arc<[u8]>, content_type: &'static str, counts: bool, ttl_ms: Option<u64> },
    SetExpiry(Option<u64>),
    Remove,
}

/// What a change depends on. Values stand for their tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    Present,
    Absent,
    AnyOf(Vec<Arc<[u8]>>),
    NoneOf(Vec<Arc<[u8]>>),
    /// No write of the key was sent since a value was fetched for it.
    Unwritten(Lease),
}

/// The lease of a fetch, and whether it has ended by what clients have sent.
#[derive(Clone, Debug)]
pub struct Lease {
    core: WriteLease,
    has_ended: Arc<AtomicBool>,
}

impl Lease {
    pub fn new(core: WriteLease) -> Self {
        Self { core, has_ended: Arc::default() }
    }

    /// A write of its key was sent.
    pub fn end(&self) {
        self.has_ended.store(true, Relaxed);
    }

    /// Whether it holds while the entry has this version.
    pub fn holds(&self, version: Option<Sequence>) -> bool {
        !self.has_ended.load(Relaxed) && (version.is_none() || version == self.core.version())
    }
}

impl PartialEq for Lease {
    fn eq(&self, other: &Self) -> bool {
        self.core == other.core
    }
}

impl Eq for Lease {}

impl EntryWish {
    /// The change as a handler would write it.
    pub fn write(&self) -> EntryWrite {
        let expiry = |ttl_ms: &Option<u64>| ttl_ms.map_or(Expiry::Never, Expiry::AfterMs);
        let op = match &self.asks {
            Asks::Put { value, content_type, counts, ttl_ms } => {
                let value = NewValue::new(Bytes::copy_from_slice(value), content_type);
                EntryOp::Put(if *counts { value.counted() } else { value }, expiry(ttl_ms))
            }
            Asks::SetExpiry(ttl_ms) => EntryOp::SetExpiry(expiry(ttl_ms)),
            Asks::Remove => EntryOp::Remove,
        };
        EntryWrite { kind: self.kind, key: self.key.as_str().into(), op, condition: self.needs.condition() }
    }
}

impl fmt::Display for EntryWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {} {:?} ", self.kind.name(), self.key)?;
        match &self.asks {
            Asks::Put { value, counts, ttl_ms, .. } => {
                let start = String::from_utf8_lossy(&value[..value.len().min(20)]);
                write!(f, "put {} bytes {start:?}, counts {counts}, ttl {ttl_ms:?}", value.len())?;
            }
            asks => write!(f, "{asks:?}")?,
        }
        match &self.needs {
            Needs::Nothing => Ok(()),
            needs => write!(f, " if {needs:?}"),
        }
    }
}

impl Needs {
    pub fn lease(&self) -> Option<&Lease> {
        if let Needs::Unwritten(lease) = self { Some(lease) } else { None }
    }

    fn condition(&self) -> WriteCondition {
        let tag = |value: &Arc<[u8]>| hash_of(value).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let tags = |values: &[Arc<[u8]>]| values.iter().map(|value| tag(value).into()).collect();
        match self {
            Needs::Nothing => WriteCondition::Always,
            Needs::Present => WriteCondition::Present,
            Needs::Absent => WriteCondition::Absent,
            Needs::AnyOf(values) => WriteCondition::Matches(tags(values)),
            Needs::NoneOf(values) => WriteCondition::MatchesNone(tags(values)),
            Needs::Unwritten(lease) => WriteCondition::Leased(lease.core.clone()),
        }
    }
}

/// What is asked at once: with the words that it counts.
pub struct Asked {
    pub namespace: &'static str,
    pub words: Vec<(&'static str, i64)>,
    pub entries: Vec<EntryWish>,
}

/// Who writes entries.
pub struct EntryClients {
    pub random: Random,
}

impl EntryClients {
    pub fn new(random: Random) -> Self {
        Self { random }
    }

    /// Every key that a client may name.
    pub fn keys() -> impl Iterator<Item = (CollectionKind, &'static str, &'static str)> {
        NAMESPACES.into_iter().flat_map(|namespace| {
            let caches = CACHE_KEYS.map(|key| (CollectionKind::Cache, namespace, key));
            caches.into_iter().chain(POST_KEYS.map(|key| (CollectionKind::Posts, namespace, key)))
        })
    }

    /// What is asked next. `grows` says where clients only add.
    pub fn next(&mut self, grows: impl Fn(&str) -> bool) -> Asked {
        let namespace = NAMESPACES[self.random.below(5).saturating_sub(2)];
        match self.random.below(100) {
            0..45 => self.of_the_cache(namespace),
            at => {
                let namespace = if grows(namespace) { NAMESPACES[1] } else { namespace };
                if at < 85 { self.post(namespace) } else { self.text(namespace) }
            }
        }
    }

    fn of_the_cache(&mut self, namespace: &'static str) -> Asked {
        let (kind, random) = (CollectionKind::Cache, &mut self.random);
        let first = random.below(CACHE_KEYS.len());
        let entries = (0..random.between(1, 3)).map(|at| {
            let key = CACHE_KEYS[(first + at) % CACHE_KEYS.len()];
            let asks = match random.below(100) {
                0..65 => {
                    let (value, content_type) = (some_value(random), *random.pick(&["", "image/png"]));
                    Asks::Put { value, content_type, counts: false, ttl_ms: *random.pick(&TTLS_MS) }
                }
                65..82 => Asks::SetExpiry(*random.pick(&TTLS_MS)),
                _ => Asks::Remove,
            };
            let needs = if random.percent(30) { needs(random) } else { Needs::Nothing };
            EntryWish { kind, key: key.to_owned(), asks, needs }
        });
        Asked { namespace, words: Vec::new(), entries: entries.collect() }
    }

    fn post(&mut self, namespace: &'static str) -> Asked {
        let (kind, random) = (CollectionKind::Posts, &mut self.random);
        let key = POST_KEYS[random.below(POST_KEYS.len())].to_owned();
        let mut words = Vec::new();
        let asks = match random.below(100) {
            at @ 0..72 => {
                let text = some_words(random);
                let value = text.join(" ").into_bytes().into();
                let counts = at < 60;
                if counts {
                    words = text.into_iter().map(|word| (word, 1)).collect();
                }
                Asks::Put { value, content_type: "text/plain", counts, ttl_ms: *random.pick(&TTLS_MS) }
            }
            72..82 => Asks::SetExpiry(*random.pick(&TTLS_MS)),
            _ => Asks::Remove,
        };
        let needs = match random.below(100) {
            0..10 => Needs::Present,
            10..20 => Needs::Absent,
            _ => Needs::Nothing,
        };
        Asked { namespace, words, entries: vec![EntryWish { kind, key, asks, needs }] }
    }

    fn text(&mut self, namespace: &'static str) -> Asked {
        let random = &mut self.random;
        let words: Vec<_> = some_words(random).into_iter().map(|word| (word, 1)).collect();
        let mut counts = WordCounts::new(WordHasher::new(0));
        words.iter().for_each(|(word, amount)| counts.add(word, *amount).expect("few"));
        let value = encode_claim(&counts).into();
        let ttl_ms = *random.pick(&TTLS_MS[2..]);
        let asks = Asks::Put { value, content_type: "", counts: true, ttl_ms };
        let wish = EntryWish { kind: CollectionKind::Texts, key: String::new(), asks, needs: Needs::Nothing };
        Asked { namespace, words, entries: vec![wish] }
    }
}

fn some_words(random: &mut Random) -> Vec<&'static str> {
    (0..random.between(0, 6)).map(|_| *random.pick(&WORDS)).collect()
}

fn some_value(random: &mut Random) -> Arc<[u8]> {
    let byte = random.below(3) as u8;
    vec![b'x' + byte; *random.pick(&VALUE_BYTES)].into()
}

fn needs(random: &mut Random) -> Needs {
    let values = |random: &mut Random| (0..random.between(1, 6)).map(|_| some_value(random)).collect();
    match random.below(4) {
        0 => Needs::Present,
        1 => Needs::Absent,
        2 => Needs::AnyOf(values(random)),
        _ => Needs::NoneOf(values(random)),
    }
}
