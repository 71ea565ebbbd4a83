//! How fast the store is: look-ups among a million suppressions, commits in a group, and a replay. `cargo bench --bench store`
//! (a folder for the file may follow `--`); prints one line a measurement.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use sidepost::address::Address;
use sidepost::feedback::{EventKind, Feedback};
use sidepost::store::{EventQuery, Place, Settings, Store, SuppressionQuery};
use sidepost::suppression::{Policy, Reason, Scope, ScopeOfEvents, Suppression};

const SUPPRESSIONS: u32 = 1_000_000;
const EVENTS: u32 = 100_000;
/// The first of a million addresses that are on the list, and of a million that are not.
const LISTED: u32 = 0;
const NOT_LISTED: u32 = SUPPRESSIONS;

fn main() {
    let folder = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from).join(format!("sidepost-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        look_ups(&open(folder.join("list.db"))).await;
        commits(&open(folder.join("events.db"))).await;
        replays(&open(folder.join("replay.db"))).await;
    });
    std::fs::remove_dir_all(folder).unwrap();
}

fn open(file: PathBuf) -> Store {
    let long = Duration::from_hours(24 * 30);
    let (keep_messages, keep_events) = (long, long);
    let url = Place::File(file);
    let settings = Settings { url, keep_messages, max_messages: 1_000_000, keep_events, max_events: 1_000_000 };
    Store::open(&settings, &policy()).unwrap()
}

fn policy() -> Policy {
    Policy {
        events: vec![EventKind::BouncedHard, EventKind::Unsubscribed],
        soft_bounce_limit: 3,
        soft_bounce_expiry: Duration::from_hours(24 * 7),
        learned_expiry: Duration::from_hours(24 * 7),
        scope: ScopeOfEvents::Account,
        fold_local_part: true,
    }
}

fn address(number: u32) -> String {
    format!("recipient-{number}@example-{}.net", number % 997)
}

/// A number that looks random, the same in each run.
fn mixed(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519)
}

fn say(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    println!("{what:<58} p50 {:>9.1?} p99 {:>9.1?} max {:>9.1?}", at(50), at(99), at(100));
}

async fn look_ups(store: &Store) {
    let scope = Scope::Account("main".to_owned());
    let entry = |number| Suppression {
        address: address(number),
        scope: scope.clone(),
        reason: Reason::Bounce,
        source: "webhook:main".to_owned(),
        since: SystemTime::now(),
        until: None,
        evidence: "550 5.1.1 no such user (event 0123456789)".to_owned(),
    };
    let mut hops = Vec::new();
    for _ in 0..20_000 {
        let started = Instant::now();
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        hops.push(started.elapsed());
    }
    say("for comparison: to another thread and back", hops);
    let empty = look_up_some(store, NOT_LISTED, 20_000, 1).await;
    say("look-up, no suppression at all", empty);
    let started = Instant::now();
    for first in (0..SUPPRESSIONS).step_by(10_000) {
        store.suppress((first..first + 10_000).map(entry).collect()).await.unwrap();
    }
    println!("{SUPPRESSIONS} suppressions written in {:.1?}", started.elapsed());
    let listed = "listed, of 1,000,000";
    say(&format!("{listed}, one at a time, the first 10,000"), look_up_some(store, LISTED, 10_000, 1).await);
    say(&format!("{listed}, one at a time"), look_up_some(store, LISTED, 50_000, 1).await);
    say(&format!("{listed}, 16 at a time"), look_up_some(store, LISTED, 50_000, 16).await);
    say("not listed, of 1,000,000, one at a time", look_up_some(store, NOT_LISTED, 1_000_000, 1).await);
    say("not listed, of 1,000,000, 16 at a time", look_up_some(store, NOT_LISTED, 1_000_000, 16).await);
    let busy = store.clone();
    let writes = tokio::spawn(async move {
        for number in 0.. {
            busy.take("main", vec![event(number)], SystemTime::now(), false).await.unwrap();
        }
    });
    say(&format!("{listed}, one at a time, beside commits"), look_up_some(store, LISTED, 50_000, 1).await);
    say("not listed, of 1,000,000, beside commits", look_up_some(store, NOT_LISTED, 1_000_000, 1).await);
    writes.abort();
    let started = Instant::now();
    let query = SuppressionQuery { reason: Some(Reason::Complaint), ..SuppressionQuery::default() };
    store.suppressions(query).await.unwrap();
    println!("a list that has to look at all 1,000,000: {:.1?}", started.elapsed());
}

async fn look_up_some(store: &Store, first: u32, most: u32, at_a_time: u32) -> Vec<Duration> {
    let tasks = (0..at_a_time).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let scopes = [Scope::Account("main".to_owned()), Scope::SenderDomain("mail.example.com".to_owned())];
            let mut took = Vec::new();
            for number in (task..most).step_by(at_a_time as usize) {
                let key = address(first + mixed(number) % SUPPRESSIONS);
                let started = Instant::now();
                store.suppressed(&key, &scopes, SystemTime::now()).await.unwrap();
                took.push(started.elapsed());
            }
            took
        })
    });
    let mut took = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        took.extend(task.await.unwrap());
    }
    took
}

fn event(number: u32) -> Feedback {
    let kind = match number % 10 {
        0 => EventKind::BouncedHard,
        1 | 2 => EventKind::BouncedSoft,
        3 => EventKind::Unsubscribed,
        4 => EventKind::Resubscribed,
        _ => EventKind::Delivered,
    };
    Feedback {
        event_id: format!("event-{number}"),
        kind,
        word: kind.name().to_owned(),
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800 + u64::from(mixed(number) % 1_000_000)),
        message_id: Some(format!("message-{number}")),
        recipient: Address::parse(&address(mixed(number) % 20_000)).ok(),
        reason: Some("550 5.1.1 no such user".to_owned()),
        raw: Bytes::from(vec![b'x'; 600]),
    }
}

async fn commits(store: &Store) {
    let mut next = 0;
    for (at_a_time, each) in [(1, 300), (16, 300), (256, 60)] {
        let (started, before) = (Instant::now(), store.counters());
        let tasks = (0..at_a_time).map(|task| {
            let (store, first) = (store.clone(), next + task * each);
            tokio::spawn(async move {
                let mut took = Vec::new();
                for number in first..first + each {
                    let started = Instant::now();
                    store.take("main", vec![event(number)], SystemTime::now(), false).await.unwrap();
                    took.push(started.elapsed());
                }
                took
            })
        });
        let mut took = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            took.extend(task.await.unwrap());
        }
        let (elapsed, commits) = (started.elapsed(), store.counters().commits - before.commits);
        let rate = f64::from(at_a_time * each) / elapsed.as_secs_f64();
        say(&format!("take(), {at_a_time} at a time: {rate:.0}/s in {commits} commits"), took);
        next += at_a_time * each;
    }
}

async fn replays(store: &Store) {
    let policy = policy();
    let started = Instant::now();
    for first in (0..EVENTS).step_by(1000) {
        let events = (first..first + 1000).map(event).collect();
        store.take("main", events, SystemTime::now(), false).await.unwrap();
    }
    println!("{EVENTS} events taken, 1,000 at a time, in {:.1?}", started.elapsed());
    let mut lists = Vec::new();
    for run in ["the first time", "replayed", "replayed again"] {
        let started = Instant::now();
        store.replay(EventQuery::default()).await.unwrap();
        while store.act(&policy, 500).await.unwrap().events > 0 {}
        println!("{EVENTS} events acted on, {run}: {:.1?}", started.elapsed());
        lists.push(whole_list(store).await);
    }
    let same = lists.iter().all(|list| *list == lists[0]);
    println!("{} entries, each time the same: {same}", lists[0].len());
}

async fn whole_list(store: &Store) -> Vec<Suppression> {
    let (mut list, mut query) = (Vec::new(), SuppressionQuery::default());
    loop {
        let page = store.suppressions(query.clone()).await.unwrap();
        list.extend(page.items);
        query.after = page.next;
        if query.after.is_none() {
            return list;
        }
    }
}
