//! The built binary over real sockets: what a user gets, not what a module means.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use encodify::base64::STANDARD;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::{Message, SmtpTransport, Transport};
use serde_json::Value;

use crate::store::Folder;

pub const KEY: &str = "CANARY-KEY-7f3a";

pub fn sidepost(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidepost"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

pub fn run(arguments: &[&str]) -> Output {
    sidepost(arguments).output().unwrap()
}

pub fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// A running relay; ends with the test.
pub struct Relay {
    pub process: Child,
    pub smtp: SocketAddr,
    pub web: SocketAddr,
    pub webhooks: Option<SocketAddr>,
    pub log: BufReader<std::process::ChildStderr>,
}

impl Relay {
    /// `sandbox` on free ports.
    pub fn sandbox(more: &[&str]) -> Self {
        let mut arguments = vec!["sandbox", "--smtp", "127.0.0.1:0", "--web", "127.0.0.1:0"];
        arguments.extend(more);
        Self::start(sidepost(&arguments))
    }

    /// `serve` on free ports with an account at `api`.
    pub fn serve(api: &str, more: &[&str]) -> Self {
        let mut command =
            sidepost(&["serve", "--set", "smtp.listen=smtp://127.0.0.1:0", "--set", "web.listen=127.0.0.1:0"]);
        command.args(more).env("SCAISEND_API_KEY", KEY).env("SCAISEND_API_URL", api);
        Self::start(command)
    }

    /// The log names the ports.
    pub fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let event = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the relay ended: {:?}", process.wait());
            let event: Value = serde_json::from_str(&line).expect("off a terminal the log is JSON");
            if event["message"] == "listening" {
                break event;
            }
        };
        let port = |name: &str| event[name].as_str().unwrap().parse().unwrap();
        let webhooks = event["webhooks"].as_str().map(|address| address.parse().unwrap());
        Self { smtp: port("smtp"), web: port("web"), webhooks, process, log }
    }

    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.smtp).unwrap();
        let mut client = Client { stream: BufReader::new(stream) };
        assert!(client.reply().starts_with("220 "));
        client
    }

    /// Sends one mail the raw way; the final reply.
    pub fn send(&self, recipient: &str) -> String {
        let mut client = self.connect();
        client.say("EHLO test");
        let mail = client.say("MAIL FROM:<app@example.com>");
        if !mail.starts_with("250 ") {
            return mail;
        }
        client.say(&format!("RCPT TO:<{recipient}@example.com>"));
        client.say("DATA");
        client.say(&format!("From: app@example.com\r\nTo: {recipient}@example.com\r\nSubject: hi\r\n\r\nhello\r\n."))
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.get_of(&self.web.to_string(), path)
    }

    /// Asks for a page of this host.
    fn get_of(&self, host: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.web).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn lettre(&self) -> SmtpTransport {
        SmtpTransport::builder_dangerous(self.smtp.ip().to_string()).port(self.smtp.port()).build()
    }

    pub fn signal(&self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// The next line of the log with these words in it.
    pub fn log_until(&mut self, words: &str) -> String {
        let mut lines = self.log.by_ref().lines().map(Result::unwrap);
        lines.find(|line| line.contains(words)).expect("the relay ended")
    }

    pub fn rest_of_log(&mut self) -> String {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub struct Client {
    pub stream: BufReader<TcpStream>,
}

impl Client {
    pub fn say(&mut self, line: &str) -> String {
        // In one packet: the second of two would wait for the acknowledgement of the first.
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        self.reply()
    }

    /// The last line of one reply; empty at the end of the connection.
    pub fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap() == 0 || line.as_bytes().get(3) == Some(&b' ') {
                return line.trim_end().to_owned();
            }
        }
    }
}

#[test]
fn the_sandbox_says_first_what_to_do() {
    let mut relay = Relay::sandbox(&[]);
    let mut lines = BufReader::new(relay.process.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), format!("SMTP listens on {}", relay.smtp));
    assert!(next().contains(&format!("swaks --server {} ", relay.smtp)));
    assert!(next().ends_with(&format!("http://{}/", relay.web)));
}

/// A web page that got its name to point here (DNS rebinding) is not to read the mails of whoever tries things out.
#[test]
fn the_sandbox_s_mails_are_for_this_machine() {
    let relay = Relay::sandbox(&[]);
    assert!(relay.send("ok").starts_with("250"));
    for path in ["/", "/sandbox/mails", "/sandbox/steering"] {
        assert_eq!(relay.get_of(&format!("localhost:{}", relay.web.port()), path).0, 200, "{path}");
        let (status, answer) = relay.get_of("mails.evil.example", path);
        assert_eq!(status, 403, "{path}");
        assert!(answer.contains("for this machine only"), "{answer}");
    }
}

#[test]
fn the_sandbox_plays_the_outcomes() {
    for (kind, table) in [
        ("scaisend", &[("suppressed", "550 5.7.1"), ("invalid", "550 5.1.3"), ("toolarge", "552 5.3.4")][..]),
        ("nexuspromail", &[("suppressed", "550 5.7.1"), ("invalid", "550 5.1.3"), ("toolarge", "552 5.3.4")][..]),
        ("sendgrid", &[("suppressed", "550 5.7.1"), ("invalid", "550 5.1.3"), ("toolarge", "552 5.3.4")][..]),
    ] {
        let relay = Relay::sandbox(&["--provider", kind]);
        assert!(relay.send("ok").starts_with("250 2.0.0 Ok "), "{kind}");
        for (recipient, reply) in table {
            let got = relay.send(recipient);
            assert!(got.starts_with(reply), "{kind} {recipient}: {got}");
        }
        for (recipient, reply) in [
            ("unauth", "451 4.3.5"),
            ("garbage", "451 4.3.5"),
            ("reset", "451 4.4.2"),
            // It took it; ScaiSend is asked, and says so.
            ("acceptreset", if kind == "scaisend" { "250 2.0.0 Ok msg_" } else { "451 4.4.2" }),
            ("status-502", "451 4.4.2"),
        ] {
            // Each on a relay of its own: some of them pause the account.
            let got = Relay::sandbox(&["--provider", kind]).send(recipient);
            assert!(got.starts_with(reply), "{kind} {recipient}: {got}");
        }
        assert!(Relay::sandbox(&["--provider", kind]).send("rate-9-600").starts_with("451 4.4.5"), "{kind}");
        assert!(Relay::sandbox(&["--provider", kind]).send("rate-1-1").starts_with("250 2.0.0"), "{kind}");
    }
}

#[test]
fn a_real_client_library_sends_everything() {
    let relay = Relay::sandbox(&[]);
    let someone = |name: &str, address: &str| Mailbox::new(Some(name.to_owned()), address.parse().unwrap());
    let pdf = Attachment::new("Übersicht.pdf".to_owned())
        .body(vec![0xde, 0xad, 0, 1], ContentType::parse("application/pdf").unwrap());
    let logo = Attachment::new_inline("logo".to_owned()).body(vec![1, 2, 3], ContentType::parse("image/png").unwrap());
    let bodies = MultiPart::alternative().singlepart(SinglePart::plain("Grüße ✓".to_owned())).multipart(
        MultiPart::related().singlepart(SinglePart::html("<img src=\"cid:logo\"> Grüße".to_owned())).singlepart(logo),
    );
    let mail = Message::builder()
        .from(someone("App", "app@example.com"))
        .to(someone("Ännchen", "ann@example.net"))
        .cc(someone("Carl", "carl@example.net"))
        .bcc(someone("Hidden", "hidden@example.net"))
        .reply_to(someone("Help", "help@example.com"))
        .subject("Grüße aus Köln")
        .multipart(MultiPart::mixed().multipart(bodies).singlepart(pdf))
        .unwrap();
    let response = relay.lettre().send(&mail).unwrap();
    assert!(response.is_positive());

    let (_, mails) = relay.get("/sandbox/mails");
    let mails: Value = serde_json::from_str(&mails).unwrap();
    let id = mails["mails"][0]["id"].as_str().unwrap().to_owned();
    let (_, whole) = relay.get(&format!("/sandbox/mails/{id}"));
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let payload: Value = match &whole["payload"] {
        Value::String(text) => serde_json::from_str(text).unwrap(),
        other => other.clone(),
    };
    assert_eq!(payload["from"], serde_json::json!({"email": "app@example.com", "name": "App"}));
    assert_eq!(payload["subject"], "Grüße aus Köln");
    assert_eq!(payload["reply_to"]["email"], "help@example.com");
    assert_eq!(payload["personalizations"][0]["to"][0]["name"], "Ännchen");
    assert_eq!(payload["personalizations"][0]["cc"][0]["email"], "carl@example.net");
    assert_eq!(payload["personalizations"][1], serde_json::json!({"to": [{"email": "hidden@example.net"}]}));
    assert_eq!(payload["content"][0]["value"].as_str().unwrap().trim_end(), "Grüße ✓");
    assert_eq!(payload["content"][1]["type"], "text/html");
    assert_eq!(payload["attachments"][0]["content_id"], "logo");
    assert_eq!(payload["attachments"][0]["disposition"], "inline");
    assert_eq!(payload["attachments"][1]["filename"], "Übersicht.pdf");
    assert_eq!(payload["attachments"][1]["content"], "3q0AAQ==");
}

#[test]
fn a_refused_mail_is_an_error_of_the_client_library() {
    let relay = Relay::sandbox(&[]);
    let mail = |to: &str| {
        let builder = Message::builder().from("app@example.com".parse().unwrap()).to(to.parse().unwrap());
        builder.subject("hi").body("hello".to_owned()).unwrap()
    };
    let refused = relay.lettre().send(&mail("suppressed@example.com")).unwrap_err();
    assert!(refused.is_permanent() && refused.status().unwrap().to_string() == "550");
    let later = relay.lettre().send(&mail("rate-9-600@example.com")).unwrap_err();
    assert!(later.is_transient() && later.status().unwrap().to_string() == "451");
}

#[test]
fn no_secret_is_in_any_log() {
    let api = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", api.local_addr().unwrap());
    let answered = std::thread::spawn(move || {
        let (mut stream, _) = api.accept().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"}") {
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).unwrap();
            seen.extend_from_slice(&chunk[..read]);
        }
        write!(stream, "HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").unwrap();
        text(&seen)
    });
    let mut relay = Relay::serve(&url, &["--set", "log.level=trace"]);
    assert!(relay.send("ann").starts_with("451 4.3.5 "));
    assert!(answered.join().unwrap().contains(KEY), "the key reached the API");
    relay.signal();
    assert!(relay.process.wait().unwrap().success());
    let log = relay.rest_of_log();
    assert!(log.contains("\"message\":\"transaction\"") && !log.contains(KEY), "{log}");
}

#[test]
fn an_api_that_is_down_is_told_as_such_and_shows_in_readiness() {
    // Bound and not listening: it refuses, and nobody else can get the port meanwhile.
    let down = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    down.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let url = format!("http://{}", down.local_addr().unwrap().as_socket().unwrap());
    let relay = Relay::serve(&url, &["--set", "delivery.max_attempts=1"]);
    assert_eq!(relay.get("/healthz").0, 200);
    assert_eq!(relay.get("/readyz").0, 200);
    for _ in 0..5 {
        assert!(relay.send("ann").starts_with("451 4.4.1 "));
    }
    let early = relay.connect().say("EHLO x");
    assert!(early.starts_with("250 "));
    assert!(relay.send("ann").starts_with("451 4.3.2 "), "at MAIL");
    let (status, body) = relay.get("/readyz");
    assert!(status == 503 && body.contains("cannot be reached"), "{status} {body}");
    assert_eq!(relay.get("/healthz").0, 200, "alive all the same");
    let metrics = relay.get("/metrics").1;
    for line in ["sidepost_transactions_total{class=\"4\"} 5", "sidepost_account_ready{account=\"scaisend\"} 0"] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn a_stop_lets_the_running_mail_end() {
    let api = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut relay = Relay::serve(&format!("http://{}", api.local_addr().unwrap()), &[]);
    let mut client = relay.connect();
    for line in ["EHLO x", "MAIL FROM:<app@example.com>", "RCPT TO:<ann@example.com>", "DATA"] {
        client.say(line);
    }
    write!(client.stream.get_mut(), "From: app@example.com\r\n\r\nx\r\n.\r\n").unwrap();
    let (mut request, _) = api.accept().unwrap();
    assert!(request.read(&mut vec![0; 65536]).unwrap() > 0);
    relay.signal();
    let mut line = String::new();
    while !line.contains("stopping") {
        assert!(relay.log.read_line(&mut line).unwrap() > 0);
    }
    write!(request, "HTTP/1.1 202 Accepted\r\ncontent-length: 20\r\n\r\n{{\"message_id\":\"m-1\"}}").unwrap();
    assert!(client.reply().starts_with("250 2.0.0 Ok m-1 "));
    assert!(client.reply().starts_with("421 4.3.2 "));
    assert!(relay.process.wait().unwrap().success());
}

#[test]
fn a_port_that_is_taken_is_said_with_a_hint() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["sandbox", "--smtp", &address, "--web", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("another program has it"), "{}", text(&output.stderr));
}

#[test]
fn exit_codes_tell_what_was_wrong() {
    assert_eq!(run(&["serv"]).status.code(), Some(64));
    assert_eq!(run(&["render"]).status.code(), Some(64));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert_eq!(run(&["--version"]).status.code(), Some(0));
    let broken = run(&["serve", "--set", "smtp.listen=x", "--set", "log.level=loud"]);
    assert_eq!(broken.status.code(), Some(78));
    let said = text(&broken.stderr);
    assert!(said.contains("3 mistakes") && said.contains("--set smtp.listen") && said.contains("log.level"), "{said}");
    assert_eq!(run(&["health", "--web", "127.0.0.1:1"]).status.code(), Some(1));
}

/// Whoever writes a script reads there what the codes mean.
#[test]
fn help_tells_the_exit_codes() {
    for (command, code) in [("serve", "78"), ("check", "78"), ("render", "65"), ("send", "0"), ("health", "0")] {
        let help = text(&run(&[command, "--help"]).stdout).replace('\n', " ");
        assert!(help.contains("Exit code") && help.contains(code), "{command}: {help}");
    }
    let bash = text(&run(&["completions", "bash"]).stdout);
    assert!(bash.contains("complete -F _sidepost") && bash.contains("suppressions"), "{bash}");
    assert_eq!(run(&["completions", "csh"]).status.code(), Some(64));
}

/// A health check that is content with any program says nothing.
#[test]
fn health_knows_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut http, _) = listener.accept().unwrap();
        assert!(http.read(&mut [0; 512]).unwrap() > 0);
        http.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>").unwrap();
    });
    let asked = run(&["health", "--web", &address]);
    server.join().unwrap();
    assert_eq!(asked.status.code(), Some(1));
    assert!(text(&asked.stderr).contains("not like a sidepost"), "{}", text(&asked.stderr));
}

/// Words of others on the operator's terminal: a server that is not what it seems steers nothing.
#[test]
fn send_and_health_show_what_they_hear_as_text() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut smtp, _) = listener.accept().unwrap();
        smtp.write_all(b"554 \x1b]0;pwned\x07 no\r\n").unwrap();
        let (mut http, _) = listener.accept().unwrap();
        assert!(http.read(&mut [0; 512]).unwrap() > 0);
        http.write_all(b"HTTP/1.1 503 x\r\nContent-Length: 17\r\n\r\n{\"ready\":\x1b[2Jgone}").unwrap();
    });
    let sent = run(&["send", "--server", &address, "--to", "ann@example.com"]);
    let asked = run(&["health", "--web", &address]);
    server.join().unwrap();
    for (output, word) in [(sent, "pwned"), (asked, "gone")] {
        assert_eq!(output.status.code(), Some(1));
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(all.contains(word) && !all.contains('\x1b'), "{all:?}");
    }
}

#[test]
fn health_and_send_speak_to_the_running_relay() {
    let relay = Relay::sandbox(&[]);
    let web = relay.web.to_string();
    assert!(run(&["health", "--web", &web]).status.success());
    assert!(run(&["health", "--ready", "--web", &web]).status.success());
    let smtp = relay.smtp.to_string();
    let sent = run(&["send", "--server", &smtp, "--to", "ok@example.com", "--body", ".\nfine"]);
    assert!(sent.status.success() && text(&sent.stdout).contains("S: 250 2.0.0 Ok msg_"), "{}", text(&sent.stdout));
    let refused = run(&["send", "--server", &smtp, "--to", "suppressed@example.com"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("550 5.7.1"));
}

fn fixture(name: &str) -> String {
    format!("{}/tests/messages/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn render_prints_what_would_be_sent_and_sends_nothing() {
    let mail = std::env::temp_dir().join(format!("sidepost-render-{}.eml", std::process::id()));
    std::fs::write(&mail, "From: App <app@example.com>\nTo: ann@example.net\nSubject: hi\nX-Order: 7\n\nhello\n")
        .unwrap();
    let mail = mail.to_str().unwrap();
    let output = run(&["render", mail, "--json", "--rcpt", "ann@example.net", "--rcpt", "bob@example.net"]);
    let rendered: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success());
    assert_eq!(rendered["requests"][0]["method"], "POST");
    assert_eq!(rendered["requests"][0]["url"], "https://scaisend.scailabs.ai/v3/mail/send");
    assert_eq!(rendered["requests"][0]["body"]["headers"]["X-Order"], "7");
    assert_eq!(rendered["requests"][0]["body"]["custom_args"]["sidepost_id"], "(the id that the mail gets)");
    assert_eq!(
        rendered["recipients"][0],
        serde_json::json!({"address": "ann@example.net", "role": "to", "request": 0})
    );
    assert_eq!(
        rendered["recipients"][1],
        serde_json::json!({"address": "bob@example.net", "role": "bcc", "request": 0})
    );
    assert!(!text(&output.stdout).to_ascii_lowercase().contains("authorization"));

    let refused = run(&["render", mail, "--json", "--provider", "nexuspromail"]);
    assert_eq!(refused.status.code(), Some(65));
    let refused: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(refused["refused"]["code"], 554);
    assert_eq!(refused["refused"]["enhanced"], "5.6.3");
    assert!(refused["refused"]["text"].as_str().unwrap().contains("X-Order"));

    let degraded = run(&["render", mail, "--provider", "nexuspromail", "--unsupported", "degrade"]);
    assert!(degraded.status.success() && text(&degraded.stdout).contains("header X-Order"));
    std::fs::remove_file(mail).unwrap();
    assert_eq!(run(&["render", &fixture("no-such-file.eml")]).status.code(), Some(64));
}

#[test]
fn render_follows_a_configuration() {
    let folder = std::env::temp_dir().join(format!("sidepost-render-by-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (mail, config) = (path("root.eml"), path("sidepost.toml"));
    std::fs::write(&mail, "From: root@web1\nTo: ann@example.net\nSubject: hi\n\nhello\n").unwrap();
    let settings = r#"
        [providers.main]
        kind = "sendgrid"
        api_key = "CANARY"
        [sender]
        default = "Servers <servers@example.com>"
        allowed = ["*@example.com"]
        rewrite = "disallowed"
        [smtp.senders.principals]
        app = ["app@example.com"]
    "#;
    std::fs::write(&config, settings).unwrap();
    let render = |more: &[&str]| run(&[&["render", &mail, "--json", "--config", &config], more].concat());
    let output = render(&[]);
    let rendered: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rendered["requests"][0]["url"], "https://api.sendgrid.com/v3/mail/send");
    assert_eq!(rendered["requests"][0]["body"]["from"]["email"], "servers@example.com");
    assert!(!text(&output.stdout).contains("CANARY"));
    let refused = render(&["--set", "sender.rewrite=never", "--principal", "app"]);
    assert_eq!(refused.status.code(), Some(65), "{}", text(&refused.stderr));
    assert!(text(&refused.stdout).contains("not among the addresses of this login"));
    for (set, code) in [
        ("smtp.recipients.deny=ann@*", "5.7.1"),
        ("smtp.senders.deny=root@*", "5.7.1"),
        ("smtp.max_message_size=20B", "5.3.4"),
    ] {
        let refused = render(&["--set", set]);
        assert_eq!(refused.status.code(), Some(65), "{set}");
        assert!(text(&refused.stdout).contains(code), "{set}: {}", text(&refused.stdout));
    }
    assert_eq!(render(&["--account", "other"]).status.code(), Some(64));
    assert_eq!(render(&["--set", "sender.rewrite=maybe"]).status.code(), Some(78));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// How many mails the sandbox has taken.
fn taken(relay: &Relay) -> usize {
    let mails: Value = serde_json::from_str(&relay.get("/sandbox/mails").1).unwrap();
    mails["mails"].as_array().unwrap().iter().filter(|mail| mail["taken"] == true).count()
}

/// A client that runs out of patience closes its socket like any other. Its next try finds what became of the first.
#[test]
fn a_client_that_gives_up_is_not_sent_for_twice() {
    let relay = Relay::sandbox(&[]);
    let mut first = relay.connect();
    let mail = "From: app@example.com\r\nTo: slow-700@example.com\r\nSubject: hi\r\n\r\nhello\r\n.";
    for line in ["EHLO test", "MAIL FROM:<app@example.com>", "RCPT TO:<slow-700@example.com>", "DATA"] {
        first.say(line);
    }
    write!(first.stream.get_mut(), "{mail}\r\n").unwrap();
    drop(first);
    assert!(relay.send("slow-700").starts_with("250 2.0.0 Ok "));
    assert_eq!(taken(&relay), 1);
    // Once more, on purpose.
    assert!(relay.send("slow-700").starts_with("250 2.0.0 Ok "));
    assert_eq!(taken(&relay), 2);
}

/// A client that has closed only its own side is told, and that is all it is owed.
#[test]
fn a_client_that_closes_its_side_is_told() {
    let relay = Relay::sandbox(&[]);
    for n in 1..=2 {
        let mut client = relay.connect();
        let all = "EHLO t\r\nMAIL FROM:<app@example.com>\r\nRCPT TO:<slow-100@example.com>\r\nDATA\r\n";
        client.stream.get_mut().write_all(all.as_bytes()).unwrap();
        let mail = "From: app@example.com\r\nSubject: hi\r\n\r\nhello\r\n.\r\nQUIT\r\n";
        client.stream.get_mut().write_all(mail.as_bytes()).unwrap();
        client.stream.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        client.stream.read_to_string(&mut said).unwrap();
        assert!(said.contains("\r\n250 2.0.0 Ok ") && said.ends_with("221 2.0.0 Bye\r\n"), "{said}");
        assert_eq!(taken(&relay), n, "two equal mails on purpose are two");
    }
}

/// Whoever reads the output may leave before its end.
#[test]
fn a_reader_that_leaves_is_no_bug() {
    let mut process = sidepost(&["check"])
        .env("SCAISEND_API_KEY", KEY)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(process.stdout.take());
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}

/// A command that does something ends it, whoever reads: and what is shown once must have been read.
#[test]
fn a_reader_that_leaves_stops_no_work() {
    let relay = Relay::sandbox(&[]);
    let unread = |arguments: &[&str]| {
        let mut process = sidepost(arguments)
            .env("SCAISEND_API_KEY", KEY)
            .env("SCAISEND_API_URL", format!("http://{}", relay.web))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(process.stdout.take());
        process.wait_with_output().unwrap()
    };
    let sent = unread(&["send", "--server", &relay.smtp.to_string(), "--to", "ok@example.com"]);
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    assert_eq!(taken(&relay), 1);
    let refused = unread(&["send", "--server", &relay.smtp.to_string(), "--to", "suppressed@example.com"]);
    assert!(!refused.status.success());
    let register = unread(&["webhooks", "register", "--url", "https://hooks.example.com/webhooks/scaisend"]);
    assert_eq!(register.status.code(), Some(1));
    assert!(text(&register.stderr).contains("`sidepost webhooks rotate`"), "{}", text(&register.stderr));
}

/// What is written in any script goes to the API, the log and the screen as what it is; replies are ASCII.
#[test]
fn addresses_outside_ascii_come_out_right() {
    let mail = fixture("plain/address-idn-utf8.eml");
    let render = |more: &[&str]| run(&[&["render", &mail, "--json", "--rcpt", "ann@例.example"], more].concat());
    let rendered = render(&["--from", "app@bücher.example"]);
    assert!(rendered.status.success());
    let rendered: Value = serde_json::from_slice(&rendered.stdout).unwrap();
    let to = serde_json::json!({"address": "ann@xn--fsq.example", "role": "to", "request": 0});
    assert_eq!(rendered["recipients"], serde_json::json!([to]));
    assert_eq!(rendered["requests"][0]["body"]["from"]["email"], "info@xn--bcher-kva.example");
    let refused = render(&["--rcpt", "jörg@example.net"]);
    assert_eq!(refused.status.code(), Some(65));
    let refused: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(refused["refused"]["enhanced"], "5.6.7");
    let taken: Value =
        serde_json::from_slice(&render(&["--rcpt", "jörg@example.net", "--utf8-addresses"]).stdout).unwrap();
    assert_eq!(taken["recipients"][1]["address"], "jörg@example.net");
    assert_eq!(run(&["render", &mail, "--rcpt", "jo\u{308}rg@example.net"]).status.code(), Some(64));

    let mut relay = Relay::sandbox(&["--set", "provider_defaults.utf8_addresses=true"]);
    let send = |to: &str| run(&["send", "--server", &relay.smtp.to_string(), "--to", to]);
    assert!(send("ok@bücher.example").status.success());
    let taken = send("jörg@bücher.example");
    assert!(taken.status.success() && text(&taken.stdout).contains("C: MAIL FROM:<sidepost@example.com> SMTPUTF8\n"));
    let refused = send("suppressed-jörg@bücher.example");
    assert!(text(&refused.stderr).contains("550 5.7.1") && refused.stderr.is_ascii(), "{}", text(&refused.stderr));
    assert!(relay.get("/sandbox/mails").1.contains("jörg@xn--bcher-kva.example"));
    relay.signal();
    let log = relay.rest_of_log();
    assert!(log.contains("\"jörg@xn--bcher-kva.example accepted msg_"), "{log}");

    let relay = Relay::sandbox(&[]);
    let refused = run(&["send", "--server", &relay.smtp.to_string(), "--to", "jörg@example.net"]);
    assert!(text(&refused.stderr).contains("550 5.6.7") && !text(&refused.stdout).contains("SMTPUTF8\n"));
}

#[test]
fn hidden_addresses_are_hidden_in_losses_and_logins_too() {
    let folder = Folder::new("hidden");
    let users = folder.path().join("users");
    let hash = sidepost::password::Hash::of(b"secret").unwrap();
    std::fs::write(&users, format!("bob@example.com:{}\n", hash.expose())).unwrap();
    let users = format!("smtp.auth.users_file={}", users.display());
    let set = ["--set", "log.addresses=domain", "--set", "provider_defaults.unsupported=degrade", "--set", &users];
    let mut relay = Relay::sandbox(&set);
    let mut client = relay.connect();
    let login = format!("AUTH PLAIN {}", STANDARD.encode(b"\0bob@example.com\0secret"));
    for line in ["EHLO test", &login, "MAIL FROM:<app@example.com>", "RCPT TO:<ok@example.com>", "DATA"] {
        client.say(line);
    }
    let reply = client.say("From: app@example.com\r\nReply-To: jörg@example.com\r\n\r\nhello\r\n.");
    assert!(reply.starts_with("250 "), "{reply}");
    relay.signal();
    drop(client);
    let log = relay.rest_of_log();
    assert!(log.contains("Reply-To (address) (it is not ASCII)"), "{log}");
    assert!(log.contains(r#""principal":"*@example.com""#), "{log}");
    assert!(!log.contains("rg@") && !log.contains("ok@") && !log.contains("bob@"), "{log}");
}

/// Whoever keeps the log may be slow, or gone: mail is answered, and the relay can be stopped.
#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let mut relay = Relay::sandbox(&["--set", "providers.sandbox.rate=1000/s"]);
    // Some 600 octets each, and a pipe takes 64 KiB.
    for _ in 0..200 {
        assert!(relay.send("ok").starts_with("250 "));
    }
    relay.signal();
    assert!(relay.process.wait().unwrap().success());
    assert!(relay.rest_of_log().len() >= 60_000, "the log was longer than a pipe");
}

#[test]
fn a_password_becomes_a_hash_and_is_not_shown() {
    let hash = |password: &[u8]| {
        let mut command = sidepost(&["hash-password"]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(password).unwrap();
        process.wait_with_output().unwrap()
    };
    for password in [&b"CANARY\n"[..], b"CANARY\r\n", b"CANARY"] {
        let output = hash(password);
        assert!(output.status.success());
        let printed = text(&output.stdout);
        let hash = sidepost::password::Hash::parse(printed.trim()).unwrap();
        assert!(hash.verify(b"CANARY"));
    }
    for (wrong, why) in [(&b""[..], "no password"), (b"\n", "no password"), (b"two\nlines", "more than one line")] {
        let output = hash(wrong);
        assert_eq!(output.status.code(), Some(64));
        assert!(text(&output.stderr).contains(why) && !text(&output.stderr).contains("lines\n"));
    }
    assert!(!text(&hash(&[b'x'; 5000]).stderr).contains("xx"));
}
