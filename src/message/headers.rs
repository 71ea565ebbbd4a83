//! The header of the mail: which field goes where in a [`Message`], and which go nowhere.

use super::{Message, mailboxes, words};
use crate::mime::field::Fields;

/// Fields that are not passed on, in lower case; a name with `-` at its end means all that start with it.
///
/// Addresses, subject, date, identity and MIME have their own place in a payload, or the API makes them itself. Trace
/// fields tell about the way to us and may name blind recipients. Signatures and verdicts are about octets that no
/// longer exist once an API has rebuilt the mail.
const KEPT_BACK: &[&str] = &[
    // Addresses, subject, date, identity (RFC 5322 §3.6).
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "x-bcc",
    "subject",
    "date",
    "message-id",
    "resent-",
    // MIME (RFC 2045).
    "mime-version",
    "content-",
    // Trace (RFC 5321 §4.4) and what mail stores note about the delivery.
    "received",
    "x-received",
    "received-spf",
    "return-path",
    "delivered-to",
    "x-delivered-to",
    "delivery-date",
    "envelope-to",
    "envelope-from",
    "x-envelope-to",
    "x-envelope-from",
    "x-original-to",
    "x-rcpt-to",
    "apparently-to",
    // Signatures and verdicts (RFC 6376, RFC 8601, RFC 8617), and what the senders of the APIs set themselves.
    "dkim-signature",
    "domainkey-signature",
    "x-google-dkim-signature",
    "authentication-results",
    "arc-",
    "x-sg-",
    "feedback-id",
    "x-feedback-id",
];

impl Message {
    /// Reads the header of the mail that starts at `at`.
    pub(super) fn read_header(&mut self, at: usize) {
        let raw = self.raw.clone();
        for field in Fields::new(&raw, at, |_: &[u8]| false) {
            let name = raw.get(field.name).unwrap_or_default();
            self.read_field(name, raw.get(field.value).unwrap_or_default());
        }
    }

    /// Of fields that RFC 5322 §3.6 allows once, the first that says something counts.
    fn read_field(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let text = || words::unstructured(value);
        if is("from") && self.from.is_empty() {
            self.from = mailboxes::parse(value);
        } else if is("sender") && self.sender.is_none() {
            self.sender = mailboxes::parse(value).into_iter().next();
        } else if is("reply-to") && self.reply_to.is_empty() {
            self.reply_to = mailboxes::parse(value);
        } else if is("to") {
            self.to.extend(mailboxes::parse(value));
        } else if is("cc") {
            self.cc.extend(mailboxes::parse(value));
        } else if is("subject") && self.subject.is_none() {
            self.subject = Some(text()).filter(|subject| !subject.is_empty());
        } else if is("message-id") && self.message_id.is_none() {
            self.message_id = Some(text()).filter(|id| !id.is_empty());
        } else if !is_kept_back(name) {
            self.headers.push((String::from_utf8_lossy(name).into_owned(), text()));
        }
    }
}

fn is_kept_back(name: &[u8]) -> bool {
    KEPT_BACK.iter().any(|known| {
        let compared = if known.ends_with('-') { name.get(..known.len()).unwrap_or_default() } else { name };
        compared.eq_ignore_ascii_case(known.as_bytes())
    })
}
