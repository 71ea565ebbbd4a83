//! What an API has no place for: each loss by its name, and nothing that sidepost itself has put there.

use serde_json::{Value, json};
use sidepost::address::Address;
use sidepost::config::decode::{default_account, default_controls};
use sidepost::config::{ProviderKind, Unsupported};
use sidepost::envelope::Envelope;
use sidepost::outcome::Cause;
use sidepost::pattern::Patterns;
use sidepost::plan::{Policies, Terms, prepare};
use sidepost::provider;
use sidepost::sender::{Rewrite, SenderPolicy};

/// The losses, and the one request.
fn ask(mail: &str, kind: ProviderKind, sender: &SenderPolicy, degrade: bool) -> Result<(Vec<String>, Value), Cause> {
    let settings = default_account(kind);
    let provider = provider::build(&settings);
    let limits = provider.limits();
    let unsupported = if degrade { Unsupported::Degrade } else { Unsupported::Refuse };
    let terms = Terms { limits: &limits, fanout: settings.fanout, unsupported, utf8_addresses: false, apart: false };
    let policies = Policies { sender: sender.clone(), controls: default_controls() };
    let recipients = vec![Address::parse("ann@example.net").unwrap()];
    let envelope = Envelope { recipients, ..Envelope::default() };
    let raw = mail.replace('\n', "\r\n").into();
    let (message, plan) = prepare(raw, &envelope, &envelope, &policies, terms)?;
    let request = provider.request(&message, &plan.controls, &plan.batches[0])?;
    let losses = plan.losses.into_iter().map(|loss| loss.what).collect();
    Ok((losses, serde_json::from_slice(&request.body.to_vec()).unwrap()))
}

fn from(authors: &str, more: &str) -> String {
    format!("From: {authors}\nTo: ann@example.net\nSubject: hi\n{more}\nhello\n")
}

fn always() -> SenderPolicy {
    SenderPolicy::new("app@mail.example.com", &Patterns::default(), Rewrite::Always).unwrap()
}

#[test]
fn each_attachment_that_goes_is_named() {
    let part = |name: usize, octets: &str| {
        format!("--b\nContent-Type: application/octet-stream; name=\"{name}.bin\"\n\n{octets}\n")
    };
    let parts: String = (1..=13).map(|n| part(n, if n == 3 { "" } else { "x" })).collect();
    let mail = format!(
        "From: a@example.com\nTo: ann@example.net\nContent-Type: multipart/mixed; boundary=b\n\n{parts}--b--\n"
    );
    let (losses, request) = ask(&mail, ProviderKind::ScaiSend, &SenderPolicy::default(), true).unwrap();
    let gone = [
        "attachment \"12.bin\" (at most 10)",
        "attachment \"13.bin\" (at most 10)",
        "attachment \"3.bin\" (it is empty)",
    ];
    assert_eq!(losses, gone);
    let sent: Vec<&str> =
        request["attachments"].as_array().unwrap().iter().map(|a| a["filename"].as_str().unwrap()).collect();
    let kept: Vec<String> = (1..=11).filter(|n| *n != 3).map(|n| format!("{n}.bin")).collect();
    assert_eq!(sent, kept);
    let refused = ask(&mail, ProviderKind::ScaiSend, &SenderPolicy::default(), false).unwrap_err();
    assert!(gone.iter().all(|loss| refused.detail.contains(loss)), "{}", refused.detail);
}

/// What the policy puts into Reply-To is no reason to refuse the mail; what the program put there is.
#[test]
fn a_rewritten_from_goes_where_there_is_room() {
    let ask = |mail: &str, kind| ask(mail, kind, &always(), false);
    let (losses, request) = ask(&from("jörg@example.com", ""), ProviderKind::ScaiSend).unwrap();
    assert_eq!((losses.len(), &request["from"]["email"]), (0, &json!("app@mail.example.com")));
    assert_eq!((request.get("reply_to"), &request["headers"]["X-Original-From"]), (None, &json!("jörg@example.com")));
    let (_, request) = ask(&from("b@example.com, c@example.com", ""), ProviderKind::NexusProMail).unwrap();
    assert_eq!(request["reply_to"]["email"], "b@example.com");
    let own = ask(&from("b@example.com", "Reply-To: jörg@example.com\n"), ProviderKind::ScaiSend).unwrap_err();
    assert!(own.detail.contains("Reply-To <j?rg@example.com>"), "{}", own.detail);
}

#[test]
fn of_several_authors_none_vanishes() {
    let ask = |mail: &str, kind, degrade| ask(mail, kind, &SenderPolicy::default(), degrade);
    let two = from("b@example.com, c@example.com", "");
    let (_, request) = ask(&two, ProviderKind::ScaiSend, false).unwrap();
    assert_eq!(request["reply_to_list"], json!([{"email": "b@example.com"}, {"email": "c@example.com"}]));
    assert_eq!(request.get("headers"), None);
    for (authors, more) in
        [("b@example.com, jörg@example.com", ""), ("b@example.com, c@example.com", "Reply-To: d@example.com\n")]
    {
        let (_, request) = ask(&from(authors, more), ProviderKind::ScaiSend, false).unwrap();
        assert_eq!(
            (&request["from"]["email"], &request["headers"]["X-Original-From"]),
            (&json!("b@example.com"), &json!(authors))
        );
    }
    let refused = ask(&two, ProviderKind::NexusProMail, false).unwrap_err();
    assert!(refused.detail.contains("author <c@example.com> (one From and 1 Reply-To)"), "{}", refused.detail);
    let (losses, request) = ask(&two, ProviderKind::NexusProMail, true).unwrap();
    assert_eq!((losses.len(), &request["reply_to"]["email"]), (1, &json!("b@example.com")));
}
