//! Header controls: mails and what each API is asked for; what no header can ever do.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sidepost::address::{Address, Alphabet};
use sidepost::config::decode::{default_account, default_controls};
use sidepost::config::{ProviderKind, Unsupported};
use sidepost::controls::table::{Meaning, TABLE};
use sidepost::controls::{Control, Policy, Stance, is_control};
use sidepost::envelope::Envelope;
use sidepost::message::{Message, unix_seconds};
use sidepost::outcome::{Cause, Kind};
use sidepost::plan::{Plan, Policies, Terms, prepare};
use sidepost::provider::{self, Batch, Request};
use sidepost::sender::SenderPolicy;

fn everything() -> Policy {
    Policy { allow: Control::ALL.to_vec(), ..default_controls() }
}

fn envelope(recipients: &[&str]) -> Envelope {
    let recipients = recipients.iter().map(|text| Address::parse(text).unwrap()).collect();
    Envelope { recipients, reverse_path: Address::parse("path@example.com").ok(), ..Envelope::default() }
}

/// A mail to those in its To for one API.
fn ask(raw: Bytes, envelope: &Envelope, kind: ProviderKind, controls: &Policy) -> Result<(Plan, Vec<Request>), Cause> {
    let settings = default_account(kind);
    let provider = provider::build(&settings);
    let limits = provider.limits();
    let unsupported = Unsupported::Degrade;
    let terms = Terms { limits: &limits, fanout: settings.fanout, unsupported, utf8_addresses: false, apart: false };
    let policies = Policies { sender: SenderPolicy::default(), controls: controls.clone() };
    let (message, plan) = prepare(raw, envelope, envelope, &policies, terms)?;
    let requests = plan.batches.iter().map(|batch| provider.request(&message, &plan.controls, batch));
    let requests = requests.collect::<Result<_, _>>()?;
    Ok((plan, requests))
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body.to_vec()).unwrap()
}

/// A mail with these header lines.
fn mail(headers: &str) -> Bytes {
    let headers = headers.trim().replace('\n', "\r\n");
    format!("From: app@example.com\r\nTo: ann@example.net\r\nSubject: hi\r\n{headers}\r\n\r\nhello\r\n").into()
}

fn ask_scaisend(headers: &str, policy: &Policy) -> Result<(Plan, Vec<Request>), Cause> {
    ask(mail(headers), &envelope(&["ann@example.net"]), ProviderKind::ScaiSend, policy)
}

fn detail(headers: &str, policy: &Policy) -> (Kind, String) {
    let cause = ask_scaisend(headers, policy).expect_err("a refusal");
    (cause.kind, cause.detail)
}

fn describe(raw: &Bytes, kind: ProviderKind, policy: &Policy) -> Value {
    let shown = Message::parse(raw.clone()).unwrap();
    let to: Vec<&str> = shown.to.iter().map(|mailbox| mailbox.address.as_str()).collect();
    match ask(raw.clone(), &envelope(&to), kind, policy) {
        Ok((plan, requests)) => json!({"controls": plan.controls.to_json(), "request": body(&requests[0])}),
        Err(cause) => {
            let row = cause.kind.row();
            json!({"refused": format!("{} {} {}", row.code, row.enhanced, cause.detail)})
        }
    }
}

/// tests/providers/controls: with all controls allowed, and with the default. `UPDATE=1` rewrites what is expected.
#[test]
fn mails_ask_for_what_stands_beside_them() {
    let mut count = 0;
    for (folder, policy) in [("allowed", everything()), ("default", default_controls())] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/providers/controls").join(folder);
        let mut mails: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        mails.retain(|file| file.extension().is_some_and(|e| e == "eml"));
        mails.sort();
        for mail in mails {
            let raw = Bytes::from(fs::read_to_string(&mail).unwrap().replace('\n', "\r\n"));
            let all: Map<String, Value> = ProviderKind::ALL
                .into_iter()
                .map(|kind| (kind.name().to_owned(), describe(&raw, kind, &policy)))
                .collect();
            let found = format!("{:#}\n", Value::from(all));
            let expected = mail.with_extension("json");
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&expected, &found).unwrap();
            }
            assert_eq!(found, fs::read_to_string(&expected).unwrap_or_default(), "{}", expected.display());
            count += 1;
        }
    }
    println!("control mails: {count}");
    assert!(count >= 45);
}

/// What each API is sent has the shape that its pages document, as far as the sandbox knows it.
#[test]
fn the_sandbox_takes_what_controls_make() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/providers/controls/allowed");
    for file in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if file.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let expected: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for kind in ProviderKind::ALL {
            let Some(request) = expected[kind.name()].get("request") else { continue };
            let findings = sidepost::sandbox::request_shape::check(kind, Alphabet::Ascii, request);
            assert!(findings.is_empty(), "{}: {findings:?}", file.display());
        }
    }
}

#[test]
fn every_header_of_the_table_is_stripped_even_if_nothing_is_allowed() {
    let nothing = Policy { allow: Vec::new(), recipients: Stance::Ignore, invalid: Stance::Ignore, ..everything() };
    for row in TABLE {
        let name = row.header.replace('*', "anything");
        let (plan, requests) = ask_scaisend(&format!("{name}: CANARY"), &nothing).unwrap();
        let text = String::from_utf8(requests[0].body.to_vec()).unwrap();
        assert!(!text.contains("CANARY") && !text.to_ascii_lowercase().contains(&name.to_ascii_lowercase()), "{text}");
        let ignored = &plan.controls.ignored;
        assert!(ignored.iter().any(|one| one.header.contains(&name)), "{name} is not logged: {ignored:?}");
        assert!(!format!("{ignored:?}").contains("CANARY"), "values are not for the log: {ignored:?}");
        assert!(is_control(&name));
    }
    for name in ["X-Order", "List-Unsubscribe", "X-PM", "X-Sidepost-", "X-SMTPAPI-2", "X-Mailer"] {
        assert!(!is_control(name), "{name}");
    }
}

/// People would get another mail than was meant.
#[test]
fn what_changes_the_mail_is_refused_where_it_is_not_allowed() {
    let nothing = Policy { allow: Vec::new(), ..everything() };
    for header in ["X-Sidepost-Sandbox: yes", "X-SMTPAPI: {\"sub\":{\"-name-\":[\"Ann\"]}}"] {
        let refused = ask_scaisend(header, &nothing).unwrap_err();
        assert!(refused.detail.contains("controls.allow lacks it"), "{}", refused.detail);
    }
    assert!(ask_scaisend("X-Sidepost-Sandbox: no", &nothing).is_ok());
}

#[test]
fn each_control_has_a_header_of_ours_and_a_permission() {
    for control in Control::ALL {
        let own =
            TABLE.iter().any(|row| row.meaning == Meaning::Sets(*control) && row.header.starts_with("X-Sidepost-"));
        assert!(own || *control == Control::Substitutions, "{}", control.name());
        let alone = control.permission() == *control;
        assert_eq!(control.name().parse::<Control>().is_ok(), alone, "{}", control.name());
    }
    let fields = |kind| provider::build(&default_account(kind)).limits().controls.fields;
    assert_eq!(fields(ProviderKind::ScaiSend), fields(ProviderKind::SendGrid));
    assert!(fields(ProviderKind::NexusProMail).is_empty(), "the README says so");
    assert_eq!(Control::TemplateData.permission(), Control::Template);
    assert!("tags".parse::<Control>().unwrap_err().contains("did you mean \"tag\"?"));
    for control in ["template", "schedule", "pool", "stream"] {
        assert!(!default_controls().allows(control.parse().unwrap()), "{control} is off by default");
    }
}

#[test]
fn what_cannot_be_read_is_refused_or_ignored() {
    let broken = "X-SMTPAPI: {\"category\":";
    assert_eq!(detail(broken, &everything()), (Kind::BadContent, "X-SMTPAPI is not valid JSON".to_owned()));
    let lenient = Policy { invalid: Stance::Ignore, ..everything() };
    let (plan, requests) = ask_scaisend(&format!("{broken}\nX-PM-Tag: x"), &lenient).unwrap();
    assert_eq!(body(&requests[0])["categories"], json!(["x"]));
    assert_eq!(plan.controls.ignored[0].header, "X-SMTPAPI");
    let depth = format!("X-SMTPAPI: {{\"unique_args\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(detail(&depth, &everything()).0, Kind::BadContent);
}

/// A template that another vendor has is not the fault of the permissions.
#[test]
fn a_template_that_is_not_used_leaves_no_empty_mail_and_the_true_reason() {
    let raw = String::from_utf8(mail("X-Sidepost-Template: 123").to_vec()).unwrap().replace("hello\r\n", "");
    let policy = Policy { invalid: Stance::Ignore, ..everything() };
    let refused = |policy| {
        ask(raw.clone().into(), &envelope(&["ann@example.net"]), ProviderKind::ScaiSend, &policy).unwrap_err().detail
    };
    let asks = "X-Sidepost-Template asks for a template, and the mail has no body of its own; ";
    let (foreign, denied) = (refused(policy), refused(default_controls()));
    assert_eq!(denied, format!("{asks}controls.allow lacks it"));
    assert!(
        foreign.starts_with(&format!("{asks}it names no template of ScaiSend, whose ids begin with ")),
        "{foreign}"
    );
}

/// The names that fit go along, also those behind one that does not.
#[test]
fn a_name_that_is_too_long_takes_no_room() {
    let headers = format!("X-Sidepost-Metadata-a: {}\nX-Sidepost-Metadata-b: 2", "x".repeat(20_000));
    let (plan, _) =
        ask(mail(&headers), &envelope(&["ann@example.net"]), ProviderKind::SendGrid, &everything()).unwrap();
    let described = plan.controls.to_json();
    assert_eq!(described["metadata"], json!({"b": "2"}), "{described}");
    assert!(described.to_string().contains("has 1 names more than"), "{described}");
}

#[test]
fn what_has_no_field_is_ignored_or_refused() {
    let headers = "X-PM-Message-Stream: outbound";
    let (plan, _) = ask_scaisend(headers, &everything()).unwrap();
    assert_eq!(plan.controls.ignored[0].why, "asks for stream, and ScaiSend has no field for it");
    let strict = Policy { unsupported: Stance::Refuse, ..everything() };
    let what = "X-PM-Message-Stream asks for stream, and ScaiSend has no field for it";
    assert_eq!(detail(headers, &strict), (Kind::Unsupported, what.to_owned()));
    assert_eq!(detail("X-Mailgun-Dkim: no", &strict).0, Kind::Unsupported);
    let many: Vec<String> = (0..12).map(|n| format!("X-Sidepost-Tag: {n}")).collect();
    let many = many.join("\n");
    assert_eq!(
        detail(&many, &strict),
        (Kind::Unsupported, "X-Sidepost-Tag has 2 tags more than the 10 that ScaiSend takes".to_owned())
    );
    // Not allowed is the operator's word, and no reason to refuse.
    assert!(
        ask_scaisend("X-PM-Message-Stream: x", &Policy { unsupported: Stance::Refuse, ..default_controls() }).is_ok()
    );
}

/// "Never delivered" must not become "delivered", nor a mail with marks go out with its marks.
#[test]
fn what_changes_the_mail_is_refused_where_it_cannot_be_done() {
    let ask =
        |headers: &str| ask(mail(headers), &envelope(&["ann@example.net"]), ProviderKind::NexusProMail, &everything());
    for headers in ["X-Sidepost-Sandbox: yes", "X-SMTPAPI: {\"sub\": {\"%a%\": [\"b\"]}}"] {
        assert_eq!(ask(headers).unwrap_err().kind, Kind::Unsupported);
    }
    assert!(ask("X-Sidepost-Sandbox: no").is_ok());
    assert!(ask("X-Sidepost-Template: d-1").is_ok(), "the mail's own body goes");
}

/// A part of the envelope may be done already (the ledger): those are no strangers to `to`.
#[test]
fn recipients_of_a_header_are_compared_with_the_whole_envelope() {
    let whole = envelope(&["ann@example.net", "bob@example.net"]);
    let open = envelope(&["bob@example.net"]);
    let provider = provider::build(&default_account(ProviderKind::ScaiSend));
    let limits = provider.limits();
    let terms = Terms {
        limits: &limits,
        fanout: sidepost::config::Fanout::Auto,
        unsupported: Unsupported::Refuse,
        utf8_addresses: false,
        apart: false,
    };
    let policies = Policies { sender: SenderPolicy::default(), controls: everything() };
    let raw = mail("X-SMTPAPI: {\"to\": [\"ann@example.net\", \"bob@example.net\"]}");
    let (_, plan) = prepare(raw.clone(), &whole, &open, &policies, terms).unwrap();
    let sent: Vec<String> = plan.batches.iter().flat_map(Batch::recipients).map(ToString::to_string).collect();
    assert_eq!(sent, ["bob@example.net"]);
    let refused = prepare(raw.clone(), &open, &open, &policies, terms).unwrap_err();
    assert_eq!(refused.kind, Kind::BadContent);
    let policies = Policies { controls: Policy { recipients: Stance::Ignore, ..everything() }, ..policies };
    let (_, plan) = prepare(raw, &open, &open, &policies, terms).unwrap();
    assert!(plan.controls.ignored[0].why.contains("names recipients (1)"), "{:?}", plan.controls.ignored);
}

/// A small header must not make a large request.
#[test]
fn sections_do_not_multiply_without_end() {
    let section = "s".repeat(50_000);
    let many = (0..100).map(|n| format!("\"%{n}%\":[\"%s%\"]")).collect::<Vec<_>>().join(",");
    let bomb = format!("X-SMTPAPI: {{\"sub\":{{{many}}},\"section\":{{\"%s%\":\"{section}\"}}}}");
    assert!(detail(&bomb, &everything()).1.contains("1 MiB"));
    let sections = (0..101).map(|n| format!("\"{n}\":\"x\"")).collect::<Vec<_>>().join(",");
    let many = format!("X-SMTPAPI: {{\"sub\":{{\"a\":[\"1\"]}},\"section\":{{{sections}}}}}");
    assert!(detail(&many, &everything()).1.contains("100 sections"));
}

#[test]
fn dates_are_read_as_vendors_write_them() {
    for (text, seconds) in [
        ("2027-01-15T09:00:00Z", Some(1_800_003_600)),
        ("2027-01-15T09:00:00.250Z", Some(1_800_003_600)),
        ("2027-01-15 09:00:00", Some(1_800_003_600)),
        ("2027-01-15T10:30:00+01:30", Some(1_800_003_600)),
        ("2027-01-15T04:00:00-05:00", Some(1_800_003_600)),
        ("Fri, 15 Jan 2027 10:00:00 +0100", Some(1_800_003_600)),
        ("15 Jan 2027 09:00:00 GMT", Some(1_800_003_600)),
        ("tomorrow", None),
        ("", None),
        ("2027-13-15T09:00:00Z", None),
        ("2027-01-15T09:00:00+aa:bb", None),
        ("Tue, 5 Jan 2027 09:00:00 +0000", Some(1_799_139_600)),
        ("15/01/2027", None),
        ("15.01.2027 09:00", None),
        ("Wed, 31 Dec 1969 23:00:00 +0000", None),
    ] {
        assert_eq!(unix_seconds(text), seconds, "{text}");
    }
}

fn a_header() -> impl Strategy<Value = String> {
    let names: Vec<String> = TABLE.iter().map(|row| row.header.replace('*', "Order")).collect();
    let words = prop_oneof![
        Just("\"eve@evil.example\"".to_owned()),
        Just("[\"eve@evil.example\"]".to_owned()),
        Just("{\"to\": [\"ann@example.net\"], \"category\": [\"a\", 1], \"sub\": {\"a\": [\"b\", \"c\"]}}".to_owned()),
        Just("{\"email\": \"eve@evil.example\", \"url\": \"https://evil.example\"}".to_owned()),
        Just("d-1".to_owned()),
        Just("yes".to_owned()),
        Just("1799999999".to_owned()),
        Just("=?utf-8?q?=0D=0ABcc:_eve@evil.example?=".to_owned()),
        "\\{(\"[a-z_]{1,8}\": ?(\"\\PC{0,9}\"|[0-9]{1,25}|\\[\\]|\\{\\}),?){0,4}\\}?",
        "\\PC{0,40}",
    ];
    (prop::sample::select(names), words).prop_map(|(name, value)| format!("{name}: {value}\n"))
}

proptest! {
    /// DESIGN promise 2, and §3's "a header never chooses credentials, URL or envelope".
    #[test]
    fn no_header_chooses_recipients_address_or_credentials(
        headers in prop::collection::vec(a_header(), 0..6), ignore in any::<bool>(), kind in 0_usize..3
    ) {
        let kind = ProviderKind::ALL[kind];
        let stance = if ignore { Stance::Ignore } else { Stance::Refuse };
        let policy = Policy { invalid: stance, unsupported: stance, recipients: stance, ..everything() };
        let recipients = envelope(&["ann@example.net", "bob@example.net"]);
        let plain = ask(mail("X-Plain: 1"), &recipients, kind, &policy).unwrap().1;
        if let Ok((plan, requests)) = ask(mail(&format!("{}X-Plain: 1", headers.concat())), &recipients, kind, &policy) {
            let sent: Vec<&Address> = plan.batches.iter().flat_map(Batch::recipients).collect();
            prop_assert_eq!(sent.len(), 2);
            prop_assert!(sent.iter().all(|address| recipients.recipients.contains(address)));
            prop_assert_eq!(requests.len(), plain.len());
            for (request, plain) in requests.iter().zip(&plain) {
                prop_assert_eq!(&request.url, &plain.url);
                prop_assert_eq!(&request.method, &plain.method);
                prop_assert_eq!(&request.headers, &plain.headers);
                let (body, plain) = (body(request), body(plain));
                for field in ["from", "reply_to", "headers", "to"] {
                    prop_assert_eq!(body.get(field), plain.get(field));
                }
                let addresses = |body: &Value| -> Vec<Value> {
                    let groups = body["personalizations"].as_array().cloned().unwrap_or_default();
                    groups.iter().flat_map(|g| ["to", "cc", "bcc"].map(|list| g[list].clone())).collect()
                };
                prop_assert_eq!(addresses(&body), addresses(&plain));
            }
        }
    }

    /// Whatever octets a header holds: no panic, JSON, and log lines of one line.
    #[test]
    fn any_octets_are_read(name in 0..TABLE.len(), value in prop::collection::vec(any::<u8>(), 0..80)) {
        let name = TABLE[name].header.replace('*', "x");
        let raw = [b"From: a@example.com\r\n", name.as_bytes(), b": ", &value, b"\r\n\r\nhello\r\n"].concat();
        let policy = Policy { invalid: Stance::Ignore, recipients: Stance::Ignore, ..everything() };
        if let Ok((plan, requests)) = ask(raw.into(), &envelope(&["ann@example.net"]), ProviderKind::SendGrid, &policy) {
            let body = body(&requests[0]);
            let findings = sidepost::sandbox::request_shape::check(ProviderKind::SendGrid, Alphabet::Ascii, &body);
            prop_assert!(findings.is_empty(), "{findings:?} {body}");
            prop_assert!(plan.controls.ignored.iter().all(|one| !one.why.contains(char::is_control)));
        }
    }
}
