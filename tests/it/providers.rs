//! Provider fixtures: recorded answers and the outcomes they mean. `UPDATE=1` rewrites what stands below `---`.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderName;
use sidepost::address::Address;
use sidepost::config::ProviderKind;
use sidepost::config::layers::default_account;
use sidepost::message::Mailbox;
use sidepost::outcome::Outcome;
use sidepost::provider::{self, Batch, Personalization, Response};

fn mailbox(address: &str) -> Mailbox {
    Mailbox { name: None, address: Address::parse(address).unwrap() }
}

/// Two recipients that see each other and one that nobody sees; NexusProMail takes one a call.
fn batch(kind: ProviderKind) -> Batch {
    let alone = Personalization::alone(mailbox("bcc@example.com"));
    if kind == ProviderKind::NexusProMail {
        return Batch { personalizations: vec![alone] };
    }
    let group = Personalization { to: vec![mailbox("to@example.com")], cc: vec![mailbox("cc@example.com")] };
    Batch { personalizations: vec![group, alone] }
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
