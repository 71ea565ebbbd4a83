//! The way to the API: a trait, and its one implementation over reqwest.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use memchr::memmem;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::{Instant, timeout_at};

use crate::outcome::Kind;
use crate::provider::{Payload, Request, Response};
use crate::secret::Secret;

/// Longest answer read. What an API has to say fits into much less; the rest is dropped, and the connection with it.
const MAX_ANSWER: usize = 64 << 10;
/// Longest wait for a connection, part of the attempt's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections are dropped before servers and balancers drop them: a request on a connection that the other side is
/// closing ends as an unknown outcome.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// What is handed over to the client at a time. What it has been given counts as sent, so that a large text goes in pieces.
const PIECE: usize = 64 << 10;
/// How often an HTTP/2 connection in use is asked whether it is alive, and how long it has for its answer.
#[cfg(feature = "http2")]
const PING: Duration = Duration::from_secs(5);

/// Why there is no answer. Whether the API may have taken the mail is the difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportError {
    /// The request did not leave whole: nothing was taken.
    NotSent {
        /// The row of the outcome table.
        kind: Kind,
        /// What went wrong.
        detail: String,
    },
    /// The request left whole and no answer came: nobody knows.
    Lost {
        /// What went wrong.
        detail: String,
    },
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotSent { detail, .. } | Self::Lost { detail }) = self;
        f.write_str(detail)
    }
}

/// Sends a request and waits for its answer until `deadline`.
pub trait Transport: Send + Sync {
    /// One attempt.
    ///
    /// # Errors
    /// [`TransportError`] when there is no answer.
    fn send<'a>(&'a self, request: &'a Request, deadline: Instant) -> BoxFuture<'a, Result<Response, TransportError>>;
}

/// A key that is shorter than any real one may be a word of the answer by chance.
const SHORTEST_KEY: usize = 12;

/// One pooled HTTP client with one credential: redirects are never followed, certificates always verified.
pub struct HttpTransport {
    client: reqwest::Client,
    authorization: Option<HeaderValue>,
    /// The first address asked for, parsed: an account has but one.
    address: OnceLock<(String, reqwest::Url)>,
    max_answer: usize,
}

impl HttpTransport {
    /// A client for one account; `ca_pem` holds further certificate authorities.
    ///
    /// # Errors
    /// A sentence about the key, the certificates or the TLS set-up.
    pub fn new(api_key: Option<&Secret>, ca_pem: Option<&[u8]>) -> Result<Self, String> {
        let authorization = api_key.map(bearer).transpose()?;
        let client = builder()
            .tls_backend_preconfigured(tls_config(ca_pem)?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(1024)
            .tcp_nodelay(true)
            .user_agent(concat!("sidepost/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| format!("the HTTP client cannot be set up: {e}"))?;
        Ok(Self { client, authorization, address: OnceLock::new(), max_answer: MAX_ANSWER })
    }

    /// The same for answers up to so many octets: lists are longer than what a send call says.
    #[must_use]
    pub fn with_max_answer(self, octets: usize) -> Self {
        Self { max_answer: octets, ..self }
    }

    /// The address of a request; parsed once, as long as it is always the same.
    fn address(&self, url: &str) -> Result<reqwest::Url, TransportError> {
        if let Some((known, address)) = self.address.get()
            && known == url
        {
            return Ok(address.clone());
        }
        let address = reqwest::Url::parse(url)
            .map_err(|e| TransportError::NotSent { kind: Kind::Misconfigured, detail: format!("{url}: {e}") })?;
        let _ = self.address.set((url.to_owned(), address.clone()));
        Ok(address)
    }

    fn authorization_of(&self, request: &Request) -> Option<HeaderValue> {
        // A key that no header can carry was never let in; should one be, the API sees none and refuses.
        let own = request.api_key.as_ref().map(|key| bearer(key).ok());
        own.unwrap_or_else(|| self.authorization.clone())
    }

    fn request(&self, address: reqwest::Url, request: &Request, sent: Arc<AtomicBool>) -> reqwest::RequestBuilder {
        let mut builder = self
            .client
            .request(request.method.clone(), address)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .body(reqwest::Body::wrap(Upload::new(&request.body, sent)));
        if !request.body.is_empty() {
            builder = builder.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(authorization) = self.authorization_of(request) {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        builder
    }
}

impl Transport for HttpTransport {
    fn send<'a>(&'a self, request: &'a Request, deadline: Instant) -> BoxFuture<'a, Result<Response, TransportError>> {
        Box::pin(async move {
            let address = self.address(&request.url)?;
            let sent = Arc::new(AtomicBool::new(false));
            let answer = self.request(address, request, Arc::clone(&sent)).send();
            match timeout_at(deadline, answer).await {
                Ok(Ok(response)) => {
                    let response = read(response, deadline, self.max_answer).await;
                    let body = without_key(response.body, self.authorization_of(request).as_ref());
                    Ok(Response { body, ..response })
                }
                Ok(Err(error)) => Err(failure(&error, sent.load(Ordering::Acquire))),
                Err(_) if sent.load(Ordering::Acquire) => {
                    Err(TransportError::Lost { detail: "no answer in time".into() })
                }
                Err(_) => Err(TransportError::NotSent { kind: Kind::Interrupted, detail: "not sent in time".into() }),
            }
        })
    }
}

/// Reads the answer up to the limit and the deadline. A body that breaks off or stalls is an answer all the same: the
/// status has been said.
async fn read(mut response: reqwest::Response, deadline: Instant, most: usize) -> Response {
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let mut body = BytesMut::new();
    let complete = loop {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) if body.len() + chunk.len() <= most => body.extend_from_slice(&chunk),
            Ok(Ok(None)) => break true,
            _ => break false,
        }
    };
    Response { status, headers, body: body.freeze(), complete, received: SystemTime::now() }
}

/// The answer without the key, should the API repeat it: its words are told to clients, and written into the log.
fn without_key(body: Bytes, authorization: Option<&HeaderValue>) -> Bytes {
    let key = authorization.and_then(|value| value.as_bytes().strip_prefix(b"Bearer ")).unwrap_or_default();
    if key.len() < SHORTEST_KEY || memmem::find(&body, key).is_none() {
        return body;
    }
    let (mut clean, mut rest) = (BytesMut::new(), &body[..]);
    while let Some(at) = memmem::find(rest, key) {
        let (before, from) = rest.split_at(at);
        clean.extend_from_slice(before);
        clean.extend_from_slice(b"********");
        rest = from.get(key.len()..).unwrap_or_default();
    }
    clean.extend_from_slice(rest);
    clean.freeze()
}

/// Tells whether the mail can have been taken, and names the fault. A connect error never has sent anything; once the
/// request has left whole, whatever went wrong is an unknown outcome.
fn failure(error: &reqwest::Error, sent: bool) -> TransportError {
    let detail = chain(error);
    if sent && !error.is_connect() && !is_unprocessed(error) {
        return TransportError::Lost { detail };
    }
    let kind = if error.is_builder() {
        Kind::Misconfigured
    } else if is_tls(error) {
        Kind::Tls
    } else if !error.is_connect() {
        Kind::Interrupted
    } else if detail.to_ascii_lowercase().contains("dns") {
        Kind::Dns
    } else {
        Kind::Unreachable
    };
    TransportError::NotSent { kind, detail }
}

/// The last two links of the chain of causes, without the URL: the first ones only say that sending failed.
fn chain(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(link) = next {
        words.push(link.to_string());
        next = link.source();
    }
    words.dedup();
    // Which step of the client it was says nothing to whoever reads the reply.
    words.retain(|word| !word.starts_with("client error ("));
    let from = words.len().saturating_sub(2);
    match words.get(from..) {
        Some(last) if !last.is_empty() => last.join(": "),
        _ => "the request failed".to_owned(),
    }
}

fn is_tls(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(link) = next {
        if link.is::<rustls::Error>() {
            return true;
        }
        let inner = link.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => link.source(),
        };
    }
    false
}

/// Over HTTP/2 all requests share a connection. One that died silently is found out by its unanswered ping; else every
/// request on it would end as an unknown outcome.
#[cfg(feature = "http2")]
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().http2_keep_alive_interval(PING).http2_keep_alive_timeout(PING)
}

#[cfg(not(feature = "http2"))]
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
}

/// Whether the API says that it did not look at the request (RFC 9113 §8.7), which then was not sent at all.
#[cfg(feature = "http2")]
fn is_unprocessed(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(link) = next {
        if let Some(error) = link.downcast_ref::<h2::Error>().filter(|error| error.is_remote()) {
            // A GOAWAY fails the streams above the last one that it names, and those only.
            return error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
                || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        next = link.source();
    }
    false
}

#[cfg(not(feature = "http2"))]
fn is_unprocessed(_: &reqwest::Error) -> bool {
    false
}

fn bearer(key: &Secret) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
        .map_err(|_| "the API key holds a character that no HTTP header can carry; is a line end in it?".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// TLS 1.2 and 1.3 with Mozilla's authorities compiled in, so that an image without a file system can verify.
fn tls_config(ca_pem: Option<&[u8]>) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in ca_pem.into_iter().flat_map(CertificateDer::pem_slice_iter) {
        let certificate = certificate.map_err(|e| format!("ca_file holds no readable PEM certificate: {e}"))?;
        roots.add(certificate).map_err(|e| format!("ca_file holds a certificate that cannot be used: {e}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    if cfg!(feature = "http2") {
        // A prepared configuration is taken as it is: what is not offered here is never spoken.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(config)
}

/// A request body that knows when its last octet has been handed over.
struct Upload {
    chunks: Box<dyn Iterator<Item = Bytes> + Send + Sync>,
    chunk: Bytes,
    left: u64,
    sent: Arc<AtomicBool>,
}

impl Upload {
    fn new(payload: &Payload, sent: Arc<AtomicBool>) -> Self {
        // A body without octets is never asked for one: with the head everything has left.
        sent.store(payload.is_empty(), Ordering::Release);
        Self { chunks: Box::new(payload.chunks()), chunk: Bytes::new(), left: payload.len() as u64, sent }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while self.chunk.is_empty() {
            let Some(chunk) = self.chunks.next() else { return Poll::Ready(None) };
            self.chunk = chunk;
        }
        let next = PIECE.min(self.chunk.len());
        let piece = self.chunk.split_to(next);
        self.left = self.left.saturating_sub(piece.len() as u64);
        if self.left == 0 {
            self.sent.store(true, Ordering::Release);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
