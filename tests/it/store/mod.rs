//! The store: stories told by calls, the same in memory and in a file; what no order changes; and what goes wrong.

mod faults;
mod listed;
mod order;
mod stories;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sidepost::address::{Address, Alphabet};
use sidepost::feedback::{EventKind, Feedback};
use sidepost::store::{Place, Settings, Store};
use sidepost::suppression::{Policy, ScopeOfEvents};

/// A folder of a test's own, gone with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sidepost-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("state.db")
    }

    pub fn settings(&self) -> Settings {
        settings(Place::File(self.file()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn settings(url: Place) -> Settings {
    let month = Duration::from_hours(24 * 30);
    Settings { url, keep_messages: month, max_messages: 100_000, keep_events: month, max_events: 200_000 }
}

/// Times of the tests: seconds after a moment that is in the future, where nothing expires by itself.
pub fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800 + seconds)
}

pub fn address(text: &str) -> Address {
    Address::parse_in(Alphabet::Utf8, text).unwrap()
}

pub fn policy() -> Policy {
    Policy {
        events: vec![
            EventKind::BouncedHard,
            EventKind::Complained,
            EventKind::Unsubscribed,
            EventKind::Dropped,
            EventKind::Suppressed,
        ],
        soft_bounce_limit: 3,
        soft_bounce_expiry: Duration::from_hours(24 * 7),
        learned_expiry: Duration::from_hours(24 * 7),
        scope: ScopeOfEvents::Account,
        fold_local_part: true,
    }
}

pub fn event(id: &str, kind: EventKind, recipient: &str, seconds: u64) -> Feedback {
    Feedback {
        event_id: id.to_owned(),
        kind,
        word: kind.name().to_owned(),
        at: at(seconds),
        message_id: None,
        recipient: Some(address(recipient)),
        reason: None,
        raw: Bytes::from(format!("{{\"id\":\"{id}\"}}\n")),
    }
}

/// Spoils a database so that it cannot be opened; returns what it was. (File format §1.6: the root of its schema.)
pub fn damage(file: &Path) -> Vec<u8> {
    let whole = std::fs::read(file).unwrap();
    let mut spoiled = whole.clone();
    spoiled[100..200].fill(0xa5);
    std::fs::write(file, spoiled).unwrap();
    whole
}

/// The whole list.
pub async fn whole_list(store: &Store) -> Vec<sidepost::suppression::Suppression> {
    let (mut list, mut after) = (Vec::new(), None);
    loop {
        let query = sidepost::store::SuppressionQuery { after, ..Default::default() };
        let page = store.suppressions(query).await.unwrap();
        list.extend(page.items);
        after = page.next;
        if after.is_none() {
            return list;
        }
    }
}
