//! Passwords that were verified lately, as digests under a key of this process: pools of clients log in all the time, and
//! the hash is slow on purpose.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::time::Instant;

/// How long a password counts as verified.
const LASTS: Duration = Duration::from_mins(5);
/// The most that are remembered; there are as many as users that log in.
const MOST: usize = 10_000;

/// The digest of a user, a password and the hash that it was verified by.
pub(super) type Digest = [u8; 32];

pub(super) struct Cache {
    keyed: Hmac<Sha256>,
    verified: Mutex<HashMap<Digest, Instant>>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cache")
    }
}

impl Cache {
    /// An empty one with a key that nobody else has.
    pub(super) fn new() -> Result<Self, String> {
        let key =
            [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(uuid::Uuid::into_bytes).concat();
        let keyed = Hmac::new_from_slice(&key).map_err(|e| e.to_string())?;
        Ok(Self { keyed, verified: Mutex::default() })
    }

    /// Each part with its length, so that no two lists of parts make one text.
    pub(super) fn digest(&self, parts: &[&str]) -> Digest {
        let mut digest = self.keyed.clone();
        for part in parts {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        digest.finalize().into_bytes().into()
    }

    /// A look-up by a keyed digest: how long it takes tells nothing about a password.
    pub(super) fn holds(&self, digest: &Digest, now: Instant) -> bool {
        self.verified().get(digest).is_some_and(|until| *until > now)
    }

    pub(super) fn remember(&self, digest: Digest, now: Instant) {
        let mut verified = self.verified();
        if verified.len() >= MOST {
            verified.retain(|_, until| *until > now);
        }
        if verified.len() < MOST {
            verified.insert(digest, now + LASTS);
        }
    }

    fn verified(&self) -> MutexGuard<'_, HashMap<Digest, Instant>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
