//! The calls themselves: what is asked strictly, what is answered, and what bad input does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{call, error, get, post, seed, state};
use crate::binary::Relay;
use crate::store::Folder;

#[test]
fn bad_input_is_told_what_is_wrong() {
    let relay = Relay::sandbox(&[]);
    let deep = "[".repeat(100_000);
    let cursor = format!("/api/events?after={}", "0".repeat(40));
    for (method, target, body, status, words) in [
        ("GET", "/api/suppressions?adress=x", "", 400, "known are: address, scope, reason, after, limit"),
        ("GET", "/api/suppressions?limit=0", "", 400, "limit must be a whole number from 1 to 500"),
        ("GET", "/api/suppressions?limit=501", "", 400, "from 1 to 500"),
        ("GET", "/api/suppressions?limit=99999999999999999999", "", 400, "from 1 to 500"),
        ("GET", "/api/suppressions?limit=-1", "", 400, "from 1 to 500"),
        ("GET", "/api/suppressions?limit=5&limit=6", "", 400, "limit is given twice"),
        ("GET", "/api/suppressions?after=garbage", "", 400, "the `next` of the page before"),
        ("GET", "/api/suppressions?after=%00%ff", "", 400, "the `next` of the page before"),
        ("GET", cursor.as_str(), "", 400, "the `next` of the page before"),
        ("GET", "/api/suppressions?address=ann", "", 400, "is no mail address"),
        ("GET", "/api/suppressions?scope=main", "", 400, "write *, account:NAME"),
        ("GET", "/api/suppressions?reason=because", "", 400, "there are bounce"),
        ("GET", "/api/messages?since=yesterday", "", 400, "write 2026-11-22T09:00:00Z, 2026-11-22, or a duration"),
        ("GET", "/api/messages?since=2026-13-45", "", 400, "is no time"),
        ("GET", "/api/events?kind=exploded", "", 400, "there are queued"),
        ("GET", "/api/messages?outcome=bounced", "", 400, "there are accepted, "),
        ("GET", "/api/events/one", "", 400, "is no number"),
        ("GET", "/api/events/-1", "", 400, "is no number"),
        ("GET", "/api/messages/%ff", "", 400, "percent-encode"),
        ("GET", "/api/messages/%00", "", 404, "in no line of the log"),
        ("GET", "/api/messages/..%2f..%2fhealthz", "", 404, "in no line of the log"),
        ("GET", "/api/provider/messages?to_email=a@b.example&account=x", "", 400, "there are: sandbox"),
        ("POST", "/api/suppressions", "{", 400, "not the JSON"),
        ("POST", "/api/suppressions", "\"text\"", 400, "invalid type"),
        ("POST", "/api/suppressions", "null", 400, "invalid type"),
        ("POST", "/api/suppressions", &deep, 400, "not the JSON"),
        ("POST", "/api/suppressions", "{\"address\":7}", 400, "invalid type"),
        ("POST", "/api/suppressions", "{}", 400, "missing field `address`"),
        ("POST", "/api/suppressions", "{\"address\":\"a@b.example\",\"why\":\"x\"}", 400, "unknown field `why`"),
        ("POST", "/api/suppressions", "{\"address\":\"a@b.example\",\"until\":\"2020-01-01\"}", 400, "over already"),
        (
            "POST",
            "/api/suppressions",
            "{\"address\":\"a@b.example\",\"source\":\"me\"}",
            400,
            "source: \"me\" is none of",
        ),
        ("POST", "/api/suppressions", "{\"address\":\"a b@c.example\"}", 400, "is no mail address"),
        ("POST", "/api/suppressions", "[{\"address\":\"a@b.example\"},{\"address\":\"b\"}]", 400, "entry 2: "),
        ("POST", "/api/events/replay", "{}", 400, "missing field `since`"),
        ("POST", "/api/events/replay", "{\"since\":\"2d\",\"limit\":1}", 400, "unknown field `limit`"),
        ("POST", "/api/events/replay", "{\"since\":\"2d\",\"kind\":\"x\"}", 400, "is no event"),
        ("DELETE", "/api/suppressions/ann", "", 400, "is no mail address"),
        ("DELETE", "/api/suppressions/ann%40example.com", "", 404, "is not on the list"),
        ("DELETE", "/api/suppressions", "", 405, "DELETE does nothing here"),
        ("PUT", "/api/messages", "", 405, "PUT does nothing here"),
        ("GET", "/api/nothing", "", 404, "see /api/openapi.json"),
        ("GET", "/api/suppressions/", "", 404, "see /api/openapi.json"),
    ] {
        let answer = call(relay.web, method, target, &[], body);
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        assert!(error(&answer).contains(words), "{method} {target}: {}", error(&answer));
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{method} {target}");
    }
    // Nothing of a list with a mistake in it was done.
    assert_eq!(get(relay.web, "/api/suppressions")["suppressions"], json!([]));
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let relay = Relay::sandbox(&[]);
    let body = format!("[{}\"\"]", " ".repeat(9 << 20));
    let answer = call(relay.web, "POST", "/api/suppressions", &[], &body);
    // The connection may be closed before the refusal has been read.
    assert!(matches!(answer.status, 413 | 0), "{answer:?}");
    let many: Vec<Value> = (0..10_001).map(|n| json!({"address": format!("a{n}@example.com")})).collect();
    let answer = post(relay.web, "/api/suppressions", &many.into());
    assert!(answer.status == 400 && error(&answer).contains("send them in parts"), "{answer:?}");
}

#[test]
fn addresses_are_taken_as_they_are_written() {
    let relay = Relay::sandbox(&[]);
    for (address, encoded, key) in [
        ("Ann+News@Example.COM", "Ann%2BNews%40Example.COM", "ann+news@example.com"),
        ("\"a b\"@example.com", "%22a%20b%22@example.com", "\"a b\"@example.com"),
        ("\"a/b?c#d%\"@example.com", "%22a%2Fb%3Fc%23d%25%22%40example.com", "a/b?c#d%@example.com"),
        ("o'neil@example.com", "o'neil@example.com", "o'neil@example.com"),
        ("jörg@bücher.example", "j%C3%B6rg%40b%C3%BCcher.example", "jörg@xn--bcher-kva.example"),
    ] {
        let added = post(relay.web, "/api/suppressions", &json!({"address": address})).json();
        assert_eq!(added, json!({"added": 1, "known": 0, "over": 0, "unknown_accounts": []}), "{address}");
        let again = post(relay.web, "/api/suppressions", &json!({"address": address})).json();
        assert_eq!(again["known"], 1, "{address}");
        let query = encoded.replace('+', "%2B");
        let found = get(relay.web, &format!("/api/suppressions?address={query}"));
        let entry = &found["suppressions"][0];
        assert_eq!(entry["address"], key, "{address}");
        assert_eq!((&entry["scope"], &entry["reason"]), (&json!("*"), &json!("manual")));
        assert_eq!((&entry["source"], &entry["until"]), (&json!("operator"), &Value::Null));
        let removed = call(relay.web, "DELETE", &format!("/api/suppressions/{encoded}"), &[], "").json();
        assert_eq!(removed["removed"][0]["address"], key);
    }
}

#[test]
fn scopes_are_apart() {
    let relay = Relay::sandbox(&[]);
    let entry = |scope: &str| json!({"address": "ann@example.com", "scope": scope, "until": "2999-01-01"});
    let added = post(
        relay.web,
        "/api/suppressions",
        &json!([entry("*"), entry("account:sandbox"), entry("domain:Example.ORG"), entry("account:mian")]),
    );
    assert_eq!(added.json(), json!({"added": 4, "known": 0, "over": 0, "unknown_accounts": ["mian"]}));
    let found = get(relay.web, "/api/suppressions?scope=domain:example.org");
    assert_eq!(found["suppressions"].as_array().unwrap().len(), 1);
    assert_eq!(found["suppressions"][0]["until"], "2999-01-01T00:00:00Z");
    let gone = call(relay.web, "DELETE", "/api/suppressions/ann@example.com?scope=account:sandbox", &[], "").json();
    assert_eq!(gone["removed"].as_array().unwrap().len(), 1);
    let again = call(relay.web, "DELETE", "/api/suppressions/ann@example.com?scope=account:sandbox", &[], "");
    assert!(again.status == 404 && error(&again).contains("for account:sandbox"), "{again:?}");
    let rest = call(relay.web, "DELETE", "/api/suppressions/ann@example.com", &[], "").json();
    assert_eq!(rest["removed"].as_array().unwrap().len(), 3);
}

#[test]
fn what_is_added_is_in_force_at_once() {
    let relay = Relay::sandbox(&[]);
    let rcpt = || {
        let mut client = relay.connect();
        client.say("EHLO test");
        client.say("MAIL FROM:<app@example.com>");
        client.say("RCPT TO:<Ann@example.net>")
    };
    assert!(rcpt().starts_with("250 "));
    post(relay.web, "/api/suppressions", &json!({"address": "ann@example.net", "reason": "complaint"}));
    assert!(rcpt().starts_with("550 5.7.1 <Ann@example.net> suppressed: complaint on "), "{}", rcpt());
    call(relay.web, "DELETE", "/api/suppressions/ann@example.net", &[], "");
    assert!(rcpt().starts_with("250 "));
}

#[test]
fn pages_lead_to_all_of_a_list_and_to_each_once() {
    let relay = Relay::sandbox(&[]);
    let many: Vec<Value> = (0..1200).map(|n| json!({"address": format!("a{n}@example.com")})).collect();
    assert_eq!(post(relay.web, "/api/suppressions", &many.into()).json()["added"], 1200);
    for (limit, pages) in [(500, 3), (400, 3), (1, 1200)] {
        let (mut seen, mut after, mut count) = (BTreeSet::new(), String::new(), 0);
        loop {
            let page = get(relay.web, &format!("/api/suppressions?limit={limit}{after}"));
            count += 1;
            for entry in page["suppressions"].as_array().unwrap() {
                assert!(seen.insert(entry["address"].as_str().unwrap().to_owned()), "{entry} came twice");
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
            if limit == 1 && count == 3 {
                break;
            }
        }
        assert!(count == pages || limit == 1, "{limit}: {count}");
        assert_eq!(seen.len(), if limit == 1 { 3 } else { 1200 });
    }
    let page = get(relay.web, "/api/suppressions?limit=10");
    let next = page["next"].as_str().unwrap();
    // A cursor of one list leads nowhere in another.
    let other = call(relay.web, "GET", &format!("/api/events?after={next}"), &[], "");
    assert!(other.status == 400 && error(&other).contains("the `next` of the page before"), "{other:?}");
}

#[test]
fn a_mail_is_found_by_whatever_is_known_of_it() {
    let folder = Folder::new("admin-messages");
    seed(&folder);
    let relay = Relay::sandbox(&["--set", &state(&folder)]);
    for (query, ids) in [
        ("", vec!["0a02", "0a01", "0a01"]),
        ("recipient=ANN@example.net", vec!["0a01"]),
        ("sender=App@example.com&limit=1", vec!["0a02"]),
        ("id=msg_2", vec!["0a01"]),
        ("id=0a02", vec!["0a02"]),
        ("outcome=accepted", vec!["0a01", "0a01"]),
        ("account=other", vec![]),
        ("since=2026-11-22T10:00:30%2B01:00", vec!["0a02"]),
        ("until=2026-11-22T09:00:30Z", vec!["0a01", "0a01"]),
        ("since=2026-11-22&until=2026-11-23", vec!["0a02", "0a01", "0a01"]),
    ] {
        let page = get(relay.web, &format!("/api/messages?{query}"));
        let found: Vec<&str> =
            page["messages"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{query}");
    }
    let event = get(relay.web, "/api/events/2");
    assert_eq!((&event["kind"], &event["event_id"]), (&json!("bounced.hard"), &json!("e2")));
    assert_eq!(event["raw"], "{\"event\":\"e2\",\"bell\":\"\u{7}\"}");
    let replayed = post(relay.web, "/api/events/replay", &json!({"since": "2026-11-22", "kind": "bounced.hard"}));
    assert_eq!(replayed.json(), json!({"events": 1}));
}

#[test]
fn operators_writes_are_logged_with_as_much_of_the_address_as_the_log_may_show() {
    for (shown, words) in [("full", "ann@example.net"), ("domain", "*@example.net"), ("hash", "put addresses")] {
        let mut relay = Relay::sandbox(&["--set", &format!("log.addresses={shown}")]);
        post(relay.web, "/api/suppressions", &json!({"address": "ann@example.net"}));
        call(relay.web, "GET", "/api/suppressions?address=ann@example.net", &[], "");
        call(relay.web, "DELETE", "/api/suppressions/ann@example.net", &[], "");
        relay.signal();
        let log = relay.rest_of_log();
        let lines = log.lines().filter(|line| line.contains("an operator")).count();
        assert_eq!(lines, 2, "{log}");
        assert!(log.contains(words), "{log}");
        assert_eq!(log.contains("ann@"), shown == "full", "{log}");
    }
}
