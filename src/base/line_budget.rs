//! A bound on the lines that something writes in a second. What has no line is counted, and told of by its number.

/// Time that lines are counted in, in milliseconds.
const SECOND_MS: u64 = 1_000;

/// The lines that may be written in the second that has begun.
///
/// Times are milliseconds of any one clock. A second begins with the first line behind the one before it. A clock that
/// is set back, as people's clocks are, begins a second too.
#[derive(Debug)]
pub struct LineBudget {
    per_second: u64,
    begun_ms: Option<u64>,
    left: u64,
    left_out: u64,
}

impl LineBudget {
    /// So many lines a second.
    pub const fn new(per_second: u64) -> Self {
        Self { per_second, begun_ms: None, left: 0, left_out: 0 }
    }

    /// Takes one line. Gives how many were left out since the last time that this was told, or `None` if there is no
    /// room: then this one is left out too.
    pub fn admit(&mut self, now_ms: u64) -> Option<u64> {
        self.renew(now_ms);
        (self.take(1) == 1).then(|| self.take_left_out())
    }

    /// Takes so many lines, or those that are left of this second, and gives how many. The others are left out.
    pub fn take(&mut self, lines: u64) -> u64 {
        let taken = lines.min(self.left);
        self.left -= taken;
        self.left_out += lines - taken;
        taken
    }

    /// Counts what is left out for another reason than the bound.
    pub const fn leave_out(&mut self, lines: u64) {
        self.left_out += lines;
    }

    /// Gives the number of those that were left out, which is told of now.
    #[must_use]
    pub const fn take_left_out(&mut self) -> u64 {
        std::mem::replace(&mut self.left_out, 0)
    }

    /// Returns whether another second has begun by now.
    pub fn renew(&mut self, now_ms: u64) -> bool {
        let is_over = self.begun_ms.is_none_or(|begun_ms| now_ms < begun_ms || now_ms - begun_ms >= SECOND_MS);
        if is_over {
            (self.begun_ms, self.left) = (Some(now_ms), self.per_second);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_one_as_many_again() {
        let mut budget = LineBudget::new(10);
        assert!(budget.renew(5));
        assert_eq!((budget.take(9), budget.take(7), budget.take(1)), (9, 1, 0));
        assert!(!budget.renew(1_004));
        assert!(budget.renew(1_005));
        assert_eq!(budget.take(7), 7);
        assert_eq!((budget.take_left_out(), budget.take_left_out()), (7, 0));
    }

    #[test]
    fn a_line_that_is_admitted_has_the_number_of_those_before_it_that_were_not() {
        let mut budget = LineBudget::new(2);
        let admitted: Vec<_> = (0..5).map(|_| budget.admit(7)).collect();
        assert_eq!(admitted, [Some(0), Some(0), None, None, None]);
        budget.leave_out(1);
        assert_eq!((budget.admit(1_007), budget.admit(1_007)), (Some(4), Some(0)));
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_nobody_without_lines() {
        let mut budget = LineBudget::new(1);
        assert_eq!((budget.admit(50_000), budget.admit(50_001)), (Some(0), None));
        assert_eq!(budget.admit(49_000), Some(1));
        assert_eq!(budget.admit(49_001), None);
    }
}
