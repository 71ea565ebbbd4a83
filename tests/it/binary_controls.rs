//! Header controls through the built binary: what the API gets, what the log tells, what `render` shows.

use serde_json::{Value, json};

use crate::binary::{Relay, run, text};

const MAIL: &str = "From: app@example.com\r\nTo: ok@example.com\r\nSubject: hi\r\n\
    X-SMTPAPI: {\"category\":[\"welcome\"],\r\n \"unique_args\":{\"order\":\"CANARY\"},\"send_at\":1}\r\n\
    X-Sidepost-Sandbox: yes\r\nX-PM-Message-Stream: CANARY\r\n\r\nhello\r\n.";

fn hand_in(relay: &Relay, mail: &str) -> String {
    let mut client = relay.connect();
    for command in ["EHLO test", "MAIL FROM:<app@example.com>", "RCPT TO:<ok@example.com>", "DATA"] {
        client.say(command);
    }
    client.say(mail)
}

#[test]
fn the_sandbox_gets_the_fields_and_the_log_names_the_rest() {
    let mut relay = Relay::sandbox(&[]);
    assert!(hand_in(&relay, MAIL).starts_with("250 2.0.0"));
    assert!(hand_in(&relay, &MAIL.replace("[\"welcome\"]", "[")).starts_with("554 5.6.0 "));
    let mails: Value = serde_json::from_str(&relay.get("/sandbox/mails").1).unwrap();
    let mail = mails.pointer("/mails/0").or_else(|| mails.pointer("/0")).unwrap();
    assert_eq!(mail["categories"], json!(["welcome"]));
    assert_eq!(mail["test"], true, "{mail}");
    let metrics = relay.get("/metrics").1;
    assert!(metrics.contains("sidepost_controls_ignored_total 2"), "{metrics}");
    relay.signal();
    assert!(relay.process.wait().unwrap().success());
    let log = relay.rest_of_log();
    let event = log.lines().find(|line| line.contains("controls_ignored")).unwrap_or_else(|| panic!("{log}"));
    let event: Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["controls"], "tag, metadata, sandbox");
    assert_eq!(
        event["controls_ignored"],
        "X-SMTPAPI send_at is not in controls.allow; X-PM-Message-Stream is not in controls.allow"
    );
    assert!(!log.contains("CANARY"), "values are not for the log: {log}");
}

#[test]
fn render_shows_controls_and_what_is_not_obeyed() {
    let mail = std::env::temp_dir().join(format!("sidepost-controls-{}.eml", std::process::id()));
    std::fs::write(&mail, MAIL).unwrap();
    let mail = mail.to_str().unwrap();
    let output = run(&["render", mail, "--json"]);
    let rendered: Value = serde_json::from_slice(&output.stdout).unwrap();
    let controls = json!({
        "tag": ["welcome"],
        "metadata": {"order": "CANARY"},
        "sandbox": true,
        "ignored": [
            {"header": "X-SMTPAPI send_at", "why": "is not in controls.allow"},
            {"header": "X-PM-Message-Stream", "why": "is not in controls.allow"},
        ],
    });
    assert_eq!(rendered["controls"], controls);
    assert_eq!(rendered["requests"][0]["body"]["mail_settings"]["sandbox_mode"]["enable"], true);
    let all = run(&["render", mail, "--controls", "all"]);
    let all = text(&all.stdout);
    assert!(all.contains("schedule") && all.contains("\"send_at\": 1"), "{all}");
    assert!(all.contains("not obeyed: X-PM-Message-Stream asks for stream, and ScaiSend has no field for it"), "{all}");
    assert_eq!(run(&["render", mail, "--controls", "tags"]).status.code(), Some(64));
    let refused = run(&["render", mail, "--json", "--provider", "nexuspromail"]);
    assert_eq!(refused.status.code(), Some(65), "the sandbox cannot be had there");
    std::fs::remove_file(mail).unwrap();
}
