//! The mailbox page and the JSON behind it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{KEY, NEXUSPROMAIL, V3, nexuspromail_to, running, v3_to};

#[tokio::test]
async fn people_get_a_page_that_loads_its_own_files_only() {
    let running = running().await;
    let page = running.server.ask("GET", "/", &[("Accept", "text/html,*/*")], b"").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    for (path, kind) in [("app.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")] {
        assert!(page.text().contains(&format!("\"{path}\"")), "{path}");
        let asset = running.server.get(&format!("/{path}")).await;
        assert_eq!(asset.status, 200);
        assert!(asset.header("content-type").unwrap().starts_with(kind));
        assert!(!asset.body.is_empty());
    }
    let script = running.server.get("/app.js").await;
    for unsafe_way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!script.text().contains(unsafe_way), "{unsafe_way}");
    }
    assert!(page.text().contains("sandbox=\"\""));
    let pointer = running.server.get("/").await;
    assert_eq!(pointer.json()["mails"], "/sandbox/mails");
}

#[tokio::test]
async fn mails_are_listed_newest_first_and_shown_exactly() {
    let running = running().await;
    running.send(NEXUSPROMAIL, KEY, &nexuspromail_to("ann@example.com")).await;
    let payload = r#"{ "subject":"Zwei","personalizations":[{"to":[{"email":"a@example.com","name":"A"}],"cc":[{"email":"c@example.com"}]}],
        "from":{"email":"f@example.com"},"content":[{"type":"text/plain","value":"x"}],
        "attachments":[{"content":"aGVsbG8=","filename":"a.txt"}]}"#;
    let id = running.post(V3, KEY, payload.as_bytes()).await.json()["message_id"].as_str().unwrap().to_owned();
    let list = running.server.get("/sandbox/mails").await.json();
    assert_eq!(list["revision"], 2);
    let mail = &list["mails"][0];
    assert_eq!(mail["id"], id.as_str());
    assert_eq!(mail["subject"], "Zwei");
    assert_eq!(mail["provider"], "scaisend");
    assert_eq!(mail["answer"], "202 Accepted");
    assert_eq!(mail["to"], json!([{ "email": "a@example.com", "name": "A" }]));
    assert_eq!(mail["cc"][0]["email"], "c@example.com");
    assert_eq!(
        mail["attachments"],
        json!([{ "filename": "a.txt", "type": "application/octet-stream", "size": 5, "inline": false }])
    );
    assert!(mail.get("payload").is_none());
    assert_eq!(list["mails"][1]["provider"], "nexuspromail");

    let shown = running.server.get(&format!("/sandbox/mails/{id}")).await;
    assert!(shown.text().ends_with(&format!(",\"payload\":{payload}}}")));
    assert_eq!(shown.json()["payload"], serde_json::from_str::<Value>(payload).unwrap());
    assert_eq!(shown.json()["subject"], "Zwei");

    assert_eq!(running.server.ask("DELETE", "/sandbox/mails", &[], b"").await.status, 204);
    assert_eq!(running.server.get("/sandbox/mails").await.json(), json!({ "revision": 3, "mails": [] }));
    assert_eq!(running.server.get(&format!("/sandbox/mails/{id}")).await.status, 404);
    assert_eq!(running.server.get(&format!("/sandbox/mails/{id}/html")).await.status, 404);
}

#[tokio::test]
async fn a_mail_s_html_can_run_and_load_nothing() {
    let running = running().await;
    let mut body = v3_to(&["ann@example.com"]);
    body["content"][1]["value"] = json!("<script>alert(1)</script><img src='cid:logo'><img src='cid:odd'>");
    body["attachments"] = json!([
        { "content": "aGVsbG8=", "filename": "l.png", "type": "image/png", "disposition": "inline", "content_id": "logo" },
        { "content": "aGVsbG8=", "filename": "o", "type": "text/html", "disposition": "inline", "content_id": "odd" },
    ]);
    let id = running.send(V3, KEY, &body).await.json()["message_id"].as_str().unwrap().to_owned();
    let html = running.server.get(&format!("/sandbox/mails/{id}/html")).await;
    let policy = html.header("content-security-policy").unwrap();
    assert!(policy.starts_with("sandbox; default-src 'none';"), "{policy}");
    assert_eq!(html.text(), "<script>alert(1)</script><img src='data:image/png;base64,aGVsbG8='><img src='cid:odd'>");
    let id = running.send(NEXUSPROMAIL, KEY, &nexuspromail_to("a@example.com")).await.json()["message_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(running.server.get(&format!("/sandbox/mails/{id}/html")).await.text(), "<p>Hello</p>");
}

#[tokio::test]
async fn the_mailbox_is_bounded() {
    let running = running().await;
    let people: Vec<_> = (0..600).map(|i| format!("p{i}@example.com")).collect();
    let people: Vec<_> = people.iter().map(String::as_str).collect();
    assert_eq!(running.send(V3, KEY, &v3_to(&people)).await.status, 202);
    let mails = running.mails().await;
    assert_eq!(mails.len(), 500);
    assert_eq!(mails[0]["to"][0]["email"], "p599@example.com");
}

/// `sidepost sandbox` may serve both on one port.
#[tokio::test]
async fn the_sandbox_merges_with_the_web_routes() {
    let (sandbox, _posted) = super::sandbox();
    let web = sidepost::web::Web {
        metrics: Arc::default(),
        accounts: Arc::new(Vec::new),
        store: Arc::new(|| None),
        lost: Arc::new(Default::default),
    };
    let server = crate::raw_http::serve(sidepost::web::router(web).merge(sandbox.router())).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/sandbox/mails").await.status, 200);
}

#[tokio::test]
async fn the_help_names_every_rule_and_where_to_send() {
    let running = running().await;
    let help = running.server.get("/sandbox/steering").await.json();
    assert_eq!(help["smtp"], "127.0.0.1:2525");
    assert!(help["rules"].as_array().unwrap().iter().any(|rule| rule["address"] == "acceptreset@example.com"));
}
