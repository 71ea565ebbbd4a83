//! Passes verified events on to the application's own URL: signed, again and again until it has them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::worker::Bell;
use crate::metrics::{ForwardLabel, Metrics};
use crate::provider::signature::sign;
use crate::provider::{Payload, Request};
use crate::relay::http::{Transport, TransportError};
use crate::secret::Secret;
use crate::store::{Answer, EventRecord, Forward, Store};

/// Most events under way at a time.
const MOST: usize = 8;
/// Longest wait for the application's answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The pauses before an event is tried again: the first, doubled each time up to the longest.
const EVENT_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));
/// The same before any event is tried when none of the last ones arrived: an application that is away is not asked for each
/// of a thousand events, and one that is back has them soon.
const OUTAGE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Longest sleep. Nobody should have to ring; should somebody not have, this is how long events wait.
const IDLE: Duration = Duration::from_mins(1);
/// How often those that wait are counted.
const COUNTED: Duration = Duration::from_secs(5);

/// The one who passes events on.
pub struct Forwarder {
    /// Where they wait.
    pub store: Store,
    /// Where they go: `webhooks.forward`.
    pub url: String,
    /// What they are signed with.
    pub secret: Secret,
    /// The way there.
    pub transport: Arc<dyn Transport>,
    /// Rung when there are some.
    pub bell: Bell,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: fn() -> SystemTime,
}

/// How long to wait before the next round.
enum Next {
    /// Until then, or until there is something new.
    Idle(Duration),
    /// Nothing arrived.
    Outage,
    /// Not at all.
    Now,
}

impl Forwarder {
    /// Forwards until `shutdown`; what is under way then is finished.
    pub async fn run(self, shutdown: CancellationToken) {
        let (mut failures, mut counted) = (0, None::<Instant>);
        while !shutdown.is_cancelled() {
            if counted.is_none_or(|counted| counted.elapsed() >= COUNTED) {
                self.count().await;
                counted = Some(Instant::now());
            }
            let next = self.round().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "events are not forwarded: the store does not work");
                Next::Outage
            });
            if matches!(next, Next::Idle(_)) {
                self.count().await;
            }
            failures = if matches!(next, Next::Outage) { failures + 1 } else { 0 };
            let (wait, rings) = match next {
                Next::Now => continue,
                Next::Idle(wait) => (wait, true),
                Next::Outage => (pause(OUTAGE_PAUSE, failures - 1, fastrand::f64()), false),
            };
            let rung = async { if rings { self.bell.forwarder().await } else { std::future::pending().await } };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = rung => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Posts those that are due, in the store's order. Not while nobody could write down that they arrived: they would be
    /// posted again and again.
    async fn round(&self) -> Answer<Next> {
        if self.store.trouble().is_some() {
            return Ok(Next::Outage);
        }
        let due = self.store.forwards((self.clock)(), MOST).await?;
        if due.is_empty() {
            let next = self.store.next_forward().await?;
            let wait = next.map_or(IDLE, |next| next.duration_since((self.clock)()).unwrap_or_default());
            return Ok(Next::Idle(wait.clamp(Duration::from_millis(10), IDLE)));
        }
        let arrived = join_all(due.iter().map(|event| self.post(event))).await;
        let written = join_all(due.iter().zip(&arrived).map(|(event, arrived)| {
            let again = (!arrived).then(|| (self.clock)() + pause(EVENT_PAUSE, event.tries, fastrand::f64()));
            self.store.forwarded(event.number, again)
        }));
        written.await.into_iter().collect::<Answer<Vec<()>>>()?;
        Ok(if arrived.contains(&true) { Next::Now } else { Next::Outage })
    }

    /// Whether the application has it now: any 2xx says so. A redirect does not, and is not followed.
    async fn post(&self, event: &Forward) -> bool {
        let request = request(&self.url, &self.secret, &event.event, (self.clock)());
        let why = match self.transport.send(&request, Instant::now() + ANSWER).await {
            Ok(response) if (200..300).contains(&response.status) => None,
            Ok(response) => Some(format!("it answers {}", response.status)),
            Err(TransportError::NotSent { detail, .. } | TransportError::Lost { detail }) => Some(detail),
        };
        let result = if why.is_none() { "forwarded" } else { "failed" };
        self.metrics.forwards.get_or_create(&ForwardLabel { result }).inc();
        if let Some(why) = &why {
            tracing::warn!(number = event.number, tries = event.tries + 1, why, "event not forwarded");
        }
        why.is_none()
    }

    async fn count(&self) {
        if let Ok(waiting) = self.store.forwards_waiting().await {
            self.metrics.forwards_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    }
}

/// An event as the application gets it, signed like ScaiSend's: the time, a dot, the body.
fn request(url: &str, secret: &Secret, record: &EventRecord, now: SystemTime) -> Request {
    let event = &record.feedback;
    let body = json!({
        "id": event.event_id,
        "account": record.account,
        "type": event.kind.name(),
        "provider_type": event.word,
        "at": humantime::format_rfc3339_millis(event.at).to_string(),
        "message_id": event.message_id,
        "recipient": event.recipient.as_ref().map(crate::address::Address::as_str),
        "reason": event.reason,
        "raw": String::from_utf8_lossy(&event.raw),
    });
    let body = body.to_string().into_bytes();
    let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    let signature = sign(secret, &[timestamp.as_bytes(), b".", &body]);
    let headers = vec![
        ("X-Sidepost-Timestamp", timestamp),
        ("X-Sidepost-Signature", signature),
        ("X-Sidepost-Event", event.kind.name().to_owned()),
    ];
    Request { api_key: None, method: Method::POST, url: url.to_owned(), headers, body: Payload::json(body) }
}

/// The pause after so many tries, somewhat shorter by chance, so that those that failed together do not come back together.
fn pause((first, longest): (Duration, Duration), tries: u32, chance: f64) -> Duration {
    let whole = first.saturating_mul(2_u32.saturating_pow(tries)).min(longest);
    whole.mul_f64(1.0 - 0.25 * chance)
}
