//! TLS by rustls, with the machine's own certificates or those of a file.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::error::ImapError;

/// A connection that nobody can listen to.
pub(super) type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Secures a connection to `host`, whose certificate has to be signed by one of the machine's, or one in `authorities`.
pub(super) fn secure(
    stream: TcpStream,
    host: &str,
    authorities: Option<&Path>,
) -> Result<Secured, ImapError> {
    let failed = |why: String| ImapError::Tls { host: host.to_owned(), why };
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            let told = |why: &dyn std::fmt::Display| failed(format!("{}: {why}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| told(&error))? {
                let certificate = certificate.map_err(|error| told(&error))?;
                roots.add(certificate).map_err(|error| told(&error))?;
            }
        }
        None => {
            let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(failed("there is no certificate to trust; give one with --ca-file".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    let connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| failed(error.to_string()))?;
    Ok(StreamOwned::new(connection, stream))
}
