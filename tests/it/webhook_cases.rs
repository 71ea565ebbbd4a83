//! Webhook requests and the events that they become: tests/providers/*/webhooks. `UPDATE=1` rewrites what stands below
//! `---`; the signatures are made by tests/providers/sign_webhooks.py.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;
use sidepost::config::ProviderKind;
use sidepost::config::decode::default_account;
use sidepost::feedback::Feedback;
use sidepost::provider;
use sidepost::secret::Secret;

/// A request, and what the account and the clock have.
struct Case {
    secrets: Vec<Secret>,
    now: std::time::SystemTime,
    headers: HeaderMap,
    body: Bytes,
}

fn parse(text: &str) -> Case {
    let (head, body) = text.split_once("\n\n").unwrap();
    let body = body.strip_suffix('\n').unwrap_or(body);
    let fields: Vec<(&str, &str)> = head.lines().map(|line| line.split_once(':').unwrap()).collect();
    let own = |wanted: &str| fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.trim());
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().filter(|(name, _)| name.starts_with(char::is_uppercase)) {
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value);
    }
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    };
    Case {
        secrets: own("secrets").unwrap().split_whitespace().map(Secret::new).collect(),
        now: humantime::parse_rfc3339(own("now").unwrap()).unwrap(),
        headers,
        body: if own("body") == Some("hex") { hex(body).into() } else { body.to_owned().into() },
    }
}

fn describe(event: &Feedback, body: &Bytes) -> String {
    let some = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let raw =
        if event.raw == *body { "whole".to_owned() } else { format!("{:?}", String::from_utf8_lossy(&event.raw)) };
    format!(
        "{} {:?} at {} message {} to {} reason {:?} raw {raw} id {}",
        event.kind.name(),
        event.word,
        humantime::format_rfc3339_millis(event.at),
        some(event.message_id.as_deref()),
        some(event.recipient.as_ref().map(sidepost::address::Address::as_str)),
        event.reason.as_deref().unwrap_or_default(),
        event.event_id,
    )
}

#[test]
fn requests_become_these_events() {
    let mut count = 0;
    for kind in ProviderKind::ALL {
        let provider = provider::build(&default_account(kind));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/providers").join(kind.name()).join("webhooks");
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(!text.contains("SIGN "), "{}: run tests/providers/sign_webhooks.py", file.display());
            let (request, expected) = text.split_once("\n---\n").unwrap_or((text.strip_suffix('\n').unwrap(), ""));
            let case = parse(&format!("{request}\n"));
            let found = match provider.feedback(&case.headers, &case.body, &case.secrets, case.now) {
                Ok(events) => events.iter().map(|event| describe(event, &case.body) + "\n").collect(),
                Err(unverified) => format!("refused: {unverified}\n"),
            };
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&file, format!("{request}\n---\n{found}")).unwrap();
            } else {
                assert_eq!(found, expected, "{}", file.display());
            }
            count += 1;
        }
    }
    println!("webhook cases: {count}");
    assert!(count >= 90);
}

/// The bodies of all requests, and the place of their provider.
pub fn bodies() -> Vec<(u8, Vec<u8>)> {
    let mut bodies = Vec::new();
    for (place, kind) in (0..).zip(ProviderKind::ALL) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/providers").join(kind.name()).join("webhooks");
        let files = fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
        let requests = files.map(|text| text.split_once("\n---\n").unwrap().0.to_owned() + "\n");
        bodies.extend(requests.map(|request| (place, parse(&request).body.to_vec())));
    }
    bodies
}

fn case(file: &str) -> Case {
    let text = fs::read_to_string(format!("{}/tests/providers/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    parse(&format!("{}\n", text.split_once("\n---\n").unwrap().0))
}

/// One of each provider that is good.
const GOOD: [(ProviderKind, &str); 3] = [
    (ProviderKind::NexusProMail, "nexuspromail/webhooks/bounced-hard.txt"),
    (ProviderKind::ScaiSend, "scaisend/webhooks/without-the-event-field.txt"),
    (ProviderKind::SendGrid, "sendgrid/webhooks/bounce.txt"),
];

/// Whatever single bit of the body, the signature or the timestamp is another one: nobody believes it.
#[test]
fn a_bit_that_was_turned_is_found() {
    for (kind, file) in GOOD {
        let provider = provider::build(&default_account(kind));
        let good = case(file);
        let is_believed =
            |headers: &HeaderMap, body: &Bytes| provider.feedback(headers, body, &good.secrets, good.now).is_ok();
        assert!(is_believed(&good.headers, &good.body));
        for bit in 0..good.body.len() * 8 {
            let mut body = good.body.to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_believed(&good.headers, &body.into()), "{file}: bit {bit} of the body");
        }
        for (name, value) in &good.headers {
            for bit in 0..value.len() * 8 {
                let mut octets = value.as_bytes().to_vec();
                octets[bit / 8] ^= 1 << (bit % 8);
                // Hex has two cases.
                let is_same = kind != ProviderKind::SendGrid && octets.eq_ignore_ascii_case(value.as_bytes());
                let Ok(turned) = HeaderValue::from_bytes(&octets) else { continue };
                let mut headers = good.headers.clone();
                headers.insert(name, turned);
                assert_eq!(is_believed(&headers, &good.body), is_same, "{file}: bit {bit} of {name}");
            }
        }
    }
}

proptest! {
    /// Whatever is signed, a little beside what is good.
    #[test]
    fn whatever_is_signed_is_bounded(
        good in any::<proptest::sample::Index>(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), any::<bool>()), 0..12),
    ) {
        let bodies = bodies();
        let (kind, mut body) = good.get(&bodies).clone();
        for (place, octet, insert) in edits {
            let place = place.index(body.len().max(1));
            let octet = if octet < 128 { octet } else { b"{}[]\",:\\0e-"[usize::from(octet) % 11] };
            if insert || body.is_empty() { body.insert(place.min(body.len()), octet) } else { body[place] = octet }
        }
        crate::properties::event::holds(&[&[kind], &body[..]].concat());
    }
}

/// RFC 4231 §4.3: the code of somebody else's example.
#[test]
fn sidepost_signs_as_the_rfc_does() {
    let code = provider::signature::sign(&Secret::new("Jefe"), &[b"what do ya want ", b"for nothing?"]);
    assert_eq!(code, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

#[test]
fn secrets_that_cannot_verify_are_named() {
    let check =
        |kind, secret: &str| provider::build(&default_account(kind)).scheme().check_secret(&Secret::new(secret));
    assert!(check(ProviderKind::ScaiSend, "whsec_1").is_ok());
    assert!(check(ProviderKind::NexusProMail, "").is_err());
    assert!(check(ProviderKind::SendGrid, "").is_err());
    assert!(check(ProviderKind::SendGrid, "whsec_1").unwrap_err().contains("P-256"));
}
