//! What a provider itself says of a message when it is asked: ScaiSend's `GET /v3/messages/{id}` and `GET /v3/messages`.

use percent_encoding::utf8_percent_encode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::error_text;
use super::sendgrid::lookup::{ESCAPED, get, messages_url};
use super::{Request, Response, send_url};
use crate::config::{Provider as Settings, ProviderKind};

/// Most messages of a list; ScaiSend's own limit of a page.
pub const MOST: usize = 100;

/// One message as the provider knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageStatus {
    /// The provider's id.
    pub id: String,
    /// Its word for where the message is: `queued`, `delivered`, `bounced`…
    pub status: String,
    /// The subject.
    pub subject: Option<String>,
    /// The sender.
    pub from: Option<String>,
    /// The recipients.
    pub to: Vec<String>,
    /// When the provider took it, as it writes it.
    pub created: Option<String>,
    /// What happened to it; lists have none.
    pub events: Vec<StatusEvent>,
}

/// One step of a message's way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusEvent {
    /// When, as the provider writes it.
    pub at: String,
    /// Its word for what happened.
    pub event: String,
}

/// The call that asks for one message.
///
/// # Errors
/// A sentence, where the provider documents no such call for the id that its send call answers with.
pub fn message_call(settings: &Settings, id: &str) -> Result<Request, String> {
    Ok(get(format!("{}/{}", list_url(settings)?, utf8_percent_encode(id, ESCAPED))))
}

/// The call that asks for the messages to an address, the provider's newest ones.
///
/// # Errors
/// As [`message_call`].
pub fn messages_call(settings: &Settings, to: &str) -> Result<Request, String> {
    let to = utf8_percent_encode(to, ESCAPED);
    Ok(get(format!("{}?to_email={to}&page_size={MOST}", list_url(settings)?)))
}

fn list_url(settings: &Settings) -> Result<String, String> {
    let vendor = match settings.kind {
        ProviderKind::ScaiSend => {
            let url = messages_url(&send_url(settings));
            return url.ok_or_else(|| {
                "send_path does not end in /mail/send, so nobody knows where its messages are asked for".to_owned()
            });
        }
        ProviderKind::NexusProMail => "NexusProMail",
        ProviderKind::SendGrid => "SendGrid",
    };
    Err(format!("{vendor} has no call that asks for a message by the id of its send call; its events are all there is"))
}

/// Reads the answer to [`message_call`].
///
/// # Errors
/// A sentence that says what is wrong and what to do.
pub fn message(response: &Response) -> Result<MessageStatus, String> {
    read(&json(response)?).ok_or_else(|| "the answer is no message: it has no status; is base_url right?".to_owned())
}

/// Reads the answer to [`messages_call`].
///
/// # Errors
/// As [`message`].
pub fn messages(response: &Response) -> Result<Vec<MessageStatus>, String> {
    let answer = json(response)?;
    let list = answer.get("messages").and_then(Value::as_array);
    let list = list.ok_or("the answer has no list of messages; is base_url right?")?;
    Ok(list.iter().filter_map(read).collect())
}

fn json(response: &Response) -> Result<Value, String> {
    let status = response.status;
    if (200..300).contains(&status) {
        let cut = if response.complete { "" } else { " (it broke off)" };
        return serde_json::from_slice(&response.body).map_err(|_| format!("the answer is no JSON{cut}"));
    }
    let hint = match status {
        401 => "the account's key is refused",
        403 => "the account's key may not read messages; a key that only sends has mail.send alone",
        404 => "the provider does not know such a message, or not any more",
        429 => "the provider is asked too often; try later",
        _ => "try again later",
    };
    let words = error_text(&response.body).map(|words| format!(" ({words})")).unwrap_or_default();
    Err(format!("HTTP {status}{words}: {hint}"))
}

/// A message needs an id and a status; the rest is shown if it is there.
fn read(json: &Value) -> Option<MessageStatus> {
    let text = |name: &str| json.get(name).and_then(plain);
    let events = json.get("events").and_then(Value::as_array).into_iter().flatten();
    let event = |json: &Value| {
        Some(StatusEvent {
            at: json.get("timestamp").and_then(plain).unwrap_or_default(),
            event: json.get("event_type").and_then(plain)?,
        })
    };
    let to = json.get("to_emails").and_then(Value::as_array).into_iter().flatten();
    Some(MessageStatus {
        id: text("id").or_else(|| text("message_id")).unwrap_or_default(),
        status: text("status")?,
        subject: text("subject"),
        from: text("from_email"),
        to: to.filter_map(plain).collect(),
        created: text("created_at"),
        events: events.filter_map(event).collect(),
    })
}

/// A text, or a number as one.
fn plain(json: &Value) -> Option<String> {
    match json {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
