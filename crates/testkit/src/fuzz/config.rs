//! The settings file: any text is settings or an error that says where; and the same text is the same settings.

use memdb::config::{ConfigInputs, MachineLimits, SettingFlags, StartRole, resolve};
use std::collections::BTreeMap;

pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for role in [StartRole::Leader, StartRole::Replica, StartRole::LocalReplica] {
        let around = ConfigInputs {
            environment: &|_| None,
            read_file: &|_| Ok(text.to_owned()),
            machine: MachineLimits { processors: 2, memory_bytes: Some(1 << 30), open_files: 1_000 },
        };
        let flags = || SettingFlags { file: Some("memdb.toml".into()), values: BTreeMap::new() };
        match resolve(role, &flags(), &around) {
            Ok(resolved) => {
                super::accepted();
                assert_eq!(resolve(role, &flags(), &around).expect("as before"), resolved);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
