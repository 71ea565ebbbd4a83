//! The relay's own TLS: versions 1.2 and 1.3, with one certificate.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The certificate with its key, ready to be shown.
pub struct Tls {
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Takes a chain of certificates, the relay's own first, and its key, both in PEM.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert_pem).collect();
        let chain = chain.map_err(|error| format!("the certificate cannot be read: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| format!("the key cannot be read: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| format!("certificate and key do not go together: {error}"))?;
        Ok(Self { config: Arc::new(config) })
    }

    /// What makes a stream an encrypted one.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// One handshake; the stream, and whom the client's certificate names: nobody, as none is asked for.
    ///
    /// # Errors
    /// The client spoke no TLS, or none that we do, or left.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Option<String>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        Ok((self.acceptor().accept(stream).await?, None))
    }
}
