//! Whose name is on the mail: the From that a mail without one gets.

use crate::address::Address;
use crate::message::{Mailbox, Message};
use crate::outcome::{Cause, Kind};

/// The rule of `[sender]`.
#[derive(Debug, Clone, Default)]
pub struct SenderPolicy {
    default: Option<Mailbox>,
}

impl SenderPolicy {
    /// From `sender.default`.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn new(default: &str) -> Result<Self, String> {
        if default.trim().is_empty() {
            return Ok(Self::default());
        }
        let mailbox = parse_mailbox(default)
            .ok_or_else(|| format!("{default:?} is not a mailbox like \"App <app@mail.example.com>\""))?;
        Ok(Self { default: Some(mailbox) })
    }

    /// Sees to it that the message has a From: its own, else the default, else its own without a domain completed with
    /// that of the reverse-path, else the reverse-path. JSON APIs want one, and
    /// RFC 5322 §3.6.2 requires it; programs such as cron leave it out.
    ///
    /// # Errors
    /// `BadSender` when there is none of the three (a null reverse-path and no default).
    pub fn apply(&self, message: &mut Message, reverse_path: Option<&Address>) -> Result<(), Cause> {
        if !message.from.is_empty() {
            return Ok(());
        }
        let of_path = || reverse_path.map(|address| Mailbox { name: None, address: address.clone() });
        match self.default.clone().or_else(|| message.bare_from(reverse_path)).or_else(of_path) {
            Some(mailbox) => message.from.push(mailbox),
            None => {
                return Err(Cause::new(Kind::BadSender, "the mail has no From address; set one, or sender.default"));
            }
        }
        Ok(())
    }
}

/// `Name <address>`, `"Name" <address>` or a bare address.
fn parse_mailbox(text: &str) -> Option<Mailbox> {
    let text = text.trim();
    match text.strip_suffix('>').and_then(|t| t.rsplit_once('<')) {
        Some((name, address)) => {
            let name = name.trim().trim_matches('"');
            let name = (!name.is_empty() && !name.contains(char::is_control)).then(|| name.to_owned());
            Some(Mailbox { name, address: Address::parse(address.trim()).ok()? })
        }
        None => Some(Mailbox { name: None, address: Address::parse(text).ok()? }),
    }
}
