//! Suppressed recipients beyond what a transcript can tell: what the API says of them today, and the API's own lists.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::json;
use sidepost::metrics::Metrics;
use sidepost::provider::{Request, Response};
use sidepost::recent::Recent;
use sidepost::relay::Relay;
use sidepost::relay::http::{Transport, TransportError};
use sidepost::secret::Secret;
use sidepost::store::{MessageQuery, Store};
use tokio::time::{Duration, Instant, advance};

use crate::world::{MAIL, address, config, relay_with, transaction};

/// An API whose lists have some addresses, and whose send call refuses some.
#[derive(Default)]
struct Lists {
    bounced: Vec<&'static str>,
    refused: Vec<&'static str>,
    status: Option<u16>,
    asked: Mutex<Vec<String>>,
}

impl Transport for Lists {
    fn send<'a>(&'a self, request: &'a Request, _: Instant) -> BoxFuture<'a, Result<Response, TransportError>> {
        let path = request.url.splitn(4, '/').nth(3).unwrap().to_owned();
        self.asked.lock().unwrap().push(format!("{} /{path}", request.method));
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        let (status, answer) = match path.split('?').next().unwrap() {
            "v3/suppression/bounces" => {
                // The filter is not obeyed.
                let items = self.bounced.iter().map(|email| {
                    json!({"email": email, "created": 1_763_640_000, "reason": "no such user", "status": "5.1.1"})
                });
                (200, json!({"bounces": items.collect::<Vec<_>>(), "total": 1}))
            }
            "v3/suppression/spam_reports" => (200, json!({"spam_reports": []})),
            "v3/asm/suppressions/global" => (404, json!({"detail": "Not found"})),
            _ if self.refused.iter().any(|address| body.contains(address)) => (422, json!({"error": "suppressed"})),
            _ => (202, json!({"message_id": "msg_1"})),
        };
        let status = self.status.unwrap_or(status);
        let body = Bytes::from(answer.to_string());
        let response =
            Response { status, headers: http::HeaderMap::new(), body, complete: true, received: SystemTime::now() };
        Box::pin(async move { Ok(response) })
    }
}

fn relay(flags: &[&str], lists: &Arc<Lists>) -> Arc<Relay> {
    let config = config(flags);
    let transport: Arc<dyn Transport> = lists.clone();
    let refused_keys = Arc::new(Recent::new(Duration::from_mins(10)).unwrap());
    let store = Store::open(&config.state, &config.suppression).unwrap();
    relay_with(&config, store, &transport, &refused_keys, &Arc::new(Metrics::default()))
}

async fn rcpt(relay: &Relay, recipient: &str) -> String {
    let mail = transaction(MAIL, &[recipient]);
    match relay.admit_recipient(&mail.origin, &mail.envelope, &address(recipient)).await {
        Ok(()) => "250".to_owned(),
        Err(reply) => reply.to_string(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_send_call_refused_is_refused_at_rcpt() {
    let lists = Arc::new(Lists { refused: vec!["ann@example.net"], ..Lists::default() });
    let relay = relay(&["providers.main.kind=nexuspromail"], &lists);
    assert_eq!(rcpt(&relay, "ann@example.net").await, "250");
    let settled = Arc::clone(&relay).submit(transaction(MAIL, &["ann@example.net"])).await;
    assert_eq!(settled.reply.code, 550);
    let refusal = rcpt(&relay, "ann@EXAMPLE.net").await;
    assert!(refusal.starts_with("550 5.7.1 <ann@example.net> suppressed: refused on 20"), "{refusal}");
    assert_eq!(rcpt(&relay, "bob@example.net").await, "250");
}

/// A program that tries for ever does not push out what became of other mails: a day's refusals are one line, the latest.
#[tokio::test(start_paused = true)]
async fn many_refusals_are_one_line_of_the_log() {
    let config = config(&["providers.main.kind=nexuspromail"]);
    let lists: Arc<dyn Transport> = Arc::new(Lists { refused: vec!["ann@example.net"], ..Lists::default() });
    let store = Store::open(&config.state, &config.suppression).unwrap();
    let keys = Arc::new(Recent::new(Duration::from_mins(10)).unwrap());
    let relay = relay_with(&config, store.clone(), &lists, &keys, &Arc::new(Metrics::default()));
    Arc::clone(&relay).submit(transaction(MAIL, &["ann@example.net", "bob@example.net"])).await;
    for _ in 0..5 {
        assert!(rcpt(&relay, "ann@example.net").await.starts_with("550"));
    }
    let lines = store.messages(MessageQuery::default()).await.unwrap().items;
    let mut told: Vec<_> = lines.iter().map(|line| (line.recipient.as_str(), line.reply.contains("remove"))).collect();
    told.sort_unstable();
    // One of the send call, and one of RCPT (two, if midnight was in between).
    let expected = [("ann@example.net", false), ("ann@example.net", true), ("bob@example.net", false)];
    told.dedup();
    assert_eq!(told, expected);
    assert!(lines.len() <= 4, "{lines:?}");
}

/// Each client with a key of its own is another customer of the API, with another list.
#[tokio::test(start_paused = true)]
async fn what_a_clients_own_key_was_refused_is_nobody_elses() {
    let lists = Arc::new(Lists { refused: vec!["ann@example.net"], ..Lists::default() });
    let flags = ["providers.main.kind=nexuspromail", "smtp.auth.required=true", "smtp.auth.passthrough=true"];
    let relay = relay(&flags, &lists);
    let mut mail = transaction(MAIL, &["ann@example.net"]);
    mail.origin.api_key = Some(Secret::new("npm_live_one"));
    assert_eq!(Arc::clone(&relay).submit(mail).await.reply.code, 550);
    assert_eq!(rcpt(&relay, "ann@example.net").await, "250");
}

/// What the operator lets be told of a suppressed recipient is told at RCPT, too, and learned from whatever it is.
#[tokio::test(start_paused = true)]
async fn the_operators_reply_is_told_at_rcpt() {
    let lists = Arc::new(Lists { refused: vec!["ann@example.net"], ..Lists::default() });
    let relay = relay(&["providers.main.kind=nexuspromail", "providers.main.replies.suppressed=450 4.2.1"], &lists);
    let settled = Arc::clone(&relay).submit(transaction(MAIL, &["ann@example.net"])).await;
    assert!(settled.reply.to_string().starts_with("450 4.2.1 "), "{}", settled.reply);
    let told = rcpt(&relay, "ann@example.net").await;
    assert!(told.starts_with("450 4.2.1 <ann@example.net> suppressed: refused on 20"), "{told}");
}

/// A line of a reply ends at 512 octets, and half a command is none.
#[tokio::test(start_paused = true)]
async fn a_long_address_is_told_without_the_command() {
    let long = format!("{}@{}.example.net", "'".repeat(64), ["d".repeat(50).as_str(); 3].join("."));
    let lists = Arc::new(Lists { refused: vec!["example.net"], ..Lists::default() });
    let relay = relay(&["providers.main.kind=nexuspromail"], &lists);
    assert_eq!(Arc::clone(&relay).submit(transaction(MAIL, &[&long])).await.reply.code, 550);
    let told = rcpt(&relay, &long).await;
    let start = format!("550 5.7.1 <{long}> suppressed: refused on 20");
    assert!(told.starts_with(&start) && !told.contains("sidepost suppressions"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn the_apis_own_lists_are_asked_and_believed() {
    let lists = Arc::new(Lists { bounced: vec!["Ann+x@example.net"], ..Lists::default() });
    let relay = relay(&["providers.main.ask_suppressions=true"], &lists);
    let refusal = rcpt(&relay, "ann+x@example.net").await;
    assert!(refusal.starts_with("550 5.7.1 <ann+x@example.net> suppressed: bounce on 2025-11-20 ("), "{refusal}");
    let asked = std::mem::take(&mut *lists.asked.lock().unwrap());
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(
        asked.contains(&"GET /v3/suppression/bounces?email=ann%2Bx%40example%2Enet&limit=10".to_owned()),
        "{asked:?}"
    );
    // Remembered: both the yes and the no, for a while.
    assert!(rcpt(&relay, "ann+x@example.net").await.starts_with("550"));
    assert_eq!(lists.asked.lock().unwrap().len(), 0);
    assert_eq!(rcpt(&relay, "bob@example.net").await, "250");
    assert_eq!(rcpt(&relay, "bob@example.net").await, "250");
    assert_eq!(lists.asked.lock().unwrap().len(), 3);
    advance(Duration::from_secs(301)).await;
    assert_eq!(rcpt(&relay, "bob@example.net").await, "250");
    assert_eq!(lists.asked.lock().unwrap().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_cannot_be_asked_stops_no_mail() {
    let lists = Arc::new(Lists { bounced: vec!["ann@example.net"], status: Some(403), ..Lists::default() });
    let relay = relay(&["providers.main.ask_suppressions=true"], &lists);
    assert_eq!(rcpt(&relay, "ann@example.net").await, "250");
    assert_eq!(rcpt(&relay, "bob@example.net").await, "250");
    assert_eq!(lists.asked.lock().unwrap().len(), 3, "it is left alone for a while: each client waits for it");
    advance(Duration::from_secs(31)).await;
    assert_eq!(rcpt(&relay, "ann@example.net").await, "250");
    assert_eq!(lists.asked.lock().unwrap().len(), 6, "no answer is no answer to remember");
}

/// The reply offers a command: an address that a stranger has made up must not be one of its own.
#[test]
fn the_command_in_the_reply_is_fit_for_a_shell() {
    use sidepost::suppression::remove_command;
    assert_eq!(remove_command("ann+x@example.net"), "sidepost suppressions remove ann+x@example.net");
    assert_eq!(remove_command("x`id`|y$@evil.example"), "sidepost suppressions remove 'x`id`|y$@evil.example'");
    assert_eq!(remove_command("o'neil@example.net"), r"sidepost suppressions remove 'o'\''neil@example.net'");
}
