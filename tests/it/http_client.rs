//! The HTTP client against real sockets: what is certainly not sent, what may have been taken, what is never done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use sidepost::outcome::Kind;
use sidepost::provider::{Payload, Pieces, Request, Response};
use sidepost::relay::http::{HttpTransport, Transport, TransportError};
use sidepost::secret::Secret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

const BODY: &str = r#"{"subject":"hi"}"#;

fn request(url: String) -> Request {
    Request { api_key: None, method: Method::POST, url, headers: Vec::new(), body: Payload::json(BODY.into()) }
}

async fn post(url: String, wait: Duration) -> Result<Response, TransportError> {
    let transport = HttpTransport::new(Some(&Secret::new("sg_test_key")), None).unwrap();
    transport.send(&request(url), Instant::now() + wait).await
}

/// Reads one request whole and gives it as text.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    while !all.ends_with(BODY.as_bytes()) {
        assert!(
            stream.read_buf(&mut all).await.unwrap() > 0,
            "the request broke off: {}",
            String::from_utf8_lossy(&all)
        );
    }
    String::from_utf8(all).unwrap()
}

/// A server for one connection that reads the request and then writes `answer`, or nothing, and closes.
async fn serve_once(answer: &'static [u8]) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v3/mail/send", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
        request
    });
    (url, served)
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_request_is_whole_and_carries_the_key() {
    let (url, served) = serve_once(b"HTTP/1.1 202 Accepted\r\nx-message-id: m1\r\ncontent-length: 2\r\n\r\n{}").await;
    let response = post(url, LONG).await.unwrap();
    assert_eq!((response.status, &response.body[..], response.complete), (202, &b"{}"[..], true));
    assert_eq!(response.headers["x-message-id"], "m1");
    let request = served.await.unwrap().to_ascii_lowercase();
    for line in [
        "post /v3/mail/send http/1.1\r\n",
        "authorization: bearer sg_test_key\r\n",
        "content-type: application/json\r\n",
        "accept: application/json\r\n",
        &format!("content-length: {}\r\n", BODY.len()),
        "user-agent: sidepost/",
    ] {
        assert!(request.contains(line), "{line:?} is missing in {request}");
    }
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert!(matches!(post(url, LONG).await, Err(TransportError::NotSent { kind: Kind::Unreachable, .. })));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_sent_nothing() {
    let failed = post("http://no-such-host.invalid/".into(), LONG).await;
    assert!(matches!(failed, Err(TransportError::NotSent { kind: Kind::Dns, .. })), "{failed:?}");
}

#[tokio::test]
async fn a_close_after_the_request_is_an_unknown_outcome() {
    let (url, _served) = serve_once(b"").await;
    assert!(matches!(post(url, LONG).await, Err(TransportError::Lost { .. })));
}

#[tokio::test]
async fn a_close_inside_the_headers_is_an_unknown_outcome() {
    let (url, _served) = serve_once(b"HTTP/1.1 202 Acc").await;
    assert!(matches!(post(url, LONG).await, Err(TransportError::Lost { .. })));
}

#[tokio::test]
async fn silence_is_an_unknown_outcome() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        // Holds the connection until the client gives up.
        stream.read_u8().await.unwrap_err()
    });
    let failed = post(url, Duration::from_millis(300)).await;
    assert_eq!(failed.unwrap_err(), TransportError::Lost { detail: "no answer in time".into() });
    silent.await.unwrap();
}

/// A server that takes the connection and never reads: a large body cannot have left whole.
#[tokio::test]
async fn a_stalled_upload_sent_nothing_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let transport = HttpTransport::new(None, None).unwrap();
    let large = Request { body: Payload::json(vec![b' '; 64 << 20]), ..request(url) };
    let pieces = Request { body: pieces(&large), ..large };
    let failed = transport.send(&pieces, Instant::now() + Duration::from_millis(300)).await;
    assert!(matches!(failed, Err(TransportError::NotSent { kind: Kind::Interrupted, .. })), "{failed:?}");
    drop(listener);
}

/// The same octets as an attachment, which is sent in chunks.
fn pieces(whole: &Request) -> Payload {
    use sidepost::message::{Attachment, Content};
    let content = Content::new(Bytes::from(whole.body.to_vec()), sidepost::message::TransferEncoding::Identity);
    let attachment =
        Attachment { filename: "a".into(), content_type: "a/b".into(), inline: false, content_id: None, content };
    let mut pieces = Pieces::of(b"{\"a\":1}".to_vec());
    pieces.attachments(&[attachment], |_| b"{\"b\":1}".to_vec());
    pieces.end()
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_answer_all_the_same() {
    let (url, _served) = serve_once(b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n{\"message_").await;
    let response = post(url, LONG).await.unwrap();
    assert_eq!((response.status, response.complete), (202, false));
}

/// The status has been said: a body that stalls does not make the outcome unknown.
#[tokio::test]
async fn a_body_that_stalls_is_an_answer_all_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let stalls = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n").await.unwrap();
        // Holds the connection until the client gives up.
        stream.read_u8().await.unwrap_err()
    });
    let response = post(url, Duration::from_millis(300)).await.unwrap();
    assert_eq!((response.status, response.complete), (202, false));
    stalls.await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (url, _served) =
        serve_once(b"HTTP/1.1 307 Temporary\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(post(url, LONG).await.unwrap().status, 307);
}

#[tokio::test]
async fn an_interim_answer_is_passed_over() {
    let (url, _served) =
        serve_once(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(post(url, LONG).await.unwrap().status, 202);
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
    });
    let response = post(url, LONG).await.unwrap();
    assert!(!response.complete && response.body.len() <= 64 << 10);
}

/// A TLS acceptor with a certificate that nobody knows but who has its PEM.
pub fn self_signed(protocols: &[&[u8]]) -> (tokio_rustls::TlsAcceptor, String) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], key.signing_key.serialize_der().try_into().unwrap())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (tokio_rustls::TlsAcceptor::from(Arc::new(config)), key.cert.pem())
}

/// A TLS server with a certificate that nobody but `ca_file` knows.
async fn serve_tls() -> (String, String) {
    let (acceptor, pem) = self_signed(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer_tls(stream).await;
            }
        }
    });
    (url, pem)
}

async fn answer_tls(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    read_request(&mut stream).await;
    stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn certificates_are_verified() {
    let (url, pem) = serve_tls().await;
    let failed = post(url.clone(), LONG).await;
    assert!(matches!(failed, Err(TransportError::NotSent { kind: Kind::Tls, .. })), "{failed:?}");
    let trusting = HttpTransport::new(None, Some(pem.as_bytes())).unwrap();
    assert_eq!(trusting.send(&request(url), Instant::now() + LONG).await.unwrap().status, 202);
}

#[test]
fn a_ca_file_without_certificates_that_can_be_used_is_an_error() {
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(HttpTransport::new(None, Some(broken.as_bytes())).is_err());
    assert!(HttpTransport::new(Some(&Secret::new("a\nb")), None).is_err_and(|e| !e.contains("a\nb")));
}
