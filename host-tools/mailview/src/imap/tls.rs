//! TLS by rustls, with the machine's own certificates or those of a file. The handshake is done here as a whole, so that a
//! server that is not the one it should be is told from one that does not answer, before a byte of ours is sent.

use std::fmt::Display;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::error::ImapError;
use super::target::Target;
use crate::limits;

/// A connection that nobody can listen to.
pub(super) type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Secures a connection to `target`, whose certificate has to be signed by one of the machine's, or one in `authorities`.
///
/// # Errors
/// [`ImapError::Tls`] for a server that cannot be trusted, [`ImapError::Connection`] for one that went away.
pub(super) fn secure(
    mut stream: TcpStream,
    target: &Target,
    authorities: Option<&Path>,
) -> Result<Secured, ImapError> {
    let failed = |why: String| ImapError::Tls { host: target.host.clone(), why };
    let unusable = |why: &dyn Display| failed(why.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(trusted(authorities).map_err(failed)?)
        .with_no_client_auth();
    let name = ServerName::try_from(target.host.clone()).map_err(|error| unusable(&error))?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| unusable(&error))?;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut stream) {
            return Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(why) => failed(told(why, &target.host, authorities.is_some())),
                None => ImapError::Connection { host: target.host.clone(), port: target.port, source: error },
            });
        }
    }
    Ok(StreamOwned::new(connection, stream))
}

fn trusted(authorities: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            let told = |why: &dyn Display| format!("{}: {why}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| told(&error))? {
                let certificate = certificate.map_err(|error| told(&error))?;
                roots.add(certificate).map_err(|error| told(&error))?;
            }
            if roots.is_empty() {
                return Err(told(&"there is no certificate in this file"));
            }
        }
        None => {
            // Some of a machine's certificates may be of kinds that are not known here; the others do.
            let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("this machine trusts no certificate at all; give one with --ca-file".to_owned());
            }
        }
    }
    Ok(roots)
}

/// What is wrong, and what to do about it.
fn told(why: &rustls::Error, host: &str, named: bool) -> String {
    // The name of one's own authority on a certificate of another one is a bad signature.
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match why {
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) if named => {
            "its certificate is signed by none of the authorities in that file; name the file of its own one"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            "its certificate is signed by nobody whom this machine trusts; give its authority with --ca-file"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            "its certificate has expired (or the clock here is wrong); let its admin renew it".to_owned()
        }
        rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            "its certificate is not valid yet; set the clock here".to_owned()
        }
        rustls::Error::InvalidCertificate(NotValidForNameContext { presented, .. }) => format!(
            "its certificate is not for {host}, but for {}; name the server so",
            presented.iter().take(limits::NEAREST).map(|name| shown(name)).collect::<Vec<_>>().join(", ")
        ),
        rustls::Error::InvalidCertificate(NotValidForName) => {
            format!("its certificate is not for {host}; name the server as its certificate does")
        }
        rustls::Error::InvalidMessage(_) => {
            "what it says is no TLS; imap:// begins without and then asks for it".to_owned()
        }
        other => other.to_string(),
    }
}

/// A name in a certificate, which rustls gives as `DnsName("mail.example.org")`. Whoever answers may have written it.
fn shown(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    mailkeep_restorer::path::show(inner.trim_matches('"').as_bytes())
}
