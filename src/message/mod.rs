//! Header values and body selection: raw bytes -> `Message`. The only user of mail-parser.

mod attachments;
mod bodies;
mod charsets;
mod content;
mod date;
mod headers;
mod hidden;
mod mailboxes;
mod uuencode;
mod words;

use std::sync::Arc;

use bytes::Bytes;

pub use self::bodies::html_from_text;
pub use self::content::{Base64Chunks, Content, TransferEncoding};
pub use self::date::{internet_date, rfc3339, unix_seconds};
pub use self::words::one_line;
use crate::address::Address;
use crate::mime::{self, Part, parameter};

/// A name and an address, as a header shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The display name, if any: one line, no controls.
    pub name: Option<String>,
    /// The address.
    pub address: Address,
}

/// What a mail says, ready to be rendered for an API. Nothing here decides who gets it: that is the envelope.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// From (RFC 5322 §3.6.2); usually one.
    pub from: Vec<Mailbox>,
    /// Sender (RFC 5322 §3.6.2): read so that it is known and not sent on as any other field; no API has a place for it.
    pub sender: Option<Mailbox>,
    /// Reply-To.
    pub reply_to: Vec<Mailbox>,
    /// To, as written; all To fields.
    pub to: Vec<Mailbox>,
    /// Cc, as written; all Cc fields. (Bcc is never read: RFC 5322 §3.6.3 recipients are the envelope's.)
    pub cc: Vec<Mailbox>,
    /// Mailboxes of these fields that have no domain; [`Message::complete`] gives them one.
    pub bare: Vec<Bare>,
    /// Subject, decoded, one line.
    pub subject: Option<String>,
    /// The text/plain bodies, joined.
    pub text: Option<Arc<String>>,
    /// The text/html bodies, joined.
    pub html: Option<Arc<String>>,
    /// Every other leaf, in document order.
    pub attachments: Vec<Attachment>,
    /// The other header fields in their order, decoded, one line each: threading, List-*, X-* and so on; not addresses,
    /// subject, Date, Message-ID, MIME, trace or signature fields.
    pub headers: Vec<(String, String)>,
    /// Message-ID as written, with its angle brackets.
    pub message_id: Option<String>,
    /// The mail as it came.
    pub raw: Bytes,
    /// What no JSON API can carry (S/MIME, PGP/MIME …), found while reading.
    pub losses: Vec<Loss>,
}

/// A field that names mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// From.
    From,
    /// Sender.
    Sender,
    /// Reply-To.
    ReplyTo,
    /// To.
    To,
    /// Cc.
    Cc,
}

/// A mailbox without a domain, as in `From: root (Cron Daemon)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bare {
    /// Where it stands.
    pub field: Place,
    /// How many whole mailboxes of the same field stand before it.
    pub at: usize,
    /// Its display name, if any.
    pub name: Option<String>,
    /// Its local part.
    pub local: String,
}

/// Something of a mail that an API cannot carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// What, in words for the reply and the log: `attachment "report.pdf"`.
    pub what: String,
}

/// A leaf that is not a body.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// A name without directories or controls; made up where the mail has none.
    pub filename: String,
    /// The media type with the parameters that matter to a reader (`method`, `charset`).
    pub content_type: String,
    /// Whether it belongs into the HTML (`cid:`) or is marked inline.
    pub inline: bool,
    /// Content-ID without angle brackets.
    pub content_id: Option<String>,
    /// Its octets.
    pub content: Content,
}

/// Why a mail is not read. Displays as the sentence for the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It has more structure than anybody's mail.
    #[error(transparent)]
    Structure(#[from] mime::Excess),
}

impl Message {
    /// Reads a mail.
    ///
    /// # Errors
    /// [`Malformed`] if it exceeds the limits of [`mime::Limits`]. Everything else is read as well as it goes.
    pub fn parse(raw: Bytes) -> Result<Self, Malformed> {
        let parts = mime::split(&raw, &mime::Limits::default())?;
        let selection = bodies::select(&raw, &parts);
        let mut message = Self { losses: losses(&raw, &parts), raw, ..Self::default() };
        let text_charset = text_charset(&message.raw, &parts);
        message.read_header(parts.first().map_or(0, |mail| mail.header.start), text_charset.as_deref());
        message.read_bodies(&parts, &selection);
        message.read_attachments(&parts, &selection.attachments);
        Ok(message)
    }
}

/// Whether a part is S/MIME that (a layer of) the mail is made of: PKCS #7 that is all of it, or has the name that
/// RFC 8551 §3.2.1 asks for, or none. A signed file that is attached, such as an invoice `….xml.p7m`, arrives whole.
fn is_smime(raw: &[u8], index: usize, part: &Part) -> bool {
    let name = attachments::raw_name(raw, part);
    let usual = name.as_ref().is_some_and(|name| name.octets.eq_ignore_ascii_case(b"smime.p7m"));
    match part.media.as_str() {
        "application/pkcs7-mime" | "application/x-pkcs7-mime" => index == 0 || usual || name.is_none(),
        "application/octet-stream" => usual,
        _ => false,
    }
}

/// The charset of the first text that has one.
fn text_charset(raw: &[u8], parts: &[Part]) -> Option<Vec<u8>> {
    let label = |part: &Part| {
        parameter::find(Part::value(raw, part.content_type.as_ref()), "charset")
            .map(parameter::Parameter::first_token_or_quoted)
    };
    parts.iter().filter(|part| part.media.starts_with("text/")).find_map(label)
}

/// Signatures and encryption: they hold for the octets of a part, and an API that rebuilds the mail breaks them.
fn losses(raw: &[u8], parts: &[Part]) -> Vec<Loss> {
    let mut losses: Vec<Loss> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let content_type = Part::value(raw, part.content_type.as_ref());
        let is_pgp = || {
            let protocol = parameter::find(content_type, "protocol").unwrap_or_default().octets.to_ascii_lowercase();
            protocol.starts_with(b"application/pgp")
        };
        let what = match part.media.as_str() {
            "multipart/signed" if is_pgp() => "the PGP/MIME signature (multipart/signed)",
            "multipart/signed" => "the S/MIME signature (multipart/signed)",
            "multipart/encrypted" => "the PGP/MIME encryption (multipart/encrypted)",
            _ if is_smime(raw, i, part) => "the S/MIME content (application/pkcs7-mime)",
            _ => continue,
        };
        if losses.iter().all(|loss| loss.what != what) {
            losses.push(Loss { what: what.to_owned() });
        }
    }
    losses
}
