//! Mails that are made to hurt: they are refused, or read in linear time and little memory.
use bytes::Bytes;
use proptest::prelude::*;
use sidepost::message::Message;
use sidepost::mime::{Excess, Limits, split};

use crate::properties::message::are_nested;

fn excess(raw: &str) -> Excess {
    split(raw.as_bytes(), &Limits::default()).unwrap_err()
}

fn concat(count: usize, piece: impl Fn(usize) -> String) -> String {
    (0..count).map(piece).collect::<Vec<_>>().concat()
}

fn parse(raw: impl Into<Bytes>) -> Message {
    Message::parse(raw.into()).unwrap()
}

#[test]
fn nested_messages_stay_closed() {
    let message = parse("Content-Type: message/rfc822\r\n\r\n".repeat(40_000));
    assert_eq!(message.attachments.len(), 1);
    assert_eq!(message.attachments[0].content.encoded.len(), 32 * 39_999);
}

#[test]
fn nested_multiparts_are_refused() {
    let raw = concat(20_000, |i| format!("Content-Type: multipart/mixed; boundary=b{i}\r\n\r\n--b{i}\r\n"));
    assert_eq!(excess(&raw), Excess::Depth(128));
    let refusal = Message::parse(raw.into()).unwrap_err().to_string();
    assert_eq!(refusal, "the message has multiparts nested more than 128 deep");
}

#[test]
fn many_parts_are_refused() {
    let raw = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\r\n\r\n\r\n".repeat(200_000));
    assert_eq!(excess(&raw), Excess::Parts(1000));
}

#[test]
fn many_fields_are_refused() {
    assert_eq!(excess(&"a: b\r\n".repeat(500_000)), Excess::HeaderFields(1000));
    assert_eq!(excess(&format!("a: {}\r\n", " x\r\n".repeat(100_000))), Excess::HeaderBytes(256 * 1024));
    let inner = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{}", "a: b\r\n".repeat(1001));
    assert_eq!(excess(&inner), Excess::HeaderFields(1000));
}

#[test]
fn long_boundaries_are_refused() {
    assert_eq!(
        excess(&format!("Content-Type: multipart/mixed; boundary={}\r\n\r\n", "b".repeat(257))),
        Excess::Boundary(256)
    );
}

#[test]
fn parameters_in_many_pieces_are_joined() {
    let pieces = concat(15_000, |i| format!(" boundary*{i}=x;\r\n"));
    assert_eq!(excess(&format!("Content-Type: multipart/mixed;\r\n{pieces}\r\n\r\n")), Excess::HeaderBytes(256 * 1024));
    let pieces = concat(12_000, |i| format!(" name*{}=x;\r\n", 11_999 - i));
    let message = parse(format!("Content-Type: image/png;\r\n{pieces}\r\n\r\n"));
    assert_eq!(message.attachments[0].filename, "x".repeat(12_000));
}

#[test]
fn many_lines_like_delimiters_cost_one_look_each() {
    let mut raw = concat(128, |i| format!("Content-Type: multipart/mixed; boundary=b{i}\r\n\r\n--b{i}\r\n"));
    raw.push_str("\r\n");
    raw.push_str(&"--x\r\n".repeat(1_000_000));
    assert!(parse(raw).text.unwrap().starts_with("--x\n--x\n"));
}

#[test]
fn headers_of_one_kind_cost_linear_time() {
    let bomb = |field: &str, piece: &str| format!("{field}: {}\r\n\r\n", piece.repeat(250_000 / piece.len()));
    parse(bomb("To", "("));
    parse(bomb("To", "<"));
    parse(bomb("To", "\""));
    parse(bomb("To", "a@"));
    parse(bomb("To", "a @ b "));
    parse(bomb("To", "=?"));
    parse(bomb("To", "["));
    parse(bomb("Subject", "=?utf-8?Q?a?="));
    parse(bomb("Subject", "=?utf-8?Q?"));
    parse(bomb("X-A", "=?x?B?"));
    parse(bomb("Content-Type", "("));
    parse(bomb("Content-Type", "a=\""));
    assert!(parse(bomb("To", "a@example.com,")).to.len() > 15_000);
    assert_eq!(parse(bomb("To", "a,")).bare.len(), 100);
    parse(bomb("To", "A, "));
    parse(bomb("To", "A, B <"));
    parse(bomb("To", "a@b c@d "));
    parse(format!("To: {}{}\r\n\r\n", "\"\"".repeat(60_000), " @".repeat(60_000)));
    parse("x\r\n".repeat(1_000_000));
    parse(format!("A: b\r\n{}", "x\r\n y\r\n".repeat(200_000)));
}

#[test]
fn references_from_html_cost_one_look_each() {
    let html = format!("Content-Type: text/html\r\n\r\n{}", "cid:".repeat(300_000));
    let raw = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{html}\r\n--b\r\nContent-ID: <i>\r\nContent-Type: image/png\r\n\r\n"
    );
    assert_eq!(parse(raw).attachments.len(), 1);
}

#[test]
fn delimiters_are_whole_lines() {
    let raw = "Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble --b\r\n--b\t \r\n\r\none --b\r\n> --b\r\n--bb\r\n\
               --b-\r\n--b\r\n\r\ntwo\r\n--b-- \r\nepilogue\r\n--b\r\n\r\nthree\r\n";
    let parts = split(raw.as_bytes(), &Limits::default()).unwrap();
    let bodies: Vec<&str> = parts[1..].iter().map(|part| &raw[part.body.clone()]).collect();
    assert_eq!(bodies, ["one --b\r\n> --b\r\n--bb\r\n--b-", "two"]);
}

#[test]
fn an_outer_delimiter_closes_the_inner_parts() {
    let raw = "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\nin\n\
               --o\nContent-Type: text/html\n--o\n\nlast";
    let parts = split(raw.as_bytes(), &Limits::default()).unwrap();
    let described: Vec<(usize, &str)> = parts.iter().map(|part| (part.end, &raw[part.body.clone()])).collect();
    assert_eq!(described[1], (3, "--i\n\nin"));
    assert_eq!(described[2..], [(3, "in"), (4, ""), (5, "last")]);
}

proptest! {
    #[test]
    fn parts_are_nested_and_within_the_mail(lines in prop::collection::vec(0..9_usize, 0..200)) {
        let line = [
            "--a", "--b", "--a--", "--b--", "", "text", "Content-Type: multipart/mixed; boundary=a",
            "Content-Type: multipart/digest; boundary=b", "Content-Type: message/rfc822",
        ];
        let raw = concat(lines.len(), |i| format!("{}\r\n", line[lines[i]]));
        let limits = Limits { depth: 4, parts: 20, ..Limits::default() };
        match split(raw.as_bytes(), &limits) {
            Err(excess) => prop_assert!(matches!(excess, Excess::Depth(4) | Excess::Parts(20))),
            Ok(parts) => {
                prop_assert!(parts.len() <= 21);
                are_nested(&parts, raw.len());
            }
        }
    }
}
