//! How histories are run: which, by what the environment says; on all cores; and what becomes of one that fails.

pub mod schedule;
mod shrink;

use memdb::base::failpoint;
use parking_lot::Mutex;
use schedule::Schedule;
use shrink::{Failed, Shrunk, shrink};
use std::{
    any::Any,
    cell::Cell,
    collections::BTreeMap,
    fmt::{self, Debug},
    io::IsTerminal,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::{
        Once,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use testkit::number_from;

/// Within so many histories a planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 300;
/// A failing history is shrunk for so long at most.
const SHRINK_FOR: Duration = Duration::from_secs(60);
/// Failures that are told; of more there is only the number.
const FAILURES_TOLD: usize = 20;

/// How often what happened: a simulation that meets nothing shows nothing. Faults are named `fault: …`.
pub type Tallies = BTreeMap<&'static str, usize>;

/// A bug that is planted: in the core, or in what is played around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Plant<B> {
    Core(failpoint::Defect),
    Played(B),
}

impl<B: Debug> Debug for Plant<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plant::Core(bug) => write!(f, "{bug:?}"),
            Plant::Played(bug) => write!(f, "{bug:?}"),
        }
    }
}

/// What becomes of the lines of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Nobody reads them, so they are not made.
    Dropped,
    Kept,
    Printed,
}

/// One history to run.
pub struct Task<'a, B> {
    pub seed: u64,
    pub schedule: &'a Schedule,
    pub bug: Option<B>,
    pub lines: Lines,
}

/// What became of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// What was found, if anything.
    pub wrong: Option<String>,
    /// Of all its lines, if they were kept.
    pub hash: u64,
    /// The last of its lines.
    pub tail: String,
    pub tallies: Tallies,
    pub steps: usize,
    /// Faults, with those that were left out.
    pub faults: usize,
    pub simulated_ms: u64,
}

/// A simulation, with what is wanted of it.
pub struct Suite<B: 'static> {
    /// Its verb in the Makefile.
    pub verb: &'static str,
    pub run: fn(&Task<'_, B>) -> Ran,
    /// Histories in `make test`.
    pub seeds: u64,
    /// Histories from which on everything below must have happened.
    pub seeds_that_meet_all: u64,
    /// What the histories must have met, or they show nothing.
    pub must_happen: &'static [&'static str],
    pub bugs: &'static [Plant<B>],
}

/// All histories that are asked for hold.
pub fn histories_hold<B: Copy + Debug + Sync>(suite: &Suite<B>) {
    let bug = std::env::var("MEMDB_SIM_BUG").ok().map(|name| {
        let named = suite.bugs.iter().copied().find(|bug| format!("{bug:?}") == name);
        named.unwrap_or_else(|| panic!("MEMDB_SIM_BUG={name}: one of {:?}", suite.bugs))
    });
    if let Some(seed) = number_from("MEMDB_SIM_SEED") {
        return one_holds(suite, seed, bug);
    }
    let begun = now();
    let minutes = number_from("MEMDB_SIM_MINUTES");
    let first = number_from("MEMDB_SIM_FROM").unwrap_or(0);
    let seeds = number_from("MEMDB_SIM_SEEDS").or(minutes.map(|_| u64::MAX - first)).unwrap_or(suite.seeds);
    let until = minutes.map(|minutes| begun + Duration::from_secs(60 * minutes));
    let all = run_all(suite, first, seeds, until, bug);
    let took = begun.elapsed().as_secs_f64();
    let (told, per_second) = (all.ran, all.ran as f64 / took);
    eprintln!("{}", table(&all.tallies));
    eprintln!(
        "{told} histories from seed {first} in {took:.0} s ({per_second:.0} a second), {:.1} simulated hours",
        all.simulated_ms as f64 / 3_600_000.0
    );
    for (seed, what) in all.failed.iter().take(FAILURES_TOLD) {
        eprintln!("seed {seed}: {}", first_line(what));
    }
    if let Some(seed) = all.failed.keys().next() {
        panic!("{} histories fail. The first:\n{}", all.failed.len(), tell(suite, *seed, bug, &Schedule::default()));
    }
    for what in suite.must_happen.iter().filter(|_| all.ran >= suite.seeds_that_meet_all) {
        assert!(all.tallies.contains_key(what), "no history has met: {what}");
    }
}

/// The seed that is asked for, as its schedule says.
fn one_holds<B: Copy + Debug>(suite: &Suite<B>, seed: u64, bug: Option<Plant<B>>) {
    let without = std::env::var("MEMDB_SIM_WITHOUT").unwrap_or_default();
    let schedule = Schedule {
        without: Schedule::parse_without(&without).expect("MEMDB_SIM_WITHOUT holds numbers, as 1,4-9"),
        steps: number_from("MEMDB_SIM_STEPS").map(|steps| steps as usize),
    };
    let print = std::env::var_os("MEMDB_SIM_LOG").is_some();
    let ran = run(suite, seed, bug, &schedule, if print { Lines::Printed } else { Lines::Kept });
    eprintln!("{}", table(&ran.tallies));
    assert!(ran.wrong.is_none(), "{}", tell(suite, seed, bug, &schedule));
}

/// What came out of many histories.
#[derive(Default)]
struct All {
    ran: u64,
    tallies: Tallies,
    simulated_ms: u64,
    failed: BTreeMap<u64, String>,
}

fn run_all<B: Copy + Debug + Sync>(
    suite: &Suite<B>,
    first: u64,
    seeds: u64,
    until: Option<Instant>,
    bug: Option<Plant<B>>,
) -> All {
    let (next, all) = (AtomicU64::new(0), Mutex::new(All::default()));
    let shown = Mutex::new(now());
    let work = || {
        while until.is_none_or(|until| now() < until) {
            let at = next.fetch_add(1, Relaxed);
            if at >= seeds {
                break;
            }
            let ran = run(suite, first + at, bug, &Schedule::default(), Lines::Dropped);
            let mut all = all.lock();
            all.ran += 1;
            all.simulated_ms += ran.simulated_ms;
            ran.tallies.iter().for_each(|(what, times)| *all.tallies.entry(what).or_default() += times);
            all.failed.extend(ran.wrong.map(|what| (first + at, what)));
            show_progress(&shown, &all, until.is_none().then_some(seeds));
        }
    };
    thread::scope(|scope| (0..threads()).for_each(|_| drop(scope.spawn(work))));
    all.into_inner()
}

/// A line on the terminal, every few seconds.
fn show_progress(shown: &Mutex<Instant>, all: &All, of: Option<u64>) {
    let mut shown = shown.lock();
    if shown.elapsed() >= Duration::from_secs(3) && std::io::stderr().is_terminal() {
        *shown = now();
        let of = of.map_or(String::new(), |of| format!(" of {of}"));
        eprint!("\r{}{of} histories, {} failed ", all.ran, all.failed.len());
    }
}

/// What is wrong with a history, the last of it, the smallest part of it that fails too, and how to see them again.
fn tell<B: Copy + Debug>(suite: &Suite<B>, seed: u64, bug: Option<Plant<B>>, schedule: &Schedule) -> String {
    let ran = run(suite, seed, bug, schedule, Lines::Kept);
    let whole = format!("{}\nthe last of its history:{}", ran.wrong.as_deref().unwrap_or("it fails no more"), ran.tail);
    let Some(failed) = failed(&ran) else { return whole };
    let planted = bug.map_or(String::new(), |bug| format!("MEMDB_SIM_BUG={bug:?} "));
    let until = now() + SHRINK_FOR;
    let least = shrunk(suite, seed, bug, schedule.clone(), failed, |_| now() < until);
    let again = run(suite, seed, bug, &least.schedule, Lines::Kept);
    format!(
        "{whole}\nreplay it with: {planted}{}\n\n{} of its {} faults and {} of its {} steps are enough (seen in {} \
         histories):\n{}\nthe last of that history:{}\nreplay it with: {planted}{}",
        schedule.command(suite.verb, seed),
        least.present().len(),
        ran.faults,
        least.schedule.steps.unwrap_or(ran.steps),
        ran.steps,
        least.runs,
        least.failed.what,
        again.tail,
        least.schedule.command(suite.verb, seed),
    )
}

fn failed(ran: &Ran) -> Option<Failed> {
    let what = ran.wrong.clone()?;
    Some(Failed { what, steps: ran.steps, faults: ran.faults })
}

/// The smallest part that was found of a history that fails.
fn shrunk<B: Copy + Debug>(
    suite: &Suite<B>,
    seed: u64,
    bug: Option<Plant<B>>,
    schedule: Schedule,
    whole: Failed,
    goes_on: impl FnMut(usize) -> bool,
) -> Shrunk {
    let again = |schedule: &Schedule| failed(&run(suite, seed, bug, schedule, Lines::Dropped));
    let mut least = None;
    quietly(|| least = Some(shrink(schedule, whole, again, goes_on)));
    least.expect("it has run")
}

/// The same seed is the same history, byte for byte.
pub fn a_seed_is_one_history<B: Copy + Debug>(suite: &Suite<B>, seeds: u64) {
    if is_replaying() {
        return;
    }
    for seed in 0..seeds {
        let [once, again] = [(); 2].map(|()| run(suite, seed, None, &Schedule::default(), Lines::Kept));
        assert_eq!(once, again, "seed {seed}");
        let unseen = run(suite, seed, None, &Schedule::default(), Lines::Dropped);
        assert_eq!(
            (once.tallies, once.steps, once.faults),
            (unseen.tallies, unseen.steps, unseen.faults),
            "seed {seed}"
        );
    }
}

/// Each planted bug is found, and is in the table of `docs/simulation.md`.
pub fn planted_bugs_are_found<B: Copy + Debug + Sync>(suite: &Suite<B>) {
    if is_replaying() {
        return;
    }
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    quietly_everywhere(|| {
        while let Some(bug) = suite.bugs.get(next.fetch_add(1, Relaxed)) {
            let begun = now();
            let fails = |seed| run(suite, seed, Some(*bug), &Schedule::default(), Lines::Dropped).wrong;
            let first = (0..SEEDS_FOR_A_BUG).find_map(|seed| fails(seed).map(|what| (seed, what)));
            found.lock().insert(format!("{bug:?}"), (first, begun.elapsed()));
        }
    });
    let docs = include_str!("../../docs/simulation.md");
    let (mut missed, mut untold) = (Vec::new(), Vec::new());
    for (bug, (first, took)) in found.into_inner() {
        match first {
            Some((seed, what)) => eprintln!("{bug}: seed {seed}, {} ms: {}", took.as_millis(), first_line(&what)),
            None => missed.push(bug.clone()),
        }
        if !docs.contains(&format!("`{bug}`")) {
            untold.push(bug);
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS_FOR_A_BUG} histories: {missed:?}");
    assert!(untold.is_empty(), "not in docs/simulation.md: {untold:?}");
}

/// The first history that finds a planted bug shrinks to one with fewer faults and steps that fails too, again and
/// again.
pub fn a_failing_history_shrinks<B: Copy + Debug>(suite: &Suite<B>, bug: Plant<B>) {
    if is_replaying() {
        return;
    }
    quietly(|| {
        let run = |seed, schedule: &Schedule| run(suite, seed, Some(bug), schedule, Lines::Kept);
        let whole = |seed| Some(run(seed, &Schedule::default())).filter(|ran| ran.wrong.is_some() && ran.faults > 3);
        let (seed, ran) =
            (0..SEEDS_FOR_A_BUG).find_map(|seed| whole(seed).map(|ran| (seed, ran))).expect("it is found");
        let first = failed(&ran).expect("so it was chosen");
        let least = shrunk(suite, seed, Some(bug), Schedule::default(), first, |runs| runs < 400);
        assert!(least.present().len() < ran.faults, "{} of {} faults", least.present().len(), ran.faults);
        let again = run(seed, &least.schedule);
        assert_eq!((again.wrong.as_ref(), again.steps), (Some(&least.failed.what), least.failed.steps));
        assert_eq!(again, run(seed, &least.schedule), "one schedule is one history");
    });
}

/// Runs one history. A panic in it is a failure like any other.
fn run<B: Copy>(suite: &Suite<B>, seed: u64, bug: Option<Plant<B>>, schedule: &Schedule, lines: Lines) -> Ran {
    let (core, bug) = match bug {
        Some(Plant::Core(bug)) => (Some(bug), None),
        Some(Plant::Played(bug)) => (None, Some(bug)),
        None => (None, None),
    };
    let _injected = failpoint::inject_defect(core);
    (suite.run)(&Task { seed, schedule, bug, lines })
}

/// Runs a history; a panic in it is a failure like any other.
pub fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(message_of(&*panic)))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

fn first_line(what: &str) -> &str {
    what.lines().next().unwrap_or_default()
}

/// Faults by kind, then everything else.
fn table(tallies: &Tallies) -> String {
    let (faults, others): (Vec<_>, Vec<_>) = tallies.iter().partition(|(what, _)| what.starts_with("fault: "));
    let line = |(what, times): (&&str, &usize)| format!("{times:>12}  {what}\n");
    faults.into_iter().chain(others).map(line).collect()
}

/// One history is being replayed: the other tests have nothing to say.
fn is_replaying() -> bool {
    number_from("MEMDB_SIM_SEED").is_some()
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[allow(clippy::disallowed_methods, reason = "how long it takes is told, and bounds the search; no history sees it")]
fn now() -> Instant {
    Instant::now()
}

thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });

/// Does it on all cores, quietly.
fn quietly_everywhere(run: impl Fn() + Sync) {
    thread::scope(|scope| (0..threads()).for_each(|_| drop(scope.spawn(|| quietly(&run)))));
}

/// Without a trace for each panic on this thread: a planted bug may well end in one.
fn quietly(run: impl FnOnce()) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    if let Err(panic) = result {
        panic!("{}", message_of(&*panic));
    }
}
