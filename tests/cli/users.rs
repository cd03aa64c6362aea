//! `memdb user`, the credentials of the other verbs, and what nodes and verbs say of secrets: nothing.

use crate::{Ran, memdb, run};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;
use testkit::wait_for;

const PASSWORD: &str = "correct horse battery";
const OTHER: &str = "another secret password";
const SECRET: &str = "secret-of-the-cluster-0123456789";

/// A directory with users, and everything that was said in it.
struct Session {
    dir: TempDir,
    said: String,
}

impl Session {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        fs::write(dir.path().join("password"), format!("{PASSWORD}\n")).expect("a file");
        fs::write(dir.path().join("secret"), SECRET).expect("a file");
        Self { dir, said: String::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ran(&mut self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        let mut command = memdb();
        command.current_dir(self.dir.path()).args(arguments).envs(environment.iter().copied());
        let ran = run(&mut command);
        self.said += &format!("{}\n{}\n", ran.out, ran.err);
        ran
    }

    fn user(&mut self, arguments: &[&str]) -> Ran {
        self.ran(&[&["user"], arguments].concat(), &[])
    }

    /// A token of a user, which is not among what was said.
    fn token(&mut self, user: &str) -> String {
        let before = self.said.len();
        let made = self.user(&["token", user, "--name", "ci", "--expires-days", "30"]);
        assert_eq!(made.code, 0, "{}", made.err);
        self.said.truncate(before);
        made.out.trim().to_owned()
    }

    fn start(&self, name: &str, arguments: &[&str]) -> Process {
        let log = self.path(&format!("{name}.log"));
        let audit = format!("{name}.audit");
        let child = Command::new(assert_cmd::cargo::cargo_bin!("memdb"))
            .env_clear()
            .current_dir(self.dir.path())
            .args(arguments)
            .args(["--port", "0", "--users", "users.json", "--cluster-secret-file", "secret"])
            .args(["--audit-log", &audit, "--log", "trace"])
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("the binary is built");
        let mut process = Process { child, url: String::new() };
        process.url = wait_for("it serves", || {
            let said = fs::read_to_string(&log).expect("the log");
            assert!(process.child.try_wait().expect("it is ours").is_none(), "{said}");
            let address =
                said.lines().find_map(|line| Some(line.split_once("serving address=")?.1.trim().to_owned()))?;
            Some(format!("http://{address}"))
        });
        process
    }
}

struct Process {
    child: Child,
    url: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn users_are_added_listed_changed_and_removed() {
    let mut session = Session::new();
    for (arguments, code) in [
        (&["add", "ann", "--role", "read", "--role", "write:titles-,notes", "--no-password"][..], 0),
        (&["add", "ann", "--role", "read", "--no-password"], 1),
        (&["add", "a:b", "--role", "read", "--no-password"], 2),
        (&["add", "bob", "--role", "root", "--no-password"], 2),
        (&["add", "bob", "--role", "read:Capital", "--no-password"], 2),
        (&["add", "bob", "--role", "read:", "--no-password"], 2),
        (&["add", "bob", "--no-password"], 2),
        (&["add", "bob", "--role", "read"], 2),
        (&["add", "bob", "--role", "admin", "--password-file", "password"], 0),
        (&["passwd", "nobody", "--password-file", "password"], 1),
        (&["passwd", "bob", "--password-file", "missing"], 1),
        (&["token", "ann"], 2),
        (&["token", "ann", "--name", "a b"], 2),
        (&["token", "nobody", "--name", "ci"], 1),
        (&["token", "ann", "--remove", "ci"], 1),
        (&["list"], 0),
    ] {
        let ran = session.user(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {} {}", ran.out, ran.err);
    }
    let token = session.token("ann");
    assert!(token.starts_with("memdb_") && token.len() > 40, "{token}");
    let listed = session.user(&["list"]);
    assert!(listed.out.starts_with("ann  read write:titles-,notes, no password\n  token ci, of "), "{}", listed.out);
    assert!(listed.out.contains(", until ") && listed.out.ends_with("bob  admin\n"), "{}", listed.out);
    let json: serde_json::Value = serde_json::from_str(&session.user(&["list", "--json"]).out).expect("JSON");
    assert_eq!((&json[0]["tokens"][0]["name"], &json[1]["password"]), (&"ci".into(), &true.into()));
    let file = session.path("users.json");
    assert_eq!(mode_of(&file), 0o600);
    let before = fs::read_to_string(&file).expect("the file");
    assert!(!before.contains(&token) && !before.contains(PASSWORD));
    let (other, same) = (("MEMDB_NEW_PASSWORD", OTHER), fs::read_to_string(&file).expect("the file"));
    assert_eq!(session.ran(&["user", "passwd", "bob"], &[other]).code, 0);
    assert_ne!(fs::read_to_string(&file).expect("the file"), same);
    assert_eq!(session.ran(&["user", "passwd", "bob"], &[("MEMDB_NEW_PASSWORD", "short")]).code, 1);
    for arguments in [&["token", "ann", "--remove", "ci"][..], &["roles", "bob", "--role", "read"], &["remove", "ann"]]
    {
        assert_eq!(session.user(arguments).code, 0, "{arguments:?}");
    }
    assert_eq!(session.user(&["list"]).out, "bob  read\n");
    for secret in [PASSWORD, OTHER, "$argon2id", "sha256"] {
        assert!(!session.said.contains(secret), "{secret}: {}", session.said);
    }
}

#[test]
fn nodes_with_users_work_together_and_neither_they_nor_the_verbs_say_a_secret() {
    let mut session = Session::new();
    assert_eq!(session.user(&["add", "root", "--role", "admin", "--password-file", "password"]).code, 0);
    assert_eq!(session.user(&["add", "ann", "--role", "read:words", "--no-password"]).code, 0);
    let token = session.token("ann");
    fs::write(session.path("token"), &token).expect("a file");
    fs::write(session.path("text"), "hello world hello\n").expect("a file");
    fs::write(session.path("words.csv"), "rain,1\n").expect("a file");
    let leader = session.start("leader", &["leader", "--data-dir", "one"]);
    let replica = session.start("replica", &["replica", "--leader", &leader.url, "--data-dir", "two"]);
    let (leader_url, replica_url) = (leader.url.clone(), replica.url.clone());
    let root = [("MEMDB_USER", "root"), ("MEMDB_PASSWORD", PASSWORD)];
    let posted = session.ran(&["post", "--leader", &leader_url, "text"], &root);
    assert_eq!(posted.code, 0, "{}", posted.err);
    // A follower lets root in, and the leader the follower.
    let put = ["cache", "put", "k", "--value", "v", "--server", &replica_url];
    let put = wait_for("the replica passes writes on", || Some(session.ran(&put, &root)).filter(|ran| ran.code == 0));
    assert_eq!(put.code, 0);
    let get = ["get", "hello", "--server", &replica_url, "--token-file", "token"];
    wait_for("the replica has it", || Some(session.ran(&get, &[])).filter(|ran| ran.out == "2  hello\n"));
    for (arguments, environment, code, said) in [
        (&["top", "--server", &leader_url][..], &[][..], 1, "answered 401"),
        (&["top", "--server", &leader_url], &[("MEMDB_TOKEN", token.as_str())], 0, "hello"),
        (&["top", "--ns", "other", "--server", &leader_url], &[("MEMDB_TOKEN", token.as_str())], 1, "answered 403"),
        (
            &["cache", "put", "k", "--value", "v", "--server", &leader_url],
            &[("MEMDB_TOKEN", token.as_str())],
            1,
            "role write",
        ),
        (&["status", "--server", &leader_url], &[("MEMDB_TOKEN", token.as_str())], 1, "all namespaces"),
        (&["import", "words.csv", "--leader", &leader_url], &[("MEMDB_TOKEN", token.as_str())], 1, "role write"),
        (&["import", "words.csv", "--leader", &leader_url], &root, 0, "1 items imported"),
        (&["status", "--server", &leader_url], &root, 0, "leader"),
        (&["stats", "--server", &leader_url], &root, 0, "entries"),
        (&["stats", "--server", &replica_url], &root, 0, "entries"),
        (&["health", "--server", &leader_url], &[], 0, ""),
        (&["top", "--server", &leader_url, "--user", "root"], &[("MEMDB_PASSWORD", OTHER)], 1, "answered 401"),
        (&["top", "--server", &leader_url], &[("MEMDB_TOKEN", "memdb_a-wrong-token")], 1, "answered 401"),
        (&["config", "--users", "users.json", "--cluster-secret-file", "secret"], &[], 0, "users.json"),
        (&["promote", &replica_url], &[("MEMDB_TOKEN", token.as_str())], 1, "answered 403"),
        (&["promote", &replica_url], &root, 0, "leads"),
    ] {
        let ran = session.ran(arguments, environment);
        assert_eq!(ran.code, code, "{arguments:?}: {} {}", ran.out, ran.err);
        assert!(ran.out.contains(said) || ran.err.contains(said), "{arguments:?}: {} {}", ran.out, ran.err);
    }
    // The right of a token ends when the file says so.
    assert_eq!(session.user(&["token", "ann", "--remove", "ci"]).code, 0);
    wait_for("it is read anew", || Some(session.ran(&get, &[])).filter(|ran| ran.err.contains("answered 401")));
    drop((leader, replica));
    let mut said = session.said.clone();
    for name in ["leader.log", "replica.log", "leader.audit", "replica.audit", "one/memdb.log", "two/memdb.log"] {
        said += &fs::read_to_string(session.path(name)).unwrap_or_default();
    }
    assert!(said.contains("DELETE") || said.contains("POST /promote"), "the audit logs are among it");
    let wordy = said.lines().any(|line| line.contains("DEBUG") && line.contains("status=401"));
    assert!(wordy, "the logs are as wordy as they get: {said}");
    let shown = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let basic = [PASSWORD, OTHER].map(|password| shown(&format!("root:{password}")));
    for secret in [PASSWORD, OTHER, SECRET, &token, "memdb_a-wrong-token", &basic[0], &basic[1], "$argon2id"] {
        let found = said.lines().find(|line| line.contains(secret));
        assert_eq!(found, None, "{secret}");
    }
}

#[test]
fn an_import_needs_the_role_write_and_a_backup_the_role_replicate_and_no_more() {
    let mut session = Session::new();
    for (user, role) in [("copies", "replicate"), ("reads", "read"), ("writes", "write")] {
        let added = session.user(&["add", user, "--role", role, "--no-password"]);
        assert_eq!(added.code, 0, "{}", added.err);
    }
    let [copies, reads, writes] = ["copies", "reads", "writes"].map(|user| session.token(user));
    let leader = session.start("leader", &["leader", "--data-dir", "data"]);
    let server = ["--server", &leader.url];
    fs::write(session.path("words.csv"), "hello,1\n").expect("a file");
    let import = ["import", "words.csv", "--leader", &leader.url];
    let imported = session.ran(&import, &[("MEMDB_TOKEN", &writes)]);
    assert_eq!(imported.code, 0, "{}", imported.err);
    let refused = session.ran(&["import", "--again", "words.csv", "--leader", &leader.url], &[("MEMDB_TOKEN", &reads)]);
    assert!(refused.code == 1 && refused.err.contains("role write"), "{}", refused.err);
    fs::write(session.path("token"), &copies).expect("a file");
    wait_for("a snapshot is there", || {
        let ran = session.ran(&[&["backup", "--token-file", "token", "copy"], &server[..]].concat(), &[]);
        assert!(ran.code == 0 || ran.err.contains("no snapshot"), "{}", ran.err);
        (ran.code == 0).then_some(())
    });
    let of_variable = session.ran(&[&["backup", "other"], &server[..]].concat(), &[("MEMDB_TOKEN", &copies)]);
    assert_eq!(of_variable.code, 0, "{}", of_variable.err);
    for token in [&reads, &writes] {
        let refused = session.ran(&[&["backup", "third"], &server[..]].concat(), &[("MEMDB_TOKEN", token)]);
        assert!(refused.code == 1 && refused.err.contains("needs the role replicate"), "{}", refused.err);
        assert!(!session.path("third").exists());
    }
    drop(leader);
    for name in ["leader.log", "leader.audit"] {
        session.said += &fs::read_to_string(session.path(name)).expect("a log");
    }
    for token in [&copies, &reads, &writes] {
        assert!(!session.said.contains(token.as_str()), "a token is said: {}", session.said);
    }
}
