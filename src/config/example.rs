//! A commented file of settings, to begin with.

use super::{
    StartRole,
    table::{REQUIRED, SettingSpec},
};
use std::fmt::Write;

/// The width of the comments.
const COLUMNS: usize = 100;

/// Gives a TOML file with every setting of a role, its help and its default. All are commented out: the file changes
/// nothing until somebody removes a `#`.
pub fn example(role: StartRole) -> String {
    let mut file = String::new();
    comment(
        &mut file,
        &format!(
            "Settings of `memdb {role}`, with their defaults. A line without its # is in force; flags, and variables \
             such as MEMDB_PORT, come before the file. `memdb config --role {role} --config FILE` shows what it leads \
             to. One file may serve all roles."
        ),
    );
    for setting in SettingSpec::of(role) {
        file.push('\n');
        comment(&mut file, setting.help);
        if !setting.choices.is_empty() {
            comment(&mut file, &format!("One of: {}.", setting.choices.join(", ")));
        }
        let given = setting.default(role).unwrap_or(REQUIRED);
        let value = if given == REQUIRED { setting.value_name } else { given };
        writeln!(file, "#{} = {}", setting.name, literal(setting, value)).expect("a String takes all");
    }
    file
}

/// Writes a text as comments, with line breaks between words.
fn comment(file: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > COLUMNS {
            file.push_str(&line);
            file.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    file.push_str(&line);
    file.push('\n');
}

/// A value in TOML.
fn literal(setting: &SettingSpec, value: &str) -> String {
    if setting.is_switch() || value.parse::<i64>().is_ok() {
        return value.to_owned();
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{ConfigInputs, MachineLimits, SettingFlags, SettingSource, resolve},
        *,
    };
    use std::{io, path::Path};

    fn origins(role: StartRole, file: &str) -> Vec<(&'static str, String, bool)> {
        let read_file = |path: &Path| match path == Path::new("memdb.toml") {
            true => Ok(file.to_owned()),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        let environment = |name: &str| match name {
            "MEMDB_CONFIG" => Some("memdb.toml".to_owned()),
            "MEMDB_LEADER" => Some("http://127.0.0.1:8080".to_owned()),
            "MEMDB_DATA_DIR" if role == StartRole::LocalReplica => Some("data".to_owned()),
            _ => None,
        };
        let around =
            ConfigInputs { environment: &environment, read_file: &read_file, machine: MachineLimits::here(&read_file) };
        let resolved = resolve(role, &SettingFlags::default(), &around).expect("the defaults can be used");
        let origins = resolved.origins.into_iter();
        origins.map(|origin| (origin.name, origin.value, matches!(origin.source, SettingSource::File(_)))).collect()
    }

    #[test]
    fn as_it_is_it_sets_nothing_and_without_its_comments_it_sets_the_defaults() {
        for role in [StartRole::Leader, StartRole::Replica, StartRole::LocalReplica] {
            let file = example(role);
            assert!(file.lines().all(|line| line.len() <= 120), "{file}");
            let defaults = origins(role, &file);
            assert!(defaults.iter().all(|(_, _, is_of_file)| !is_of_file));
            let is_setting =
                |line: &str| line.strip_prefix('#').is_some_and(|line| line.starts_with(char::is_alphabetic));
            let set = file
                .lines()
                .map(|line| if is_setting(line) { &line[1..] } else { line })
                .collect::<Vec<_>>()
                .join("\n");
            for ((name, default, _), (_, value, is_of_file)) in defaults.iter().zip(origins(role, &set)) {
                assert!(is_of_file || ["leader", "data-dir"].contains(name), "{name} is not in the file");
                assert_eq!(*default, value, "{name}");
            }
        }
    }
}
