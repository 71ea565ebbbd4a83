//! Who may log in: users and their hashes, what was verified lately, and who has failed too often.

mod backoff;
mod passthrough;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::Auth;
use crate::envelope::Login;
use crate::files::Watched;
use crate::password::{self, Hash};
use crate::recent::Recent;
use crate::smtp::sasl::{Authenticate, Credentials, Verdict};
use backoff::BackOff;

pub use passthrough::Passthrough;

/// How many passwords are checked at a time: each takes a core and 19 MiB for tens of milliseconds.
const AT_A_TIME: usize = 2;

/// How long a password counts as verified: pools of clients log in all the time, and the hash is slow on purpose.
const VERIFIED: Duration = Duration::from_mins(5);

/// The users of the configuration and of the users file.
#[derive(Debug)]
pub struct Users {
    /// From the configuration; they win over the file.
    fixed: BTreeMap<String, Hash>,
    now: ArcSwap<BTreeMap<String, Hash>>,
    /// Stands in where there is no user at all.
    nobody: Hash,
    checks: Arc<Semaphore>,
    verified: Recent,
    failures: BackOff,
}

/// The users, and the file to follow if there is one.
pub type Opened = (Arc<Users>, Option<Watched>);

impl Users {
    /// Reads the section `[smtp.auth]` and its file; nothing when nobody can log in.
    ///
    /// # Errors
    /// What is wrong in them; never what is in them.
    pub fn open(settings: &Auth) -> Result<Option<Opened>, String> {
        if !settings.has_users() {
            return Ok(None);
        }
        let mut fixed = BTreeMap::new();
        for (name, hash) in &settings.users {
            let hash = Hash::parse(hash.0.expose()).map_err(|e| format!("smtp.auth.users.{name}: {e}"))?;
            fixed.insert(name.clone(), hash);
        }
        let (watched, in_file) = match settings.users_file.as_str() {
            "" => (None, BTreeMap::new()),
            path => {
                let (watched, files) = Watched::open(vec![PathBuf::from(path)])?;
                (Some(watched), parse(&files)?)
            }
        };
        let users = Self {
            now: ArcSwap::from_pointee(together(&fixed, in_file)),
            fixed,
            nobody: Hash::of(b"a password that no user has")?,
            checks: Arc::new(Semaphore::new(AT_A_TIME)),
            verified: Recent::new(VERIFIED)?,
            failures: BackOff::default(),
        };
        Ok(Some((Arc::new(users), watched)))
    }

    /// Goes on for ever: reads the users file anew when it changes. A broken one is logged and not taken.
    pub async fn follow(self: Arc<Self>, mut file: Watched) {
        loop {
            match file.changed().await.and_then(|files| parse(&files)) {
                Ok(in_file) => {
                    let users = together(&self.fixed, in_file);
                    tracing::info!(users = users.len(), "the new users file is in force");
                    self.now.store(Arc::new(users));
                }
                Err(error) => tracing::error!(error, "the new users file is not taken; the old users stay"),
            }
        }
    }

    async fn verdict(&self, credentials: &Credentials, client: Option<IpAddr>) -> Verdict {
        if self.failures.is_banned(client, Instant::now()) {
            return Verdict::TooMany;
        }
        let users = self.now.load_full();
        let found = users.get(&credentials.user);
        // An unknown user takes as long as a known one: some hash is checked, and the outcome does not matter.
        let hash = found.or_else(|| users.values().next()).unwrap_or(&self.nobody);
        // The digest is over the hash as well: a password that was changed is not known any more.
        let digest = self.verified.digest(&[&credentials.user, credentials.password.expose(), hash.expose()]);
        if found.is_some() && self.verified.holds(&digest, Instant::now()) {
            return Verdict::Welcome(Login::of(&credentials.user));
        }
        let Ok(permit) = Arc::clone(&self.checks).acquire_owned().await else { return Verdict::Refused };
        // Others of this client may have failed while this one waited.
        if self.failures.is_banned(client, Instant::now()) {
            return Verdict::TooMany;
        }
        let (hash, password) = (hash.clone(), credentials.password.clone());
        // The check goes on when the client does not wait for it, and its permit with it.
        let checked = tokio::task::spawn_blocking(move || {
            let right = hash.verify(password.expose().as_bytes());
            (right, permit)
        });
        // A check that broke off says nothing of the password. It is a fault of ours, and the connection's to answer for.
        let (right, permit) = checked.await.unwrap_or_else(|error| {
            std::panic::resume_unwind(error.try_into_panic().unwrap_or_else(|error| Box::new(error)))
        });
        if found.is_some() && right {
            self.verified.remember(digest, Instant::now());
            return Verdict::Welcome(Login::of(&credentials.user));
        }
        let too_many = self.failures.failed(client, Instant::now());
        drop(permit);
        let client = client.map_or_else(|| "local".to_owned(), |ip| ip.to_string());
        tracing::info!(client, too_many, "wrong user or password");
        if too_many { Verdict::TooMany } else { Verdict::Refused }
    }
}

impl Authenticate for Users {
    fn check<'a>(&'a self, credentials: &'a Credentials, client: Option<IpAddr>) -> BoxFuture<'a, Verdict> {
        self.verdict(credentials, client).boxed()
    }
}

fn parse(files: &[Vec<u8>]) -> Result<BTreeMap<String, Hash>, String> {
    let text = files.iter().map(|octets| String::from_utf8_lossy(octets)).collect::<String>();
    password::parse_users(&text).map_err(|wrong| wrong.join("; "))
}

fn together(fixed: &BTreeMap<String, Hash>, mut in_file: BTreeMap<String, Hash>) -> BTreeMap<String, Hash> {
    in_file.extend(fixed.clone());
    in_file
}
