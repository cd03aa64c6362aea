//! A simple mutator: the same seed gives the same inputs.

use testkit::Random;

/// Numbers that lengths and counts break at.
const EDGES: [u64; 12] = [0, 1, 63, 64, 250, 251, 252, 255, 1 << 16, (1 << 31) - 1, 1 << 32, u64::MAX];
const MOST_BYTES: usize = 4_096;

pub struct Mutator {
    random: Random,
    files: Vec<Vec<u8>>,
}

impl Mutator {
    pub fn new(seed: u64, files: Vec<Vec<u8>>) -> Self {
        Self { random: Random::new(seed), files }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound.max(1))
    }

    /// A file of the corpus with one to eight changes, mostly few.
    pub fn next(&mut self) -> Vec<u8> {
        let at = self.below(self.files.len());
        let mut bytes = self.files[at].clone();
        for _ in 0..1 + self.below(8).min(self.below(8)).min(self.below(8)) {
            self.change(&mut bytes);
        }
        bytes.truncate(MOST_BYTES);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(17)).min(bytes.len());
        match self.below(8) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let piece = bytes[at..end].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            2 => {
                let edge = EDGES[self.below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][self.below(4)];
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, edge[..width].iter().copied());
            }
            3 => {
                let other = self.below(self.files.len());
                let from = self.below(self.files[other].len());
                let len = self.below(64);
                let piece: Vec<u8> = self.files[other][from..].iter().take(len).copied().collect();
                bytes.splice(at..end, piece);
            }
            4 => bytes.truncate(at),
            5 => {
                let piece = vec![self.random.next_u64() as u8; self.below(17)];
                bytes.splice(at..at, piece);
            }
            _ => {
                let bit = 1 << self.below(8);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bit;
                }
            }
        }
    }
}
