//! Whose name is on the mail: the From that a mail without one gets, who may stand there, and what stands there instead.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::address::{Address, Alphabet};
use crate::envelope::Envelope;
use crate::message::{Loss, Mailbox, Message};
use crate::outcome::{Cause, Kind};
use crate::pattern::Patterns;

/// The field that names the From that a mail came with, where another one took its place.
pub const ORIGINAL_FROM: &str = "X-Original-From";

/// When the default takes the place of a mail's own From.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rewrite {
    /// Never: a From that is not allowed is refused.
    #[default]
    Never,
    /// Where the mail's own is not allowed.
    Disallowed,
    /// Always.
    Always,
}

/// What the account's API can carry of the authors that do not stand in From.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Most addresses of Reply-To.
    pub reply_to: usize,
    /// Whether addresses beyond ASCII can be carried.
    pub utf8_addresses: bool,
    /// Whether header fields can.
    pub headers: bool,
}

impl Room {
    /// Those of `authors` that fit into Reply-To. What a policy puts there is never a reason to refuse the mail.
    fn fit(self, authors: &[Mailbox]) -> Vec<Mailbox> {
        let fits = |mailbox: &&Mailbox| self.utf8_addresses || mailbox.address.is_ascii();
        authors.iter().filter(fits).take(self.reply_to).cloned().collect()
    }
}

/// The rule of `[sender]`, and of the lists of the logins.
#[derive(Debug, Clone, Default)]
pub struct SenderPolicy {
    default: Option<Mailbox>,
    allowed: Patterns,
    rewrite: Rewrite,
    principals: BTreeMap<String, Patterns>,
}

impl SenderPolicy {
    /// From `sender.default` (a mailbox, or nothing), `sender.allowed` (empty: all) and `sender.rewrite`.
    ///
    /// # Errors
    /// A sentence about what is wrong with the default.
    pub fn new(default: &str, allowed: &Patterns, rewrite: Rewrite) -> Result<Self, String> {
        let default = match default.trim() {
            "" => None,
            text => Some(
                parse_mailbox(text)
                    .ok_or_else(|| format!("{default:?} is not a mailbox like \"App <app@mail.example.com>\""))?,
            ),
        };
        let policy = Self { default, allowed: allowed.clone(), rewrite, principals: BTreeMap::new() };
        match &policy.default {
            None if rewrite != Rewrite::Never => Err("sender.rewrite needs a mailbox to put in the place".to_owned()),
            Some(default) if !policy.allowed.allows(Some(&default.address)) => {
                Err(format!("<{}> is not among sender.allowed itself", default.address))
            }
            _ => Ok(policy),
        }
    }

    /// The same with the lists of `smtp.senders.principals`: a login that has one stands under no other name in From
    /// either.
    #[must_use]
    pub fn with_principals(self, principals: &BTreeMap<String, Patterns>) -> Self {
        Self { principals: principals.clone(), ..self }
    }

    /// Whether every API takes the default.
    pub fn is_ascii(&self) -> bool {
        self.default.as_ref().is_none_or(|mailbox| mailbox.address.is_ascii())
    }

    /// Sees to it that the message has one From that may stand there: its own, else the default, else its own
    /// without a domain completed with that of the reverse-path, else the reverse-path. JSON APIs want one, and RFC 5322
    /// §3.6.2 requires it; programs such as cron leave it out. What no longer stands there goes where there is `room`.
    ///
    /// # Errors
    /// `BadSender` when there is none of the three (a null reverse-path and no default), or when it may not stand there.
    pub fn apply(&self, message: &mut Message, envelope: &Envelope, room: Room) -> Result<(), Cause> {
        if message.from.is_empty() {
            message.from.push(self.missing_from(message, envelope)?);
        }
        let own = envelope.principal.as_ref().and_then(|principal| self.principals.get(principal));
        let may_stand = |mailbox: &Mailbox| {
            let address = Some(&mailbox.address);
            own.is_none_or(|own| own.has(address)) && self.allowed.allows(address)
        };
        let refused = message.from.iter().find(|mailbox| !may_stand(mailbox)).map(|mailbox| mailbox.address.clone());
        match (self.rewrite, refused, &self.default) {
            (Rewrite::Always, _, Some(default)) | (Rewrite::Disallowed, Some(_), Some(default)) => {
                replace_from(message, default, room);
                Ok(())
            }
            (_, Some(address), _) => Err(not_allowed(&address, own.is_some())),
            (_, None, _) => {
                keep_authors(message, room);
                Ok(())
            }
        }
    }

    /// Whose name is on a delivery report about `original`: the default; without one the From that the mail itself went
    /// out with, since the API is known to take that.
    ///
    /// # Errors
    /// As [`SenderPolicy::apply`].
    pub fn of_reports(&self, original: &Message, envelope: &Envelope) -> Result<Mailbox, Cause> {
        if let Some(default) = &self.default {
            return Ok(default.clone());
        }
        match original.from.first() {
            Some(from) => Ok(from.clone()),
            None => self.missing_from(original, envelope),
        }
    }

    fn missing_from(&self, message: &Message, envelope: &Envelope) -> Result<Mailbox, Cause> {
        let of_path = || envelope.reverse_path.as_ref().map(|address| Mailbox { name: None, address: address.clone() });
        let none = || Cause::new(Kind::BadSender, "the mail has no From address; set one, or sender.default");
        let bare = || message.bare_from(envelope.reverse_path.as_ref());
        self.default.clone().or_else(bare).or_else(of_path).ok_or_else(none)
    }
}

fn not_allowed(address: &Address, of_login: bool) -> Cause {
    let of_login = if of_login { ", or not among the addresses of this login" } else { "" };
    let text = format!("From <{address}> is not among sender.allowed{of_login}; sender.rewrite can put another there");
    Cause::new(Kind::BadSender, text)
}

/// Puts `default` into From. Answers go where they would have gone, if one can be sent there: nobody is reached as
/// root@web1.
fn replace_from(message: &mut Message, default: &Mailbox, room: Room) {
    let original = std::mem::replace(&mut message.from, vec![default.clone()]);
    let is_the_same = original.iter().all(|mailbox| mailbox.address.reads_like(&default.address));
    if is_the_same {
        return;
    }
    note_original(message, &original);
    if message.reply_to.is_empty() {
        let reachable: Vec<Mailbox> = original.into_iter().filter(|m| m.address.domain().contains('.')).collect();
        message.reply_to = room.fit(&reachable);
    }
}

/// The APIs take one From. The answers to a mail of several authors go to all of them (RFC 5322 §3.6.2), so they still
/// do. Where Reply-To has no room for all, a header field names them; where there is none, the others are a loss.
fn keep_authors(message: &mut Message, room: Room) {
    let Some(others) = message.from.get(1..).filter(|others| !others.is_empty()).map(<[_]>::to_vec) else { return };
    if message.reply_to.is_empty() {
        message.reply_to = room.fit(&message.from);
    }
    let answered = &message.reply_to;
    let is_left_out = |author: &&Mailbox| !answered.iter().any(|m| m.address.reads_like(&author.address));
    let left_out: Vec<Mailbox> = others.iter().filter(is_left_out).cloned().collect();
    match (left_out.is_empty(), room.headers) {
        (true, _) => {}
        (false, true) => note_original(message, &message.from.clone()),
        (false, false) => {
            let what =
                |author: &Mailbox| format!("author <{}> (one From and {} Reply-To)", author.address, room.reply_to);
            message.losses.extend(left_out.iter().map(|author| Loss { what: what(author) }));
        }
    }
    message.from.truncate(1);
}

fn note_original(message: &mut Message, original: &[Mailbox]) {
    message.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(ORIGINAL_FROM));
    let shown: Vec<String> = original.iter().map(shown).collect();
    message.headers.push((ORIGINAL_FROM.to_owned(), shown.join(", ")));
}

/// A mailbox as a header shows it.
pub fn shown(mailbox: &Mailbox) -> String {
    match &mailbox.name {
        Some(name) => format!("\"{}\" <{}>", name.replace(['"', '\\'], ""), mailbox.address),
        None => mailbox.address.to_string(),
    }
}

/// `Name <address>`, `"Name" <address>` or a bare address.
fn parse_mailbox(text: &str) -> Option<Mailbox> {
    let text = text.trim();
    match text.strip_suffix('>').and_then(|t| t.rsplit_once('<')) {
        Some((name, address)) => {
            let name = name.trim().trim_matches('"');
            let name = (!name.is_empty() && !name.contains(char::is_control)).then(|| name.to_owned());
            Some(Mailbox { name, address: Address::parse_in(Alphabet::Utf8, address.trim()).ok()? })
        }
        None => Some(Mailbox { name: None, address: Address::parse_in(Alphabet::Utf8, text).ok()? }),
    }
}
