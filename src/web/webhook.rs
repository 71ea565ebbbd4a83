//! Where the providers' events come in: `POST /webhooks/ACCOUNT`. Verified, then stored, then 200; what they ask for is done
//! later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::worker::Bell;
use crate::feedback::{Feedback, Unverified};
use crate::metrics::{AccountLabel, EventLabel, Metrics, WebhookLabel};
use crate::provider::Provider;
use crate::secret::Secret;
use crate::store::Store;

/// Longest wait for a whole request.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the disk; the provider waits 30 s for its answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(20);
/// Most octets of large requests that are held at a time: anybody can send some before their signature is looked at.
const MAX_READING: usize = 64 << 20;
/// So many octets of each request do not count for that: events have as many at most, nearly always, and whoever sends
/// large requests in their place must not keep them out. There are as many requests as connections.
const FREE: usize = 64 << 10;
/// Most octets of a request that are read although they are too many: most clients look for an answer only when they have
/// sent everything.
const MAX_DROPPED: usize = 16 << 20;
/// One line about refused requests of an account in so long a time.
const QUIET: Duration = Duration::from_secs(1);

/// What verifies and reads one account's requests.
pub struct Hook {
    /// The API.
    pub provider: Box<dyn Provider>,
    /// What its requests are signed with.
    pub secrets: Vec<Secret>,
}

/// Takes events in.
pub struct Receiver {
    hooks: BTreeMap<String, Hook>,
    store: Store,
    max_body: usize,
    /// Whether events are also passed on to the application.
    forward: bool,
    bell: Bell,
    metrics: Arc<Metrics>,
    reading: Arc<Semaphore>,
    refused: Mutex<BTreeMap<String, Refused>>,
}

/// The last line about an account's refused requests, and how many there were since.
struct Refused {
    said: Instant,
    since: u64,
}

/// Why a request is not taken.
enum Refusal {
    NoAccount,
    Method,
    NotJson,
    TooLarge,
    Slow,
    Broken,
    Busy,
    Unverified(Unverified),
    Store(String),
}

impl Refusal {
    /// The status, the word in metrics, and what the log says. Who sent it is told the status alone: to whoever tries out
    /// signatures each word would be of help.
    fn tell(&self) -> (StatusCode, &'static str, String) {
        let (status, result, says) = match self {
            Self::NoAccount => (404, "no-account", "there is no account of that name"),
            Self::Method => (405, "method", "only POST is of use here"),
            Self::NotJson => (415, "not-json", "the body is not plain application/json"),
            Self::TooLarge => (413, "too-large", "larger than webhooks.max_body"),
            Self::Slow => (408, "slow", "the request did not come whole within ten seconds"),
            Self::Broken => (400, "broken", "the request broke off"),
            Self::Busy => (503, "busy", "too many requests are being read"),
            Self::Unverified(why) => return (status(why), result(why), why.to_string()),
            Self::Store(why) => return (StatusCode::SERVICE_UNAVAILABLE, "store", why.clone()),
        };
        (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), result, says.to_owned())
    }
}

/// 401 for all that is not believed; what is believed and not understood is a fault of the two who talk, not of a stranger.
fn status(why: &Unverified) -> StatusCode {
    if matches!(why, Unverified::Unreadable(_)) { StatusCode::BAD_REQUEST } else { StatusCode::UNAUTHORIZED }
}

fn result(why: &Unverified) -> &'static str {
    match why {
        Unverified::NoSecret => "no-secret",
        Unverified::Missing(_) => "unsigned",
        Unverified::Forged => "forged",
        Unverified::Stale => "stale",
        Unverified::Contradicted(_) => "contradicted",
        Unverified::Unreadable(_) => "unreadable",
    }
}

impl Receiver {
    /// For these accounts; `forward`: what is new also waits to be passed on.
    pub fn new(
        hooks: BTreeMap<String, Hook>,
        store: Store,
        (max_body, forward): (usize, bool),
        bell: Bell,
        metrics: Arc<Metrics>,
    ) -> Self {
        let reading = Arc::new(Semaphore::new(MAX_READING));
        Self { hooks, store, max_body, forward, bell, metrics, reading, refused: Mutex::default() }
    }

    /// Its only path.
    pub fn router(self) -> Router {
        Router::new().route("/webhooks/{account}", post(receive).fallback(wrong_method)).with_state(Arc::new(self))
    }

    /// How many of the request's events were there before, out of all.
    async fn take(&self, account: &str, request: Request) -> Result<(usize, usize), Refusal> {
        let hook = self.hooks.get(account).ok_or(Refusal::NoAccount)?;
        if !is_json(request.headers()) {
            return Err(Refusal::NotJson);
        }
        let (parts, body) = request.into_parts();
        let read = timeout(READ_TIMEOUT, self.read(&parts.headers, body));
        let (body, place) = read.await.map_err(|_| Refusal::Slow)??;
        let now = SystemTime::now();
        let events = hook.provider.feedback(&parts.headers, &body, &hook.secrets, now).map_err(Refusal::Unverified)?;
        self.keep(account, events, now, place).await
    }

    /// The whole body, and the place that it takes.
    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|octets| octets > MAX_DROPPED.max(self.max_body)) {
            return Err(Refusal::TooLarge);
        }
        let (mut octets, mut seen, mut place) = (BytesMut::new(), 0_usize, None::<OwnedSemaphorePermit>);
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Refusal::Broken)?;
            seen = seen.saturating_add(chunk.len());
            if seen > MAX_DROPPED.max(self.max_body) {
                return Err(Refusal::TooLarge);
            }
            if seen > self.max_body {
                (octets, place) = (BytesMut::new(), None);
                continue;
            }
            let more = chunk.len().min(seen.saturating_sub(FREE));
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let more = Arc::clone(&self.reading).try_acquire_many_owned(more).map_err(|_| Refusal::Busy)?;
            match &mut place {
                Some(place) => place.merge(more),
                None => place = Some(more),
            }
            octets.extend_from_slice(&chunk);
        }
        if seen > self.max_body { Err(Refusal::TooLarge) } else { Ok((octets.freeze(), place)) }
    }

    /// Stores them, and wakes those who do what they ask for. Goes on to its end even if the provider has hung up.
    async fn keep(
        &self,
        account: &str,
        events: Vec<Feedback>,
        now: SystemTime,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<(usize, usize), Refusal> {
        let kinds: Vec<_> = events.iter().map(|event| event.kind.name()).collect();
        if kinds.is_empty() {
            return Ok((0, 0));
        }
        let (store, bell, forward) = (self.store.clone(), self.bell.clone(), self.forward);
        let of_account = account.to_owned();
        let stored = tokio::spawn(async move {
            let new = store.take(&of_account, events, now, forward).await;
            if new.is_ok() {
                bell.ring();
            }
            drop(place);
            new
        });
        let stored = timeout(STORE_TIMEOUT, stored).await;
        let stored = stored.map_err(|_| Refusal::Store("the store does not answer".to_owned()))?;
        let stored = stored.map_err(|e| Refusal::Store(e.to_string()))?;
        let new = stored.map_err(|e| Refusal::Store(e.to_string()))?;
        for (kind, _) in kinds.iter().zip(&new).filter(|(_, new)| **new) {
            let label = EventLabel { account: account.to_owned(), kind };
            self.metrics.events.get_or_create(&label).inc();
        }
        let known = new.iter().filter(|new| !**new).count();
        self.metrics.event_duplicates.get_or_create(&label(account)).inc_by(known as u64);
        Ok((known, kinds.len()))
    }

    /// Counts it, and says it, but not a thousand times.
    fn refuse(&self, account: &str, refusal: &Refusal) -> Response {
        let (status, result, why) = refusal.tell();
        // Names that strangers think of are not kept.
        let account = if self.hooks.contains_key(account) { account } else { "" };
        self.count(account, result);
        if let Some(before) = self.may_say(account) {
            tracing::warn!(account, status = status.as_u16(), result, why, before, "webhook request refused");
        }
        match refusal {
            // There may be more of it on its way, which nobody wants to read as the next request.
            Refusal::NoAccount
            | Refusal::NotJson
            | Refusal::Slow
            | Refusal::TooLarge
            | Refusal::Broken
            | Refusal::Busy => (status, [(CONNECTION, "close")]).into_response(),
            _ => status.into_response(),
        }
    }

    /// Whether a line about the account is due; how many requests were refused without one since the last.
    fn may_say(&self, account: &str) -> Option<u64> {
        let now = Instant::now();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match refused.get_mut(account) {
            Some(last) if now < last.said + QUIET => {
                last.since += 1;
                None
            }
            Some(last) => Some(std::mem::replace(last, Refused { said: now, since: 0 }).since),
            None => {
                refused.insert(account.to_owned(), Refused { said: now, since: 0 });
                Some(0)
            }
        }
    }

    fn count(&self, account: &str, result: &'static str) {
        self.metrics.webhook_requests.get_or_create(&WebhookLabel { account: account.to_owned(), result }).inc();
    }
}

fn label(account: &str) -> AccountLabel {
    AccountLabel { account: account.to_owned() }
}

/// Exactly 200, and only once the events are on the disk: NexusProMail takes nothing else for an answer.
async fn receive(State(receiver): State<Arc<Receiver>>, Path(account): Path<String>, request: Request) -> Response {
    match receiver.take(&account, request).await {
        Ok((known, all)) => {
            receiver.count(&account, if known == all && all > 0 { "duplicate" } else { "taken" });
            StatusCode::OK.into_response()
        }
        Err(refusal) => receiver.refuse(&account, &refusal),
    }
}

async fn wrong_method(State(receiver): State<Arc<Receiver>>, Path(account): Path<String>) -> Response {
    receiver.refuse(&account, &Refusal::Method)
}

/// JSON, as it is. Who does not say what it is may be right; the signature will tell.
fn is_json(headers: &HeaderMap) -> bool {
    let plain = headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding.as_bytes() == b"identity");
    let json = headers.get(CONTENT_TYPE).is_none_or(|value| {
        let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json")
    });
    plain && json
}
