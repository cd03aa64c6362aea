//! Which source wins, what is refused, and with which words.

use super::*;
use crate::{base::secret::Secret, base::web_origin::CorsOrigins, engine::leader::AckLevel};
use std::collections::HashMap;

const MACHINE: MachineLimits = MachineLimits { processors: 4, memory_bytes: Some(8 << 30), open_files: 20_000 };

const SECRET: &str = "not-to-be-shown-to-anyone";

/// Resolves a leader with these flags, variables, and the text of the file `memdb.toml`.
fn resolved(
    flags: &[(&'static str, &str)],
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<ResolvedSettings, String> {
    resolved_as(StartRole::Leader, flags, variables, file)
}

/// What every role needs: nothing of a leader, of the others what has no default.
fn least(role: StartRole) -> &'static [(&'static str, &'static str)] {
    match role {
        StartRole::Leader => &[],
        StartRole::Replica => &[("leader", "http://127.0.0.1:8080")],
        StartRole::LocalReplica => &[("data-dir", "./data")],
    }
}

/// Resolves with these flags alone, beside what the role needs.
fn flagged(role: StartRole, flags: &[(&'static str, &str)]) -> Result<ResolvedSettings, String> {
    resolved_as(role, &[least(role), flags].concat(), &[], None)
}

fn resolved_as(
    role: StartRole,
    flags: &[(&'static str, &str)],
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<ResolvedSettings, String> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let around = ConfigInputs {
        environment: &|name| variables.get(name).map(|value| (*value).to_owned()),
        read_file: &|path| match file {
            Some(text) if path == Path::new("memdb.toml") => Ok(text.to_owned()),
            _ if path == Path::new("secret") => Ok(format!("{SECRET}\n")),
            _ if path == Path::new("short") => Ok("too short".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
        machine: MACHINE,
    };
    let flags = SettingFlags {
        file: file.map(|_| PathBuf::from("memdb.toml")),
        values: flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
    };
    resolve(role, &flags, &around).map_err(|error| error.to_string())
}

/// The rules of a node for the time in which it leads.
fn leadership(settings: &NodeSettings) -> LeadershipSettings {
    settings.leadership().expect("a leader, or a replica").clone()
}

fn source_of(resolved: &ResolvedSettings, name: &str) -> String {
    let origin = resolved.origins.iter().find(|origin| origin.name == name).expect("a setting");
    format!("{} from {}", origin.value, origin.source)
}

#[test]
fn flags_come_before_the_environment_before_the_file_before_the_default() {
    let flags = [("port", "1")];
    let variables = [("MEMDB_PORT", "2"), ("MEMDB_QUEUE", "22")];
    let file = "port = 3\nqueue = 33\nthreads = 3\ndurability = \"synced\"\n";
    let all = resolved(&flags, &variables, Some(file)).expect("all good");
    let rules = leadership(&all.settings);
    assert_eq!((all.settings.port, rules.queue_batches, all.settings.threads), (1, 22, 3));
    assert_eq!(rules.durability, Durability::Synced);
    assert_eq!(source_of(&all, "port"), "1 from flag");
    assert_eq!(source_of(&all, "queue"), "22 from environment MEMDB_QUEUE");
    assert_eq!(source_of(&all, "threads"), "3 from file memdb.toml");
    assert_eq!(source_of(&all, "max-body-bytes"), "1MiB from default");
}

#[test]
fn the_defaults_are_the_documented_ones() {
    use crate::base::limits;
    let settings = resolved(&[], &[], None).expect("the defaults are good").settings;
    assert_eq!((settings.port, settings.watchers()), (8080, 5_000));
    assert_eq!(settings.bind.to_string(), "127.0.0.1");
    let leadership = LeadershipSettings {
        ack: AckLevel::Replica,
        ack_timeout_ms: 1_000,
        durability: Durability::Buffered,
        backup_interval_ms: 1_000,
        queue_batches: limits::DEFAULT_QUEUE_BATCHES,
        max_memory_bytes: 6 << 30,
        entry_memory_bytes: 1 << 30,
        counters: crate::data::counters::CounterLimits::default(),
        post_rate: None,
        quotas: crate::data::counts::quotas::QuotaTable::default(),
    };
    let role =
        RoleSettings::Leader { data_dir: "./data".into(), replicas: vec![], init: false, analyzer: None, leadership };
    assert_eq!(settings.role, role);
    assert_eq!((settings.advertise, settings.node_name), (None, None));
    assert_eq!(settings.max_body_bytes, limits::DEFAULT_MAX_BODY_BYTES);
    assert_eq!(settings.max_value_bytes, limits::DEFAULT_MAX_VALUE_BYTES);
    assert_eq!(settings.key_window_ms, limits::DEFAULT_KEY_AGE_MS);
    assert_eq!(settings.max_keys, limits::DEFAULT_MAX_KEYS);
    assert_eq!(settings.stream_window_ms, limits::DEFAULT_STREAM_AGE_MS);
    assert_eq!(settings.max_streams, limits::DEFAULT_MAX_STREAMS);
    assert_eq!((settings.threads, settings.max_connections), (4, 10_000));
    assert_eq!(settings.max_connections_per_address, None);
    assert!(!settings.insecure && settings.allowed_hosts.is_empty());
    assert_eq!(settings.cors_origins, CorsOrigins::These(vec![]));
}

#[test]
fn on_loopback_names_are_looked_at_and_elsewhere_once_some_are_given() {
    let hosts = |flags: &[(&'static str, &str)]| flagged(StartRole::Leader, flags).expect("good").settings.hosts();
    let some = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let named = [("allowed-host", "Memdb.Example"), ("advertise", "http://Leader:8080")];
    let beyond = [("bind", "0.0.0.0"), ("insecure", "true")];
    assert_eq!(hosts(&[]), some(&[]));
    assert_eq!(hosts(&named), some(&["memdb.example", "leader"]));
    assert_eq!(hosts(&named[1..]), some(&["leader"]));
    assert_eq!(hosts(&[("advertise", "http://[::1]:8080")]), some(&["[::1]"]));
    assert_eq!(hosts(&[("allowed-host", "*")]), None);
    assert_eq!(hosts(&beyond), None);
    assert_eq!(hosts(&[&beyond[..], &named[1..]].concat()), None, "who has only said where it is is asked by any name");
    assert_eq!(hosts(&[&beyond[..], &named].concat()), some(&["memdb.example", "leader"]));
}

#[test]
fn each_role_has_its_own_defaults() {
    let replica = flagged(StartRole::Replica, &[]).expect("good").settings;
    assert_eq!((replica.start_role(), replica.port, replica.data_dir()), (StartRole::Replica, 8081, None));
    assert_eq!(replica.leader(), Some("http://127.0.0.1:8080"));
    assert_eq!((replica.max_keys, leadership(&replica).backup_interval_ms), (1_000_000, 1_000));
    let local = flagged(StartRole::LocalReplica, &[]).expect("good").settings;
    assert_eq!((local.port, local.data_dir()), (8081, Some(Path::new("./data"))));
    assert_eq!((local.max_streams, local.leader()), (65_536, None));
    let kept = flagged(StartRole::Replica, &[("data-dir", "here")]).expect("good").settings;
    assert_eq!(kept.data_dir(), Some(Path::new("here")));
}

#[test]
fn a_setting_that_a_role_needs_is_asked_for() {
    let error = resolved_as(StartRole::Replica, &[], &[], None).expect_err("no leader");
    assert_eq!(
        error,
        "a replica needs --leader URL (or MEMDB_LEADER, or leader in the file): \
         the leader to follow, such as http://127.0.0.1:8080"
    );
    let error = resolved_as(StartRole::LocalReplica, &[], &[], None).expect_err("no directory");
    assert!(error.starts_with("a local-replica needs --data-dir DIR (or MEMDB_DATA_DIR, "), "{error}");
    assert!(resolved_as(StartRole::Replica, &[], &[("MEMDB_LEADER", "http://a:1")], None).is_ok());
    assert!(resolved_as(StartRole::LocalReplica, &[], &[], Some("data-dir = \"d\"")).is_ok());
}

#[test]
fn a_flag_of_another_role_is_refused_a_variable_or_a_line_of_a_file_is_not() {
    let error = resolved(&[("leader", "http://a:1")], &[], None).expect_err("a leader follows nobody");
    assert_eq!(error, "--leader is no setting of memdb leader: `memdb leader --help` lists them");
    assert!(flagged(StartRole::Replica, &[("init", "true")]).is_err());
    assert!(flagged(StartRole::LocalReplica, &[("max-memory", "1GiB")]).is_err());
    let shared = "leader = \"http://a:1\"\nqueue = 5\n";
    let leader = resolved(&[], &[("MEMDB_LEADER", "http://b:1")], Some(shared)).expect("one file for all");
    assert_eq!((leader.settings.leader(), leadership(&leader.settings).queue_batches), (None, 5));
    let replica = resolved_as(StartRole::Replica, &[], &[("MEMDB_ANALYZER", "whitespace")], Some(shared))
        .expect("one file for all");
    assert_eq!(source_of(&replica, "leader"), "http://a:1 from file memdb.toml");
    assert_eq!(leadership(&replica.settings).queue_batches, 5, "for the day it leads");
    assert!(replica.origins.iter().all(|origin| origin.name != "analyzer"));
}

#[test]
fn replicas_are_a_list_from_every_source() {
    let both = ["http://a:1", "http://b:2"];
    let list = |resolved: Result<ResolvedSettings, String>| resolved.expect("good").settings.replicas().to_vec();
    assert_eq!(list(resolved(&[("replica", "http://a:1,http://b:2")], &[], None)), both);
    assert_eq!(list(resolved(&[], &[("MEMDB_REPLICA", "http://a:1, http://b:2/")], None)), both);
    assert_eq!(list(resolved(&[], &[], Some("replica = [\"http://a:1\", \"http://b:2\"]"))), both);
    assert_eq!(list(resolved(&[], &[], Some("replica = \"http://a:1,http://b:2\""))), both);
    assert!(list(resolved(&[], &[], Some("replica = []"))).is_empty());
    let error = resolved(&[], &[], Some("port = [1, 2]")).expect_err("one port");
    assert!(error.contains("memdb.toml:1: port: a setting is a string"), "{error}");
    let error = resolved(&[("replica", "http://a:1,b:2/post")], &[], None).expect_err("a path");
    assert!(error.contains(r#"(flag): "b:2/post": it has a path: give http://HOST:PORT without a path"#), "{error}");
}

#[test]
fn acknowledgement_is_one_of_four_levels_within_four_seconds() {
    for (text, level) in [("leader", AckLevel::Leader), ("replica+disk", AckLevel::ReplicaDisk)] {
        assert_eq!(leadership(&resolved(&[("ack", text)], &[], None).expect("a level").settings).ack, level);
    }
    assert!(resolved(&[], &[("MEMDB_ACK", "all")], None).is_err());
    for bad in ["0", "4001"] {
        assert!(resolved(&[("ack-timeout-ms", bad)], &[], None).is_err(), "{bad}");
    }
    let settings = resolved(&[("ack-timeout-ms", "4000")], &[], None).expect("good").settings;
    assert_eq!(leadership(&settings).ack_timeout_ms, 4_000);
}

#[test]
fn a_node_is_reached_where_it_listens_unless_it_says_otherwise() {
    let url = |flags: &[(&'static str, &str)]| resolved(flags, &[], None).expect("good").settings.url(81);
    assert_eq!(url(&[]), "http://127.0.0.1:81");
    assert_eq!(url(&[("bind", "::1")]), "http://[::1]:81");
    assert_eq!(url(&[("bind", "10.0.0.1"), ("insecure", "true")]), "http://10.0.0.1:81");
    assert_eq!(url(&[("bind", "0.0.0.0"), ("insecure", "true")]), "http://127.0.0.1:81");
    assert_eq!(url(&[("advertise", "http://leader:80")]), "http://leader:80");
    assert_eq!(url(&[("advertise", "Leader")]), "http://leader:8080");
}

#[test]
fn a_node_has_a_name_of_plain_characters_or_none_given() {
    let named = |name: &str| flagged(StartRole::Replica, &[("node-name", name)]).map(|all| all.settings.node_name);
    assert_eq!(named("n-1.east_2"), Ok(Some("n-1.east_2".to_owned())));
    assert_eq!(named("auto"), Ok(None));
    for bad in ["", "N1", "a b", "a/b", "ñ", &"n".repeat(65)] {
        let error = named(bad).expect_err("no name");
        assert!(error.contains("give 1 to 64 of a-z, 0-9"), "{bad}: {error}");
    }
    let variable = resolved(&[], &[("MEMDB_NODE_NAME", "n-2")], None).expect("good");
    assert_eq!(source_of(&variable, "node-name"), "n-2 from environment MEMDB_NODE_NAME");
    assert!(flagged(StartRole::LocalReplica, &[("node-name", "n-3")]).is_err(), "it keeps no files");
}

#[test]
fn a_secret_is_read_from_its_file_and_never_shown() {
    let all = flagged(StartRole::Replica, &[("cluster-secret-file", "secret")]).expect("good");
    assert_eq!(all.settings.cluster_secret.as_ref().map(Secret::expose), Some(SECRET));
    assert_eq!(source_of(&all, "cluster-secret-file"), "secret from flag");
    assert!(!format!("{all:?}").contains(SECRET));
    let error = flagged(StartRole::Replica, &[("cluster-secret-file", "short")]).expect_err("9 characters");
    assert!(error.contains("16 to 1024 characters, not 9; make one with `head -c 32"), "{error}");
    assert!(!error.contains("too short"), "{error}");
    let error = flagged(StartRole::Replica, &[("cluster-secret-file", "nowhere")]).expect_err("no file");
    assert!(error.contains("the file cannot be read: "), "{error}");
}

#[test]
fn replication_beyond_loopback_takes_a_secret() {
    let beyond = [("bind", "10.0.0.1"), ("insecure", "true")];
    let secret = [("cluster-secret-file", "secret")];
    let error = flagged(StartRole::Replica, &beyond).expect_err("no secret");
    assert!(error.contains("--cluster-secret-file FILE; make one with `head -c 32 /dev/urandom | base64 > FILE`"));
    assert!(flagged(StartRole::Replica, &[beyond, [secret[0]; 2]].concat()).is_ok());
    assert!(flagged(StartRole::Leader, &beyond).is_ok(), "it may be a single node");
    let leader = [&beyond[..], &[("replica", "http://10.0.0.2:1")]].concat();
    assert!(flagged(StartRole::Leader, &leader).expect_err("no secret").contains("--cluster-secret-file"));
    assert!(flagged(StartRole::Leader, &[&leader[..], &secret].concat()).is_ok());
    assert!(
        flagged(StartRole::Replica, &[("bind", "10.0.0.1"), secret[0]]).expect_err("not meant").contains("--insecure")
    );
}

#[test]
fn nodes_with_users_that_replicate_take_a_secret_and_users_alone_open_no_address() {
    let (users, secret) = (("users", "users.json"), ("cluster-secret-file", "secret"));
    assert!(flagged(StartRole::Leader, &[users]).is_ok(), "it may be a single node");
    let leader = [users, ("replica", "http://127.0.0.1:1")];
    for (role, flags) in [(StartRole::Replica, &[users][..]), (StartRole::Leader, &leader)] {
        let error = flagged(role, flags).expect_err("no secret");
        assert!(error.contains("--cluster-secret-file FILE"), "{error}");
        assert!(flagged(role, &[flags, &[secret]].concat()).is_ok());
    }
    let error = flagged(StartRole::Leader, &[users, ("bind", "10.0.0.1")]).expect_err("no TLS");
    assert!(error.contains("in clear text") && error.contains("--insecure"), "{error}");
    assert!(flagged(StartRole::Leader, &[users, ("bind", "10.0.0.1"), ("insecure", "true")]).is_ok());
}

#[test]
fn a_replica_on_every_address_says_which_one_the_leader_takes() {
    let everywhere = [("bind", "0.0.0.0"), ("insecure", "true"), ("cluster-secret-file", "secret")];
    let error = flagged(StartRole::Replica, &everywhere).expect_err("no address to send to");
    assert!(error.contains("--advertise http://HOST:PORT"), "{error}");
    assert!(flagged(StartRole::Replica, &[&everywhere[..], &[("advertise", "http://r1:8081")]].concat()).is_ok());
    assert!(flagged(StartRole::LocalReplica, &everywhere).is_ok(), "its leader is on the same machine");
}

#[test]
fn the_file_can_be_named_by_the_environment_and_an_empty_variable_is_none() {
    let variables = [("MEMDB_CONFIG", "memdb.toml"), ("MEMDB_PORT", "")];
    let variables: HashMap<&str, &str> = variables.into_iter().collect();
    let around = ConfigInputs {
        environment: &|name| variables.get(name).map(|value| (*value).to_owned()),
        read_file: &|path| {
            assert_eq!(path, Path::new("memdb.toml"));
            Ok("port = 5".to_owned())
        },
        machine: MACHINE,
    };
    let all = resolve(StartRole::Leader, &SettingFlags::default(), &around).expect("all good");
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
    assert!(resolved(&[("log", "info,memdb::storage::wal=debug")], &[], None).is_ok());
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
    let per_address = |text| resolved(&[("max-connections-per-address", text)], &[], None);
    assert_eq!(per_address("7").expect("good").settings.max_connections_per_address, Some(7));
    assert_eq!(per_address("auto").expect("good").settings.max_connections_per_address, None);
    assert!(per_address("0").is_err(), "nobody could connect");
    let watchers = resolved(&[("max-connections", "1"), ("max-watchers", "auto")], &[], None).expect("good");
    assert_eq!(watchers.settings.watchers(), 1);
    let watchers = resolved(&[("max-watchers", "20000")], &[], None).expect("HTTP/2 has many on a connection");
    assert_eq!(watchers.settings.watchers(), 20_000);
    let error = resolved(&[("max-memory", "16MiB"), ("max-body-bytes", "2MiB")], &[], None).expect_err("too little");
    assert!(error.contains("at least 33554432"), "{error}");
    assert!(resolved(&[("max-memory", "16MiB"), ("max-body-bytes", "1MiB")], &[], None).is_ok());
}

/// One name may be several rows, but only of different roles.
#[test]
fn no_role_has_two_settings_of_one_name() {
    for role in StartRole::ALL {
        let names: Vec<_> = SettingSpec::of(role).map(|setting| setting.name).collect();
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), distinct.len(), "{role}: {names:?}");
    }
}
