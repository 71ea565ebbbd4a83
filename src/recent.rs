//! Secrets that were seen lately, as digests under a key of this process: what is kept tells nobody anything.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::time::Instant;

/// The most that are remembered.
const MOST: usize = 10_000;

/// What is remembered of a secret.
pub type Digest = [u8; 32];

/// A set of secrets, each for a while.
pub struct Recent {
    keyed: Hmac<Sha256>,
    lasts: Duration,
    seen: Mutex<HashMap<Digest, Instant>>,
}

impl std::fmt::Debug for Recent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recent")
    }
}

impl Recent {
    /// An empty one with a key that nobody else has; what is put in stays for `lasts`.
    ///
    /// # Errors
    /// The digest's set-up failed, which it never does.
    pub fn new(lasts: Duration) -> Result<Self, String> {
        let key =
            [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(uuid::Uuid::into_bytes).concat();
        let keyed = Hmac::new_from_slice(&key).map_err(|e| e.to_string())?;
        Ok(Self { keyed, lasts, seen: Mutex::default() })
    }

    /// Each part with its length, so that no two lists of parts make one text.
    pub fn digest(&self, parts: &[&str]) -> Digest {
        let mut digest = self.keyed.clone();
        for part in parts {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        digest.finalize().into_bytes().into()
    }

    /// Whether it was put in lately. A look-up by a keyed digest: how long it takes tells nothing about the secret.
    pub fn holds(&self, digest: &Digest, now: Instant) -> bool {
        self.seen().get(digest).is_some_and(|until| *until > now)
    }

    /// Puts it in. When there are too many, it is left out.
    pub fn remember(&self, digest: Digest, now: Instant) {
        let mut seen = self.seen();
        if seen.len() >= MOST {
            seen.retain(|_, until| *until > now);
        }
        if seen.len() < MOST {
            seen.insert(digest, now + self.lasts);
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Digest, Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
