//! Laws: what holds for every envelope, outcome, pause and address.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sidepost::address::Address;
use sidepost::config::{Fanout, Unsupported};
use sidepost::controls::Capacity;
use sidepost::envelope::{Envelope, TransactionId};
use sidepost::message::{Mailbox, Message};
use sidepost::outcome::{Cause, Kind, Outcome, TABLE, Verdict, settle};
use sidepost::plan::{Terms, plan};
use sidepost::provider::{Batch, Limits, Pieces};
use sidepost::relay::breaker::{Breaker, Pass};
use sidepost::relay::retry::{Attempts, RetryBudget, RetryPolicy};

use crate::properties;

fn an_address() -> impl Strategy<Value = Address> {
    // Few letters, so that recipients and header addresses meet; both cases, so that some only read alike.
    ("[abAB]{1,2}", "[xy]").prop_map(|(local, host)| Address::parse(&format!("{local}@{host}.example")).unwrap())
}

fn mailboxes() -> impl Strategy<Value = Vec<Mailbox>> {
    prop::collection::vec(an_address().prop_map(|address| Mailbox { name: None, address }), 0..6)
}

fn an_envelope() -> impl Strategy<Value = Envelope> {
    prop::collection::vec(an_address(), 1..12).prop_map(|all| {
        let mut recipients: Vec<Address> = Vec::new();
        for address in all {
            if !recipients.contains(&address) {
                recipients.push(address);
            }
        }
        Envelope { recipients, ..Envelope::default() }
    })
}

fn some_limits() -> impl Strategy<Value = Limits> {
    (1usize..8, any::<bool>()).prop_map(|(recipients, shows_recipients)| Limits {
        vendor: "Test",
        recipients,
        shows_recipients: shows_recipients && recipients > 1,
        attachments: 1,
        headers: true,
        reply_to: 1,
        body: 1,
        controls: Capacity::NONE,
    })
}

fn terms(limits: &Limits, fanout: Fanout, apart: bool) -> Terms<'_> {
    Terms { limits, fanout, unsupported: Unsupported::Degrade, utf8_addresses: false, apart }
}

fn a_fanout() -> impl Strategy<Value = Fanout> {
    prop_oneof![Just(Fanout::Auto), Just(Fanout::Single), Just(Fanout::PerRecipient)]
}

fn an_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        prop::option::of("[a-z]{1,200}").prop_map(|id| Outcome::Accepted { id }),
        (0..TABLE.len(), ".{0,300}").prop_map(|(n, detail)| Outcome::from_cause(Cause::new(TABLE[n].kind, detail))),
    ]
}

fn verdicts() -> impl Strategy<Value = Vec<Verdict>> {
    prop::collection::vec((an_address(), an_outcome()), 1..20).prop_map(|all| {
        all.into_iter().map(|(recipient, outcome)| Verdict { recipient, account: "main".into(), outcome }).collect()
    })
}

fn id() -> TransactionId {
    TransactionId::new(uuid::Uuid::nil())
}

fn reads_like_any(address: &Address, list: &[Mailbox]) -> bool {
    list.iter().any(|m| m.address.reads_like(address))
}

proptest! {
    /// A text becomes the same JSON string whether it is escaped whole or while it is sent, and its length is known before.
    #[test]
    fn a_long_text_is_sent_as_the_same_json(unit in "[a\"\\\\\u{1}\n\u{7f}é€😀]{1,9}", times in 1usize..20_000) {
        let text = Arc::new(unit.repeat(times));
        let mut pieces = Pieces::of(br#"{"a":1}"#.to_vec());
        pieces.raw(",\"b\":\"").text(&text).raw("\"");
        let payload = pieces.end();
        let json = payload.to_vec();
        prop_assert_eq!(json.len(), payload.len());
        prop_assert!(payload.chunks().all(|chunk| chunk.len() <= 6 * 32 * 1024 + 64));
        let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(read["b"].as_str().unwrap(), text.as_str());
    }

    /// Promise 2: the envelope decides who gets mail.
    #[test]
    fn each_envelope_recipient_is_in_exactly_one_batch(
        envelope in an_envelope(), to in mailboxes(), cc in mailboxes(), limits in some_limits(), fanout in a_fanout(),
        apart in any::<bool>()
    ) {
        let message = Message { to, cc, ..Message::default() };
        let plan = plan(&envelope, &message, terms(&limits, fanout, apart));
        let mut sent: Vec<&Address> = plan.batches.iter().flat_map(Batch::recipients).collect();
        let mut wanted: Vec<&Address> = envelope.recipients.iter().collect();
        sent.sort();
        wanted.sort();
        prop_assert_eq!(sent, wanted);
        for batch in &plan.batches {
            prop_assert!(batch.len() <= limits.recipients);
            prop_assert!(batch.personalizations.iter().all(|group| !group.to.is_empty()));
        }
    }

    /// Promise 2: whoever is in the envelope only is shown to nobody else.
    #[test]
    fn a_hidden_recipient_is_alone_in_its_message(
        envelope in an_envelope(), to in mailboxes(), cc in mailboxes(), limits in some_limits(), fanout in a_fanout(),
        apart in any::<bool>()
    ) {
        let message = Message { to, cc, ..Message::default() };
        for batch in plan(&envelope, &message, terms(&limits, fanout, apart)).batches {
            for group in batch.personalizations {
                let members: Vec<&Mailbox> = group.mailboxes().collect();
                let hidden = members.iter().any(|m| !reads_like_any(&m.address, &message.to) && !reads_like_any(&m.address, &message.cc));
                prop_assert!(!hidden || members.len() == 1);
                let distinct: BTreeSet<String> = members.iter().map(|m| m.address.as_str().to_ascii_lowercase()).collect();
                prop_assert_eq!(distinct.len(), members.len(), "the APIs refuse twins in one group");
            }
        }
    }

    #[test]
    fn settling_does_not_depend_on_the_order(verdicts in verdicts(), strict in any::<bool>()) {
        let mut turned = verdicts.clone();
        turned.reverse();
        let (one, other) = (settle(&verdicts, id(), strict), settle(&turned, id(), strict));
        prop_assert_eq!(one.class(), other.class());
        let has = |pick: fn(&Outcome) -> bool| verdicts.iter().any(|v| pick(&v.outcome));
        let deferred = has(|o| matches!(o, Outcome::Deferred(_)));
        let accepted = has(|o| matches!(o, Outcome::Accepted { .. }));
        let rejected = has(|o| matches!(o, Outcome::Rejected(_)));
        let class = if deferred { 4 } else if accepted && !(strict && rejected) { 2 } else { 5 };
        prop_assert_eq!(one.class(), class);
    }

    #[test]
    fn a_reply_is_one_clean_line(verdicts in verdicts()) {
        let reply = settle(&verdicts, id(), false);
        let mut wire = Vec::new();
        reply.write_to(&mut wire);
        prop_assert!(wire.len() <= 512 && wire.ends_with(b"\r\n"));
        prop_assert!(wire[..wire.len() - 2].iter().all(|b| (0x20..0x7f).contains(b)));
        prop_assert_eq!(u16::from(reply.enhanced.unwrap().0), reply.class());
        prop_assert!(String::from_utf8_lossy(&wire).contains(&id().to_string()), "the id is never cut off");
    }

    /// An outage costs at most the supply and a fifth of the requests, whatever their order.
    #[test]
    fn retries_are_a_share_of_the_requests(tries in prop::collection::vec(any::<bool>(), 0..2000)) {
        let mut budget = RetryBudget::default();
        let (mut requests, mut retries) = (0, 0);
        for is_retry in tries {
            if is_retry {
                retries += u32::from(budget.spend());
            } else {
                budget.earn();
                requests += 1;
            }
            prop_assert!(retries <= 100 + requests / 5);
        }
    }

    #[test]
    fn the_sum_of_waits_never_passes_the_deadline(
        max_attempts in 1u32..12, timeout in 1u64..20_000, deadline in 1u64..60_000, chance in 0.0f64..1.0,
        asked in prop::option::of(0u64..100_000), took in 0u64..20_000, kind in 0..TABLE.len()
    ) {
        let policy = RetryPolicy { max_attempts, attempt_timeout: Duration::from_millis(timeout) };
        let cause = Cause::new(TABLE[kind].kind, "").with_retry_after(asked.map(Duration::from_millis));
        let deadline = Duration::from_millis(deadline);
        let mut spent = Duration::from_millis(took.min(timeout));
        let mut attempts = Attempts { made: 1, pause: Duration::ZERO };
        while let Some(pause) = policy.next(attempts, &cause, deadline.saturating_sub(spent), chance) {
            spent += pause + policy.attempt_timeout;
            prop_assert!(attempts.made < max_attempts);
            prop_assert!(spent <= deadline);
            attempts = Attempts { made: attempts.made + 1, pause };
        }
    }

    #[test]
    fn whatever_parses_as_an_address_is_canonical(text in "[a-c.\"\\\\ <>@()\\[\\]:-]{0,12}@?[a-c.\\[\\]0-9:-]{0,12}") {
        properties::address::holds(text.as_bytes());
    }

    /// One probe at a time, whatever is reported and whatever pauses are asked for; who meets a running probe waits for it.
    #[test]
    fn an_open_breaker_lets_one_probe_through(
        reports in prop::collection::vec((0..=TABLE.len(), prop::option::of(0u64..20)), 1..40)
    ) {
        let start = Instant::now();
        let mut breaker = Breaker::new(Duration::from_secs(10), Duration::from_hours(1));
        let mut held_until = start;
        for (n, (kind, pause)) in reports.iter().enumerate() {
            let now = start + Duration::from_secs(n as u64);
            match TABLE.get(*kind) {
                Some(row) => {
                    let pause = pause.map(Duration::from_secs);
                    // A pause that comes with what is wrong with one mail is that mail's.
                    if row.code < 500 && !matches!(row.kind, Kind::Pending | Kind::Unexpected | Kind::Unsent | Kind::Overloaded) {
                        held_until = held_until.max(now + pause.unwrap_or_default());
                    }
                    breaker.failed(&Cause::new(row.kind, "").with_retry_after(pause), now)
                }
                None => breaker.answered(),
            };
            let far = now + Duration::from_hours(10);
            if *kind == TABLE.len() {
                prop_assert!(breaker.trouble(now, far).is_none(), "an account that answers is not in trouble");
            }
            if let Pass::At(when) = breaker.look(now, far) {
                prop_assert!(when == held_until, "the longest pause counts");
            }
        }
        let later = start + Duration::from_secs(1000);
        // Before any pause was over.
        let was_open = breaker.trouble(start, start + Duration::from_hours(10)).is_some();
        prop_assert_eq!(breaker.enter(later, later), Pass::Now, "a probe is due");
        let second = breaker.enter(later, later + Duration::from_secs(1));
        prop_assert_eq!(second == Pass::Now, !was_open, "no second probe: {:?}", second);
        prop_assert!(!matches!(second, Pass::Never(_)));
    }

    /// What happened to one mail is not told of another that was never sent.
    #[test]
    fn a_pause_is_temporary_and_says_nothing_of_others(kind in 0..TABLE.len(), pause in 0u64..10_000) {
        let now = Instant::now();
        let mut breaker = Breaker::new(Duration::from_secs(10), Duration::from_hours(1));
        for _ in 0..5 {
            breaker.failed(&Cause::new(TABLE[kind].kind, "").with_retry_after(Some(Duration::from_secs(pause))), now);
        }
        if let Pass::Never(cause) = breaker.look(now, now) {
            prop_assert!(cause.kind.row().code < 500 || TABLE[kind].code >= 500);
            prop_assert!(!matches!(cause.kind, Kind::Ambiguous | Kind::Interrupted | Kind::Gateway));
            prop_assert_eq!(cause.status, None);
        }
    }
}
