//! Steering, the mailbox's bounds, and that no JSON at all can make the pure rooms panic.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sidepost::address::Alphabet;
use sidepost::config::ProviderKind;
use sidepost::sandbox::mailbox::{Mail, Mailbox};
use sidepost::sandbox::request_shape::check;
use sidepost::sandbox::steering::{Fate, Fault, RULES, fate, fault};
use sidepost::sandbox::summary::{Party, Summary, summaries};

use super::{nexuspromail_to, v3_to};

#[test]
fn local_parts_steer() {
    let table = [
        ("ann@example.com", None),
        ("suppressed@example.com", Some(Fault::Suppressed)),
        ("Suppressed.ann@example.com", Some(Fault::Suppressed)),
        ("ann.suppressed@example.com", None),
        ("ann@suppressed.example.com", None),
        ("invalid7@x.example", Some(Fault::Invalid)),
        ("rate-2-30@x.example", Some(Fault::RateLimited { tries: 2, retry_after: 30 })),
        ("rate-2-30.ann@x.example", Some(Fault::RateLimited { tries: 2, retry_after: 30 })),
        ("rate-2@x.example", None),
        ("rate--1@x.example", None),
        ("rate-99999999999-1@x.example", None),
        ("fail-3.x@x.example", Some(Fault::Unavailable(Some(3)))),
        ("fail-inf@x.example", Some(Fault::Unavailable(None))),
        ("fail-@x.example", None),
        ("slow-250@x.example", Some(Fault::Slow(Duration::from_millis(250)))),
        ("slow-4000000000@x.example", Some(Fault::Slow(Duration::from_mins(10)))),
        ("hang@x.example", Some(Fault::Hang)),
        ("reset@x.example", Some(Fault::Reset)),
        ("acceptreset@x.example", Some(Fault::AcceptReset)),
        ("garbage@x.example", Some(Fault::Garbage)),
        ("unauth@x.example", Some(Fault::Unauthorized)),
        ("toolarge@x.example", Some(Fault::TooLarge)),
        ("status-503@x.example", Some(Fault::Status(503))),
        ("status-600@x.example", None),
        ("status-101@x.example", None),
        ("bounce@x.example", None),
        ("", None),
        ("@", None),
    ];
    for (address, expected) in table {
        assert_eq!(fault(address), expected, "{address}");
    }
    assert_eq!(fate("Bounce.1@x.example"), Fate::Bounced);
    assert_eq!(fate("complaint@x.example"), Fate::Complained);
    assert_eq!(fate("unsubscribe@x.example"), Fate::Unsubscribed);
    assert_eq!(fate("ann@x.example"), Fate::Delivered);
}

#[test]
fn every_address_of_the_help_page_does_something() {
    for rule in RULES.iter().skip(1) {
        assert!(fault(rule.address).is_some() || fate(rule.address) != Fate::Delivered, "{}", rule.address);
    }
}

fn mail(id: &str, octets: usize) -> Mail {
    let to = vec![Party { email: "ann@example.com".to_owned(), name: String::new() }];
    Mail {
        id: id.to_owned(),
        time: UNIX_EPOCH,
        provider: ProviderKind::ScaiSend,
        taken: true,
        answer: String::new(),
        personalization: 0,
        test: false,
        summary: Summary { to, ..Summary::default() },
        payload: bytes::Bytes::new(),
        share: octets,
    }
}

#[test]
fn the_oldest_mails_go_first() {
    let ids = |mailbox: &Mailbox| mailbox.iter().map(|mail| mail.id.clone()).collect::<Vec<_>>();
    let mut mailbox = Mailbox::new(3, 100_000);
    for id in ["a", "b", "c", "d"] {
        mailbox.push(mail(id, 10));
    }
    assert_eq!(ids(&mailbox), ["d", "c", "b"]);
    mailbox.push(mail("large", 98_500));
    assert_eq!(ids(&mailbox), ["large", "d"]);
    mailbox.push(mail("too large", 200_000));
    assert!(ids(&mailbox).is_empty());
    mailbox.push(mail("e", 10));
    assert_eq!(ids(&mailbox), ["e"]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("to"),
        Just("cc"),
        Just("bcc"),
        Just("from"),
        Just("email"),
        Just("name"),
        Just("subject"),
        Just("html"),
        Just("content"),
        Just("personalizations"),
        Just("attachments"),
        Just("type"),
        Just("value"),
        Just("headers"),
        Just("disposition"),
        Just("content_id"),
        Just("categories"),
        Just("template_id"),
        Just("filename"),
        Just("custom_args"),
        Just("mail_settings"),
        Just("\u{e4}"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z=+/@.<>-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6).prop_map(|fields| {
                Value::from(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(any in any_json(), place in 0..8usize) {
        let places = ["/to", "/from", "/subject", "/personalizations", "/personalizations/0", "/personalizations/0/to", "/content", "/content/0"];
        for api in ProviderKind::ALL {
            check(api, Alphabet::Utf8, &any);
            prop_assert!(!summaries(api, &any).is_empty());
            let mut body = if api == ProviderKind::NexusProMail { nexuspromail_to("a@example.com") } else { v3_to(&["a@example.com"]) };
            body["attachments"] = if place % 2 == 0 { json!([any]) } else { any.clone() };
            if let Some(value) = body.pointer_mut(places[place]) {
                *value = any.clone();
            }
            let summaries = summaries(api, &body);
            // What has the documented shape has recipients.
            prop_assert!(!check(api, Alphabet::Ascii, &body).is_empty() || summaries.iter().all(|one| one.recipients().count() > 0));
        }
    }

    #[test]
    fn no_address_makes_it_panic(address in any::<String>(), digits in "(rate|fail|slow|status)-[0-9]{0,12}-?[0-9]{0,12}.*") {
        fault(&address);
        fate(&address);
        fault(&digits);
    }
}
