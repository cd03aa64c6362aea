//! `memdb completions`: the command line, told to a shell.

use crate::output::CommandResult;
use clap::CommandFactory;
use clap_complete::Shell;

const EXAMPLES: &str = "\
EXAMPLES
  memdb completions bash > ~/.local/share/bash-completion/completions/memdb
  memdb completions fish > ~/.config/fish/completions/memdb.fish

Exits 0, 1 if nothing can be written, 2 on wrong usage.";

/// Print the completions of a shell.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArguments {
    /// The shell.
    shell: Shell,
}

pub fn run(arguments: &CompletionsArguments) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::MemdbArguments::command(), "memdb", &mut script);
    Ok(std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?)
}
