//! Webhook events: what is said, how it is signed, and its sending.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::curve;
use super::mailbox::Mail;
use super::steering::{self, Fate};
use super::webhooks::Webhook;
use crate::config::ProviderKind;
use crate::provider::signature::sign;
use crate::secret::Secret;

/// Header names and values of an event.
pub type Headers = Vec<(&'static str, String)>;

/// Posts a body with headers to a URL and tells the status; injected, because the HTTP client lives elsewhere.
pub type Post = Arc<dyn Fn(String, Headers, Bytes) -> BoxFuture<'static, Result<u16, String>> + Send + Sync>;

/// Longest wait for a webhook's answer (ScaiSend gives 30 s).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most mails whose events are on their way at a time.
const MAX_UNDER_WAY: usize = 64;

/// Sends events.
pub(super) struct Sender {
    post: Post,
    room: Arc<Semaphore>,
}

impl Sender {
    pub(super) fn new(post: Post) -> Self {
        Self { post, room: Arc::new(Semaphore::new(MAX_UNDER_WAY)) }
    }

    /// Sends all events of a taken mail to these webhooks, in order and each once: the vendors would try again for
    /// hours, which nobody who tries things out waits for.
    pub(super) fn announce(&self, mail: &Mail, webhooks: Vec<Webhook>) {
        if webhooks.is_empty() {
            return;
        }
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::warn!(id = mail.id, "webhook events dropped: too many are on their way");
            return;
        };
        let (api, id, post) = (mail.provider, mail.id.clone(), Arc::clone(&self.post));
        let recipients: Vec<String> = mail.summary.recipients().map(str::to_owned).collect();
        tokio::spawn(async move {
            for recipient in recipients {
                for name in names(api, steering::fate(&recipient)) {
                    let event = Event { api, name, message_id: &id, recipient: &recipient, at: SystemTime::now() };
                    deliver(&post, &event, &webhooks).await;
                }
            }
            drop(place);
        });
    }
}

async fn deliver(post: &Post, event: &Event<'_>, webhooks: &[Webhook]) {
    let body = event.body();
    for webhook in webhooks {
        let Some((url, secret)) = webhook.target(event.name) else { continue };
        let headers = event.headers(secret.expose(), &body);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, post(url.clone(), headers, body.clone())).await;
        webhook.sent(matches!(answer, Ok(Ok(200..=299))));
        match answer {
            Ok(Ok(status @ 200..=299)) => tracing::debug!(event = event.name, url, status, "webhook event sent"),
            Ok(Ok(status)) => tracing::warn!(event = event.name, url, status, "webhook event refused"),
            Ok(Err(error)) => tracing::warn!(event = event.name, url, error, "webhook event not sent"),
            Err(_) => tracing::warn!(event = event.name, url, "webhook event not answered"),
        }
    }
}

/// The events of a mail that meets this fate, in their order.
pub fn names(api: ProviderKind, fate: Fate) -> &'static [&'static str] {
    match (api, fate) {
        (ProviderKind::NexusProMail, Fate::Delivered) => &["delivered"],
        (ProviderKind::NexusProMail, Fate::Bounced) => &["bounced.hard"],
        (ProviderKind::NexusProMail, Fate::Complained) => &["delivered", "complained"],
        (ProviderKind::NexusProMail, Fate::Unsubscribed) => &["delivered", "unsubscribed"],
        (ProviderKind::ScaiSend, Fate::Complained) => &["processed", "delivered", "spam_report"],
        (ProviderKind::SendGrid, Fate::Complained) => &["processed", "delivered", "spamreport"],
        (ProviderKind::ScaiSend | ProviderKind::SendGrid, Fate::Delivered) => &["processed", "delivered"],
        (ProviderKind::ScaiSend | ProviderKind::SendGrid, Fate::Bounced) => &["processed", "bounce"],
        (ProviderKind::ScaiSend | ProviderKind::SendGrid, Fate::Unsubscribed) => {
            &["processed", "delivered", "unsubscribe"]
        }
    }
}

/// Something that happened to a mail at one recipient.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// In whose words.
    pub api: ProviderKind,
    /// The event's name there.
    pub name: &'a str,
    /// The mail.
    pub message_id: &'a str,
    /// The recipient.
    pub recipient: &'a str,
    /// When.
    pub at: SystemTime,
}

impl Event<'_> {
    /// The JSON as the provider words it.
    pub fn body(&self) -> Bytes {
        let json = match self.api {
            ProviderKind::NexusProMail => self.nexuspromail(),
            ProviderKind::ScaiSend => self.scaisend(),
            ProviderKind::SendGrid => self.sendgrid(),
        };
        json.to_string().into()
    }

    fn nexuspromail(&self) -> Value {
        let at = humantime::format_rfc3339_seconds(self.at).to_string();
        let data = if self.name.starts_with("bounced") {
            json!({
                "message_id": self.message_id, "email": self.recipient, "timestamp": at,
                "bounce_code": "550", "bounce_reason": "5.1.1 The email account that you tried to reach does not exist",
            })
        } else {
            json!({ "message_id": self.message_id, "email": self.recipient, "timestamp": at })
        };
        json!({ "id": fresh_id(), "type": self.name, "created_at": at, "data": data })
    }

    fn scaisend(&self) -> Value {
        let metadata = match self.name {
            "bounce" => json!({ "smtp_response": "550 5.1.1 No such user", "bounce_type": "hard" }),
            "delivered" => json!({ "smtp_response": "250 2.0.0 Ok" }),
            _ => json!({}),
        };
        json!({
            "event_id": fresh_id(), "event_type": self.name, "timestamp": unix(self.at), "message_id": self.message_id,
            "recipient_email": self.recipient, "tenant_id": "sandbox", "metadata": metadata,
        })
    }

    /// A list with one event in it. The message's id is the beginning of the one that it has here.
    fn sendgrid(&self) -> Value {
        let of = |event: &str, text: &str| if self.name == event { json!(text) } else { Value::Null };
        json!([{
            "email": self.recipient, "timestamp": unix(self.at), "event": self.name, "sg_event_id": fresh_id(),
            "sg_message_id": format!("{}.recvd-sandbox-1", self.message_id),
            "type": of("bounce", "bounce"), "status": of("bounce", "5.1.1"),
            "reason": of("bounce", "550 5.1.1 No such user"), "response": of("delivered", "250 2.0.0 Ok"),
        }])
    }

    /// The headers that go with the body.
    pub fn headers(&self, secret: &str, body: &[u8]) -> Headers {
        let at = unix(self.at);
        let signed = match self.api {
            ProviderKind::NexusProMail => vec![("X-NexusProMail-Signature", nexuspromail_signature(secret, body))],
            ProviderKind::ScaiSend => vec![
                ("X-ScaiSend-Signature", scaisend_signature(secret, at, body)),
                ("X-ScaiSend-Timestamp", at.to_string()),
                ("X-ScaiSend-Event", self.name.to_owned()),
            ],
            ProviderKind::SendGrid => {
                let at = at.to_string();
                // Without one the relay says what is wrong.
                let signature = curve::sign(secret, &[at.as_bytes(), body].concat());
                vec![
                    ("X-Twilio-Email-Event-Webhook-Signature", signature.unwrap_or_default()),
                    ("X-Twilio-Email-Event-Webhook-Timestamp", at),
                ]
            }
        };
        std::iter::once(("Content-Type", "application/json".to_owned())).chain(signed).collect()
    }
}

/// `X-NexusProMail-Signature`: over the body alone.
pub fn nexuspromail_signature(secret: &str, body: &[u8]) -> String {
    sign(&Secret::new(secret), &[body])
}

/// `X-ScaiSend-Signature`: over `<timestamp>.<body>`.
pub fn scaisend_signature(secret: &str, timestamp: u64, body: &[u8]) -> String {
    sign(&Secret::new(secret), &[timestamp.to_string().as_bytes(), b".", body])
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn fresh_id() -> String {
    format!("evt_{}", Uuid::now_v7().simple())
}
