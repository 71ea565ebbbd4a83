//! Delivery reports after a partial success: what they say, who gets them, and who never does.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use sidepost::address::{Address, Alphabet};
use sidepost::envelope::{Envelope, Transaction, TransactionId};
use sidepost::message::{Mailbox, Message};
use sidepost::metrics::Metrics;
use sidepost::recent::Recent;
use sidepost::relay::Relay;
use sidepost::relay::http::Transport;
use sidepost::reply::{Enhanced, Reply};
use sidepost::report::{Refused, Report, Withheld, addressee};
use tokio::time::Instant;

use crate::binary::Relay as Sandboxed;
use crate::world::{Answer, MAIL, Script, address, config, relay_over, transaction};

const NOTIFY: &str = "delivery.partial_failure=notify";
const NEXUS: &str = "providers.main.kind=nexuspromail";

// === What it says ===

fn parse(mail: impl Into<Vec<u8>>) -> Message {
    Message::parse(Bytes::from(mail.into())).unwrap()
}

fn refused(recipient: &str) -> Refused {
    let reply = Reply::new(550, Enhanced(5, 7, 1), "The recipient is suppressed (main 422)");
    (Address::parse_in(Alphabet::Utf8, recipient).unwrap(), reply)
}

/// The words, the fields and the whole of the report about this mail.
fn report_on(original: &str, refused: &[Refused]) -> (String, String, Message) {
    let from = Mailbox { name: Some("The \"App\"".to_owned()), address: address("app@example.com") };
    let report = Report {
        reporter: "relay.test",
        id: TransactionId::new(uuid::Uuid::nil()),
        arrival: SystemTime::UNIX_EPOCH + Duration::from_hours(498_717),
        from: &from,
        to: &address("bounces@example.com"),
        original: &parse(original),
        refused,
    };
    (report.text(), report.status(), parse(report.mail()))
}

#[test]
fn the_words_for_people() {
    let (text, ..) = report_on(MAIL, &[refused("bob@example.net")]);
    let expected = "Your mail \"hi\" of Sun, 22 Nov 2026 21:00:00 +0000 was not sent to all of its recipients.\n\n\
        These were refused, and are not tried again:\n\n\
        <bob@example.net>\n    550 5.7.1 The recipient is suppressed (main 422)\n\n\
        For all others it was accepted: they need not get it again.\n\n\
        The mail relay relay.test wrote this report.\n";
    assert_eq!(text, expected.replace('\n', "\r\n"));
}

#[test]
fn the_fields_for_programs() {
    let (_, status, _) = report_on(MAIL, &[refused("bob@example.net"), refused("jörg=x@example.net")]);
    let expected = "Reporting-MTA: dns; relay.test\nArrival-Date: Sun, 22 Nov 2026 21:00:00 +0000\n\n\
        Final-Recipient: rfc822; bob@example.net\nAction: failed\nStatus: 5.7.1\n\
        Diagnostic-Code: smtp; 550 5.7.1 The recipient is suppressed (main 422)\n\n\
        Final-Recipient: utf-8; j\\x{F6}rg\\x{3D}x@example.net\nAction: failed\nStatus: 5.7.1\n\
        Diagnostic-Code: smtp; 550 5.7.1 The recipient is suppressed (main 422)\n";
    assert_eq!(status, expected.replace('\n', "\r\n"));
}

/// The report is read as it was written: one text, two attachments, and the fields that end loops.
#[test]
fn the_mail_reads_as_it_was_meant() {
    let original = "From: a@example.com\r\nMessage-ID: <m1@example.com>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe=0D=0ABcc:_x@y.example?=\r\nX-Folded: a\r\n \u{e4}\r\nX-SMTPAPI: {}\r\nBcc: z@example.net\r\n\r\nsecret body\r\n";
    let (.., report) = report_on(original, &[refused("bob@example.net")]);
    assert_eq!(report.subject.as_deref(), Some("Undelivered: Grüße Bcc: x@y.example"));
    assert_eq!(report.from[0].name.as_deref(), Some("The App"));
    assert_eq!(report.to[0].address, address("bounces@example.com"));
    let fields: Vec<String> = report.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(
        fields,
        ["Auto-Submitted: auto-replied", "In-Reply-To: <m1@example.com>", "References: <m1@example.com>"]
    );
    assert!(report.text.unwrap().contains("<bob@example.net>"));
    assert!(report.html.is_none() && report.losses.is_empty());
    let attached: Vec<(&str, &str)> =
        report.attachments.iter().map(|a| (a.filename.as_str(), a.content_type.as_str())).collect();
    assert_eq!(
        attached,
        [("delivery-status.txt", "message/delivery-status"), ("original-header.txt", "text/rfc822-headers")]
    );
    let header = report.attachments[1].content.decode();
    let (shown, _) = original.split_once("\r\nX-SMTPAPI").unwrap();
    assert_eq!(String::from_utf8(header).unwrap().trim_end(), shown);
}

#[test]
fn of_an_endless_header_whole_lines_go_along() {
    let original = format!("{}\r\nbody\r\n", "X-Filler: 0123456789\r\n".repeat(1_000));
    let (.., report) = report_on(&original, &[refused("bob@example.net")]);
    let header = report.attachments[1].content.decode();
    assert!((16_000..=16_384).contains(&header.len()), "{}", header.len());
    assert!(header.trim_ascii_end().ends_with(b"X-Filler: 0123456789"));
}

// === Who gets it ===

#[test]
fn whom_no_report_is_for() {
    let asked = |fields: &str, reverse_path: Option<&str>| {
        let envelope = Envelope { reverse_path: reverse_path.map(address), ..Envelope::default() };
        let original = parse(format!("{fields}{MAIL}"));
        addressee(&envelope, &original, &[refused("bob@example.net")]).cloned()
    };
    let app = Some("app@example.com");
    for fields in ["", "Auto-Submitted: no\r\n", "Auto-Submitted: No (a person)\r\n", "Precedence: first-class\r\n"] {
        assert_eq!(asked(fields, app), Ok(address("app@example.com")), "{fields}");
    }
    for fields in [
        "Auto-Submitted: auto-generated\r\n",
        "auto-submitted: AUTO-REPLIED; owner=x\r\n",
        "Auto-Submitted: \r\n",
        "Precedence: bulk\r\n",
        "Precedence: Junk\r\n",
        "precedence: list\r\n",
        "List-Id: <news.example.com>\r\n",
    ] {
        assert_eq!(asked(fields, app), Err(Withheld::Automatic), "{fields}");
    }
    assert_eq!(asked("", None), Err(Withheld::NullReversePath));
    assert_eq!(asked("", Some("BOB@example.net")), Err(Withheld::RefusedItself));
}

// === How it is sent ===

struct World {
    relay: Arc<Relay>,
    script: Arc<Script>,
    metrics: Arc<Metrics>,
}

const ALL: &[&str] = &["ann@example.net", "bob@example.net"];

fn taken() -> Answer {
    Answer::Status(200, Vec::new(), r#"{"message_id":"m1"}"#.into())
}

fn suppressed() -> Answer {
    Answer::Status(422, Vec::new(), r#"{"error":"suppressed"}"#.into())
}

/// ScaiSend refuses the second group of the first request.
fn second_refused() -> Answer {
    let refusal = r#"{"errors":[{"message":"no such user","field":"personalizations.1.to.0.email"}]}"#;
    Answer::Status(400, Vec::new(), refusal.into())
}

impl World {
    fn new(flags: &[&str], answers: impl IntoIterator<Item = Answer>) -> Self {
        let (script, metrics) = (Script::new(answers), Arc::<Metrics>::default());
        let transport: Arc<dyn Transport> = script.clone();
        let refused_keys = Arc::new(Recent::new(Duration::from_mins(10)).unwrap());
        let relay = relay_over(&config(flags), &transport, &refused_keys, &metrics);
        Self { relay, script, metrics }
    }

    /// Submits, has the reply written, and waits for the report, if one is made.
    async fn send(&self, change: impl FnOnce(&mut Transaction)) -> String {
        let mut transaction = transaction(MAIL, ALL);
        change(&mut transaction);
        let settled = Arc::clone(&self.relay).submit(transaction).await;
        settled.receipt.unwrap().written();
        self.relay.reported().await;
        settled.reply.to_string()
    }

    /// The lines of the metric.
    fn counted(&self) -> Vec<String> {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.metrics.register(&mut registry);
        encode(&mut text, &registry).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("sidepost_reports_total"));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The last request: the report.
    fn last(&self) -> Value {
        self.script.seen().pop().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_success_is_reported_to_the_reverse_path() {
    let world = World::new(&[NOTIFY], [second_refused(), Answer::ok("m1"), Answer::ok("r1")]);
    let with_id = format!("Message-ID: <m1@example.com>\r\n{MAIL}");
    let reply = world.send(|t| t.data = with_id.into()).await;
    assert!(reply.starts_with("250 ") && reply.contains("1 of 2 recipients; others bad-recipient"), "{reply}");
    assert_eq!(world.script.requests(), 3);
    let report = world.last();
    assert_eq!(report["from"]["email"], "app@example.com");
    assert_eq!(report["personalizations"][0]["to"][0]["email"], "app@example.com");
    assert_eq!(report["personalizations"].as_array().unwrap().len(), 1);
    assert_eq!(report["headers"]["Auto-Submitted"], "auto-replied");
    assert_eq!(report["headers"]["In-Reply-To"], "<m1@example.com>");
    assert!(report["content"][0]["value"].as_str().unwrap().contains("<bob@example.net>\n    550 5.1.3 "), "{report}");
    assert_eq!(report["attachments"].as_array().unwrap().len(), 2);
    assert_eq!(world.counted(), [r#"{outcome="accepted"} 1"#]);
}

/// A sender that is on the list gets none; that the API refuses it is how it gets there.
#[tokio::test(start_paused = true)]
async fn a_suppressed_sender_gets_no_report() {
    let answers = [taken(), suppressed(), suppressed(), taken(), suppressed()];
    let world = World::new(&[NOTIFY, NEXUS], answers);
    for requests in [3, 5] {
        assert!(world.send(|_| {}).await.starts_with("250 "));
        assert_eq!(world.script.requests(), requests);
    }
    assert_eq!(world.counted(), [r#"{outcome="suppressed"} 1"#, r#"{outcome="withheld"} 1"#]);
}

/// No field for attachments and headers: the words alone.
#[tokio::test(start_paused = true)]
async fn where_there_are_no_attachments_the_words_go_alone() {
    let world = World::new(&[NOTIFY, NEXUS], [taken(), suppressed(), taken()]);
    assert!(world.send(|_| {}).await.starts_with("250 "));
    let report = world.last();
    assert_eq!(report["subject"], "Undelivered: hi");
    assert_eq!(report["to"]["email"], "app@example.com");
    assert!(report["text"].as_str().unwrap().contains("<bob@example.net>"));
    assert_eq!(world.counted(), [r#"{outcome="accepted"} 1"#]);
}

#[tokio::test(start_paused = true)]
async fn the_default_sender_signs_and_no_login_is_in_its_way() {
    let flags =
        [NOTIFY, NEXUS, "sender.default=Relay <relay@example.org>", "smtp.senders.principals.ann=app@example.com"];
    let world = World::new(&flags, [taken(), suppressed(), taken()]);
    world.send(|t| t.envelope.principal = Some("ann".to_owned())).await;
    assert_eq!(world.last()["from"]["email"], "relay@example.org");
    assert_eq!(world.counted(), [r#"{outcome="accepted"} 1"#]);
}

/// Nobody is told by mail whom the reply tells, or who wants no mail.
#[tokio::test(start_paused = true)]
async fn nobody_is_told_twice_or_in_vain() {
    let accept = World::new(&[NEXUS], [taken(), suppressed()]);
    accept.send(|_| {}).await;
    let reject = World::new(&[NEXUS, "delivery.partial_failure=reject"], [taken(), suppressed()]);
    reject.send(|_| {}).await;
    let each = World::new(&[NOTIFY, NEXUS], [taken(), suppressed()]);
    each.send(|t| t.each = true).await;
    let deferred = World::new(&[NOTIFY, NEXUS], [Answer::status(500), suppressed()]);
    assert!(deferred.send(|_| {}).await.starts_with("451 "));
    let all_refused = World::new(&[NOTIFY, NEXUS], [suppressed(), suppressed()]);
    assert!(all_refused.send(|_| {}).await.starts_with("550 "));
    let all_taken = World::new(&[NOTIFY, NEXUS], [taken(), taken()]);
    assert!(all_taken.send(|_| {}).await.starts_with("250 "));
    for world in [&accept, &reject, &each, &deferred, &all_refused, &all_taken] {
        assert_eq!((world.script.requests(), world.counted()), (2, vec![]));
    }
    let null = World::new(&[NOTIFY, NEXUS], [taken(), suppressed()]);
    null.send(|t| t.envelope.reverse_path = None).await;
    let automatic = World::new(&[NOTIFY, NEXUS, "providers.main.unsupported=degrade"], [taken(), suppressed()]);
    automatic.send(|t| t.data = format!("Auto-Submitted: auto-generated\r\n{MAIL}").into()).await;
    for world in [&null, &automatic] {
        assert_eq!(world.script.requests(), 2);
        assert_eq!(world.counted(), [r#"{outcome="withheld"} 1"#]);
    }
}

/// The report's own failure ends it, whatever it is.
#[tokio::test(start_paused = true)]
async fn no_report_is_about_a_report() {
    for (answer, outcome) in
        [(suppressed(), "suppressed"), (Answer::Never, "ambiguous"), (Answer::status(500), "server-error")]
    {
        let world = World::new(&[NOTIFY, NEXUS], [taken(), suppressed(), answer]);
        assert!(world.send(|_| {}).await.starts_with("250 "));
        assert_eq!(world.script.requests(), 3);
        assert_eq!(world.counted(), [format!("{{outcome=\"{outcome}\"}} 1")]);
    }
}

/// The client does not wait for the report, the drain does; and the report has a deadline of its own.
#[tokio::test(start_paused = true)]
async fn the_reply_comes_first() {
    let slow = Answer::After(Duration::from_secs(5), Box::new(taken()));
    let world = World::new(&[NOTIFY, NEXUS], [taken(), suppressed(), slow]);
    let begun = Instant::now();
    let settled = Arc::clone(&world.relay).submit(transaction(MAIL, ALL)).await;
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(world.script.requests(), 2, "the client has no reply yet");
    settled.receipt.unwrap().written();
    assert_eq!(world.relay.under_way(), 0, "the next equal mail need not wait");
    world.relay.reported().await;
    assert_eq!(begun.elapsed().as_secs(), 35);
    assert_eq!(world.counted(), [r#"{outcome="accepted"} 1"#]);
}

/// A client that was gone before its reply tries again; the report is made then, and once.
#[tokio::test(start_paused = true)]
async fn a_client_that_was_gone_is_told_at_its_next_try() {
    let world = World::new(&[NOTIFY, NEXUS], [taken(), suppressed(), suppressed(), taken()]);
    drop(Arc::clone(&world.relay).submit(transaction(MAIL, ALL)).await);
    world.relay.reported().await;
    assert_eq!((world.script.requests(), world.counted()), (2, vec![]));
    assert!(world.send(|_| {}).await.starts_with("250 "));
    assert_eq!(world.script.requests(), 4);
    assert_eq!(world.counted(), [r#"{outcome="accepted"} 1"#]);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_refusals_is_not_doubled() {
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.extend([taken(), suppressed()]);
    }
    answers.extend(vec![Answer::Never; 16]);
    let world = World::new(&[NOTIFY, NEXUS, "providers.main.burst=100"], answers);
    let mut receipts = Vec::new();
    for n in 0..20 {
        let mail = format!("X-Mailer: {n}\r\n{MAIL}");
        receipts.push(Arc::clone(&world.relay).submit(transaction(&mail, ALL)).await.receipt.unwrap());
    }
    receipts.into_iter().for_each(sidepost::relay::ledger::Receipt::written);
    world.relay.reported().await;
    let mut counted = world.counted();
    counted.sort();
    assert_eq!(counted, [r#"{outcome="ambiguous"} 16"#, r#"{outcome="dropped"} 4"#]);
    assert_eq!(world.script.requests(), 40 + 16);
}

/// A stop right after the reply: the drain lets the report go.
#[test]
fn the_binary_sends_it_before_it_stops() {
    let mut relay = Sandboxed::sandbox(&["--set", NOTIFY]);
    let mut client = relay.connect();
    for line in
        ["EHLO x", "MAIL FROM:<app@example.com>", "RCPT TO:<ok@example.net>", "RCPT TO:<suppressed@example.net>"]
    {
        assert!(client.say(line).starts_with("250 "));
    }
    client.say("DATA");
    let reply = client.say("From: app@example.com\r\nTo: ok@example.net\r\nSubject: hi\r\n\r\nhello\r\n.");
    assert!(reply.starts_with("250 ") && reply.contains("1 of 2 recipients"), "{reply}");
    relay.signal();
    let log = relay.rest_of_log();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let place = |message: &str| events.iter().position(|event| event["message"] == message).expect(message);
    assert_eq!(events[place("delivery report")]["outcome"], "accepted");
    assert!(place("transaction") < place("delivery report") && place("delivery report") < place("stopped"));
}
