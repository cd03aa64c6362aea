//! The content of a users file: JSON, written by `memdb user`, and by hand if need be.
//!
//! Nothing in it lets anybody in: passwords and tokens are there as hashes. What the file has that this release does
//! not know is an error, since it may well be a restriction that would not be one.

use super::{
    password,
    role::{RoleGrant, present},
};
use crate::base::{
    limits::{MAX_NAMESPACE_BYTES, MAX_TOKENS_PER_USER, MAX_USERS},
    names::check_namespace,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

/// Longest name of a user or of a token, in bytes.
const MOST_NAME_BYTES: usize = 64;

/// The users of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsersFile {
    /// The users, in the order in which they were added.
    pub users: Vec<UserEntry>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserEntry {
    /// The name, which is no secret.
    pub name: String,
    /// The argon2id hash of the password; without one the user has tokens alone.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The rights.
    pub roles: Vec<RoleGrant>,
    /// The day on which the user was added, as HTTP writes dates.
    pub created: String,
    /// The tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenEntry>,
}

/// A token of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// The name by which it is taken away again.
    pub name: String,
    /// The SHA-256 of the token, in hexadecimal digits.
    pub sha256: String,
    /// The day on which it was made.
    pub created: String,
    /// The time from which on it is refused.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl UsersFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// A sentence about the first fault. It holds nothing of the file but names.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Self = serde_json::from_str(text).map_err(|error| told(&error))?;
        file.check()?;
        Ok(file)
    }

    /// Writes the file.
    pub fn render(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("strings are JSON");
        format!("{text}\n")
    }

    /// The user of this name.
    pub fn find(&mut self, name: &str) -> Option<&mut UserEntry> {
        self.users.iter_mut().find(|user| user.name == name)
    }

    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// A sentence about the first fault.
    pub fn check(&self) -> Result<(), String> {
        if self.users.len() > MAX_USERS {
            return Err(format!("it has {} users; {MAX_USERS} are the most", self.users.len()));
        }
        let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
        for user in &self.users {
            check_name(&user.name)?;
            let of_user = |why: String| format!("user {}: {why}", user.name);
            if !names.insert(&user.name) {
                return Err(of_user("the name is there twice".to_owned()));
            }
            user.check().map_err(of_user)?;
            for token in &user.tokens {
                if !hashes.insert(&token.sha256) {
                    return Err(of_user(format!("token {}: another one has the same hash", token.name)));
                }
            }
        }
        Ok(())
    }
}

impl UserEntry {
    fn check(&self) -> Result<(), String> {
        if self.roles.is_empty() {
            return Err("it has no role".to_owned());
        }
        self.roles.iter().try_for_each(check_grant)?;
        self.password.as_deref().map_or(Ok(()), password::check_hash)?;
        time_ms(&self.created).map_err(|why| format!("created: {why}"))?;
        if self.tokens.len() > MAX_TOKENS_PER_USER {
            return Err(format!("it has {} tokens; {MAX_TOKENS_PER_USER} are the most", self.tokens.len()));
        }
        let mut names = HashSet::new();
        for token in &self.tokens {
            check_name(&token.name)?;
            let of_token = |why: String| format!("token {}: {why}", token.name);
            if !names.insert(&token.name) {
                return Err(of_token("the name is there twice".to_owned()));
            }
            password::of_hex(&token.sha256)
                .ok_or_else(|| of_token("sha256 is not 64 hexadecimal digits".to_owned()))?;
            time_ms(&token.created).map_err(|why| of_token(format!("created: {why}")))?;
            token.expires.as_deref().map_or(Ok(0), time_ms).map_err(|why| of_token(format!("expires: {why}")))?;
        }
        Ok(())
    }
}

/// A fault of the form. Values are left out: one of them may be what somebody took for the place of a password.
fn told(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let is_of_names =
        ["unknown field", "missing field", "duplicate field"].iter().any(|begin| message.starts_with(begin));
    match is_of_names {
        true => message,
        false => format!("line {} column {}: this is not the form of a users file", error.line(), error.column()),
    }
}

/// Refuses a name that no user or token can have.
///
/// # Errors
/// A sentence that says what a name is.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    match (1..=MOST_NAME_BYTES).contains(&name.len()) && name.bytes().all(plain) {
        true => Ok(()),
        false => Err(format!("a name is 1 to {MOST_NAME_BYTES} of a-z, A-Z, 0-9, '.', '_', '@' and '-'")),
    }
}

/// Refuses begins that no namespace can have, so that a slip of the pen does not look like a restriction.
///
/// # Errors
/// A sentence about the first of them.
pub fn check_grant(grant: &RoleGrant) -> Result<(), String> {
    let Some(begins) = &grant.namespaces else { return Ok(()) };
    // A name has no other letters than its begins, and is no shorter.
    match !begins.is_empty() && begins.iter().all(|begin| check_namespace(begin).is_ok()) {
        true => Ok(()),
        false => Err(format!(
            "role {}: namespaces are begins of names, 1 to {MAX_NAMESPACE_BYTES} of a-z, 0-9, dot, underscore and dash; \
             leave the list out for all namespaces",
            grant.role
        )),
    }
}

/// Reads a time, as HTTP writes it, in milliseconds since 1970.
///
/// # Errors
/// A sentence that shows the form.
pub fn time_ms(text: &str) -> Result<u64, String> {
    let parsed = httpdate::parse_http_date(text).ok();
    let since = parsed.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .ok_or_else(|| "give a time such as Tue, 01 Dec 2026 00:00:00 GMT".to_owned())
}

/// Writes a time in milliseconds since 1970.
pub fn time_text(ms: u64) -> String {
    // HTTP's dates end with the year 9999.
    let ms = ms.min(253_402_300_799_000);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: &str = "Tue, 01 Dec 2026 00:00:00 GMT";

    fn file(users: &str) -> Result<UsersFile, String> {
        UsersFile::parse(&format!("{{\"users\":[{users}]}}"))
    }

    fn user(more: &str) -> String {
        format!("{{\"name\":\"ann\",\"created\":\"{DAY}\",\"roles\":[{{\"role\":\"read\"}}]{more}}}")
    }

    fn token(name: &str, digit: &str) -> String {
        format!("{{\"name\":\"{name}\",\"sha256\":\"{}\",\"created\":\"{DAY}\"}}", digit.repeat(64))
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let hash = password::hash(b"x").expect("a hash");
        let tokens =
            format!("{},{}", token("a", "0"), token("b", "1").replace('}', &format!(",\"expires\":\"{DAY}\"}}")));
        let read = file(&user(&format!(",\"password\":\"{hash}\",\"tokens\":[{tokens}]"))).expect("it is sound");
        assert_eq!(UsersFile::parse(&read.render()), Ok(read));
        assert_eq!(time_text(time_ms(DAY).expect("a time")), DAY);
        assert_eq!(UsersFile::parse("{\"users\":[]}"), Ok(UsersFile::default()));
    }

    #[test]
    fn what_is_odd_is_refused_and_no_value_is_told() {
        let read = |role: &str| user("").replace("{\"role\":\"read\"}", role);
        for (text, said) in [
            (user(",\"admin\":true"), "unknown field `admin`"),
            (user(",\"password\":\"hunter2hunter2\""), "no hash"),
            (user(",\"password\":[\"hunter2hunter2\"]"), "line 1"),
            (user(",\"tokens\":\"hunter2hunter2\""), "line 1"),
            (format!("{},{}", user(""), user("")), "user ann: the name is there twice"),
            (user("").replace("ann", "a:b"), "a name is"),
            (user("").replace("ann", ""), "a name is"),
            (user("").replace(DAY, "yesterday"), "created: give a time"),
            (read(""), "it has no role"),
            (read("{\"role\":\"root\"}"), "line 1"),
            (read("{\"role\":\"read\",\"namespace\":[\"a\"]}"), "unknown field `namespace`"),
            (read("{\"role\":\"read\",\"namespaces\":[]}"), "role read: namespaces"),
            (read("{\"role\":\"read\",\"namespaces\":[\"\"]}"), "role read: namespaces"),
            (read("{\"role\":\"read\",\"namespaces\":[\"A\"]}"), "role read: namespaces"),
            (read("{\"role\":\"read\",\"namespaces\":[\"a*\"]}"), "role read: namespaces"),
            (read("{\"role\":\"read\",\"namespaces\":[\"a\\u0000\"]}"), "role read: namespaces"),
            (read("{\"role\":\"read\",\"role\":\"write\"}"), "duplicate field"),
            // What is there and empty is no restriction that was left out.
            (read("{\"role\":\"read\",\"namespaces\":null}"), "line 1"),
            (user(",\"password\":null"), "line 1"),
            (user(&format!(",\"tokens\":[{}]", token("a", "0").replace('}', ",\"expires\":null}"))), "line 1"),
            (
                user(&format!(",\"tokens\":[{},{}]", token("a", "0"), token("a", "1"))),
                "token a: the name is there twice",
            ),
            (user(&format!(",\"tokens\":[{},{}]", token("a", "0"), token("b", "0"))), "another one has the same hash"),
            (user(&format!(",\"tokens\":[{}]", token("a", "Z"))), "64 hexadecimal digits"),
        ] {
            let why = file(&text).expect_err(&text);
            assert!(why.contains(said) && !why.contains("hunter2"), "{text}: {why}");
        }
        let whole = file(&user("")).expect("it is sound").render();
        for cut in 0..whole.len() - 2 {
            assert!(UsersFile::parse(&whole[..cut]).is_err(), "{cut} of {} bytes", whole.len());
        }
    }
}
