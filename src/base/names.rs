//! The names that clients give to namespaces, keys and media types: those that are taken. A server and whoever looks
//! through a file for it check them alike.

use super::limits::{MAX_CONTENT_TYPE_BYTES, MAX_ENTRY_KEY_BYTES, MAX_NAMESPACE_BYTES};

/// Refuses a name that no namespace can have.
///
/// # Errors
/// The rule, for a person.
pub fn check_namespace(name: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if (1..=MAX_NAMESPACE_BYTES).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err("a namespace is 1 to 64 characters of a-z, 0-9, dot, underscore and dash")
}

/// Refuses the names that no path can hold: clients take `.` and `..` out of `/ns/..`, so nobody could delete such a
/// namespace.
///
/// # Errors
/// The reason, for a person.
pub fn check_can_be_named(namespace: &str) -> Result<(), String> {
    if is_dots(namespace) {
        return Err(format!("`{namespace}` cannot be a namespace, since no path can name it"));
    }
    Ok(())
}

/// Returns whether a name stands for another place in a path (`.` or `..`).
pub fn is_dots(name: &str) -> bool {
    matches!(name, "." | "..")
}

/// Refuses what is no key of an entry.
///
/// # Errors
/// The reason, for a person.
pub fn check_key(key: &str) -> Result<(), String> {
    match key.len() {
        // Clients and proxies take these out of a path however they are written: nobody could delete such an entry.
        _ if is_dots(key) => Err(format!("`{key}` is no key, since no path can name it")),
        1..=MAX_ENTRY_KEY_BYTES => Ok(()),
        bytes => Err(format!("a key has 1 to {MAX_ENTRY_KEY_BYTES} bytes, and this one has {bytes}")),
    }
}

/// Refuses a media type that no answer could have.
///
/// # Errors
/// The rule, for a person.
pub fn check_media_type(given: &str) -> Result<(), String> {
    let is_visible = given.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if is_visible && given.len() <= MAX_CONTENT_TYPE_BYTES {
        return Ok(());
    }
    Err(format!("a media type has up to {MAX_CONTENT_TYPE_BYTES} visible ASCII characters"))
}
