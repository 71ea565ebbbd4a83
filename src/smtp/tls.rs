//! TLS 1.2 and 1.3 for the wire: certificates from PEM, exchanged while connections go on, and who a client certificate is.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config;
use crate::files::Watched;

/// How long a handshake may take.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(15);

/// What the server shows its clients; the newest that was sound.
#[derive(Debug)]
pub struct Tls {
    now: ArcSwap<ServerConfig>,
}

impl Tls {
    /// A certificate chain and its key, both as PEM. No client certificate is asked for.
    ///
    /// # Errors
    /// What is wrong with them; never what is in them.
    pub fn new(cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, String> {
        Self::with_client_ca(cert_pem, key_pem, None)
    }

    /// As [`Tls::new`]; with authorities, a client may show a certificate of theirs. One that is not of theirs ends the
    /// handshake.
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub fn with_client_ca(cert_pem: &[u8], key_pem: &[u8], client_ca_pem: Option<&[u8]>) -> Result<Self, String> {
        Ok(Self { now: ArcSwap::new(build(cert_pem, key_pem, client_ca_pem)?) })
    }

    /// Reads the files of `[smtp.tls]`; nothing when there are none.
    ///
    /// # Errors
    /// As [`Tls::new`], or which file cannot be read.
    pub fn open(settings: &config::Tls) -> Result<Option<(Arc<Self>, Watched)>, String> {
        if !settings.is_configured() {
            return Ok(None);
        }
        let paths = [&settings.cert, &settings.key, &settings.client_ca];
        let paths = paths.into_iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        let (watched, files) = Watched::open(paths)?;
        let tls = Self { now: ArcSwap::new(build_from(&files)?) };
        Ok(Some((Arc::new(tls), watched)))
    }

    /// Goes on for ever: takes the files anew when they change. Connections keep what they began with; what is broken is
    /// logged and not taken.
    pub async fn follow(self: Arc<Self>, mut files: Watched) {
        loop {
            match files.changed().await.and_then(|files| build_from(&files)) {
                Ok(config) => {
                    self.now.store(config);
                    tracing::info!("the new certificate is in force");
                }
                Err(error) => tracing::error!(error, "the new certificate is not taken; the old one stays"),
            }
        }
    }

    /// What the next handshake is done with.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.now.load_full())
    }

    /// One handshake; the stream, and whom the client's certificate names.
    ///
    /// # Errors
    /// The client spoke no TLS, or none that we do, or left.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Option<String>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.acceptor().accept(stream).await?;
        let principal = principal(stream.get_ref().1);
        Ok((stream, principal))
    }
}

/// Whom the client certificate of a connection names: its first DNS name, or its digest if it has none. It was verified in
/// the handshake.
pub fn principal(connection: &ServerConnection) -> Option<String> {
    let certificate = connection.peer_certificates()?.first()?;
    let parsed = webpki::EndEntityCert::try_from(certificate).ok();
    let named = parsed.and_then(|parsed| parsed.valid_dns_names().next().map(str::to_owned));
    Some(named.unwrap_or_else(|| fingerprint(certificate)))
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let mut text = "sha256:".to_owned();
    for octet in Sha256::digest(certificate) {
        let _ = write!(text, "{octet:02x}");
    }
    text
}

fn build_from(files: &[Vec<u8>]) -> Result<Arc<ServerConfig>, String> {
    match files {
        [cert, key, more @ ..] => build(cert, key, more.first().map(Vec::as_slice)),
        _ => Err("smtp.tls.cert and smtp.tls.key go together".to_owned()),
    }
}

fn build(cert_pem: &[u8], key_pem: &[u8], client_ca_pem: Option<&[u8]>) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(cert_pem, "smtp.tls.cert")?;
    // The parser's own errors are left out: they could show a line of the key.
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| "smtp.tls.key holds no private key as PEM")?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| e.to_string())?;
    let builder = match client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(pem, "smtp.tls.client_ca")? {
                roots.add(authority).map_err(|e| format!("smtp.tls.client_ca: {e}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.allow_unauthenticated().build();
            builder.with_client_cert_verifier(verifier.map_err(|e| format!("smtp.tls.client_ca: {e}"))?)
        }
    };
    let config = builder.with_single_cert(chain, key);
    config.map(Arc::new).map_err(|e| format!("smtp.tls.cert and smtp.tls.key do not serve together: {e}"))
}

fn certificates(pem: &[u8], key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(format!("{key} holds no certificate as PEM")),
    }
}
