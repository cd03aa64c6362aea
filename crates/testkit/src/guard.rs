//! Nodes with TLS and users, as a cluster beyond loopback has them, and what the tests' clients show such nodes.

use crate::tls::AUTHORITY;
use memdb::{
    api::auth::{
        password,
        users_file::{TokenEntry, UserEntry, UsersFile},
    },
    net::tls::files::IdentityFiles,
};
use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::PathBuf, sync::LazyLock};
use tempfile::TempDir;

/// The token that every client of the tests shows. A node without users does not look at it.
pub const TOKEN: &str = "memdb_token-of-the-tests";
/// The token of a user who may only read.
pub const READER_TOKEN: &str = "memdb_token-of-a-reader";
/// The secret that guarded nodes share.
const SECRET: &str = "the-secret-of-the-nodes-of-a-test";
const DAY: &str = "Tue, 01 Dec 2026 00:00:00 GMT";

/// The guard of a node against those who come to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeGuard {
    /// In plain text, whoever they are.
    Open,
    /// Over TLS and with a certificate of the tests' authority; as users with rights, or as nodes with the secret.
    TlsAndUsers,
}

impl NodeGuard {
    /// `MEMDB_TESTS_GUARDED=1` has TLS and users on all nodes of a run for which nothing else is said.
    pub fn from_environment() -> Self {
        if crate::number_from("MEMDB_TESTS_GUARDED") == Some(1) { Self::TlsAndUsers } else { Self::Open }
    }

    pub fn scheme(self) -> &'static str {
        match self {
            Self::Open => "http",
            Self::TlsAndUsers => "https",
        }
    }

    /// The settings of such a node, as its environment has them.
    pub(crate) fn environment(self) -> Vec<(&'static str, PathBuf)> {
        static FILES: LazyLock<GuardFiles> = LazyLock::new(GuardFiles::new);
        match self {
            Self::Open => Vec::new(),
            Self::TlsAndUsers => vec![
                ("MEMDB_TLS_CERT", FILES.identity.certificate.clone()),
                ("MEMDB_TLS_KEY", FILES.identity.key.clone()),
                ("MEMDB_TLS_CA", AUTHORITY.file()),
                ("MEMDB_TLS_CLIENT_CA", AUTHORITY.file()),
                ("MEMDB_USERS", FILES.users()),
                ("MEMDB_CLUSTER_SECRET_FILE", FILES.secret()),
            ],
        }
    }
}

/// The files of all guarded nodes of a test's process.
struct GuardFiles {
    identity: IdentityFiles,
    directory: TempDir,
}

impl GuardFiles {
    fn new() -> Self {
        let files = Self { identity: AUTHORITY.node("guarded"), directory: TempDir::new().expect("a directory") };
        let users =
            UsersFile { users: vec![user("tests", TOKEN, &["admin"]), user("reader", READER_TOKEN, &["read"])] };
        for (path, text) in [(files.users(), users.render()), (files.secret(), SECRET.to_owned())] {
            std::fs::write(&path, text).expect("room on the disk");
            std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("our own file");
        }
        files
    }

    fn users(&self) -> PathBuf {
        self.directory.path().join("users.json")
    }

    fn secret(&self) -> PathBuf {
        self.directory.path().join("secret")
    }
}

/// A user with these rights and one token, and without a password.
pub fn user(name: &str, token: &str, grants: &[&str]) -> UserEntry {
    let roles = grants.iter().map(|text| text.parse().expect("a grant")).collect();
    let sha256 = password::hex(&password::sha256(token.as_bytes()));
    let token = TokenEntry { name: "t".to_owned(), sha256, created: DAY.to_owned(), expires: None };
    UserEntry { name: name.to_owned(), password: None, roles, created: DAY.to_owned(), tokens: vec![token] }
}
