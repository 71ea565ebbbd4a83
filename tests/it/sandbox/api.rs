//! The send calls: success, keys, limits, steering; and the status calls.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::{KEY, NEXUSPROMAIL, Running, SENDGRID_KEY, V3, nexuspromail_to, running, sandbox, v3_to};
use crate::raw_http::Answer;

/// The same mail in each of the three dialects.
fn dialects(address: &str) -> [(&'static str, &'static str, Value); 3] {
    [(NEXUSPROMAIL, KEY, nexuspromail_to(address)), (V3, KEY, v3_to(&[address])), (V3, SENDGRID_KEY, v3_to(&[address]))]
}

async fn send_all(running: &Running, address: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (path, key, body) in dialects(address) {
        answers.push(running.send(path, key, &body).await);
    }
    answers
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

#[tokio::test]
async fn nexuspromail_answers_200_with_an_id() {
    let running = running().await;
    let answer = running.send(NEXUSPROMAIL, "any", &nexuspromail_to("ann@example.com")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.json()["message_id"].as_str().unwrap().starts_with("msg_"));
}

#[tokio::test]
async fn scaisend_answers_202_with_one_id_or_one_for_each_personalization() {
    let running = running().await;
    let answer = running.send(V3, KEY, &v3_to(&["ann@example.com"])).await;
    assert_eq!(answer.status, 202);
    assert!(answer.json()["message_id"].as_str().unwrap().starts_with("msg_"));
    let answer = running.send(V3, KEY, &v3_to(&["ann@example.com", "bob@example.com"])).await;
    let ids = answer.json()["message_ids"].as_array().unwrap().clone();
    assert_eq!(ids.len(), 2);
    assert_eq!(
        running.call("GET", &format!("/v3/messages/{}", ids[1].as_str().unwrap())).await.json()["to_emails"][0],
        "bob@example.com"
    );
}

#[tokio::test]
async fn sendgrid_answers_202_with_an_empty_body_and_200_in_sandbox_mode() {
    let running = running().await;
    let mut body = v3_to(&["ann@example.com"]);
    let answer = running.send(V3, SENDGRID_KEY, &body).await;
    assert_eq!((answer.status, answer.text()), (202, ""));
    assert!(answer.header("x-message-id").unwrap().starts_with("msg_"));
    body["mail_settings"] = json!({ "sandbox_mode": { "enable": true } });
    assert_eq!(running.send(V3, SENDGRID_KEY, &body).await.status, 200);
}

#[tokio::test]
async fn keys_are_wanted_and_wrong_ones_refused() {
    let running = running().await;
    let bodies = [(NEXUSPROMAIL, "/error", "wrong"), (V3, "/detail", "wrong"), (V3, "/errors/0/message", "SG.wrong")];
    for (path, place, wrong) in bodies {
        let answer = running.send(path, wrong, &json!({})).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.json().pointer(place).unwrap().is_string(), "{path} {}", answer.json());
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for authorization in ["", "Bearer", "Bearer  ", "Basic YTpi", "key"] {
        let headers = [("Authorization", authorization), ("Content-Type", "application/json")];
        for path in [NEXUSPROMAIL, V3] {
            assert_eq!(running.server.ask("POST", path, &headers, b"{}").await.status, 401, "{authorization:?}");
        }
    }
    for path in ["/v3/messages", "/v3/messages/msg_1", "/v3/user/webhooks", "/v1/api/webhooks", "/v1/api/webhooks/wh_1"]
    {
        assert_eq!(running.server.get(path).await.status, 401, "{path}");
    }
    assert_eq!(running.mails().await.len(), 0);
}

#[tokio::test]
async fn what_is_not_json_is_refused() {
    let running = running().await;
    let body = running.post(NEXUSPROMAIL, KEY, b"{").await;
    assert_eq!((body.status, &body.json()["error"]), (400, &json!("bad_request")));
    let body = running.post(V3, KEY, b"\xff").await;
    assert_eq!(body.status, 400);
    assert!(body.json()["errors"][0]["message"].as_str().unwrap().starts_with("is not JSON"));
    let key = ("Authorization", "Bearer k");
    let kinds: [&[(&str, &str)]; 3] = [
        &[key],
        &[key, ("Content-Type", "text/plain")],
        &[key, ("Content-Type", "application/json"), ("Content-Encoding", "gzip")],
    ];
    for headers in kinds {
        for path in [NEXUSPROMAIL, V3] {
            assert_eq!(running.server.ask("POST", path, headers, b"{}").await.status, 415, "{headers:?}");
        }
    }
    let charset = [key, ("Content-Type", "application/json; charset=utf-8")];
    let body = nexuspromail_to("ann@example.com").to_string();
    assert_eq!(running.server.ask("POST", NEXUSPROMAIL, &charset, body.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn bodies_over_the_limit_get_413_after_they_were_read() {
    let running = running().await;
    let text = "x".repeat(21 * 1024 * 1024);
    let mut body = v3_to(&["ann@example.com"]);
    body["content"][0]["value"] = json!(text);
    let answer = running.send(V3, KEY, &body).await;
    assert_eq!(answer.status, 413);
    assert!(answer.json()["detail"].as_str().unwrap().contains("20 MB"));
    assert_eq!(running.send(V3, SENDGRID_KEY, &body).await.status, 202);
    let mut body = nexuspromail_to("ann@example.com");
    body["html"] = json!(text);
    assert_eq!(running.send(NEXUSPROMAIL, KEY, &body).await.json()["error"], "too_large");
}

#[tokio::test]
async fn other_paths_and_methods_are_answered_in_the_api_s_words() {
    let running = running().await;
    let answer = running.send("/v1/api/send", KEY, &json!({})).await;
    assert_eq!(answer.status, 404);
    assert!(answer.json()["message"].as_str().unwrap().contains("/v1/transactional/send"));
    assert_eq!(running.call("POST", "/v3/nothing").await.json(), json!({ "detail": "Not Found" }));
    assert_eq!(running.call("GET", "/v1/nothing").await.json()["error"], "not_found");
    assert_eq!(running.call("GET", "/nothing").await.status, 404);
    for (path, allow) in [(NEXUSPROMAIL, "POST"), (V3, "POST"), ("/v3/messages", "GET,HEAD")] {
        let answer = running.call("PUT", path).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{path}");
    }
}

#[tokio::test]
async fn refusals_that_an_address_asks_for() {
    let running = running().await;
    let table: [(&str, [u16; 3]); 6] = [
        ("suppressed.ann@example.com", [422, 422, 422]),
        ("INVALID@example.com", [422, 400, 400]),
        ("unauth1@example.com", [401, 401, 401]),
        ("toolarge@example.com", [413, 413, 413]),
        ("fail-inf.x@example.com", [503, 503, 503]),
        ("status-418x@example.com", [418, 418, 418]),
    ];
    for (address, expected) in table {
        assert_eq!(statuses(&send_all(&running, address).await), expected, "{address}");
    }
    let suppressed = send_all(&running, "suppressed@example.com").await;
    assert_eq!(suppressed[0].json()["error"], "suppressed");
    assert_eq!(suppressed[1].json(), json!({ "detail": "Recipient suppressed@example.com is suppressed" }));
    assert_eq!(suppressed[2].json()["errors"][0]["message"], "Recipient suppressed@example.com is suppressed");
    let invalid = send_all(&running, "invalid@example.com").await;
    assert_eq!(invalid[0].json()["error"], "validation");
    assert_eq!(invalid[1].json()["errors"][0]["field"], "personalizations.0.to.0.email");
    assert!(running.mails().await.iter().all(|mail| mail["taken"] == false));
}

#[tokio::test]
async fn tries_are_counted_for_each_address() {
    let running = running().await;
    let ask = async |address: &str| running.send(NEXUSPROMAIL, KEY, &nexuspromail_to(address)).await;
    for _ in 0..2 {
        let answer = ask("rate-2-7.a@example.com").await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
    }
    assert_eq!(ask("rate-2-7.b@example.com").await.status, 429);
    assert_eq!(ask("rate-2-7.a@example.com").await.status, 200);
    assert_eq!(ask("rate-2-7.a@example.com").await.status, 200);
    assert_eq!(ask("fail-1@example.com").await.status, 503);
    assert_eq!(ask("fail-1@example.com").await.status, 200);
    assert_eq!(running.call("DELETE", "/sandbox/mails").await.status, 204);
    assert_eq!(ask("fail-1@example.com").await.status, 503);
    assert_eq!(ask("rate-x@example.com").await.status, 200);
}

#[tokio::test]
async fn any_recipient_steers_and_the_first_one_counts() {
    let running = running().await;
    for list in ["to", "cc", "bcc"] {
        let mut body = v3_to(&["ann@example.com", "bob@example.com"]);
        body["personalizations"][1]["to"] = json!([{ "email": "bob@example.com" }, { "email": "eve@example.com" }]);
        body["personalizations"][1][list] =
            json!([{ "email": "status-500@example.com" }, { "email": "status-400@example.com" }]);
        assert_eq!(running.send(V3, KEY, &body).await.status, 500, "{list}");
    }
}

#[tokio::test]
async fn connections_are_closed_without_an_answer() {
    let running = running().await;
    assert_eq!(statuses(&send_all(&running, "reset@example.com").await), [0, 0, 0]);
    assert!(running.mails().await.iter().all(|mail| mail["taken"] == false));
    assert_eq!(statuses(&send_all(&running, "acceptreset@example.com").await), [0, 0, 0]);
    let mails = running.mails().await;
    assert_eq!(mails.len(), 6);
    assert!(mails[..3].iter().all(|mail| mail["taken"] == true && mail["answer"] == "taken, closed without an answer"));
    let found = running.call("GET", "/v3/messages?to_email=acceptreset@example.com").await.json();
    assert_eq!(found["total"], 2);
}

#[tokio::test]
async fn garbage_is_html_and_a_success_status_is_a_success() {
    let running = running().await;
    for answer in send_all(&running, "garbage@example.com").await {
        assert_eq!(answer.status, 200);
        assert!(answer.header("content-type").unwrap().starts_with("text/html"));
        assert!(serde_json::from_slice::<Value>(&answer.body).is_err());
    }
    let answers = send_all(&running, "status-201@example.com").await;
    assert_eq!(statuses(&answers), [201, 201, 201]);
    assert!(answers[0].json()["message_id"].is_string());
    assert_eq!(statuses(&send_all(&running, "status-204@example.com").await), [204, 204, 204]);
    assert_eq!(statuses(&send_all(&running, "status-307@example.com").await), [307, 307, 307]);
    assert_eq!(running.mails().await.iter().filter(|mail| mail["taken"] == true).count(), 6);
}

#[tokio::test]
async fn hang_never_answers() {
    let running = running().await;
    let headers = [("Authorization", "Bearer k"), ("Content-Type", "application/json")];
    let body = nexuspromail_to("hang@example.com").to_string();
    let stream = running.server.begin("POST", NEXUSPROMAIL, &headers, body.as_bytes()).await;
    while running.mails().await.is_empty() {}
    assert_eq!(running.mails().await[0]["answer"], "never answered");
    assert_eq!(stream.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// Without sockets, so that the paused clock moves for this one timer only.
#[tokio::test(start_paused = true)]
async fn slow_is_taken_at_once_and_answered_later() {
    use hyper::service::Service;
    let (sandbox, _posted) = sandbox();
    let service = hyper_util::service::TowerToHyperService::new(sandbox.router());
    let request = http::Request::post(NEXUSPROMAIL)
        .header("Authorization", "Bearer k")
        .header("Content-Type", "application/json")
        .body(axum::body::Body::from(nexuspromail_to("slow-3000@example.com").to_string()))
        .unwrap();
    let began = tokio::time::Instant::now();
    let answer = service.call(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), began.elapsed().as_millis()), (200, 3000));
}

#[tokio::test]
async fn without_a_hang_up_token_a_reset_says_so() {
    use hyper::service::Service;
    let (sandbox, _posted) = sandbox();
    let service = hyper_util::service::TowerToHyperService::new(sandbox.router());
    let request = http::Request::post(NEXUSPROMAIL)
        .header("Authorization", "Bearer k")
        .header("Content-Type", "application/json")
        .body(axum::body::Body::from(nexuspromail_to("reset@example.com").to_string()))
        .unwrap();
    assert_eq!(service.call(request).await.unwrap().status(), 500);
}

#[tokio::test]
async fn messages_are_listed_page_by_page_and_filtered() {
    let running = running().await;
    for address in ["a@example.com", "bounce@example.com", "c@example.com", "fail-inf@example.com"] {
        running.send(V3, KEY, &v3_to(&[address])).await;
    }
    running.send(V3, "sg_test_1", &v3_to(&["t@example.com"])).await;
    running.send(NEXUSPROMAIL, KEY, &nexuspromail_to("n@example.com")).await;
    let list = async |query: &str| running.call("GET", &format!("/v3/messages{query}")).await;
    let all = list("").await.json();
    let addresses: Vec<_> = all["messages"].as_array().unwrap().iter().map(|one| one["to_emails"][0].clone()).collect();
    assert_eq!(addresses, ["t@example.com", "c@example.com", "bounce@example.com", "a@example.com"]);
    assert_eq!((&all["page_size"], &all["total_pages"]), (&json!(25), &json!(1)));
    let second = list("?page=2&page_size=3").await.json();
    assert_eq!(second["messages"][0]["to_emails"][0], "a@example.com");
    assert_eq!((&second["total"], &second["total_pages"]), (&json!(4), &json!(2)));
    for (query, total) in [
        ("?to_email=C@example.com", 1),
        ("?category=order-7", 4),
        ("?category=order", 0),
        ("?status=bounced", 1),
        ("?status=sandbox", 1),
        ("?subject=ell&from_email=app@example.com", 4),
        ("?page=9", 4),
    ] {
        assert_eq!(list(query).await.json()["total"], total, "{query}");
    }
    for query in ["?page_size=101", "?page_size=0", "?page=x", "?to=a"] {
        assert_eq!(list(query).await.status, 422, "{query}");
    }
}

#[tokio::test]
async fn a_message_tells_its_events() {
    let running = running().await;
    let id = |answer: Answer| answer.json()["message_id"].as_str().unwrap().to_owned();
    let bounced = id(running.send(V3, KEY, &v3_to(&["bounce@example.com"])).await);
    let message = running.call("GET", &format!("/v3/messages/{bounced}")).await.json();
    assert_eq!((&message["status"], &message["subject"]), (&json!("bounced"), &json!("Hello")));
    let names: Vec<_> = message["events"].as_array().unwrap().iter().map(|one| one["event_type"].clone()).collect();
    assert_eq!(names, ["processed", "bounce"]);
    let tested = id(running.send(V3, "sg_test_1", &v3_to(&["ann@example.com"])).await);
    assert_eq!(running.call("GET", &format!("/v3/messages/{tested}")).await.json()["events"], json!([]));
    let other = id(running.send(NEXUSPROMAIL, KEY, &nexuspromail_to("ann@example.com")).await);
    assert_eq!(
        running.call("GET", &format!("/v3/messages/{other}")).await.json(),
        json!({ "detail": "Message not found" })
    );
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    use tokio::io::AsyncWriteExt;
    let running = running().await;
    let mut stream = tokio::net::TcpStream::connect(running.server.address).await.unwrap();
    let body = nexuspromail_to("ann@example.com").to_string();
    let head = format!(
        "POST {NEXUSPROMAIL} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    stream.write_all(format!("{head}\r\n{body}{head}Connection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2);
}
