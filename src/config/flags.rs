//! The flags of `memdb leader` and `memdb config`, made from the table.

use super::table::SETTINGS;
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, builder::PossibleValuesParser, value_parser,
};
use std::{collections::BTreeMap, path::PathBuf};

/// What the command line says about a leader: the values as given, checked later together with the other sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderFlags {
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    /// Setting → value.
    pub values: BTreeMap<&'static str, String>,
}

impl Args for LeaderFlags {
    fn augment_args(mut command: Command) -> Command {
        for setting in SETTINGS {
            let mut argument = Arg::new(setting.name).long(setting.name);
            if setting.is_switch() {
                argument = argument.action(ArgAction::SetTrue).help(setting.help);
            } else {
                argument = argument
                    .value_name(setting.value_name)
                    .help(format!("{} [default: {}]", setting.help, setting.default));
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

impl FromArgMatches for LeaderFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = SETTINGS.iter().filter_map(|setting| {
            let value = if setting.is_switch() {
                matches.get_flag(setting.name).then(|| "true".to_owned())
            } else {
                matches.get_one::<String>(setting.name).cloned()
            };
            value.map(|value| (setting.name, value))
        });
        Ok(LeaderFlags { values: given.collect(), file: matches.get_one::<PathBuf>("config").cloned() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
