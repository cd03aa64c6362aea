//! `memdb certificate`: an authority and certificates of nodes, to try TLS with.

use crate::output::{CommandError, CommandResult, say};
use memdb::{
    base::clock::{Clock, LoggedTime},
    node::MachineClock,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

const EXAMPLES: &str = "\
EXAMPLES
  memdb certificate ./certs
  memdb certificate ./certs --name db-2 --host db-2.example --host 10.0.0.2

Makes an authority (ca.pem, ca-key.pem) unless the directory has one, and a certificate of it for a node (node.pem, \
node-key.pem), which a client may show too. Serve with it, and ask:
  memdb leader --tls-cert certs/node.pem --tls-key certs/node-key.pem
  memdb top --server https://127.0.0.1:8080 --tls-ca certs/ca.pem

It is meant for trying, and for clusters of your own. Whoever has ca-key.pem can pose as any node: keep it elsewhere.

Exits 0, 1 if the files cannot be written or are there already, 2 on wrong usage.";

/// Make an authority and a certificate, to try TLS with.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CertificateArguments {
    /// Directory for the files; made if it is not there.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Name of the certificate's files.
    #[arg(long, value_name = "NAME", default_value = "node")]
    name: String,

    /// Name or address that clients reach the node by; may be repeated [default: localhost, 127.0.0.1 and ::1].
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,

    /// Days for which the certificate is valid.
    #[arg(long, value_name = "NUMBER", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,
}

/// The name of every authority that this verb makes: with its key alone, more certificates can be made.
const AUTHORITY: &str = "memdb authority";
/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;
/// The clocks of nodes may be this far behind this machine's.
const LEEWAY: u64 = DAY;
/// Days for which the authority is valid.
const AUTHORITY_DAYS: u64 = 3_650;

#[allow(clippy::disallowed_methods, reason = "files of the operator, none of a database")]
pub fn run(arguments: &CertificateArguments) -> CommandResult {
    let directory = &arguments.directory;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if arguments.name == "ca" || arguments.name.is_empty() || !arguments.name.bytes().all(is_plain) {
        return Err(CommandError::Usage("--name: give letters, digits, -, _ and ., other than ca".to_owned()));
    }
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
    let issuer = authority(directory)?;
    let hosts = match &*arguments.host {
        [] => ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into(),
        hosts => hosts.to_vec(),
    };
    let unfit = |error: rcgen::Error| CommandError::Usage(format!("no certificate can be made: {error}"));
    let mut params = CertificateParams::new(hosts).map_err(unfit)?;
    params.distinguished_name.push(DnType::CommonName, arguments.name.as_str());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    set_validity(&mut params, arguments.days);
    let key = KeyPair::generate().map_err(unfit)?;
    let certificate = params.signed_by(&key, &issuer).map_err(unfit)?;
    let place = |end: &str| directory.join(format!("{}{end}", arguments.name));
    let (certificate_file, key_file) = (place(".pem"), place("-key.pem"));
    write_new(&key_file, &key.serialize_pem(), 0o600)?;
    write_new(&certificate_file, &certificate.pem(), 0o644)?;
    say(&format!("Certificate {}, key {}", certificate_file.display(), key_file.display()))?;
    say(&format!("of the authority {}, for {} days.", directory.join("ca.pem").display(), arguments.days))
}

/// The authority of the directory, or a new one.
#[allow(clippy::disallowed_methods, reason = "files of the operator, none of a database")]
fn authority(directory: &Path) -> Result<Issuer<'static, KeyPair>, CommandError> {
    let (certificate_file, key_file) = (directory.join("ca.pem"), directory.join("ca-key.pem"));
    let unfit = |error: rcgen::Error| CommandError::Failed(format!("{}: {error}", key_file.display()));
    let mut params = CertificateParams::new(Vec::new()).map_err(unfit)?;
    params.distinguished_name.push(DnType::CommonName, AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    set_validity(&mut params, AUTHORITY_DAYS);
    let key = match std::fs::read_to_string(&key_file) {
        Ok(text) => KeyPair::from_pem(&text).map_err(unfit)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = KeyPair::generate().map_err(unfit)?;
            let own = params.self_signed(&key).map_err(unfit)?;
            write_new(&certificate_file, &own.pem(), 0o644)?;
            write_new(&key_file, &key.serialize_pem(), 0o600)?;
            key
        }
        Err(error) => return Err(failed(&key_file, &error)),
    };
    Ok(Issuer::new(params, key))
}

fn set_validity(params: &mut CertificateParams, days: u64) {
    let now = MachineClock.wall().ahead_of_ms(LoggedTime::ZERO) as u64 / 1_000;
    let at = |seconds: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = at(now.saturating_sub(LEEWAY));
    params.not_after = at(now + days * DAY);
}

/// Writes a file that must not be there.
fn write_new(path: &Path, text: &str, mode: u32) -> CommandResult {
    #[allow(clippy::disallowed_methods, reason = "a file of the operator, none of a database")]
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> CommandError {
    let advice = if error.kind() == ErrorKind::AlreadyExists { ": give another --name, or remove it" } else { "" };
    CommandError::Failed(format!("{}: {error}{advice}", path.display()))
}
