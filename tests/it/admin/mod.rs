//! The admin API and its commands, through the built binary and real sockets.

mod api;
mod commands;
mod document;
mod gate;
mod lists;
mod provider;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Output;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sidepost::address::Address;
use sidepost::feedback::{EventKind, Feedback};
use sidepost::store::{MessageRecord, Store};
use sidepost::suppression::Policy;

use crate::binary::{Relay, run, text};
use crate::raw_http::Answer;
use crate::store::{Folder, policy};

/// A file in a test's folder.
fn put(folder: &Folder, name: &str, text: &str) -> String {
    let path = path(folder, name);
    fs::write(&path, text).unwrap();
    path
}

fn path(folder: &Folder, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

/// `state.url` of a store in a test's folder.
fn state(folder: &Folder) -> String {
    format!("state.url=sqlite://{}", folder.file().display())
}

/// One call of a web address: method, target, fields, body.
fn call(web: SocketAddr, method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(web).unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
    let given = |name: &str| fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
    if !given("host") {
        head.push_str(&format!("Host: {web}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        if !given("content-type") {
            head.push_str("Content-Type: application/json\r\n");
        }
    }
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // A refusal may come before the body has gone.
    let _ = stream.write_all(body.as_bytes());
    let mut octets = Vec::new();
    let _ = stream.read_to_end(&mut octets);
    Answer::parse(&octets)
}

fn get(web: SocketAddr, target: &str) -> Value {
    let answer = call(web, "GET", target, &[], "");
    assert_eq!(answer.status, 200, "{target}: {answer:?}");
    answer.json()
}

fn post(web: SocketAddr, target: &str, body: &Value) -> Answer {
    call(web, "POST", target, &[], &body.to_string())
}

/// The sentence of an error.
fn error(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap().to_owned()
}

/// A command on a running relay: `sidepost …` with --url.
fn on(relay: &Relay, arguments: &[&str]) -> Output {
    let url = format!("http://{}", relay.web);
    let mut all = arguments.to_vec();
    all.extend(["--url", &url]);
    run(&all)
}

/// Standard output of a command that has to succeed.
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{} {}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The objects of a command's --json.
fn objects(output: &Output) -> Vec<Value> {
    said(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// 2026-11-22T09:00:00Z, and seconds later.
fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_338_000 + seconds)
}

fn event(id: &str, kind: EventKind, message_id: &str, recipient: &str, seconds: u64) -> Feedback {
    Feedback {
        event_id: id.to_owned(),
        kind,
        word: kind.name().replace('.', "_"),
        at: at(seconds),
        message_id: Some(message_id.to_owned()),
        recipient: Some(Address::parse(recipient).unwrap()),
        reason: (kind == EventKind::BouncedHard).then(|| "550 5.1.1 no such user".to_owned()),
        raw: format!("{{\"event\":\"{id}\",\"bell\":\"\u{7}\"}}").into(),
    }
}

fn line(id: &str, recipient: &str, provider_id: Option<&str>, seconds: u64) -> MessageRecord {
    MessageRecord {
        id: id.to_owned(),
        at: at(seconds),
        client: Some("127.0.0.1".to_owned()),
        principal: None,
        sender: Some("app@example.com".to_owned()),
        recipient: recipient.to_owned(),
        account: "sandbox".to_owned(),
        provider_id: provider_id.map(str::to_owned),
        outcome: if provider_id.is_some() { "accepted" } else { "suppressed" }.to_owned(),
        reply: if provider_id.is_some() { "250 2.0.0 Ok" } else { "550 5.7.1 suppressed" }.to_owned(),
        bytes: 321,
        last_event: None,
    }
}

/// A store as a relay leaves it: two mails, their events.
fn seed(folder: &Folder) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&folder.settings(), &policy()).unwrap();
        store.log(vec![
            line("0a01", "ann@example.net", Some("msg_1"), 0),
            line("0a01", "eve@example.net", Some("msg_2"), 0),
            line("0a02", "carl@example.net", None, 60),
        ]);
        let events = vec![
            event("e1", EventKind::Queued, "msg_1", "ann@example.net", 1),
            event("e2", EventKind::BouncedHard, "msg_1", "Ann@example.net", 130),
            event("e3", EventKind::Delivered, "msg_2", "eve@example.net", 3),
            event("e4", EventKind::Opened, "msg_9", "eve@example.net", 9),
        ];
        store.take("sandbox", events, at(200), false).await.unwrap();
        // A running relay finds nothing left to do.
        let idle = Policy { events: Vec::new(), soft_bounce_limit: 0, ..policy() };
        assert_eq!(store.act(&idle, 100).await.unwrap().events, 4);
        store.close().await.unwrap();
    });
}
