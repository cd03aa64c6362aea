//! How histories are run: what they are told by the environment, and what becomes of a panic.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
};

/// Runs a history; a panic in it is a failure like any other.
pub fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(message_of(&*panic)))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

pub fn first_line(what: &str) -> &str {
    what.lines().next().unwrap_or_default()
}

pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });

/// Without a trace for each panic on this thread: a planted bug may well end in one.
pub fn quietly(run: impl FnOnce()) {
    let usual = take_hook();
    set_hook(Box::new(move |panic| {
        if !QUIET.get() {
            usual(panic);
        }
    }));
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    if let Err(panic) = result {
        panic!("{}", message_of(&*panic));
    }
}
