//! The HTTP client over HTTP/2: what a stream that ends without an answer means. The server is made of bare frames.

use std::time::Duration;

use http::Method;
use sidepost::outcome::Kind;
use sidepost::provider::{Payload, Request, Response};
use sidepost::relay::http::{HttpTransport, Transport, TransportError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::http_client::self_signed;

// RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const NO_ERROR: u8 = 0;
const INTERNAL_ERROR: u8 = 2;
const REFUSED_STREAM: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 11;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

fn reset(error: u8) -> Vec<u8> {
    frame(RST_STREAM, 0, 1, &[0, 0, 0, error])
}

/// The last stream that was looked at, and why it ends.
fn go_away(last: u8, error: u8) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[0, 0, 0, last, 0, 0, 0, error])
}

/// `:status` by its name's place in the static table, and its value as it is (RFC 7541 §6.2.2).
fn accepted() -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &[8, 3, b'2', b'0', b'2'])
}

/// Reads frames until the request of the first stream is whole.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    assert!(preface.starts_with(b"PRI * HTTP/2.0"));
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == DATA && head[4] & END_STREAM != 0 {
            return;
        }
    }
}

/// One request to a server that reads it whole, writes these frames, and hangs up.
async fn post(frames: Vec<u8>) -> Result<Response, TransportError> {
    let (acceptor, pem) = self_signed(&[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(&frames).await.unwrap();
        let _ = stream.shutdown().await;
        // A second request would be a repetition that nobody asked for.
        let again = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        assert!(again.is_err(), "the request came again");
    });
    let transport = HttpTransport::new(None, Some(pem.as_bytes())).unwrap();
    let body = Payload::json(b"{}".to_vec());
    let request = Request { api_key: None, method: Method::POST, url, headers: Vec::new(), body };
    let answer = transport.send(&request, Instant::now() + Duration::from_secs(20)).await;
    served.await.unwrap();
    answer
}

#[tokio::test]
async fn http2_is_spoken_where_the_api_speaks_it() {
    assert_eq!(post(accepted()).await.unwrap().status, 202);
}

/// RFC 9113 §8.7: these two say that nobody looked at the request.
#[tokio::test]
async fn a_stream_that_nobody_looked_at_was_not_sent() {
    for frames in [reset(REFUSED_STREAM), go_away(0, NO_ERROR)] {
        let failed = post(frames).await;
        assert!(matches!(failed, Err(TransportError::NotSent { kind: Kind::Interrupted, .. })), "{failed:?}");
    }
}

#[tokio::test]
async fn any_other_end_of_a_stream_is_an_unknown_outcome() {
    for frames in [reset(INTERNAL_ERROR), go_away(1, NO_ERROR), go_away(1, ENHANCE_YOUR_CALM), Vec::new()] {
        let failed = post(frames).await;
        assert!(matches!(failed, Err(TransportError::Lost { .. })), "{failed:?}");
    }
}

/// An answer that came before the GOAWAY is an answer.
#[tokio::test]
async fn an_answer_and_a_goodbye_is_an_answer() {
    assert_eq!(post([go_away(1, NO_ERROR), accepted()].concat()).await.unwrap().status, 202);
}
