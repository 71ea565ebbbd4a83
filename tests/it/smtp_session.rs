//! The session alone: every order of commands, what counts as an error, and the laws of its replies.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use sidepost::address::Address;
use sidepost::envelope::{Login, TransactionId};
use sidepost::reply::{Enhanced, Reply};
use sidepost::smtp::Protocol;
use sidepost::smtp::codec::{ChunkDecoder, Decode, Flaw};
use sidepost::smtp::sasl::Verdict;
use sidepost::smtp::session::{Admission, Event, Next, Offer, Session, Step, Terms};

use crate::properties;
use crate::properties::reply::is_lawful;
use crate::properties::session::STEER;
use crate::smtp_command::any_line;

fn terms() -> Terms {
    Terms {
        client: Some([10, 0, 0, 1].into()),
        listener: "smtp://10.0.0.2:25".into(),
        protocol: Protocol::Smtp,
        encrypted: false,
        principal: None,
        tls: Offer::No,
        auth: false,
        access: Arc::default(),
        hostname: Arc::from("relay.test"),
        max_message_size: 1000,
        max_recipients: 3,
        max_errors: 20,
        max_commands: 10_000,
        admission: Admission::Open,
        utf8_addresses: false,
    }
}

fn id() -> TransactionId {
    TransactionId::new(uuid::Uuid::nil())
}

fn begun(terms: Terms) -> Session {
    let (session, step) = Session::begin(terms);
    assert_eq!(step.reply.unwrap().to_string(), "220 relay.test ESMTP sidepost");
    assert!(matches!(step.next, Next::ReadLine));
    session
}

/// Reads a chunk of `x`.
fn read(mut decoder: ChunkDecoder) -> ChunkDecoder {
    while decoder.decode(b"x").is_none() && !decoder.is_flawed() {}
    decoder
}

/// A session whose world always says yes: it lets MAIL pass, sends an empty message after 354, and accepts it.
struct Scenario(Session);

impl Scenario {
    fn new() -> Self {
        Self(begun(terms()))
    }

    fn to_open() -> Self {
        let mut scenario = Self::new();
        scenario.all(&[
            ("EHLO app.test", "250"),
            ("MAIL FROM:<a@b.test>", "250 2.1.0"),
            ("RCPT TO:<c@d.test>", "250 2.1.5"),
        ]);
        scenario
    }

    /// Each line with the beginning of its reply.
    fn all(&mut self, dialogue: &[(&str, &str)]) {
        for (line, expected) in dialogue {
            let reply = self.line(line).0;
            assert!(reply.to_string().starts_with(expected), "{line}: {reply}");
        }
    }

    fn line(&mut self, line: &str) -> (Reply, Next) {
        let mut step = self.0.step(Event::Line(line.as_bytes()));
        if matches!(step.next, Next::CheckSender(..)) {
            assert!(step.reply.is_none());
            step = self.0.step(Event::SenderChecked(Ok(())));
        }
        if let Next::CheckRecipient(_, _, recipient) = &step.next {
            assert!(step.reply.is_none());
            let refusal = || Reply::new(550, Enhanced(5, 7, 1), "suppressed");
            let verdict = if recipient.local() == "suppressed" { Err(refusal()) } else { Ok(()) };
            step = self.0.step(Event::RecipientChecked(verdict));
        }
        if let Next::CheckPassword(credentials) = &step.next {
            let good = (&credentials.user[..], credentials.password.expose()) == ("ann", "secret");
            let verdict = if good { Verdict::Welcome(Login::of("ann")) } else { Verdict::Refused };
            step = self.0.step(Event::PasswordChecked(verdict));
        }
        if let Next::ReadChunk(decoder) = step.next {
            step = self.0.step(Event::Chunk(id(), read(decoder).checked()));
        }
        if matches!(step.next, Next::Swallow(_)) {
            step = self.0.step(Event::Swallowed);
        }
        if matches!(step.next, Next::Relay(_)) {
            step = self.0.step(Event::Settled(Reply::new(250, Enhanced(2, 0, 0), "relayed"), Vec::new()));
        }
        if matches!(step.next, Next::LookBehind) {
            step = self.0.step(Event::Behind(false));
        }
        (step.reply.expect("each line has a reply"), step.next)
    }
}

#[test]
fn a_transaction_carries_its_envelope() {
    let mut s = Scenario::new();
    s.all(&[
        (
            "EHLO app.test",
            "250 relay.test / PIPELINING / SIZE 1000 / 8BITMIME / ENHANCEDSTATUSCODES / CHUNKING / LIMITS RCPTMAX=3",
        ),
        ("MAIL FROM:<a@b.test> SIZE=1000", "250 2.1.0"),
        ("RCPT TO:<One@d.test>", "250 2.1.5"),
        ("RCPT TO:<two@d.test>", "250 2.1.5"),
        ("RCPT TO:<One@D.test>", "250 2.1.5"),
        ("DATA", "354"),
    ]);
    let step = s.0.step(Event::Data(id(), Ok(Bytes::from_static(b"text"))));
    let Step { reply: None, next: Next::Relay(transaction), .. } = step else { panic!("{step:?}") };
    assert_eq!(transaction.data, "text");
    assert_eq!(transaction.envelope.helo, "app.test");
    assert_eq!(transaction.envelope.reverse_path.unwrap().as_str(), "a@b.test");
    assert_eq!(
        transaction.envelope.recipients.iter().map(Address::as_str).collect::<Vec<_>>(),
        ["One@d.test", "two@d.test"]
    );

    let step = s.0.step(Event::Settled(Reply::new(451, Enhanced(4, 0, 0), "later"), Vec::new()));
    assert_eq!(step.reply.unwrap().to_string(), "451 4.0.0 later");
    s.all(&[("DATA", "503"), ("MAIL FROM:<>", "250"), ("RCPT TO:<x@y.test>", "250"), ("QUIT", "221 2.0.0")]);
}

#[test]
fn commands_come_in_order() {
    let mut s = Scenario::new();
    s.all(&[
        ("MAIL FROM:<a@b.test>", "503 5.5.1"),
        ("RCPT TO:<a@b.test>", "503"),
        ("DATA", "503"),
        ("RSET", "250 2.0.0"),
    ]);
    s.all(&[("NOOP", "250 2.0.0"), ("VRFY ann", "252 2.0.0"), ("EXPN l", "502 5.5.1"), ("HELP", "214 2.0.0")]);
    s.all(&[("HELO app.test", "250 relay.test"), ("RCPT TO:<a@b.test>", "503"), ("DATA", "503")]);
    s.all(&[
        ("MAIL FROM:<>", "250"),
        ("MAIL FROM:<>", "503"),
        ("DATA", "554 5.5.1"),
        ("RCPT TO:<a@b.test>", "250"),
        ("DATA", "354"),
    ]);
}

#[test]
fn side_commands_leave_a_transaction_alone() {
    let mut s = Scenario::to_open();
    for line in
        ["NOOP", "VRFY x", "EXPN x", "HELP", "XYZZY", "", "RSET now", "EHLO", "RCPT TO:<bad>", "MAIL FROM:<x@y.test>"]
    {
        let _ = s.line(line);
    }
    let _ = s.0.step(Event::Garble);
    let _ = s.0.step(Event::TooLong);
    s.all(&[("DATA", "354")]);
}

#[test]
fn rset_and_a_new_greeting_drop_a_transaction() {
    for line in ["RSET", "EHLO again", "HELO again"] {
        let mut s = Scenario::to_open();
        s.all(&[(line, "250"), ("DATA", "503"), ("MAIL FROM:<>", "250"), ("DATA", "554")]);
    }
}

#[test]
fn too_many_recipients_are_deferred_and_the_others_kept() {
    let mut s = Scenario::to_open();
    s.all(&[("RCPT TO:<2@d.test>", "250"), ("RCPT TO:<3@d.test>", "250"), ("RCPT TO:<4@d.test>", "452 4.5.3")]);
    s.all(&[("RCPT TO:<c@d.test>", "250"), ("DATA", "354")]);
}

#[test]
fn mail_is_refused_before_its_body_is_sent() {
    let mut s = Scenario::new();
    s.all(&[
        ("EHLO a", "250"),
        ("MAIL FROM:<> SIZE=1001", "552 5.3.4"),
        ("RCPT TO:<a@b.test>", "503"),
        ("DATA", "503"),
    ]);
    assert_eq!(s.0.protocol_errors(), 0, "what a pipelining client sent before it could know is no error");

    let mut s = Scenario(begun(Terms { admission: Admission::Stranger, ..terms() }));
    s.all(&[("EHLO a", "250"), ("MAIL FROM:<>", "550 5.7.1"), ("RCPT TO:<a@b.test>", "503"), ("QUIT", "221")]);

    let mut s = Scenario::new();
    s.all(&[("EHLO a", "250")]);
    let step = s.0.step(Event::Line(b"MAIL FROM:<>"));
    assert!(matches!(step, Step { reply: None, next: Next::CheckSender(..), .. }));
    let step = s.0.step(Event::SenderChecked(Err(Reply::new(451, Enhanced(4, 3, 2), "breaker open"))));
    assert_eq!(step.reply.unwrap().code, 451);
    s.all(&[("RCPT TO:<a@b.test>", "503"), ("DATA", "503"), ("MAIL FROM:<>", "250")]);
}

#[test]
fn a_flawed_message_is_refused_and_the_session_goes_on() {
    for (flaw, expected) in [(Flaw::LineEnds, "550 5.6.0"), (Flaw::TooLarge, "552 5.3.4"), (Flaw::NoRoom, "452 4.3.1")]
    {
        let mut s = Scenario::to_open();
        s.all(&[("DATA", "354")]);
        let step = s.0.step(Event::Data(id(), Err(flaw)));
        let reply = step.reply.unwrap();
        assert!(reply.to_string().starts_with(expected), "{reply}");
        is_lawful(&reply);
        s.all(&[("DATA", "503"), ("MAIL FROM:<>", "250")]);
    }
}

#[test]
fn only_protocol_errors_count() {
    let mut s = Scenario::to_open();
    for _ in 0..100 {
        s.all(&[("RCPT TO:<bad..address@d.test>", "553"), ("RSET", "250"), ("MAIL FROM:<root>", "501 5.1.7")]);
        s.all(&[("RCPT TO:<a@b.test>", "503"), ("DATA", "503"), ("MAIL FROM:<>", "250"), ("DATA", "554")]);
    }
    assert_eq!(s.0.protocol_errors(), 0);
    for _ in 0..19 {
        s.all(&[("XYZZY", "500 5.5.1")]);
    }
    let (reply, next) = s.line("XYZZY");
    assert!(reply.to_string().starts_with("421 4.7.0"), "{reply}");
    assert!(matches!(next, Next::Close));
}

#[test]
fn the_session_ends_when_it_must() {
    let ends: [(Event, &str); 4] = [
        (Event::Idle, "421 4.4.2"),
        (Event::Drain, "421 4.3.2"),
        (Event::Line(b"POST / HTTP/1.1"), "421 4.7.0"),
        (Event::Line(b"quit"), "221 2.0.0"),
    ];
    for (event, expected) in ends {
        let mut s = Scenario::to_open();
        let step = s.0.step(event);
        assert!(step.reply.unwrap().to_string().starts_with(expected));
        assert!(matches!(step.next, Next::Close));
        assert!(matches!(s.0.step(Event::Line(b"NOOP")), Step { reply: None, next: Next::Close, .. }));
    }
}

#[test]
fn a_driver_out_of_step_is_a_temporary_fault() {
    let mut s = Scenario::to_open();
    let step = s.0.step(Event::Settled(Reply::new(250, Enhanced(2, 0, 0), "never asked"), Vec::new()));
    assert_eq!(step.reply.unwrap().code, 421);
    assert!(matches!(step.next, Next::Close));
}

// === BDAT ===

#[test]
fn a_message_comes_in_chunks() {
    let mut s = Scenario::to_open();
    s.all(&[
        ("BDAT 5", "250 2.0.0 Ok, 5 octets"),
        ("NOOP", "250"),
        ("bdat 0", "250"),
        ("BDAT 010 last", "250 2.0.0 relayed"),
    ]);
    s.all(&[
        ("BDAT 5 LAST", "503"),
        ("MAIL FROM:<>", "250"),
        ("BDAT 5 LAST", "554 5.5.1"),
        ("RCPT TO:<a@b.test>", "250"),
    ]);
    s.all(&[("BDAT 0 LAST", "250 2.0.0 relayed")]);
}

#[test]
fn chunks_and_data_are_not_mixed() {
    let mut s = Scenario::to_open();
    s.all(&[("BDAT 5", "250"), ("DATA", "503"), ("RCPT TO:<a@b.test>", "503"), ("MAIL FROM:<>", "503")]);
    assert!(s.0.holds_octets() && s.0.in_transaction());
    s.all(&[("RSET", "250"), ("BDAT 5", "503"), ("DATA", "503")]);
    assert!(!s.0.holds_octets());
}

#[test]
fn after_a_chunk_that_failed_the_others_do_too() {
    let mut s = Scenario::to_open();
    s.all(&[("BDAT 600", "250"), ("BDAT 600", "552 5.3.4"), ("BDAT 5", "503"), ("BDAT 5 LAST", "503")]);
    assert_eq!(s.0.protocol_errors(), 0, "what a pipelining client sent before it could know is no error");
    s.all(&[("MAIL FROM:<>", "250"), ("RCPT TO:<a@b.test>", "250"), ("BDAT 5 LAST", "250")]);
}

#[test]
fn a_chunk_without_a_size_ends_the_session() {
    for line in [
        "BDAT",
        "BDAT ",
        "BDAT x",
        "BDAT -1",
        "BDAT +5 LAST",
        "BDAT 1e3",
        "BDAT 0x10",
        "BDAT 10 FOO",
        "BDAT 10 LAST x",
        "BDAT LAST",
        "BDAT 18446744073709551616 LAST",
        "BDAT 5LAST",
        "BDAT 1 0 LAST",
        "BDAT \u{ff15} LAST",
        "BDAT 4\x000 LAST",
    ] {
        let (reply, next) = Scenario::to_open().line(line);
        assert!(reply.to_string().starts_with("501 5.5.4") && matches!(next, Next::Close), "{line}: {reply}");
    }
    let step = Scenario::to_open().0.step(Event::Line(b"BDAT 18446744073709551615"));
    assert!(matches!(step.next, Next::ReadChunk(decoder) if decoder.is_flawed()));
}

// === LMTP ===

#[test]
fn lmtp_has_a_reply_for_each_recipient() {
    let lmtp = Terms { protocol: Protocol::Lmtp, max_recipients: 4, ..terms() };
    let (session, step) = Session::begin(lmtp);
    assert_eq!(step.reply.unwrap().to_string(), "220 relay.test LMTP sidepost");
    let mut s = Scenario(session);
    s.all(&[
        ("EHLO a", "500 5.5.1"),
        ("HELO a", "500"),
        ("MAIL FROM:<>", "503 5.5.1 Say LHLO"),
        ("LHLO a", "250 relay.test /"),
    ]);
    let data = |s: &mut Scenario| {
        s.all(&[
            ("MAIL FROM:<>", "250"),
            ("DATA", "503 5.5.1"),
            ("RCPT TO:<1@b.test>", "250"),
            ("RCPT TO:<2@b.test>", "250"),
        ]);
        s.all(&[("RCPT TO:<x", "553"), ("RCPT TO:<1@B.test>", "250"), ("RCPT TO:<3@b.test>", "250")]);
        s.all(&[("RCPT TO:<4@b.test>", "452"), ("RCPT TO:<1@b.test>", "452"), ("DATA", "354")]);
    };
    let codes = |step: Step| step.reply.iter().chain(&step.more).map(|r| r.code).collect::<Vec<_>>();
    data(&mut s);
    let step = s.0.step(Event::Data(id(), Ok(Bytes::new())));
    let Next::Relay(transaction) = step.next else { panic!("{step:?}") };
    assert!(transaction.each);
    assert_eq!(transaction.envelope.recipients.len(), 3);
    let reply = |code| Reply::new(code, Enhanced::of(code, 0, 0), "x");
    let each = vec![reply(250), reply(451), reply(550)];
    assert_eq!(codes(s.0.step(Event::Settled(reply(451), each))), [250, 451, 250, 550]);

    data(&mut s);
    assert_eq!(codes(s.0.step(Event::Data(id(), Err(Flaw::LineEnds)))), [550; 4]);
    data(&mut s);
    let _ = s.0.step(Event::Data(id(), Ok(Bytes::new())));
    assert_eq!(codes(s.0.step(Event::Settled(reply(451), Vec::new()))), [451; 4], "a fault concerns everybody");
    s.all(&[("MAIL FROM:<>", "250"), ("RCPT TO:<1@b.test>", "250"), ("QUIT", "221")]);
    Scenario::new().all(&[("LHLO a", "502 5.5.1"), ("MAIL FROM:<>", "503")]);
}

// === AUTH and STARTTLS ===

/// `NUL ann NUL secret`, and with another password.
const GOOD: &str = "AUTH PLAIN AGFubgBzZWNyZXQ=";
const BAD: &str = "AUTH PLAIN AGFubgBTRUNSRVQ=";

fn with_auth(terms_: Terms) -> Scenario {
    let mut s = Scenario(begun(terms_));
    s.all(&[("AUTH PLAIN", "503 5.5.1"), ("EHLO a", "250")]);
    s
}

fn private() -> Terms {
    Terms { auth: true, encrypted: true, ..terms() }
}

#[test]
fn a_client_authenticates_in_one_step_or_in_several() {
    for dialogue in [
        &[(GOOD, "235 2.7.0")][..],
        &[("auth Plain", "334 "), ("AGFubgBzZWNyZXQ=", "235")],
        &[("AUTH PLAIN YW5uAGFubgBzZWNyZXQ=", "235")],
        &[("AUTH LOGIN", "334 VXNlcm5hbWU6"), ("YW5u", "334 UGFzc3dvcmQ6"), ("c2VjcmV0", "235")],
        &[("AUTH login YW5u", "334 UGFzc3dvcmQ6"), ("c2VjcmV0", "235")],
    ] {
        let mut s = with_auth(private());
        s.all(dialogue);
        s.all(&[(GOOD, "503 5.5.1"), ("AUTH PLAIN", "503"), ("RSET", "250"), ("EHLO a", "250"), (GOOD, "503")]);
        s.all(&[("MAIL FROM:<> AUTH=<>", "250"), ("RCPT TO:<c@d.test>", "250"), ("DATA", "354")]);
        let step = s.0.step(Event::Data(id(), Ok(Bytes::new())));
        let Next::Relay(transaction) = step.next else { panic!("{step:?}") };
        assert_eq!(transaction.envelope.principal.unwrap(), "ann");
    }
}

#[test]
fn an_exchange_that_fails_changes_nothing() {
    for dialogue in [
        &[("AUTH PLAIN", "334"), ("*", "501 5.7.0")][..],
        &[("AUTH LOGIN", "334"), ("YW5u", "334"), ("*", "501 5.7.0")],
        &[("AUTH PLAIN", "334"), ("QUIT", "501 5.5.2")],
        &[("AUTH PLAIN", "334"), ("", "501 5.5.2")],
        &[("AUTH PLAIN =", "501 5.5.2")],
        &[("AUTH PLAIN *", "501 5.5.2")],
        &[("AUTH PLAIN !!!!", "501 5.5.2")],
        &[(BAD, "535 5.7.8")],
        &[("AUTH PLAIN Ym9iAGFubgBzZWNyZXQ=", "535 5.7.8")], // Ann as Bob.
        &[("AUTH PLAIN AGFubgBzZWNyZXQA", "501 5.5.2")],     // A NUL behind the password.
        &[("AUTH CRAM-MD5", "504 5.5.4")],
        &[("AUTH", "501 5.5.4")],
        &[("AUTH PLAIN a b", "501 5.5.4")],
    ] {
        let mut s = with_auth(Terms { admission: Admission::LoginOnly, ..private() });
        s.all(dialogue);
        s.all(&[("NOOP", "250"), ("MAIL FROM:<>", "530 5.7.0"), ("RCPT TO:<a@b.test>", "503"), (GOOD, "235")]);
        s.all(&[("MAIL FROM:<>", "250")]);
    }
    let mut s = with_auth(private());
    s.all(&[("AUTH PLAIN", "334")]);
    assert_eq!(s.0.step(Event::TooLong).reply.unwrap().code, 500);
    s.all(&[("NOOP", "250")]);
}

#[test]
fn nobody_guesses_for_ever() {
    let mut s = with_auth(private());
    s.all(&[(BAD, "535"), (BAD, "535")]);
    let (reply, next) = s.line(BAD);
    assert!(reply.to_string().starts_with("421 4.7.0") && matches!(next, Next::Close), "{reply}");
    let mut s = with_auth(private());
    assert!(matches!(s.0.step(Event::Line(GOOD.as_bytes())).next, Next::CheckPassword(_)));
    let step = s.0.step(Event::PasswordChecked(Verdict::TooMany));
    assert!(matches!(step, Step { reply: Some(Reply { code: 421, .. }), next: Next::Close, .. }));
}

#[test]
fn passwords_are_not_taken_in_the_clear() {
    let mut s = with_auth(Terms { encrypted: false, ..private() });
    s.all(&[(
        "EHLO a",
        "250 relay.test / PIPELINING / SIZE 1000 / 8BITMIME / ENHANCEDSTATUSCODES / CHUNKING / LIMITS RCPTMAX=3",
    )]);
    s.all(&[(GOOD, "538 5.7.11"), ("AUTH PLAIN", "538")]);
    for client in [None, Some([127, 0, 0, 1].into()), Some("::1".parse().unwrap())] {
        with_auth(Terms { encrypted: false, client, ..private() }).all(&[(GOOD, "235")]);
    }
    Scenario(begun(terms())).all(&[("AUTH PLAIN", "502 5.5.1"), ("EHLO a", "250"), ("MAIL FROM:<> AUTH=<>", "555")]);
}

#[test]
fn who_is_known_may_send_from_anywhere() {
    let stranger = Terms { admission: Admission::Stranger, ..private() };
    let mut s = with_auth(stranger.clone());
    s.all(&[("MAIL FROM:<>", "530 5.7.0"), (GOOD, "235"), ("MAIL FROM:<>", "250"), (GOOD, "503")]);
    let known = Terms { principal: Some("CN=app".into()), ..stranger };
    let mut s = Scenario(begun(known.clone()));
    s.all(&[("EHLO a", "250"), ("MAIL FROM:<>", "250")]);
    // Certificates only: there is no password to ask for.
    let certified = Terms { auth: false, admission: Admission::LoginOnly, ..known };
    Scenario(begun(certified.clone())).all(&[("EHLO a", "250"), ("MAIL FROM:<>", "250")]);
    let mut s = Scenario(begun(Terms { principal: None, ..certified }));
    s.all(&[("EHLO a", "250"), ("MAIL FROM:<>", "530 5.7.0"), (GOOD, "502 5.5.1")]);
}

#[test]
fn encryption_begins_a_new_session() {
    let offered = Terms { tls: Offer::Required, auth: true, ..terms() };
    let mut s = Scenario(begun(offered.clone()));
    s.all(&[(
        "EHLO a",
        "250 relay.test / PIPELINING / SIZE 1000 / 8BITMIME / ENHANCEDSTATUSCODES / CHUNKING / LIMITS RCPTMAX=3 / STARTTLS",
    )]);
    s.all(&[("MAIL FROM:<>", "530 5.7.0"), ("STARTTLS now", "501 5.5.4"), (GOOD, "538")]);
    let (reply, next) = s.line("STARTTLS");
    assert!(reply.to_string().starts_with("220 2.0.0") && matches!(next, Next::Handshake));
    assert!(matches!(s.0.step(Event::Encrypted(None)), Step { reply: None, next: Next::ReadLine, .. }));
    s.all(&[("MAIL FROM:<>", "503"), ("STARTTLS", "503 5.5.1")]);
    s.all(&[(
        "EHLO a",
        "250 relay.test / PIPELINING / SIZE 1000 / 8BITMIME / ENHANCEDSTATUSCODES / CHUNKING / LIMITS RCPTMAX=3 / AUTH PLAIN LOGIN",
    )]);
    s.all(&[("MAIL FROM:<>", "250"), ("STARTTLS", "503")]);

    let mut s = Scenario(begun(Terms { tls: Offer::Optional, ..offered.clone() }));
    s.all(&[("EHLO a", "250"), ("MAIL FROM:<>", "250"), ("STARTTLS", "503 5.5.1"), ("RCPT TO:<a@b.test>", "250")]);

    let mut s = Scenario(begun(offered));
    assert!(matches!(s.0.step(Event::Line(b"STARTTLS")), Step { reply: None, next: Next::LookBehind, .. }));
    assert!(matches!(
        s.0.step(Event::Behind(true)),
        Step { reply: Some(Reply { code: 503, .. }), next: Next::Close, .. }
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever is said on whatever terms, the witness finds nothing wrong.
    #[test]
    fn any_dialogue_is_as_it_was_heard(
        lines in vec(prop_oneof![9 => any_line(), 1 => Just(b"NO\nOP".to_vec()), 1 => Just(vec![b'x'; 3000])], 0..60),
        terms in vec(any::<u8>(), 2),
        answers in vec(0u8..8, STEER - 2),
    ) {
        let wire = lines.join(&b"\r\n"[..]);
        properties::session::holds(&[terms, answers, wire, b"\r\n".to_vec()].concat());
    }

    /// Events in no order at all: the session may end, but it does not panic.
    #[test]
    fn no_event_is_fatal(events in vec(0u8..19, 0..30)) {
        let mut session = begun(Terms { tls: Offer::Optional, auth: true, client: None, ..terms() });
        for event in events {
            let step = session.step(match event {
                0 => Event::Line(b"EHLO a"),
                1 => Event::Line(b"MAIL FROM:<>"),
                2 => Event::Line(b"RCPT TO:<a@b.test>"),
                3 => Event::Line(b"DATA"),
                4 => Event::SenderChecked(Ok(())),
                5 => Event::Data(id(), Ok(Bytes::new())),
                6 => Event::Settled(Reply::new(250, Enhanced(2, 0, 0), "Ok"), Vec::new()),
                7 => Event::Garble,
                8 => Event::Line(b"AUTH LOGIN"),
                9 => Event::PasswordChecked(Verdict::Refused),
                10 => Event::Line(b"STARTTLS"),
                11 => Event::Behind(false),
                12 => Event::Encrypted(None),
                13 => Event::Line(b"BDAT 0"),
                14 => Event::Line(b"BDAT 5 LAST"),
                15 => Event::Chunk(id(), Ok(read(ChunkDecoder::new(10).expect(5, true)))),
                16 => Event::Swallowed,
                17 => Event::RecipientChecked(Ok(())),
                _ => Event::Line(b"RSET"),
            });
            if let Some(reply) = &step.reply {
                is_lawful(reply);
            }
        }
    }
}
