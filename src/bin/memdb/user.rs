//! `memdb user`: the users of a node, in their file.

mod help;

use crate::output::{CommandError, CommandResult, say, tell};
use clap::Subcommand;
use console::Term;
use memdb::{
    api::auth::{
        RoleGrant,
        file_store::{self, UsersFileEditor},
        password::{self, TOKEN_RANDOM_BYTES},
        users_file::{self, TokenEntry, UserEntry},
    },
    client::credentials::first_line,
};
use secrecy::{ExposeSecret, SecretString};
use std::{
    io::{self, IsTerminal, Read},
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

/// Shortest password, in characters.
const LEAST_PASSWORD: usize = 8;
/// Longest text that a password is read from.
const MOST_PASSWORD_BYTES: u64 = 4_096;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Say who may ask a node for what.
#[derive(clap::Args)]
#[command(arg_required_else_help = true, after_help = help::USER)]
pub struct UserArguments {
    #[command(subcommand)]
    verb: UserCommand,
}

#[derive(Subcommand)]
enum UserCommand {
    /// Add a user.
    #[command(after_help = help::ADD)]
    Add(AddArguments),
    /// List users, their roles and their tokens.
    #[command(after_help = help::LIST)]
    List(UserListArguments),
    /// Take a user away, with all tokens.
    #[command(after_help = help::REMOVE)]
    Remove(NamedUser),
    /// Give a user another password.
    #[command(after_help = help::PASSWD)]
    Passwd(PasswdArguments),
    /// Give a user other roles.
    #[command(after_help = help::ROLES)]
    Roles(RolesArguments),
    /// Make a token for a user, or take one away.
    #[command(after_help = help::TOKEN)]
    Token(TokenArguments),
}

#[derive(clap::Args)]
struct UsersFileArgument {
    /// The users file, which is made if it is not there.
    #[arg(long = "users", value_name = "FILE", env = "MEMDB_USERS", default_value = "users.json")]
    path: PathBuf,
}

#[derive(clap::Args)]
struct NamedUser {
    /// The name of the user.
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    file: UsersFileArgument,
}

#[derive(clap::Args)]
struct PasswordSource {
    /// File with the password, in its first line; - is standard input. Else MEMDB_NEW_PASSWORD, else a question.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(clap::Args)]
struct AddArguments {
    #[command(flatten)]
    user: NamedUser,

    /// A role: read, write, replicate or admin; behind a colon begins of namespaces, such as write:titles-,notes.
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<RoleGrant>,

    /// Without a password: the user has tokens alone.
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,

    #[command(flatten)]
    password: PasswordSource,
}

#[derive(clap::Args)]
struct UserListArguments {
    #[command(flatten)]
    file: UsersFileArgument,

    /// As JSON, without the hashes.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct PasswdArguments {
    #[command(flatten)]
    user: NamedUser,

    #[command(flatten)]
    password: PasswordSource,
}

#[derive(clap::Args)]
struct RolesArguments {
    #[command(flatten)]
    user: NamedUser,

    /// A role, as for `memdb user add`; these take the place of all others.
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<RoleGrant>,
}

#[derive(clap::Args)]
struct TokenArguments {
    #[command(flatten)]
    user: NamedUser,

    /// The name of the new token.
    #[arg(long = "name", value_name = "TOKEN", required_unless_present = "remove")]
    token: Option<String>,

    /// Days for which it is good [default: for good].
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500), conflicts_with = "remove")]
    expires_days: Option<u64>,

    /// Take the token of this name away.
    #[arg(long, value_name = "TOKEN", conflicts_with = "token")]
    remove: Option<String>,
}

/// Runs the verb.
pub fn run(arguments: &UserArguments) -> CommandResult {
    match &arguments.verb {
        UserCommand::Add(add) => add_user(add),
        UserCommand::List(list) => list_users(list),
        UserCommand::Remove(user) => change(user, |editor| {
            editor.users.users.retain(|known| known.name != user.name);
            Ok(format!("{} is no user any more.", user.name))
        }),
        UserCommand::Passwd(passwd) => change(&passwd.user, |editor| {
            let hash = hash_of(&read_password(&passwd.password, &passwd.user.name)?)?;
            if let Some(user) = editor.users.find(&passwd.user.name) {
                user.password = Some(hash);
            }
            Ok(format!("{} has another password.", passwd.user.name))
        }),
        UserCommand::Roles(roles) => change(&roles.user, |editor| {
            if let Some(user) = editor.users.find(&roles.user.name) {
                user.roles.clone_from(&roles.roles);
            }
            Ok(format!("{} has other roles.", roles.user.name))
        }),
        UserCommand::Token(token) => match (&token.remove, &token.token) {
            (Some(removed), _) => remove_token(&token.user, removed),
            (None, Some(made)) => make_token(&token.user, made, token.expires_days),
            (None, None) => Err(CommandError::Usage("give --name TOKEN or --remove TOKEN".to_owned())),
        },
    }
}

fn open(file: &UsersFileArgument) -> Result<UsersFileEditor, CommandError> {
    UsersFileEditor::open(&file.path).map_err(CommandError::Failed)
}

/// Changes a user that is there, and says what has changed.
fn change(
    user: &NamedUser,
    change: impl FnOnce(&mut UsersFileEditor) -> Result<String, CommandError>,
) -> CommandResult {
    let mut editor = open(&user.file)?;
    if editor.users.find(&user.name).is_none() {
        return Err(CommandError::Failed(format!("{} has no user {:?}", user.file.path.display(), user.name)));
    }
    let told = change(&mut editor)?;
    editor.save().map_err(CommandError::Failed)?;
    tell(&told);
    Ok(())
}

fn add_user(AddArguments { user, roles, no_password, password }: &AddArguments) -> CommandResult {
    users_file::check_name(&user.name).map_err(CommandError::Usage)?;
    roles.iter().try_for_each(users_file::check_grant).map_err(CommandError::Usage)?;
    let mut editor = open(&user.file)?;
    if editor.users.find(&user.name).is_some() {
        return Err(CommandError::Failed(format!("the user {:?} is there already", user.name)));
    }
    let password = match no_password {
        true => None,
        false => Some(hash_of(&read_password(password, &user.name)?)?),
    };
    let (name, created) = (user.name.clone(), users_file::time_text(now_ms()));
    editor.users.users.push(UserEntry { name, password, roles: roles.clone(), created, tokens: Vec::new() });
    editor.save().map_err(CommandError::Failed)?;
    tell(&format!("{} is a user.", user.name));
    Ok(())
}

fn list_users(list: &UserListArguments) -> CommandResult {
    let read = file_store::read(&list.file.path).map_err(CommandError::Failed)?;
    if let Some(warning) = read.warning {
        tell(&format!("memdb: {warning}"));
    }
    let users = read.users.users;
    if list.json {
        let token = |token: &TokenEntry| serde_json::json!({ "name": token.name, "created": token.created, "expires": token.expires });
        let shown = users.iter().map(|user| {
            serde_json::json!({
                "name": user.name,
                "password": user.password.is_some(),
                "roles": user.roles,
                "created": user.created,
                "tokens": user.tokens.iter().map(token).collect::<Vec<_>>(),
            })
        });
        return say(&serde_json::Value::Array(shown.collect()).to_string());
    }
    for user in &users {
        let roles = user.roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let password = if user.password.is_some() { "" } else { ", no password" };
        say(&format!("{}  {roles}{password}", user.name))?;
        for token in &user.tokens {
            let expires = token.expires.as_deref().map_or(String::new(), |time| format!(", until {time}"));
            say(&format!("  token {}, of {}{expires}", token.name, token.created))?;
        }
    }
    Ok(())
}

fn make_token(user: &NamedUser, name: &str, expires_days: Option<u64>) -> CommandResult {
    users_file::check_name(name).map_err(CommandError::Usage)?;
    let mut random = [0; TOKEN_RANDOM_BYTES];
    #[allow(clippy::disallowed_methods, reason = "a token is drawn here")]
    getrandom::fill(&mut random).map_err(|error| CommandError::Failed(format!("no random bytes: {error}")))?;
    let token = SecretString::from(password::token_of(&random));
    let created = now_ms();
    let expires = expires_days.map(|days| users_file::time_text(created + days * DAY_MS));
    let entry = TokenEntry {
        name: name.to_owned(),
        sha256: password::hex(&password::sha256(token.expose_secret().as_bytes())),
        created: users_file::time_text(created),
        expires,
    };
    change(user, |editor| {
        if let Some(user) = editor.users.find(&user.name) {
            user.tokens.push(entry);
        }
        Ok("This is the only time that the token is shown:".to_owned())
    })?;
    say(token.expose_secret())
}

fn remove_token(user: &NamedUser, name: &str) -> CommandResult {
    change(user, |editor| {
        let Some(known) = editor.users.find(&user.name) else { return Ok(String::new()) };
        let before = known.tokens.len();
        known.tokens.retain(|token| token.name != name);
        match known.tokens.len() < before {
            true => Ok(format!("{} has no token {name} any more.", user.name)),
            false => Err(CommandError::Failed(format!("{} has no token {name:?}", user.name))),
        }
    })
}

fn hash_of(password: &SecretString) -> Result<String, CommandError> {
    password::hash(password.expose_secret().as_bytes()).map_err(CommandError::Failed)
}

/// Reads a new password: from the file that was named, the environment, or whoever sits at the terminal.
#[allow(clippy::disallowed_methods, reason = "no file of a database")]
fn read_password(source: &PasswordSource, user: &str) -> Result<SecretString, CommandError> {
    let text = match &source.password_file {
        Some(path) if path.as_os_str() == "-" => {
            let mut text = String::new();
            io::stdin().take(MOST_PASSWORD_BYTES).read_to_string(&mut text).map(|_| text)
        }
        Some(path) => std::fs::read_to_string(path),
        None => match std::env::var("MEMDB_NEW_PASSWORD") {
            Ok(text) => Ok(text),
            Err(_) if io::stdin().is_terminal() => ask(user),
            Err(_) => {
                let message =
                    "there is no terminal to ask for a password: give --password-file FILE, or - for standard input";
                return Err(CommandError::Usage(message.to_owned()));
            }
        },
    };
    let text = SecretString::from(text.map_err(|error| CommandError::Failed(format!("no password: {error}")))?);
    let password = first_line(text.expose_secret());
    if password.chars().count() < LEAST_PASSWORD {
        return Err(CommandError::Failed(format!("a password has at least {LEAST_PASSWORD} characters")));
    }
    Ok(SecretString::from(password))
}

/// Asks twice, and shows nothing of what is typed.
fn ask(user: &str) -> io::Result<String> {
    let terminal = Term::stderr();
    terminal.write_str(&format!("Password of {user}: "))?;
    let first = terminal.read_secure_line()?;
    terminal.write_str("The same again: ")?;
    let second = SecretString::from(terminal.read_secure_line()?);
    if first == *second.expose_secret() { Ok(first) } else { Err(io::Error::other("the two differ")) }
}

#[allow(clippy::disallowed_methods, reason = "a file of users says when they were added")]
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
