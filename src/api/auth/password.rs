//! Hashes of passwords (argon2id) and of tokens (SHA-256).
//!
//! A password may be guessed, so its hash takes time and memory on purpose. A token is 32 random bytes, which nobody
//! guesses: a fast hash keeps it from whoever reads the file.

use argon2::{
    Algorithm, Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

/// Bytes of randomness in a token.
pub const TOKEN_RANDOM_BYTES: usize = 32;
/// The begin of every token, by which people and scanners know one that lies about.
pub const TOKEN_BEGIN: &str = "memdb_";
/// Most memory that a hash in the file may ask for, in KiB: it is taken for each try.
const MOST_MEMORY_KIB: u32 = 256 << 10;
/// Most passes over that memory.
const MOST_PASSES: u32 = 32;

/// A hash that no password has, so that an unknown user takes as long as a known one.
static OF_NOBODY: LazyLock<String> = LazyLock::new(|| hash_with_salt(b"", b"nobody has this user").unwrap_or_default());

/// Makes the hash of the users file.
///
/// # Errors
/// A sentence if the system gives no random salt, or the password is too long for the algorithm.
pub fn hash(password: &[u8]) -> Result<String, String> {
    let hashed = Argon2::default().hash_password(password);
    hashed.map(|hash| hash.to_string()).map_err(|error| format!("the password cannot be hashed: {error}"))
}

fn hash_with_salt(password: &[u8], salt: &[u8]) -> Result<String, String> {
    let hashed = Argon2::default().hash_password_with_salt(password, salt);
    hashed.map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

/// Returns whether a password has this hash. It takes its time, also without one.
pub fn is_right(password: &[u8], hash: Option<&str>) -> bool {
    let verified = Argon2::default().verify_password(password, hash.unwrap_or(&OF_NOBODY));
    verified.is_ok() && hash.is_some()
}

/// Makes what the first unknown user needs, so that this one takes no longer than the second.
pub(super) fn prepare() {
    LazyLock::force(&OF_NOBODY);
}

/// Refuses what is no hash that this release can check within its bounds.
///
/// # Errors
/// A sentence, without the hash.
pub fn check_hash(hash: &str) -> Result<(), String> {
    let parsed = PasswordHash::new(hash).map_err(|_| "its password is no hash in PHC form".to_owned())?;
    if Algorithm::try_from(parsed.algorithm.as_str()) != Ok(Algorithm::Argon2id) || parsed.hash.is_none() {
        return Err("its password is no argon2id hash".to_owned());
    }
    let bounded = |name: &str, most: u32| {
        let given = parsed.params.iter().find(|(ident, _)| ident.as_str() == name);
        given.is_some_and(|(_, value)| value.decimal().is_ok_and(|value| (1..=most).contains(&value)))
    };
    match bounded("m", MOST_MEMORY_KIB) && bounded("t", MOST_PASSES) {
        true => Ok(()),
        false => Err(format!("its hash wants more than {MOST_MEMORY_KIB} KiB or {MOST_PASSES} passes")),
    }
}

/// The token of these random bytes.
pub fn token_of(random: &[u8; TOKEN_RANDOM_BYTES]) -> String {
    format!("{TOKEN_BEGIN}{}", URL_SAFE_NO_PAD.encode(random))
}

/// The hash by which a token is known.
pub fn sha256(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The digits of a hash.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the digits of a hash.
pub fn of_hex(digits: &str) -> Option<[u8; 32]> {
    let is_hex =
        digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate().filter(|_| is_hex) {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    is_hex.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_one_password_and_says_nothing_of_it() {
        let hash = hash(b"correct horse").expect("a hash");
        assert!(hash.starts_with("$argon2id$") && !hash.contains("horse"));
        assert_eq!(check_hash(&hash), Ok(()));
        assert!(is_right(b"correct horse", Some(&hash)));
        assert!(!is_right(b"correct hors", Some(&hash)) && !is_right(b"", Some(&hash)) && !is_right(b"", None));
    }

    #[test]
    fn hashes_of_other_algorithms_and_of_boundless_memory_are_refused() {
        let hash = hash(b"x").expect("a hash");
        for bad in [
            "".to_owned(),
            "secret".to_owned(),
            hash.replace("argon2id", "argon2i"),
            hash.replace("m=19456", "m=999999999"),
            hash.replace("t=2", "t=1000"),
            hash.rsplit_once('$').expect("a PHC string").0.to_owned(),
        ] {
            let why = check_hash(&bad).expect_err(&bad);
            assert!(bad.is_empty() || !why.contains(&bad), "{why}");
        }
    }

    #[test]
    fn a_token_is_known_by_its_digits() {
        let token = token_of(&[7; TOKEN_RANDOM_BYTES]);
        assert!(token.starts_with("memdb_") && token.len() > 40);
        assert_eq!(of_hex(&hex(&sha256(token.as_bytes()))), Some(sha256(token.as_bytes())));
        for bad in ["", "00", &"0".repeat(63), &"G".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
            assert_eq!(of_hex(bad), None, "{bad}");
        }
    }
}
