//! What the list is after some events, whichever order they come in, and however often.

use proptest::prelude::*;
use sidepost::feedback::{EventKind, Feedback};
use sidepost::store::{EventQuery, MessageRecord, Place, Store};
use sidepost::suppression::{Policy, ScopeOfEvents, Suppression};

use super::{Folder, at, event, policy, settings, whole_list};

/// By which account, and what.
type Come = (&'static str, Feedback);

fn come() -> impl Strategy<Value = Come> {
    let kind = prop::sample::select(vec![
        EventKind::BouncedHard,
        EventKind::BouncedSoft,
        EventKind::BouncedSoft,
        EventKind::BouncedSoft,
        EventKind::Delivered,
        EventKind::Complained,
        EventKind::Unsubscribed,
        EventKind::Unsubscribed,
        EventKind::Resubscribed,
        EventKind::Dropped,
        EventKind::Opened,
    ]);
    let recipient = prop::sample::select(vec!["ann@example.net", "Ann@example.net", "ben@example.net"]);
    let account = prop::sample::select(vec!["main", "main", "backup"]);
    // Few moments: some happen at the same.
    (account, kind, recipient, 0..12_u64, prop::option::of(0..4)).prop_map(
        |(account, kind, recipient, seconds, mail)| {
            let mut event = event("", kind, recipient, seconds);
            event.message_id = mail.map(|mail| format!("up-{mail}"));
            (account, event)
        },
    )
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let scope = [ScopeOfEvents::Account, ScopeOfEvents::SenderDomain, ScopeOfEvents::Everywhere];
    (prop::sample::select(scope.to_vec()), any::<bool>(), 0..4_u32).prop_map(|(scope, fold_local_part, limit)| Policy {
        scope,
        fold_local_part,
        soft_bounce_limit: limit,
        ..policy()
    })
}

/// Some events, each with an id of its own, and the same ones in another order, some of them twice.
fn orders() -> impl Strategy<Value = (Vec<Come>, Vec<Come>)> {
    let events = prop::collection::vec(come(), 1..30).prop_map(|mut events| {
        for (number, (_, event)) in (0..).zip(&mut events) {
            event.event_id = format!("e{number:02}");
        }
        events
    });
    events.prop_flat_map(|events| {
        let twice: Vec<Come> = events.iter().step_by(3).cloned().collect();
        let all = [events.clone(), twice].concat();
        (Just(events), Just(all).prop_shuffle())
    })
}

/// The mails that some events are about: two of each domain, one only of the other account.
fn log(store: &Store) {
    let mails = [("a", "main"), ("b", "main"), ("a", "backup"), ("b", "main")];
    let line = |(number, (domain, account)): (usize, (&str, &str))| MessageRecord {
        id: format!("msg_{number}"),
        at: at(0),
        client: None,
        principal: None,
        sender: Some(format!("app@{domain}.example.com")),
        recipient: "ann@example.net".to_owned(),
        account: account.to_owned(),
        provider_id: Some(format!("up-{number}")),
        outcome: "accepted".to_owned(),
        reply: "250 2.0.0 Ok".to_owned(),
        bytes: 1,
        last_event: None,
    };
    store.log(mails.into_iter().enumerate().map(line).collect());
}

async fn act(store: &Store, policy: &Policy) {
    while store.act(policy, 4).await.unwrap().events > 0 {}
}

/// The list after the events came like this, acted upon after every `step`; it has to be the same after a replay.
async fn list_after(events: &[Come], step: usize, policy: &Policy) -> Vec<Suppression> {
    let store = Store::open(&settings(Place::Memory), policy).unwrap();
    log(&store);
    for some in events.chunks(step) {
        for (account, event) in some {
            store.take(account, vec![event.clone()], at(100), false).await.unwrap();
        }
        act(&store, policy).await;
    }
    let list = whole_list(&store).await;
    for again in [EventQuery::default(), EventQuery { account: Some("main".to_owned()), ..EventQuery::default() }] {
        store.replay(again).await.unwrap();
        act(&store, policy).await;
        assert_eq!(whole_list(&store).await, list, "replayed");
    }
    for entry in &list {
        let found = store.suppressed(&entry.address, std::slice::from_ref(&entry.scope), at(100)).await.unwrap();
        assert!(found.is_some(), "{entry:?} is on the list and not found");
    }
    list
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_list_depends_on_what_happened_not_on_when_it_was_told(
        (events, others) in orders(), policy in some_policy(), step in 1..7_usize
    ) {
        let (one, other) = run(async {
            (list_after(&events, 1, &policy).await, list_after(&others, step, &policy).await)
        });
        prop_assert_eq!(one, other);
    }

    #[test]
    fn what_was_lifted_stays_off_whatever_is_replayed(events in orders(), policy in some_policy()) {
        run(async {
            let store = Store::open(&settings(Place::Memory), &policy).unwrap();
            for (account, event) in &events.0 {
                store.take(account, vec![event.clone()], at(100), false).await.unwrap();
            }
            act(&store, &policy).await;
            for address in ["ann@example.net", "Ann@example.net", "ben@example.net"] {
                store.lift(address, None, at(100)).await.unwrap();
            }
            store.replay(EventQuery::default()).await.unwrap();
            act(&store, &policy).await;
            assert_eq!(whole_list(&store).await, []);
        });
    }
}

/// The list, the kinds of what is on it, and the memory of what was done survive as they were.
#[tokio::test(start_paused = true)]
async fn thousands_of_events_replayed_twice_change_nothing() {
    let folder = Folder::new("replay");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let kinds = EventKind::ALL;
    let some = |number: usize| {
        let kind = kinds[number * 7 % kinds.len()];
        event(&format!("e{number}"), kind, &format!("r{}@example.net", number % 97), (number * 7919 % 10_007) as u64)
    };
    let news = store.take("main", (0..5000).map(some).collect(), at(20_000), false).await.unwrap();
    assert!(news.iter().all(|new| *new));
    let mut lists = Vec::new();
    for _ in 0..3 {
        act_all(&store).await;
        lists.push(whole_list(&store).await);
        assert_eq!(store.replay(EventQuery::default()).await.unwrap(), 5000);
    }
    assert!(lists[0].len() > 50, "{}", lists[0].len());
    assert!(lists.iter().all(|list| *list == lists[0]));
    let again = store.take("main", (0..5000).map(some).collect(), at(20_001), false).await.unwrap();
    assert!(again.iter().all(|new| !*new));
    store.close().await.unwrap();
}

async fn act_all(store: &Store) {
    while store.act(&policy(), 500).await.unwrap().events > 0 {}
}
