//! Entries as the database must hold them: what is admitted, what it takes back, who has to go, when it is over.
//!
//! A claim is a list of words here. Whoever takes words away takes them out of it, and there is nothing to compare
//! versions of; the marks by which the core knows the same are held beside, to be compared.

use super::{State, Verdict, Words};
use crate::entries::{Asks, EntryWish, Needs};
use memdb::{
    base::clock::LoggedTime,
    base::hash::WordHasher,
    base::limits::SHORT_VALUE_BYTES,
    base::position::{Position, Sequence},
    data::command::WriteBatch,
    data::counts::WriteOp,
    data::entries::{CollectionId, CollectionKind, key_hash},
    data::record::{EntryValue, ValueEncoding},
    data::store::{DedupLimits, Store, StoreReader},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

/// An entry's place: kind, namespace and key.
pub type EntryKey = (CollectionKind, Arc<str>, Arc<str>);

/// An entry that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    value: Arc<[u8]>,
    content_type: &'static str,
    version: Sequence,
    expires_ms: Option<u64>,
    /// The words that it has in the counts; `None`: it does not count.
    claim: Option<Arc<Words>>,
}

/// The changes of a record so far.
#[derive(Clone, Default)]
pub struct Changes {
    touched: BTreeSet<EntryKey>,
    len: usize,
    /// Whether some go for want of room.
    pub evicts: bool,
}

/// What a batch would change.
#[derive(Default)]
pub struct Plan {
    changes: Vec<(EntryKey, Option<Held>)>,
    /// The words that those give back that end.
    pub given_back: Words,
    pub ends_a_claim: bool,
    evicts: bool,
    /// Changes that the client has asked for.
    pub requested: u64,
}

/// Bytes of memory that an entry takes beside what is in it, as the database says: one that stays, one that expires.
static OVERHEAD_BYTES: LazyLock<[usize; 2]> = LazyLock::new(|| [None, Some(LoggedTime::ZERO)].map(overhead_bytes));

fn overhead_bytes(expires: Option<LoggedTime>) -> usize {
    let mut store = Store::new(WordHasher::new(0), DedupLimits::default());
    let value = EntryValue {
        content_type: "",
        expires,
        counted: false,
        encoding: ValueEncoding::Plain,
        raw_bytes: 0,
        hash: &[],
        bytes: &[],
    };
    store.load_entry(CollectionId::new(CollectionKind::Cache, "words"), "", &value, 1).expect("it has room");
    store.end_image();
    store.reader().entry_totals().bytes as usize
}

impl Held {
    fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    fn bytes(&self, (_, _, key): &EntryKey) -> i64 {
        let hash = if self.value.len() > SHORT_VALUE_BYTES { 32 } else { 0 };
        // Media types that most entries have take no bytes, and clients send no others here.
        (OVERHEAD_BYTES[usize::from(self.expires_ms.is_some())] + key.len() + hash + self.value.len()) as i64
    }
}

/// The mark that a word was taken away, or, without one, the namespace.
fn mark(namespace: &Arc<str>, word: &str, version: Sequence) -> (EntryKey, Option<Held>) {
    let mark = Held { value: Arc::new([]), content_type: "", version, expires_ms: None, claim: None };
    ((CollectionKind::Removals, namespace.clone(), word.into()), Some(mark))
}

impl Needs {
    fn hold(&self, there: Option<&Held>) -> bool {
        let is_one_of = |values: &[Arc<[u8]>]| there.is_some_and(|held| values.contains(&held.value));
        match self {
            Needs::Nothing => true,
            Needs::Present => there.is_some(),
            Needs::Absent => there.is_none(),
            Needs::AnyOf(values) => is_one_of(values),
            Needs::NoneOf(values) => !is_one_of(values),
            Needs::Unwritten(lease) => lease.holds(there.map(|held| held.version)),
        }
    }
}

impl Changes {
    /// Whether something is changed.
    pub fn anything(&self) -> bool {
        self.len > 0
    }

    /// Whether this batch has to wait for the next record: it names an entry again, or only one of the two takes words
    /// away and the other may count some.
    pub fn are_in_the_way_of(&self, batch: &WriteBatch, entries: &[EntryWish]) -> bool {
        let namespace = &*batch.namespace;
        let names = |wish: &EntryWish| (wish.kind, namespace.into(), wish.key.as_str().into());
        let has_marks =
            || self.touched.iter().any(|(kind, of, _)| *kind == CollectionKind::Removals && **of == *namespace);
        let removes = matches!(batch.op, WriteOp::RemoveWords | WriteOp::DropNamespace);
        self.anything() && (removes || has_marks() || entries.iter().any(|wish| self.touched.contains(&names(wish))))
    }
}

impl State {
    /// What a batch changes in the record at `position`, or why it may not.
    pub fn plan(
        &self,
        (batch, entries): (&WriteBatch, &[EntryWish]),
        so_far: &Changes,
        budget: (usize, WordHasher),
        (position, now_ms): (Position, u64),
    ) -> Result<Plan, Verdict> {
        let namespace: Arc<str> = (&*batch.namespace).into();
        let mut plan = Plan::default();
        match batch.op {
            _ if !self.has_claims(&namespace) => {}
            // It takes room in any case, and frees more.
            WriteOp::DropNamespace => plan.changes.push(mark(&namespace, "", position.sequence)),
            WriteOp::RemoveWords => {
                // Of a word that is not there, nothing could be taken back.
                let counted = self.counts.get(&*namespace);
                let is_there = |word: &str| counted.is_some_and(|words| words.contains_key(word));
                let words = batch.counts.iter().map(|counted| counted.word).filter(|word| is_there(word));
                plan.changes = words.map(|word| mark(&namespace, word, position.sequence)).collect();
                self.make_room(&mut plan, so_far, budget)?;
            }
            _ => {}
        }
        let at_ms = |ttl_ms: &Option<u64>| ttl_ms.map(|ttl_ms| now_ms + ttl_ms);
        for (at, wish) in entries.iter().enumerate() {
            let own = || format!("{position}-{}", so_far.len + at).into();
            let key = if wish.key.is_empty() { own() } else { wish.key.as_str().into() };
            let key: EntryKey = (wish.kind, namespace.clone(), key);
            let old = self.entries.get(&key);
            let live = old.filter(|old| !old.has_expired(now_ms));
            if !wish.needs.hold(live) {
                return Err(Verdict::Precondition);
            }
            let new = match (&wish.asks, live) {
                (Asks::Put { value, content_type, counts, ttl_ms }, _) => {
                    let claim = || batch.counts.iter().map(|counted| (counted.word.into(), counted.amount)).collect();
                    let claim = counts.then(|| Arc::new(claim()));
                    let (value, expires_ms, version) = (value.clone(), at_ms(ttl_ms), position.sequence);
                    Some(Held { value, content_type, version, expires_ms, claim })
                }
                (_, None) => continue,
                (Asks::SetExpiry(ttl_ms), Some(old)) => Some(Held { expires_ms: at_ms(ttl_ms), ..old.clone() }),
                (Asks::Remove, Some(_)) => None,
            };
            if let Some(claim) = old.and_then(|old| old.claim.as_ref())
                && !matches!(wish.asks, Asks::SetExpiry(_))
            {
                plan.ends_a_claim = true;
                claim.iter().for_each(|(word, count)| *plan.given_back.entry(word.clone()).or_default() += count);
            }
            plan.changes.push((key, new));
        }
        if !entries.is_empty() {
            plan.requested = plan.changes.len() as u64;
            self.make_room(&mut plan, so_far, budget)?;
        }
        Ok(plan)
    }

    /// Those go that expire next, then those that were written longest ago, until there is room.
    fn make_room(
        &self,
        plan: &mut Plan,
        so_far: &Changes,
        (budget_bytes, hasher): (usize, WordHasher),
    ) -> Result<(), Verdict> {
        let old = |key: &EntryKey| self.entries.get(key).map_or(0, |old| old.bytes(key));
        let new = |key: &EntryKey, new: &Option<Held>| new.as_ref().map_or(0, |new| new.bytes(key));
        let added: i64 = plan.changes.iter().map(|(key, held)| new(key, held) - old(key)).sum();
        let Ok(budget) = i64::try_from(budget_bytes) else { return Ok(()) };
        let mut over = self.entry_bytes() as i64 + added - budget;
        if added <= 0 || over <= 0 {
            return Ok(());
        }
        let is_free =
            |key: &EntryKey| !so_far.touched.contains(key) && !plan.changes.iter().any(|(written, _)| written == key);
        let mut gone = Vec::new();
        for key in self.eviction_order(hasher).into_iter().filter(is_free) {
            if over <= 0 {
                break;
            }
            over -= old(&key);
            gone.push((key, None));
        }
        plan.evicts = true;
        plan.changes.extend(gone);
        if over > 0 { Err(Verdict::EntriesFull) } else { Ok(()) }
    }

    /// What may be evicted, the first to go first: what expires next, then what was written longest ago, and of one age
    /// by their keys' hashes.
    fn eviction_order(&self, hasher: WordHasher) -> Vec<EntryKey> {
        let hash = |key: &EntryKey| key_hash(hasher, CollectionId::new(key.0, &key.1), &key.2);
        let free = self.entries.iter().filter(|(key, held)| key.0.is_public() && held.claim.is_none());
        let mut order: Vec<(u64, Sequence, u64, &EntryKey)> = free
            .map(|(key, held)| match held.expires_ms {
                Some(at_ms) => (at_ms, 0, hash(key), key),
                None => (u64::MAX, held.version, hash(key), key),
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(.., key)| key.clone()).collect()
    }

    /// Evicts what is beyond the budget, as a mark may have brought it about.
    fn trim(&mut self, (budget_bytes, hasher): (usize, WordHasher)) {
        for key in self.eviction_order(hasher) {
            if self.entry_bytes() <= budget_bytes as u64 {
                return;
            }
            Arc::make_mut(&mut self.entries).remove(&key);
        }
    }

    fn is_over(&self, budget_bytes: usize) -> bool {
        let may_go = |(key, held): (&EntryKey, &Held)| key.0.is_public() && held.claim.is_none();
        self.entry_bytes() > budget_bytes as u64 && self.entries.iter().any(may_go)
    }

    /// Does what was planned.
    pub fn carry_out(&mut self, plan: Plan, batch: &WriteBatch, so_far: &mut Changes) {
        match batch.op {
            WriteOp::DropNamespace => self.end_claims(&batch.namespace, |_| true),
            WriteOp::RemoveWords => {
                // Those that were there, which have a mark.
                let marks = plan.changes.iter().filter(|((kind, ..), _)| *kind == CollectionKind::Removals);
                let words: BTreeSet<&str> = marks.map(|((.., word), _)| &**word).collect();
                self.end_claims(&batch.namespace, |word| words.contains(word));
            }
            _ => {}
        }
        if plan.changes.is_empty() {
            return;
        }
        let entries = Arc::make_mut(&mut self.entries);
        so_far.len += plan.changes.len();
        so_far.evicts |= plan.evicts;
        for (key, new) in plan.changes {
            match new {
                Some(held) => drop(entries.insert(key.clone(), held)),
                None => drop(entries.remove(&key)),
            }
            so_far.touched.insert(key);
        }
    }

    /// Nobody has a claim to these words any more.
    fn end_claims(&mut self, namespace: &str, ends: impl Fn(&str) -> bool) {
        if !self.has_claims(namespace) {
            return;
        }
        let of_namespace = |key: &EntryKey| *key.1 == *namespace;
        for (_, held) in Arc::make_mut(&mut self.entries).iter_mut().filter(|(key, _)| of_namespace(key)) {
            if let Some(claim) = &mut held.claim {
                Arc::make_mut(claim).retain(|word, _| !ends(word));
            }
        }
    }

    fn has_claims(&self, namespace: &str) -> bool {
        self.entries.iter().any(|((_, of, _), held)| held.claim.is_some() && **of == *namespace)
    }

    /// Whether a tick at this time has entries to take out, or marks that nobody needs, or too much in all.
    pub fn has_due_entries(&self, now_ms: u64, budget_bytes: usize) -> bool {
        self.is_over(budget_bytes)
            || self.entries.iter().any(|(key, held)| held.has_expired(now_ms) || self.is_idle(key))
    }

    fn is_idle(&self, (kind, namespace, _): &EntryKey) -> bool {
        *kind == CollectionKind::Removals && !self.has_claims(namespace)
    }

    /// All that is due at this time is taken out, and gives its words back, down to zero at most. Returns how many
    /// entries of clients that are.
    pub fn expire(&mut self, now_ms: u64, budget: (usize, WordHasher)) -> usize {
        let (mut gone, mut expired) = (Vec::new(), 0);
        for (key, held) in self.entries.iter() {
            if held.has_expired(now_ms) {
                expired += 1;
                gone.push((key.clone(), held.claim.clone()));
            } else if self.is_idle(key) {
                gone.push((key.clone(), None));
            }
        }
        for (key, claim) in gone {
            if let Some(claim) = claim {
                self.withdraw(&key.1, &claim);
            }
            Arc::make_mut(&mut self.entries).remove(&key);
        }
        self.trim(budget);
        expired
    }

    /// Posts that are named and whose time has come give their words back before a batch is taken. Returns how many
    /// that are.
    pub fn expire_named(&mut self, namespace: &str, entries: &[EntryWish], now_ms: u64) -> usize {
        let mut expired = 0;
        for wish in entries {
            let key: EntryKey = (wish.kind, namespace.into(), wish.key.as_str().into());
            let due = self.entries.get(&key).filter(|held| held.has_expired(now_ms));
            if let Some(claim) = due.and_then(|held| held.claim.clone()) {
                self.withdraw(namespace, &claim);
                Arc::make_mut(&mut self.entries).remove(&key);
                expired += 1;
            }
        }
        expired
    }

    fn withdraw(&mut self, namespace: &str, claim: &Words) {
        let Some(of_namespace) = self.counts.get_mut(namespace) else { return };
        let words = Arc::make_mut(of_namespace);
        for (word, amount) in claim {
            match words.get_mut(word) {
                Some(count) if *count > *amount => *count -= amount,
                Some(count) if *count > 0 => drop(words.remove(word)),
                _ => {}
            }
        }
        if words.is_empty() {
            self.counts.remove(namespace);
        }
    }

    fn entry_bytes(&self) -> u64 {
        self.entries.iter().map(|(key, held)| held.bytes(key)).sum::<i64>() as u64
    }

    /// The reader shows these entries, and no others; gives what they add to the digest.
    ///
    /// # Errors
    /// The first difference.
    pub fn entries_shown(&self, reader: &StoreReader, absent: &[EntryKey]) -> Result<u64, String> {
        let (guard, mut digest) = (reader.read(), 0_u64);
        for (key, held) in self.entries.iter() {
            let collection = CollectionId::new(key.0, &key.1);
            let Some(entry) = guard.entry(collection, &key.2) else { return Err(format!("{key:?} is not there")) };
            let found = (
                entry.version(),
                entry.expires().map(|at| at.as_ms()),
                entry.is_counted(),
                entry.content_type(),
                entry.value(),
            );
            let wanted = (
                held.version,
                held.expires_ms,
                held.claim.is_some(),
                held.content_type,
                std::borrow::Cow::Borrowed(&*held.value),
            );
            if found != wanted {
                return Err(format!("{key:?} is {found:?} and should be {wanted:?}"));
            }
            digest = digest.wrapping_add(entry.digest_weight(reader.hasher(), collection));
        }
        for key in absent.iter().filter(|key| !self.entries.contains_key(key)) {
            if guard.entry(CollectionId::new(key.0, &key.1), &key.2).is_some() {
                return Err(format!("{key:?} is there and should not be"));
            }
        }
        drop(guard);
        // With these sums nothing else is there.
        let public = self.entries.keys().filter(|key| key.0.is_public()).count() as u64;
        let (totals, bytes) = (reader.entry_totals(), self.entry_bytes());
        if (totals.entries, totals.bytes) != (public, bytes) {
            return Err(format!("{totals:?} should be {public} entries of {bytes} bytes"));
        }
        Ok(digest)
    }

    /// A walk over all entries gives these, each once.
    ///
    /// # Errors
    /// The first difference.
    pub fn entries_walked(&self, reader: &StoreReader) -> Result<(), String> {
        let (mut scan, mut found) = (reader.scan_entries(), BTreeMap::new());
        let mut twice = false;
        while scan.step(|CollectionId { kind, namespace }, entry| {
            let key: EntryKey = (kind, namespace.into(), entry.key().into());
            twice |= found.insert(key, entry.version()).is_some();
        }) {}
        let wanted: BTreeMap<EntryKey, Sequence> =
            self.entries.iter().map(|(key, held)| (key.clone(), held.version)).collect();
        if twice || found != wanted {
            return Err(format!("a walk over the entries gives {found:?} and should give {wanted:?}"));
        }
        Ok(())
    }
}
