//! Makes a failing history small: leaves out faults and steps for as long as it still fails.

use super::schedule::Schedule;

/// What is known of a history that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What was found.
    pub what: String,
    /// Steps it came to.
    pub steps: usize,
    /// Faults it came to, with those that were left out.
    pub faults: usize,
}

/// A small schedule that fails, and how.
pub struct Shrunk {
    pub schedule: Schedule,
    pub failed: Failed,
    /// Histories that were run for it.
    pub runs: usize,
}

/// Shrinks a history that fails as `failed` says. `fails` runs one; `goes_on` is asked before each.
pub fn shrink(
    schedule: Schedule,
    failed: Failed,
    mut fails: impl FnMut(&Schedule) -> Option<Failed>,
    mut goes_on: impl FnMut(usize) -> bool,
) -> Shrunk {
    let mut least = Shrunk { schedule, failed, runs: 0 };
    least.cut_behind();
    loop {
        let before = least.schedule.clone();
        let mut attempt = |least: &mut Shrunk, schedule: Schedule| -> Option<bool> {
            if !goes_on(least.runs) {
                return None;
            }
            least.runs += 1;
            let failed = fails(&schedule);
            let smaller = failed.is_some();
            if let Some(failed) = failed {
                (least.schedule, least.failed) = (schedule, failed);
                least.cut_behind();
            }
            Some(smaller)
        };
        if least.leave_out_faults(&mut attempt).and_then(|()| least.leave_out_steps(&mut attempt)).is_none()
            || least.schedule == before
        {
            return least;
        }
    }
}

impl Shrunk {
    /// What would come behind the failing step means nothing.
    fn cut_behind(&mut self) {
        self.schedule.steps = Some(self.failed.steps.min(self.schedule.steps.unwrap_or(usize::MAX)));
        self.schedule.without.retain(|&number| number <= self.failed.faults);
    }

    /// Faults that have happened.
    pub fn present(&self) -> Vec<usize> {
        (1..=self.failed.faults).filter(|number| !self.schedule.without.contains(number)).collect()
    }

    /// Delta debugging (Zeller and Hildebrandt 2002): all of them, halves, quarters, down to each on its own.
    fn leave_out_faults(&mut self, attempt: &mut impl FnMut(&mut Self, Schedule) -> Option<bool>) -> Option<()> {
        let mut size = self.present().len();
        while size > 0 {
            let mut at = 0;
            loop {
                let present = self.present();
                let Some(chunk) = present.get(at..).filter(|rest| !rest.is_empty()) else { break };
                let mut schedule = self.schedule.clone();
                schedule.without.extend(chunk.iter().take(size));
                if !attempt(self, schedule)? {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2).min(self.present().len()) };
        }
        Some(())
    }

    /// Its end comes sooner.
    fn leave_out_steps(&mut self, attempt: &mut impl FnMut(&mut Self, Schedule) -> Option<bool>) -> Option<()> {
        let mut less = self.steps() / 2;
        while less > 0 {
            let schedule = Schedule { steps: Some(self.steps().saturating_sub(less)), ..self.schedule.clone() };
            if !attempt(self, schedule)? || self.steps() < less {
                less /= 2;
            }
        }
        Some(())
    }

    fn steps(&self) -> usize {
        self.schedule.steps.expect("it was cut")
    }
}

#[test]
fn a_shrunk_schedule_keeps_only_the_faults_it_needs() {
    // It fails at step 70, if faults 7 and 31 have happened; of those there is one every second step.
    let run = |schedule: &Schedule| {
        let steps = schedule.steps.unwrap_or(200);
        let needs = |number: usize| !schedule.without.contains(&number) && number <= steps.div_ceil(2);
        let fails = needs(7) && needs(31);
        fails.then(|| Failed { what: "wrong".into(), steps: steps.min(70), faults: steps.min(70).div_ceil(2) })
    };
    let failed = run(&Schedule::default()).unwrap();
    let least = shrink(Schedule::default(), failed.clone(), run, |runs| runs < 1_000);
    assert_eq!((least.present(), least.schedule.steps), (vec![7, 31], Some(61)));
    assert!(least.runs < 100, "{}", least.runs);
    let none = shrink(Schedule::default(), failed, run, |_| false);
    assert_eq!((none.present().len(), none.schedule.steps, none.runs), (35, Some(70), 0), "without a run");
}
