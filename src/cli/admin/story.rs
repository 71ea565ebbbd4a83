//! What became of a mail, in words: the end first, then how it came to it.

use std::time::{Duration, UNIX_EPOCH};

use crate::cli::table::{moment, or_dash, printable};
use crate::message::unix_seconds;
use crate::suppression::remove_command;
use crate::web::admin::wire::{EventEntry, MessageWhole, ProviderStatus, Recipient};

/// Tells it.
pub(super) fn tell(whole: &MessageWhole) -> String {
    let mut story = String::new();
    for recipient in &whole.recipients {
        story.push_str(&format!("{}: {}\n", recipient.message.recipient, summary(recipient, &whole.provider_status)));
    }
    if whole.recipients.is_empty() {
        story.push_str(&format!("{} is in no line of the log any more; these events are about it.\n", whole.id));
    }
    if let Some(first) = whole.recipients.first() {
        let mail = &first.message;
        let from = mail.sender.as_deref().unwrap_or("<>");
        let whence = [mail.client.as_deref(), mail.principal.as_deref()].into_iter().flatten().collect::<Vec<_>>();
        let whence = if whence.is_empty() { String::new() } else { format!(", handed in by {}", whence.join(" ")) };
        story.push_str(&format!("\nMail {} from {from}, {} octets{whence}\n", mail.id, mail.bytes));
    }
    for recipient in &whole.recipients {
        story.push_str(&format!("\n{}\n", recipient.message.recipient));
        let mail = &recipient.message;
        step(&mut story, &mail.at, &mail.outcome, &format!("the client was told: {}", mail.reply));
        recipient.events.iter().for_each(|event| step_of(&mut story, event));
    }
    if !whole.other_events.is_empty() {
        story.push_str("\nOther events of it\n");
        whole.other_events.iter().for_each(|event| step_of(&mut story, event));
    }
    for status in &whole.provider_status {
        provider(&mut story, status);
    }
    if whole.not_asked > 0 {
        story.push_str(&format!("\n{} more messages of the provider's were not asked about.\n", whole.not_asked));
    }
    printable(&story)
}

/// The whole of it in a sentence.
fn summary(recipient: &Recipient, statuses: &[ProviderStatus]) -> String {
    let mail = &recipient.message;
    let mut parts = Vec::new();
    if mail.outcome == "accepted" {
        let id = mail.provider_id.as_deref().map_or_else(|| "without an id".to_owned(), |id| format!("as {id}"));
        parts.push(format!("accepted by {} {id}", mail.account));
        let mut told: Vec<&EventEntry> = recipient.events.iter().filter(|event| is_fate(&event.kind)).collect();
        told.dedup_by_key(|event| event.kind.clone());
        if told.is_empty() {
            parts.push(match own_word(recipient, statuses) {
                Some(status) => format!("the provider says: {status}"),
                None if recipient.events.is_empty() => NO_EVENT.to_owned(),
                None => "no word yet whether it arrived".to_owned(),
            });
        }
        parts.extend(told.into_iter().map(|event| {
            let reason = event.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{} {}{reason}", words(&event.kind), after(&mail.at, &event.at))
        }));
    } else if mail.reply.starts_with('4') {
        parts.push(format!("not sent yet ({}): the client was told to try again: {}", mail.outcome, mail.reply));
    } else if mail.reply.starts_with('2') {
        parts.push(format!("not sent ({}), although others of the same mail were: {}", mail.outcome, mail.reply));
    } else {
        parts.push(format!("refused ({}): {}", mail.outcome, mail.reply));
    }
    for entry in &recipient.suppressions {
        let until = entry.until.as_deref().map(|until| format!(" until {}", moment(until))).unwrap_or_default();
        parts.push(format!(
            "the address is suppressed ({}, {}) since {}{until}: {}",
            entry.reason,
            entry.scope,
            moment(&entry.since),
            remove_command(&entry.address)
        ));
    }
    parts.join("; ")
}

/// What the provider says of it, where there is no event that tells.
fn own_word<'a>(recipient: &Recipient, statuses: &'a [ProviderStatus]) -> Option<&'a str> {
    let mail = &recipient.message;
    let is_it =
        |status: &&ProviderStatus| status.account == mail.account && Some(&status.id) == mail.provider_id.as_ref();
    statuses.iter().find(is_it)?.message.as_ref().map(|message| message.status.as_str())
}

const NO_EVENT: &str = "the provider has reported nothing since (does it have a webhook to sidepost?)";

/// Whether an event tells where the mail ended, or what its recipient thinks of it.
fn is_fate(kind: &str) -> bool {
    !matches!(kind, "queued" | "sent" | "opened" | "clicked" | "unknown")
}

fn words(kind: &str) -> &str {
    match kind {
        "bounced.hard" => "bounced",
        "bounced.soft" => "bounced for this time",
        "deferred" => "put off by the recipient's server",
        "blocked" => "blocked by the recipient's server",
        "dropped" | "suppressed" => "not sent by the provider",
        "complained" => "called spam",
        "failed" => "given up by the provider",
        other => other,
    }
}

/// How long after the mail something happened.
fn after(mail: &str, event: &str) -> String {
    let point = |text| unix_seconds(text).map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    let span = point(mail).zip(point(event)).and_then(|(mail, event)| event.duration_since(mail).ok());
    match span.map(|span| span.as_secs()) {
        Some(0) => "at once".to_owned(),
        Some(seconds @ ..120) => format!("{seconds} s later"),
        Some(seconds @ 120..7200) => format!("{} min later", seconds / 60),
        Some(seconds @ 7200..172_800) => format!("{} h later", seconds / 3600),
        Some(seconds) => format!("{} days later", seconds / 86400),
        None => format!("at {}", moment(event)),
    }
}

fn step(story: &mut String, at: &str, what: &str, words: &str) {
    story.push_str(&format!("  {:<19}  {:<12}  {words}", moment(at), what));
    story.truncate(story.trim_end().len());
    story.push('\n');
}

fn step_of(story: &mut String, event: &EventEntry) {
    let reason = event.reason.as_deref().map(|reason| format!("{reason} ")).unwrap_or_default();
    step(story, &event.at, &event.kind, &format!("{reason}(event {})", event.number));
}

fn provider(story: &mut String, status: &ProviderStatus) {
    let ProviderStatus { account, id, message, error } = status;
    story.push_str(&format!("\nThe provider ({account}), asked about {id} now\n"));
    match (message, error) {
        (Some(message), _) => {
            let subject = or_dash(message.subject.as_deref());
            story.push_str(&format!("  status {}, subject {subject}\n", message.status));
            message.events.iter().for_each(|event| step(story, &event.at, &event.event, ""));
        }
        (None, error) => story.push_str(&format!("  says nothing: {}\n", error.as_deref().unwrap_or("no answer"))),
    }
}
