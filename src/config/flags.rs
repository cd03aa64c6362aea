//! The flags of the verbs that start a node, and of `memdb config`, made from the table.

use super::{
    StartRole,
    table::{REQUIRED, SettingSpec},
};
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, builder::PossibleValuesParser, value_parser,
};
use std::{collections::BTreeMap, path::PathBuf, slice};

/// The values of a node's command line as given, checked later together with the other sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingFlags {
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    /// Setting → value; of a setting that may be repeated, the values joined by commas.
    pub values: BTreeMap<&'static str, String>,
}

/// [`SettingFlags`] as clap takes them, with the help of the role that is `ROLE` in [`StartRole::ALL`]; one beyond: of
/// every role.
#[derive(Clone, Debug)]
pub struct FlagsOf<const ROLE: usize>(pub SettingFlags);

/// The flags of `memdb leader`.
pub type LeaderFlags = FlagsOf<{ StartRole::Leader as usize }>;
/// The flags of `memdb replica`.
pub type ReplicaFlags = FlagsOf<{ StartRole::Replica as usize }>;
/// The flags of `memdb local-replica`.
pub type LocalReplicaFlags = FlagsOf<{ StartRole::LocalReplica as usize }>;
/// The flags of all three, for `memdb config`.
pub type EveryFlag = FlagsOf<{ StartRole::ALL.len() }>;

impl<const ROLE: usize> FlagsOf<ROLE> {
    fn roles() -> &'static [StartRole] {
        StartRole::ALL.get(ROLE).map_or(&StartRole::ALL, slice::from_ref)
    }

    /// The settings of these roles, each name once.
    fn settings() -> Vec<&'static SettingSpec> {
        let mut settings: Vec<&SettingSpec> = Vec::new();
        for setting in Self::roles().iter().flat_map(|role| SettingSpec::of(*role)) {
            if settings.iter().all(|other| other.name != setting.name) {
                settings.push(setting);
            }
        }
        settings
    }
}

/// ` [default: 8081]`, or where roles differ ` [default: leader: 8080; replica, local-replica: 8081]`.
fn defaults(name: &str, roles: &[StartRole]) -> String {
    let mut told: Vec<(&str, Vec<&str>)> = Vec::new();
    for role in roles {
        let Some(value) = SettingSpec::of(*role).find(|row| row.name == name).and_then(|row| row.default(*role)) else {
            continue;
        };
        match told.iter_mut().find(|(other, _)| *other == value) {
            Some((_, whose)) => whose.push(role.name()),
            None => told.push((value, vec![role.name()])),
        }
    }
    let word = |value| if value == REQUIRED { "required" } else { value };
    match &*told {
        [(REQUIRED, _)] => " [required]".to_owned(),
        [(value, _)] => format!(" [default: {value}]"),
        several => {
            let each = several.iter().map(|(value, whose)| format!("{}: {}", whose.join(", "), word(value)));
            format!(" [default: {}]", each.collect::<Vec<_>>().join("; "))
        }
    }
}

impl<const ROLE: usize> Args for FlagsOf<ROLE> {
    fn augment_args(mut command: Command) -> Command {
        for setting in Self::settings() {
            let mut argument = Arg::new(setting.name).long(setting.name);
            if setting.is_switch() {
                argument = argument.action(ArgAction::SetTrue).help(setting.help);
            } else {
                argument = argument.value_name(setting.value_name).help(format!(
                    "{}{}",
                    setting.help,
                    defaults(setting.name, Self::roles())
                ));
            }
            if setting.repeats {
                argument = argument.action(ArgAction::Append);
            }
            if !setting.choices.is_empty() {
                argument = argument.value_parser(PossibleValuesParser::new(setting.choices));
            }
            command = command.arg(argument);
        }
        command.arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Settings in TOML, such as port = 8080; flags and environment come first"),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const ROLE: usize> FromArgMatches for FlagsOf<ROLE> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = Self::settings().into_iter().filter_map(|setting| {
            let value = if setting.is_switch() {
                matches.get_flag(setting.name).then(|| "true".to_owned())
            } else {
                let values = matches.get_many::<String>(setting.name);
                values.map(|values| values.map(String::as_str).collect::<Vec<_>>().join(","))
            };
            value.map(|value| (setting.name, value))
        });
        Ok(FlagsOf(SettingFlags { values: given.collect(), file: matches.get_one::<PathBuf>("config").cloned() }))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
