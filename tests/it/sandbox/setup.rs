//! The calls that set an account up: domains, keys and what they may do, webhooks that change, numbers.

use serde_json::{Value, json};

use super::{KEY, Running, V3, running, v3_to};
use crate::raw_http::Answer;

const HOOKS: &str = "/v3/user/webhooks";
const KEYS: &str = "/v3/api_keys";
const DOMAINS: &str = "/api/admin/domains";
const JWT: &str = "eyJ.person.1";

impl Running {
    /// Any call with any bearer; a body of null is none.
    async fn ask_as(&self, bearer: &str, line: &str, body: &Value) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let authorization = format!("Bearer {bearer}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.server.ask(method, path, &[("Authorization", &authorization)], body.as_bytes()).await
    }

    async fn person(&self, line: &str, body: Value) -> Answer {
        self.ask_as(JWT, line, &body).await
    }

    async fn key(&self, scopes: &[&str]) -> String {
        let body = json!({ "name": "a", "environment": "live", "scopes": scopes });
        let made = self.person(&format!("POST {KEYS}"), body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["api_key"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn every_call_wants_a_bearer_that_is_right() {
    let running = running().await;
    for line in [
        "GET /v3/user/webhooks",
        "PATCH /v3/user/webhooks/wh_1",
        "POST /v3/user/webhooks/wh_1/signing_secret",
        "POST /v3/api_keys",
        "GET /v3/stats?start_date=2026-01-01",
        "POST /api/admin/domains",
        "GET /api/admin/domains",
        "POST /api/admin/domains/dom_1/verify",
    ] {
        let (method, path) = line.split_once(' ').unwrap();
        let bare = running.server.ask(method, path, &[], b"{}").await;
        assert_eq!(bare.status, 401, "{line}");
        let wrong = running.ask_as("wrong", line, &json!({})).await;
        assert!(wrong.status == 401 && wrong.json()["detail"].is_string(), "{line}");
    }
    for (line, status) in
        [("DELETE /v3/api_keys", 405), ("GET /api/admin/tenants", 404), ("PUT /api/admin/domains", 405)]
    {
        let answer = running.person(line, Value::Null).await;
        assert!(answer.status == status && answer.json()["detail"].is_string(), "{line} {answer:?}");
    }
}

#[tokio::test]
async fn a_key_may_do_what_it_was_made_for() {
    let running = running().await;
    let sender = running.key(&["mail.send"]).await;
    assert!(sender.starts_with("sg_live_") && sender.len() == 40, "{sender}");
    let send = |key: String| {
        let running = &running;
        async move { running.send(V3, &key, &v3_to(&["ok@example.com"])).await.status }
    };
    assert_eq!(send(sender.clone()).await, 202);
    assert_eq!(send(running.key(&[]).await).await, 403);
    let refused = running.ask_as(&sender, &format!("GET {HOOKS}"), &Value::Null).await;
    assert_eq!((refused.status, &refused.json()["detail"]), (403, &json!("Missing required scope: webhooks.read")));
    let mut later = v3_to(&["ok@example.com"]);
    later["send_at"] = json!(4_000_000_000_u64);
    assert_eq!(running.send(V3, &sender, &later).await.status, 403);
    assert_eq!(running.send(V3, &running.key(&["mail.send", "mail.schedule"]).await, &later).await.status, 202);
    let reader = running.key(&["webhooks.read"]).await;
    assert_eq!(running.ask_as(&reader, &format!("GET {HOOKS}"), &Value::Null).await.status, 200);
    let expired =
        json!({"name": "a", "environment": "live", "scopes": ["mail.send"], "expires_at": "2020-01-01T00:00:00Z"});
    let expired = running.person(&format!("POST {KEYS}"), expired).await.json();
    assert_eq!(send(expired["api_key"].as_str().unwrap().to_owned()).await, 401);
    // No key makes keys.
    let all = running.key(&["admin.api_keys"]).await;
    let body = json!({"name": "a", "environment": "live", "scopes": []});
    assert_eq!(running.ask_as(&all, &format!("POST {KEYS}"), &body).await.status, 403);
    assert_eq!(running.ask_as(KEY, &format!("POST {KEYS}"), &body).await.status, 403);
}

#[tokio::test]
async fn a_test_key_sends_no_events() {
    let mut running = running().await;
    let hook = json!({ "url": "https://a.example/", "enabled_events": ["delivered"] });
    assert_eq!(running.person(&format!("POST {HOOKS}"), hook).await.status, 201);
    let body = json!({ "name": "ci", "environment": "test", "scopes": ["mail.send"] });
    let made = running.person(&format!("POST {KEYS}"), body).await.json();
    let key = made["api_key"].as_str().unwrap();
    assert!(key.starts_with("sg_test_") && made["prefix"] == key[..12]);
    assert_eq!(running.send(V3, key, &v3_to(&["ok@example.com"])).await.status, 202);
    assert_eq!(running.send(V3, KEY, &v3_to(&["two@example.com"])).await.status, 202);
    let (_, _, body) = running.posted.recv().await.unwrap();
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["recipient_email"], "two@example.com");
}

#[tokio::test]
async fn odd_keys_and_domains_are_refused() {
    let running = running().await;
    for body in [
        json!({}),
        json!({ "name": "", "environment": "live" }),
        json!({ "name": "a", "environment": "prod" }),
        json!({ "name": "a", "environment": "live", "scopes": "mail.send" }),
        json!({ "name": "a", "environment": "live", "expires_at": "soon" }),
        json!({ "name": "a", "environment": "live", "rights": [] }),
    ] {
        let answer = running.person(&format!("POST {KEYS}"), body.clone()).await;
        assert!(answer.status == 422 && answer.json()["detail"].is_string(), "{body} {answer:?}");
    }
    for body in [
        json!({}),
        json!({ "domain": "" }),
        json!({ "domain": "localhost" }),
        json!({ "domain": "a@b.example" }),
        json!({ "domain": "a.example", "dmarc_policy": "maybe" }),
        json!({ "domain": "a.example", "dmarc_rua_email": "nobody" }),
        json!({ "domain": "a.example", "owner": "me" }),
    ] {
        let answer = running.person(&format!("POST {DOMAINS}"), body.clone()).await;
        assert!(answer.status == 422 && answer.json()["detail"].is_string(), "{body} {answer:?}");
    }
}

#[tokio::test]
async fn a_domain_is_added_shown_and_verified() {
    let running = running().await;
    let body = json!({ "domain": "Mail.example.com", "dmarc_policy": "reject", "dmarc_rua_email": "d@example.com" });
    let added = running.person(&format!("POST {DOMAINS}"), body.clone()).await;
    assert_eq!(added.status, 201);
    let added = added.json();
    let records = added["dns_records"].as_array().unwrap();
    assert_eq!(records[2]["value"], "v=DMARC1; p=reject; rua=mailto:d@example.com");
    assert_eq!(records[0]["value"].as_str().unwrap().len(), "v=DKIM1; k=rsa; p=".len() + 392);
    assert_eq!(running.person(&format!("POST {DOMAINS}"), body).await.status, 409);
    let id = added["id"].as_str().unwrap();
    let verified = running.person(&format!("POST {DOMAINS}/{id}/verify"), Value::Null).await.json();
    assert_eq!((&verified["verified"], &verified["errors"]), (&json!(true), &json!([])));
    let shown = running.person(&format!("GET {DOMAINS}/{id}"), Value::Null).await.json();
    assert_eq!((&shown["verified"], &shown["dns_records"]), (&json!(true), &added["dns_records"]));
    assert_eq!(running.person(&format!("GET {DOMAINS}"), Value::Null).await.json(), json!({ "data": [shown] }));
    assert_eq!(running.person(&format!("POST {DOMAINS}/dom_no/verify"), Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_webhook_is_changed_and_obeyed_at_once() {
    let mut running = running().await;
    let body = json!({ "url": "https://a.example/", "enabled_events": ["*"] });
    let hook = running.person(&format!("POST {HOOKS}"), body).await.json();
    let path = format!("{HOOKS}/{}", hook["id"].as_str().unwrap());
    let line = format!("PATCH {path}");
    let change = |body: Value| running.person(&line, body);
    for wrong in [json!({"enabled": 1}), json!({"url": "http://a.example/"}), json!({"secret": "x"}), json!([])] {
        assert_eq!(change(wrong.clone()).await.status, 400, "{wrong}");
    }
    assert_eq!(change(json!({ "enabled": false })).await.json()["enabled"], false);
    running.send(V3, KEY, &v3_to(&["unseen@example.com"])).await;
    let changed =
        change(json!({"enabled": true, "url": "https://b.example/", "enabled_events": ["bounce"]})).await.json();
    assert_eq!((&changed["url"], &changed["enabled_events"]), (&json!("https://b.example/"), &json!(["bounce"])));
    let rotated = running.person(&format!("POST {path}/signing_secret"), Value::Null).await.json();
    assert_ne!(rotated["signing_secret"], hook["signing_secret"]);
    running.send(V3, KEY, &v3_to(&["bounce@example.com"])).await;
    let (url, headers, body) = running.posted.recv().await.unwrap();
    assert_eq!((url.as_str(), headers[3].1.as_str()), ("https://b.example/", "bounce"));
    let timestamp = headers[2].1.parse().unwrap();
    let secret = rotated["signing_secret"].as_str().unwrap();
    assert_eq!(headers[1].1, sidepost::sandbox::events::scaisend_signature(secret, timestamp, &body));
}

#[tokio::test]
async fn lists_of_webhooks_have_pages() {
    let running = running().await;
    for n in 0..3 {
        let body = json!({ "url": format!("https://a.example/{n}"), "enabled_events": ["*"] });
        running.person(&format!("POST {HOOKS}"), body).await;
    }
    let page = running.person(&format!("GET {HOOKS}?page=2&page_size=2"), Value::Null).await.json();
    assert_eq!((page["webhooks"].as_array().unwrap().len(), &page["total"]), (1, &json!(3)));
    assert_eq!(page["webhooks"][0]["url"], "https://a.example/2");
    let off = running.person(&format!("GET {HOOKS}?is_active=false"), Value::Null).await.json();
    assert_eq!(off["total"], 0);
    for query in ["page=0", "page_size=101", "page_size=x"] {
        assert_eq!(running.person(&format!("GET {HOOKS}?{query}"), Value::Null).await.status, 422, "{query}");
    }
}

#[tokio::test]
async fn numbers_are_those_of_the_mailbox() {
    let running = running().await;
    for to in [&["ok@example.com", "complain@example.com"][..], &["bounce@example.com"], &["suppressed@example.com"]] {
        running.send(V3, KEY, &v3_to(to)).await;
    }
    let stats = running.person("GET /v3/stats?start_date=2020-01-01", Value::Null).await.json();
    let metrics = &stats["stats"][0]["metrics"];
    for (name, count) in [("requests", 3), ("delivered", 2), ("bounces", 1), ("spam_reports", 1), ("unsubscribes", 0)] {
        assert_eq!(metrics[name], count, "{name} in {stats}");
    }
    let before = running.person("GET /v3/stats?start_date=2020-01-01&end_date=2020-01-02", Value::Null).await.json();
    assert_eq!(before, json!({ "stats": [] }));
    for query in ["", "?start_date=yesterday", "?start_date=2026-13-01", "?start_date=2026-01-01&aggregated_by=week"] {
        assert_eq!(running.person(&format!("GET /v3/stats{query}"), Value::Null).await.status, 422, "{query}");
    }
}
