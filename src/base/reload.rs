//! Parts of a running node that are read from files, and can be read anew.

use parking_lot::Mutex;
use std::sync::Arc;

/// A part of a running node that was read from files, and can be read anew while it is in use.
pub trait ReloadablePart: Send + Sync {
    /// Gives the name of the part, for the log: `users`, `certificate`.
    fn name(&self) -> &'static str;

    /// Returns whether its files are others than those that were read last, by their metadata alone. A part that is
    /// only read anew when somebody asks for it says no.
    fn has_changed(&self) -> bool;

    /// Reads it anew, and gives a line for each thing that is said of it.
    ///
    /// # Errors
    /// A sentence about what cannot be used. What was read before stays in force.
    fn reload(&self) -> Result<Vec<String>, String>;
}

/// The outcome of one reload.
#[derive(Debug, PartialEq, Eq)]
pub struct ReloadReport {
    /// The name of the part.
    pub name: &'static str,
    /// Lines for the log, or the reason why the part stays as it was.
    pub outcome: Result<Vec<String>, String>,
}

/// The parts of a node that can be read anew.
#[derive(Clone, Default)]
pub struct ReloadList(Arc<Mutex<Vec<Arc<dyn ReloadablePart>>>>);

impl ReloadList {
    /// Adds a part.
    pub fn add(&self, part: Arc<dyn ReloadablePart>) {
        self.0.lock().push(part);
    }

    /// Reads all parts anew, in the order in which they were added.
    pub fn reload_all(&self) -> Vec<ReloadReport> {
        self.reload(|_| true)
    }

    /// Reads the parts anew whose files have changed.
    pub fn reload_changed(&self) -> Vec<ReloadReport> {
        self.reload(|part| part.has_changed())
    }

    fn reload(&self, is_due: impl Fn(&dyn ReloadablePart) -> bool) -> Vec<ReloadReport> {
        let parts = self.0.lock().clone();
        let due = parts.into_iter().filter(|part| is_due(&**part));
        due.map(|part| ReloadReport { name: part.name(), outcome: part.reload() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct FakePart(&'static str, AtomicBool, Result<Vec<String>, String>);

    impl ReloadablePart for FakePart {
        fn name(&self) -> &'static str {
            self.0
        }

        fn has_changed(&self) -> bool {
            self.1.swap(false, Ordering::Relaxed)
        }

        fn reload(&self) -> Result<Vec<String>, String> {
            self.2.clone()
        }
    }

    #[test]
    fn all_parts_or_those_that_have_changed_are_read_anew_and_one_that_fails_stops_no_other() {
        let list = ReloadList::default();
        list.add(Arc::new(FakePart("broken", AtomicBool::new(true), Err("it is cut off".to_owned()))));
        list.add(Arc::new(FakePart("users", AtomicBool::new(false), Ok(vec!["2 users".to_owned()]))));
        let names = |reports: Vec<ReloadReport>| reports.iter().map(|report| report.name).collect::<Vec<_>>();
        assert_eq!(names(list.reload_changed()), ["broken"]);
        assert_eq!(names(list.reload_changed()), [""; 0]);
        let reports = list.reload_all();
        assert_eq!(reports[0].outcome, Err("it is cut off".to_owned()));
        assert_eq!(reports[1].outcome, Ok(vec!["2 users".to_owned()]));
    }
}
