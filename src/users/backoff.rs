//! Client addresses that failed to log in too often; they are not even asked for a while.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::network::client_network;

/// So many failures …
const MOST: usize = 10;
/// … within this time are too many.
const WITHIN: Duration = Duration::from_mins(10);
/// The most addresses that are remembered; beyond it the ones that were quiet longest are forgotten.
const ADDRESSES: usize = 10_000;

/// The latest failures of each address. This machine's own programs are not banned: one with an old password would lock
/// out the others. (A session's own limit holds for them as well.)
#[derive(Debug, Default)]
pub(super) struct BackOff {
    failures: Mutex<HashMap<IpAddr, VecDeque<Instant>>>,
}

impl BackOff {
    pub(super) fn is_banned(&self, client: Option<IpAddr>, now: Instant) -> bool {
        let Some(client) = counted(client) else { return false };
        self.failures().get(&client).is_some_and(|times| is_too_many(times, now))
    }

    /// Counts a failure; whether it was one too many.
    pub(super) fn failed(&self, client: Option<IpAddr>, now: Instant) -> bool {
        let Some(client) = counted(client) else { return false };
        let mut failures = self.failures();
        if failures.len() >= ADDRESSES && !failures.contains_key(&client) {
            make_room(&mut failures, now);
        }
        let times = failures.entry(client).or_default();
        times.push_back(now);
        if times.len() > MOST {
            times.pop_front();
        }
        is_too_many(times, now)
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<IpAddr, VecDeque<Instant>>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_too_many(times: &VecDeque<Instant>, now: Instant) -> bool {
    times.len() >= MOST && times.front().is_some_and(|first| now.duration_since(*first) < WITHIN)
}

fn make_room(failures: &mut HashMap<IpAddr, VecDeque<Instant>>, now: Instant) {
    failures.retain(|_, times| times.back().is_some_and(|last| now.duration_since(*last) < WITHIN));
    if failures.len() >= ADDRESSES {
        let mut last: Vec<Instant> = failures.values().filter_map(|times| times.back().copied()).collect();
        let middle = last.len() / 2;
        let (_, oldest_half, _) = last.select_nth_unstable(middle);
        let limit = *oldest_half;
        failures.retain(|_, times| times.back().is_some_and(|time| *time > limit));
    }
}

/// Who is counted: not this machine.
fn counted(client: Option<IpAddr>) -> Option<IpAddr> {
    let client = client_network(client?);
    (!client.is_loopback()).then_some(client)
}
