//! The built binary's other doors: Unix and inherited sockets, implicit TLS, PROXY headers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use lettre::transport::smtp::authentication::Credentials;
use lettre::{Message, SmtpTransport, Transport};
use serde_json::Value;
use sidepost::password::Hash;

use crate::binary::{KEY, Relay, run, sidepost, text};
use crate::smtp_door::Authority;

/// An API that nobody has to reach.
const API: &str = "http://127.0.0.1:9";

/// The next listener that the log names.
fn next_listener(relay: &mut Relay) -> String {
    let mut line = String::new();
    assert!(relay.log.read_line(&mut line).unwrap() > 0);
    let event: Value = serde_json::from_str(&line).unwrap();
    event["smtp"].as_str().unwrap().to_owned()
}

fn line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut octet = [0];
    while !line.ends_with(b"\n") && stream.read(&mut octet).is_ok_and(|octets| octets > 0) {
        line.push(octet[0]);
    }
    text(&line)
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sidepost-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_unix_socket_is_a_door_and_goes_at_the_end() {
    let folder = folder("unix");
    let path = folder.join("smtp.sock");
    let listen = format!("smtp.listen=[\"smtp://127.0.0.1:0\", \"smtp+unix://{}?mode=0600\"]", path.display());
    let mut relay = Relay::serve(API, &["--set", &listen]);
    assert_eq!(next_listener(&mut relay), path.display().to_string());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).unwrap();
    assert!(line(&mut stream).starts_with("220 "));
    stream.write_all(b"HELO x\r\nMAIL FROM:<app@example.com>\r\n").unwrap();
    assert!(line(&mut stream).starts_with("250 ") && line(&mut stream).starts_with("250 "));

    // A second relay does not take it away.
    let second = sidepost(&["serve", "--set", &listen, "--set", "web.listen=127.0.0.1:0"])
        .env("SCAISEND_API_KEY", KEY)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another program has it"), "{}", text(&second.stderr));

    drop(stream);
    relay.signal();
    assert!(relay.process.wait().unwrap().success());
    assert!(!path.exists());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn implicit_tls_greets_a_client_that_trusts_it() {
    let authority = Authority::new();
    let (cert, key) = authority.signs(&["localhost"]);
    let folder = folder("smtps");
    let file = |name: &str, what: &str| {
        let path = folder.join(name);
        std::fs::write(&path, what).unwrap();
        path.display().to_string()
    };
    let cert = format!("smtp.tls.cert={}", file("cert.pem", &cert));
    let key_file = file("key.pem", &key.serialize_pem());
    let key = format!("smtp.tls.key={key_file}");
    let listen = "smtp.listen=[\"smtp://127.0.0.1:0\", \"smtps://127.0.0.1:0\"]";
    let mut relay = Relay::serve(API, &["--set", listen, "--set", &cert, "--set", &key]);
    let address = next_listener(&mut relay);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let greeting = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let mut stream = authority.connector(None).connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let mut greeting = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut greeting).await.unwrap();
        greeting
    });
    assert_eq!(&greeting, b"220 ");

    // What the files hold is looked at by `check` too.
    let check =
        |key: &str| sidepost(&["check", "--set", &cert, "--set", key]).env("SCAISEND_API_KEY", KEY).output().unwrap();
    assert!(check(&key).status.success());
    std::fs::write(&key_file, "CANARY").unwrap();
    let broken = check(&key);
    assert_eq!(broken.status.code(), Some(78));
    assert!(text(&broken.stderr).contains("smtp.tls.key") && !text(&broken.stderr).contains("CANARY"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_proxy_names_the_client_in_the_log() {
    let set = ["--set", "smtp.listen=smtp://127.0.0.1:0?proxy=require", "--set", "log.level=debug"];
    let mut relay = Relay::serve(API, &set);
    let talk = |first: &str| {
        let mut stream = TcpStream::connect(relay.smtp).unwrap();
        write!(stream, "{first}").unwrap();
        line(&mut stream)
    };
    assert!(talk("PROXY TCP4 192.0.2.10 127.0.0.1 40000 25\r\n").starts_with("220 "));
    assert_eq!(talk("EHLO somebody.example\r\n"), "");
    relay.signal();
    assert!(relay.process.wait().unwrap().success());
    let log = relay.rest_of_log();
    assert!(log.contains("\"client\":\"192.0.2.10\"") && log.contains("no PROXY header"), "{log}");
}

/// systemd's way: the socket is there before the program.
#[test]
fn a_socket_that_was_passed_on_is_used() {
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    let start = |listen: String, socket: &TcpListener| {
        let mut command = sidepost(&["serve", "--set", &listen, "--set", "web.listen=127.0.0.1:0"]);
        command.stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
        command.env("SCAISEND_API_KEY", KEY).env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", "0");
        command
    };
    let mut unused = start("smtp.listen=smtp://127.0.0.1:0".to_owned(), &passed);
    let unused = unused.output().unwrap();
    assert_eq!(unused.status.code(), Some(1));
    assert!(text(&unused.stderr).contains(&format!("add \"smtp://{address}\" to smtp.listen")));

    // A client that came before it is served.
    let early = TcpStream::connect(address).unwrap();
    let relay = Relay::start(start(format!("smtp.listen=smtp://{address}"), &passed));
    assert_eq!(relay.smtp, address);
    assert!(line(&mut BufReader::new(early)).starts_with("220 "));
}

#[test]
fn check_shows_no_hash() {
    let hash = Hash::of(b"secret").unwrap();
    let output = sidepost(&["check"])
        .env("SCAISEND_API_KEY", KEY)
        .env("SIDEPOST_SMTP__AUTH__USERS__APP", hash.expose())
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success() && shown.contains("smtp.auth.users.app"), "{shown}{}", text(&output.stderr));
    assert!(!shown.contains("argon2id") && shown.contains("\"********\""));
    assert_eq!(run(&["check", "--set", "smtp.auth.users.app=plain"]).status.code(), Some(78));
}

fn mail(from: &str, to: &str) -> Message {
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    Message::builder().from(from).to(to).subject("hi").body("hello".to_owned()).unwrap()
}

#[test]
fn the_password_can_be_the_api_key() {
    let on = ["--set", "smtp.auth.passthrough=true", "--set", "smtp.auth.required=true"];
    let mut relay = Relay::sandbox(&on);
    let login = |key: &str| {
        let smtp = SmtpTransport::builder_dangerous("127.0.0.1").port(relay.smtp.port());
        smtp.credentials(Credentials::new("apikey".to_owned(), key.to_owned())).build()
    };
    let mail = mail("app@example.com", "ok@example.com");
    let error = |smtp: SmtpTransport| format!("{:?}", smtp.send(&mail).unwrap_err());
    assert!(login("sg_live_good").send(&mail).is_ok());
    // The sandbox refuses keys that are called wrong: first when one is used, then at AUTH.
    let first = error(login("CANARY-wrong"));
    assert!(first.contains("refuses the key that you logged in with"), "{first}");
    let next = error(login("CANARY-wrong"));
    assert!(next.contains("Name or password is wrong"), "{next}");
    assert!(login("sg_live_good").send(&mail).is_ok(), "others are not disturbed");
    let stranger = SmtpTransport::builder_dangerous("127.0.0.1").port(relay.smtp.port()).build();
    assert!(error(stranger).contains("Authenticate first"));
    relay.signal();
    assert!(relay.process.wait().unwrap().success());
    let log = relay.rest_of_log();
    assert!(log.contains("\"principal\":\"key-") && !log.contains("CANARY") && !log.contains("sg_live"), "{log}");
}

#[test]
fn the_lists_hold_and_the_log_says_so() {
    let lists = [
        "--set",
        "smtp.senders.allow=*@example.com",
        "--set",
        "smtp.recipients.deny=all-staff@*",
        "--set",
        "smtp.greeting_delay=500ms",
    ];
    let mut relay = Relay::sandbox(&lists);
    let smtp = SmtpTransport::builder_dangerous("127.0.0.1").port(relay.smtp.port()).build();
    let error = |from: &str, to: &str| format!("{:?}", smtp.send(&mail(from, to)).unwrap_err());
    assert!(smtp.send(&mail("app@example.com", "ok@example.com")).is_ok());
    assert!(error("app@example.org", "ok@example.com").contains("is not on the list"));
    assert!(error("app@example.com", "all-staff@example.com").contains("is on the list"));
    let mut early = TcpStream::connect(relay.smtp).unwrap();
    early.write_all(b"EHLO x\r\n").unwrap();
    assert!(line(&mut early).starts_with("554 "));
    relay.signal();
    assert!(relay.process.wait().unwrap().success());
    let log = relay.rest_of_log();
    assert!(log.contains("The recipient <all-staff@example.com> is refused") && log.contains("spoke before"), "{log}");
}
