//! What went wrong with TLS, in words for whoever has to mend it.

use std::{error::Error, io};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, InvalidMessage};

/// Finds what TLS says behind an error, in words; `None` if it is none of TLS.
pub fn tls_reason(error: &(dyn Error + 'static)) -> Option<String> {
    tls_error(error).map(worded)
}

/// Says to whoever runs a server what is wrong with a certificate, its own or the client's; `None` if a handshake has
/// failed for something else.
pub(super) fn certificate_refusal(error: &io::Error) -> Option<String> {
    let why = match tls_error(error)? {
        rustls::Error::NoCertificatesPresented => {
            "the client has shown no certificate, and --tls-client-ca wants one".to_owned()
        }
        rustls::Error::InvalidCertificate(error) => worded_client_certificate(error),
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "the client refuses this node's certificate, which has expired".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::UnknownCA) => {
            "the client refuses this node's certificate, whose authority it does not know: nodes and memdb know those \
             of --tls-ca"
                .to_owned()
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::UnsupportedCertificate),
        ) => format!(
            "the client refuses this node's certificate ({alert:?}): does it name the host by which the client calls \
             this node?"
        ),
        _ => return None,
    };
    Some(why)
}

fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(cause) = next {
        // An `io::Error` leaves what it was made of out of its chain.
        let within = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref).map(|cause| cause as &dyn Error);
        let found = cause.downcast_ref::<rustls::Error>();
        let found = found.or_else(|| within.and_then(|within| within.downcast_ref::<rustls::Error>()));
        if found.is_some() {
            return found;
        }
        next = match within {
            Some(within) if within.source().is_none() && within.is::<io::Error>() => {
                return tls_error_within(within);
            }
            _ => cause.source(),
        };
    }
    None
}

/// An `io::Error` within another.
fn tls_error_within<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)?.downcast_ref::<rustls::Error>()
}

/// Says what an error of TLS means.
pub(super) fn worded(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => worded_certificate(error),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what is there does not speak TLS: if it is plain HTTP, the address begins with http://".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate from its clients: give --tls-cert FILE and --tls-key FILE".to_owned()
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::UnsupportedCertificate,
        ) => "it refuses this side's certificate: its --tls-client-ca does not have the authority of it".to_owned(),
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "it refuses this side's certificate, which has expired".to_owned()
        }
        rustls::Error::NoCertificatesPresented => "the client has shown no certificate".to_owned(),
        rustls::Error::General(told) => told.clone(),
        other => other.to_string(),
    }
}

fn worded_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate is of an authority that is not trusted here: give the authority's certificate with \
             --tls-ca FILE"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            match &**presented {
                [] => format!("its certificate is not for {expected}, and names nothing"),
                names => {
                    let names: Vec<_> = names.iter().map(|name| bare_name(name)).collect();
                    format!("its certificate is for {}, not for {expected}", names.join(", "))
                }
            }
        }
        CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its certificate has expired ({error})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet ({error}): is the clock of this machine right?")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for this use: a node's needs serverAuth and clientAuth as extended key usage"
                .to_owned()
        }
        CertificateError::BadSignature => "its certificate was signed by another key than its authority's".to_owned(),
        other => format!("its certificate cannot be used: {other}"),
    }
}

/// The name in `DnsName("db.example")` or `IpAddress(10.0.0.1)`, as rustls gives what a certificate has.
fn bare_name(presented: &str) -> &str {
    let within = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    within.unwrap_or(presented).trim_matches('"')
}

/// The same to the server that was shown it.
fn worded_client_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "the client's certificate is of an authority that --tls-client-ca does not have".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the client's certificate has expired ({error})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the client's certificate is not valid yet ({error}): is the clock of this machine right?")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the client's certificate is not for this use: it needs clientAuth as extended key usage".to_owned()
        }
        other => format!("the client's certificate cannot be used: {other}"),
    }
}
