//! The set-up calls as pure language: what is asked (the curl examples of the vendors' guides), what is read, what is said.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use sidepost::config::decode::default_account;
use sidepost::config::{Provider, ProviderKind};
use sidepost::provider::Response;
use sidepost::provider::setup::refusal::sentence;
use sidepost::provider::setup::{
    Credential, Days, Id, NewDomain, NewKey, Task, events, events_or_default, offers, reading, request, webhook_url,
};
use sidepost::secret::Secret;

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// Method, URL and body; an empty body is null.
fn asked(kind: ProviderKind, task: &Task) -> (String, String, Value) {
    let request = request(&default_account(kind), task).unwrap();
    assert!(request.api_key.is_none() && request.headers.is_empty());
    let body = request.body.to_vec();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    (request.method.to_string(), request.url, body)
}

#[test]
fn the_requests_are_those_of_the_guides() {
    let register = Task::RegisterWebhook {
        url: "https://api.example.com/webhooks/scaisend".to_owned(),
        events: strings(&["processed", "delivered", "bounce", "spam_report", "unsubscribe"]),
    };
    let domain = NewDomain {
        domain: "mail.example.com".to_owned(),
        dmarc_policy: Some("quarantine".to_owned()),
        dmarc_rua_email: Some("dmarc@example.com".to_owned()),
    };
    let key = NewKey {
        name: "transactional-prod".to_owned(),
        environment: "live".to_owned(),
        scopes: strings(&["mail.send"]),
        expires_at: None,
    };
    let days = |end: Option<&str>| Days { start: "2026-04-01".to_owned(), end: end.map(str::to_owned) };
    let table = [
        (
            register,
            "POST /v3/user/webhooks",
            json!({
                "url": "https://api.example.com/webhooks/scaisend",
                "enabled_events": ["processed", "delivered", "bounce", "spam_report", "unsubscribe"]
            }),
        ),
        (Task::ListWebhooks, "GET /v3/user/webhooks?page_size=100", Value::Null),
        (Task::DeleteWebhook(id("wh_1")), "DELETE /v3/user/webhooks/wh_1", Value::Null),
        (Task::RotateSecret(id("wh_1")), "POST /v3/user/webhooks/wh_1/signing_secret", Value::Null),
        (Task::EnableWebhook(id("wh_1")), "PATCH /v3/user/webhooks/wh_1", json!({ "enabled": true })),
        (
            Task::AddDomain(domain),
            "POST /api/admin/domains",
            json!({"domain": "mail.example.com", "dmarc_policy": "quarantine", "dmarc_rua_email": "dmarc@example.com"}),
        ),
        (Task::VerifyDomain(id("dom_1")), "POST /api/admin/domains/dom_1/verify", Value::Null),
        (Task::ListDomains, "GET /api/admin/domains", Value::Null),
        (
            Task::CreateKey(key),
            "POST /v3/api_keys",
            json!({"name": "transactional-prod", "environment": "live", "scopes": ["mail.send"]}),
        ),
        (Task::Stats(days(None)), "GET /v3/stats?start_date=2026-04-01", Value::Null),
        (Task::Stats(days(Some("2026-04-23"))), "GET /v3/stats?start_date=2026-04-01&end_date=2026-04-23", Value::Null),
    ];
    for (task, line, body) in table {
        let (method, path) = line.split_once(' ').unwrap();
        let url = format!("https://scaisend.scailabs.ai{path}");
        assert_eq!(asked(ProviderKind::ScaiSend, &task), (method.to_owned(), url, body), "{task:?}");
    }
}

#[test]
fn nexuspromail_documents_the_registration_and_nothing_else() {
    let names = ["bounced.hard", "bounced.soft", "complained", "unsubscribed", "delivered", "opened", "clicked"];
    let url = "https://yourapp.com/webhooks/email".to_owned();
    let register = Task::RegisterWebhook { url: url.clone(), events: strings(&names) };
    let (method, called, body) = asked(ProviderKind::NexusProMail, &register);
    assert_eq!((method.as_str(), called.as_str()), ("POST", "https://app.nexuspromail.com/api/v1/api/webhooks"));
    assert_eq!(body, json!({ "url": url, "events": names }));
    assert_eq!(events(ProviderKind::NexusProMail), names);
    for task in [Task::ListWebhooks, Task::DeleteWebhook(id("x")), Task::RotateSecret(id("x")), Task::ListDomains] {
        let said = request(&default_account(ProviderKind::NexusProMail), &task).unwrap_err();
        assert!(said.contains("documents no call") && said.contains("dashboard"), "{said}");
        assert!(!offers(ProviderKind::NexusProMail, &task) && offers(ProviderKind::ScaiSend, &task));
        assert!(request(&default_account(ProviderKind::SendGrid), &task).unwrap_err().contains("SendGrid"));
    }
}

#[test]
fn another_base_url_is_obeyed_by_every_call() {
    let settings =
        Provider { base_url: "https://mail.own.example/sub/".to_owned(), ..default_account(ProviderKind::ScaiSend) };
    let url = request(&settings, &Task::ListDomains).unwrap().url;
    assert_eq!(url, "https://mail.own.example/sub/api/admin/domains");
}

#[test]
fn ids_lead_to_no_other_call() {
    for wrong in ["", ".", "..", "../x", "a/b", "a?b", "a#b", "a b", "a%2fb", "ä", &"x".repeat(201)] {
        assert!(Id::parse(wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(id("7f3a-00.b_C").as_str(), "7f3a-00.b_C");
}

#[test]
fn events_go_to_https_only() {
    for right in ["https://a.example/x?y=1", "http://127.0.0.1:8026/x", "http://[::1]:1/", "http://localhost/"] {
        assert_eq!(webhook_url(right).as_deref(), Ok(right));
    }
    for wrong in [
        "",
        "/x",
        "a.example",
        "ftp://a.example/",
        "http://a.example/",
        "http://127.0.0.1.example/",
        "https://u:p@a.example/",
        "http://localhost@a.example/",
        "https://a.example/#x",
    ] {
        assert!(webhook_url(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn events_that_nobody_named_are_those_that_sidepost_uses() {
    let all = events_or_default(ProviderKind::ScaiSend, &[]).unwrap();
    assert_eq!(all.len(), 12);
    assert_eq!(events_or_default(ProviderKind::ScaiSend, &strings(&["*"])), Ok(strings(&["*"])));
    assert_eq!(events_or_default(ProviderKind::NexusProMail, &strings(&["sent"])), Ok(strings(&["sent"])));
    assert!(events_or_default(ProviderKind::NexusProMail, &strings(&["*"])).unwrap_err().contains("bounced.hard"));
}

/// NexusProMail's guide says that the secret is in the answer, and not where.
#[test]
fn the_secret_is_found_wherever_it_may_be() {
    for (answer, found) in [
        (json!({"id": "wh_1", "signing_secret": "S"}), Some("wh_1")),
        (json!({"webhook_id": 7, "webhook_secret": "S"}), Some("7")),
        (json!({"success": true, "webhook": {"id": "w", "secret": "S"}}), Some("w")),
        (json!({"data": {"webhook": {"id": "w", "secret": "S"}}}), Some("w")),
        (json!({"secret": "S", "older": {"signing_secret": "OLD"}}), None),
    ] {
        let made = reading::webhook_secret(&answer);
        assert_eq!(made.secret, Some(Secret::new("S")), "{answer}");
        assert_eq!(made.id.as_deref(), found, "{answer}");
    }
    for answer in [json!({}), json!([]), json!({"secret": null}), json!({"secret": ""}), json!({"token": "T"})] {
        assert_eq!(reading::webhook_secret(&answer).secret, None, "{answer}");
    }
    assert_eq!(reading::api_key(&json!({"api_key": "sg_live_1", "id": "k"})).secret, Some(Secret::new("sg_live_1")));
}

/// The answer on the vendor's reference page.
#[test]
fn webhooks_are_read_with_their_failures() {
    let answer = json!({
        "webhooks": [{
            "id": "wh_01HXYZ", "url": "https://api.example.com/webhooks/scaisend", "enabled_events": ["delivered", "bounce"],
            "enabled": true, "created_at": "2026-04-23T10:00:00Z", "last_success_at": "2026-04-23T10:15:30Z",
            "last_failure_at": null, "failure_count": 0, "disabled_at": null
        }],
        "total": 1
    });
    let listed = reading::webhooks(&answer);
    let webhook = &listed.items[0];
    assert_eq!((webhook.id.as_str(), webhook.enabled, webhook.failures), ("wh_01HXYZ", Some(true), Some(0)));
    assert_eq!(webhook.last_success_at.as_deref(), Some("2026-04-23T10:15:30Z"));
    assert_eq!((&webhook.last_failure_at, listed.total), (&None, Some(1)));
    assert_eq!(reading::webhooks(&json!([{"id": "w"}])).items.len(), 1);
    assert!(reading::webhooks(&json!({"webhooks": []})).items.is_empty());
}

#[test]
fn dns_records_are_read_in_all_their_forms() {
    let listed = json!([
        {"type": "txt", "name": "a.example", "value": "v=spf1\u{1b}[2J"},
        {"record_type": "MX", "host": "b.example", "data": "mx.example", "priority": 10},
        {"type": "TXT", "name": "nothing.example"}
    ]);
    let keyed = json!({"spf": {"type": "txt", "host": "a.example", "data": "v=spf1[2J"}});
    for answer in
        [json!({"id": "d", "domain": "x", "dns_records": listed}), json!({"data": {"id": "d", "records": listed}})]
    {
        let domain = reading::domain(&answer);
        assert_eq!((domain.id.as_str(), domain.dns_records.len()), ("d", 2));
        assert_eq!(domain.dns_records[0].value, "v=spf1[2J", "what a terminal would obey is taken out");
        assert_eq!(domain.dns_records[1].value, "10 mx.example");
        assert_eq!((domain.dns_records[1].kind.as_str(), domain.dns_records[1].name.as_str()), ("MX", "b.example"));
    }
    assert_eq!(reading::domain(&json!({"dns_records": keyed})).dns_records[0].kind, "TXT");
    let domains = reading::domains(&json!({"data": [{"id": 5, "name": "x.example", "status": "verified"}]}));
    assert_eq!((domains.items[0].id.as_str(), domains.items[0].verified), ("5", Some(true)));
}

#[test]
fn only_verified_true_is_verified() {
    assert!(reading::verification(&json!({"verified": true, "errors": []})).verified);
    for answer in [json!({}), json!({"verified": "yes"}), json!({"verified": null}), json!([])] {
        assert!(!reading::verification(&answer).verified, "{answer}");
    }
    let found = reading::verification(&json!({
        "verified": false,
        "errors": ["SPF missing", {"record": "DKIM", "message": "mismatch"}, {"message": "no DMARC"}, {"code": 7}]
    }));
    assert_eq!(found.errors, ["SPF missing", "DKIM: mismatch", "no DMARC", "{\"code\":7}"]);
}

#[test]
fn days_are_read_in_both_forms_and_in_order() {
    let scaisend = json!({"stats": [
        {"date": "2026-04-24", "metrics": {"requests": 2}},
        {"date": "2026-04-23", "metrics": {"requests": 5000, "bounces": 120, "rate": 0.5}}
    ]});
    let days = reading::days(&scaisend);
    assert_eq!((days[0].date.as_str(), days[0].metrics["bounces"], days[0].metrics.len()), ("2026-04-23", 120, 2));
    let sendgrid = json!([{"date": "2026-04-23", "stats": [{"metrics": {"requests": 3}}]}]);
    assert_eq!(reading::days(&sendgrid)[0].metrics["requests"], 3);
}

fn response(status: u16, headers: &[(&'static str, &str)], body: &str) -> Response {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    Response {
        status,
        headers: map,
        body: Bytes::from(body.to_owned()),
        complete: true,
        received: std::time::SystemTime::UNIX_EPOCH,
    }
}

/// An API may repeat what it was shown, and its words are cut: no part of the credential is left before the cut.
#[test]
fn no_part_of_a_credential_is_said() {
    let shown = Secret::new("sg_live_0123456789");
    for before in 275..305 {
        let answer = response(401, &[], &format!(r#"{{"detail":"{} {}"}}"#, "x".repeat(before), shown.expose()));
        let said = sentence(ProviderKind::ScaiSend, &Task::ListDomains, Credential::Token, &shown, &answer);
        assert!(!said.contains("sg_"), "{said}");
    }
}

#[test]
fn each_refusal_says_what_the_api_said_and_what_to_do() {
    let shown = Secret::new("CANARY");
    let said = |task: &Task, used, response: &Response| sentence(ProviderKind::ScaiSend, task, used, &shown, response);
    let rotate = Task::RotateSecret(id("wh_9"));
    for (task, used, answer, words) in [
        (
            &rotate,
            Credential::Token,
            response(401, &[], r#"{"detail":"expired"}"#),
            &["401: expired", "SCAISEND_JWT"][..],
        ),
        (&rotate, Credential::Key, response(401, &[], ""), &["answered 401\n", "API key", "api_key_file"]),
        (&rotate, Credential::Key, response(403, &[], "{}"), &["webhooks.write", "SCAISEND_JWT"]),
        (&Task::ListDomains, Credential::Token, response(403, &[], "{}"), &["domains.read"]),
        (&rotate, Credential::Key, response(404, &[], r#"{"detail":"gone"}"#), &["wh_9", "sidepost webhooks list"]),
        (&Task::ListDomains, Credential::Token, response(404, &[], "<html>"), &["(a web page)", "base_url"]),
        (&Task::ListWebhooks, Credential::Key, response(429, &[("retry-after", "17")], ""), &["in 17 seconds"]),
        (&Task::ListWebhooks, Credential::Key, response(429, &[], ""), &["in 60 seconds"]),
        (
            &rotate,
            Credential::Key,
            response(422, &[], r#"{"detail":[{"loc":["body","url"],"msg":"bad"}]}"#),
            &["422: url bad", "mend"],
        ),
        (&rotate, Credential::Key, response(503, &[], ""), &["later"]),
        (&rotate, Credential::Key, response(302, &[], ""), &["base_url"]),
        (&rotate, Credential::Key, response(400, &[], r#"{"detail":"key CANARY is odd"}"#), &["key ******** is odd"]),
    ] {
        let text = said(task, used, &answer);
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} is not in {text}");
        assert!(!text.contains("CANARY"));
    }
}

#[test]
fn an_answer_that_is_cut_or_foreign_is_not_read() {
    let mut cut = response(200, &[], "{\"webhooks\":[");
    cut.complete = false;
    assert!(reading::json(&cut).unwrap_err().contains("longer"));
    assert!(reading::json(&response(200, &[], "<html>")).unwrap_err().contains("base_url"));
}
