//! Provider fixtures: recorded answers and the outcomes they mean. `UPDATE=1` rewrites what stands below `---`.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderName;
use sidepost::address::Address;
use sidepost::config::decode::{default_account, default_controls};
use sidepost::config::{ProviderKind, Unsupported};
use sidepost::envelope::Envelope;
use sidepost::message::{Mailbox, Message};
use sidepost::outcome::Outcome;
use sidepost::plan::{Policies, Terms, prepare};
use sidepost::provider::{self, Batch, Personalization, Response};
use sidepost::sender::SenderPolicy;

fn mailbox(address: &str) -> Mailbox {
    Mailbox { name: None, address: Address::parse(address).unwrap() }
}

/// Two recipients that see each other and one that nobody sees; NexusProMail takes one a call.
fn batch(kind: ProviderKind) -> Batch {
    let alone = Personalization::alone(mailbox("bcc@example.com"));
    if kind == ProviderKind::NexusProMail {
        return Batch::of(vec![alone]);
    }
    let group = Personalization { to: vec![mailbox("to@example.com")], cc: vec![mailbox("cc@example.com")] };
    Batch::of(vec![group, alone])
}

/// `STATUS [cut]`, header lines, a blank line, the body.
fn parse_response(text: &str) -> Response {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let mut headers = HeaderMap::new();
    for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let midnight = humantime::parse_rfc3339("2026-11-22T00:00:00Z").unwrap();
    Response {
        status: first.next().unwrap().parse().unwrap(),
        headers,
        body: Bytes::from(body.trim_end().to_owned()),
        complete: first.next() != Some("cut"),
        received: midnight,
    }
}

fn describe(recipient: &Address, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { id } => format!("{recipient} accepted {}", id.as_deref().unwrap_or("-")),
        Outcome::Deferred(cause) | Outcome::Rejected(cause) => {
            let row = cause.kind.row();
            let pause = cause.retry_after.map_or_else(String::new, |p| format!(" after {}s", p.as_secs()));
            format!("{recipient} {} {} {}{pause} {:?}", row.name, row.code, row.enhanced, cause.detail)
        }
    }
}

fn fixtures(kind: ProviderKind) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/providers").join(kind.name()).join("responses");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

/// Every mail in requests/ for every API, as it is sent under `degrade`, and whether `refuse` would refuse it. The
/// envelope is To, Cc and one that only the envelope knows.
#[test]
fn mails_become_these_requests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/providers/requests");
    let mut mails: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    mails.retain(|file| file.extension().is_some_and(|e| e == "eml"));
    mails.sort();
    for mail in &mails {
        for kind in ProviderKind::ALL {
            let found = format!("{:#}\n", requests_of(&fs::read(mail).unwrap(), kind));
            let expected = mail.with_extension(format!("{}.json", kind.name()));
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&expected, &found).unwrap();
            }
            assert_eq!(found, fs::read_to_string(&expected).unwrap_or_default(), "{}", expected.display());
        }
    }
    println!("provider requests: {}", mails.len() * ProviderKind::ALL.len());
    assert!(mails.len() >= 8);
}

fn policies() -> Policies {
    Policies { sender: SenderPolicy::default(), controls: default_controls() }
}

fn requests_of(mail: &[u8], kind: ProviderKind) -> serde_json::Value {
    let raw = Bytes::from(String::from_utf8_lossy(mail).replace("\r\n", "\n").replace('\n', "\r\n"));
    let shown = Message::parse(raw.clone()).unwrap();
    let mut recipients: Vec<Address> = shown.to.iter().chain(&shown.cc).map(|m| m.address.clone()).collect();
    recipients.push(Address::parse("hidden@example.com").unwrap());
    let envelope =
        Envelope { recipients, reverse_path: Address::parse("path@example.com").ok(), ..Envelope::default() };
    let settings = default_account(kind);
    let provider = provider::build(&settings);
    let limits = provider.limits();
    let ask = |unsupported| {
        let terms =
            Terms { limits: &limits, fanout: settings.fanout, unsupported, utf8_addresses: false, apart: false };
        prepare(raw.clone(), &envelope, &envelope, &policies(), terms)
    };
    let (message, plan) = ask(Unsupported::Degrade).unwrap();
    let bodies = plan.batches.iter().map(|batch| {
        let request = provider.request(&message, &plan.controls, batch).unwrap();
        serde_json::from_slice::<serde_json::Value>(&request.body.to_vec()).unwrap()
    });
    serde_json::json!({
        "requests": bodies.collect::<Vec<_>>(),
        "refused": ask(Unsupported::Refuse).err().map(|cause| cause.detail),
    })
}

#[test]
fn answers_mean_what_they_meant() {
    let mut count = 0;
    for kind in ProviderKind::ALL {
        let provider = provider::build(&default_account(kind));
        for file in fixtures(kind) {
            let text = fs::read_to_string(&file).unwrap();
            let (answer, expected) = text.split_once("\n---\n").unwrap_or((text.trim_end(), ""));
            let batch = batch(kind);
            let outcomes = provider.classify(&batch, &parse_response(answer));
            assert_eq!(outcomes.len(), batch.len(), "{}: an outcome for each recipient", file.display());
            let lines: Vec<String> = batch.recipients().zip(&outcomes).map(|(r, o)| describe(r, o)).collect();
            let found = lines.join("\n") + "\n";
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&file, format!("{answer}\n---\n{found}")).unwrap();
            } else {
                assert_eq!(found, expected, "{}", file.display());
            }
            count += 1;
        }
    }
    println!("provider answers: {count}");
    assert!(count >= 50);
}
