//! Who goes into which request, and what of the message the API cannot carry. The envelope alone decides who gets mail.

use std::collections::HashSet;

use bytes::Bytes;

use crate::address::Address;
use crate::config::{Fanout, Unsupported};
use crate::controls::{Controls, Policy};
use crate::envelope::Envelope;
use crate::message::{Attachment, Loss, Mailbox, Message};
use crate::outcome::{Cause, Kind};
use crate::provider::{Batch, Limits, Personalization};
use crate::sender::{Room, SenderPolicy};

/// Header fields that tell which program made the mail and how it came here, and nothing that its reader misses. They go
/// along where the API has a field for headers; where it has none, leaving them out is no loss, or hardly any mail could be
/// sent at all. A name with `-` at its end means all that start with it.
const ABOUT_THE_SOFTWARE: &[&str] = &[
    "x-mailer",
    "x-original-from", // What the sender policy adds to its own rewriting.
    "user-agent",
    "x-mimeole",
    "x-originating-ip",
    "x-php-originating-script",
    "x-php-script",
    "x-msmail-priority",
    "x-virus-scanned",
    "x-ms-has-attach",
    "x-ms-tnef-correlator",
    "x-cron-env",
    "thread-index",
    "thread-topic",
    "accept-language",
    "delivery-date",
    "envelope-from",
    "resent-",
    "x-delivered-to",
    "x-envelope-from",
    "x-google-dkim-signature",
    "x-original-to",
];

/// What the operator lays down for every mail.
#[derive(Debug, Clone)]
pub struct Policies {
    /// Whose name is on it.
    pub sender: SenderPolicy,
    /// What its headers may ask for.
    pub controls: Policy,
}

/// What an account asks of planning.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// What a call can carry.
    pub limits: &'a Limits,
    /// How recipients are spread over calls.
    pub fanout: Fanout,
    /// What is done about losses.
    pub unsupported: Unsupported,
    /// Whether addresses beyond ASCII can be carried.
    pub utf8_addresses: bool,
    /// Whether each group goes in a call of its own, so that one call's failure is nobody else's: LMTP answers for each
    /// recipient (RFC 2033 §4.2), and the answers are to differ where they can.
    pub apart: bool,
}

/// From the mail to the message and the requests to make: parse, controls, sender, plan, losses. `envelope` is the
/// transaction's, `open` those of its recipients that are still to be sent to.
///
/// # Errors
/// `BadContent` for MIME beyond reading and controls that cannot be read, `BadSender` without any From, `NotAscii` for a
/// From or a recipient that the API cannot have, `Unsupported` for losses under `refuse` and controls that cannot be left
/// out.
pub fn prepare(
    raw: Bytes,
    envelope: &Envelope,
    open: &Envelope,
    policies: &Policies,
    terms: Terms<'_>,
) -> Result<(Message, Plan), Cause> {
    let Limits { vendor, controls: capacity, .. } = terms.limits;
    let mut message = Message::parse(raw).map_err(|e| Cause::new(Kind::BadContent, e.to_string()))?;
    let controls = Controls::take(&mut message, &envelope.recipients, &policies.controls, vendor, capacity)?;
    message.complete(envelope.reverse_path.as_ref(), &envelope.recipients);
    let Limits { reply_to, headers, .. } = *terms.limits;
    policies.sender.apply(&mut message, open, Room { reply_to, headers, utf8_addresses: terms.utf8_addresses })?;
    if let Some(address) = foreign(open, &message, terms) {
        let detail = format!("{address}; if {} takes it, set utf8_addresses", terms.limits.vendor);
        return Err(Cause::new(Kind::NotAscii, detail));
    }
    if envelope.recipients.len() > 1 {
        let hidden: Vec<&Address> = hidden(envelope, &message).collect();
        message.hide(hidden);
    }
    let plan = Plan { controls, ..plan(open, &message, terms) };
    match (plan.losses.is_empty(), terms.unsupported) {
        (true, _) => Ok((message, plan)),
        (false, Unsupported::Refuse) => Err(refusal(&plan.losses, terms.limits)),
        (false, Unsupported::Degrade) => Ok((degraded(message, terms), plan)),
    }
}

/// The first address beyond ASCII that would have to go into a request and cannot. No mail can do without its From or its
/// recipients, so this is no loss that a policy could allow; without Reply-To it can.
fn foreign<'a>(envelope: &'a Envelope, message: &'a Message, terms: Terms<'_>) -> Option<&'a Address> {
    let from = message.from.first().map(|from| &from.address);
    let mut addresses = from.into_iter().chain(&envelope.recipients);
    addresses.find(|address| !is_carried(address, terms))
}

fn is_carried(address: &Address, terms: Terms<'_>) -> bool {
    terms.utf8_addresses || address.is_ascii()
}

/// How the recipients of one transaction are spread over requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The requests to make; each recipient of the envelope is in exactly one.
    pub batches: Vec<Batch>,
    /// What the API has no field for. Empty: the message arrives as it was meant.
    pub losses: Vec<Loss>,
    /// What the headers ask for, as far as it is obeyed.
    pub controls: Controls,
}

/// The part that a recipient plays in the headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// In To.
    To,
    /// In Cc.
    Cc,
    /// In the envelope only: nobody else may learn of it.
    Bcc,
}

impl Role {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::To => "to",
            Self::Cc => "cc",
            Self::Bcc => "bcc",
        }
    }
}

/// Plans the requests for one account.
pub fn plan(envelope: &Envelope, message: &Message, terms: Terms<'_>) -> Plan {
    let Terms { limits, fanout, apart, .. } = terms;
    let together = limits.shows_recipients && fanout != Fanout::PerRecipient;
    let groups = if together { shared_groups(envelope, message) } else { single_groups(envelope, message) };
    let batch_size = if fanout == Fanout::PerRecipient { 1 } else { limits.recipients };
    let groups: Vec<Personalization> = groups.into_iter().flat_map(|group| cut(group, batch_size)).collect();
    let batches = if apart { each_alone(groups) } else { fill_batches(groups, batch_size) };
    Plan { batches, losses: losses(envelope, message, terms, together), controls: Controls::default() }
}

/// The part that `recipient` plays, and the mailbox as the headers write it.
pub fn role_of(recipient: &Address, message: &Message) -> (Role, Mailbox) {
    let shown = |list: &[Mailbox]| list.iter().find(|m| m.address.reads_like(recipient)).and_then(|m| m.name.clone());
    let listed = |list: &[Mailbox]| list.iter().any(|m| m.address.reads_like(recipient));
    let mailbox = |name| Mailbox { name, address: recipient.clone() };
    if listed(&message.to) {
        (Role::To, mailbox(shown(&message.to)))
    } else if listed(&message.cc) {
        (Role::Cc, mailbox(shown(&message.cc)))
    } else {
        (Role::Bcc, mailbox(None))
    }
}

/// The recipients that only the envelope knows.
fn hidden<'a>(envelope: &'a Envelope, message: &Message) -> impl Iterator<Item = &'a Address> {
    envelope.recipients.iter().filter(|recipient| role_of(recipient, message).0 == Role::Bcc)
}

/// One group for those that the headers show, and one for each that only the envelope knows: so a Bcc recipient is in
/// nobody else's message, by construction.
fn shared_groups(envelope: &Envelope, message: &Message) -> Vec<Personalization> {
    let mut visible = Personalization::default();
    let mut hidden = Vec::new();
    for recipient in &envelope.recipients {
        let (role, mailbox) = role_of(recipient, message);
        // Ann@ and ann@ are two recipients to SMTP and one to the APIs, which refuse a group that has both.
        let twin = visible.mailboxes().any(|m| m.address.reads_like(recipient));
        match role {
            Role::To if !twin => visible.to.push(mailbox),
            Role::Cc if !twin => visible.cc.push(mailbox),
            _ => hidden.push(Personalization::alone(mailbox)),
        }
    }
    let mut batch = Batch::of(vec![visible]);
    // A group of Cc alone shows the first as To, and an empty one vanishes.
    batch.retain(|_| true);
    batch.personalizations.append(&mut hidden);
    batch.personalizations
}

fn single_groups(envelope: &Envelope, message: &Message) -> Vec<Personalization> {
    envelope.recipients.iter().map(|recipient| Personalization::alone(role_of(recipient, message).1)).collect()
}

fn each_alone(groups: Vec<Personalization>) -> Vec<Batch> {
    groups.into_iter().map(|group| Batch::of(vec![group])).collect()
}

/// Whole groups into batches of at most `size` recipients.
fn fill_batches(groups: Vec<Personalization>, size: usize) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for group in groups {
        let members = group.mailboxes().count();
        match batches.last_mut() {
            Some(batch) if batch.len() + members <= size => batch.personalizations.push(group),
            _ => batches.push(Batch::of(vec![group])),
        }
    }
    batches
}

/// A group that is larger than a call allows, in pieces.
fn cut(group: Personalization, size: usize) -> Vec<Personalization> {
    if group.mailboxes().count() <= size {
        return vec![group];
    }
    let all: Vec<Mailbox> = group.to.into_iter().chain(group.cc).collect();
    all.chunks(size.max(1)).map(|part| Personalization { to: part.to_vec(), cc: Vec::new() }).collect()
}

/// Everything of the message that would not arrive, in words (DESIGN promise 3).
fn losses(envelope: &Envelope, message: &Message, terms: Terms<'_>, together: bool) -> Vec<Loss> {
    let limits = terms.limits;
    let mut losses = message.losses.clone();
    let mut lose = |what: String| losses.push(Loss { what });
    let none = limits.attachments == 0;
    let is_empty = |a: &&Attachment| !none && a.content.base64_len() == 0;
    let (empty, whole): (Vec<_>, Vec<_>) = message.attachments.iter().partition(is_empty);
    let most = if none { String::new() } else { format!(" (at most {})", limits.attachments) };
    let too_many = whole.into_iter().skip(limits.attachments).map(|a| format!("attachment \"{}\"{most}", a.filename));
    let blank = empty.into_iter().map(|a| format!("attachment \"{}\" (it is empty)", a.filename));
    too_many.chain(blank).for_each(&mut lose);
    let mut named = HashSet::new();
    let fields = message
        .headers
        .iter()
        .filter(|(name, value)| is_lost(name, value, limits) && named.insert(name.to_ascii_lowercase()));
    fields.for_each(|(name, _)| lose(format!("header {name}")));
    if message.reply_to.len() > limits.reply_to {
        lose(format!("{} Reply-To addresses (at most {})", message.reply_to.len(), limits.reply_to));
    }
    let foreign = message.reply_to.iter().filter(|m| !is_carried(&m.address, terms));
    foreign.for_each(|m| lose(format!("Reply-To <{}> (it is not ASCII)", m.address)));
    let visible = envelope.recipients.iter().filter(|r| role_of(r, message).0 != Role::Bcc).count();
    if !together && visible > 1 {
        lose(format!("To and Cc of {visible} recipients (each would see only itself)"));
    }
    losses
}

/// Whether a header field that matters cannot go along.
fn is_lost(name: &str, value: &str, limits: &Limits) -> bool {
    !(limits.headers || is_in(ABOUT_THE_SOFTWARE, name) || says_the_usual(name, value))
}

/// Whether a field says what is true without it: a priority that is the usual one. Mail libraries write such fields into
/// every mail.
fn says_the_usual(name: &str, value: &str) -> bool {
    let usual = match name.to_ascii_lowercase().as_str() {
        "x-priority" => "3",
        "importance" | "priority" => "normal",
        "auto-submitted" => "no",
        _ => return value.is_empty(),
    };
    value.split(|c: char| !c.is_ascii_alphanumeric()).next().is_some_and(|word| word.eq_ignore_ascii_case(usual))
}

fn is_in(list: &[&str], name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    list.iter().any(|known| if known.ends_with('-') { name.starts_with(known) } else { name == *known })
}

/// The refusal that names every loss (`unsupported = "refuse"`).
fn refusal(losses: &[Loss], limits: &Limits) -> Cause {
    let what: Vec<&str> = losses.iter().map(|loss| loss.what.as_str()).collect();
    Cause::new(
        Kind::Unsupported,
        format!("{} has no place for {}; unsupported = \"degrade\" sends without", limits.vendor, what.join(", ")),
    )
}

/// The message without what the API has no field for (`unsupported = "degrade"`).
fn degraded(mut message: Message, terms: Terms<'_>) -> Message {
    let limits = terms.limits;
    message.attachments.retain(|a| a.content.base64_len() > 0);
    message.attachments.truncate(limits.attachments);
    message.reply_to.retain(|m| is_carried(&m.address, terms));
    message.reply_to.truncate(limits.reply_to);
    if !limits.headers {
        message.headers.clear();
    }
    message
}
