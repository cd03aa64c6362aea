//! The run of a node that starts on a directory, and the incarnation that the directory has from then on.

use crate::storage::manifest::ManifestState;

/// A run of a node on its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRun {
    /// The node's name, which a directory without one takes. Empty where no node runs, as in a repair.
    pub name: String,
    /// The machine's boot.
    pub boot_id: String,
    /// Random bits, from which incarnations are drawn. `None` where no node runs: the next start draws one.
    pub random: Option<u64>,
}

impl NodeRun {
    /// Draws an incarnation: one that this run has not drawn before, and no other run has but by the rarest chance.
    pub fn draw(&mut self) -> u64 {
        let Some(random) = &mut self.random else { return 0 };
        loop {
            // SplitMix64 (Steele, Lea and Flood 2014): it gives each number once before it gives one again, so a run
            // needs random bits once, however often it draws.
            *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (*random ^ (*random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let drawn = mixed ^ (mixed >> 31);
            if drawn != 0 {
                return drawn;
            }
        }
    }
}

impl ManifestState {
    /// Notes a run that starts on the directory: its boot, its name where there is none, and another incarnation where
    /// this one does not stay.
    pub(super) fn begin_run(&mut self, run: &mut NodeRun, was_cut: bool) {
        if !self.keeps_incarnation(&run.boot_id, was_cut) {
            self.incarnation = run.draw();
        }
        self.incarnation_boot.clone_from(&run.boot_id);
        if self.node_name.is_empty() {
            self.node_name.clone_from(&run.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_draws_no_incarnation_twice_and_never_none() {
        let mut run = NodeRun { name: "a".into(), boot_id: "boot".into(), random: Some(0) };
        let drawn: std::collections::BTreeSet<u64> = (0..1_000).map(|_| run.draw()).collect();
        assert!(drawn.len() == 1_000 && !drawn.contains(&0));
        // The state before the one whose output is 0.
        run.random = Some(0_u64.wrapping_sub(0x9e37_79b9_7f4a_7c15));
        assert_ne!(run.draw(), 0);
        run.random = None;
        assert_eq!(run.draw(), 0);
    }
}
