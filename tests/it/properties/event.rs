//! Bodies of webhook requests: whatever is signed is read or refused, and what comes of it is fit for the log, the store
//! and the list.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sidepost::config::ProviderKind;
use sidepost::config::decode::default_account;
use sidepost::feedback::{EventKind, Feedback};
use sidepost::provider;

use super::steered;

/// The date of the seeds, in seconds since 1970 (2026-11-22 12:00:00 UTC): NexusProMail's events are refused when they are old.
const NOW: u64 = 1_795_348_800;

/// The first octet chooses the provider; the rest is a body whose signature was good.
pub fn holds(input: &[u8]) {
    let ([choice], body) = steered(input);
    let kind = ProviderKind::ALL[usize::from(choice) % ProviderKind::ALL.len()];
    let Some(events) = read(kind, body) else { return };
    for event in &events {
        is_bounded(event, body);
    }
    let is_object = body.trim_ascii_start().starts_with(b"{");
    assert!(!is_object || events.len() == 1);
    if is_object {
        let listed = read(kind, &[b"[7,", body, b"]"].concat()).expect("a list with an event in it");
        let [seven, event] = listed.as_slice() else { panic!("two items, {} events", listed.len()) };
        assert_eq!(seven.kind, EventKind::Unknown);
        assert_eq!(say(event), say(&events[0]), "the company that it is in changes an event");
    }
}

fn read(kind: ProviderKind, body: &[u8]) -> Option<Vec<Feedback>> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let provider = provider::build(&default_account(kind));
    provider.events(&http::HeaderMap::new(), &Bytes::copy_from_slice(body), now).ok()
}

/// All but what is made of the octets themselves.
fn say(event: &Feedback) -> impl PartialEq + std::fmt::Debug {
    let Feedback { kind, word, at, message_id, recipient, reason, .. } = event.clone();
    (kind, word, at, message_id, recipient, reason)
}

fn is_bounded(event: &Feedback, body: &[u8]) {
    assert!(!event.event_id.is_empty() && event.event_id.len() <= 255);
    assert!(event.message_id.as_ref().is_none_or(|id| !id.is_empty() && id.len() <= 255));
    assert!(event.at <= SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
    assert!(event.word.len() <= 255 && event.word.is_ascii());
    let reason = event.reason.as_deref().unwrap_or_default();
    assert!(reason.len() <= 300 && reason.bytes().all(|b| (b' '..0x7f).contains(&b)), "{reason:?}");
    assert!(!event.raw.is_empty() && body.windows(event.raw.len()).any(|part| part == event.raw), "not what came");
}
