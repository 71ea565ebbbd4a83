//! The built binary asks ScaiSend for mails whose answer was lost.

use serde_json::{Value, json};

use crate::binary::{Relay, sidepost};
use crate::binary_faults::{Api, Asked, State, proceed};

fn mails(relay: &Relay) -> Vec<Value> {
    let mails: Value = serde_json::from_str(&relay.get("/sandbox/mails").1).unwrap();
    mails["mails"].as_array().unwrap().clone()
}

/// The sandbox takes it and says nothing: the client is told the id under which it has it. An equal mail is another one.
#[test]
fn a_mail_whose_answer_was_lost_is_found_and_sent_once() {
    let relay = Relay::sandbox(&[]);
    for count in 1..=2 {
        let reply = relay.send("acceptreset");
        let mails = mails(&relay);
        assert_eq!(mails.len(), count);
        let id = mails[0]["id"].as_str().unwrap();
        assert!(reply.starts_with(&format!("250 2.0.0 Ok {id} as ")), "{reply}");
        assert!(reply.ends_with(mails[0]["custom_args"]["sidepost_id"].as_str().unwrap()), "{reply}");
    }
    let metrics = relay.get("/metrics").1;
    assert!(metrics.contains("sidepost_api_lookups_total{account=\"sandbox\",result=\"found\"} 2"), "{metrics}");
}

/// A key for sending alone: the mail stays unknown, and the log says once what is missing.
#[test]
fn a_key_that_may_only_send_is_told_of_once() {
    let api = Relay::sandbox(&[]);
    let mut command =
        sidepost(&["serve", "--set", "smtp.listen=smtp://127.0.0.1:0", "--set", "web.listen=127.0.0.1:0"]);
    command.env("SCAISEND_API_KEY", "sg_live_sendonly").env("SCAISEND_API_URL", format!("http://{}", api.web));
    let mut relay = Relay::start(command);
    for _ in 0..2 {
        assert!(relay.send("acceptreset").starts_with("451 4.4.2 "));
    }
    assert_eq!(mails(&api).len(), 2);
    relay.signal();
    assert!(relay.process.wait().unwrap().success());
    let log = relay.rest_of_log();
    assert_eq!(log.matches("may not read messages").count(), 1, "{log}");
    assert!(log.contains("Missing required scope: messages.read"), "{log}");
}

fn marker(sent: &Asked) -> String {
    let body: Value = serde_json::from_str(&sent.body).unwrap();
    body["custom_args"]["sidepost_id"].as_str().unwrap().to_owned()
}

/// The next question, answered with these messages.
fn show(api: &Api, messages: &Value) {
    let question = api.asked();
    assert!(question.line.starts_with("GET /v3/messages?to_email=ann%40example.com&"), "{}", question.line);
    question.answer(200, &json!({ "messages": messages }).to_string());
}

/// It is shown only when the client comes again, among a stranger's and one of ours to somebody else.
#[test]
fn a_mail_that_is_found_at_the_next_try_is_not_sent_again() {
    let api = Api::new();
    let relay = Relay::serve(&api.url(), &[]);
    let mut client = relay.connect();
    proceed(&mut client, None, State::Dot, "late");
    let sent = api.asked();
    let marker = marker(&sent);
    drop(sent);
    let item = |id: &str, to: &str, marker: &str| json!({ "id": id, "subject": "late", "to_emails": [to], "custom_args": { "sidepost_id": marker } });
    let others = [item("m1", "ann@example.com", "another"), item("m2", "bob@example.com", &marker)];
    show(&api, &json!(others));
    show(&api, &json!([]));
    assert!(client.reply().starts_with("451 4.4.2 "));

    proceed(&mut client, Some(State::Greeted), State::Dot, "late");
    show(&api, &json!([&others[0], item("m3", "ann@example.com", &marker), &others[1]]));
    assert!(client.reply().starts_with("250 2.0.0 Ok m3 "));

    // The client has its reply: what comes now is another mail, under another marker.
    proceed(&mut client, Some(State::Greeted), State::Dot, "late");
    let another = api.asked();
    assert!(another.line.starts_with("POST ") && self::marker(&another) != marker);
    another.accept("m4");
    assert!(client.reply().starts_with("250 2.0.0 Ok m4 "));
    assert!(!api.is_asked());
}

/// Not found is no proof: it is sent again, under the same marker.
#[test]
fn what_is_not_found_is_sent_again_under_its_marker() {
    let api = Api::new();
    let relay = Relay::serve(&api.url(), &[]);
    let mut client = relay.connect();
    proceed(&mut client, None, State::Dot, "lost");
    let sent = api.asked();
    let first = marker(&sent);
    drop(sent);
    show(&api, &json!([]));
    show(&api, &json!([]));
    assert!(client.reply().starts_with("451 4.4.2 "));
    proceed(&mut client, Some(State::Greeted), State::Dot, "lost");
    show(&api, &json!([]));
    let again = api.asked();
    assert_eq!(marker(&again), first);
    again.accept("m1");
    assert!(client.reply().starts_with("250 2.0.0 Ok m1 "));
}

/// Killed while it looks for a mail whose answer was lost: the next process knows under which marker to look.
#[test]
fn a_doubt_outlives_a_kill() {
    let folder = crate::store::Folder::new("killed-doubt");
    let url = format!("state.url=sqlite://{}", folder.file().display());
    let api = Api::new();
    let mut relay = Relay::serve(&api.url(), &["--set", &url]);
    let mut client = relay.connect();
    proceed(&mut client, None, State::Dot, "doubted");
    let sent = api.asked();
    let marker = marker(&sent);
    drop(sent);
    let question = api.asked();
    relay.process.kill().unwrap();
    relay.process.wait().unwrap();
    drop((client, question));

    let relay = Relay::serve(&api.url(), &["--set", &url]);
    let mut client = relay.connect();
    proceed(&mut client, None, State::Dot, "doubted");
    show(&api, &json!([{ "id": "m1", "to_emails": ["ann@example.com"], "custom_args": { "sidepost_id": marker } }]));
    let reply = client.reply();
    assert!(reply.starts_with("250 2.0.0 Ok m1 "), "{reply}");
    assert!(!api.is_asked(), "sent twice");
}
