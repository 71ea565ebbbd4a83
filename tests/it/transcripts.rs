//! Golden dialogues: each file in tests/transcripts is a story over the whole relay, with paused time.
//!
//! ```text
//! #! key=value …   configuration, and client=ADDRESS, encrypted, lmtp, auth[=required], passthrough, tls[=required]
//! #                why
//! C: line          the client sends a line with CRLF
//! C< octets        the client sends exactly these (\r \n \0 \xHH \\, and {text*1000} repeats)
//! S: line          the server says exactly this; ids read <id>; "(closed)" is the end of the connection
//! A> POST path {…} the API gets this request, or GET path; <1> is the first mail's marker, <date> a date
//! A< answer        and does this: 202 {…}, 429 retry-after: 2, lost, never, or not-sent KIND
//! E: main KIND ADDRESS [2026-11-20]   an event of the account's webhook comes, and has its effects
//! T: 5s            time passes
//! X:               the client hangs up, and connects anew
//! D:               the relay begins to shut down
//! ```
//! `UPDATE=1` rewrites what the server and the relay say.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::Value;
use sidepost::feedback::Feedback;
use sidepost::metrics::Metrics;
use sidepost::outcome::TABLE;
use sidepost::provider::{Request, Response};
use sidepost::recent::Recent;
use sidepost::relay::Relay;
use sidepost::relay::http::{Transport, TransportError};
use sidepost::smtp::{Greeted, Protocol, Server, connection};
use sidepost::store::Store;
use sidepost::suppression::Policy;
use sidepost::users::Passthrough;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::smtp_world::{Users, from, tls};
use crate::world::{address, config, relay_with};

/// Longer than any timer of the relay: what has not happened by then never will.
const NEVER: Duration = Duration::from_secs(100_000);

/// Somebody who could log in, for the rules; who may is [`Users`]'s to say.
const ANN: &str = "smtp.auth.users.ann=$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$4T0yM1tGMQ0Kf7yV5h4yXg";

type Answer = Result<Response, TransportError>;

/// An API whose every answer the story gives.
struct Api {
    requests: mpsc::UnboundedSender<(String, oneshot::Sender<Answer>)>,
}

impl Transport for Api {
    fn send<'a>(&'a self, request: &'a Request, deadline: Instant) -> BoxFuture<'a, Answer> {
        let path = request.url.splitn(4, '/').nth(3).unwrap();
        let (give, take) = oneshot::channel();
        let mut told = format!("{} /{path}", request.method);
        if !request.body.is_empty() {
            let body: Value = serde_json::from_slice(&request.body.to_vec()).unwrap();
            told.push_str(&format!(" {body}"));
        }
        self.requests.send((told, give)).unwrap();
        Box::pin(async move {
            if let Ok(Ok(answer)) = timeout_at(deadline, take).await {
                return answer;
            }
            // The story says "never", or is over.
            sleep_until(deadline).await;
            Err(TransportError::Lost { detail: "no answer in time".into() })
        })
    }
}

struct Story {
    server: Arc<Server<Relay>>,
    store: Store,
    policy: Policy,
    peer: Greeted,
    stream: BufReader<DuplexStream>,
    requests: mpsc::UnboundedReceiver<(String, oneshot::Sender<Answer>)>,
    unanswered: Vec<oneshot::Sender<Answer>>,
    /// What `<1>`, `<2>` … stand for.
    markers: Vec<String>,
}

impl Story {
    fn begin(flags: &[&str]) -> Self {
        let client = flags.iter().find_map(|f| f.strip_prefix("client=")).unwrap_or("127.0.0.1");
        let protocol = if flags.contains(&"lmtp") { Protocol::Lmtp } else { Protocol::Smtp };
        let peer = Greeted { encrypted: flags.contains(&"encrypted"), protocol, ..from(client.parse().ok()) };
        let (keys, flags): (Vec<&str>, Vec<&str>) =
            flags.iter().partition(|f| f.contains('.') && !f.starts_with("client="));
        let mut keys = keys;
        if flags.contains(&"auth=required") {
            keys.extend(["smtp.auth.required=true", ANN]);
        }
        if flags.contains(&"passthrough") {
            keys.extend(["smtp.auth.required=true", "smtp.auth.passthrough=true"]);
        }
        let config = config(&keys);
        let metrics = Arc::new(Metrics::default());
        let (send, requests) = mpsc::unbounded_channel();
        let transport: Arc<dyn Transport> = Arc::new(Api { requests: send });
        let refused_keys = Arc::new(Recent::new(Duration::from_mins(10)).unwrap());
        let store = Store::open(&config.state, &config.suppression).unwrap();
        let relay = relay_with(&config, store.clone(), &transport, &refused_keys, &metrics);
        let mut server = Server::new(&config.smtp, &config.delivery, relay, metrics);
        for flag in flags {
            server = match flag {
                "auth" | "auth=required" => server.with_auth(Arc::new(Users)),
                "passthrough" => server.with_auth(Arc::new(Passthrough::new(Arc::clone(&refused_keys)))),
                "tls" | "tls=required" => server.with_tls(tls().0, flag != "tls"),
                _ => server,
            };
        }
        let server = Arc::new(server);
        let stream = Self::connect(&server, &peer);
        let policy = config.suppression;
        Self { server, store, policy, peer, stream, requests, unanswered: Vec::new(), markers: Vec::new() }
    }

    fn connect(server: &Arc<Server<Relay>>, peer: &Greeted) -> BufReader<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(connection::serve(theirs, peer.clone(), Arc::clone(server)));
        BufReader::new(ours)
    }

    /// Plays one line; for what the relay says, the line as it really was.
    async fn play(&mut self, line: &str) -> Option<String> {
        let (voice, rest) = line.split_at(line.len().min(2));
        let text = rest.strip_prefix(' ').unwrap_or(rest);
        match voice {
            "C:" => self.write(&[&unescape(text)[..], b"\r\n"].concat()).await,
            "C<" => self.write(&unescape(text)).await,
            "T:" => tokio::time::sleep(humantime::parse_duration(text).unwrap()).await,
            "X:" => self.stream = Self::connect(&self.server, &self.peer),
            "D:" => self.server.shut_down(),
            "E:" => self.hear(text).await,
            "A<" => self.answer(text),
            "S:" => return Some(format!("S: {}", self.read().await)),
            "A>" => return Some(format!("A> {}", self.request().await)),
            _ => assert!(line.is_empty() || line.starts_with('#'), "no voice says {line:?}"),
        }
        None
    }

    async fn hear(&mut self, event: &str) {
        let words: Vec<&str> = event.split(' ').collect();
        let at = words.get(3).map_or_else(
            || UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            |date| humantime::parse_rfc3339(&format!("{date}T12:00:00Z")).unwrap(),
        );
        let feedback = Feedback {
            event_id: uuid::Uuid::new_v4().to_string(),
            kind: words[1].parse().unwrap(),
            word: words[1].to_owned(),
            at,
            message_id: Some("msg_1".to_owned()),
            recipient: Some(address(words[2])),
            reason: Some("550 5.1.1 nobody here".to_owned()),
            raw: Bytes::from_static(b"{}"),
        };
        assert_eq!(self.store.take(words[0], vec![feedback], SystemTime::now(), false).await, Ok(vec![true]));
        self.store.act(&self.policy, 10).await.unwrap();
    }

    async fn write(&mut self, octets: &[u8]) {
        // A server that has hung up is seen at the next S:.
        let _ = self.stream.get_mut().write_all(octets).await;
    }

    async fn read(&mut self) -> String {
        let mut line = Vec::new();
        match timeout(NEVER, self.stream.read_until(b'\n', &mut line)).await {
            Ok(Ok(0)) => "(closed)".to_owned(),
            Ok(Ok(_)) => {
                hide_ids(String::from_utf8_lossy(&line).strip_suffix("\r\n").expect("a reply line ends with CRLF"))
            }
            other => format!("(nothing: {other:?})"),
        }
    }

    async fn request(&mut self) -> String {
        match timeout(NEVER, self.requests.recv()).await {
            Ok(Some((request, answer))) => {
                self.unanswered.push(answer);
                self.hide_markers(&request)
            }
            _ => "(nothing)".to_owned(),
        }
    }

    /// Markers become numbers in their order, and dates, which are today's, a word.
    fn hide_markers(&mut self, request: &str) -> String {
        let mut hidden = request.to_owned();
        if let Some((_, date)) = request.split_once("start_date=") {
            hidden = hidden.replace(&date[..10], "<date>");
        }
        if let Some((_, marker)) = request.split_once("\"sidepost_id\":\"") {
            let marker = marker[..32].to_owned();
            if !self.markers.contains(&marker) {
                self.markers.push(marker);
            }
        }
        for (n, marker) in self.markers.iter().enumerate() {
            hidden = hidden.replace(marker, &format!("<{}>", n + 1));
        }
        hidden
    }

    fn answer(&mut self, text: &str) {
        let mut text = text.to_owned();
        for (n, marker) in self.markers.iter().enumerate() {
            text = text.replace(&format!("<{}>", n + 1), marker);
        }
        let text = text.as_str();
        let give = self.unanswered.remove(0);
        let answer = match text.split(' ').next().unwrap() {
            "never" => return,
            "lost" => Err(TransportError::Lost { detail: "connection reset".into() }),
            "not-sent" => {
                let row = TABLE.iter().find(|row| text.ends_with(row.name)).expect("a kind of the table");
                Err(TransportError::NotSent { kind: row.kind, detail: "scripted".into() })
            }
            _ => Ok(parse_answer(text)),
        };
        let _ = give.send(answer);
    }
}

/// `STATUS [name: value; name: value] [body]`; the body begins at the first `{` or `<`.
fn parse_answer(text: &str) -> Response {
    let start = text.find(['{', '<']).unwrap_or(text.len());
    let (head, body) = text.split_at(start);
    let (status, headers) = head.split_once(' ').unwrap_or((head, ""));
    let headers = headers.split(';').filter_map(|h| h.trim().split_once(": "));
    Response {
        status: status.parse().unwrap(),
        headers: headers.map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect(),
        body: Bytes::from(body.to_owned()),
        complete: true,
        received: SystemTime::now(),
    }
}

/// The octets that a transcript writes so.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '{' if rest.split_once('}').is_some_and(|(inner, _)| inner.contains('*')) => {
                let (inner, after) = rest.split_once('}').unwrap();
                let (what, count) = inner.rsplit_once('*').unwrap();
                out.extend(unescape(what).repeat(count.parse().unwrap()));
                rest = after;
            }
            '\\' => {
                let escaped = rest.chars().next().unwrap();
                rest = &rest[1..];
                match escaped {
                    'r' => out.push(b'\r'),
                    'n' => out.push(b'\n'),
                    't' => out.push(b'\t'),
                    '0' => out.push(0),
                    '\\' => out.push(b'\\'),
                    'x' => {
                        out.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                        rest = &rest[2..];
                    }
                    other => panic!("unknown escape \\{other}"),
                }
            }
            c => out.extend(c.to_string().as_bytes()),
        }
    }
    out
}

/// Transaction ids are 32 hex digits, and never the same.
fn hide_ids(line: &str) -> String {
    let is_id = |w: &str| w.len() == 32 && w.bytes().all(|b| b.is_ascii_hexdigit());
    let hide = |word: &str| match word.strip_prefix("id=") {
        Some(id) if is_id(id) => "id=<id>".to_owned(),
        None if is_id(word) => "<id>".to_owned(),
        _ => word.to_owned(),
    };
    line.split(' ').map(hide).collect::<Vec<_>>().join(" ")
}

async fn tell(file: &Path) -> (String, String) {
    let text = fs::read_to_string(file).unwrap();
    let mut story = Story::begin(&flags(&text));
    let mut told = String::new();
    for line in text.lines() {
        let real = story.play(line).await.unwrap_or_else(|| line.to_owned());
        told.push_str(&real);
        told.push('\n');
    }
    (text, told)
}

/// What a transcript's `#!` lines say.
pub fn flags(text: &str) -> Vec<&str> {
    text.lines().filter_map(|l| l.strip_prefix("#! ")).flat_map(|l| l.split(' ')).collect()
}

pub fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "txt"));
    files.sort();
    files
}

#[test]
fn stories_are_told_as_they_were() {
    let mut failed = Vec::new();
    let stories = stories();
    for file in &stories {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (text, told) = runtime.block_on(tell(file));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(file, &told).unwrap();
        } else if text != told {
            let differs = text.lines().zip(told.lines()).filter(|(a, b)| a != b);
            let lines: Vec<String> = differs.map(|(a, b)| format!("  - {a}\n  + {b}")).collect();
            failed.push(format!("{}\n{}", file.display(), lines.join("\n")));
        }
    }
    println!("transcripts: {}", stories.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(stories.len() >= 40);
}
