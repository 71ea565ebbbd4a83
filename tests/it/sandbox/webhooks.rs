//! Registering webhooks, and the events that go to them.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use sidepost::config::ProviderKind;
use sidepost::sandbox::events::{Event, nexuspromail_signature, scaisend_signature};

use super::{KEY, NEXUSPROMAIL, Posted, Running, SENDGRID_KEY, V3, nexuspromail_to, running, v3_to};

const NEXUSPROMAIL_HOOKS: &str = "/v1/api/webhooks";
const SCAISEND_HOOKS: &str = "/v3/user/webhooks";

/// Made with Python's hmac.
#[test]
fn signatures_are_those_of_another_implementation() {
    let body = br#"{"id":"evt_1"}"#;
    assert_eq!(
        nexuspromail_signature("whsec_test", body),
        "030fa3b2413d1993c551364bd53bb9b3edb5c0c34d55dba6ada6041245632811"
    );
    assert_eq!(
        scaisend_signature("whsec_test", 1_700_000_000, body),
        "c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925"
    );
    assert_eq!(nexuspromail_signature("", b""), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

#[test]
fn an_event_is_worded_and_signed_as_its_provider_documents() {
    let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let event = |api, name| Event { api, name, message_id: "msg_1", recipient: "ann@example.com", at };
    let bounced = event(ProviderKind::NexusProMail, "bounced.hard");
    let json: Value = serde_json::from_slice(&bounced.body()).unwrap();
    assert!(json["id"].as_str().unwrap().starts_with("evt_"));
    assert_eq!((&json["type"], &json["created_at"]), (&json!("bounced.hard"), &json!("2023-11-14T22:13:20Z")));
    assert_eq!((&json["data"]["message_id"], &json["data"]["email"]), (&json!("msg_1"), &json!("ann@example.com")));
    assert_eq!(json["data"]["bounce_code"], "550");
    let headers = bounced.headers("s", b"body");
    assert_eq!(headers[1], ("X-NexusProMail-Signature", nexuspromail_signature("s", b"body")));
    assert_eq!(headers.len(), 2);

    let bounce = event(ProviderKind::ScaiSend, "bounce");
    let json: Value = serde_json::from_slice(&bounce.body()).unwrap();
    assert_eq!((&json["event_type"], &json["timestamp"]), (&json!("bounce"), &json!(1_700_000_000)));
    assert_eq!((&json["message_id"], &json["recipient_email"]), (&json!("msg_1"), &json!("ann@example.com")));
    assert_eq!(
        bounce.headers("s", b"body")[1..],
        [
            ("X-ScaiSend-Signature", scaisend_signature("s", 1_700_000_000, b"body")),
            ("X-ScaiSend-Timestamp", "1700000000".to_owned()),
            ("X-ScaiSend-Event", "bounce".to_owned()),
        ]
    );
}

async fn registered(running: &Running, path: &str, body: Value) -> Value {
    let answer = running.send(path, KEY, &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

fn event_name((_, headers, body): &Posted) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    let in_header = headers.iter().find(|(name, _)| *name == "X-ScaiSend-Event").map(|(_, value)| value.clone());
    in_header.unwrap_or_else(|| body["type"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn nexuspromail_events_follow_a_mail() {
    let mut running = running().await;
    let events = json!(["bounced.hard", "complained", "unsubscribed", "delivered"]);
    let hook =
        registered(&running, NEXUSPROMAIL_HOOKS, json!({ "url": "http://127.0.0.1:9/n", "events": events })).await;
    let secret = hook["secret"].as_str().unwrap();
    for (address, names) in [
        ("ann@example.com", &["delivered"][..]),
        ("bounce@example.com", &["bounced.hard"]),
        ("complain.1@example.com", &["delivered", "complained"]),
        ("unsubscribe@example.com", &["delivered", "unsubscribed"]),
    ] {
        let id = running.send(NEXUSPROMAIL, KEY, &nexuspromail_to(address)).await.json()["message_id"].clone();
        for name in names {
            let posted = running.posted.recv().await.unwrap();
            assert_eq!(event_name(&posted), *name);
            let (url, headers, body) = posted;
            assert_eq!(url, "http://127.0.0.1:9/n");
            assert_eq!(headers[1].1, nexuspromail_signature(secret, &body));
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((&body["data"]["message_id"], &body["data"]["email"]), (&id, &json!(address)));
        }
    }
}

#[tokio::test]
async fn scaisend_events_follow_each_recipient_of_a_taken_mail() {
    let mut running = running().await;
    let hook =
        registered(&running, SCAISEND_HOOKS, json!({ "url": "https://a.example/s", "enabled_events": ["*"] })).await;
    let secret = hook["signing_secret"].as_str().unwrap();
    let other = json!({ "url": "http://[::1]:9/b", "enabled_events": ["bounce"] });
    registered(&running, SCAISEND_HOOKS, other).await;
    // None of these may cause an event: refused, never taken, test key, another API.
    running.send(V3, KEY, &v3_to(&["suppressed@example.com"])).await;
    running.send(V3, KEY, &v3_to(&["reset@example.com"])).await;
    running.send(V3, "sg_test_1", &v3_to(&["bounce@example.com"])).await;
    running.send(V3, SENDGRID_KEY, &v3_to(&["bounce@example.com"])).await;
    running.send(NEXUSPROMAIL, KEY, &nexuspromail_to("bounce@example.com")).await;

    let mut body = v3_to(&["complain@example.com"]);
    body["personalizations"][0]["bcc"] = json!([{ "email": "bounce@example.com" }]);
    running.send(V3, KEY, &body).await;
    let expected = [
        ("https://a.example/s", "processed"),
        ("https://a.example/s", "delivered"),
        ("https://a.example/s", "spam_report"),
        ("https://a.example/s", "processed"),
        ("https://a.example/s", "bounce"),
        ("http://[::1]:9/b", "bounce"),
    ];
    for (url, name) in expected {
        let posted = running.posted.recv().await.unwrap();
        assert_eq!((posted.0.as_str(), event_name(&posted).as_str()), (url, name));
        let timestamp = posted.1[2].1.parse().unwrap();
        if url.starts_with("https") {
            assert_eq!(posted.1[1].1, scaisend_signature(secret, timestamp, &posted.2));
        }
    }
    // acceptreset: the caller does not know, but the mail was taken.
    running.send(V3, KEY, &v3_to(&["acceptreset@example.com"])).await;
    assert_eq!(event_name(&running.posted.recv().await.unwrap()), "processed");
}

#[tokio::test]
async fn webhooks_are_listed_shown_and_removed_in_their_own_api() {
    let running = running().await;
    let body = json!({ "url": "https://example.com/hook", "enabled_events": ["delivered"] });
    let hook = registered(&running, SCAISEND_HOOKS, body).await;
    let id = hook["id"].as_str().unwrap();
    assert!(id.starts_with("wh_") && hook["signing_secret"].as_str().unwrap().starts_with("whsec_"));
    let shown = running.call("GET", &format!("{SCAISEND_HOOKS}/{id}")).await.json();
    assert_eq!(shown["enabled_events"], json!(["delivered"]));
    assert!(shown.get("signing_secret").is_none());
    assert_eq!(running.call("GET", SCAISEND_HOOKS).await.json(), json!({ "webhooks": [shown], "total": 1 }));
    assert_eq!(running.call("GET", NEXUSPROMAIL_HOOKS).await.json(), json!({ "webhooks": [], "total": 0 }));
    assert_eq!(running.call("GET", &format!("{NEXUSPROMAIL_HOOKS}/{id}")).await.status, 404);
    assert_eq!(running.call("DELETE", &format!("{NEXUSPROMAIL_HOOKS}/{id}")).await.status, 404);
    assert_eq!(running.call("DELETE", &format!("{SCAISEND_HOOKS}/{id}")).await.status, 204);
    assert_eq!(running.call("DELETE", &format!("{SCAISEND_HOOKS}/{id}")).await.status, 404);
}

#[tokio::test]
async fn odd_registrations_are_refused() {
    let running = running().await;
    let urls = [
        "http://example.com/",
        "http://localhost@example.com/",
        "https://u@example.com/",
        "ftp://127.0.0.1/",
        "/x",
        "",
    ];
    for url in urls {
        let answer = running.send(NEXUSPROMAIL_HOOKS, KEY, &json!({ "url": url, "events": ["delivered"] })).await;
        assert_eq!((answer.status, &answer.json()["error"]), (422, &json!("validation")), "{url}");
    }
    for body in [
        json!({}),
        json!({ "url": "https://a.example/" }),
        json!({ "url": "https://a.example/", "enabled_events": ["sent?"] }),
        json!({ "url": "https://a.example/", "enabled_events": [1] }),
        json!({ "url": "https://a.example/", "events": ["*"] }),
        json!({ "url": "https://a.example/", "enabled_events": ["*"], "secret": "mine" }),
        json!("https://a.example/"),
    ] {
        assert_eq!(running.send(SCAISEND_HOOKS, KEY, &body).await.status, 400, "{body}");
    }
    assert_eq!(running.post(SCAISEND_HOOKS, KEY, &vec![b' '; 70_000]).await.status, 413);
    let body = json!({ "url": "https://a.example/", "enabled_events": ["*"] });
    assert_eq!(running.send(SCAISEND_HOOKS, SENDGRID_KEY, &body).await.status, 404);
    for _ in 0..50 {
        registered(&running, SCAISEND_HOOKS, body.clone()).await;
    }
    assert_eq!(running.send(SCAISEND_HOOKS, KEY, &body).await.status, 400);
}
