//! Faults of the API and what the relay makes of them, with paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sidepost::config::values::Rate;
use sidepost::metrics::{AccountLabel, Metrics};
use sidepost::outcome::{Cause, Kind};
use sidepost::recent::Recent;
use sidepost::relay::Relay;
use sidepost::relay::http::Transport;
use sidepost::relay::limiter::KeyedLimiter;
use sidepost::secret::Secret;
use tokio::time::Instant;

use crate::world::{Answer, MAIL, Script, admit, config, relay, relay_over, submit, transaction};

const ANN: &[&str] = &["ann@example.net"];

fn trouble(relay: &Relay) -> Option<Cause> {
    relay.troubles().find_map(|(_, trouble)| trouble)
}

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
    assert!(admit(&relay).unwrap_err().to_string().starts_with("451 4.4.5 "), "the next client is told at MAIL");
    assert!(submit(&relay, ANN).await.starts_with("451 4.4.5 "));
    assert!(seconds(start) < 0.1);
    assert_eq!(script.requests(), 1, "no request during the pause");
    tokio::time::advance(Duration::from_secs(601)).await;
    assert!(admit(&relay).is_ok());
    assert!(submit(&relay, ANN).await.starts_with("250 "));
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_api_is_tried_with_growing_pauses() {
    let script = Script::new([Answer::status(503), Answer::status(503), Answer::status(503)]);
    let start = Instant::now();
    assert!(submit(&relay(&config(&[]), &script), ANN).await.starts_with("250 "));
    let spent = seconds(start);
    assert!((1.5..1.5 + 4.5 + 8.0).contains(&spent), "three pauses of at least half a second, not {spent}");
}

/// Each client's retries are a few; those of many clients at once are a share of their requests.
#[tokio::test(start_paused = true)]
async fn an_outage_is_not_multiplied_by_the_clients() {
    let script = Script::new(vec![Answer::status(429); 5000]);
    let relay = relay(&config(&["providers.main.burst=5000", "providers.main.rate=5000/s"]), &script);
    let clients: Vec<String> = (0..500).map(|n| format!("r{n}@example.net")).collect();
    futures_util::future::join_all(clients.iter().map(|client| submit_to(&relay, client))).await;
    assert!(script.requests() <= 500 + 100 + 500 / 5, "{} requests of 500 clients", script.requests());
}

/// The account halves its rate when the API complains, and takes it up again by and by.
#[tokio::test(start_paused = true)]
async fn the_rate_gives_way_to_429_and_recovers() {
    let script = Script::new([Answer::status(429)]);
    let relay = relay(&config(&["providers.main.burst=1", "providers.main.rate=10/s"]), &script);
    submit(&relay, ANN).await;
    let ten = async || {
        let begun = Instant::now();
        for _ in 0..10 {
            assert!(submit(&relay, ANN).await.starts_with("250 "));
        }
        seconds(begun)
    };
    assert!((1.9..2.3).contains(&ten().await), "five a second");
    tokio::time::advance(Duration::from_secs(10)).await;
    ten().await;
    tokio::time::advance(Duration::from_mins(1)).await;
    for _ in 0..6 {
        ten().await;
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    assert!((0.8..1.1).contains(&ten().await), "ten a second");
}

/// Whoever has used up its own share waits; the others do not.
#[tokio::test(start_paused = true)]
async fn shares_are_apart() {
    let script = Script::new([]);
    let shares = ["providers.main.rate_per_principal=1/s", "providers.main.rate_per_sender_domain=1/m"];
    let relay = relay(&config(&shares), &script);
    let of = |principal: &str, sender: &str| {
        let mut transaction = transaction(MAIL, ANN);
        transaction.envelope.principal = Some(principal.to_owned());
        transaction.envelope.reverse_path = Some(crate::world::address(sender));
        let relay = Arc::clone(&relay);
        async move {
            let begun = Instant::now();
            let settled = relay.submit(transaction).await;
            settled.receipt.unwrap().written();
            (settled.reply.to_string(), seconds(begun))
        }
    };
    assert!(of("a", "x@one.example").await.1 < 0.1);
    assert!(of("b", "x@two.example").await.1 < 0.1);
    assert!((0.9..1.1).contains(&of("a", "x@three.example").await.1), "one a second");
    let (reply, _) = of("c", "x@one.example").await;
    assert!(reply.starts_with("451 4.4.5 ") && reply.contains("of this sender's domain"), "{reply}");
}

/// Who shares a share waits in the order of arrival, and names that nobody knows keep nobody out whom the relay knows.
#[tokio::test(start_paused = true)]
async fn shares_keep_the_order_and_their_names() {
    let shares = Arc::new(KeyedLimiter::new("1/s".parse::<Rate>().unwrap()));
    let far = Instant::now() + Duration::from_hours(1);
    let begun = Instant::now();
    let order = Mutex::new(Vec::new());
    let waits = (0..5).map(async |n| {
        shares.acquire(&"app", 1, far).await.unwrap();
        order.lock().unwrap().push((n, seconds(begun).round()));
    });
    futures_util::future::join_all(waits).await;
    assert_eq!(*order.lock().unwrap(), [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]);

    let shares = KeyedLimiter::new("100/h".parse::<Rate>().unwrap());
    let now = Instant::now();
    for n in 0..10_000 {
        shares.acquire(&n, 1, now).await.unwrap();
    }
    assert!(shares.acquire(&10_000, 1, now).await.is_err(), "there is an end of names");
    shares.acquire(&5, 1, now).await.expect("a known one goes on");
    tokio::time::advance(Duration::from_hours(3)).await;
    shares.acquire(&10_000, 1, Instant::now()).await.expect("idle ones are forgotten");
}

/// An operator may tell it otherwise; what is told decides what else happens.
#[tokio::test(start_paused = true)]
async fn the_table_can_be_changed() {
    let changed = [
        "providers.main.replies.bad-content=451 4.6.0",
        "providers.main.replies.server_error=550 5.3.0 yes",
        "providers.main.replies.unreachable=no",
    ];
    let replies_to = async |answer: Answer| {
        let script = Script::new([answer]);
        let reply = submit(&relay(&config(&changed), &script), ANN).await;
        (reply, script.requests())
    };
    let (reply, requests) = replies_to(Answer::status(422)).await;
    assert!(reply.starts_with("451 4.6.0 ") && requests == 1, "{reply}");
    let (reply, requests) = replies_to(Answer::status(500)).await;
    assert!(reply.starts_with("250 ") && requests == 2, "{reply}");
    let (reply, requests) = replies_to(Answer::NotSent(Kind::Unreachable)).await;
    assert!(reply.starts_with("451 4.4.1 ") && requests == 1, "{reply}");
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
    // A gateway that got no answer knows as little; a 500 is the API's own.
    for (status, told) in [(502, "250 "), (504, "250 "), (500, "451 4.3.0 ")] {
        let script = Script::new([Answer::status(status)]);
        let reply = submit(&relay(&config(&["delivery.ambiguous=accept"]), &script), ANN).await;
        assert!(reply.starts_with(told), "{status}: {reply}");
    }
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
    let early = admit(&relay).unwrap_err().to_string();
    assert!(early.starts_with("451 4.3.5 ") && early.contains("paused, next try in "), "{early}");
    assert!(submit(&relay, ANN).await.starts_with("451 4.3.5 "));
    assert_eq!(script.requests(), 1);
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(admit(&relay).is_ok(), "a probe is due");
    assert_eq!(trouble(&relay), None, "who asks whether it is ready has to send the probe here");
    assert!(submit(&relay, ANN).await.starts_with("451 4.3.5 "));
    assert!(admit(&relay).is_err(), "the probe failed");
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(submit(&relay, ANN).await.starts_with("250 "));
    assert!(admit(&relay).is_ok());
    assert_eq!(trouble(&relay), None);
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_open_the_breaker() {
    let script = Script::new(vec![Answer::status(500); 5]);
    let relay = relay(&config(&[]), &script);
    for n in 0..5 {
        assert!(admit(&relay).is_ok(), "after {n} failures");
        submit(&relay, ANN).await;
    }
    assert!(admit(&relay).is_err());
    assert!(trouble(&relay).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_refused_mail_says_nothing_of_the_account() {
    let script = Script::new(vec![Answer::status(400); 9]);
    let relay = relay(&config(&[]), &script);
    for _ in 0..9 {
        assert!(submit(&relay, ANN).await.starts_with("554 5.6.0 "));
    }
    assert!(admit(&relay).is_ok());
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

const NEXUS: &[&str] = &["providers.main.kind=nexuspromail"];

fn taken(id: &str) -> Answer {
    Answer::Status(200, Vec::new(), format!("{{\"message_id\":\"{id}\"}}"))
}

/// Promise 4: the client's next try sends only the rest.
#[tokio::test(start_paused = true)]
async fn a_retry_of_the_client_mails_nobody_twice() {
    let script = Script::new([taken("m1"), Answer::status(500), taken("m3"), taken("m2")]);
    let relay = relay(&config(NEXUS), &script);
    let all = &["a@example.net", "b@example.net", "c@example.net"];
    assert!(submit(&relay, all).await.starts_with("451 "));
    assert_eq!(relay.unfinished(), 1);
    let reply = submit(&relay, all).await;
    assert!(reply.starts_with("250 2.0.0 Ok m1 m2 m3 "), "{reply}");
    assert_eq!(script.requests(), 4);
    assert_eq!(script.seen()[3]["to"]["email"], "b@example.net");
    assert_eq!(relay.unfinished(), 0, "the final reply was written");
}

/// Promise 8: a bug is temporary; and it does not make forget who was accepted beside it.
#[tokio::test(start_paused = true)]
async fn a_bug_in_one_request_mails_nobody_twice() {
    let script = Script::new([taken("m1"), Answer::Panic, taken("m3"), taken("m2")]);
    let transport: Arc<dyn Transport> = script.clone();
    let metrics = Arc::new(Metrics::default());
    let keys = Arc::new(Recent::new(Duration::from_mins(10)).unwrap());
    let relay = relay_over(&config(NEXUS), &transport, &keys, &metrics);
    let all = &["a@example.net", "b@example.net", "c@example.net"];
    let reply = submit(&relay, all).await;
    assert!(reply.starts_with("451 4.3.0 "), "{reply}");
    assert_eq!(metrics.panics.get(), 1);
    let reply = submit(&relay, all).await;
    assert!(reply.starts_with("250 2.0.0 Ok m1 m2 m3 "), "{reply}");
    assert_eq!(script.seen()[3]["to"]["email"], "b@example.net");
    assert_eq!(script.requests(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_same_mail_twice_on_purpose_goes_out_twice() {
    let script = Script::new([]);
    let relay = relay(&config(&[]), &script);
    for n in 1..=2 {
        assert!(submit(&relay, ANN).await.starts_with("250 "));
        assert_eq!(script.requests(), n);
    }
    assert_eq!(relay.unfinished(), 0);
}

/// The API took it, and the client was gone before it was told: its next try is told, and nothing is sent.
#[tokio::test(start_paused = true)]
async fn a_client_that_was_gone_is_told_the_next_time() {
    let script = Script::new([Answer::ok("m1")]);
    let relay = relay(&config(&[]), &script);
    let untold = Arc::clone(&relay).submit(transaction(MAIL, ANN)).await;
    drop(untold);
    assert_eq!(relay.unfinished(), 1);
    let reply = submit(&relay, ANN).await;
    assert!(reply.starts_with("250 2.0.0 Ok m1 "), "{reply}");
    assert_eq!((script.requests(), relay.unfinished()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_ledger_entry_does_not_outlive_a_day() {
    let script = Script::new([taken("m1"), Answer::status(500)]);
    let relay = relay(&config(NEXUS), &script);
    let both = &["a@example.net", "b@example.net"];
    assert!(submit(&relay, both).await.starts_with("451 "));
    tokio::time::advance(Duration::from_hours(25)).await;
    submit(&relay, both).await;
    assert_eq!(script.requests(), 4, "nobody is remembered any more");
}

/// Each round takes all refused recipients out at once, and is no failed attempt.
#[tokio::test(start_paused = true)]
async fn many_refused_recipients_do_not_keep_the_good_one_from_its_mail() {
    let refusal = |places: &[usize]| {
        let errors: Vec<String> = places
            .iter()
            .map(|n| format!(r#"{{"message":"no address","field":"personalizations.{n}.to.0.email"}}"#))
            .collect();
        Answer::Status(400, Vec::new(), format!(r#"{{"errors":[{}]}}"#, errors.join(",")))
    };
    let script = Script::new([refusal(&[1, 2]), refusal(&[1]), refusal(&[1]), refusal(&[1]), refusal(&[1])]);
    let relay = relay(&config(&[]), &script);
    let all: Vec<String> = (0..7).map(|n| format!("r{n}@example.net")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let start = Instant::now();
    let reply = submit(&relay, &all).await;
    assert!(reply.starts_with("250 ") && reply.contains("1 of 7"), "{reply}");
    assert!(seconds(start) < 0.1, "nothing to wait for");
}

/// A refused recipient that is to be told 451, and tried again, keeps nobody else from the mail.
#[tokio::test(start_paused = true)]
async fn who_was_sorted_out_is_done_whatever_is_told() {
    let words = r#"{"errors":[{"message":"no address","field":"personalizations.0.to.0.email"}]}"#;
    let script = Script::new([Answer::Status(400, Vec::new(), words.into())]);
    let relay = relay(&config(&["providers.main.replies.bad-recipient=451 4.1.3 yes"]), &script);
    let reply = submit(&relay, &["ann@example.net", "bob@example.net"]).await;
    assert!(reply.starts_with("451 4.1.3 "), "{reply}");
    assert_eq!(script.requests(), 2);
    assert_eq!(script.seen()[1]["personalizations"][0]["to"][0]["email"], "bob@example.net");
    // The client comes again, for the one that is left.
    assert!(submit(&relay, &["ann@example.net", "bob@example.net"]).await.starts_with("250 "));
    assert_eq!(script.seen()[2]["personalizations"].as_array().unwrap().len(), 1);
}

/// A shared To with one suppressed address: nobody else is told that it is suppressed.
#[tokio::test(start_paused = true)]
async fn a_suppressed_recipient_among_others_is_refused_alone() {
    let words = r#"{"detail":"Recipient bob@example.net is suppressed"}"#;
    let script = Script::new([Answer::Status(422, Vec::new(), words.into())]);
    let reply = submit(&relay(&config(&[]), &script), &["ann@example.net", "bob@example.net"]).await;
    assert!(reply.starts_with("250 ") && reply.contains("1 of 2 recipients; others suppressed"), "{reply}");
    // Each is told what was said of it.
    for (words, told) in
        [(["is suppressed", "is no address"], "550 5.7.1 "), (["is no address", "is suppressed"], "550 5.1.3 ")]
    {
        let error = |n: usize| format!(r#"{{"message":"{}","field":"personalizations.{n}.to.0.email"}}"#, words[n]);
        let errors = format!(r#"{{"errors":[{},{}]}}"#, error(0), error(1));
        let script = Script::new([Answer::Status(400, Vec::new(), errors)]);
        let reply = submit(&relay(&config(&[]), &script), &["ann@example.net", "bob@example.net"]).await;
        assert!(reply.starts_with(told), "{reply}");
    }
    // What the sender asked for is at fault, and nobody's address.
    let group = r#"{"errors":[{"message":"Unknown suppression group 7","field":"asm.group_id"}]}"#;
    let script = Script::new([Answer::Status(400, Vec::new(), group.into())]);
    let reply = submit(&relay(&config(&[]), &script), &["ann@example.net"]).await;
    assert!(reply.starts_with("554 5.6.0 "), "{reply}");
    let script = Script::new([Answer::Status(422, Vec::new(), r#"{"detail":"a recipient is suppressed"}"#.into())]);
    let reply = submit(&relay(&config(&[]), &script), &["ann@example.net", "bob@example.net"]).await;
    assert!(reply.starts_with("554 5.6.0 "), "nobody was named: {reply}");
}

/// The others wait for what the probe finds, instead of being refused for what was the matter before.
#[tokio::test(start_paused = true)]
async fn a_probe_with_siblings_delivers_all_of_them() {
    let script = Script::new([Answer::status(401), Answer::After(Duration::from_secs(1), Box::new(taken("m1")))]);
    let relay = relay(&config(NEXUS), &script);
    assert!(submit(&relay, ANN).await.starts_with("451 4.3.5 "));
    tokio::time::advance(Duration::from_secs(11)).await;
    let reply = submit(&relay, &["a@example.net", "b@example.net", "c@example.net"]).await;
    assert!(reply.starts_with("250 "), "{reply}");
}

/// After a pause mail goes at the account's rate, not all of it at one moment.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_pause_is_no_burst() {
    let script = Script::new([Answer::throttled(5)]);
    let relay = relay(&config(&["providers.main.rate=1/s", "providers.main.burst=1"]), &script);
    let start = Instant::now();
    let replies = futures_util::future::join_all((0..5).map(|_| submit(&relay, ANN))).await;
    assert!(replies.iter().all(|r| r.starts_with("250 ")), "{replies:?}");
    assert!(seconds(start) >= 9.0, "five requests at one a second after 5 s: {}", seconds(start));
}

/// A conflict is about one mail, and so is the pause that comes with it.
#[tokio::test(start_paused = true)]
async fn a_pause_for_one_mail_pauses_nobody() {
    let conflict = Answer::Status(409, vec![("retry-after".into(), "600".into())], String::new());
    let script = Script::new([conflict]);
    let relay = relay(&config(&[]), &script);
    assert!(submit(&relay, ANN).await.starts_with("451 4.3.0 "));
    assert!(admit(&relay).is_ok() && trouble(&relay).is_none());
    assert!(submit(&relay, ANN).await.starts_with("250 "));
}

/// 413 may carry Retry-After (RFC 9110 §15.5.14); it is about that mail.
#[tokio::test(start_paused = true)]
async fn a_permanent_refusal_pauses_nobody() {
    let answer = Answer::Status(413, vec![("retry-after".into(), "3600".into())], String::new());
    let script = Script::new([answer]);
    let relay = relay(&config(&[]), &script);
    assert!(submit(&relay, ANN).await.starts_with("552 "));
    assert!(admit(&relay).is_ok() && trouble(&relay).is_none());
    assert!(submit(&relay, ANN).await.starts_with("250 "));
}

async fn submit_to(relay: &Arc<Relay>, recipient: &str) -> String {
    submit(relay, &[recipient]).await
}

/// A client that tries again while its first try runs is told of that one's outcome; nothing is sent twice.
#[tokio::test(start_paused = true)]
async fn the_second_try_waits_for_the_first() {
    let slow = Answer::After(Duration::from_secs(9), Box::new(Answer::ok("m1")));
    let script = Script::new([slow]);
    let relay = relay(&config(&[]), &script);
    let first = async {
        // Its client is gone when the reply comes.
        drop(Arc::clone(&relay).submit(transaction(MAIL, ANN)).await);
    };
    let second = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        submit(&relay, ANN).await
    };
    // Another recipient's mail is another mail.
    let ((), second, other) = tokio::join!(first, second, submit_to(&relay, "bob@example.net"));
    assert!(second.starts_with("250 2.0.0 Ok m1 ") && other.starts_with("250 "), "{second} {other}");
    assert_eq!((script.requests(), relay.unfinished(), relay.under_way()), (2, 0, 0));
}

/// Two tries whose clients are gone, and a third: the second one must not go on after the third, whose client has been told
/// and for which nothing is remembered any more.
#[tokio::test(start_paused = true)]
async fn tries_have_their_turns_in_the_order_of_arrival() {
    let slow = Answer::After(Duration::from_secs(9), Box::new(Answer::ok("m1")));
    let script = Script::new([slow]);
    let relay = relay(&config(&[]), &script);
    let gone = async |after: u64| {
        tokio::time::sleep(Duration::from_secs(after)).await;
        drop(Arc::clone(&relay).submit(transaction(MAIL, ANN)).await);
    };
    let last = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        submit(&relay, ANN).await
    };
    // Polled in this order when the first one ends.
    let (reply, (), ()) = futures_util::future::join3(last, gone(1), gone(0)).await;
    assert!(reply.starts_with("250 2.0.0 Ok m1 "), "{reply}");
    assert_eq!((script.requests(), relay.unfinished(), relay.under_way()), (1, 0, 0));
}

/// Two on purpose, at one moment: both go out, one after the other.
#[tokio::test(start_paused = true)]
async fn two_equal_mails_at_one_moment_both_go_out() {
    let script = Script::new([]);
    let relay = relay(&config(&[]), &script);
    let replies = tokio::join!(submit(&relay, ANN), submit(&relay, ANN));
    assert!(replies.0.starts_with("250 ") && replies.1.starts_with("250 "));
    assert_eq!((script.requests(), relay.unfinished(), relay.under_way()), (2, 0, 0));
}

/// A first try whose reply is not on the wire in the time of the second.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_first_try_is_told_in_time() {
    let script = Script::new([]);
    let relay = relay(&config(&[]), &script);
    let first = Arc::clone(&relay).submit(transaction(MAIL, ANN)).await;
    let begun = Instant::now();
    let second = Arc::clone(&relay).submit(transaction(MAIL, ANN)).await;
    let reply = second.reply.to_string();
    assert!(reply.starts_with("451 4.3.0 The same mail is under way") && second.receipt.is_none(), "{reply}");
    assert_eq!((seconds(begun).round(), script.requests()), (25.0, 1));
    first.receipt.unwrap().written();
    assert_eq!((relay.unfinished(), relay.under_way()), (0, 0));
}

/// The first try takes so long that the second one has no time left for an attempt when its turn comes.
#[tokio::test(start_paused = true)]
async fn who_has_its_turn_late_is_told_in_time() {
    let script = Script::new([Answer::Never]);
    let relay = relay(&config(&["providers.main.kind=nexuspromail", "delivery.deadline=12s"]), &script);
    let second = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        (submit(&relay, ANN).await, seconds(begun))
    };
    let (first, (second, took)) = tokio::join!(submit(&relay, ANN), second);
    assert!(first.starts_with("451 4.4.2 "), "{first}");
    assert!(second.starts_with("452 4.3.1 ") && second.contains("leaves no time"), "{second}");
    assert!(took <= 12.0, "{took}");
    assert_eq!(script.requests(), 1);
}

/// Many recipients at one call each, and a slow API: whoever has no time left is told to come again, and nobody gets two.
#[tokio::test(start_paused = true)]
async fn many_recipients_keep_to_the_deadline() {
    let slow = Answer::After(Duration::from_secs(8), Box::new(taken("m1")));
    let script = Script::new(vec![slow; 300]);
    let relay = relay(&config(NEXUS), &script);
    let all: Vec<String> = (0..100).map(|n| format!("r{n}@example.net")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut replies = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        replies.push(submit(&relay, &all).await[..3].to_owned());
        assert!(seconds(begun) <= 25.0, "{}", seconds(begun));
    }
    assert_eq!(replies, ["452", "452", "250"]);
    let mut sent: Vec<String> = script.seen().iter().map(|body| body["to"]["email"].to_string()).collect();
    sent.sort();
    sent.dedup();
    assert_eq!((script.requests(), sent.len()), (100, 100));
}

/// However many accounts a route has: the first ones are tried, as many as there is time for.
#[tokio::test(start_paused = true)]
async fn failover_keeps_to_the_deadline() {
    for (deadline, tried, took) in [("12s", 1, 5.0), ("25s", 4, 20.0)] {
        let account = |name: &str| {
            let settings =
                ["kind=scaisend".to_owned(), "api_key=x".to_owned(), format!("base_url=https://{name}.test")];
            settings.map(|setting| format!("providers.{name}.{setting}"))
        };
        let mut flags: Vec<String> = ["main", "b", "c", "d"].iter().flat_map(|name| account(name)).collect();
        flags.push("routes=[{ use = [\"main\", \"b\", \"c\", \"d\"] }]".to_owned());
        flags.push(format!("delivery.deadline={deadline}"));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let dead = Answer::After(Duration::from_secs(5), Box::new(Answer::NotSent(Kind::Unreachable)));
        let script = Script::new(vec![dead; 9]);
        let begun = Instant::now();
        let reply = submit(&relay(&config(&flags), &script), ANN).await;
        assert!(reply.starts_with("451 4.4.1 "), "{reply}");
        assert_eq!((script.requests(), seconds(begun).round()), (tried, took), "{deadline}");
        assert_eq!(script.hosts()[0], "main.test");
    }
}

/// One message in two transactions, as a client sends it that has many recipients: neither forgets for the other.
#[tokio::test(start_paused = true)]
async fn two_parts_of_one_message_are_remembered_apart() {
    let script = Script::new([taken("m1"), Answer::status(500), taken("m2"), Answer::status(500)]);
    let relay = relay(&config(NEXUS), &script);
    let (one, other) = (&["a@example.net", "b@example.net"], &["c@example.net", "d@example.net"]);
    for part in [one, other] {
        assert!(submit(&relay, part).await.starts_with("451 "));
    }
    assert_eq!(relay.unfinished(), 1, "one message");
    for part in [one, other] {
        assert!(submit(&relay, part).await.starts_with("250 "));
    }
    assert_eq!((script.requests(), relay.unfinished()), (6, 0));
}

/// A client's own key that is throttled pauses itself: at MAIL if it takes long, else the mail waits. Others go on.
#[tokio::test(start_paused = true)]
async fn a_throttled_key_of_a_client_pauses_that_client_alone() {
    let script = Script::new([Answer::throttled(600), taken("m1"), Answer::throttled(5), taken("m2"), taken("m3")]);
    let relay = relay(&config(&["smtp.auth.required=true", "smtp.auth.passthrough=true"]), &script);
    let by = |key: &str, recipient: &str| {
        let mut transaction = transaction(MAIL, &[recipient]);
        transaction.origin.api_key = Some(Secret::new(key));
        transaction
    };
    let send = async |key: &str, recipient: &str| {
        let settled = Arc::clone(&relay).submit(by(key, recipient)).await;
        settled.receipt.unwrap().written();
        settled.reply.to_string()
    };
    let admitted = |key: &str| {
        let transaction = by(key, "ann@example.net");
        relay.admit(&transaction.origin, &transaction.envelope).map_err(|reply| reply.to_string())
    };
    assert!(send("one", "a@example.net").await.starts_with("451 4.4.5 "));
    assert!(
        admitted("one").unwrap_err().starts_with("451 4.4.5 The mail API limits the rate; try again later: the key")
    );
    assert!(send("one", "a@example.net").await.starts_with("451 4.4.5 ") && script.requests() == 1);
    assert!(admitted("other").is_ok() && trouble(&relay).is_none());
    assert!(send("other", "b@example.net").await.starts_with("250 2.0.0 Ok m1 "));
    tokio::time::advance(Duration::from_secs(601)).await;
    assert!(admitted("one").is_ok());
    // Both wait for the end of the short pause, the one that was throttled and the one behind it.
    let begun = Instant::now();
    let behind = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        send("one", "d@example.net").await
    };
    let (first, second) = tokio::join!(send("one", "c@example.net"), behind);
    assert!(first.starts_with("250 ") && second.starts_with("250 "), "{first} {second}");
    assert!((5.0..5.5).contains(&seconds(begun)) && script.requests() == 5, "{}", seconds(begun));
}

/// The gauges count what is there, and nothing when it is over; a task that is given up gives its share back.
#[tokio::test(start_paused = true)]
async fn gauges_rise_and_return() {
    let script = Script::new([Answer::Never, taken("m1"), Answer::status(500)]);
    let metrics = Arc::<Metrics>::default();
    let refused_keys = Arc::new(Recent::new(Duration::from_mins(10)).unwrap());
    let transport: Arc<dyn Transport> = script.clone();
    let relay = relay_over(&config(NEXUS), &transport, &refused_keys, &metrics);
    let label = AccountLabel { account: "main".to_owned() };
    let gauges = || {
        let in_flight = metrics.requests_in_flight.get_or_create(&label).get();
        [in_flight, metrics.ledger_under_way.get(), metrics.ledger_unfinished.get()]
    };
    let cut_short = tokio::time::timeout(Duration::from_secs(1), submit(&relay, ANN));
    let (_, during) = tokio::join!(cut_short, async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        gauges()
    });
    assert_eq!((during, gauges()), ([1, 1, 0], [0, 0, 0]));
    let both = &["a@example.net", "b@example.net"];
    assert!(submit(&relay, both).await.starts_with("451 "));
    assert_eq!(gauges(), [0, 0, 1]);
    assert!(submit(&relay, both).await.starts_with("250 "));
    assert_eq!(gauges(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_max_in_flight_is_told_in_time_and_permits_come_back() {
    let slow = Answer::After(Duration::from_secs(9), Box::new(Answer::ok("m")));
    let script = Script::new(vec![slow; 9]);
    let relay = relay(&config(&["providers.main.max_in_flight=1"]), &script);
    let start = Instant::now();
    let recipients = ["a@example.net", "b@example.net", "c@example.net", "d@example.net"];
    let replies = futures_util::future::join_all(recipients.each_ref().map(|r| submit_to(&relay, r))).await;
    assert_eq!(replies.iter().filter(|r| r.starts_with("250 ")).count(), 2, "{replies:?}");
    assert!(replies.iter().filter(|r| r.starts_with("452 4.3.1 ")).count() == 2 && seconds(start) <= 25.0);
    assert!(submit(&relay, ANN).await.starts_with("250 "));
}
