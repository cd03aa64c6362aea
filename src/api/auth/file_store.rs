//! The users file on disk: read whole, and replaced whole, so that no reader ever sees half of it.
#![allow(clippy::disallowed_methods, reason = "users lie beside the database, not in it")]

use super::users_file::UsersFile;
use crate::base::limits::MAX_USERS_FILE_BYTES;
use rustix::fs::{FlockOperation, flock};
use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The mode of what is written: hashes are for nobody else.
const MODE: u32 = 0o600;

/// A users file as it was read.
#[derive(Debug)]
pub struct ReadUsers {
    /// The content.
    pub users: UsersFile,
    /// A sentence for the log, if others may read the file or write to it.
    pub warning: Option<String>,
}

/// Reads a file.
///
/// # Errors
/// A sentence about what is wrong, which holds nothing of the file but names.
pub fn read(path: &Path) -> Result<ReadUsers, String> {
    let failed = |error: io::Error| format!("{} cannot be read: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    let mut text = String::new();
    file.take(MAX_USERS_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_USERS_FILE_BYTES {
        return Err(format!("{} has more than {MAX_USERS_FILE_BYTES} bytes", path.display()));
    }
    let users = UsersFile::parse(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    let warning = (mode & 0o077 != 0).then(|| {
        let mode = mode & 0o777;
        format!("{} has mode {mode:03o}: others may read or change it; chmod 600 keeps them out", path.display())
    });
    Ok(ReadUsers { users, warning })
}

/// A users file that one process changes.
#[derive(Debug)]
pub struct UsersFileEditor {
    path: PathBuf,
    /// The content, to be changed.
    pub users: UsersFile,
    _lock: File,
}

impl UsersFileEditor {
    /// Opens a file to change it; one that is not there is empty.
    ///
    /// # Errors
    /// A sentence if the file cannot be read, is a link to nothing, or another process changes it.
    pub fn open(path: &Path) -> Result<Self, String> {
        let path = resolved(path)?;
        let lock = lock(&beside(&path, ".lock"))?;
        let users = match path.try_exists() {
            Ok(false) => UsersFile::default(),
            _ => read(&path)?.users,
        };
        Ok(Self { path, users, _lock: lock })
    }

    /// Puts the changed content in the place of the file.
    ///
    /// # Errors
    /// A sentence if the content is not sound, or cannot be written: the file is as it was then.
    pub fn save(&self) -> Result<(), String> {
        self.users.check()?;
        self.replace().map_err(|error| format!("{} cannot be written: {error}", self.path.display()))
    }

    fn replace(&self) -> io::Result<()> {
        let new = beside(&self.path, ".new");
        // Left by a process that was killed: whoever has the lock may take it away.
        if let Err(error) = std::fs::remove_file(&new)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
        file.write_all(self.users.render().as_bytes())?;
        // The node that reads it may run as another user than whoever changes it.
        if let Ok(before) = std::fs::metadata(&self.path) {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
                std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
            }
        }
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// The file itself, where a link leads to it: the link is to lead to the new content, and all who change it lock the
/// same file.
fn resolved(path: &Path) -> Result<PathBuf, String> {
    match path.canonicalize() {
        Ok(real) => Ok(real),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("{} cannot be read: {error}", path.display()))
        }
        Err(_) if path.is_symlink() => Err(format!("{} is a link that leads to nothing", path.display())),
        Err(_) => Ok(path.to_owned()),
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn lock(path: &Path) -> Result<File, String> {
    let failed = |error: io::Error| format!("{} cannot be locked: {error}", path.display());
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(MODE).open(path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => {
            Err(format!("another process changes the users: it has locked {}", path.display()))
        }
        Err(error) => Err(failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{role::AccessRole, role::RoleGrant, users_file::UserEntry},
        *,
    };
    use std::{fs, os::unix::fs::PermissionsExt};

    fn ann() -> UserEntry {
        let roles = vec![RoleGrant { role: AccessRole::Read, namespaces: None }];
        let created = "Tue, 01 Dec 2026 00:00:00 GMT".to_owned();
        UserEntry { name: "ann".to_owned(), password: None, roles, created, tokens: vec![] }
    }

    #[test]
    fn a_file_is_replaced_whole_for_its_owner_alone_by_one_writer_at_a_time() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("users.json");
        let mut editor = UsersFileEditor::open(&path).expect("nobody else has it");
        assert!(UsersFileEditor::open(&path).expect_err("it is locked").contains("another process"));
        fs::write(folder.path().join("users.json.new"), "left behind").expect("a file");
        editor.users.users.push(ann());
        editor.save().expect("it has room");
        drop(editor);
        let found = read(&path).expect("it is whole");
        assert_eq!((found.users.users, found.warning), (vec![ann()], None));
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, MODE);
        let mut editor = UsersFileEditor::open(&path).expect("it is free again");
        editor.users.users.push(ann());
        assert!(editor.save().is_err_and(|why| why.contains("twice")));
        assert_eq!(read(&path).expect("it is as it was").users.users, [ann()]);
    }

    #[test]
    fn a_file_that_a_link_leads_to_is_changed_itself_and_the_link_stays() {
        let folder = tempfile::tempdir().expect("a directory");
        let [real, link, nowhere] = ["real.json", "users.json", "nowhere.json"].map(|name| folder.path().join(name));
        UsersFileEditor::open(&real).and_then(|editor| editor.save()).expect("it has room");
        std::os::unix::fs::symlink("real.json", &link).expect("a link");
        let mut editor = UsersFileEditor::open(&link).expect("nobody else has it");
        assert!(UsersFileEditor::open(&real).is_err_and(|why| why.contains("another process")));
        editor.users.users.push(ann());
        editor.save().expect("it has room");
        assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
        assert_eq!(read(&real).expect("it is whole").users.users, [ann()]);
        std::os::unix::fs::symlink("none.json", &nowhere).expect("a link");
        assert!(UsersFileEditor::open(&nowhere).is_err_and(|why| why.contains("leads to nothing")));
    }

    #[test]
    fn a_file_that_others_may_read_is_taken_with_a_warning_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("users.json");
        assert!(read(&path).expect_err("it is not there").contains("cannot be read"));
        fs::write(&path, "{\"users\":[]}").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
        assert!(read(&path).expect("it is sound").warning.is_some_and(|told| told.contains("mode 644")));
        fs::write(&path, "{\"users\":[").expect("a file");
        assert!(read(&path).expect_err("it is cut off").contains("users.json: line 1"));
    }
}
