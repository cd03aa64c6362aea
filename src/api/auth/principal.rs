//! The user, or the node, that a request is from, once that is proved.

use super::role::{AccessRole, RoleGrant};

/// The thing by which somebody has proved who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The password with this hash.
    Password(Box<str>),
    /// The token of this name, by its SHA-256.
    Token {
        /// The name of the token.
        name: Box<str>,
        /// The hash by which it is known.
        sha256: [u8; 32],
    },
    /// The secret that the nodes of the cluster share.
    ClusterSecret,
}

/// A user, or a node of the cluster, with the rights that the users file gives.
#[derive(Clone, Debug)]
pub struct Principal {
    name: Box<str>,
    credential: Credential,
    grants: Vec<RoleGrant>,
    expires_ms: Option<u64>,
}

impl Principal {
    /// A user with these rights. `expires_ms`: the time since 1970 at which the credential ends.
    pub(super) fn new(name: &str, credential: Credential, grants: &[RoleGrant], expires_ms: Option<u64>) -> Self {
        Self { name: name.into(), credential, grants: grants.to_vec(), expires_ms }
    }

    /// A node that has shown the cluster's secret: it may everything.
    pub(super) fn node() -> Self {
        let grants = [RoleGrant { role: AccessRole::Admin, namespaces: None }];
        Self::new("(a node)", Credential::ClusterSecret, &grants, None)
    }

    /// The name of the user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The thing that was shown.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The time since 1970 at which the credential ends, in milliseconds.
    pub fn expires_ms(&self) -> Option<u64> {
        self.expires_ms
    }

    /// Returns whether the credential has ended at a time since 1970.
    #[inline]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms)
    }

    /// Returns whether it has the role for a namespace; without one, for all there are.
    #[inline]
    pub fn permits(&self, role: AccessRole, namespace: Option<&str>) -> bool {
        self.grants.iter().any(|grant| grant.gives(role, namespace))
    }

    /// Gives the rights, for a person.
    pub fn rights(&self) -> String {
        self.grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}
