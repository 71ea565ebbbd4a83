//! AUTH where the password is the API key: nobody knows whether it is good before it is used.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::backoff::BackOff;
use crate::envelope::Login;
use crate::recent::Recent;
use crate::secret::Secret;
use crate::smtp::sasl::{Authenticate, Credentials, Verdict};

/// Takes every key but those that the API refused lately.
#[derive(Debug)]
pub struct Passthrough {
    refused: Arc<Recent>,
    failures: BackOff,
}

impl Passthrough {
    /// With the keys that the relay finds refused.
    pub fn new(refused: Arc<Recent>) -> Self {
        Self { refused, failures: BackOff::default() }
    }

    fn verdict(&self, key: &Secret, client: Option<IpAddr>) -> Verdict {
        let now = Instant::now();
        if self.failures.is_banned(client, now) {
            return Verdict::TooMany;
        }
        let fits_a_header = key.expose().bytes().all(|octet| octet.is_ascii_graphic());
        if fits_a_header && !self.refused.holds(&self.refused.digest(&[key.expose()]), now) {
            return Verdict::Welcome(Login { principal: principal(key), api_key: Some(key.clone()) });
        }
        if self.failures.failed(client, now) { Verdict::TooMany } else { Verdict::Refused }
    }
}

impl Authenticate for Passthrough {
    fn check<'a>(&'a self, credentials: &'a Credentials, client: Option<IpAddr>) -> BoxFuture<'a, Verdict> {
        std::future::ready(self.verdict(&credentials.password, client)).boxed()
    }
}

/// The name of whoever has this key: from the key, because the user's name is proved by nothing. Enough of the digest to
/// tell keys apart in a log, too little to find one by it.
fn principal(key: &Secret) -> String {
    let mut name = "key-".to_owned();
    for octet in Sha256::digest(key.expose()).iter().take(6) {
        let _ = write!(name, "{octet:02x}");
    }
    name
}
