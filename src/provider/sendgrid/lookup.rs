//! ScaiSend's `GET /v3/messages`: whether the API has a mail that it gave no answer to.
//!
//! Its pages name the filters and the members of an item, and not whether an item shows `custom_args` or `categories`
//! (provider reference, "Messages (status pull)"). So no filter is trusted, and nothing counts but our own marker.

use std::time::{Duration, SystemTime};

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::controls::TAGS;
use crate::config::Lookup;
use crate::controls::{Control, Controls};
use crate::provider::answer::{error_text, retry_after};
use crate::provider::{Found, Payload, Personalization, Request, Response, Search, subject_of};

/// The custom argument.
pub(super) const MARKER: &str = "sidepost_id";
/// Items of a page: as many as there may be.
const PAGE_SIZE: usize = 100;
/// Pages that are looked at: an address that gets alerts may have been sent more than fit on the first one, and which come
/// first the API does not say.
const PAGES: u64 = 3;
/// Mails of a page that are looked at one by one, where the list does not show their markers.
const CANDIDATES: usize = 3;
/// How much earlier than the mail the search begins. The filter is a date (whether it may have a time, the pages do not
/// tell), in a time zone that nobody knows.
const MARGIN: Duration = Duration::from_hours(24);
/// What stands for itself in a URL (RFC 3986 §2.3).
pub(in crate::provider) const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The marker as a category, which people see in statistics.
pub(super) fn category(marker: &str) -> String {
    format!("sidepost-{marker}")
}

/// Whether one more category fits.
pub(super) fn has_room(controls: &Controls) -> bool {
    controls.texts(Control::Tag).len() < TAGS
}

/// The address of the list, beside that of the send call.
pub(in crate::provider) fn messages_url(send_url: &str) -> Option<String> {
    Some(format!("{}/messages", send_url.strip_suffix("/mail/send")?))
}

/// The question. A message has at least one To; whoever else is in its group got the same one.
pub(super) fn request(send_url: &str, lookup: Lookup, search: &Search<'_>, page: u64) -> Option<Request> {
    let to = search.group.to.first()?;
    let from = search.since.checked_sub(MARGIN).unwrap_or(SystemTime::UNIX_EPOCH);
    let date = humantime::format_rfc3339_seconds(from).to_string();
    let mut url = messages_url(send_url)?;
    url.push_str("?to_email=");
    url.extend(utf8_percent_encode(to.address.as_str(), ESCAPED));
    url.push_str(&format!("&start_date={}&page_size={PAGE_SIZE}", date.get(..10)?));
    if lookup == Lookup::Category && has_room(search.controls) {
        url.push_str("&category=");
        url.extend(utf8_percent_encode(&category(search.marker), ESCAPED));
    }
    if page > 1 {
        url.push_str(&format!("&page={page}"));
    }
    Some(get(url))
}

/// A question at this address.
pub(in crate::provider) fn get(url: String) -> Request {
    Request { api_key: None, method: Method::GET, url, headers: Vec::new(), body: Payload::default() }
}

/// What a list, or one message, says.
pub(super) fn found(send_url: &str, lookup: Lookup, search: &Search<'_>, response: &Response) -> Found {
    let words = || error_text(&response.body).unwrap_or_default();
    match response.status {
        200 => {}
        401 | 403 => return Found::Forbidden(words()),
        status => return Found::Failed(format!("{status} {}", words()), retry_after(response)),
    }
    let Ok(json) = serde_json::from_slice::<Value>(&response.body) else {
        return Found::Failed("an answer that is no JSON".to_owned(), None);
    };
    let Some(items) = json.get("messages").and_then(Value::as_array) else { return of_one(lookup, search, &json) };
    let ours: Vec<&Value> = items.iter().filter(|item| goes_to(item, search.group) == Some(true)).collect();
    let taken = ours.iter().find(|item| carries(item, lookup, search) == Some(true));
    if let Some(id) = taken.and_then(|item| id_of(item)) {
        return Found::Taken(id.to_owned());
    }
    let unclear = ours.into_iter().filter(|item| carries(item, lookup, search).is_none() && is_alike(item, search));
    let base = messages_url(send_url).unwrap_or_default();
    let ids = unclear.filter_map(id_of).take(CANDIDATES);
    let candidates = ids.map(|id| get(format!("{base}/{}", utf8_percent_encode(id, ESCAPED))));
    let next = next_page(&json).and_then(|page| request(send_url, lookup, search, page));
    let requests: Vec<Request> = candidates.chain(next).collect();
    if requests.is_empty() { Found::Nothing } else { Found::Perhaps(requests) }
}

/// The page behind this one, if there is one that is looked at.
fn next_page(list: &Value) -> Option<u64> {
    let next = list.get("page")?.as_u64()?.checked_add(1)?;
    let is_there = list.get("total_pages")?.as_u64()? >= next;
    Some(next).filter(|next| is_there && *next <= PAGES)
}

/// One message: its recipients were seen in the list, and need not be shown again.
fn of_one(lookup: Lookup, search: &Search<'_>, item: &Value) -> Found {
    match id_of(item) {
        Some(id) if goes_to(item, search.group) != Some(false) && carries(item, lookup, search) == Some(true) => {
            Found::Taken(id.to_owned())
        }
        Some(_) => Found::Nothing,
        None => Found::Failed("an answer without messages".to_owned(), None),
    }
}

fn id_of(item: &Value) -> Option<&str> {
    item.get("id")?.as_str().filter(|id| !id.is_empty())
}

/// Whether the item went to everybody that the group shows as To; `None` if it does not say.
fn goes_to(item: &Value, group: &Personalization) -> Option<bool> {
    let shown: Vec<&str> = item.get("to_emails")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let has = |address: &str| shown.iter().any(|one| one.eq_ignore_ascii_case(address));
    Some(!group.to.is_empty() && group.to.iter().all(|to| has(to.address.as_str())))
}

/// Whether the item carries our marker; `None` if it does not show what it carries.
fn carries(item: &Value, lookup: Lookup, search: &Search<'_>) -> Option<bool> {
    let args = item.get("custom_args").and_then(Value::as_object);
    let categories = item.get("categories").and_then(Value::as_array);
    let by_args = args.map(|args| args.get(MARKER).and_then(Value::as_str) == Some(search.marker));
    let is_categorized = lookup == Lookup::Category && has_room(search.controls);
    let ours = category(search.marker);
    let by_category = categories.filter(|_| is_categorized).map(|all| all.iter().any(|one| *one == ours));
    match (by_args, by_category) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (None, None) => None,
        _ => Some(false),
    }
}

/// Whether its subject may be the mail's. A template has one of its own.
fn is_alike(item: &Value, search: &Search<'_>) -> bool {
    let templated = search.controls.text(Control::Template).is_some();
    let subject = item.get("subject").and_then(Value::as_str);
    templated || subject.is_none_or(|subject| subject == subject_of(search.message))
}
