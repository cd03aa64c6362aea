//! The flags and variables by which a verb of the command line says whose requests it sends. A secret itself is never
//! on the command line, where every user of the machine could read it.

use crate::client::credentials::ClientCredentials;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Where the credentials of a verb are.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CredentialFlags {
    /// File with a token for a node that has users; or the token in MEMDB_TOKEN.
    #[arg(long, value_name = "FILE", env = "MEMDB_TOKEN_FILE", help_heading = "Credentials")]
    pub token_file: Option<PathBuf>,

    /// User of a node that has users, with --password-file, or the password in MEMDB_PASSWORD.
    #[arg(long, value_name = "NAME", env = "MEMDB_USER", help_heading = "Credentials")]
    pub user: Option<String>,

    /// File with the password of --user.
    #[arg(long, value_name = "FILE", env = "MEMDB_PASSWORD_FILE", help_heading = "Credentials")]
    pub password_file: Option<PathBuf>,
}

impl CredentialFlags {
    /// Reads the credentials; none if nobody has said any. A file goes before a variable, and a token before a user.
    ///
    /// # Errors
    /// A sentence, without the secret, if one of them cannot be read or used.
    pub fn read(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Option<ClientCredentials>, String> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let of_file = |flag: &str, path: &Path| {
            read_file(path).map_err(|error| format!("--{flag} {} cannot be read: {error}", path.display()))
        };
        if let Some(path) = &self.token_file {
            let token = ClientCredentials::token(&of_file("token-file", path)?);
            return token.map(Some).map_err(|why| format!("--token-file {}: {why}", path.display()));
        }
        if let Some(token) = variable("MEMDB_TOKEN") {
            return ClientCredentials::token(&token).map(Some).map_err(|why| format!("MEMDB_TOKEN: {why}"));
        }
        let Some(user) = &self.user else {
            let lost = self.password_file.is_some();
            return if lost { Err("--password-file wants --user NAME".to_owned()) } else { Ok(None) };
        };
        let password = match &self.password_file {
            Some(path) => of_file("password-file", path)?,
            None => variable("MEMDB_PASSWORD").ok_or("--user wants --password-file FILE, or MEMDB_PASSWORD")?,
        };
        ClientCredentials::password(user, &password).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_before_variables_and_no_error_has_the_secret() {
        let read = |flags: CredentialFlags, variables: &[(&str, &str)]| {
            let environment = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let read_file = |path: &Path| match path.to_str() {
                Some("token") => Ok("of-file\n".to_owned()),
                Some("odd") => Ok("of file".to_owned()),
                _ => Err(io::ErrorKind::NotFound.into()),
            };
            flags.read(&environment, &read_file).map(|found| found.is_some())
        };
        let (none, user) = (CredentialFlags::default(), Some("ann".to_owned()));
        let of_file = |path: &str| CredentialFlags { token_file: Some(path.into()), ..CredentialFlags::default() };
        assert_eq!(read(none.clone(), &[("MEMDB_TOKEN", ""), ("MEMDB_PASSWORD", "x")]), Ok(false));
        assert_eq!(read(none, &[("MEMDB_TOKEN", "t")]), Ok(true));
        assert_eq!(read(of_file("token"), &[]), Ok(true));
        let wanting = CredentialFlags { user, ..CredentialFlags::default() };
        assert_eq!(read(wanting.clone(), &[("MEMDB_PASSWORD", "x")]), Ok(true));
        assert!(read(wanting, &[]).expect_err("no password").contains("MEMDB_PASSWORD"));
        assert!(read(of_file("odd"), &[]).is_err_and(|why| !why.contains("of file")));
        assert!(read(of_file("lost"), &[]).is_err_and(|why| why.contains("--token-file lost")));
    }
}
