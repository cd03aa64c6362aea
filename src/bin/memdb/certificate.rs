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
    fmt::Display,
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_cert::{Certificate, der::Decode, name::Name};

const EXAMPLES: &str = "\
EXAMPLES
  memdb certificate ./certs
  memdb certificate ./certs --name db-2 --host db-2.example --host 10.0.0.2

Makes an authority (ca.pem, ca-key.pem) unless the directory has one, whoever made it, and a certificate of it for a \
node (node.pem, node-key.pem), which a client may show too. Serve with it, and ask:
  memdb leader --tls-cert certs/node.pem --tls-key certs/node-key.pem
  memdb top --server https://127.0.0.1:8080 --tls-ca certs/ca.pem

It is meant for trying, and for clusters of your own. Whoever has ca-key.pem can pose as any node: keep it elsewhere.

Exits 0, 1 if the files cannot be written, are there already or do not fit each other, 2 on wrong usage.";

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
    let place = |end: &str| directory.join(format!("{}{end}", arguments.name));
    let files = PairFiles { certificate: place(".pem"), key: place("-key.pem") };
    files.must_be_new("give another --name, or remove it")?;
    let authority = SigningAuthority::of(directory)?;
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
    let certificate = params.signed_by(&key, &authority.issuer).map_err(unfit)?;
    let authority_file = directory.join("ca.pem");
    if read_certificate(certificate.der(), &authority_file)?.tbs_certificate.issuer != authority.name {
        return Err(CommandError::Failed(format!(
            "{} has a name of a form that is not written here: make the certificate with what made the authority",
            authority_file.display()
        )));
    }
    files.write(&certificate.pem(), &key.serialize_pem())?;
    say(&format!("Certificate {}, key {}", files.certificate.display(), files.key.display()))?;
    say(&format!("of the authority {}, for {} days.", authority_file.display(), arguments.days))
}

/// An authority whose key is there.
struct SigningAuthority {
    issuer: Issuer<'static, KeyPair>,
    /// Its name, as certificates of it must have it, to the byte.
    name: Name,
}

impl SigningAuthority {
    /// The authority of a directory, whoever made it, or a new one.
    fn of(directory: &Path) -> Result<Self, CommandError> {
        let files = PairFiles { certificate: directory.join("ca.pem"), key: directory.join("ca-key.pem") };
        let missing = |missing: &Path, other: &Path| {
            let (missing, other) = (missing.display(), other.display());
            let advice = "put it there, or give a directory that has neither";
            CommandError::Failed(format!("{missing} is missing, which belongs to {other}: {advice}"))
        };
        match (read(&files.certificate)?, read(&files.key)?) {
            (None, None) => Self::make(&files),
            (Some(certificates), Some(key)) => Self::find(&files, &certificates, &key),
            (Some(_), None) => Err(missing(&files.key, &files.certificate)),
            (None, Some(_)) => Err(missing(&files.certificate, &files.key)),
        }
    }

    fn make(files: &PairFiles) -> Result<Self, CommandError> {
        let unfit = |error: rcgen::Error| CommandError::Failed(format!("no authority can be made: {error}"));
        let mut params = CertificateParams::new(Vec::new()).map_err(unfit)?;
        params.distinguished_name.push(DnType::CommonName, "memdb authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        set_validity(&mut params, AUTHORITY_DAYS);
        let key = KeyPair::generate().map_err(unfit)?;
        let own = params.self_signed(&key).map_err(unfit)?;
        files.write(&own.pem(), &key.serialize_pem())?;
        let name = read_certificate(own.der(), &files.certificate)?.tbs_certificate.subject;
        Ok(Self { issuer: Issuer::new(params, key), name })
    }

    /// The one of the certificates that the key belongs to.
    fn find(files: &PairFiles, certificates: &str, key: &str) -> Result<Self, CommandError> {
        let unfit = |path: &Path, error: &dyn Display| CommandError::Failed(format!("{}: {error}", path.display()));
        let key = KeyPair::from_pem(key).map_err(|error| unfit(&files.key, &error))?;
        for found in CertificateDer::pem_slice_iter(certificates.as_bytes()) {
            let found = found.map_err(|error| unfit(&files.certificate, &error))?;
            let own = read_certificate(&found, &files.certificate)?.tbs_certificate;
            if own.subject_public_key_info.subject_public_key.raw_bytes() == key.public_key_raw() {
                let issuer = Issuer::from_ca_cert_der(&found, key);
                let issuer = issuer.map_err(|error| unfit(&files.certificate, &error))?;
                return Ok(Self { issuer, name: own.subject });
            }
        }
        let (key, certificate) = (files.key.display(), files.certificate.display());
        Err(CommandError::Failed(format!("{key} is not the key of {certificate}: put the one there that is")))
    }
}

/// A certificate and its key.
struct PairFiles {
    certificate: PathBuf,
    key: PathBuf,
}

impl PairFiles {
    /// Refuses if one of the two is there: the other one would not fit it.
    fn must_be_new(&self, advice: &str) -> CommandResult {
        match [&self.certificate, &self.key].into_iter().find(|path| path.symlink_metadata().is_ok()) {
            Some(path) => Err(CommandError::Failed(format!("{}: it is there already: {advice}", path.display()))),
            None => Ok(()),
        }
    }

    /// Writes both, or neither.
    #[allow(clippy::disallowed_methods, reason = "files of the operator, none of a database")]
    fn write(&self, certificate: &str, key: &str) -> CommandResult {
        write_new(&self.key, key, 0o600)?;
        write_new(&self.certificate, certificate, 0o644).inspect_err(|_| {
            let _ = std::fs::remove_file(&self.key);
        })
    }
}

fn read_certificate(der: &CertificateDer<'_>, path: &Path) -> Result<Certificate, CommandError> {
    let unfit = |error| CommandError::Failed(format!("{} holds no certificate: {error}", path.display()));
    Certificate::from_der(der).map_err(unfit)
}

/// The content of a file; none if it is not there.
#[allow(clippy::disallowed_methods, reason = "files of the operator, none of a database")]
fn read(path: &Path) -> Result<Option<String>, CommandError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
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
    CommandError::Failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "files of the operator, none of a database")]
mod tests {
    use super::*;
    use rcgen::{DistinguishedName, PKCS_ECDSA_P384_SHA384};
    use std::fs;
    use tempfile::TempDir;

    fn made(directory: &TempDir, name: &str) -> Result<(), String> {
        let directory = directory.path().to_owned();
        let arguments = CertificateArguments { directory, name: name.to_owned(), host: vec![], days: 1 };
        run(&arguments).map_err(|error| error.to_string())
    }

    fn names(directory: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory.path()).expect("a directory");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name().into_string()).collect();
        names.sort_unstable();
        names.into_iter().map(|name| name.expect("UTF-8")).collect()
    }

    /// An authority of somebody else: with another name, and another kind of key.
    fn write_foreign_authority(directory: &TempDir) {
        write_authority(directory, |name| name.push(DnType::OrganizationName, "somebody else"));
    }

    fn write_authority(directory: &TempDir, more: impl Fn(&mut DistinguishedName)) {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "my authority");
        more(&mut params.distinguished_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("room");
        fs::write(directory.path().join("ca-key.pem"), key.serialize_pem()).expect("room");
    }

    fn certificate(directory: &TempDir, name: &str) -> Certificate {
        let read = CertificateDer::from_pem_file(directory.path().join(name)).expect("a certificate");
        Certificate::from_der(&read).expect("a certificate")
    }

    #[test]
    fn a_certificate_is_of_the_authority_that_the_directory_has() {
        for is_foreign in [false, true] {
            let directory = TempDir::new().expect("a directory");
            if is_foreign {
                write_foreign_authority(&directory);
            }
            made(&directory, "node").expect("a certificate");
            made(&directory, "db-2").expect("another one");
            let authority = certificate(&directory, "ca.pem").tbs_certificate.subject;
            assert_eq!(authority.to_string().contains("my authority"), is_foreign);
            for name in ["node.pem", "db-2.pem"] {
                assert_eq!(certificate(&directory, name).tbs_certificate.issuer, authority, "{name}");
            }
        }
    }

    #[test]
    fn an_authority_whose_name_cannot_be_written_is_refused() {
        let directory = TempDir::new().expect("a directory");
        // Two parts of one kind, as in DC=example, DC=com: rcgen reads the last one alone.
        write_authority(&directory, |name| name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "and mine"));
        let why = made(&directory, "node").expect_err("its issuer would be another");
        assert!(why.contains("a name of a form that is not written here"), "{why}");
        assert_eq!(names(&directory), ["ca-key.pem", "ca.pem"]);
    }

    #[test]
    fn half_an_authority_is_told_as_such_and_nothing_is_written() {
        for (missing, other) in [("ca-key.pem", "ca.pem"), ("ca.pem", "ca-key.pem")] {
            let directory = TempDir::new().expect("a directory");
            write_foreign_authority(&directory);
            fs::remove_file(directory.path().join(missing)).expect("it is there");
            let why = made(&directory, "node").expect_err("it cannot sign");
            assert!(why.contains(&format!("{missing} is missing")) && !why.contains("--name"), "{why}");
            assert_eq!(names(&directory), [other]);
        }
        // A key that is of another authority.
        let [directory, other] = [(); 2].map(|()| TempDir::new().expect("a directory"));
        write_foreign_authority(&directory);
        write_foreign_authority(&other);
        fs::copy(other.path().join("ca-key.pem"), directory.path().join("ca-key.pem")).expect("room");
        let why = made(&directory, "node").expect_err("it would be of nobody");
        assert!(why.contains("is not the key of"), "{why}");
        assert_eq!(names(&directory), ["ca-key.pem", "ca.pem"]);
    }

    #[test]
    fn a_pair_of_which_one_file_is_there_is_left_as_it_is() {
        for left in ["node.pem", "node-key.pem"] {
            let directory = TempDir::new().expect("a directory");
            made(&directory, "node").expect("a certificate");
            let gone = if left == "node.pem" { "node-key.pem" } else { "node.pem" };
            fs::remove_file(directory.path().join(gone)).expect("it is there");
            let why = made(&directory, "node").expect_err("the other one is there");
            assert!(why.contains(&format!("{left}: ")) && why.contains("give another --name"), "{why}");
            assert!(!directory.path().join(gone).exists(), "{gone} would not fit");
        }
    }
}
