//! The secret the nodes of one cluster share: whoever has it may feed records to a replica and speak to a leader as
//! one.

use secrecy::{ExposeSecret, SecretString};
use std::str::FromStr;
use subtle::ConstantTimeEq;

/// Shortest secret in bytes: 16 random letters cannot be guessed over a network.
const LEAST_BYTES: usize = 16;
/// Longest secret in bytes: it must fit a header.
const MOST_BYTES: usize = 1_024;

/// A cluster's secret: 16 to 1,024 visible ASCII characters. Never shown, and overwritten when it is dropped;
/// [`Secret::expose`] says where it leaves.
#[derive(Clone, Debug)]
pub struct Secret(SecretString);

impl Secret {
    /// The secret itself, to be sent to another node.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns whether `given` is the secret. Takes as long for a nearly right one as for any other of that length.
    pub fn is(&self, given: &[u8]) -> bool {
        self.expose().as_bytes().ct_eq(given).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.expose().as_bytes())
    }
}

impl Eq for Secret {}

impl FromStr for Secret {
    type Err = String;

    /// Takes the content of a file: white space around the secret is no part of it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if !(LEAST_BYTES..=MOST_BYTES).contains(&text.len()) {
            return Err(format!("a secret has {LEAST_BYTES} to {MOST_BYTES} characters, not {}", text.len()));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a secret is one word of visible ASCII characters".to_owned());
        }
        Ok(Secret(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef";

    #[test]
    fn the_bounds_hold_and_white_space_around_it_is_no_part_of_it() {
        assert_eq!(format!(" {GOOD}\n").parse::<Secret>().expect("16 characters").expose(), GOOD);
        assert!("x".repeat(MOST_BYTES).parse::<Secret>().is_ok());
        for bad in [String::new(), GOOD[1..].to_owned(), "x".repeat(MOST_BYTES + 1)] {
            let error = bad.parse::<Secret>().expect_err("too short or too long");
            assert_eq!(error, format!("a secret has 16 to 1024 characters, not {}", bad.len()));
        }
        for bad in ["0123456789 abcdef", "0123456789\nabcdef", "0123456789abcdeé"] {
            assert!(bad.parse::<Secret>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_equals_only_itself() {
        let secret: Secret = GOOD.parse().expect("a secret");
        assert!(secret.is(GOOD.as_bytes()));
        for other in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!secret.is(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret: Secret = GOOD.parse().expect("a secret");
        let shown = format!("{secret:?} {:#?}", Some(&secret));
        assert!(shown.contains("REDACTED") && !shown.contains(GOOD), "{shown}");
    }
}
