//! The header of the mail: which field goes where in a [`Message`], and which go nowhere.

use super::{Bare, Mailbox, Message, Place, charsets, mailboxes, words};
use crate::address::Address;
use crate::mime::field::Fields;

/// Fields that are not passed on, in lower case; a name with `-` at its end means all that start with it.
///
/// Addresses, subject, date, identity and MIME have their own place in a payload, or the API makes them itself. Trace
/// fields tell about the way to us, and those that repeat the envelope are made to name blind recipients. Signatures and
/// verdicts are about octets that no longer exist once an API has rebuilt the mail.
const KEPT_BACK: &[&str] = &[
    // Addresses, subject, date, identity (RFC 5322 §3.6).
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "x-bcc",
    "resent-bcc",
    "subject",
    "date",
    "message-id",
    // MIME (RFC 2045).
    "mime-version",
    "content-",
    // Trace (RFC 5321 §4.4), and the envelope.
    "received",
    "x-received",
    "received-spf",
    "return-path",
    "delivered-to",
    "envelope-to",
    "x-envelope-to",
    "x-rcpt-to",
    "x-receiver",
    "apparently-to",
    // Signatures and verdicts (RFC 6376, RFC 8601, RFC 8617), and what the senders of the APIs set themselves.
    "dkim-signature",
    "domainkey-signature",
    "authentication-results",
    "arc-",
    "x-sg-",
    // Credentials of other vendors' gateways, which no reader is meant to see.
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "x-postmark-server-token",
    "feedback-id",
    "x-feedback-id",
];

/// Most mailboxes without a domain that are remembered: each is looked for among the recipients.
const MAX_BARE: usize = 100;

impl Message {
    /// Reads the header of the mail that starts at `at`; `text_charset` is that of its text.
    pub(super) fn read_header(&mut self, at: usize, text_charset: Option<&[u8]>) {
        let raw = self.raw.clone();
        for field in Fields::new(&raw, at, |_: &[u8]| false) {
            let name = raw.get(field.name).unwrap_or_default();
            let value = raw.get(field.value).unwrap_or_default();
            self.read_field(name, &charsets::raw_field(value, text_charset));
        }
    }

    /// Of fields that RFC 5322 §3.6 allows once, the first that says something counts.
    fn read_field(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let text = || words::unstructured(value);
        if is("from") && self.from.is_empty() {
            self.from = self.mailboxes(Place::From, 0, value);
        } else if is("sender") && self.sender.is_none() {
            self.sender = self.mailboxes(Place::Sender, 0, value).into_iter().next();
        } else if is("reply-to") && self.reply_to.is_empty() {
            self.reply_to = self.mailboxes(Place::ReplyTo, 0, value);
        } else if is("to") {
            let more = self.mailboxes(Place::To, self.to.len(), value);
            self.to.extend(more);
        } else if is("cc") {
            let more = self.mailboxes(Place::Cc, self.cc.len(), value);
            self.cc.extend(more);
        } else if is("subject") && self.subject.is_none() {
            self.subject = Some(text()).filter(|subject| !subject.is_empty());
        } else if is("message-id") && self.message_id.is_none() {
            self.message_id = Some(text()).filter(|id| !id.is_empty());
        } else if !is_kept_back(name) {
            self.headers.push((String::from_utf8_lossy(name).into_owned(), text()));
        }
    }
}

impl Message {
    /// The mailboxes of a field whose list has `before` already; those without a domain are noted in [`Message::bare`].
    fn mailboxes(&mut self, field: Place, before: usize, value: &[u8]) -> Vec<Mailbox> {
        let found = mailboxes::parse(value);
        let bare = found.bare.into_iter().map(|(name, local, at)| Bare { field, at: before + at, name, local });
        self.bare.extend(bare.take(MAX_BARE.saturating_sub(self.bare.len())));
        found.whole
    }

    /// Gives the mailboxes of To and Cc that have no domain (`To: root`) the addresses that the envelope has for them,
    /// and those of Sender and Reply-To the domain of the reverse-path: mail servers complete such names for their users
    /// (RFC 5321 §2.3.5 wants it done before the mail is sent on). From is the sender policy's: [`Message::bare_from`].
    pub fn complete(&mut self, reverse_path: Option<&Address>, recipients: &[Address]) {
        // From the last: an insertion moves what stands behind it.
        for Bare { field, at, name, local } in self.bare.clone().into_iter().rev() {
            let meant = |address: &&Address| address.local().eq_ignore_ascii_case(&local);
            let address = match field {
                Place::To | Place::Cc => recipients.iter().find(meant).cloned(),
                Place::Sender | Place::ReplyTo => with_domain_of(&local, reverse_path),
                Place::From => None,
            };
            let Some(mailbox) = address.map(|address| Mailbox { name, address }) else { continue };
            match field {
                Place::To => self.to.insert(at.min(self.to.len()), mailbox),
                Place::Cc => self.cc.insert(at.min(self.cc.len()), mailbox),
                Place::ReplyTo => self.reply_to.insert(at.min(self.reply_to.len()), mailbox),
                Place::Sender if at == 0 => self.sender = Some(mailbox),
                Place::Sender | Place::From => {}
            }
        }
        self.bare.retain(|bare| bare.field == Place::From);
    }

    /// The first From that has no domain (`From: root (Cron Daemon)`), with the domain of the reverse-path.
    pub fn bare_from(&self, reverse_path: Option<&Address>) -> Option<Mailbox> {
        let bare = self.bare.iter().find(|bare| bare.field == Place::From)?;
        let address = with_domain_of(&bare.local, reverse_path)?;
        Some(Mailbox { name: bare.name.clone(), address })
    }
}

fn with_domain_of(local: &str, other: Option<&Address>) -> Option<Address> {
    other.and_then(|other| Address::parse(&format!("{local}@{}", other.domain())).ok())
}

fn is_kept_back(name: &[u8]) -> bool {
    KEPT_BACK.iter().any(|known| {
        let compared = if known.ends_with('-') { name.get(..known.len()).unwrap_or_default() } else { name };
        compared.eq_ignore_ascii_case(known.as_bytes())
    })
}
