//! An API on a real socket that does what a fault says, and the time that stands still while octets travel.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sidepost::provider::{Request, Response};
use sidepost::relay::http::{HttpTransport, Transport, TransportError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

/// What the API does next on a connection.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Reads the whole request.
    Read,
    /// Reads its header only.
    ReadHead,
    /// Takes the mail: it will be delivered, whatever comes now.
    Take,
    /// Writes these octets.
    Say(&'static str),
    /// Writes these octets, one a second.
    Drip(&'static str),
    /// Writes without an end.
    Flood,
    /// Reads what comes, and forgets it.
    Drain,
    /// Does nothing until the other side hangs up.
    Silence,
    /// Ends the connection by RST.
    Reset,
    /// Speaks TLS with a certificate that nobody trusts.
    Handshake,
}

/// Paused time runs ahead whenever nothing but a timer is left to wait for, and knows nothing of octets on their way. So
/// it is held from the beginning of a request to its end, or until the API has nothing more to do than let it pass.
#[derive(Default)]
pub struct Time(Mutex<Option<mpsc::Sender<()>>>);

impl Time {
    /// tokio's time does not run ahead while a blocking task runs; this one ends with the sender.
    fn hold(&self) {
        let (sender, held) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || held.recv_timeout(Duration::from_mins(1)));
        *self.0.lock().unwrap() = Some(sender);
    }

    pub fn pass(&self) {
        *self.0.lock().unwrap() = None;
    }
}

/// The real client, for whose requests time is held.
pub struct Held {
    pub inner: HttpTransport,
    pub time: Arc<Time>,
    /// How many mails were posted. Questions are not counted.
    pub requests: Mutex<usize>,
}

impl Transport for Held {
    fn send<'a>(&'a self, request: &'a Request, deadline: Instant) -> BoxFuture<'a, Result<Response, TransportError>> {
        *self.requests.lock().unwrap() += usize::from(request.method == http::Method::POST);
        Box::pin(async move {
            self.time.hold();
            let answer = self.inner.send(request, deadline).await;
            self.time.pass();
            answer
        })
    }
}

/// The API of one run.
pub struct Api {
    pub time: Arc<Time>,
    /// How many requests came whole.
    pub whole: Mutex<usize>,
    /// How many mails were taken.
    pub taken: Mutex<usize>,
    /// The marker of the last mail.
    pub marker: Mutex<Option<String>>,
    /// What is done on the connections that come now; those for once first.
    pub plan: Mutex<(&'static [Step], Option<&'static [Step]>)>,
}

impl Api {
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut begin = [0; 4];
            if stream.peek(&mut begin).await.is_ok() && begin == *b"GET " {
                tokio::spawn(Arc::clone(&self).show(stream));
                continue;
            }
            let steps = {
                let mut plan = self.plan.lock().unwrap();
                plan.1.take().unwrap_or(plan.0)
            };
            tokio::spawn(Arc::clone(&self).talk(stream, steps));
        }
    }

    /// Answers one question for the mail, truly.
    async fn show(self: Arc<Self>, mut stream: TcpStream) {
        let mut question = vec![0; 4096];
        let _ = stream.read(&mut question).await;
        let marker = self.marker.lock().unwrap().clone().unwrap_or_default();
        let item =
            format!(r#"{{"id":"m1","to_emails":["ann@example.net"],"custom_args":{{"sidepost_id":"{marker}"}}}}"#);
        let items = if *self.taken.lock().unwrap() > 0 { &*item } else { "" };
        let body = format!("{{\"messages\":[{items}]}}");
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let _ = stream.write_all((head + &body).as_bytes()).await;
    }

    /// Whatever the other side does in the middle of it is not the API's affair.
    async fn talk(self: Arc<Self>, mut stream: TcpStream, steps: &'static [Step]) {
        for step in steps {
            match step {
                Step::Read => {
                    let Some(request) = read(&mut stream, true).await else { return };
                    let marker = request.split_once("\"sidepost_id\":\"").map(|(_, rest)| rest[..32].to_owned());
                    *self.marker.lock().unwrap() = marker;
                    *self.whole.lock().unwrap() += 1;
                }
                Step::ReadHead => assert!(read(&mut stream, false).await.is_some()),
                Step::Take => *self.taken.lock().unwrap() += 1,
                Step::Say(octets) => drop(stream.write_all(octets.as_bytes()).await),
                Step::Drip(octets) => {
                    self.time.pass();
                    for octet in octets.bytes() {
                        sleep(Duration::from_secs(1)).await;
                        let _ = stream.write_all(&[octet]).await;
                    }
                }
                Step::Flood => while stream.write_all(&[b'x'; 8192]).await.is_ok() {},
                Step::Drain => {
                    let mut room = vec![0; 65536];
                    while stream.read(&mut room).await.is_ok_and(|octets| octets > 0) {}
                }
                Step::Silence => {
                    self.time.pass();
                    // An error, once the sender has gone and left octets unread.
                    while stream.ready(tokio::io::Interest::ERROR).await.is_err() {}
                }
                Step::Reset => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
                Step::Handshake => {
                    let _ = crate::http_client::self_signed(&[]).0.accept(&mut stream).await;
                }
            }
        }
    }
}

/// Reads one request, whole or to the end of its header, if it comes.
async fn read(stream: &mut TcpStream, whole: bool) -> Option<String> {
    let mut octets = Vec::new();
    let mut missing = usize::MAX;
    while missing > 0 {
        if !stream.read_buf(&mut octets).await.is_ok_and(|octets| octets > 0) {
            return None;
        }
        let Some(head) = octets.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&octets[..head]).to_lowercase();
        let length = text.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
        let length: usize = length.parse().unwrap();
        missing = if whole { (head + 4 + length).saturating_sub(octets.len()) } else { 0 };
    }
    Some(String::from_utf8_lossy(&octets).into_owned())
}
