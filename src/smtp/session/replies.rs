//! The words of the session.

use std::borrow::Cow;

use super::{Offer, Session, Terms};
use crate::envelope::TransactionId;
use crate::reply::{Enhanced, Reply};
use crate::seats::NoSeat;
use crate::smtp::Protocol;
use crate::smtp::codec::Flaw;
use crate::smtp::sasl::MECHANISMS;

impl Session {
    pub(super) fn ehlo_reply(&self) -> Reply {
        let mut lines: Vec<Cow<'static, str>> = vec![
            self.terms.hostname.to_string().into(),
            "PIPELINING".into(),
            format!("SIZE {}", self.terms.max_message_size).into(),
            "8BITMIME".into(),
            "ENHANCEDSTATUSCODES".into(),
            "CHUNKING".into(),
            format!("LIMITS RCPTMAX={}", self.terms.max_recipients).into(), // RFC 9422
        ];
        if self.terms.utf8_addresses {
            lines.push("SMTPUTF8".into()); // RFC 6531 §3.1: beside 8BITMIME.
        }
        if self.offers_tls() {
            lines.push("STARTTLS".into());
        }
        if self.offers_auth() {
            lines.push(format!("AUTH {MECHANISMS}").into());
        }
        Reply::multiline(250, lines)
    }

    pub(super) fn flaw_reply(&self, flaw: Flaw, id: TransactionId) -> Reply {
        match flaw {
            Flaw::TooLarge => self.too_large(Some(id)),
            Flaw::NoRoom => no_room(Some(id)),
            Flaw::LineEnds => {
                let text = "The message holds a CR or LF alone; its lines must end with CRLF, and only they may";
                reply(550, 6, 0, format!("{text} id={id}"))
            }
        }
    }

    pub(super) fn too_large(&self, id: Option<TransactionId>) -> Reply {
        let limit = self.terms.max_message_size;
        let id = id.map(|id| format!(" id={id}")).unwrap_or_default();
        reply(552, 3, 4, format!("The message is too large; this relay takes at most {limit} octets{id}"))
    }
}

/// The reply when the message does not fit beside those that are held (`delivery.max_in_flight_bytes`).
pub fn no_room(id: Option<TransactionId>) -> Reply {
    let id = id.map(|id| format!(" id={id}")).unwrap_or_default();
    reply(452, 3, 1, format!("The relay holds as much mail as it may; send this one again later{id}"))
}

/// The reply when the relay itself is at fault.
pub fn fault() -> Reply {
    reply(421, 3, 0, "Internal error of the relay; connect again later")
}

/// The reply to a client that finds all places taken.
pub fn busy(no_seat: NoSeat) -> Reply {
    let whose = match no_seat {
        NoSeat::AtAll => "to this relay",
        NoSeat::ForThisClient => "from your address",
    };
    reply(421, 7, 0, format!("Too many connections {whose}; try again later"))
}

/// 500 to 504 and 555 are about the protocol (RFC 5321 §4.2.2), unless the subject says that it is the address.
pub(super) fn is_protocol_error(reply: &Reply) -> bool {
    matches!(reply.code, 500..=504 | 555) && reply.enhanced.is_none_or(|e| e.1 == 5)
}

pub(super) fn help(terms: &Terms) -> Reply {
    let hello = if terms.protocol == Protocol::Lmtp { "LHLO" } else { "EHLO HELO" };
    let mut commands = format!("Commands: {hello} MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT");
    if terms.tls != Offer::No {
        commands.push_str(" STARTTLS");
    }
    if terms.auth {
        commands.push_str(" AUTH");
    }
    let purpose = "Mail is sent on through an HTTP API; 250 after the dot means that the API has taken it";
    Reply { code: 214, enhanced: Some(Enhanced(2, 0, 0)), lines: vec![commands.into(), purpose.into()] }
}

pub(super) fn reply(code: u16, subject: u8, detail: u8, text: impl Into<Cow<'static, str>>) -> Reply {
    Reply::new(code, Enhanced::of(code, subject, detail), text)
}
