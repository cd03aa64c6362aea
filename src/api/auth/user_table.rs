//! The users as a node looks them up.

use super::{
    password,
    principal::{Credential, Principal},
    role::{AccessRole, RoleGrant},
    users_file::{self, UsersFile},
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Numbers tables: no two tables of a process have the same, whatever node they are of.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// A user with a password.
#[derive(Debug)]
struct KnownUser {
    hash: Option<Box<str>>,
    grants: Vec<RoleGrant>,
}

/// All users of a file. It never changes: another file makes another table.
#[derive(Debug)]
pub struct UserTable {
    generation: u64,
    users: HashMap<Box<str>, KnownUser>,
    /// By the hash of the token, which says nothing about tokens that are nearly right.
    tokens: HashMap<[u8; 32], Arc<Principal>>,
}

impl UserTable {
    /// The table of a file that was checked.
    pub fn new(file: &UsersFile) -> Self {
        password::prepare();
        let (mut users, mut tokens) = (HashMap::new(), HashMap::new());
        for user in &file.users {
            for token in &user.tokens {
                let Some(sha256) = password::of_hex(&token.sha256) else { continue };
                let expires_ms = token.expires.as_deref().and_then(|text| users_file::time_ms(text).ok());
                let credential = Credential::Token { name: token.name.as_str().into(), sha256 };
                tokens.insert(sha256, Arc::new(Principal::new(&user.name, credential, &user.roles, expires_ms)));
            }
            let known = KnownUser { hash: user.password.as_deref().map(Into::into), grants: user.roles.clone() };
            users.insert(user.name.as_str().into(), known);
        }
        Self { generation: GENERATIONS.fetch_add(1, Ordering::Relaxed), users, tokens }
    }

    /// The number of this table, which no other has.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Numbers of users and of tokens.
    pub fn len(&self) -> (usize, usize) {
        (self.users.len(), self.tokens.len())
    }

    /// Whose token this is, if it has not expired at a time since 1970.
    pub fn of_token(&self, token: &[u8], now_ms: u64) -> Option<Arc<Principal>> {
        let found = self.tokens.get(&password::sha256(token))?;
        (!found.is_expired(now_ms)).then(|| Arc::clone(found))
    }

    /// The hash of a user's password; none if there is no such user, or it has no password.
    pub fn hash_of(&self, name: &str) -> Option<&str> {
        self.users.get(name)?.hash.as_deref()
    }

    /// The user of this name, who has shown the password with this hash.
    pub fn of_password(&self, name: &str, hash: &str) -> Option<Principal> {
        let user = self.users.get(name).filter(|user| user.hash.as_deref() == Some(hash))?;
        Some(Principal::new(name, Credential::Password(hash.into()), &user.grants, None))
    }

    /// Returns whether somebody who was let in by an earlier table would be let in by this one, for the same.
    pub fn still_permits(&self, before: &Principal, role: AccessRole, namespace: Option<&str>, now_ms: u64) -> bool {
        match before.credential() {
            Credential::ClusterSecret => true,
            Credential::Token { sha256, .. } => {
                let found = self.tokens.get(sha256);
                found.is_some_and(|now| !now.is_expired(now_ms) && now.permits(role, namespace))
            }
            Credential::Password(hash) => {
                self.of_password(before.name(), hash).is_some_and(|now| now.permits(role, namespace))
            }
        }
    }
}
