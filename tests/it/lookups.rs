//! Mails whose outcome is not known, and the API that is asked for them, with paused time.

use std::sync::Arc;
use std::time::Duration;

use sidepost::relay::Relay;
use tokio::time::Instant;

use crate::world::{Answer, MAIL, Script, admit, config, relay, submit, transaction};

const ANN: &[&str] = &["ann@example.net"];

/// One message of ours to these.
fn shows(id: &str, to: &[&str]) -> Answer {
    let to = to.iter().map(|to| format!("\"{to}\"")).collect::<Vec<_>>().join(",");
    let item = format!(r#"{{"id":"{id}","to_emails":[{to}],"custom_args":{{"sidepost_id":"MARKER"}}}}"#);
    Answer::Status(200, Vec::new(), format!("{{\"messages\":[{item}]}}"))
}

fn shows_nothing() -> Answer {
    Answer::Status(200, Vec::new(), "{\"messages\":[]}".to_owned())
}

/// Each mail has an id of its own, as in life.
async fn send(relay: &Arc<Relay>, recipients: &[&str], each: bool) -> (String, Vec<String>) {
    let mut transaction = transaction(MAIL, recipients);
    transaction.id = sidepost::envelope::TransactionId::new(uuid::Uuid::new_v4());
    transaction.each = each;
    let settled = Arc::clone(relay).submit(transaction).await;
    settled.receipt.unwrap().written();
    (settled.reply.to_string(), settled.each.iter().map(ToString::to_string).collect())
}

async fn told(relay: &Arc<Relay>, recipients: &[&str]) -> String {
    send(relay, recipients, false).await.0
}

#[tokio::test(start_paused = true)]
async fn a_second_look_is_two_seconds_later_and_the_last() {
    let script = Script::showing([Answer::Lost], []);
    let begun = Instant::now();
    assert!(told(&relay(&config(&[]), &script), ANN).await.starts_with("451 4.4.2 "));
    assert_eq!((begun.elapsed().as_secs(), script.asked().len(), script.requests()), (2, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn questions_keep_to_the_deadline() {
    let script = Script::showing([Answer::Never], vec![Answer::Never; 9]);
    let begun = Instant::now();
    assert!(told(&relay(&config(&[]), &script), ANN).await.starts_with("451 4.4.2 "));
    assert!(begun.elapsed() <= Duration::from_secs(25), "{:?}", begun.elapsed());
}

/// Two failed requests and four failed questions are two failures.
#[tokio::test(start_paused = true)]
async fn questions_do_not_open_the_breaker() {
    let script = Script::showing(vec![Answer::Lost; 4], vec![Answer::status(500); 9]);
    let relay = relay(&config(&[]), &script);
    for _ in 0..4 {
        told(&relay, ANN).await;
    }
    assert!(script.asked().len() >= 4 && script.requests() == 4, "{:?}", script.asked());
    assert!(admit(&relay).is_ok(), "{}", admit(&relay).unwrap_err());
}

/// An API in trouble is not asked for every mail that it fails.
#[tokio::test(start_paused = true)]
async fn failed_questions_are_few() {
    let script = Script::showing(vec![Answer::Lost; 100], vec![Answer::status(503); 200]);
    let relay = relay(&config(&["providers.main.burst=500", "providers.main.max_in_flight=1"]), &script);
    let recipients: Vec<String> = (0..100).map(|n| format!("r{n}@example.net")).collect();
    let each = recipients.iter().map(|r| async { told(&relay, &[r]).await });
    futures_util::future::join_all(each).await;
    assert!(script.asked().len() <= 10, "{}", script.asked().len());
}

/// The operator wants a 500 repeated: it is, under the same marker; and the first attempt stays in doubt when the second
/// one is refused cleanly.
#[tokio::test(start_paused = true)]
async fn a_doubt_outlasts_a_later_refusal() {
    let flags = ["providers.main.replies.server-error=yes", "delivery.max_attempts=2"];
    let script = Script::showing([Answer::status(500), Answer::status(503)], [shows_nothing(), shows("m1", ANN)]);
    let relay = relay(&config(&flags), &script);
    assert!(told(&relay, ANN).await.starts_with("451 4.3.2 "));
    assert_eq!(script.markers()[0], script.markers()[1]);
    assert_eq!(relay.unfinished(), 1);
    assert!(told(&relay, ANN).await.starts_with("250 2.0.0 Ok m1 "));
    assert_eq!((script.requests(), relay.unfinished()), (2, 0));
}

/// The account that may have sent it is asked, whichever would send now.
#[tokio::test(start_paused = true)]
async fn the_account_in_doubt_is_asked() {
    let flags = two_accounts(&[]);
    let script =
        Script::showing([Answer::status(503), Answer::Lost], [shows_nothing(), shows_nothing(), shows("m1", ANN)]);
    let relay = relay(&config(&flags), &script);
    assert!(told(&relay, ANN).await.starts_with("451 4.4.2 "));
    assert!(told(&relay, ANN).await.starts_with("250 2.0.0 Ok m1 "));
    assert_eq!(script.hosts(), ["main.test", "backup.test"]);
    assert!(script.asked().iter().all(|url| url.starts_with("backup.test/v3/messages?")), "{:?}", script.asked());
}

fn two_accounts<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut flags = vec![
        "providers.backup.kind=scaisend",
        "providers.backup.api_key=x",
        "providers.main.base_url=https://main.test",
        "providers.backup.base_url=https://backup.test",
        "routes=[{ use = [\"main\", \"backup\"] }]",
        "delivery.max_attempts=1",
    ];
    flags.extend(more);
    flags
}

/// What an account may have sent, no other one sends: not within the transaction, whatever its last attempt was told.
#[tokio::test(start_paused = true)]
async fn a_mail_in_doubt_does_not_move_on() {
    for (flags, answers) in [
        (&["providers.main.replies.server-error=yes"][..], [500, 503, 503]),
        (&["providers.main.replies.server-error=yes"], [500, 500, 401]),
        (&["providers.main.replies.gateway=yes", "providers.main.kind=nexuspromail"], [504, 503, 503]),
    ] {
        let flags = two_accounts(&[flags, &["delivery.max_attempts=3"]].concat());
        let script = Script::showing(answers.map(Answer::status), []);
        let reply = told(&relay(&config(&flags), &script), ANN).await;
        assert!(reply.starts_with("451 "), "{reply}");
        assert_eq!(script.hosts(), ["main.test"; 3], "{answers:?}");
    }
    // Only where the operator says so of the very answer.
    let flags = two_accounts(&["providers.main.replies.server-error=elsewhere"]);
    let script = Script::showing([Answer::status(500)], []);
    assert!(told(&relay(&config(&flags), &script), ANN).await.starts_with("250 "));
    assert_eq!(script.hosts(), ["main.test", "backup.test"]);
}

/// Nor at the client's next try, when that account refuses it cleanly; the others of the mail may.
#[tokio::test(start_paused = true)]
async fn a_mail_in_doubt_waits_for_its_account() {
    let flags = two_accounts(&["providers.main.fanout=per-recipient"]);
    let script = Script::showing([Answer::Lost, Answer::status(401)], []);
    let relay = relay(&config(&flags), &script);
    assert!(told(&relay, ANN).await.starts_with("451 4.4.2 "));
    assert!(told(&relay, ANN).await.starts_with("451 4.3.5 "));
    assert_eq!(script.hosts(), ["main.test", "main.test"]);
    let reply = told(&relay, &[ANN[0], "bob@example.net"]).await;
    assert!(reply.starts_with("451 4.3.5 "), "{reply}");
    let bobs = script
        .seen()
        .into_iter()
        .zip(script.hosts())
        .filter(|(body, _)| body["personalizations"][0]["to"][0]["email"] == "bob@example.net");
    assert_eq!(bobs.map(|(_, host)| host).collect::<Vec<_>>(), ["backup.test"]);
}

/// Two that the API may not tell apart: what is found may be the other's.
#[tokio::test(start_paused = true)]
async fn who_reads_like_another_recipient_is_not_asked_for() {
    let both = &["Ann@example.net", "ann@example.net"];
    let script = Script::showing([Answer::Lost], vec![shows("m1", both); 4]);
    let relay = relay(&config(&[]), &script);
    assert!(told(&relay, both).await.starts_with("451 4.4.2 "));
    assert!(script.asked().is_empty(), "{:?}", script.asked());
}

/// A message to several is the one only if it went to all of them; a Cc came along.
#[tokio::test(start_paused = true)]
async fn a_group_is_found_as_a_whole() {
    let to = "From: App <app@example.com>\r\nTo: a@example.net, b@example.net\r\nCc: c@example.net\r\n\r\nhi\r\n";
    let all = &["a@example.net", "b@example.net", "c@example.net"];
    for (shown, reply) in [(&all[..1], "451 4.4.2 "), (&all[..2], "250 2.0.0 Ok m1 ")] {
        let script = Script::showing([Answer::Lost], vec![shows("m1", shown); 2]);
        let settled = relay(&config(&[]), &script).submit(transaction(to, all)).await;
        assert!(settled.reply.to_string().starts_with(reply), "{} for {shown:?}", settled.reply);
    }
}

/// LMTP: who was deferred comes again alone, and is asked for first.
#[tokio::test(start_paused = true)]
async fn lmtp_asks_at_the_next_try() {
    let script = Script::showing([Answer::ok("m1"), Answer::Lost], [shows_nothing(), shows_nothing()]);
    let relay = relay(&config(&["providers.main.fanout=per-recipient"]), &script);
    let (_, each) = send(&relay, &["a@example.net", "b@example.net"], true).await;
    assert!(each[0].starts_with("250 ") && each[1].starts_with("451 4.4.2 "), "{each:?}");
    assert_eq!(relay.unfinished(), 1);
    // Found nowhere: sent again under its old marker. The one that is new to this try has a new one.
    let (_, each) = send(&relay, &["b@example.net", "c@example.net"], true).await;
    assert!(each.iter().all(|reply| reply.starts_with("250 ")), "{each:?}");
    let markers = script.markers();
    let of = |to: &str| {
        let sent = script.seen().into_iter().zip(&markers);
        let sent = sent.filter(|(body, _)| body["personalizations"][0]["to"][0]["email"] == to);
        sent.map(|(_, marker)| marker.clone()).collect::<Vec<_>>()
    };
    assert!(of("b@example.net").len() == 2 && of("b@example.net")[0] == of("b@example.net")[1]);
    assert!(!of("b@example.net").contains(&of("c@example.net")[0]));
    assert_eq!(relay.unfinished(), 0);
}

/// A client's own key asks, and what it may not do pauses nobody's questions.
#[tokio::test(start_paused = true)]
async fn questions_go_by_the_clients_own_key() {
    let forbidden = || Answer::Status(403, Vec::new(), "{\"detail\":\"Missing required scope: x\"}".to_owned());
    let script = Script::showing(vec![Answer::Lost; 2], [forbidden(), forbidden(), shows("m1", ANN)]);
    let relay = relay(&config(&["smtp.auth.required=true", "smtp.auth.passthrough=true"]), &script);
    for (key, reply) in [("sg_live_one", "451 4.4.2 "), ("sg_live_other", "250 2.0.0 Ok m1 ")] {
        let mut transaction = transaction(MAIL, ANN);
        transaction.origin.api_key = Some(sidepost::secret::Secret::new(key));
        transaction.envelope.principal = Some(key.to_owned());
        let settled = Arc::clone(&relay).submit(transaction).await;
        assert!(settled.reply.to_string().starts_with(reply), "{}", settled.reply);
    }
}

/// An address that gets many mails: ours may be on the third page, and beyond that nobody looks.
#[tokio::test(start_paused = true)]
async fn the_next_pages_are_looked_at() {
    let page = |number: u32, marker: &str| {
        let item =
            format!(r#"{{"id":"m{number}","to_emails":["{}"],"custom_args":{{"sidepost_id":"{marker}"}}}}"#, ANN[0]);
        let text = format!(r#"{{"messages":[{item}],"page":{number},"page_size":100,"total_pages":9}}"#);
        Answer::Status(200, Vec::new(), text)
    };
    let script = Script::showing([Answer::Lost], [page(1, "x"), page(2, "x"), page(3, "MARKER")]);
    assert!(told(&relay(&config(&[]), &script), ANN).await.starts_with("250 2.0.0 Ok m3 "));
    let asked = script.asked();
    assert!(!asked[0].contains("&page="), "{asked:?}");
    assert!(asked[1].ends_with("&page=2") && asked[2].ends_with("&page=3"), "{asked:?}");

    let script = Script::showing([Answer::Lost], (1..=3).cycle().take(9).map(|number| page(number, "x")));
    assert!(told(&relay(&config(&[]), &script), ANN).await.starts_with("451 4.4.2 "));
    assert_eq!(script.asked().len(), 6, "three pages, twice");

    // An API that knows no pages shows the first one again and again.
    let script = Script::showing([Answer::Lost], vec![page(1, "x"); 99]);
    assert!(told(&relay(&config(&[]), &script), ANN).await.starts_with("451 4.4.2 "));
    assert_eq!(script.asked().len(), 24);
}

/// SendGrid and NexusProMail have no such call.
#[tokio::test(start_paused = true)]
async fn others_are_not_asked() {
    for kind in ["sendgrid", "nexuspromail"] {
        let script = Script::showing([Answer::Lost], []);
        let relay = relay(&config(&[&format!("providers.main.kind={kind}")]), &script);
        assert!(submit(&relay, ANN).await.starts_with("451 4.4.2 "));
        assert!(script.asked().is_empty() && script.seen()[0].get("custom_args").is_none());
        assert_eq!(relay.unfinished(), 0, "nothing can be asked later");
    }
}
