//! Models of what `src/base/atomics.rs` gives, by loom: each load of an atomic may see any store that the memory model
//! lets it see, and every order of steps is gone through.
//!
//! Two things are added to loom's atomics. It treats `SeqCst` accesses as `AcqRel`, so a load of that kind is repeated
//! here until it sees the last `SeqCst` store or a later one, as the one order of such accesses has it; every atomic
//! with such a store only ever counts up, so a later value is a greater one. And a [`Fault`] can be planted, to see
//! that a model notices it.
//!
//! Outside a model these are std's, so that the unit tests of the modules pass here as well.

use loom::{sync::atomic as modelled, thread};
pub use std::sync::atomic::Ordering;
use std::{
    cell::Cell,
    sync::{Arc, Mutex, atomic as plain},
};

/// What is made weaker than the program has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Stores are `Release` where they are `SeqCst`.
    WeakStores,
    /// Loads are `Acquire` where they are `SeqCst`.
    WeakLoads,
    /// Fences that are `SeqCst` are left out.
    NoFullFence,
    /// Fences that are `Acquire` are left out.
    NoAcquireFence,
    /// Stores are `Relaxed` where they are `Release`.
    NoRelease,
    /// Loads are `Relaxed` where they are `Acquire`.
    NoAcquire,
    /// The Writer sees no reader to wait for.
    NoWait,
}

thread_local! {
    // Of the model that this thread runs: loom's threads are all on it.
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Runs `model`, whose atomics are loom's, with something planted.
pub fn with_fault<T>(fault: Fault, model: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            FAULT.set(None);
        }
    }
    let _reset = Reset;
    FAULT.set(Some(fault));
    model()
}

fn fault() -> Fault {
    FAULT.get().unwrap_or(Fault::None)
}

fn of_store(ordering: Ordering) -> Ordering {
    match (ordering, fault()) {
        (Ordering::SeqCst, Fault::WeakStores) => Ordering::Release,
        (Ordering::Release, Fault::NoRelease) => Ordering::Relaxed,
        _ => ordering,
    }
}

fn of_load(ordering: Ordering) -> Ordering {
    match (ordering, fault()) {
        (Ordering::SeqCst, Fault::WeakLoads) => Ordering::Acquire,
        (Ordering::Acquire, Fault::NoAcquire) => Ordering::Relaxed,
        _ => ordering,
    }
}

pub fn fence(ordering: Ordering) {
    match (ordering, FAULT.get()) {
        (_, None) => plain::fence(ordering),
        (Ordering::SeqCst, Some(Fault::NoFullFence)) | (Ordering::Acquire, Some(Fault::NoAcquireFence)) => {}
        _ => modelled::fence(ordering),
    }
}

macro_rules! atomic {
    ($name:ident, $number:ty) => {
        #[derive(Debug)]
        pub enum $name {
            Plain(plain::$name),
            /// With the last value that a `SeqCst` store has left; that one is no part of the model.
            Modelled(modelled::$name, plain::$name),
        }

        impl $name {
            pub fn new(value: $number) -> Self {
                match FAULT.get() {
                    None => Self::Plain(plain::$name::new(value)),
                    Some(_) => Self::Modelled(modelled::$name::new(value), plain::$name::new(0)),
                }
            }

            pub fn load(&self, ordering: Ordering) -> $number {
                let ordering = of_load(ordering);
                match self {
                    Self::Plain(atomic) => atomic.load(ordering),
                    Self::Modelled(atomic, last) => loop {
                        let value = atomic.load(ordering);
                        if ordering != Ordering::SeqCst || value >= last.load(Ordering::Relaxed) {
                            return value;
                        }
                        thread::yield_now(); // the same store is not seen again after it
                    },
                }
            }

            pub fn store(&self, value: $number, ordering: Ordering) {
                let ordering = of_store(ordering);
                match self {
                    Self::Plain(atomic) => atomic.store(value, ordering),
                    Self::Modelled(atomic, last) => {
                        atomic.store(value, ordering);
                        if ordering == Ordering::SeqCst {
                            let before = last.swap(value, Ordering::Relaxed);
                            assert!(before < value, "an atomic with SeqCst stores counts up");
                        }
                    }
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

pub fn zeros(count: usize) -> Option<Box<[AtomicU64]>> {
    Some((0..count).map(|_| AtomicU64::new(0)).collect())
}

/// Waits by letting other threads go on.
pub struct Backoff;

impl Backoff {
    pub fn new() -> Self {
        Self
    }

    pub fn snooze(&self) {
        if FAULT.get().is_some() {
            thread::yield_now();
        } else {
            std::thread::yield_now();
        }
    }
}

/// A value swapped whole: its versions one after the other, and which of them is current. Less than arc_swap orders.
#[derive(Debug)]
pub struct ArcSwap<T> {
    current: AtomicU64,
    versions: Mutex<Vec<Arc<T>>>,
}

impl<T> ArcSwap<T> {
    pub fn new(value: Arc<T>) -> Self {
        Self { current: AtomicU64::new(0), versions: Mutex::new(vec![value]) }
    }

    pub fn load(&self) -> Arc<T> {
        let at = self.current.load(Ordering::Acquire) as usize;
        Arc::clone(&self.versions.lock().expect("no thread ends with it")[at])
    }

    pub fn load_full(&self) -> Arc<T> {
        self.load()
    }

    pub fn store(&self, value: Arc<T>) {
        let mut versions = self.versions.lock().expect("no thread ends with it");
        versions.push(value);
        let at = versions.len() as u64 - 1;
        drop(versions); // another thread may run at the store
        self.current.store(at, Ordering::Release);
    }
}

impl<T: Default> Default for ArcSwap<T> {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

/// [`ArcSwap`] with nothing in it at first.
#[derive(Debug)]
pub struct ArcSwapOption<T>(ArcSwap<Option<Arc<T>>>);

impl<T> ArcSwapOption<T> {
    pub fn empty() -> Self {
        Self(ArcSwap::new(Arc::new(None)))
    }

    pub fn load(&self) -> Option<Arc<T>> {
        self.0.load().as_ref().clone()
    }

    pub fn store(&self, value: Option<Arc<T>>) {
        self.0.store(Arc::new(value));
    }
}

/// [`ArcSwap`] of what counts its references itself.
#[derive(Debug)]
pub struct ArcSwapAny<T>(ArcSwap<T>);

impl<T: Clone> ArcSwapAny<T> {
    pub fn new(value: T) -> Self {
        Self(ArcSwap::new(Arc::new(value)))
    }

    pub fn load(&self) -> T {
        self.load_full()
    }

    pub fn load_full(&self) -> T {
        T::clone(&self.0.load())
    }

    pub fn store(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}

impl<T: Clone + Default> Default for ArcSwapAny<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Threads of a model that may come by, at most.
const THREADS: usize = 2;

/// A value for each thread, made at its first visit, as `thread_local` orders it: told of by a `Release` store, looked
/// for by `Acquire` loads.
#[derive(Debug)]
pub struct ThreadLocal<T> {
    entries: Vec<Entry<T>>,
    owners: Mutex<Vec<Owner>>,
}

#[derive(Debug)]
struct Entry<T> {
    present: AtomicU32,
    value: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Plain(std::thread::ThreadId),
    Modelled(thread::ThreadId),
}

impl Owner {
    fn of_this_thread() -> Self {
        match FAULT.get() {
            None => Self::Plain(std::thread::current().id()),
            Some(_) => Self::Modelled(thread::current().id()),
        }
    }
}

impl<T: Default> Default for ThreadLocal<T> {
    fn default() -> Self {
        let entry = |_| Entry { present: AtomicU32::new(0), value: T::default() };
        Self { entries: (0..THREADS).map(entry).collect(), owners: Mutex::default() }
    }
}

impl<T: Default> ThreadLocal<T> {
    pub fn get(&self) -> Option<&T> {
        let owners = self.owners.lock().expect("no thread ends with it");
        let at = owners.iter().position(|&owner| owner == Owner::of_this_thread())?;
        Some(&self.entries[at].value)
    }

    pub fn get_or_default(&self) -> &T {
        let mut owners = self.owners.lock().expect("no thread ends with it");
        let at = owners.len();
        owners.push(Owner::of_this_thread());
        drop(owners); // another thread may run at the store
        self.entries[at].present.store(1, Ordering::Release);
        &self.entries[at].value
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let waits = fault() != Fault::NoWait;
        let present = move |entry: &&Entry<T>| waits && entry.present.load(Ordering::Acquire) == 1;
        self.entries.iter().filter(present).map(|entry| &entry.value)
    }
}
