//! Clients' own keys that the API asked to leave alone for a while: each holds off itself and nobody else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::outcome::{Cause, Kind};
use crate::secret::Secret;

/// Most keys that are remembered; what is beyond them is not held off, and hears it from the API again.
const MOST: usize = 10_000;

/// The keys by their digests, and until when.
#[derive(Debug)]
pub(super) struct Keys {
    held: Mutex<HashMap<[u8; 32], Instant>>,
    longest: Duration,
}

impl Keys {
    /// No pause that the API asks for is longer than this.
    pub(super) fn new(longest: Duration) -> Self {
        Self { held: Mutex::default(), longest }
    }

    /// The API asked for a pause. Answers overtake each other: the longest one counts.
    pub(super) fn hold_off(&self, key: &Secret, pause: Duration) {
        let now = Instant::now();
        let mut held = self.held();
        if held.len() >= MOST {
            held.retain(|_, until| *until > now);
        }
        if held.len() < MOST {
            let until = held.entry(digest(key)).or_insert(now);
            *until = (*until).max(now + pause.min(self.longest));
        }
    }

    /// When this key may send; `None`: now.
    ///
    /// # Errors
    /// `Throttled` if that is later than `by`.
    pub(super) fn free_at(&self, key: &Secret, by: Instant) -> Result<Option<Instant>, Cause> {
        let now = Instant::now();
        let until = {
            let held = self.held();
            if held.is_empty() { None } else { held.get(&digest(key)).copied() }
        };
        match until.filter(|until| *until > now) {
            Some(until) if until > by => {
                let seconds = (until - now).as_secs() + 1;
                Err(Cause::new(Kind::Throttled, format!("the key that you logged in with is paused for {seconds} s")))
            }
            until => Ok(until),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(key: &Secret) -> [u8; 32] {
    Sha256::digest(key.expose()).into()
}
