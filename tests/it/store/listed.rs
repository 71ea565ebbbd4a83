//! Mail to an address that is not on the list waits for neither disk nor thread; one that is on it is always found.

use std::time::Duration;

use futures_util::FutureExt as _;
use sidepost::feedback::EventKind;
use sidepost::store::{Place, Store};
use sidepost::suppression::{Policy, Reason, Scope, Suppression};

use super::{Folder, at, event, policy, settings};

fn entry(address: &str, until: Option<u64>) -> Suppression {
    Suppression {
        address: address.to_owned(),
        scope: Scope::Account("main".to_owned()),
        reason: Reason::Manual,
        source: "operator".to_owned(),
        since: at(1),
        until: until.map(at),
        evidence: String::new(),
    }
}

/// Whether an address is known at once not to be on the list.
fn is_free(store: &Store, address: &str) -> bool {
    let found = store.suppressed(address, &[Scope::Account("main".to_owned())], at(5)).now_or_never();
    found.is_some_and(|found| found.unwrap().is_none())
}

async fn is_found(store: &Store, address: &str) -> bool {
    store.suppressed(address, &[Scope::Account("main".to_owned())], at(5)).await.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn who_is_not_on_the_list_waits_for_nothing() {
    let folder = Folder::new("listed");
    for place in [Place::Memory, Place::File(folder.file())] {
        let store = Store::open(&settings(place), &policy()).unwrap();
        store.suppress(vec![entry("ann@example.net", None)]).await.unwrap();
        store.take("main", vec![event("e", EventKind::BouncedHard, "bob@example.net", 2)], at(3), false).await.unwrap();
        assert!(is_free(&store, "bob@example.net"), "the event was not acted on yet");
        store.act(&policy(), 10).await.unwrap();
        for listed in ["ann@example.net", "bob@example.net"] {
            assert!(!is_free(&store, listed), "{listed}");
            assert!(is_found(&store, listed).await, "{listed}");
        }
        assert!(is_free(&store, "cyd@example.net"));
        // A look-up that nobody waits for any more may still run.
        store.close().await.unwrap();
    }
    let again = Store::open(&folder.settings(), &policy()).unwrap();
    assert!(is_free(&again, "cyd@example.net"));
    assert!(is_found(&again, "ann@example.net").await && is_found(&again, "bob@example.net").await);
}

/// Who was on the list once costs nothing for ever.
#[tokio::test(start_paused = true)]
async fn those_whose_time_is_over_are_forgotten() {
    let folder = Folder::new("forgotten");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let passing = |number: u32| entry(&format!("{number}@example.net"), Some(100));
    store.suppress((0..10_500).map(passing).collect()).await.unwrap();
    store.suppress(vec![entry("ann@example.net", None)]).await.unwrap();
    let waits = |number: u32| !is_free(&store, &format!("{number}@example.net"));
    assert!((0..10_500).all(waits), "all of them are on the list");
    store.prune(at(101) + Duration::from_secs(1)).await.unwrap();
    // One in some 400,000 has the digest of another by chance.
    assert!((0..10_500).filter(|number| waits(*number)).count() < 10, "they are looked for in the file still");
    assert!(is_found(&store, "ann@example.net").await);
}

/// An operator who stops telling Ann@ from ann@ loses nobody who is on the list, and brings nobody back.
#[tokio::test]
async fn a_list_of_another_policy_is_folded_when_it_is_opened() {
    let folder = Folder::new("folded");
    let exact = Policy { fold_local_part: false, ..policy() };
    let store = Store::open(&folder.settings(), &exact).unwrap();
    let both = Suppression { since: at(2), ..entry("Ann@example.net", Some(90)) };
    let addresses = ["ann@example.net", "\u{c4}rger@example.net", "Gone@example.net", "ben@example.net"];
    store.suppress(addresses.map(|address| entry(address, Some(50))).into()).await.unwrap();
    store.suppress(vec![both]).await.unwrap();
    store.take("main", vec![event("e1", EventKind::BouncedHard, "gone@example.net", 2)], at(2), false).await.unwrap();
    store.lift("Gone@example.net", None, at(3)).await.unwrap();
    store.close().await.unwrap();

    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let scopes = [Scope::Account("main".to_owned())];
    let left = async |key: &str, when: u64| store.suppressed(key, &scopes, at(when)).await.unwrap();
    let ann = left("ann@example.net", 10).await.unwrap();
    assert_eq!((ann.since, ann.until), (at(1), Some(at(90))));
    assert!(left("\u{e4}rger@example.net", 10).await.is_some());
    assert!(left("ben@example.net", 10).await.is_some());
    for old in ["Ann@example.net", "\u{c4}rger@example.net", "gone@example.net"] {
        assert_eq!(left(old, 10).await, None, "{old}");
    }
    // What an operator took off stays off: a bounce from before that does not bring it back.
    assert_eq!(store.act(&policy(), 9).await.unwrap().events, 1);
    assert_eq!(left("gone@example.net", 10).await, None);
}
