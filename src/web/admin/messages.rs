//! `/api/messages`: what became of a mail, by the log, by the events, and by the provider's own word.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use futures_util::future::join_all;

use super::query::{self, Parameters};
use super::wire::{EventEntry, MessagePage, MessageWhole, ProviderMessages, ProviderStatus, Recipient};
use super::{Account, Admin, Refusal};
use crate::address::{Address, Alphabet};
use crate::outcome::word_of;
use crate::provider::status;
use crate::store::{EventQuery, MessageQuery, MessageRecord, SuppressionQuery};

/// The list that its cursors are of.
const LIST: &str = "messages";
/// Rows that are read at a time, and in all: of one mail, or of one message of the provider's.
const PART: usize = 500;
const MOST: usize = 2000;
/// Most messages that a provider is asked about in one call.
const MOST_ASKED: usize = 10;

/// `GET /api/messages`.
pub(super) async fn list(State(admin): State<Arc<Admin>>, uri: Uri) -> Result<Json<MessagePage>, Refusal> {
    let known = ["recipient", "sender", "id", "account", "outcome", "since", "until", "after", "limit"];
    let asked = Parameters::of(&uri, &known)?;
    let outcome = asked.text("outcome").map(|text| word_of(&text).map(str::to_owned));
    let page = admin.store.messages(MessageQuery {
        id: asked.text("id"),
        recipient: asked.address("recipient")?.map(|address| address.to_string()),
        sender: asked.address("sender")?.map(|address| address.to_string()),
        account: asked.text("account"),
        outcome: outcome.transpose().map_err(|e| Refusal::wrong(format!("outcome: {e}")))?,
        since: asked.past("since")?,
        until: asked.past("until")?,
        after: asked.after(LIST)?,
        limit: asked.limit()?,
    });
    let page = page.await?;
    Ok(Json(MessagePage { messages: page.items.iter().map(Into::into).collect(), next: query::next(LIST, page.next) }))
}

/// `GET /api/messages/{id}`: the transaction's id, or the provider's.
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<MessageWhole>, Refusal> {
    Parameters::of(&uri, &[])?;
    let Path(id) = path?;
    let records = admin.records(&id).await?;
    let mut asked: BTreeSet<(String, String)> = BTreeSet::new();
    for record in &records {
        let provider_id = record.provider_id.clone();
        asked.extend(provider_id.map(|provider_id| (record.account.clone(), provider_id)));
    }
    let mut events: Vec<EventEntry> = Vec::new();
    let ids: BTreeSet<&str> = asked.iter().map(|(_, id)| id.as_str()).chain([id.as_str()]).collect();
    for id in ids {
        events.extend(admin.events_of(id).await?);
    }
    if records.is_empty() && events.is_empty() {
        let message = format!(
            "{id:?} is in no line of the log (state.keep_messages) and in no event; `sidepost messages list --recipient …` finds mails by their recipient"
        );
        return Err(Refusal::new(StatusCode::NOT_FOUND, message));
    }
    if records.is_empty() {
        asked.extend(events.iter().map(|event| (event.account.clone(), id.clone())));
    }
    let mut recipients = Vec::new();
    for record in &records {
        recipients.push(admin.recipient(record, &events).await?);
    }
    let told: BTreeSet<u64> = recipients.iter().flat_map(|one| &one.events).map(|event| event.number).collect();
    events.retain(|event| !told.contains(&event.number));
    let provider_status = join_all(asked.iter().take(MOST_ASKED).map(|(account, id)| admin.status(account, id))).await;
    let not_asked = asked.len().saturating_sub(MOST_ASKED);
    Ok(Json(MessageWhole { id, recipients, other_events: events, provider_status, not_asked }))
}

/// `GET /api/provider/messages`.
pub(super) async fn at_provider(State(admin): State<Arc<Admin>>, uri: Uri) -> Result<Json<ProviderMessages>, Refusal> {
    let asked = Parameters::of(&uri, &["account", "to_email"])?;
    let to = asked.address("to_email")?.ok_or_else(|| Refusal::wrong("to_email is needed: the recipient's address"))?;
    let (name, account) = admin.pick(asked.text("account"), to.as_str())?;
    let answer = admin.consult(account, status::messages_call(&account.settings, to.as_str())).await;
    let messages = answer.and_then(|answer| status::messages(&answer));
    let messages = messages.map_err(|e| Refusal::new(StatusCode::BAD_GATEWAY, format!("account {name}: {e}")))?;
    Ok(Json(ProviderMessages { account: name.to_owned(), messages }))
}

impl Admin {
    /// In the order of RCPT, as far as the log knows it.
    async fn records(&self, id: &str) -> Result<Vec<MessageRecord>, Refusal> {
        let mut query = MessageQuery { id: Some(id.to_owned()), limit: PART, ..MessageQuery::default() };
        let mut records = Vec::new();
        loop {
            let page = self.store.messages(query.clone()).await?;
            records.extend(page.items);
            if page.next.is_none() || records.len() >= MOST {
                records.reverse();
                return Ok(records);
            }
            query.after = page.next;
        }
    }

    /// The events about a message of the provider's, the oldest first.
    async fn events_of(&self, message_id: &str) -> Result<Vec<EventEntry>, Refusal> {
        let mut query = EventQuery { message_id: Some(message_id.to_owned()), limit: PART, ..EventQuery::default() };
        let mut events: Vec<EventEntry> = Vec::new();
        loop {
            let page = self.store.events(query.clone()).await?;
            events.extend(page.items.iter().map(EventEntry::from));
            if page.next.is_none() || events.len() >= MOST {
                events.sort_by(|one, other| (&one.at, one.number).cmp(&(&other.at, other.number)));
                return Ok(events);
            }
            query.after = page.next;
        }
    }

    /// A line of the log with the events about it: those of its message that name its recipient, or nobody.
    async fn recipient(&self, record: &MessageRecord, events: &[EventEntry]) -> Result<Recipient, Refusal> {
        let is_about = |event: &&EventEntry| {
            event.account == record.account
                && event.message_id == record.provider_id
                && event.recipient.as_ref().is_none_or(|one| one.eq_ignore_ascii_case(&record.recipient))
        };
        let events = match record.provider_id {
            Some(_) => events.iter().filter(is_about).cloned().collect(),
            None => Vec::new(),
        };
        let mut suppressions = Vec::new();
        if let Ok(address) = Address::parse_in(Alphabet::Utf8, &record.recipient) {
            let key = self.policy.key(&address);
            let query = SuppressionQuery { address: Some(key), limit: PART, ..SuppressionQuery::default() };
            suppressions = self.store.suppressions(query).await?.items.iter().map(Into::into).collect();
        }
        Ok(Recipient { message: record.into(), events, suppressions })
    }

    /// What the provider says of one of its messages. That it says nothing is an answer, too.
    async fn status(&self, name: &str, id: &str) -> ProviderStatus {
        let answer = match self.accounts.get(name) {
            Some(account) => self.consult(account, status::message_call(&account.settings, id)).await,
            None => Err("there is no account of this name any more".to_owned()),
        };
        let (message, error) = match answer.and_then(|answer| status::message(&answer)) {
            Ok(message) => (Some(message), None),
            Err(error) => (None, Some(error)),
        };
        ProviderStatus { account: name.to_owned(), id: id.to_owned(), message, error }
    }

    /// The account that was named; else the only one whose API can be asked.
    fn pick(&self, named: Option<String>, to: &str) -> Result<(&str, &Account), Refusal> {
        let known = || self.accounts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        if let Some(named) = named {
            let found = self.accounts.get_key_value(&named).map(|(name, account)| (name.as_str(), account));
            return found
                .ok_or_else(|| Refusal::wrong(format!("there is no account {named:?}; there are: {}", known())));
        }
        let able = self.accounts.iter().filter(|(_, one)| status::messages_call(&one.settings, to).is_ok());
        let able: Vec<_> = able.map(|(name, account)| (name.as_str(), account)).collect();
        match able.as_slice() {
            [one] => Ok(*one),
            [] => Err(Refusal::wrong(format!(
                "no account's API lists messages; only ScaiSend's does (there are: {})",
                known()
            ))),
            _ => Err(Refusal::wrong(format!("name one account with account=; there are: {}", known()))),
        }
    }
}
