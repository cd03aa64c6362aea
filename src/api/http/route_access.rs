//! The right that a route needs: its role, and how the namespace is found that the role must be for.

use super::form;
use crate::{
    api::{
        auth::{AccessRole, Principal},
        error::ErrorKind,
    },
    base::limits::DEFAULT_NAMESPACE,
    data::counters::COUNTERS,
};
use std::borrow::Cow;

/// The place where a request names its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamespaceSource {
    /// `ns=` behind the `?`, or the default one.
    Query,
    /// `{name}` in the path.
    Path,
    /// Always this one.
    Fixed(&'static str),
    /// It is about all namespaces: the role must be for all.
    All,
}

/// The right that a route needs where there are users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteAccess {
    /// None: everybody may ask.
    Open,
    /// None with `--metrics-open`, else to read everything.
    Metrics,
    /// A role for a namespace.
    Role(AccessRole, NamespaceSource),
    /// The same; what nodes ask each other at this path needs the role `replicate`.
    RoleOrNode(AccessRole, NamespaceSource),
}

/// The right that one request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NeededRight<'a> {
    pub(super) role: AccessRole,
    /// The namespace; none: all of them.
    pub(super) namespace: Option<Cow<'a, str>>,
}

impl RouteAccess {
    pub(super) const READ: Self = Self::Role(AccessRole::Read, NamespaceSource::Query);
    pub(super) const WRITE: Self = Self::Role(AccessRole::Write, NamespaceSource::Query);
    pub(super) const READ_ALL: Self = Self::Role(AccessRole::Read, NamespaceSource::All);
    pub(super) const READ_OR_NODE: Self = Self::RoleOrNode(AccessRole::Read, NamespaceSource::Query);
    pub(super) const WRITE_OR_NODE: Self = Self::RoleOrNode(AccessRole::Write, NamespaceSource::Query);
    pub(super) const READ_COUNTERS: Self = Self::Role(AccessRole::Read, NamespaceSource::Fixed(COUNTERS));
    pub(super) const WRITE_COUNTERS: Self = Self::Role(AccessRole::Write, NamespaceSource::Fixed(COUNTERS));
    /// What the origin gives is kept in a namespace of its own.
    pub(super) const READ_DATA: Self =
        Self::Role(AccessRole::Read, NamespaceSource::Fixed(super::entries::through::DATA_NAMESPACE));
    pub(super) const NODES: Self = Self::Role(AccessRole::Replicate, NamespaceSource::All);
    pub(super) const ADMIN: Self = Self::Role(AccessRole::Admin, NamespaceSource::All);
    pub(super) const ADMIN_OF_PATH: Self = Self::Role(AccessRole::Admin, NamespaceSource::Path);

    /// Finds the role that a request needs, and where its namespace is; none if everybody may ask.
    pub(super) fn needed(
        self,
        metrics_are_open: bool,
        is_of_node: impl FnOnce() -> bool,
    ) -> Option<(AccessRole, NamespaceSource)> {
        match self {
            Self::Open => None,
            Self::Metrics if metrics_are_open => None,
            Self::Metrics => Some((AccessRole::Read, NamespaceSource::All)),
            Self::Role(role, source) => Some((role, source)),
            Self::RoleOrNode(..) if is_of_node() => Some((AccessRole::Replicate, NamespaceSource::All)),
            Self::RoleOrNode(role, source) => Some((role, source)),
        }
    }
}

impl NamespaceSource {
    /// Finds the namespace of a request. One that cannot be read, or is there twice, is none: only who may everything
    /// comes to the route, which refuses it.
    pub(super) fn find<'a>(self, name: &'a str, query: &'a str) -> Option<Cow<'a, str>> {
        match self {
            Self::All => None,
            Self::Fixed(namespace) => Some(Cow::Borrowed(namespace)),
            Self::Path => form::decode(name.as_bytes(), ErrorKind::InvalidParameter).ok(),
            Self::Query => {
                let mut found = None;
                for (name, value) in form::pairs(query.as_bytes()) {
                    if form::decode(name, ErrorKind::InvalidParameter).ok()? == "ns"
                        && found.replace(form::decode(value, ErrorKind::InvalidParameter).ok()?).is_some()
                    {
                        return None;
                    }
                }
                Some(found.unwrap_or(Cow::Borrowed(DEFAULT_NAMESPACE)))
            }
        }
    }
}

/// Decides whether somebody may have a request answered: the one check of routes and fast path alike.
///
/// # Errors
/// The right that is wanting.
#[inline]
pub(super) fn check<'a>(
    principal: &Principal,
    (role, source): (AccessRole, NamespaceSource),
    name: &'a str,
    query: &'a str,
) -> Result<(), NeededRight<'a>> {
    // Most users may for every namespace: then none has to be found.
    if principal.permits(role, None) {
        return Ok(());
    }
    let namespace = source.find(name, query);
    match namespace.is_some() && principal.permits(role, namespace.as_deref()) {
        true => Ok(()),
        false => Err(NeededRight { role, namespace }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_found_as_the_route_reads_it() {
        let query = |text| NamespaceSource::Query.find("", text);
        for (text, namespace) in [
            ("", "words"),
            ("word=a&n=5", "words"),
            ("ns=a", "a"),
            ("word=x&n%73=%61&_=1", "a"),
            ("ns=a%00b", "a\0b"),
            ("ns", ""),
        ] {
            assert_eq!(query(text).as_deref(), Some(namespace), "{text}");
        }
        for text in ["ns=a&ns=a", "ns=a&n%73=b", "ns=%zz", "%zz=a", "ns=%ff"] {
            assert_eq!(query(text), None, "{text}");
        }
        assert_eq!(NamespaceSource::Path.find("a%2Db", "ns=c").as_deref(), Some("a-b"));
        assert_eq!(NamespaceSource::Fixed("data").find("a", "ns=c").as_deref(), Some("data"));
        assert_eq!(NamespaceSource::All.find("a", "ns=c"), None);
    }
}
