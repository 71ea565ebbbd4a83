//! Setting the provider up with the built binary, against the sandbox, over real sockets.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;
use sidepost::sandbox::events::{nexuspromail_signature, scaisend_signature};

use crate::binary::{Relay, sidepost, text};

const JWT: &str = "CANARY-JWT-1";
const KEY: &str = "CANARY-KEY-1";

/// The sandbox, and an operator with these variables.
struct Operator {
    relay: Relay,
    variables: Vec<(&'static str, String)>,
}

impl Operator {
    fn new(variables: &[(&'static str, &str)]) -> Self {
        Self { relay: Relay::sandbox(&[]), variables: owned(variables) }
    }

    fn with(self, variables: &[(&'static str, &str)]) -> Self {
        Self { variables: owned(variables), ..self }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let api = format!("http://{}", self.relay.web);
        let mut command = sidepost(arguments);
        command.env("SCAISEND_API_URL", &api).env("NEXUSPROMAIL_API_URL", &api);
        let output = command.envs(self.variables.iter().cloned()).output().unwrap();
        let said = text(&output.stderr);
        assert!(!said.contains("CANARY") && !said.contains("whsec_") && !said.contains("sg_live_"), "{said}");
        output
    }

    /// What a command that succeeds prints.
    fn get(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        serde_json::from_str(&self.get(&arguments)).unwrap()
    }

    /// Exit code and what a command that fails says.
    fn fail(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
        (output.status.code().unwrap(), text(&output.stderr))
    }

    fn mail(&self, recipient: &str) {
        let smtp = self.relay.smtp.to_string();
        self.get(&["send", "--server", &smtp, "--to", recipient]);
    }
}

fn owned(variables: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn scaisend() -> Operator {
    Operator::new(&[("SCAISEND_JWT", JWT)])
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sidepost-setup-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A receiver of events: their heads and bodies, each answered with 200.
fn receiver() -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/webhooks/scaisend", listener.local_addr().unwrap());
    let (sender, events) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"}") {
                let mut chunk = [0; 4096];
                let read = stream.read(&mut chunk).unwrap();
                assert!(read > 0, "an event broke off");
                seen.extend_from_slice(&chunk[..read]);
            }
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            let whole = text(&seen);
            let (head, body) = whole.split_once("\r\n\r\n").unwrap();
            if sender.send((head.to_owned(), body.to_owned())).is_err() {
                return;
            }
        }
    });
    (url, events)
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).unwrap().1
}

fn is_signed_with(secret: &str, (head, body): &(String, String)) -> bool {
    let timestamp = header(head, "x-scaisend-timestamp").parse().unwrap();
    header(head, "x-scaisend-signature") == scaisend_signature(secret, timestamp, body.as_bytes())
}

/// The guide from its first step to its last: domain, key, webhook, events; then what an operator does later.
#[test]
fn the_walk_of_the_guide() {
    let operator = scaisend();
    let added = operator.get(&["domains", "add", "mail.example.com", "--dmarc-policy", "quarantine"]);
    let rows: Vec<&str> = added.lines().filter(|line| line.starts_with("TXT  ")).collect();
    assert!(
        rows.len() == 3 && rows[0].contains(" scaisend._domainkey.mail.example.com  v=DKIM1; k=rsa; p=MII"),
        "{added}"
    );
    assert!(rows[2].ends_with("_dmarc.mail.example.com               v=DMARC1; p=quarantine"), "{added}");
    let domains = operator.json(&["domains", "list"]);
    let id = domains["domains"][0]["id"].as_str().unwrap();
    assert!(added.contains("sidepost domains verify mail.example.com"), "{added}");
    assert_eq!(domains["domains"][0]["verified"], false);
    assert!(operator.get(&["domains", "verify", id]).starts_with("verified"));
    assert!(operator.get(&["domains", "list"]).contains("yes       mail.example.com"));
    assert!(operator.get(&["domains", "verify", "Mail.example.com"]).starts_with("verified"));
    assert!(operator.fail(&["domains", "verify", "other.example"]).1.contains("`sidepost domains add other.example`"));

    let file = folder("walk").join("key");
    let path = file.to_str().unwrap();
    let said = operator.get(&["keys", "create", "--name", "prod", "--environment", "live", "--out", path]);
    let key = std::fs::read_to_string(&file).unwrap();
    assert!(key.starts_with("sg_live_") && key.ends_with('\n') && !said.contains(key.trim()), "{said}");
    assert!(said.contains(&format!("api_key_file = \"{path}\"")), "{said}");
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();

    let (url, events) = receiver();
    let registered = operator.json(&["webhooks", "register", "--url", &url]);
    let (id, first) = (registered["id"].as_str().unwrap(), registered["secret"].as_str().unwrap());
    assert_eq!(registered["events"].as_array().unwrap().len(), 12);
    operator.mail("bounce@example.com");
    for name in ["processed", "bounce"] {
        let event = events.recv().unwrap();
        assert!(header(&event.0, "x-scaisend-event") == name && is_signed_with(first, &event), "{event:?}");
    }
    let rotated = operator.run(&["webhooks", "rotate", id, "--json"]);
    assert!(text(&rotated.stderr).contains("is void from the moment"));
    let second: Value = serde_json::from_slice(&rotated.stdout).unwrap();
    let second = second["secret"].as_str().unwrap();
    operator.mail("ok@example.com");
    let event = events.recv().unwrap();
    assert!(is_signed_with(second, &event) && !is_signed_with(first, &event), "the old one signs nothing more");
    assert!(header(&events.recv().unwrap().0, "x-scaisend-event") == "delivered");
    // It has taken its events, and no list shows the secret.
    let listed = operator.get(&["webhooks", "list"]);
    assert!(listed.contains(id) && listed.contains(" yes ") && !listed.contains("whsec_"), "{listed}");
    assert_eq!(operator.json(&["webhooks", "list"])["webhooks"][0]["failures"], 0);

    let stats = operator.json(&["stats"]);
    let day = &stats["stats"][0]["metrics"];
    assert_eq!((&day["requests"], &day["delivered"], &day["bounces"]), (&2.into(), &1.into(), &1.into()), "{stats}");
    assert!(operator.get(&["stats"]).contains("50.0 %"));
    assert!(operator.get(&["stats", "--end-date", "2020-01-02", "--start-date", "2020-01-01"]).contains("no numbers"));

    assert!(operator.get(&["webhooks", "delete", id]).contains("is deleted"));
    assert!(operator.get(&["webhooks", "list"]).contains("has no webhook"));
    let (code, said) = operator.fail(&["webhooks", "delete", id]);
    assert!(code == 1 && said.contains("404") && said.contains("sidepost webhooks list"), "{said}");

    // A key for sending is no key for webhooks; the token goes before it.
    let operator = operator.with(&[("SCAISEND_API_KEY", key.trim())]);
    let (code, said) = operator.fail(&["webhooks", "register", "--url", &url]);
    assert!(code == 1 && said.contains("403: Missing required scope: webhooks.write"), "{said}");
    assert!(said.contains("SCAISEND_JWT"), "{said}");
    let operator = operator.with(&[("SCAISEND_API_KEY", key.trim()), ("SCAISEND_JWT", JWT)]);
    operator.get(&["webhooks", "register", "--url", &url]);
}

/// In text the secret is printed once, with where it goes.
#[test]
fn a_secret_is_told_once_and_where_it_goes() {
    let operator = scaisend();
    let said = operator.get(&["webhooks", "register", "--url", "https://a.example/webhooks/scaisend", "--events", "*"]);
    assert_eq!(said.matches("whsec_").count(), 1, "{said}");
    assert!(said.contains("providers.scaisend.webhook_secrets") && said.contains("events       *"), "{said}");
    let said = operator.get(&["keys", "create", "--name", "ci", "--environment", "test", "--expires-at", "2099-01-31"]);
    assert!(said.starts_with("sg_test_") && said.contains("0600") && said.contains("api_key_file"), "{said}");
    let elsewhere = operator.run(&["webhooks", "register", "--url", "https://a.example/hook"]);
    assert!(text(&elsewhere.stderr).contains("/webhooks/scaisend"), "{}", text(&elsewhere.stderr));
}

#[test]
fn a_secret_file_is_new_and_nobody_elses() {
    let operator = scaisend();
    let folder = folder("out");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let create = |out: &str| {
        vec!["keys", "create", "--name", "a", "--environment", "live", "--out"]
            .into_iter()
            .map(str::to_owned)
            .chain([out.to_owned()])
            .collect::<Vec<_>>()
    };
    let run = |out: &str| operator.run(&create(out).iter().map(String::as_str).collect::<Vec<_>>());
    assert!(run(&path("key")).status.success());
    assert_eq!(std::fs::metadata(path("key")).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(path("key")).unwrap();
    let again = run(&path("key"));
    assert_eq!(again.status.code(), Some(64));
    assert!(text(&again.stderr).contains("exists"), "{}", text(&again.stderr));
    assert_eq!(std::fs::read(path("key")).unwrap(), before, "it is left alone");
    std::os::unix::fs::symlink(path("target"), path("link")).unwrap();
    assert_eq!(run(&path("link")).status.code(), Some(64), "a link is not followed");
    assert_eq!(run(&path("no-such-folder/key")).status.code(), Some(64));
    // A call that is refused leaves nothing behind.
    let operator = operator.with(&[("SCAISEND_JWT", "CANARY-wrong")]);
    let (_, said) = operator.fail(&["webhooks", "register", "--url", "https://a.example/", "--out", &path("secret")]);
    assert!(said.contains("401") && !folder.join("secret").exists(), "{said}");
    let operator = operator.with(&[("SCAISEND_JWT", JWT)]);
    let shown = operator.json(&["webhooks", "register", "--url", "https://a.example/", "--out", &path("secret")]);
    assert_eq!((&shown["secret_file"], shown.get("secret")), (&Value::from(path("secret")), None));
    assert!(std::fs::read_to_string(path("secret")).unwrap().starts_with("whsec_"));
    let id = shown["id"].as_str().unwrap();
    let said = operator.get(&["webhooks", "rotate", id, "--out", &path("second")]);
    assert!(said.contains("providers.scaisend.webhook_secrets_file") && !said.contains("whsec_"), "{said}");
    assert_ne!(std::fs::read(path("second")).unwrap(), std::fs::read(path("secret")).unwrap());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_domain_that_is_not_verified_is_an_error_with_steps() {
    let operator = scaisend();
    let domain = operator.json(&["domains", "add", "unverified.example.com"]);
    let id = domain["id"].as_str().unwrap();
    let (code, said) = operator.fail(&["domains", "verify", id]);
    assert_eq!(code, 1);
    for words in ["DKIM: no TXT record at scaisend._domainkey.unver", "Publish a TXT record at _dmarc", "v=spf1", id] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    let output = operator.run(&["domains", "verify", id, "--json"]);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &shown["verified"]), (Some(1), &Value::from(false)));
    assert_eq!(shown["errors"].as_array().unwrap().len(), 3);
    assert!(operator.get(&["domains", "list"]).contains("scaisend._domainkey.unverified.example.com"));
    assert!(operator.fail(&["domains", "add", "unverified.example.com"]).1.contains("409"));
    assert!(operator.fail(&["domains", "verify", "dom_no"]).1.contains("sidepost domains list"));
    let added = operator.json(&["domains", "add", "bücher.example", "--dmarc-rua-email", "d@example.com"]);
    assert!(operator.get(&["domains", "verify", "bücher.example"]).starts_with("verified"));
    assert_eq!(added["domain"], "xn--bcher-kva.example", "as DNS has it");
}

#[test]
fn without_a_token_it_is_said_how_to_get_one() {
    let operator = scaisend().with(&[("SCAISEND_API_KEY", KEY)]);
    for command in [&["domains", "list"][..], &["keys", "create", "--name", "a", "--environment", "live"]] {
        let (code, said) = operator.fail(command);
        assert!(code == 64 && said.contains("SCAISEND_JWT") && said.contains("ScaiKey"), "{said}");
    }
    // Where a key will do, it does.
    assert_eq!(operator.json(&["webhooks", "list"])["total"], 0);
    assert!(operator.get(&["stats"]).contains("no numbers"));
    let operator = operator.with(&[]);
    let (code, said) = operator.fail(&["domains", "list"]);
    assert!(code == 64 && said.contains("no account") && said.contains("SCAISEND_JWT"), "{said}");
}

#[test]
fn a_token_comes_from_a_file_too_and_a_wrong_one_is_said() {
    let folder = folder("token");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let put = |name: &str, token: &str| std::fs::write(path(name), token).unwrap();
    put("right", "CANARY-JWT-2\n");
    put("wrong", "CANARY-wrong");
    put("odd", "Bearer CANARY");
    put("empty", "\n");
    let operator = scaisend().with(&[("SCAISEND_JWT", "CANARY-wrong")]);
    operator.get(&["domains", "list", "--token-file", &path("right")]);
    let (code, said) = operator.fail(&["domains", "list", "--token-file", &path("wrong")]);
    assert!(code == 1 && said.contains("401: Invalid or revoked API key") && said.contains("expired"), "{said}");
    for (name, words) in [("odd", "without \"Bearer\""), ("empty", "there is no token"), ("none", "cannot be read")] {
        let (code, said) = operator.fail(&["domains", "list", "--token-file", &path(name)]);
        assert!(code == 64 && said.contains(words), "{said}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nexuspromail_registers_and_says_what_it_does_not_document() {
    let operator = scaisend().with(&[("NEXUSPROMAIL_API_KEY", KEY), ("SCAISEND_JWT", JWT)]);
    let kind = ["--provider", "nexuspromail"];
    let with = |arguments: &[&'static str]| [arguments, &kind[..]].concat();
    let url = "https://a.example/webhooks/nexuspromail";
    let said = operator.get(&with(&["webhooks", "register", "--url", url]));
    assert!(said.contains("bounced.hard,bounced.soft,complained") && said.contains("secret       whsec_"), "{said}");
    for (command, words) in [
        (&["webhooks", "list"][..], "lists webhooks"),
        (&["webhooks", "delete", "wh_1"], "deletes a webhook"),
        (&["webhooks", "rotate", "wh_1"], "changes a webhook's secret"),
        (&["webhooks", "enable", "wh_1"], "switches a webhook on"),
        (&["domains", "list"], "sender domains"),
        (&["keys", "create", "--name", "a", "--environment", "live"], "makes an API key"),
        (&["stats"], "statistics"),
    ] {
        let (code, said) = operator.fail(&with(command));
        assert!(code == 1 && said.contains("documents no call") && said.contains(words), "{said}");
    }
    let (code, said) = operator.fail(&with(&["webhooks", "register", "--url", url, "--events", "*"]));
    assert!(code == 64 && said.contains("--events"), "{said}");
    let (code, said) = operator.fail(&with(&["webhooks", "register", "--url", url, "--token-file", file!()]));
    assert!(code == 64 && said.contains("no token has"), "{said}");
    let file = folder("nexuspromail").join("token");
    std::fs::write(&file, JWT).unwrap();
    let file = ["--token-file", file.to_str().unwrap()];
    let (code, said) = operator.fail(&[&with(&["webhooks", "register", "--url", url])[..], &file[..]].concat());
    assert!(code == 64 && said.contains("leave it out"), "{said}");
    std::fs::remove_file(file[1]).unwrap();
    // Without --provider the one that has such a call is meant.
    assert!(operator.get(&["domains", "list"]).contains("no domain yet"));
}

/// ScaiSend switches a webhook off whose receiver fails again and again, and an operator on.
#[test]
fn a_webhook_that_was_switched_off_is_switched_on_again() {
    let operator = scaisend();
    let down = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/webhooks/scaisend", down.local_addr().unwrap());
    drop(down);
    let registered = operator.json(&["webhooks", "register", "--url", &url]);
    let id = registered["id"].as_str().unwrap();
    // Two events a mail, processed and delivered: ten in all.
    for _ in 0..5 {
        operator.mail("ok@example.com");
    }
    let off = (0..500).any(|_| operator.json(&["webhooks", "list"])["webhooks"][0]["enabled"] == false);
    let listed = operator.get(&["webhooks", "list"]);
    assert!(off && listed.contains(&format!("sidepost webhooks enable {id}")) && listed.contains(" NO "), "{listed}");
    assert!(operator.get(&["webhooks", "enable", id]).contains("is switched on"));
    let webhook = &operator.json(&["webhooks", "list"])["webhooks"][0];
    assert_eq!((&webhook["enabled"], &webhook["failures"]), (&true.into(), &0.into()));
}

/// Its events are signed as its guide says.
#[test]
fn events_of_nexuspromail_are_signed_with_the_registered_secret() {
    let relay = Relay::sandbox(&["--provider", "nexuspromail"]);
    let operator = Operator { relay, variables: owned(&[("NEXUSPROMAIL_API_KEY", KEY)]) };
    let (url, events) = receiver();
    let registered = operator.json(&["webhooks", "register", "--url", &url, "--events", "bounced.hard"]);
    operator.mail("bounce@example.com");
    let (head, body) = events.recv().unwrap();
    let expected = nexuspromail_signature(registered["secret"].as_str().unwrap(), body.as_bytes());
    assert_eq!(header(&head, "x-nexuspromail-signature"), expected);
}

/// A configuration before its key is there, with several accounts, and with one that has no such call.
#[test]
fn the_account_is_that_of_the_configuration() {
    let operator = scaisend();
    let folder = folder("accounts");
    let config = folder.join("sidepost.toml");
    let key = folder.join("key");
    let api = operator.relay.web;
    let settings = format!(
        r#"
        [providers.main]
        kind = "scaisend"
        base_url = "http://{api}"
        api_key_file = "{}"
        webhook_secrets_file = "/no/such/file"
        [providers.other]
        kind = "sendgrid"
        api_key = "{KEY}"
        [smtp.tls]
        cert = "/no/such/file"
        key = "/no/such/file"
        "#,
        key.display()
    );
    std::fs::write(&config, settings).unwrap();
    let config = config.to_str().unwrap();
    let key = key.to_str().unwrap();
    operator.get(&["keys", "create", "--name", "a", "--environment", "live", "--config", config, "--out", key]);
    let said = operator.get(&["webhooks", "register", "--url", "https://a.example/webhooks/main", "-c", config]);
    assert!(said.contains("providers.main.webhook_secrets"), "{said}");
    let (code, said) = operator.fail(&["webhooks", "list", "--config", config, "--account", "other"]);
    assert!(code == 1 && said.contains("SendGrid"), "{said}");
    let (code, said) = operator.fail(&["webhooks", "list", "--config", config, "--account", "nobody"]);
    assert!(code == 64 && said.contains("main, other"), "{said}");
    let (code, said) =
        operator.fail(&["domains", "list", "-c", config, "-s", "providers.main.base_url=http://a.example"]);
    assert!(code == 78 && said.contains("in the clear") && !said.contains("smtp.tls"), "{said}");
    let operator = operator.with(&[]);
    std::fs::remove_file(key).unwrap();
    let (code, said) = operator.fail(&["webhooks", "list", "--config", config]);
    assert!(code == 78 && said.contains("api_key_file") && said.contains("cannot be read"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn arguments_that_cannot_be_right_are_not_sent() {
    let operator = scaisend();
    for wrong in [
        &["webhooks", "register", "--url", "http://mail.example.com/"][..],
        &["webhooks", "register"],
        &["webhooks", "delete", "../../v3/api_keys"],
        &["domains", "add", "nodots"],
        &["domains", "add", "a@b.example"],
        &["domains", "add", "https://b.example"],
        &["domains", "add", "b.example", "--dmarc-policy", "maybe"],
        &["keys", "create", "--name", "a"],
        &["keys", "create", "--name", "a", "--environment", "prod"],
        &["keys", "create", "--name", "a", "--environment", "live", "--expires-at", "soon"],
        &["keys", "create", "--name", "a", "--environment", "live", "--expires-at", "2020-01-31"],
        &["keys", "create", "--name", "a", "--environment", "live", "--scopes", ""],
        &["stats", "--start-date", "1.4.2026"],
        &["stats", "--start-date", "2026-04-02", "--end-date", "2026-04-01"],
    ] {
        assert_eq!(operator.fail(wrong).0, 64, "{wrong:?}");
    }
}

#[test]
fn an_api_that_cannot_be_reached_is_said_with_its_address() {
    let down = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", down.local_addr().unwrap());
    drop(down);
    let output =
        sidepost(&["domains", "list"]).env("SCAISEND_JWT", JWT).env("SCAISEND_API_URL", &url).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(&url) && said.contains("cannot be reached"), "{said}");
}

#[test]
fn an_answer_that_never_comes_may_have_been_done() {
    let api = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", api.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = api.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).unwrap();
            head.extend_from_slice(&chunk[..read]);
        }
        text(&head)
    });
    let output = sidepost(&["webhooks", "rotate", "wh_1"])
        .env("SCAISEND_JWT", JWT)
        .env("SCAISEND_API_URL", &url)
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("may have been done all the same"), "{said}");
    let head = served.join().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post /v3/user/webhooks/wh_1/signing_secret http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: bearer canary-jwt-1\r\n") && !head.contains("content-type"), "{head}");
}

/// An answer that nobody foresaw is printed whole rather than lost: the secret is shown only once.
#[test]
fn an_answer_without_a_known_secret_is_printed_whole() {
    let api = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", api.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = api.accept().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"}") {
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).unwrap();
            seen.extend_from_slice(&chunk[..read]);
        }
        let body = r#"{"id":"w","verifier":"ODD"}"#;
        write!(stream, "HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let output = sidepost(&["webhooks", "register", "--url", "https://a.example/"])
        .env("NEXUSPROMAIL_API_KEY", KEY)
        .env("NEXUSPROMAIL_API_URL", &url)
        .output()
        .unwrap();
    served.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("ODD") && text(&output.stderr).contains("printed above"));
}

/// A list is longer than what a send call says.
#[test]
fn a_long_list_is_read_to_its_end() {
    let api = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", api.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = api.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).unwrap();
            head.extend_from_slice(&chunk[..read]);
        }
        let days = (0..4000).map(|n| serde_json::json!({"date": format!("day {n:04}"), "metrics": {"requests": n}}));
        let body = serde_json::json!({ "stats": days.collect::<Vec<_>>() }).to_string();
        assert!(body.len() > 150_000);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let output =
        sidepost(&["stats", "--json"]).env("SCAISEND_API_KEY", KEY).env("SCAISEND_API_URL", &url).output().unwrap();
    served.join().unwrap();
    let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(stats["stats"][3999]["metrics"]["requests"], 3999);
}

/// A self-hosted API with a certificate of its own: `ca_file` is obeyed, and without it no token is shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_self_hosted_api_is_believed_by_its_ca_file() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (acceptor, pem) = crate::http_client::self_signed(&[]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut head).await.unwrap() > 0);
            }
            let body = "{\"data\":[]}";
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let ca = folder("ca").join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let list = |more: Vec<String>| {
        let mut command = sidepost(&["domains", "list"]);
        command.args(more).env("SCAISEND_JWT", JWT).env("SCAISEND_API_URL", &url).output().unwrap()
    };
    let strange = list(Vec::new());
    let said = text(&strange.stderr);
    assert!(strange.status.code() == Some(1) && said.contains("ca_file") && said.contains("certificate"), "{said}");
    let known = list(vec!["--set".to_owned(), format!("provider_defaults.ca_file={}", ca.display())]);
    assert!(known.status.success() && text(&known.stdout).contains("no domain yet"), "{}", text(&known.stderr));
    std::fs::remove_file(ca).unwrap();
}
