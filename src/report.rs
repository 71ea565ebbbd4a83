//! What a sender is told of recipients that were refused although others were accepted: a delivery report (RFC 3464).

use std::time::SystemTime;

use crate::address::Address;
use crate::controls::is_control;
use crate::envelope::{Envelope, TransactionId};
use crate::message::{Mailbox, Message, internet_date};
use crate::mime::field::Fields;
use crate::mime::{self, Limits};
use crate::reply::Reply;
use crate::sender::shown;

/// Most octets of the original's header that go along.
const MOST_HEADER: usize = 16 * 1024;

/// A recipient, and the reply that it alone would have got.
pub type Refused = (Address, Reply);

/// Why nobody is sent a report. Displays as the words for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// The null reverse-path wants none (RFC 5321 §4.5.5): the mail may be a report itself.
    #[error("the reverse-path is null")]
    NullReversePath,
    /// A program wrote the mail, or it went to a list: answers to such mail make loops (RFC 3834 §2).
    #[error("the mail is an automatic one")]
    Automatic,
    /// The reverse-path is one of the recipients that were refused.
    #[error("the reverse-path is among the refused recipients")]
    RefusedItself,
}

/// Who gets the report, if anybody may.
///
/// # Errors
/// Why nobody may.
pub fn addressee<'a>(envelope: &'a Envelope, original: &Message, refused: &[Refused]) -> Result<&'a Address, Withheld> {
    let to = envelope.reverse_path.as_ref().ok_or(Withheld::NullReversePath)?;
    if original.headers.iter().any(|(name, value)| is_automatic(name, value)) {
        return Err(Withheld::Automatic);
    }
    if refused.iter().any(|(recipient, _)| recipient.reads_like(to)) {
        return Err(Withheld::RefusedItself);
    }
    Ok(to)
}

/// Whether a field says that no person waits for an answer: RFC 3834 §5, RFC 2919, and the older Precedence.
fn is_automatic(name: &str, value: &str) -> bool {
    let word = value.trim().split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).next().unwrap_or_default();
    match name.to_ascii_lowercase().as_str() {
        "auto-submitted" => !word.eq_ignore_ascii_case("no"),
        "precedence" => ["bulk", "junk", "list"].iter().any(|known| word.eq_ignore_ascii_case(known)),
        "list-id" => true,
        _ => false,
    }
}

/// A delivery report, ready to be written.
#[derive(Debug)]
pub struct Report<'a> {
    /// The relay's host name.
    pub reporter: &'a str,
    /// Its own name; nobody could know it before, so it also parts the parts.
    pub id: TransactionId,
    /// When the original came in.
    pub arrival: SystemTime,
    /// Its author: somebody whose mail the API takes.
    pub from: &'a Mailbox,
    /// The original's reverse-path.
    pub to: &'a Address,
    /// The mail that is reported about.
    pub original: &'a Message,
    /// Whom it did not reach, and why.
    pub refused: &'a [Refused],
}

impl Report<'_> {
    /// The report as a mail: multipart/report (RFC 6522) of the words for people, the status for programs, and the
    /// header of the original. It is read like any other mail, so text in it is UTF-8 as it is.
    pub fn mail(&self) -> Vec<u8> {
        let boundary = format!("report-{}", self.id);
        let mut mail = self.header(&self.threading());
        mail.push_str(&format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary=\"{boundary}\"\r\n\r\n\
             --{boundary}\r\n{TEXT}\r\n{}\r\n\
             --{boundary}\r\nContent-Type: message/delivery-status\r\n\
             Content-Disposition: attachment; filename=\"delivery-status.txt\"\r\n\r\n{}\r\n\
             --{boundary}\r\nContent-Type: text/rfc822-headers\r\n\
             Content-Disposition: attachment; filename=\"original-header.txt\"\r\n\r\n",
            self.text(),
            self.status()
        ));
        let mut mail = mail.into_bytes();
        mail.append(&mut original_header(self.original));
        mail.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        mail
    }

    /// The words for people alone, for an API that has no place for anything else.
    pub fn text_alone(&self) -> Vec<u8> {
        format!("{}{TEXT}\r\n{}", self.header(""), self.text()).into_bytes()
    }

    fn header(&self, more: &str) -> String {
        let (from, to, subject) = (shown(self.from), self.to, self.subject());
        format!("From: {from}\r\nTo: <{to}>\r\nSubject: Undelivered: {subject}\r\n{more}MIME-Version: 1.0\r\n")
    }

    /// That this is an answer of a program (RFC 3834 §5), and to which mail.
    fn threading(&self) -> String {
        let mut fields = String::from("Auto-Submitted: auto-replied\r\n");
        if let Some(id) = &self.original.message_id {
            fields.push_str(&format!("In-Reply-To: {id}\r\nReferences: {id}\r\n"));
        }
        fields
    }

    fn subject(&self) -> &str {
        self.original.subject.as_deref().unwrap_or("(no subject)")
    }

    /// The words for people.
    pub fn text(&self) -> String {
        let (subject, arrival) = (self.subject(), internet_date(self.arrival));
        let mut text = format!(
            "Your mail \"{subject}\" of {arrival} was not sent to all of its recipients.\r\n\r\n\
             These were refused, and are not tried again:\r\n\r\n"
        );
        for (recipient, reply) in self.refused {
            text.push_str(&format!("<{recipient}>\r\n    {reply}\r\n\r\n"));
        }
        text.push_str(&format!(
            "For all others it was accepted: they need not get it again.\r\n\r\n\
             The mail relay {} wrote this report.\r\n",
            self.reporter
        ));
        text
    }

    /// The fields for programs (RFC 3464 §2.2, §2.3).
    pub fn status(&self) -> String {
        let mut status =
            format!("Reporting-MTA: dns; {}\r\nArrival-Date: {}\r\n", self.reporter, internet_date(self.arrival));
        for (recipient, reply) in self.refused {
            let code = reply.enhanced.map_or_else(|| "5.0.0".to_owned(), |enhanced| enhanced.to_string());
            let recipient = typed(recipient);
            status.push_str(&format!(
                "\r\nFinal-Recipient: {recipient}\r\nAction: failed\r\nStatus: {code}\r\nDiagnostic-Code: smtp; {reply}\r\n"
            ));
        }
        status
    }
}

/// The fields of a part that is UTF-8 text.
const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";

/// An address with its type; beyond ASCII in the form that is ASCII (utf-8-addr-xtext, RFC 6533 §3).
fn typed(address: &Address) -> String {
    if address.is_ascii() {
        return format!("rfc822; {address}");
    }
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '+' | '=' | '\\');
    let escaped = |c: char| if plain(c) { c.to_string() } else { format!("\\x{{{:X}}}", u32::from(c)) };
    format!("utf-8; {}", address.as_str().chars().map(escaped).collect::<String>())
}

/// The header of the original as it came; of a very long one the fields that fit. Without what no reader is to see:
/// who else got it (Bcc), and what its program asks of the API.
fn original_header(original: &Message) -> Vec<u8> {
    let (raw, parts) = (&original.raw, mime::split(&original.raw, &Limits::default()).unwrap_or_default());
    let start = parts.first().map_or(0, |mail| mail.header.start);
    let mut header = Vec::new();
    for field in Fields::new(raw, start, |_: &[u8]| false) {
        let (name, value) = (raw.get(field.name).unwrap_or_default(), raw.get(field.value).unwrap_or_default());
        let shown = String::from_utf8_lossy(name);
        if shown.to_ascii_lowercase().ends_with("bcc") || is_control(&shown) {
            continue;
        }
        let line = [name, b": ", value.trim_ascii_start(), b"\r\n"].concat();
        if header.len() + line.len() > MOST_HEADER {
            break;
        }
        header.extend_from_slice(&line);
    }
    header
}
