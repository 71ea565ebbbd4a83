//! Mails and what is read from them: `tests/messages/**/NAME.eml` with `NAME.json`; `UPDATE=1` rewrites the latter.
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use encodify::base64;
use proptest::prelude::*;
use serde_json::{Value, json};
use sidepost::address::{Address, Alphabet};
use sidepost::message::{Content, Mailbox, Message, TransferEncoding};

use crate::properties::message::{is_base64, is_clean};

pub fn mails() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages");
    let mut mails: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .collect();
    mails.sort();
    mails
}

fn parse(raw: impl Into<Bytes>) -> Message {
    Message::parse(raw.into()).unwrap()
}

fn mailboxes(list: &[Mailbox]) -> Value {
    list.iter().map(|mailbox| json!({ "name": mailbox.name, "address": mailbox.address.as_str() })).collect()
}

/// A message as the fixtures write it.
fn describe(message: &Message) -> Value {
    let attachments: Value = message
        .attachments
        .iter()
        .map(|attachment| {
            let octets = attachment.content.decode();
            let content = match std::str::from_utf8(&octets) {
                Ok(text) => json!(text),
                Err(_) => json!({ "base64": base64::STANDARD.encode(&octets) }),
            };
            json!({
                "filename": attachment.filename,
                "content_type": attachment.content_type,
                "inline": attachment.inline,
                "content_id": attachment.content_id,
                "content": content,
            })
        })
        .collect();
    json!({
        "from": mailboxes(&message.from),
        "sender": mailboxes(message.sender.as_slice()),
        "reply_to": mailboxes(&message.reply_to),
        "to": mailboxes(&message.to),
        "cc": mailboxes(&message.cc),
        "subject": message.subject,
        "message_id": message.message_id,
        "headers": message.headers,
        "text": message.text.as_deref(),
        "html": message.html.as_deref(),
        "attachments": attachments,
        "losses": message.losses.iter().map(|loss| &loss.what).collect::<Vec<_>>(),
    })
}

#[test]
fn every_mail_is_read_as_written_beside_it() {
    let mails = mails();
    assert!(mails.len() >= 40, "only {} mails", mails.len());
    let mut wrong = Vec::new();
    for mail in &mails {
        let message =
            Message::parse(fs::read(mail).unwrap().into()).unwrap_or_else(|e| panic!("{}: {e}", mail.display()));
        let found = format!("{:#}\n", describe(&message));
        let expected = mail.with_extension("json");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &found).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != found {
            fs::write(mail.with_extension("failed"), &found).unwrap();
            wrong.push(mail);
        }
    }
    assert!(wrong.is_empty(), "compare NAME.json with NAME.failed, then UPDATE=1: {wrong:#?}");
}

/// What is said must not depend on the line ends; the octets of an attachment that is not encoded do.
#[test]
fn line_ends_make_no_difference() {
    for mail in mails() {
        // Its lone CRs are what it is about.
        if mail.file_stem().is_some_and(|name| name == "crcrlf") {
            continue;
        }
        let raw = fs::read(&mail).unwrap();
        let lf: Vec<u8> = String::from_utf8_lossy(&raw).replace("\r\n", "\n").into_bytes();
        let crlf = String::from_utf8_lossy(&lf).replace('\n', "\r\n").into_bytes();
        let (lf, crlf) = (parse(lf), parse(crlf));
        let (mut one, mut other) = (describe(&lf), describe(&crlf));
        for described in [&mut one, &mut other] {
            for attachment in described["attachments"].as_array_mut().unwrap() {
                if let Some(text) = attachment["content"].as_str() {
                    attachment["content"] = json!(text.replace("\r\n", "\n"));
                }
            }
        }
        assert_eq!(one, other, "{}", mail.display());
    }
}

/// Wherever a connection breaks off, what is there is read, and nothing is made of two lines.
#[test]
fn every_cut_of_a_mail_is_read() {
    for mail in mails() {
        let raw = Bytes::from(fs::read(mail).unwrap());
        let step = (raw.len() / 100).max(1);
        for end in (0..raw.len()).step_by(step) {
            is_clean(&parse(raw.slice(..end)));
        }
    }
}

/// Whom only the envelope knows is in no field, however it writes the address; who only looks alike stays.
#[test]
fn a_hidden_recipient_is_named_by_no_field() {
    let hidden = ["ann@example.com", "ann@xn--bcher-kva.example", "\"a b\"@example.com", "jörg@example.com"];
    let hidden = hidden.map(|text| Address::parse_in(Alphabet::Utf8, text).unwrap());
    let naming = [
        "ann@example.com",
        "ANN@Example.COM.",
        "\"Ann\" <ann@example.com>, bob@example.net",
        "'ann@example.com'",
        "rfc822;ann@example.com",
        "<https://x.example/u?e=ann@example.com&t=1>",
        "<https://x.example/u?e=ann%40example.com>",
        "<https://x.example/u?e=%61nn%40EXAMPLE%2ecom&t=1>",
        "<https://x.example/r?to=https%3A%2F%2Fy.example%2Fu%3Fe%3Dann%2540example.com>",
        "<mailto:u+ann=example.com@lists.example.net>",
        "<mailto:list-return-7-ann=example.com@lists.example.net?subject=u>",
        "<https://x.example/u/ann%3Dexample.com>",
        "prvs=123=ann@example.com",
        "ann@bücher.example",
        "ann@BÜCHER.example",
        "ann@bu\u{308}cher.example, ann@xn--bcher-kva.example",
        "https://x.example/ann%40b%C3%BCcher.example",
        "“ann@bücher.example”",
        "\"ann\"@example.com",
        "\"a b\"@example.com",
        "jörg@example.com",
    ];
    let alike = [
        "joann@example.com",
        "mary-ann@example.com",
        "ann@example.community",
        "ann@mail.example.com",
        "ann at example.com",
        "<mailto:u+joann=example.com@lists.example.net>",
        "100% ann%4",
        "a=b@c==@@=",
        "",
    ];
    let raw = "From: app@example.com\r\nann@example.com: 1\r\n\r\n";
    let mut message = parse(raw);
    let field = |value: &&str| ("X-Any".to_owned(), (*value).to_owned());
    message.headers.extend(naming.iter().chain(&alike).map(field));
    message.hide(&hidden);
    let left: Vec<&str> = message.headers.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(left, alike);
    message.hide([]);
    assert_eq!(message.headers.len(), alike.len());
}

/// `To: root` is whom the envelope means; From, Sender and Reply-To take the domain of the reverse-path.
#[test]
fn mailboxes_without_a_domain_get_one_from_the_envelope() {
    let address = |text: &str| Address::parse(text).unwrap();
    let raw = "From: root (Cron Daemon)\r\nSender: daemon\r\nReply-To: helpdesk, b@example.net\r\n\
               To: root, Ann <ann@example.net>, \"The Ops\" <OPS>\r\nTo: nobody, last\r\n\r\n";
    let mut message = parse(raw);
    assert_eq!((message.from.len(), message.to.len(), message.bare.len()), (0, 1, 7));
    let recipients = ["ann@example.net", "last@b.example", "root@db1.example", "ops@b.example"].map(address);
    message.complete(Some(&address("app@example.com")), &recipients);
    let shown = |list: &[Mailbox]| list.iter().map(|m| m.address.to_string()).collect::<Vec<_>>();
    assert_eq!(shown(&message.to), ["root@db1.example", "ann@example.net", "ops@b.example", "last@b.example"]);
    assert_eq!(message.to[2].name.as_deref(), Some("The Ops"));
    assert_eq!(shown(&message.reply_to), ["helpdesk@example.com", "b@example.net"]);
    assert_eq!(shown(message.sender.as_slice()), ["daemon@example.com"]);
    let from = message.bare_from(Some(&address("app@example.com"))).unwrap();
    assert_eq!((from.name.as_deref(), from.address.as_str()), (Some("Cron Daemon"), "root@example.com"));
    assert_eq!(message.bare_from(None), None);
}

#[test]
fn large_contents_come_in_chunks() {
    let octets: Vec<u8> = (0..300_001_u32).map(|i| i.wrapping_mul(i).to_be_bytes()[2]).collect();
    let wrapped = Bytes::from(base64::MIME.encode(&octets));
    let encoded = [
        (Bytes::from(octets.clone()), TransferEncoding::Identity),
        (wrapped.clone(), TransferEncoding::Base64),
        (wrapped.slice(..wrapped.len() - 3), TransferEncoding::Base64),
        (Bytes::from([b"*".as_slice(), &wrapped].concat()), TransferEncoding::Base64),
        (Bytes::from(encodify::qp::BINARY.encode(&octets)), TransferEncoding::QuotedPrintable),
    ];
    for (encoded, encoding) in encoded {
        let content = Content::new(encoded, encoding);
        is_base64(&content);
        assert_eq!(content.decode(), octets);
    }
}

#[test]
fn faulty_base64_is_decoded_as_far_as_it_goes() {
    let cases: &[(&[u8], &[u8])] = &[
        (b"", b""),
        (b"=", b""),
        (b"SGVsbG8=", b"Hello"),
        (b"SGVsbG8", b"Hello"),
        (b"SGVs\r\nbG8=\r\n  \r\n", b"Hello"),
        (b"SGVs bG8=", b"Hello"),
        (b"SGVs*bG8=", b"Hello"),
        (b"SGVsbG9=", b"Hello"),
        (b"SGVsbG8=\r\n\r\n-- \r\nA list footer.\r\n", b"Hello"),
        (b"SGU=\r\nbGw=\r\nbw==\r\n", b"Hello"),
        (b"SGVsbG8hIQ\r\n==", b"Hello!!"),
        (b"S", b""),
    ];
    for (encoded, plain) in cases {
        let content = Content::new(Bytes::copy_from_slice(encoded), TransferEncoding::Base64);
        assert_eq!(content.decode(), *plain, "{}", String::from_utf8_lossy(encoded));
        is_base64(&content);
    }
}

/// Octets that are mail more often than chance would have it.
fn mail_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("From: ".to_owned()),
        Just("To: a@example.com, \"B\" <b@example.com>\r\n".to_owned()),
        Just("Subject: =?utf-8?Q?a=0D=0Ab?= =?iso-8859-1?B?".to_owned()),
        Just("X-A: ".to_owned()),
        Just("Content-Type: multipart/mixed; boundary=b\r\n".to_owned()),
        Just("Content-Type: multipart/alternative; boundary=\"b\"\r\n".to_owned()),
        Just("Content-Type: text/html; charset=utf-16\r\n".to_owned()),
        Just("Content-Type: image/png; name*0*=utf-8''%0d; name*1=\"\\..\"\r\n".to_owned()),
        Just("Content-Disposition: attachment; filename=\"=?utf-8?B?Li4v?=\"\r\n".to_owned()),
        Just("Content-Transfer-Encoding: base64\r\n".to_owned()),
        Just("Content-Transfer-Encoding: quoted-printable\r\n".to_owned()),
        Just("Content-ID: <i>\r\n".to_owned()),
        Just("<img src=\"cid:i\">".to_owned()),
        Just("--b\r\n".to_owned()),
        Just("--b--\r\n".to_owned()),
        Just("\r\n".to_owned()),
        "[ -~]{0,12}",
        "\\PC{0,4}",
    ];
    let octets = prop::collection::vec(any::<u8>(), 0..8);
    prop::collection::vec(prop_oneof![8 => piece.prop_map(String::into_bytes), 1 => octets], 0..24)
        .prop_map(|pieces| pieces.concat())
}

/// A part: its header and body, or a multipart of others.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(&'static str),
    Multipart(&'static str, Vec<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop::sample::select(vec![
        "text/plain",
        "text/html",
        "text/plain; name=\"a.txt\"",
        "text/html\r\nContent-Disposition: attachment",
        "text/calendar; method=REQUEST",
        "image/png\r\nContent-Disposition: inline\r\nContent-ID: <i>",
        "message/rfc822",
    ]);
    let multipart = prop::sample::select(vec!["mixed", "alternative", "related", "signed", "report"]);
    leaf.prop_map(Tree::Leaf).prop_recursive(5, 30, 5, move |inner| {
        (multipart.clone(), prop::collection::vec(inner, 1..5)).prop_map(|(kind, parts)| Tree::Multipart(kind, parts))
    })
}

/// Writes `tree` with a mark in every leaf; `marks` counts them, `boundaries` the multiparts.
fn write_tree(tree: &Tree, out: &mut String, marks: &mut usize, boundaries: &mut usize) {
    match tree {
        Tree::Leaf(content_type) => {
            out.push_str(&format!("Content-Type: {content_type}\r\n\r\nmark{marks}.\r\n"));
            *marks += 1;
        }
        Tree::Multipart(kind, parts) => {
            let boundary = *boundaries;
            *boundaries += 1;
            out.push_str(&format!("Content-Type: multipart/{kind}; boundary=b{boundary}\r\n\r\n"));
            for part in parts {
                out.push_str(&format!("--b{boundary}\r\n"));
                write_tree(part, out, marks, boundaries);
            }
            out.push_str(&format!("--b{boundary}--\r\n"));
        }
    }
}

fn encoded_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => "[A-Za-z0-9+/]{4}".prop_map(String::into_bytes),
        2 => "[A-Za-z0-9+/]{0,9}={0,3}".prop_map(String::into_bytes),
        3 => Just(b"\r\n".to_vec()),
        1 => "=[0-9A-F]{2}|=\r\n|[ \t\r\n]".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..5),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_octets_are_read_into_single_lines(raw in prop::collection::vec(any::<u8>(), 0..400)) {
        is_clean(&parse(raw));
    }

    #[test]
    fn any_mail_is_read_into_single_lines(raw in mail_like()) {
        let message = parse(raw);
        is_clean(&message);
        for attachment in &message.attachments {
            is_base64(&attachment.content);
        }
    }

    #[test]
    fn no_part_is_lost(tree in tree()) {
        let (mut raw, mut marks) = (String::new(), 0);
        write_tree(&tree, &mut raw, &mut marks, &mut 0);
        let message = parse(raw);
        let octets = message.attachments.iter().map(|attachment| attachment.content.decode());
        let attached: Vec<String> = octets.map(|octets| String::from_utf8(octets).unwrap()).collect();
        let bodies = [message.text.unwrap_or_default(), message.html.unwrap_or_default()];
        for mark in (0..marks).map(|i| format!("mark{i}.")) {
            let found = attached.iter().filter(|attachment| attachment.contains(&mark)).count();
            let shown = bodies.iter().any(|body| body.contains(&mark));
            prop_assert!(found == usize::from(!shown), "{} in {} attachments, shown: {}", mark, found, shown);
        }
    }

    #[test]
    fn base64_is_that_of_the_decoded_octets(encoded in encoded_like(), which in 0..3_usize) {
        let encoding =
            [TransferEncoding::Base64, TransferEncoding::QuotedPrintable, TransferEncoding::Identity][which];
        is_base64(&Content::new(encoded.into(), encoding));
    }

    #[test]
    fn octets_survive_every_encoding(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let encoded = [
            (base64::MIME.encode(&octets), TransferEncoding::Base64),
            (encodify::qp::BINARY.encode(&octets), TransferEncoding::QuotedPrintable),
        ];
        for (encoded, encoding) in encoded {
            let content = Content::new(encoded.into(), encoding);
            prop_assert_eq!(content.decode(), octets.clone());
            is_base64(&content);
        }
    }
}
