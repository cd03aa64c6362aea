//! The `memdb` command: one verb per module.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (clap's own included), 130 interrupted.

mod backup;
mod certificate;
mod completions;
mod config;
mod credentials;
mod directory_copy;
mod entries;
mod export;
mod files;
mod health;
mod import;
mod leader;
mod local_replica;
mod namespaces;
mod origin_demo;
mod output;
mod post;
mod promote;
mod read;
mod replica;
mod restore;
mod secret;
mod settings;
mod user;
mod watch;

use clap::{Parser, Subcommand};
use output::{CommandError, CommandResult};
use std::{io::ErrorKind, process::ExitCode};
use tikv_jemallocator::Jemalloc;

/// Gives memory that was freed back to the system, as glibc does not (docs/decisions/0022-allocator.md).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const EXAMPLES: &str = "\
EXAMPLES
  Start a leader, count a book, look at it:
    memdb leader --data-dir ./data
    memdb post book.txt
    memdb top -n 20
    memdb get whale ship sea
    memdb watch --top 10

  Keep values for a while, and posts whose words can be taken back:
    memdb cache put session/17 --value alice --ttl 60
    memdb cache get session/17
    memdb posts put 17 article.txt

  A replica of it, to read from:
    memdb replica --leader http://127.0.0.1:8080
    memdb top --server http://127.0.0.1:8081

  The same with curl:
    curl -d 'text=hello world' http://127.0.0.1:8080/post
    curl 'http://127.0.0.1:8080/wordcount?word=hello'

`memdb VERB --help` shows more of each. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.";

/// An in-memory word-count database: exact counts, retries count once, a crash loses nothing acknowledged.
#[derive(Parser)]
#[command(name = "memdb", version, arg_required_else_help = true, after_help = EXAMPLES, after_long_help = EXAMPLES)]
struct MemdbArguments {
    #[command(subcommand)]
    verb: MemdbCommand,
}

#[derive(Subcommand)]
enum MemdbCommand {
    Leader(leader::LeaderArguments),
    Replica(replica::ReplicaArguments),
    LocalReplica(local_replica::LocalReplicaArguments),
    Config(config::ConfigArguments),
    Post(post::PostArguments),
    Get(read::GetArguments),
    Top(read::TopArguments),
    #[command(name = "ns")]
    Namespaces(namespaces::NamespacesArguments),
    Watch(watch::WatchArguments),
    Cache(entries::CacheArguments),
    Posts(entries::PostsArguments),
    Stats(entries::StatsArguments),
    Export(export::ExportArguments),
    Import(import::ImportArguments),
    Health(health::HealthArguments),
    Status(health::StatusArguments),
    Inspect(files::InspectArguments),
    Repair(files::RepairArguments),
    Backup(backup::BackupArguments),
    Restore(restore::RestoreArguments),
    Promote(promote::PromoteArguments),
    Certificate(certificate::CertificateArguments),
    User(user::UserArguments),
    OriginDemo(origin_demo::OriginDemoArguments),
    Completions(completions::CompletionsArguments),
}

fn main() -> ExitCode {
    let ended = match MemdbArguments::parse().verb {
        MemdbCommand::Leader(arguments) => leader::run(&arguments),
        MemdbCommand::Replica(arguments) => replica::run(&arguments),
        MemdbCommand::LocalReplica(arguments) => local_replica::run(&arguments),
        MemdbCommand::Config(arguments) => config::run(&arguments),
        MemdbCommand::Post(arguments) => post::run(&arguments),
        MemdbCommand::Get(arguments) => read::get(&arguments),
        MemdbCommand::Top(arguments) => read::top(&arguments),
        MemdbCommand::Namespaces(arguments) => namespaces::run(&arguments),
        MemdbCommand::Watch(arguments) => watch::run(&arguments),
        MemdbCommand::Cache(arguments) => entries::cache(&arguments),
        MemdbCommand::Posts(arguments) => entries::posts(&arguments),
        MemdbCommand::Export(arguments) => export::run(&arguments),
        MemdbCommand::Import(arguments) => import::run(&arguments),
        MemdbCommand::Stats(arguments) => entries::stats(&arguments),
        MemdbCommand::Health(arguments) => health::health(&arguments),
        MemdbCommand::Status(arguments) => health::status(&arguments),
        MemdbCommand::Inspect(arguments) => files::inspect(&arguments),
        MemdbCommand::Repair(arguments) => files::repair(&arguments),
        MemdbCommand::Backup(arguments) => backup::run(&arguments),
        MemdbCommand::Restore(arguments) => restore::run(&arguments),
        MemdbCommand::Promote(arguments) => promote::run(&arguments),
        MemdbCommand::Certificate(arguments) => certificate::run(&arguments),
        MemdbCommand::User(arguments) => user::run(&arguments),
        MemdbCommand::OriginDemo(arguments) => origin_demo::run(&arguments),
        MemdbCommand::Completions(arguments) => completions::run(&arguments),
    };
    conclude(ended)
}

/// Tells a failure in one line on stderr, and turns the end into an exit code.
fn conclude(ended: CommandResult) -> ExitCode {
    let Err(failure) = ended else { return ExitCode::SUCCESS };
    if matches!(&failure, CommandError::Output(error) if error.kind() == ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS; // whoever reads has seen enough: `memdb top | head -1` is no failure
    }
    output::tell(&format!("memdb: {failure}"));
    ExitCode::from(failure.code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, CommandFactory};

    /// Every verb, those of a group among them, with the words that name it.
    fn verbs() -> Vec<(String, Command)> {
        fn below(path: &str, command: &Command, all: &mut Vec<(String, Command)>) {
            for verb in command.get_subcommands() {
                let path = format!("{path} {}", verb.get_name());
                all.push((path.clone(), verb.clone()));
                below(&path, verb, all);
            }
        }
        let mut all = Vec::new();
        below("memdb", &MemdbArguments::command(), &mut all);
        all
    }

    fn examples_of(command: &Command) -> String {
        command.get_after_help().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn the_command_line_is_sound_and_every_verb_teaches_by_example() {
        MemdbArguments::command().debug_assert();
        for (path, verb) in verbs() {
            let help = examples_of(&verb);
            assert!(help.starts_with("EXAMPLES\n"), "{path} has no examples");
            assert!(help.contains(&path), "{path} shows another verb");
            assert!(help.contains("Exits 0"), "{path} does not tell its exit codes");
        }
    }

    #[test]
    fn every_verb_that_asks_a_node_can_show_who_asks_and_believe_a_private_authority() {
        let mut asking = 0;
        for (path, verb) in verbs() {
            let names: Vec<&str> = verb.get_arguments().filter_map(clap::Arg::get_long).collect();
            let is_url = |name: &clap::builder::Str| name.split('|').any(|part| part == "URL");
            let asks = |argument: &clap::Arg| argument.get_value_names().is_some_and(|names| names.iter().any(is_url));
            if verb.get_arguments().any(asks) {
                asking += 1;
                let shows = ["token-file", "cluster-secret-file"].iter().any(|flag| names.contains(flag));
                assert!(shows && names.contains(&"tls-ca"), "{path} has {names:?}");
            }
        }
        assert!(asking >= 15, "{asking}");
    }

    #[test]
    fn examples_of_help_fit_a_terminal_so_that_none_is_wrapped_within_a_command() {
        for (path, verb) in [("memdb".to_owned(), MemdbArguments::command())].into_iter().chain(verbs()) {
            let help = examples_of(&verb);
            let long = help.lines().find(|line| line.starts_with(' ') && line.chars().count() > 80);
            assert_eq!(long, None, "{path}");
        }
    }

    #[test]
    fn paragraphs_of_help_are_one_line_each_which_clap_wraps() {
        for (path, verb) in [("memdb".to_owned(), MemdbArguments::command())].into_iter().chain(verbs()) {
            let help = examples_of(&verb);
            let lines: Vec<&str> = help.lines().collect();
            let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ') && line != "EXAMPLES";
            let broken = lines.windows(2).find(|pair| is_prose(pair[0]) && is_prose(pair[1]));
            assert_eq!(broken, None, "{path}");
        }
    }
}
