//! The rules for who may ask a node for something: the users in force, the cluster's secret, and what is remembered of
//! them.

use super::{
    audit_log::{AuditEvent, AuditLog},
    file_store,
    hasher_queue::{self, HasherQueue},
    password,
    principal::Principal,
    role::AccessRole,
    user_table::UserTable,
};
use crate::{
    base::limits::MAX_VERIFIED_PASSWORDS, base::reload::ReloadablePart, base::secret::Secret,
    storage::file_stamp::FileStamp,
};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// Settings of who may ask a node for something.
#[derive(Clone, Debug, Default)]
pub struct AccessSettings {
    /// The users file; without one everybody may everything that nodes alone may not.
    pub users: Option<PathBuf>,
    /// The secret of the cluster.
    pub secret: Option<Secret>,
    /// True if `/metrics` is for everybody.
    pub metrics_open: bool,
    /// The audit log.
    pub audit_log: Option<PathBuf>,
}

/// The end of the wait for the hash of a password: too many others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HasherTimeout;

/// A password that was found right: for a table, and in memory alone.
#[derive(Debug)]
struct VerifiedPassword {
    generation: u64,
    principal: Arc<Principal>,
    /// The number of the look-up that saw it last.
    used: u64,
}

#[derive(Debug, Default)]
struct VerifiedPasswords {
    known: HashMap<[u8; 32], VerifiedPassword>,
    looks: u64,
}

/// The users of a node that has some.
#[derive(Debug)]
struct UserSource {
    path: PathBuf,
    /// Said of the file when it was first read.
    warning: Option<String>,
    stamp: Mutex<Option<FileStamp>>,
    table: ArcSwap<UserTable>,
    /// Tells that another table is in force.
    changes: watch::Sender<u64>,
    verified: Mutex<VerifiedPasswords>,
    /// Mixed into the keys of `verified`, so that nobody can tell where in it a password would be.
    salt: [u8; 32],
    /// Bounds the memory and the processors that passwords take.
    hashers: Arc<HasherQueue>,
}

/// The rules for who may ask a node for something.
#[derive(Debug)]
pub struct AccessControl {
    users: Option<UserSource>,
    secret: Option<Secret>,
    node: Arc<Principal>,
    metrics_open: bool,
    /// The audit log.
    pub audit: AuditLog,
}

impl Default for AccessControl {
    /// Without users: everybody may.
    fn default() -> Self {
        let node = Arc::new(Principal::node());
        Self { users: None, secret: None, node, metrics_open: false, audit: AuditLog::default() }
    }
}

impl AccessControl {
    /// Reads the users, and opens the audit log. `salt`: random bytes.
    ///
    /// # Errors
    /// A sentence if one of the files cannot be used.
    pub fn open(settings: &AccessSettings, salt: [u8; 32]) -> Result<Self, String> {
        let audit = AuditLog::open(settings.audit_log.as_deref()).map_err(|error| {
            let path = settings.audit_log.as_deref().unwrap_or(std::path::Path::new(""));
            format!("the audit log {} cannot be opened: {error}", path.display())
        })?;
        let users = settings.users.clone().map(|path| UserSource::open(path, salt)).transpose()?;
        let (secret, metrics_open) = (settings.secret.clone(), settings.metrics_open);
        Ok(Self { users, secret, metrics_open, audit, ..Self::default() })
    }

    /// Returns whether there are users, so that requests have to say whose they are.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.users.is_some()
    }

    /// A sentence for the log about the users file as it was first read.
    pub fn warning(&self) -> Option<&str> {
        self.users.as_ref()?.warning.as_deref()
    }

    /// Returns whether it matters who a client is, of whatever route.
    pub fn looks_at_clients(&self) -> bool {
        self.is_on() || self.audit.is_on()
    }

    /// Returns whether `/metrics` is for everybody.
    pub fn metrics_are_open(&self) -> bool {
        self.metrics_open || !self.is_on()
    }

    /// The number of the table in force; 0 without users.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.users.as_ref().map_or(0, |users| users.table.load().generation())
    }

    /// Whose token this is: of a user, or of the cluster's nodes.
    pub fn of_token(&self, token: &[u8], now_ms: u64) -> Option<Arc<Principal>> {
        let users = self.users.as_ref()?;
        match self.secret.as_ref().is_some_and(|secret| secret.is(token)) {
            true => Some(Arc::clone(&self.node)),
            false => users.table.load().of_token(token, now_ms),
        }
    }

    /// Whose password this is, if it was found right before and no file has been read since.
    pub fn of_known_password(&self, name: &str, password: &[u8]) -> Option<Arc<Principal>> {
        let users = self.users.as_ref()?;
        let (key, generation) = (users.key(name, password), users.table.load().generation());
        let mut verified = users.verified.lock();
        verified.looks += 1;
        let looks = verified.looks;
        let known = verified.known.get_mut(&key).filter(|known| known.generation == generation)?;
        known.used = looks;
        Some(Arc::clone(&known.principal))
    }

    /// Whose password this is. It takes as long for an unknown user as for a known one. `has_failed`: the address that
    /// it came from has shown a wrong one of late.
    ///
    /// # Errors
    /// If the password had no turn to be hashed in time.
    pub async fn of_password(
        &self,
        name: &str,
        password: &[u8],
        (address, has_failed): (IpAddr, bool),
    ) -> Result<Option<Arc<Principal>>, HasherTimeout> {
        let Some(users) = &self.users else { return Ok(None) };
        if let Some(known) = self.of_known_password(name, password) {
            return Ok(Some(known));
        }
        let turn = users.hashers.turn(address, has_failed).await.ok_or(HasherTimeout)?;
        // A browser sends some requests at once: the first of them may have been found right meanwhile.
        if let Some(known) = self.of_known_password(name, password) {
            return Ok(Some(known));
        }
        let hash: Option<String> = users.table.load().hash_of(name).map(str::to_owned);
        let given = secrecy::SecretSlice::from(password.to_vec());
        let checked = hasher_queue::on_own_thread(move || {
            let is_right = password::is_right(secrecy::ExposeSecret::expose_secret(&given), hash.as_deref());
            if !is_right {
                turn.note_failure();
            }
            // Held until it is done: whoever has gone away makes no room before.
            drop(turn);
            hash.filter(|_| is_right)
        });
        let Some(hash) = checked.await.flatten() else { return Ok(None) };
        // The file may have changed meanwhile.
        let table = users.table.load_full();
        let Some(principal) = table.of_password(name, &hash).map(Arc::new) else { return Ok(None) };
        users.remember(users.key(name, password), table.generation(), Arc::clone(&principal));
        Ok(Some(principal))
    }

    /// Ends once somebody who was let in would be let in no more, for the same; never without users. `now_ms` reads the
    /// time since 1970.
    pub async fn until_revoked(
        &self,
        principal: &Principal,
        role: AccessRole,
        namespace: Option<&str>,
        now_ms: impl Fn() -> u64,
    ) {
        let Some(users) = &self.users else { return std::future::pending().await };
        let mut changes = users.changes.subscribe();
        loop {
            if !users.table.load().still_permits(principal, role, namespace, now_ms()) {
                return;
            }
            let rest =
                principal.expires_ms().map(|expires_ms| Duration::from_millis(expires_ms.saturating_sub(now_ms())));
            let expires = async {
                match rest {
                    Some(rest) => tokio::time::sleep(rest.max(Duration::from_millis(10))).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = expires => {}
            }
        }
    }
}

impl UserSource {
    fn open(path: PathBuf, salt: [u8; 32]) -> Result<Self, String> {
        let stamp = FileStamp::of(&path);
        let read = file_store::read(&path)?;
        let table = UserTable::new(&read.users);
        Ok(Self {
            path,
            warning: read.warning,
            stamp: Mutex::new(stamp),
            changes: watch::Sender::new(table.generation()),
            table: ArcSwap::from_pointee(table),
            verified: Mutex::default(),
            salt,
            hashers: Arc::new(HasherQueue::new()),
        })
    }

    fn key(&self, name: &str, password: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.salt);
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update(password);
        hasher.finalize().into()
    }

    fn remember(&self, key: [u8; 32], generation: u64, principal: Arc<Principal>) {
        let mut verified = self.verified.lock();
        verified.looks += 1;
        let used = verified.looks;
        if verified.known.len() >= MAX_VERIFIED_PASSWORDS {
            verified.known.retain(|_, known| known.generation == generation);
        }
        if verified.known.len() >= MAX_VERIFIED_PASSWORDS
            && let Some(oldest) = verified.known.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| *key)
        {
            verified.known.remove(&oldest);
        }
        verified.known.insert(key, VerifiedPassword { generation, principal, used });
    }

    fn reload(&self) -> Result<Vec<String>, String> {
        // Before the read: what is written behind it is a change again.
        *self.stamp.lock() = FileStamp::of(&self.path);
        let read = file_store::read(&self.path)?;
        let table = UserTable::new(&read.users);
        let (users, tokens) = table.len();
        let generation = table.generation();
        self.table.store(Arc::new(table));
        self.verified.lock().known.clear();
        self.changes.send_replace(generation);
        Ok(std::iter::once(format!("{users} users with {tokens} tokens")).chain(read.warning).collect())
    }
}

impl ReloadablePart for AccessControl {
    fn name(&self) -> &'static str {
        "users"
    }

    fn has_changed(&self) -> bool {
        self.users.as_ref().is_some_and(|users| FileStamp::of(&users.path) != *users.stamp.lock())
    }

    fn reload(&self) -> Result<Vec<String>, String> {
        let Some(users) = &self.users else { return Ok(Vec::new()) };
        let outcome = users.reload();
        #[allow(clippy::disallowed_methods, reason = "a line of a log says when it was written")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.audit.note(&AuditEvent {
            unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            address: None,
            user: None,
            token: None,
            route: "(users read anew)",
            namespace: None,
            decision: if outcome.is_ok() { "taken over" } else { "left as they were" },
        });
        outcome
    }
}
