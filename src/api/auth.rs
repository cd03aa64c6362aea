//! Users, their roles, and what they prove themselves by; no protocol is known here.
//!
//! A file lists the users (`auth/users_file.rs`); `memdb user` writes it, and a node reads it (`auth/file_store.rs`)
//! into a [`UserTable`], which is exchanged whole when the file changes. [`AccessControl`] asks the table who shows a
//! token or a password, and remembers passwords that were right, since each costs a hash that is slow on purpose
//! (`auth/password.rs`) and waits for its turn (`auth/hasher_queue.rs`). What a [`Principal`] may is told by its grants
//! (`auth/role.rs`), and by nothing else.

mod access_control;
mod audit_log;
pub mod file_store;
mod hasher_queue;
pub mod password;
mod principal;
mod role;
mod user_table;
pub mod users_file;

pub use access_control::{AccessControl, AccessSettings, HasherTimeout};
pub use audit_log::{AuditEvent, AuditLog};
pub use principal::{Credential, Principal};
pub use role::{AccessRole, RoleGrant};
pub use user_table::UserTable;
