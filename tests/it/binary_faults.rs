//! The built binary when its client goes away, or is itself told to go, in every state of a transaction.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::binary::{Client, Relay, text};

/// An API whose requests wait until the test answers them.
pub struct Api(TcpListener);

/// A request that waits.
pub struct Asked {
    stream: TcpStream,
    pub line: String,
    pub body: String,
}

impl Api {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // A request that never comes is a failure, not a wait.
        socket2::SockRef::from(&listener).set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        Self(listener)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// The next request, whole.
    pub fn asked(&self) -> Asked {
        let (stream, _) = self.0.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (mut length, mut first) = (0, String::new());
        reader.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(octets) = line.strip_prefix("content-length: ") {
                length = octets.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        Asked { stream: reader.into_inner(), line: first.trim_end().to_owned(), body: text(&body) }
    }

    /// Whether a request waits that nobody has looked at.
    pub fn is_asked(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let waits = match self.0.accept() {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        };
        self.0.set_nonblocking(false).unwrap();
        waits
    }
}

impl Asked {
    /// 202; the connection ends with it.
    pub fn accept(self, id: &str) {
        self.answer(202, &format!("{{\"message_id\":\"{id}\"}}"));
    }

    /// The same with any status and body.
    pub fn answer(mut self, status: u16, body: &str) {
        let length = body.len();
        write!(self.stream, "HTTP/1.1 {status} A\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
    }
}

/// How far a client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Greeted,
    Mail,
    Rcpt,
    Data,
    Half,
    Dot,
}

const STATES: [State; 6] = [State::Greeted, State::Mail, State::Rcpt, State::Data, State::Half, State::Dot];

/// Does what leads from one state to another, with the mail of this subject.
pub fn proceed(client: &mut Client, from: Option<State>, to: State, subject: &str) {
    for state in STATES.into_iter().filter(|state| from.is_none_or(|from| *state > from) && *state <= to) {
        match state {
            State::Greeted => assert!(client.say("EHLO test").starts_with("250 ")),
            State::Mail => assert!(client.say("MAIL FROM:<app@example.com>").starts_with("250 ")),
            State::Rcpt => assert!(client.say("RCPT TO:<ann@example.com>").starts_with("250 ")),
            State::Data => assert!(client.say("DATA").starts_with("354 ")),
            State::Half => write!(client.stream.get_mut(), "From: app@example.com\r\nSubject: {subject}\r\n").unwrap(),
            State::Dot => write!(client.stream.get_mut(), "\r\nhello\r\n.\r\n").unwrap(),
        }
    }
}

fn leave(client: Client, by_reset: bool) {
    let stream = client.stream.into_inner();
    let linger = by_reset.then_some(Duration::ZERO);
    socket2::SockRef::from(&stream).set_linger(linger).unwrap();
}

fn wait_for(relay: &mut Relay, words: &str) {
    let mut log = String::new();
    while !log.contains(words) {
        assert!(relay.log.read_line(&mut log).unwrap() > 0, "{log}");
    }
}

/// Promise 4: whenever the client went, its next try mails nobody twice.
#[test]
fn a_client_that_vanishes_and_comes_again_sends_once() {
    let api = Api::new();
    let relay = Relay::serve(&api.url(), &[]);
    for (n, state) in STATES.into_iter().enumerate() {
        for by_reset in [false, true] {
            let subject = format!("mail {n} {by_reset}");
            let mut gone = relay.connect();
            proceed(&mut gone, None, state, &subject);
            let running = (state == State::Dot).then(|| api.asked());
            leave(gone, by_reset);
            let mut again = relay.connect();
            proceed(&mut again, None, State::Dot, &subject);
            // Nobody asks a second time while the first request runs; what has not begun begins now.
            running.unwrap_or_else(|| api.asked()).accept("m1");
            let reply = again.reply();
            assert!(reply.starts_with("250 2.0.0 Ok m1 "), "{state:?}, {by_reset}: {reply}");
            assert!(!api.is_asked(), "{state:?}, {by_reset}: sent twice");
        }
    }
}

/// The client comes back when all is over; the relay was not told that nobody heard its reply.
#[test]
fn a_client_that_hangs_up_before_its_reply_is_told_it_later() {
    let api = Api::new();
    let mut relay = Relay::serve(&api.url(), &[]);
    for by_reset in [false, true] {
        let mut gone = relay.connect();
        proceed(&mut gone, None, State::Dot, &by_reset.to_string());
        let running = api.asked();
        leave(gone, by_reset);
        running.accept("m1");
        wait_for(&mut relay, "\"message\":\"transaction\"");
        let mut again = relay.connect();
        proceed(&mut again, None, State::Dot, &by_reset.to_string());
        assert!(again.reply().starts_with("250 2.0.0 Ok m1 "), "{by_reset}");
        assert!(!api.is_asked(), "{by_reset}: sent twice");
    }
}

/// Who says all at once and closes its side is there all the same, and may send the same mail once more on purpose.
#[test]
fn a_client_that_said_quit_and_closed_its_side_has_its_reply() {
    let api = Api::new();
    let relay = Relay::serve(&api.url(), &[]);
    for id in ["m1", "m2"] {
        let mut client = relay.connect();
        proceed(&mut client, None, State::Dot, "twice");
        write!(client.stream.get_mut(), "QUIT\r\n").unwrap();
        client.stream.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
        api.asked().accept(id);
        assert!(client.reply().starts_with(&format!("250 2.0.0 Ok {id} ")));
        assert!(client.reply().starts_with("221 "));
    }
}

/// SIGTERM in every state: a transaction that has begun may end, with what is true; then the relay goes.
#[test]
fn a_stop_lets_every_begun_transaction_end() {
    for state in STATES {
        let api = Api::new();
        let mut relay = Relay::serve(&api.url(), &[]);
        let mut client = relay.connect();
        proceed(&mut client, None, state, "last");
        let running = (state == State::Dot).then(|| api.asked());
        relay.signal();
        wait_for(&mut relay, "stopping");
        if state > State::Greeted {
            proceed(&mut client, Some(state), State::Dot, "last");
            running.unwrap_or_else(|| api.asked()).accept("m1");
            let reply = client.reply();
            assert!(reply.starts_with("250 2.0.0 Ok m1 "), "{state:?}: {reply}");
        }
        let farewell = client.reply();
        assert!(farewell.starts_with("421 4.3.2 "), "{state:?}: {farewell}");
        assert_eq!(client.reply(), "", "{state:?}");
        drop(client);
        assert_eq!(relay.process.wait().unwrap().code(), Some(0), "{state:?}");
        assert!(!api.is_asked());
    }
}

/// SIGKILL while clients are in every state: whoever was told 250 has been accepted, and nobody else was told so.
#[test]
fn a_killed_relay_has_not_promised_too_much() {
    let api = Api::new();
    let mut relay = Relay::serve(&api.url(), &[]);
    let mut clients: Vec<(String, Client)> = Vec::new();
    // Of those that are through, every other one is answered before the end.
    for (n, state) in STATES.into_iter().chain([State::Dot; 5]).enumerate() {
        let mut client = relay.connect();
        proceed(&mut client, None, state, &format!("mail-{n}"));
        clients.push((format!("mail-{n}"), client));
    }
    let mut waiting: Vec<Asked> = (0..6).map(|_| api.asked()).collect();
    let accepted: BTreeSet<String> = waiting
        .split_off(3)
        .into_iter()
        .map(|asked| {
            let mail = clients.iter().find(|(subject, _)| asked.body.contains(&format!("\"{subject}\""))).unwrap();
            asked.accept("m1");
            mail.0.clone()
        })
        .collect();
    let mut said: BTreeSet<String> = BTreeSet::new();
    for (subject, client) in clients.iter_mut().filter(|(subject, _)| accepted.contains(subject)) {
        assert!(client.reply().starts_with("250 2.0.0 Ok m1 "));
        said.insert(subject.clone());
    }
    relay.process.kill().unwrap();
    assert_eq!(relay.process.wait().unwrap().signal(), Some(9));
    for (subject, client) in &mut clients {
        let mut rest = String::new();
        // The end may be a reset.
        let _ = client.stream.read_to_string(&mut rest);
        assert_eq!(rest, "", "{subject}");
    }
    assert_eq!((said.len(), said), (3, accepted));

    // A new one knows nothing, and takes the mails that were left; two of the clients' transactions may have been taken.
    let relay = Relay::serve(&api.url(), &[]);
    let mut again = relay.connect();
    proceed(&mut again, None, State::Dot, "mail-5");
    api.asked().accept("m2");
    assert!(again.reply().starts_with("250 2.0.0 Ok m2 "));
}

/// With a store, not even a kill makes it forget who was accepted: the client that comes again is sent for once.
#[test]
fn a_killed_relay_knows_who_was_accepted() {
    let folder = crate::store::Folder::new("killed-ledger");
    let url = format!("state.url=sqlite://{}", folder.file().display());
    let more = ["--set", url.as_str(), "--set", "providers.scaisend.fanout=per-recipient"];
    let api = Api::new();
    let mut relay = Relay::serve(&api.url(), &more);
    let hand_in = |relay: &Relay| {
        let mut client = relay.connect();
        proceed(&mut client, None, State::Rcpt, "two");
        assert!(client.say("RCPT TO:<bob@example.com>").starts_with("250 "));
        proceed(&mut client, Some(State::Rcpt), State::Dot, "two");
        client
    };
    let client = hand_in(&relay);
    let (mut accepted, mut left) = (api.asked(), api.asked());
    if accepted.body.contains("bob@") {
        std::mem::swap(&mut accepted, &mut left);
    }
    accepted.accept("m1");
    let written = rusqlite::Connection::open(folder.file()).unwrap();
    let given_up = std::time::Instant::now() + Duration::from_mins(1);
    while written.query_row("SELECT count(*) FROM marks", [], |row| row.get::<_, u32>(0)).unwrap() == 0 {
        assert!(std::time::Instant::now() < given_up, "nothing is written");
        std::thread::yield_now();
    }
    drop(written);
    relay.process.kill().unwrap();
    relay.process.wait().unwrap();
    drop((client, left));

    let mut relay = Relay::serve(&api.url(), &more);
    let mut again = hand_in(&relay);
    let asked = api.asked();
    assert!(asked.body.contains("bob@example.com"), "{}", asked.body);
    asked.accept("m2");
    let reply = again.reply();
    assert!(reply.starts_with("250 2.0.0 Ok m1 m2 "), "{reply}");
    assert!(!api.is_asked(), "sent twice");
    // It has its reply, and the relay ends in peace: the same mail on purpose goes out again.
    relay.signal();
    assert_eq!(relay.process.wait().unwrap().code(), Some(0));
    let relay = Relay::serve(&api.url(), &more);
    let mut on_purpose = hand_in(&relay);
    api.asked().accept("m3");
    api.asked().accept("m4");
    assert!(on_purpose.reply().starts_with("250 2.0.0 Ok m"));
}

/// An API, or a page of a proxy before it, that repeats the key: nobody is told it, and no log has it.
#[test]
fn a_key_that_comes_back_goes_no_further() {
    let api = Api::new();
    let mut relay = Relay::serve(&api.url(), &["--set", "delivery.max_attempts=1"]);
    let mut client = relay.connect();
    proceed(&mut client, None, State::Dot, "echo");
    let asked = api.asked();
    asked.answer(
        401,
        &format!("{{\"errors\":[{{\"message\":\"no such key: Bearer {}, really\"}}]}}", crate::binary::KEY),
    );
    let reply = client.reply();
    assert!(reply.starts_with("451 4.3.5 ") && reply.contains("no such key: Bearer ********, really"), "{reply}");
    let ready = relay.get("/readyz").1;
    assert!(ready.contains("********") && !ready.contains(crate::binary::KEY), "{ready}");
    relay.signal();
    assert!(relay.process.wait().unwrap().success());
    let log = relay.rest_of_log();
    assert!(log.contains("no such key") && !log.contains(crate::binary::KEY), "{log}");
}
