//! `/api/events`: what the providers reported.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use tracing::info;

use super::query::{self, Parameters};
use super::wire::{EventPage, EventWhole, Replay, Replayed};
use super::{Account, Admin, Refusal, body};
use crate::feedback::Feedback;
use crate::provider::{self, Provider};
use crate::store::{EventQuery, EventRecord, StoreError};

/// The list that its cursors are of.
const LIST: &str = "events";
/// Events that are read again at a time: their raw bodies are in memory meanwhile.
const READ_AGAIN: usize = 200;

/// `GET /api/events`.
pub(super) async fn list(State(admin): State<Arc<Admin>>, uri: Uri) -> Result<Json<EventPage>, Refusal> {
    let known = ["account", "kind", "recipient", "message_id", "since", "until", "after", "limit"];
    let asked = Parameters::of(&uri, &known)?;
    let page = admin.store.events(EventQuery {
        account: asked.text("account"),
        kind: asked.value("kind")?,
        recipient: asked.address("recipient")?.map(|address| address.to_string()),
        message_id: asked.text("message_id"),
        since: asked.past("since")?,
        until: asked.past("until")?,
        after: asked.after(LIST)?,
        limit: asked.limit()?,
    });
    let page = page.await?;
    Ok(Json(EventPage { events: page.items.iter().map(Into::into).collect(), next: query::next(LIST, page.next) }))
}

/// `GET /api/events/{number}`: with the event as it came.
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<EventWhole>, Refusal> {
    Parameters::of(&uri, &[])?;
    let Path(number) = path?;
    let parsed = number.parse::<u64>();
    let number = parsed.map_err(|_| Refusal::wrong(format!("{number:?} is no number of an event")))?;
    let found = admin.store.event(number).await?;
    let found = found.ok_or_else(|| {
        let message =
            format!("there is no event {number}, or not any more (state.keep_events); `sidepost events list` shows those that there are");
        Refusal::new(StatusCode::NOT_FOUND, message)
    })?;
    let raw = String::from_utf8_lossy(&found.feedback.raw).into_owned();
    Ok(Json(EventWhole { event: (&found).into(), raw }))
}

/// `POST /api/events/replay`.
pub(super) async fn replay(State(admin): State<Arc<Admin>>, request: Request) -> Result<Json<Replayed>, Refusal> {
    Parameters::of(request.uri(), &[])?;
    let asked: Replay = body(request).await?;
    let (now, wrong) = (SystemTime::now(), |field: &str, e: String| Refusal::wrong(format!("{field}: {e}")));
    let past = |field: &str, text: &str| query::past(text, now).map_err(|e| wrong(field, e));
    let recipient = asked.recipient.as_deref().map(query::address).transpose()?;
    let query = EventQuery {
        account: asked.account,
        kind: asked.kind.map(|kind| kind.parse()).transpose().map_err(|e| wrong("kind", e))?,
        recipient: recipient.map(|address| address.to_string()),
        since: Some(past("since", &asked.since)?),
        until: asked.until.map(|until| past("until", &until)).transpose()?,
        limit: usize::MAX,
        ..EventQuery::default()
    };
    let of_that_time = EventQuery { kind: None, recipient: None, limit: READ_AGAIN, ..query.clone() };
    let revised = read_again(&admin, of_that_time).await?;
    let events = admin.store.replay(query).await?;
    admin.bell.ring();
    info!(events, revised, "an operator has events worked through again");
    Ok(Json(Replayed { events }))
}

/// Reads the raw bodies of these events anew: the version that took them may have known less of them. Returns of how many
/// something else is understood now.
async fn read_again(admin: &Admin, mut query: EventQuery) -> Result<usize, StoreError> {
    let build = |(name, account): (&String, &Account)| (name.clone(), provider::build(&account.settings));
    let providers: BTreeMap<String, Box<dyn Provider>> = admin.accounts.iter().map(build).collect();
    let mut revised = 0;
    loop {
        let page = admin.store.events(query.clone()).await?;
        let changed: Vec<(u64, Feedback)> =
            page.items.iter().filter_map(|event| understood(&providers, event)).collect();
        revised += changed.len();
        if !changed.is_empty() {
            admin.store.revise(changed).await?;
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(revised),
        }
    }
}

/// What is understood of an event now, if that is something else.
fn understood(providers: &BTreeMap<String, Box<dyn Provider>>, kept: &EventRecord) -> Option<(u64, Feedback)> {
    let provider = providers.get(&kept.account)?;
    // It was verified, and not too old, when it came.
    let events = provider.events(&HeaderMap::new(), &kept.feedback.raw, kept.received).ok()?;
    let [event] = <[Feedback; 1]>::try_from(events).ok()?;
    // The store keeps milliseconds, and an id is never read anew: it says which event it is.
    let millis = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let (at, event_id) = (kept.feedback.at, kept.feedback.event_id.clone());
    let is_same = millis(at) == millis(event.at) && Feedback { event_id, at, ..event.clone() } == kept.feedback;
    (!is_same).then_some((kept.number, event))
}
