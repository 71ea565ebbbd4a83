//! An emulator of the providers' APIs with a mailbox page: for trying out without an account, and for tests.
//!
//! It is strict about the documented shape of requests and lenient about keys: any bearer token is right and may do all,
//! but one that contains `wrong`, one that contains `sendonly`, which may send and not read messages, and the keys that
//! were made here: those may do what they were made for. A domain that begins with `unverified` is never verified. A
//! recipient's local part steers what happens: see [`steering::RULES`]. Nothing is delivered.

mod answer;
mod api;
pub mod curve;
mod domains;
pub mod events;
mod keys;
pub mod mailbox;
mod messages;
mod numbers;
mod page;
pub mod request_shape;
pub mod steering;
pub mod summary;
mod v3_shape;
mod webhooks;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::address::Alphabet;
use crate::config::ProviderKind;
use crate::secret::Secret;
use answer::Refusal;
use domains::Domain;
use keys::Key;
use mailbox::{Mail, Mailbox};
use webhooks::Webhook;

/// Most mails kept.
const MAX_MAILS: usize = 500;
/// Most octets of mails kept.
const MAX_OCTETS: usize = 64 * 1024 * 1024;
/// Most octets of requests that are being read, in KiB.
const MAX_READING: usize = 256 * 1024;
/// Most addresses whose tries are counted.
const MAX_COUNTED: usize = 10_000;
/// Largest body of the small calls.
const SMALL: usize = 64 * 1024;

/// What the sandbox needs from outside.
pub struct Settings {
    /// Posts webhook events.
    pub post: events::Post,
    /// Where the relay listens, as `host:port`, for the example on the page.
    pub smtp: String,
    /// Which addresses the APIs take: as far as the operator says that they do.
    pub alphabet: Alphabet,
    /// Whether it listens for this machine alone: then its pages are for nobody else.
    pub is_local: bool,
}

/// The emulator's state.
pub struct Sandbox {
    mailbox: Mutex<Mailbox>,
    webhooks: Mutex<Vec<Webhook>>,
    domains: Mutex<Vec<Domain>>,
    keys: Mutex<Vec<Key>>,
    /// Not registered by anybody, and in no list: the relay that the sandbox is a part of.
    own: Mutex<Vec<Webhook>>,
    tries: Mutex<HashMap<String, u32>>,
    reading: Semaphore,
    sender: events::Sender,
    smtp: String,
    alphabet: Alphabet,
    is_local: bool,
}

impl Sandbox {
    /// An empty sandbox.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            mailbox: Mutex::new(Mailbox::new(MAX_MAILS, MAX_OCTETS)),
            webhooks: Mutex::default(),
            domains: Mutex::default(),
            keys: Mutex::default(),
            own: Mutex::default(),
            tries: Mutex::default(),
            reading: Semaphore::new(MAX_READING),
            sender: events::Sender::new(settings.post),
            smtp: settings.smtp,
            alphabet: settings.alphabet,
            is_local: settings.is_local,
        })
    }

    /// All its routes. The server should give each request a `CancellationToken` extension that closes the connection,
    /// as `web::serve` does; without it, `reset` and `acceptreset` cannot be played and say so with a 500.
    pub fn router(self: &Arc<Self>) -> Router {
        let both = |method: MethodRouter<Arc<Self>>| method.fallback(wrong_method);
        let api = Router::new()
            .route("/v1/transactional/send", both(post(api::nexuspromail)))
            .route("/v1/api/send", both(post(other_path)))
            .route("/v1/api/webhooks", both(post(webhooks::register_nexuspromail).get(webhooks::list_nexuspromail)))
            .route("/v1/api/webhooks/{id}", both(get(webhooks::show).delete(webhooks::remove)))
            .route("/v3/mail/send", both(post(api::v3)))
            .route("/v3/messages", both(get(messages::list)))
            .route("/v3/messages/{id}", both(get(messages::show)))
            .route("/v3/user/webhooks", both(post(webhooks::register_scaisend).get(webhooks::list_scaisend)))
            .route("/v3/user/webhooks/{id}", both(get(webhooks::show).patch(webhooks::change).delete(webhooks::remove)))
            .route("/v3/user/webhooks/{id}/signing_secret", both(post(webhooks::rotate)))
            .route("/v3/api_keys", both(post(keys::create)))
            .route("/v3/stats", both(get(numbers::days)))
            .route("/api/admin/domains", both(post(domains::add).get(domains::list)))
            .route("/api/admin/domains/{id}", both(get(domains::show)))
            .route("/api/admin/domains/{id}/verify", both(post(domains::verify)));
        api.merge(page::routes(Arc::clone(self)))
            .fallback(nothing_here)
            .layer(DefaultBodyLimit::max(SMALL))
            .with_state(Arc::clone(self))
    }

    /// Sends all events of an API there, besides those that were registered.
    pub fn report_to(&self, api: ProviderKind, url: String, secret: Secret) {
        locked(&self.own).push(Webhook::of_everything(api, url, secret));
    }

    fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        locked(&self.mailbox)
    }

    fn webhooks(&self) -> MutexGuard<'_, Vec<Webhook>> {
        locked(&self.webhooks)
    }

    /// Keeps mails and sends the events of those that were taken.
    fn keep(&self, mails: Vec<Mail>) {
        for mail in &mails {
            if mail.taken && !mail.test {
                let (own, registered) = (locked(&self.own), self.webhooks());
                let all = own.iter().chain(registered.iter());
                let webhooks = all.filter(|one| one.api == mail.provider).cloned().collect();
                self.sender.announce(mail, webhooks);
            }
        }
        let mut mailbox = self.mailbox();
        mailbox.extend(mails);
    }

    /// Counts a try at an address and tells whether it is one of the first `most`.
    fn another_try(&self, address: &str, most: u32) -> bool {
        let mut tries = locked(&self.tries);
        if tries.len() >= MAX_COUNTED && !tries.contains_key(address) {
            tries.clear();
        }
        let count = tries.entry(address.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count <= most
    }

    /// Waits until a request of this size may be read.
    async fn room(&self, octets: usize) -> Option<SemaphorePermit<'_>> {
        // Never more than there is, and the semaphore is never closed: the permit always comes.
        self.reading.acquire_many(u32::try_from(octets / 1024).unwrap_or(u32::MAX)).await.ok()
    }

    /// Starts over: no mails, and no tries counted.
    fn clear(&self) {
        self.mailbox().clear();
        locked(&self.tries).clear();
    }
}

/// A lock whose holder panicked still holds whole values: nothing is changed in steps.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The vendor's pages disagree about the send path; the sandbox keeps to the one that two of three name.
async fn other_path() -> Response {
    Refusal::not_found(
        "NexusProMail's pages name two send paths. The sandbox has /v1/transactional/send: set send_path to it.",
    )
    .response(ProviderKind::NexusProMail)
}

async fn wrong_method(uri: Uri) -> Response {
    refusal_at(&uri, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method Not Allowed")
}

async fn nothing_here(uri: Uri) -> Response {
    refusal_at(&uri, StatusCode::NOT_FOUND, "not_found", "Not Found")
}

fn refusal_at(uri: &Uri, status: StatusCode, word: &'static str, message: &str) -> Response {
    match uri.path() {
        path if path.starts_with("/v1/") => Refusal::new(status, word, message).response(ProviderKind::NexusProMail),
        path if path.starts_with("/v3/") || path.starts_with("/api/admin/") => {
            Refusal::new(status, word, message).response(ProviderKind::ScaiSend)
        }
        _ => (status, format!("{message}\n")).into_response(),
    }
}
