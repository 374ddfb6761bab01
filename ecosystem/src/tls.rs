//! Certificates that a program makes for itself.

use rustls::crypto::CryptoProvider;
use std::error::Error;
use std::sync::Arc;

/// The name in the certificate.
pub const NAME: &str = "server.test";

/// The cryptography of ring.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The settings of a server with a certificate of its own for [`NAME`], and of a client that trusts it, both for
/// TLS 1.3.
///
/// # Errors
/// Those of the cryptography.
pub fn settings() -> Result<(rustls::ServerConfig, rustls::ClientConfig), Box<dyn Error + Send + Sync>> {
    let issued = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let certificate = issued.cert.der().clone();
    let versions = &[&rustls::version::TLS13];
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((server, client))
}
