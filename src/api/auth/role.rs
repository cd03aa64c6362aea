//! The roles of users, each for all namespaces or for those whose names begin in some way.

use serde::{Deserialize, Deserializer, Serialize};
use std::{fmt, str::FromStr};

/// The rights that a user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessRole {
    /// To read counts, entries, posts and counters.
    Read,
    /// To change them. Who may write need not be allowed to read.
    Write,
    /// To ask what nodes ask each other: records, snapshots, announcements.
    Replicate,
    /// To take namespaces away and to promote; and everything else.
    Admin,
}

impl AccessRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Replicate, Self::Admin];

    /// The name in the file and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Replicate => "replicate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for AccessRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AccessRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| format!("{text:?} is no role: give read, write, replicate or admin"))
    }
}

/// A role, and the namespaces that it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleGrant {
    /// The role.
    pub role: AccessRole,
    /// Begins of the names of namespaces; none stands for every namespace.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
}

/// Reads what may be left out, and not be `null`: a program that has nothing to put there has not meant "no
/// restriction".
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl RoleGrant {
    /// Returns whether it is for this namespace; without one, whether it is for all there are.
    fn covers(&self, namespace: Option<&str>) -> bool {
        match (&self.namespaces, namespace) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(begins), Some(name)) => begins.iter().any(|begin| name.starts_with(begin.as_str())),
        }
    }

    /// Returns whether it gives `role` for this namespace, or for all of them without one.
    pub fn gives(&self, role: AccessRole, namespace: Option<&str>) -> bool {
        (self.role == role || self.role == AccessRole::Admin) && self.covers(namespace)
    }
}

/// Reads `read`, or `write:titles-,notes`: a role, and begins of names behind a colon.
impl FromStr for RoleGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((role, begins)) = text.split_once(':') else {
            return Ok(Self { role: text.parse()?, namespaces: None });
        };
        let begins = begins.split(',').map(str::to_owned).collect();
        Ok(Self { role: role.parse()?, namespaces: Some(begins) })
    }
}

impl fmt::Display for RoleGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespaces {
            None => write!(f, "{}", self.role),
            Some(begins) => write!(f, "{}:{}", self.role, begins.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_for_namespaces_that_begin_so_and_for_nothing_of_all_of_them() {
        let grant: RoleGrant = "write:titles,team-".parse().expect("a grant");
        for (namespace, covered) in
            [("titles", true), ("titles2", true), ("team-a", true), ("team", false), ("Team-a", false), ("", false)]
        {
            assert_eq!(grant.gives(AccessRole::Write, Some(namespace)), covered, "{namespace}");
        }
        assert!(!grant.gives(AccessRole::Write, None) && !grant.gives(AccessRole::Read, Some("titles")));
        assert_eq!(grant.to_string(), "write:titles,team-");
    }

    #[test]
    fn an_admin_has_every_role_and_the_others_have_one() {
        for given in AccessRole::ALL {
            let grant = RoleGrant { role: given, namespaces: None };
            for wanted in AccessRole::ALL {
                let has = given == wanted || given == AccessRole::Admin;
                assert_eq!(grant.gives(wanted, None), has, "{given} {wanted}");
                assert_eq!(grant.gives(wanted, Some("a")), has, "{given} {wanted}");
            }
        }
        assert!("reader".parse::<RoleGrant>().is_err() && "".parse::<RoleGrant>().is_err());
    }
}
