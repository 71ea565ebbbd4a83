//! Laws of whole mails: whatever the mail and the envelope, from the octets to the JSON that the API gets.

use std::collections::BTreeSet;

use bytes::Bytes;
use encodify::base64::STANDARD;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use proptest::prelude::*;
use serde_json::Value;
use sidepost::address::Address;
use sidepost::config::decode::{default_account, default_controls};
use sidepost::config::{Fanout, ProviderKind, Unsupported};
use sidepost::controls::{Policy as ControlPolicy, Stance};
use sidepost::envelope::Envelope;
use sidepost::message::Message;
use sidepost::outcome::Kind;
use sidepost::plan::{Policies, Role, Terms, prepare, role_of};
use sidepost::provider;
use sidepost::sender::SenderPolicy;

/// What a mail is made of.
#[derive(Debug, Clone)]
struct Made {
    to: Vec<String>,
    cc: Vec<String>,
    name: String,
    subject: String,
    text: Option<String>,
    html: Option<String>,
    attachments: Vec<(String, Vec<u8>)>,
}

/// Few addresses, so that headers and envelope meet.
fn some_addresses(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set("[a-d]", count)
        .prop_map(|all| all.into_iter().map(|name| format!("{name}@example.net")).collect())
}

/// Any text that a person can see, in any script.
fn a_text() -> impl Strategy<Value = String> {
    prop::collection::vec("[^\\p{C}\\p{Z}]{1,20}", 1..30).prop_map(|words| words.join(" "))
}

fn a_mail() -> impl Strategy<Value = Made> {
    let attachment = ("[^\\p{C}\\p{Z}/\\\\]{1,12}\\.bin", prop::collection::vec(any::<u8>(), 1..300));
    (
        some_addresses(0..4),
        some_addresses(0..3),
        a_text(),
        a_text(),
        prop::option::of(a_text()),
        prop::option::of(a_text()),
        prop::collection::vec(attachment, 0..4),
    )
        .prop_map(|(to, cc, name, subject, text, html, attachments)| Made {
            to,
            cc,
            name,
            subject,
            text,
            html,
            attachments,
        })
}

fn an_envelope() -> impl Strategy<Value = Envelope> {
    some_addresses(1..5).prop_map(|all| Envelope {
        recipients: all.iter().map(|address| Address::parse(address).unwrap()).collect(),
        reverse_path: Address::parse("path@example.com").ok(),
        ..Envelope::default()
    })
}

/// The mail as a library of others writes it.
fn written(made: &Made) -> Vec<u8> {
    let mailbox = |address: &String| -> Mailbox { Mailbox::new(Some(made.name.clone()), address.parse().unwrap()) };
    let mut builder = lettre::Message::builder()
        .from(Mailbox::new(Some(made.name.clone()), "app@example.com".parse().unwrap()))
        .subject(&made.subject)
        .envelope(lettre::address::Envelope::new(None, vec!["x@example.com".parse().unwrap()]).unwrap());
    for address in &made.to {
        builder = builder.to(mailbox(address));
    }
    for address in &made.cc {
        builder = builder.cc(mailbox(address));
    }
    let text = made.text.as_ref().map(|text| SinglePart::plain(text.clone()));
    let html = made.html.as_ref().map(|html| SinglePart::html(html.clone()));
    let body = match (text, html) {
        (Some(text), Some(html)) => MultiPart::alternative().singlepart(text).singlepart(html),
        (Some(one), None) | (None, Some(one)) => MultiPart::mixed().singlepart(one),
        (None, None) => MultiPart::mixed().singlepart(SinglePart::plain(String::new())),
    };
    let mut whole = MultiPart::mixed().multipart(body);
    for (name, octets) in &made.attachments {
        let kind = ContentType::parse("application/octet-stream").unwrap();
        whole = whole.singlepart(Attachment::new(name.clone()).body(octets.clone(), kind));
    }
    builder.multipart(whole).unwrap().formatted()
}

/// Its requests under `degrade`, as JSON.
fn requests(raw: &[u8], envelope: &Envelope, kind: ProviderKind, fanout: Fanout) -> Vec<Value> {
    let settings = default_account(kind);
    let provider = provider::build(&settings);
    let limits = provider.limits();
    let unsupported = Unsupported::Degrade;
    let terms = Terms { limits: &limits, fanout, unsupported, utf8_addresses: false, apart: false };
    // Whatever a header asks for, the mail goes: a refusal would prove nothing.
    let (invalid, recipients) = (Stance::Ignore, Stance::Ignore);
    let controls = ControlPolicy { invalid, recipients, unsupported: Stance::Ignore, ..default_controls() };
    let policies = Policies { sender: SenderPolicy::default(), controls };
    let (message, plan) = match prepare(Bytes::copy_from_slice(raw), envelope, envelope, &policies, terms) {
        Ok(prepared) => prepared,
        // Marks that nobody would fill in are refused whatever the policy says.
        Err(cause) if cause.kind == Kind::Unsupported => return Vec::new(),
        // So is an author outside ASCII where the API takes none.
        Err(cause) if cause.kind == Kind::NotAscii => return Vec::new(),
        Err(cause) => panic!("{} {}", cause.row.name, cause.detail),
    };
    let request = |batch| provider.request(&message, &plan.controls, batch).unwrap().body.to_vec();
    let bodies: Vec<Vec<u8>> = plan.batches.iter().map(request).collect();
    assert!(bodies.iter().all(|body| body.len() <= limits.body), "within the API's limit");
    // Not `from_slice`: it is checked that the octets are UTF-8.
    bodies.iter().map(|body| serde_json::from_str(std::str::from_utf8(body).unwrap()).unwrap()).collect()
}

/// The groups of people that see each other, over all requests.
fn groups(requests: &[Value]) -> Vec<Vec<String>> {
    let email = |mailbox: &Value| mailbox["email"].as_str().unwrap().to_owned();
    let mut groups = Vec::new();
    for request in requests {
        match request["personalizations"].as_array() {
            None => groups.push(vec![email(&request["to"])]),
            Some(personalizations) => {
                for group in personalizations {
                    let lists = ["to", "cc", "bcc"].into_iter().filter_map(|list| group[list].as_array());
                    groups.push(lists.flatten().map(email).collect());
                }
            }
        }
    }
    groups
}

/// Every text of a request but the bodies, which have lines.
fn single_lines<'a>(json: &'a Value, under: &str, found: &mut Vec<&'a str>) {
    match json {
        Value::String(_) if matches!(under, "html" | "text" | "value") => {}
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|item| single_lines(item, under, found)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            found.push(name);
            single_lines(member, name, found);
        }),
        _ => {}
    }
}

fn a_kind() -> impl Strategy<Value = ProviderKind> {
    prop::sample::select(ProviderKind::ALL.to_vec())
}

fn a_fanout() -> impl Strategy<Value = Fanout> {
    prop_oneof![Just(Fanout::Auto), Just(Fanout::PerRecipient)]
}

/// What an attacker who fills in a form may get into a header.
fn a_hostile_header() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "To",
        "Cc",
        "Bcc",
        "From",
        "Sender",
        "Reply-To",
        "Subject",
        "X-SMTPAPI",
        "X-Sidepost-Tag",
        "X-MC-MergeVars",
        "X-Mailgun-Variables",
        "References",
        "List-Unsubscribe",
        "X-Any",
        "Resent-To",
        "Authorization",
        "Content-Type",
    ]);
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        "=\\?utf-8\\?[qb]\\?(=0D=0A|DQpCY2M6|[ -~]){0,20}\\?= <[a-z]@[a-z]\\.example>".prop_map(String::into_bytes),
        "[\\[\\]{}\":, a-z0-9@.\\\\]{0,60}".prop_map(String::into_bytes),
    ];
    (name, value).prop_map(|(name, value)| {
        // A line end of its own would begin another field; folded ones stay.
        let value: Vec<u8> = value.into_iter().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        [name.as_bytes(), b": ", &value, b"\r\n"].concat()
    })
}

/// A field in which programs note the envelope, with one of its addresses as they write it.
fn a_note_of_the_envelope() -> impl Strategy<Value = Vec<u8>> {
    let name =
        prop::sample::select(vec!["Bcc", "X-Receiver", "Delivered-To", "X-Original-To", "List-Unsubscribe", "X-Any"]);
    let value = ("[a-d]", 0..6_usize).prop_map(|(name, form): (String, usize)| match form {
        0 => format!("{name}@example.net"),
        1 => format!("<{}@EXAMPLE.net>", name.to_uppercase()),
        2 => format!("<https://example.org/u?e={name}%40example.net&t=1>"),
        3 => format!("<mailto:u+{name}=example.net@lists.example.org>"),
        4 => format!("for \"{name}\"@example.net; x"),
        _ => format!("<https://example.org/r?to=https%3A%2F%2Fx%3Fe%3D{name}%2540example.net>"),
    });
    (name, value).prop_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes())
}

/// All texts of a request but the bodies and whom each personalization is for.
fn shown_to_all(request: &Value) -> String {
    let mut rest = request.clone();
    for part in ["content", "html", "text", "subject", "to"] {
        rest.as_object_mut().unwrap().remove(part);
    }
    for group in rest["personalizations"].as_array_mut().into_iter().flatten() {
        for list in ["to", "cc"] {
            group.as_object_mut().unwrap().remove(list);
        }
    }
    rest.to_string().to_lowercase()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Promise 2: whoever is only in the envelope is in no field that others get, however it is written there. What it
    /// gets itself may be shared with others, so nothing that is the same for all names it.
    #[test]
    fn no_field_names_a_hidden_recipient(
        mut made in a_mail(), envelope in an_envelope(), kind in a_kind(), fanout in a_fanout(),
        notes in prop::collection::vec(a_note_of_the_envelope(), 1..6)
    ) {
        // What the author writes may name anybody.
        made.attachments.clear();
        made.name = "Somebody".to_owned();
        let raw = [notes.concat(), written(&made)].concat();
        let requests = requests(&raw, &envelope, kind, fanout);
        prop_assert!(!requests.is_empty());
        let message = Message::parse(raw.into()).unwrap();
        let hidden = |recipient: &&Address| role_of(recipient, &message).0 == Role::Bcc;
        for recipient in envelope.recipients.iter().filter(hidden).filter(|_| envelope.recipients.len() > 1) {
            let name = recipient.local();
            for request in &requests {
                let shown = shown_to_all(request);
                for form in ["@", "=", "%40", "%2540", "\\\"@"] {
                    prop_assert!(!shown.contains(&format!("{name}{form}example.net")), "{recipient} in {shown}");
                }
            }
        }
    }

    /// Promise 2: each recipient of the envelope gets the mail once, nobody else does, and whoever is only in the
    /// envelope is shown to nobody.
    #[test]
    fn the_envelope_decides_who_gets_it(
        made in a_mail(), envelope in an_envelope(), kind in a_kind(), fanout in a_fanout()
    ) {
        let raw = written(&made);
        let groups = groups(&requests(&raw, &envelope, kind, fanout));
        let mut sent: Vec<&String> = groups.iter().flatten().collect();
        sent.sort();
        let mut asked: Vec<&str> = envelope.recipients.iter().map(Address::as_str).collect();
        asked.sort_unstable();
        prop_assert_eq!(sent, asked);
        let message = Message::parse(raw.into()).unwrap();
        for recipient in &envelope.recipients {
            let group = groups.iter().find(|group| group.iter().any(|email| email == recipient.as_str())).unwrap();
            prop_assert!(group.len() == 1 || role_of(recipient, &message).0 != Role::Bcc, "{recipient} is shown");
        }
    }

    /// Text, HTML and attachments are the application's, octet for octet.
    #[test]
    fn what_was_meant_arrives(made in a_mail(), envelope in an_envelope()) {
        let requests = requests(&written(&made), &envelope, ProviderKind::ScaiSend, Fanout::Auto);
        prop_assert!(!requests.is_empty(), "refused");
        for request in requests {
            let body = |kind: &str| {
                let content = request["content"].as_array().unwrap();
                content.iter().find(|c| c["type"] == kind).map(|c| c["value"].as_str().unwrap().trim_end().to_owned())
            };
            prop_assert_eq!(request["subject"].as_str().unwrap(), &made.subject);
            prop_assert_eq!(body("text/html"), made.html.clone());
            if made.text.is_some() || made.html.is_none() {
                prop_assert_eq!(body("text/plain"), Some(made.text.clone().unwrap_or_default()));
            }
            let attachments = request["attachments"].as_array().cloned().unwrap_or_default();
            let found: Vec<(String, Vec<u8>)> = attachments
                .iter()
                .map(|a| (a["filename"].as_str().unwrap().to_owned(), STANDARD.decode(a["content"].as_str().unwrap()).unwrap()))
                .collect();
            prop_assert_eq!(&found, &made.attachments);
        }
    }

    /// Nothing that a header says makes another header, recipient, address or key.
    #[test]
    fn a_header_injects_nothing(
        made in a_mail(), envelope in an_envelope(), kind in a_kind(), hostile in prop::collection::vec(a_hostile_header(), 1..6)
    ) {
        let raw = [hostile.concat(), written(&made)].concat();
        let requests = requests(&raw, &envelope, kind, Fanout::Auto);
        let may_be_refused = hostile.iter().any(|field| {
            let name = field.split(|b| *b == b':').next().unwrap_or_default();
            ["X-SMTPAPI", "X-MC-MergeVars"].iter().any(|one| one.as_bytes() == name) || !field.is_ascii()
        });
        prop_assert!(!requests.is_empty() || may_be_refused, "refused");
        let asked: BTreeSet<&str> = envelope.recipients.iter().map(Address::as_str).collect();
        prop_assert!(groups(&requests).iter().flatten().all(|email| asked.contains(email.as_str())));
        for request in &requests {
            let mut lines = Vec::new();
            single_lines(request, "", &mut lines);
            for line in lines {
                prop_assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
            }
            let reserved = ["to", "cc", "bcc", "from", "subject", "reply-to"];
            let headers = request["headers"].as_object().cloned().unwrap_or_default();
            prop_assert!(
                headers.keys().all(|name| !reserved.contains(&name.to_ascii_lowercase().as_str())),
                "{headers:?}"
            );
        }
    }
}

/// An inline image is found by the HTML that refers to it.
#[test]
fn inline_images_keep_their_ids() {
    let image =
        Attachment::new_inline("logo@app".to_owned()).body(vec![1, 2, 3], ContentType::parse("image/png").unwrap());
    let html = SinglePart::html("<img src=\"cid:logo@app\">".to_owned());
    let mail = lettre::Message::builder()
        .from("app@example.com".parse().unwrap())
        .to("a@example.net".parse().unwrap())
        .subject("hi")
        .multipart(MultiPart::related().singlepart(html).singlepart(image))
        .unwrap();
    let envelope = Envelope { recipients: vec![Address::parse("a@example.net").unwrap()], ..Envelope::default() };
    let requests = requests(&mail.formatted(), &envelope, ProviderKind::ScaiSend, Fanout::Auto);
    let attachment = &requests[0]["attachments"][0];
    assert_eq!((&attachment["content_id"], &attachment["disposition"]), (&"logo@app".into(), &"inline".into()));
    assert_eq!(attachment["content"], "AQID");
}
