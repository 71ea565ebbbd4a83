//! Faults of the API and what the relay makes of them, with paused time.

use std::time::Duration;

use sidepost::outcome::Kind;
use tokio::time::Instant;

use crate::world::{Answer, Script, config, relay, submit};

const ANN: &[&str] = &["ann@example.net"];

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn accepted_says_the_providers_id() {
    let script = Script::new([Answer::ok("msg_1")]);
    let reply = submit(&relay(&config(&[]), &script), ANN).await;
    assert_eq!(reply, "250 2.0.0 Ok msg_1 as 00000000000000000000000000000000");
}

#[tokio::test(start_paused = true)]
async fn a_short_pause_is_waited_for() {
    let script = Script::new([Answer::throttled(2), Answer::ok("msg_1")]);
    let start = Instant::now();
    assert!(submit(&relay(&config(&[]), &script), ANN).await.starts_with("250 "));
    assert!((2.0..2.1).contains(&seconds(start)), "{}", seconds(start));
    assert_eq!(script.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_long_pause_is_451_at_once_and_holds_the_account_off() {
    let script = Script::new([Answer::throttled(600)]);
    let relay = relay(&config(&[]), &script);
    let start = Instant::now();
    assert!(submit(&relay, ANN).await.starts_with("451 4.4.5 "));
    assert!(relay.admit().unwrap_err().to_string().starts_with("451 4.4.5 "), "the next client is told at MAIL");
    assert!(submit(&relay, ANN).await.starts_with("451 4.4.5 "));
    assert!(seconds(start) < 0.1);
    assert_eq!(script.requests(), 1, "no request during the pause");
    tokio::time::advance(Duration::from_secs(601)).await;
    assert!(relay.admit().is_ok());
    assert!(submit(&relay, ANN).await.starts_with("250 "));
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_api_is_tried_with_growing_pauses() {
    let script = Script::new([Answer::status(503), Answer::status(503), Answer::status(503)]);
    let start = Instant::now();
    assert!(submit(&relay(&config(&[]), &script), ANN).await.starts_with("250 "));
    assert!((7.0..8.6).contains(&seconds(start)), "1 + 2 + 4 s and jitter, not {}", seconds(start));
}

#[tokio::test(start_paused = true)]
async fn attempts_end() {
    let script = Script::new(vec![Answer::status(503); 9]);
    assert!(submit(&relay(&config(&[]), &script), ANN).await.starts_with("451 4.3.2 "));
    assert_eq!(script.requests(), 4);
}

/// What may have been taken is never sent again by the relay itself.
#[tokio::test(start_paused = true)]
async fn what_may_have_been_taken_is_not_repeated() {
    for (answer, reply) in [
        (Answer::Lost, "451 4.4.2 "),
        (Answer::Never, "451 4.4.2 "),
        (Answer::status(500), "451 4.3.0 "),
        (Answer::status(502), "451 4.4.2 "),
        (Answer::status(504), "451 4.4.2 "),
    ] {
        let script = Script::new([answer]);
        let got = submit(&relay(&config(&[]), &script), ANN).await;
        assert!(got.starts_with(reply), "{got}");
        assert_eq!(script.requests(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn ambiguous_can_count_as_accepted() {
    let script = Script::new([Answer::Lost]);
    let reply = submit(&relay(&config(&["delivery.ambiguous=accept"]), &script), ANN).await;
    assert!(reply.starts_with("250 2.0.0 Ok as "), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn what_was_certainly_not_sent_is_repeated() {
    for kind in [Kind::Unreachable, Kind::Dns, Kind::Interrupted] {
        let script = Script::new([Answer::NotSent(kind)]);
        assert!(submit(&relay(&config(&[]), &script), ANN).await.starts_with("250 "));
        assert_eq!(script.requests(), 2);
    }
    let script = Script::new([Answer::NotSent(Kind::Tls)]);
    assert!(
        submit(&relay(&config(&[]), &script), ANN).await.starts_with("451 4.7.5 "),
        "a certificate does not mend itself"
    );
}

#[tokio::test(start_paused = true)]
async fn the_reply_comes_within_the_deadline() {
    let slow = Answer::After(Duration::from_secs(9), Box::new(Answer::status(503)));
    let script = Script::new(vec![slow; 9]);
    let start = Instant::now();
    assert!(submit(&relay(&config(&[]), &script), ANN).await.starts_with("451 4.3.2 "));
    assert!(seconds(start) <= 25.0, "{}", seconds(start));
    assert_eq!(script.requests(), 2, "9 + 1 + 9 s leave no room for a third attempt of 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_opens_the_breaker_and_a_probe_closes_it() {
    let script = Script::new([Answer::status(401), Answer::status(401)]);
    let relay = relay(&config(&[]), &script);
    assert!(submit(&relay, ANN).await.starts_with("451 4.3.5 "));
    let early = relay.admit().unwrap_err().to_string();
    assert!(early.starts_with("451 4.3.5 "), "{early}");
    assert!(submit(&relay, ANN).await.starts_with("451 4.3.5 "));
    assert_eq!(script.requests(), 1);
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(relay.admit().is_ok(), "a probe is due");
    assert!(submit(&relay, ANN).await.starts_with("451 4.3.5 "));
    assert!(relay.admit().is_err(), "the probe failed");
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(submit(&relay, ANN).await.starts_with("250 "));
    assert!(relay.admit().is_ok());
    assert_eq!(relay.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_open_the_breaker() {
    let script = Script::new(vec![Answer::status(500); 5]);
    let relay = relay(&config(&[]), &script);
    for n in 0..5 {
        assert!(relay.admit().is_ok(), "after {n} failures");
        submit(&relay, ANN).await;
    }
    assert!(relay.admit().is_err());
    assert!(relay.trouble().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_refused_mail_says_nothing_of_the_account() {
    let script = Script::new(vec![Answer::status(400); 9]);
    let relay = relay(&config(&[]), &script);
    for _ in 0..9 {
        assert!(submit(&relay, ANN).await.starts_with("554 5.6.0 "));
    }
    assert!(relay.admit().is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept_and_the_order_too() {
    let script = Script::new([]);
    let relay = relay(&config(&["providers.main.rate=10/s", "providers.main.burst=1"]), &script);
    let start = Instant::now();
    let all = (0..100).map(|_| submit(&relay, ANN));
    let replies = futures_util::future::join_all(all).await;
    assert!(replies.iter().all(|r| r.starts_with("250 ")));
    assert!((9.8..10.1).contains(&seconds(start)), "100 requests at 10/s: {}", seconds(start));
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_have_a_turn_in_time_is_told_so() {
    let script = Script::new([]);
    let relay = relay(&config(&["providers.main.rate=1/s", "providers.main.burst=1"]), &script);
    let replies = futures_util::future::join_all((0..40).map(|_| submit(&relay, ANN))).await;
    let accepted = replies.iter().filter(|r| r.starts_with("250 ")).count();
    // The last attempt may begin 10 s (attempt_timeout) before the deadline of 25 s.
    assert_eq!(accepted, 16);
    assert!(replies.iter().filter(|r| !r.starts_with("250 ")).all(|r| r.starts_with("451 4.4.5 ")));
}

#[tokio::test(start_paused = true)]
async fn one_refused_recipient_does_not_spoil_the_others() {
    let refusal = r#"{"errors":[{"message":"not a valid email address","field":"personalizations.1.to.0.email"}]}"#;
    let script = Script::new([Answer::Status(400, Vec::new(), refusal.into()), Answer::ok("msg_1")]);
    let relay = relay(&config(&[]), &script);
    let reply = submit(&relay, &["ann@example.net", "bad@example.net", "cat@example.net"]).await;
    assert!(reply.starts_with("250 2.0.0 Ok msg_1 "), "{reply}");
    assert!(reply.contains("2 of 3 recipients"), "{reply}");
    let second = script.seen()[1].to_string();
    assert!(!second.contains("bad@") && second.contains("ann@") && second.contains("cat@"), "{second}");
}

#[tokio::test(start_paused = true)]
async fn partial_failure_can_be_rejected() {
    let refusal = r#"{"errors":[{"message":"no","field":"personalizations.1.to.0.email"}]}"#;
    let script = Script::new([Answer::Status(400, Vec::new(), refusal.into())]);
    let relay = relay(&config(&["delivery.partial_failure=reject"]), &script);
    let reply = submit(&relay, &["ann@example.net", "bad@example.net"]).await;
    assert!(reply.starts_with("550 5.1.3 "), "{reply}");
}

/// NexusProMail: a call each; one that is deferred makes the whole reply 4yz.
#[tokio::test(start_paused = true)]
async fn any_deferred_recipient_defers_the_transaction() {
    let ok = Answer::Status(200, Vec::new(), r#"{"message_id":"msg_1"}"#.into());
    let script = Script::new([ok.clone(), Answer::Lost, ok]);
    let relay = relay(&config(&["providers.main.kind=nexuspromail"]), &script);
    let reply = submit(&relay, &["a@example.net", "b@example.net", "c@example.net"]).await;
    assert!(reply.starts_with("451 4.4.2 "), "{reply}");
    assert_eq!(script.requests(), 3);
}
