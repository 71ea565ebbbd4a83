//! AUTH and STARTTLS on the wire, and the laws of the SASL exchanges.

use std::sync::Arc;

use encodify::base64::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use sidepost::secret::Secret;
use sidepost::smtp::command::{Utf8, parse};
use sidepost::smtp::sasl::{Credentials, Mechanism, Turn};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::properties::reply::is_lawful;
use crate::smtp_world::{Client, Users, World, bare_server, smtp, tls};

fn world() -> (World, TlsConnector) {
    let (tls, connector) = tls();
    let server = bare_server(&smtp(), 1 << 20).with_tls(tls, false).with_auth(Arc::new(Users));
    (World { server: Arc::new(server) }, connector)
}

async fn says_starttls(world: &World) -> Client {
    let mut client = world.connect_from([10, 0, 0, 1].into(), 1 << 16);
    client.hears("220").await;
    client.talks(&[("HELO x", "250"), ("STARTTLS", "220 2.0.0")]).await;
    client
}

#[tokio::test(start_paused = true)]
async fn a_mail_goes_through_tls_once_the_client_is_known() {
    let (world, connector) = world();
    let client = says_starttls(&world).await;
    let stream = connector.connect("relay.test".try_into().unwrap(), client.stream).await.unwrap();
    let mut stream = BufReader::new(stream);
    let dialogue = [
        ("MAIL FROM:<>", "503"),
        ("HELO x", "250"),
        ("MAIL FROM:<>", "530 5.7.0"),
        ("STARTTLS", "503"),
        ("AUTH PLAIN AGFubgBzZWNyZXQ=", "235"),
        ("MAIL FROM:<>", "250"),
        ("RCPT TO:<c@d.test>", "250"),
        ("DATA", "354"),
        ("hello\r\n.", "250"),
        ("QUIT", "221"),
    ];
    for (says, expected) in dialogue {
        stream.write_all(format!("{says}\r\n").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert!(line.starts_with(expected), "{says}: {line}");
    }
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(world.taken()[0].envelope.principal.as_deref(), Some("ann"));
    assert_eq!(world.taken()[0].data, "hello\r\n");
}

#[tokio::test(start_paused = true)]
async fn what_comes_behind_starttls_ends_the_session() {
    let (world, _) = world();
    for behind in ["NOOP\r\n", "NOOP", "EHLO evil\r\nMAIL FROM:<evil@b.test>\r\n"] {
        let mut client = world.client().await;
        client.says(&format!("STARTTLS\r\n{behind}")).await;
        client.hears("503 5.5.1 STARTTLS must be the last").await;
        client.hears_the_end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_in_the_clear_after_220_is_no_command() {
    let (world, _) = world();
    let mut client = says_starttls(&world).await;
    client.says("NOOP\r\nNOOP\r\n").await;
    let mut heard = Vec::new();
    client.stream.read_to_end(&mut heard).await.unwrap();
    assert!(!heard.starts_with(b"2"), "{heard:?}");
    client.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_its_time() {
    let (world, _) = world();
    let mut client = says_starttls(&world).await;
    let begun = Instant::now();
    client.says("\x16").await;
    client.hears_the_end().await;
    assert_eq!(begun.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_response_may_be_long_and_a_command_may_not() {
    let (world, _) = world();
    let mut client = world.client().await;
    client.talks(&[("EHLO x", "250-")]).await;
    while client.line().await.unwrap().starts_with("250-") {}
    let long = STANDARD.encode(format!("\0ann\0{}", "x".repeat(9000)));
    client.talks(&[("AUTH PLAIN", "334"), (&long, "535 5.7.8"), (&format!("AUTH PLAIN {long}"), "535")]).await;
    client.talks(&[("AUTH PLAIN", "334"), (&"x".repeat(12_289), "500 5.5.2"), ("NOOP", "250")]).await;
    client.talks(&[("AUTH PLAIN", "334"), (&"QUFB".repeat(50_000), "500 5.5.2"), ("NOOP", "250")]).await;
    client.talks(&[(&format!("NOOP {}", "x".repeat(2048)), "500"), ("NOOP", "250")]).await;
}

#[tokio::test(start_paused = true)]
async fn who_knows_the_users_may_be_at_fault() {
    let (world, _) = world();
    let mut client = world.client().await;
    let credentials = format!("AUTH PLAIN {}", STANDARD.encode("\0panic\0x"));
    client.talks(&[("HELO x", "250"), (&credentials, "421 4.3.0")]).await;
    client.hears_the_end().await;
}

// === Laws ===

fn plain(response: &[u8]) -> Turn {
    Mechanism::Plain.begin(Some(&Secret::new(STANDARD.encode(response))))
}

fn done(turn: Turn) -> Option<Credentials> {
    match turn {
        Turn::Done(credentials) => Some(credentials),
        Turn::Ask(_, reply) => {
            assert_eq!(reply.code, 334);
            None
        }
        Turn::Refused(reply) => {
            is_lawful(&reply);
            assert_eq!(reply.class(), 5);
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn plain_gives_what_was_put_in(user in "[^\0]{1,30}", password in "[^\0]{1,30}", twice in any::<bool>()) {
        let acts_as = if twice { user.as_str() } else { "" };
        let expected = Credentials { user: user.clone(), password: Secret::new(password.as_str()) };
        prop_assert_eq!(done(plain(format!("{acts_as}\0{user}\0{password}").as_bytes())), Some(expected));
    }

    #[test]
    fn login_gives_what_was_put_in(user in "[^\0]{1,30}", password in "[^\0]{1,30}", initial in any::<bool>()) {
        let name = STANDARD.encode(&user);
        let turn = if initial { Mechanism::Login.begin(Some(&Secret::new(name))) } else {
            let Turn::Ask(exchange, _) = Mechanism::Login.begin(None) else { panic!("no question") };
            exchange.respond(name.as_bytes())
        };
        let Turn::Ask(exchange, reply) = turn else { panic!("{turn:?}") };
        prop_assert_eq!(reply.to_string(), "334 UGFzc3dvcmQ6");
        let expected = Credentials { user, password: Secret::new(password.as_str()) };
        prop_assert_eq!(done(exchange.respond(STANDARD.encode(&password).as_bytes())), Some(expected));
    }

    /// Whatever PLAIN takes has two NULs, and reads back as it was written.
    #[test]
    fn plain_takes_nothing_else(response in vec(prop::sample::select(b"\0\0ab\xff\xc3\xa4".to_vec()), 0..12)) {
        if let Some(Credentials { user, password }) = done(plain(&response)) {
            let tail = format!("\0{user}\0{}", password.expose());
            prop_assert!(response == tail.as_bytes() || response == [user.as_bytes(), tail.as_bytes()].concat());
        }
    }

    #[test]
    fn any_line_is_a_response(lines in vec(vec(any::<u8>(), 0..20), 1..4), login in any::<bool>()) {
        let mut turn = if login { Mechanism::Login } else { Mechanism::Plain }.begin(None);
        for line in lines {
            match turn {
                Turn::Ask(exchange, _) => turn = exchange.respond(&line),
                other => {
                    done(other);
                    break;
                }
            }
        }
    }

    /// A password is in no debug output.
    #[test]
    fn a_password_is_not_shown(password in "[a-z]{12}") {
        let turn = plain(format!("\0u\0{password}").as_bytes());
        let shown = format!("{turn:?}");
        prop_assert!(!shown.contains(&password), "{}", shown);
        let line = format!("AUTH PLAIN {}", STANDARD.encode(format!("\0u\0{password}")));
        let command = format!("{:?}", parse(line.as_bytes(), "relay.test", Utf8::NotOffered));
        prop_assert!(!command.contains(line.rsplit(' ').next().unwrap()), "{}", command);
    }
}
