//! What a provider says of its messages, read from answers of all sorts.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use sidepost::config::ProviderKind;
use sidepost::config::decode::default_account;
use sidepost::provider::Response;
use sidepost::provider::status::{message, message_call, messages, messages_call};

fn answer(status: u16, body: &str, complete: bool) -> Response {
    let (headers, received) = (HeaderMap::new(), SystemTime::UNIX_EPOCH);
    Response { status, headers, body: Bytes::copy_from_slice(body.as_bytes()), complete, received }
}

#[test]
fn the_calls_are_the_guides() {
    let mut account = default_account(ProviderKind::ScaiSend);
    let url = message_call(&account, "msg_1/../x?y=%").unwrap().url;
    assert_eq!(url, "https://scaisend.scailabs.ai/v3/messages/msg_1%2F..%2Fx%3Fy%3D%25");
    account.base_url = "http://127.0.0.1:8025/".to_owned();
    let request = messages_call(&account, "ada+x@example.com").unwrap();
    assert_eq!(request.url, "http://127.0.0.1:8025/v3/messages?to_email=ada%2Bx%40example.com&page_size=100");
    assert!(request.method == http::Method::GET && request.body.is_empty());
    account.send_path = "/mail".to_owned();
    assert!(message_call(&account, "x").unwrap_err().contains("send_path"));
    for kind in [ProviderKind::NexusProMail, ProviderKind::SendGrid] {
        let why = message_call(&default_account(kind), "x").unwrap_err();
        assert!(why.contains("has no call"), "{why}");
    }
}

#[test]
fn whatever_comes_is_a_status_or_a_sentence() {
    let whole = "{\"id\":\"msg_1\",\"status\":\"delivered\",\"subject\":\"Hi\",\"from_email\":\"a@b.example\",\
                 \"to_emails\":[\"c@d.example\"],\"new\":{},\"events\":[{\"timestamp\":1767323045,\"event_type\":\"processed\"},\
                 {\"timestamp\":\"2026-01-02T03:04:05Z\",\"event_type\":\"delivered\"},{\"odd\":1}]}";
    let read = message(&answer(200, whole, true)).unwrap();
    assert_eq!((read.id.as_str(), read.status.as_str()), ("msg_1", "delivered"));
    let events: Vec<(&str, &str)> = read.events.iter().map(|one| (one.at.as_str(), one.event.as_str())).collect();
    assert_eq!(events, [("1767323045", "processed"), ("2026-01-02T03:04:05Z", "delivered")]);
    for (status, body, complete, words) in [
        (200, "{}", true, "is no message"),
        (200, "<html>", true, "is no JSON"),
        (200, "{\"id\":", false, "it broke off"),
        (200, "[]", true, "is no message"),
        (401, "{\"detail\":\"Invalid API key\"}", true, "HTTP 401 (Invalid API key): the account's key is refused"),
        (
            403,
            "{\"detail\":\"Missing required scope: messages.read\"}",
            true,
            "messages.read): the account's key may not",
        ),
        (404, "", true, "HTTP 404: the provider does not know"),
        (429, "{}", true, "try later"),
        (500, "oops", true, "HTTP 500: try again later"),
        (302, "", true, "HTTP 302"),
    ] {
        let why = message(&answer(status, body, complete)).unwrap_err();
        assert!(why.contains(words), "{why}");
        assert!(messages(&answer(status, body, complete)).is_err());
    }
    let list = format!("{{\"messages\":[{whole},{{\"id\":7}},null],\"total\":3}}");
    assert_eq!(messages(&answer(200, &list, true)).unwrap().len(), 1);
    assert_eq!(messages(&answer(200, "{\"messages\":[]}", true)).unwrap(), []);
}
