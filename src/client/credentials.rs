//! What a client shows a node that has users: a token, or a user and a password.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// The credentials of a client. Never shown, and overwritten when they are dropped.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    /// The value of `Authorization`.
    authorization: SecretString,
}

impl ClientCredentials {
    /// A token. White space around it, such as the end of a file, is no part of it.
    ///
    /// # Errors
    /// A sentence if it is empty, or more than one word.
    pub fn token(text: &str) -> Result<Self, String> {
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token is one word of visible ASCII characters".to_owned());
        }
        Ok(Self { authorization: format!("Bearer {token}").into() })
    }

    /// A user with a password, which ends with the first line of its text.
    ///
    /// # Errors
    /// A sentence if the name has a colon, or there is no password.
    pub fn password(user: &str, text: &str) -> Result<Self, String> {
        let password = first_line(text);
        if user.is_empty() || user.contains(':') {
            return Err("the name of a user is not empty, and has no colon".to_owned());
        }
        if password.is_empty() {
            return Err(format!("there is no password for the user {user}"));
        }
        let encoded = SecretString::from(STANDARD.encode(format!("{user}:{password}")));
        Ok(Self { authorization: format!("Basic {}", encoded.expose_secret()).into() })
    }

    /// The value of `Authorization`, which no log shows.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(self.authorization.expose_secret()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// The first line of a text, without its end.
pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_a_header_that_is_not_shown() {
        let token = ClientCredentials::token(" memdb_x\n").expect("a token");
        assert_eq!(token.header().expect("a header"), "Bearer memdb_x");
        let password = ClientCredentials::password("ann", "a: b\nsecond line").expect("a password");
        assert_eq!(password.header().expect("a header"), format!("Basic {}", STANDARD.encode("ann:a: b")));
        let shown = format!("{token:?} {password:?} {:?}", token.header());
        assert!(!shown.contains("memdb_x") && !shown.contains("YW5u"), "{shown}");
        assert!(ClientCredentials::token("").is_err() && ClientCredentials::token("a b").is_err());
        for (user, password) in [("", "x"), ("a:b", "x"), ("ann", ""), ("ann", "\nx")] {
            assert!(ClientCredentials::password(user, password).is_err(), "{user:?} {password:?}");
        }
    }
}
