//! Numbers that whoever runs a test sets in the environment.

/// The number of an environment variable, if it is set.
///
/// # Panics
///
/// If it is set to anything but a whole number.
pub fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no whole number")))
}
