//! The names that the window knows keys and streams by.

use crate::base::limits;
use bincode::{
    Decode, Encode,
    de::Decoder,
    enc::Encoder,
    error::{DecodeError, EncodeError},
};
use std::fmt;

/// The name of a key or of a stream, in its namespace. Without a namespace it is one that format 1 wrote: that did not
/// note namespaces.
// One text, since a window holds a million of them; a namespace has no slash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DedupName(Box<str>);

impl DedupName {
    /// The name `name` in a namespace.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self([namespace, "/", name].concat().into())
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').expect("put between the two")
    }

    /// The namespace; empty for a name of format 1.
    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    /// The key, or the stream's name.
    pub fn name(&self) -> &str {
        self.parts().1
    }

    /// Returns whether it is `name` in `namespace`.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        let rest = self.0.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/'));
        rest == Some(name)
    }

    /// Returns whether format 1 wrote it: it stands for that name in every namespace.
    pub fn is_unscoped(&self) -> bool {
        self.0.starts_with('/')
    }

    /// Refuses a namespace that could not be told from the name behind it, or is too long.
    ///
    /// # Errors
    /// If it holds a slash, or more bytes than a namespace may have: a message for the report of damage.
    pub fn check_namespace(namespace: &str) -> Result<(), String> {
        if namespace.len() > limits::MAX_NAMESPACE_BYTES || namespace.contains('/') {
            return Err(format!("a namespace {namespace:?}"));
        }
        Ok(())
    }
}

/// Names without a namespace come first, so that a walk in this order meets one before a namespace takes it over.
impl Ord for DedupName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for DedupName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for DedupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.strip_prefix('/').unwrap_or(&self.0))
    }
}

impl fmt::Debug for DedupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Two texts in a file.
impl Encode for DedupName {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.parts().encode(encoder)
    }
}

impl<C> Decode<C> for DedupName {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (namespace, name) = <(String, String)>::decode(decoder)?;
        Self::check_namespace(&namespace).map_err(DecodeError::OtherString)?;
        Ok(Self::new(&namespace, &name))
    }
}

bincode::impl_borrow_decode!(DedupName);
