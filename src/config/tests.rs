//! Which source wins, what is refused, and with which words.

use super::*;
use std::collections::HashMap;

const MACHINE: Machine = Machine { processors: 4, memory_bytes: Some(8 << 30), open_files: 20_000 };

/// Resolves with these flags, variables, and the text of the file `memdb.toml`.
fn resolved(
    flags: &[(&'static str, &str)],
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Resolved, String> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let around = Surroundings {
        environment: &|name| variables.get(name).map(|value| (*value).to_owned()),
        read_file: &|path| match file {
            Some(text) if path == Path::new("memdb.toml") => Ok(text.to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
        machine: MACHINE,
    };
    let flags = LeaderFlags {
        file: file.map(|_| PathBuf::from("memdb.toml")),
        values: flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
    };
    resolve(&flags, &around).map_err(|error| error.to_string())
}

fn source_of(resolved: &Resolved, name: &str) -> String {
    let origin = resolved.origins.iter().find(|origin| origin.name == name).expect("a setting");
    format!("{} from {}", origin.value, origin.source)
}

#[test]
fn flags_come_before_the_environment_before_the_file_before_the_default() {
    let flags = [("port", "1")];
    let variables = [("MEMDB_PORT", "2"), ("MEMDB_QUEUE", "22")];
    let file = "port = 3\nqueue = 33\nthreads = 3\ndurability = \"synced\"\n";
    let all = resolved(&flags, &variables, Some(file)).expect("all good");
    assert_eq!((all.settings.port, all.settings.queue_batches, all.settings.threads), (1, 22, 3));
    assert_eq!(all.settings.durability, Durability::Synced);
    assert_eq!(source_of(&all, "port"), "1 from flag");
    assert_eq!(source_of(&all, "queue"), "22 from environment MEMDB_QUEUE");
    assert_eq!(source_of(&all, "threads"), "3 from file memdb.toml");
    assert_eq!(source_of(&all, "max-body-bytes"), "1MiB from default");
}

#[test]
fn the_defaults_are_the_documented_ones() {
    use crate::limits;
    let settings = resolved(&[], &[], None).expect("the defaults are good").settings;
    assert_eq!(settings.port, 8080);
    assert_eq!(settings.bind.to_string(), "127.0.0.1");
    assert_eq!(settings.data_dir, Path::new("./data"));
    assert_eq!((settings.analyzer, settings.ack), (None, AckLevel::Leader));
    assert_eq!(settings.durability, Durability::Buffered);
    assert_eq!(settings.max_body_bytes, limits::DEFAULT_MAX_BODY_BYTES);
    assert_eq!(settings.queue_batches, limits::DEFAULT_QUEUE_BATCHES);
    assert_eq!(settings.key_window_ms, limits::DEFAULT_KEY_AGE_MS);
    assert_eq!(settings.max_keys, limits::DEFAULT_MAX_KEYS);
    assert_eq!(settings.stream_window_ms, limits::DEFAULT_STREAM_AGE_MS);
    assert_eq!(settings.max_streams, limits::DEFAULT_MAX_STREAMS);
    assert_eq!((settings.threads, settings.max_connections), (4, 10_000));
    assert_eq!(settings.max_memory_bytes, 6 << 30);
    assert!(!settings.insecure);
    assert_eq!(settings.backup_interval_ms, 1_000);
}

#[test]
fn the_file_can_be_named_by_the_environment_and_an_empty_variable_is_none() {
    let variables = [("MEMDB_CONFIG", "memdb.toml"), ("MEMDB_PORT", "")];
    let variables: HashMap<&str, &str> = variables.into_iter().collect();
    let around = Surroundings {
        environment: &|name| variables.get(name).map(|value| (*value).to_owned()),
        read_file: &|path| {
            assert_eq!(path, Path::new("memdb.toml"));
            Ok("port = 5".to_owned())
        },
        machine: MACHINE,
    };
    let all = resolve(&LeaderFlags::default(), &around).expect("all good");
    assert_eq!(source_of(&all, "port"), "5 from file memdb.toml");
}

#[test]
fn a_bad_value_is_named_with_its_source_and_the_fix() {
    let error = resolved(&[], &[("MEMDB_PORT", "70000")], None).expect_err("no such port");
    assert_eq!(error, r#"port = "70000" (environment MEMDB_PORT): give a whole number from 0 to 65535"#);
    let error = resolved(&[], &[], Some("analyzer = \"go\"")).expect_err("no such analyzer");
    assert_eq!(error, r#"analyzer = "go" (file memdb.toml): give one of auto, standard, whitespace"#);
    let error = resolved(&[("max-body-bytes", "17MiB")], &[], None).expect_err("beyond what a record holds");
    assert!(error.contains("(flag): give bytes from 1 to 16777216"), "{error}");
    assert!(resolved(&[("log", "loud")], &[], None).is_err());
    assert!(resolved(&[("log", "info,memdb::log=debug")], &[], None).is_ok());
}

#[test]
fn beyond_loopback_must_be_meant() {
    for address in ["0.0.0.0", "::", "192.168.0.1"] {
        let error = resolved(&[("bind", address)], &[], None).expect_err("not meant");
        assert!(error.contains("--insecure"), "{error}");
        assert!(resolved(&[("bind", address), ("insecure", "true")], &[], None).is_ok());
    }
    for address in ["127.0.0.1", "127.8.8.8", "::1", "localhost"] {
        assert!(resolved(&[("bind", address)], &[], None).is_ok(), "{address}");
    }
}

#[test]
fn relations_between_settings_are_checked() {
    let error = resolved(&[("max-connections", "19937")], &[], None).expect_err("one over what is open");
    assert!(error.contains("ulimit -n 20001"), "{error}");
    assert!(resolved(&[("max-connections", "19936")], &[], None).is_ok());
    let error = resolved(&[("max-memory", "16MiB"), ("max-body-bytes", "2MiB")], &[], None).expect_err("too little");
    assert!(error.contains("at least 33554432"), "{error}");
    assert!(resolved(&[("max-memory", "16MiB"), ("max-body-bytes", "1MiB")], &[], None).is_ok());
}

/// `blank` is never seen: each of its fields that could be mistaken for a value is written by a row.
#[test]
fn every_field_has_a_row() {
    let machine = Machine { processors: 1, memory_bytes: Some(1 << 30), open_files: 1_000 };
    let mut settings = LeaderSettings::blank();
    for setting in table::SETTINGS {
        let before = settings.clone();
        let other = match setting.name {
            "bind" => "::1",
            "insecure" => "true",
            "analyzer" => "whitespace",
            "ack" => "disk",
            "durability" => "synced",
            _ => setting.default,
        };
        (setting.apply)(&mut settings, other, &machine).expect("a good value");
        assert_ne!(before, settings, "{} changes nothing", setting.name);
    }
}
