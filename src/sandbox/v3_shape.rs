//! The shape of `POST /v3/mail/send`, in the dialects of ScaiSend and SendGrid.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::request_shape::{Field, Findings, is_canonical_base64, optional, required, within};
use crate::config::ProviderKind;

/// Most personalizations of a call, and of SendGrid's recipients.
const MAX_RECIPIENTS: usize = 1000;
/// Most attachments of ScaiSend.
const MAX_ATTACHMENTS: usize = 10;
/// SendGrid's limit on custom arguments, in octets.
const MAX_CUSTOM_ARGS: usize = 10_000;
/// Header names that the API makes itself.
const RESERVED: &[&str] = &[
    "x-sg-id",
    "x-sg-eid",
    "received",
    "dkim-signature",
    "content-type",
    "content-transfer-encoding",
    "to",
    "from",
    "subject",
    "reply-to",
    "cc",
    "bcc",
];

const REQUEST: &[Field] = &[
    required("personalizations", personalizations),
    required("from", Findings::mailbox),
    optional("reply_to", Findings::mailbox),
    optional("reply_to_list", Findings::mailboxes),
    optional("subject", subject),
    optional("content", contents),
    optional("template_id", template_id),
    optional("attachments", attachments),
    optional("headers", headers),
    optional("categories", categories),
    optional("custom_args", custom_args),
    optional("send_at", Findings::whole_number),
    optional("batch_id", Findings::line),
    optional("asm", asm),
    optional("ip_pool_name", Findings::line),
    optional("mail_settings", mail_settings),
    optional("tracking_settings", tracking_settings),
];

const PERSONALIZATION: &[Field] = &[
    required("to", recipients),
    optional("cc", recipients),
    optional("bcc", recipients),
    optional("from", sendgrid_from),
    optional("subject", subject),
    optional("headers", headers),
    optional("substitutions", string_map),
    optional("dynamic_template_data", Findings::any_object),
    optional("custom_args", custom_args),
    optional("send_at", Findings::whole_number),
];

const CONTENT: &[Field] = &[required("type", content_type), required("value", Findings::text)];

const ATTACHMENT: &[Field] = &[
    required("content", base64),
    required("filename", filename),
    optional("type", Findings::line),
    optional("disposition", disposition),
    optional("content_id", content_id),
];

const ASM: &[Field] = &[required("group_id", Findings::whole_number), optional("groups_to_display", groups_to_display)];

const SWITCH: &[Field] = &[
    optional("enable", Findings::flag),
    optional("enable_text", Findings::flag),
    optional("substitution_tag", Findings::line),
    optional("text", Findings::text),
    optional("html", Findings::text),
    optional("utm_source", Findings::line),
    optional("utm_medium", Findings::line),
    optional("utm_term", Findings::line),
    optional("utm_content", Findings::line),
    optional("utm_campaign", Findings::line),
];

const MAIL_SETTINGS: &[Field] = &[
    optional("sandbox_mode", switch),
    optional("footer", switch),
    optional("bypass_list_management", switch),
    optional("bypass_bounce_management", switch),
    optional("bypass_spam_management", switch),
    optional("bypass_unsubscribe_management", switch),
];

const TRACKING_SETTINGS: &[Field] = &[
    optional("click_tracking", switch),
    optional("open_tracking", switch),
    optional("subscription_tracking", switch),
    optional("ganalytics", switch),
];

/// Every field by itself, then the rules between fields.
pub(super) fn check(findings: &mut Findings, payload: &Value) {
    findings.object("", payload, REQUEST);
    let Some(request) = payload.as_object() else { return };
    body_or_template(findings, request);
    subject_somewhere(findings, request);
    if request.contains_key("reply_to") && request.contains_key("reply_to_list") {
        findings.say("reply_to", "excludes reply_to_list");
    }
    let total: usize = entries(request.get("personalizations")).iter().map(|one| addresses(one).count()).sum();
    if findings.api == ProviderKind::SendGrid && total > MAX_RECIPIENTS {
        findings.say("personalizations", format!("must have at most {MAX_RECIPIENTS} recipients in all"));
    }
}

fn body_or_template(findings: &mut Findings, request: &Map<String, Value>) {
    match (request.contains_key("content"), request.contains_key("template_id")) {
        (false, false) => findings.say("content", "is required unless template_id is given"),
        (true, true) if findings.api == ProviderKind::ScaiSend => findings.say("template_id", "excludes content"),
        _ => {}
    }
}

fn subject_somewhere(findings: &mut Findings, request: &Map<String, Value>) {
    let everywhere = entries(request.get("personalizations")).iter().all(|one| one.get("subject").is_some());
    if !request.contains_key("subject") && !request.contains_key("template_id") && !everywhere {
        findings.say("subject", "is required unless every personalization has one or a template gives it");
    }
}

fn personalizations(findings: &mut Findings, at: &str, value: &Value) {
    findings.list(at, value, 1, MAX_RECIPIENTS, personalization);
}

fn personalization(findings: &mut Findings, at: &str, value: &Value) {
    findings.object(at, value, PERSONALIZATION);
    let mut seen = HashSet::new();
    for address in addresses(value) {
        if !seen.insert(address.to_ascii_lowercase()) {
            findings.say(at, format!("{address} occurs twice; each address in to, cc and bcc must be unique"));
        }
    }
}

/// Every address of a personalization, well-formed or not.
fn addresses(personalization: &Value) -> impl Iterator<Item = &str> {
    let lists = ["to", "cc", "bcc"].into_iter().filter_map(|list| personalization.get(list));
    lists.flat_map(|list| entries(Some(list))).filter_map(|entry| entry.get("email")?.as_str())
}

fn entries(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn sendgrid_from(findings: &mut Findings, at: &str, value: &Value) {
    match findings.api {
        ProviderKind::SendGrid => findings.mailbox(at, value),
        _ => findings.say(at, "is not a documented field"),
    }
}

fn recipients(findings: &mut Findings, at: &str, value: &Value) {
    findings.list(at, value, 1, MAX_RECIPIENTS, recipient);
}

fn recipient(findings: &mut Findings, at: &str, value: &Value) {
    findings.mailbox(at, value);
    let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
    if findings.api == ProviderKind::SendGrid && name.contains([';', ',']) {
        findings.say(&within(at, "name"), "must not contain ; or ,");
    }
}

fn subject(findings: &mut Findings, at: &str, value: &Value) {
    findings.line(at, value);
    if findings.api == ProviderKind::SendGrid && value.as_str() == Some("") {
        findings.say(at, "must have at least one character");
    }
}

fn contents(findings: &mut Findings, at: &str, value: &Value) {
    findings.list(at, value, 1, 10, |findings, at, value| findings.object(at, value, CONTENT));
    let rank = |entry: &Value| match entry.get("type").and_then(Value::as_str) {
        Some("text/plain") => 0,
        Some("text/html") => 1,
        _ => 2,
    };
    if !entries(Some(value)).is_sorted_by_key(rank) {
        findings.say(at, "must have text/plain first, then text/html, then others");
    }
}

fn content_type(findings: &mut Findings, at: &str, value: &Value) {
    findings.line(at, value);
    let Some(kind) = value.as_str() else { return };
    match findings.api {
        ProviderKind::SendGrid if kind.contains('/') => {}
        _ if matches!(kind, "text/plain" | "text/html") => {}
        _ => findings.say(at, format!("{kind:?} is not a type of content")),
    }
}

fn template_id(findings: &mut Findings, at: &str, value: &Value) {
    let id = findings.string(at, value);
    if findings.api == ProviderKind::ScaiSend && id.is_some_and(|id| !id.starts_with("d-")) {
        findings.say(at, "must start with d-");
    }
}

fn attachments(findings: &mut Findings, at: &str, value: &Value) {
    let most = if findings.api == ProviderKind::ScaiSend { MAX_ATTACHMENTS } else { usize::MAX };
    findings.list(at, value, 0, most, attachment);
}

fn attachment(findings: &mut Findings, at: &str, value: &Value) {
    findings.object(at, value, ATTACHMENT);
    let inline = value.get("disposition").and_then(Value::as_str) == Some("inline");
    if inline && value.get("content_id").is_none() {
        findings.say(&within(at, "content_id"), "is required for an inline attachment");
    }
}

fn base64(findings: &mut Findings, at: &str, value: &Value) {
    findings.text(at, value);
    if value.as_str().is_some_and(|text| !is_canonical_base64(text)) {
        findings.say(at, "must be base64 without line breaks");
    }
}

fn filename(findings: &mut Findings, at: &str, value: &Value) {
    findings.line(at, value);
    if value.as_str().is_some_and(|name| !(1..=255).contains(&name.chars().count())) {
        findings.say(at, "must have 1 to 255 characters");
    }
}

fn disposition(findings: &mut Findings, at: &str, value: &Value) {
    if !matches!(value.as_str(), Some("attachment" | "inline")) {
        findings.say(at, "must be \"attachment\" or \"inline\"");
    }
}

fn content_id(findings: &mut Findings, at: &str, value: &Value) {
    findings.line(at, value);
    if value.as_str().is_some_and(|id| id.is_empty() || id.contains(['<', '>'])) {
        findings.say(at, "must not be empty or have angle brackets");
    }
}

fn headers(findings: &mut Findings, at: &str, value: &Value) {
    let Some(headers) = findings.map(at, value) else { return };
    let mut seen = HashSet::new();
    for (name, value) in headers {
        let place = within(at, name);
        let folded = name.to_ascii_lowercase();
        // RFC 5322 §2.2: printable ASCII but the colon.
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            findings.say(&place, "is not a header name");
        }
        if RESERVED.contains(&folded.as_str()) {
            findings.say(&place, "is a reserved header");
        }
        if !seen.insert(folded) {
            findings.say(&place, "occurs twice");
        }
        findings.line(&place, value);
    }
}

fn categories(findings: &mut Findings, at: &str, value: &Value) {
    findings.list(at, value, 0, 10, |findings, at, value| {
        if findings.string(at, value).is_some_and(|name| name.chars().count() > 255) {
            findings.say(at, "must have at most 255 characters");
        }
    });
    let mut seen = HashSet::new();
    let unique = entries(Some(value)).iter().all(|name| seen.insert(name.as_str()));
    if findings.api == ProviderKind::SendGrid && !unique {
        findings.say(at, "must be unique");
    }
}

fn custom_args(findings: &mut Findings, at: &str, value: &Value) {
    match findings.api {
        ProviderKind::SendGrid => string_map(findings, at, value),
        _ => findings.any_object(at, value),
    }
    if findings.api == ProviderKind::SendGrid && value.to_string().len() > MAX_CUSTOM_ARGS {
        findings.say(at, format!("must have at most {MAX_CUSTOM_ARGS} bytes"));
    }
}

fn string_map(findings: &mut Findings, at: &str, value: &Value) {
    let Some(map) = findings.map(at, value) else { return };
    for (name, value) in map {
        findings.string(&within(at, name), value);
    }
}

fn asm(findings: &mut Findings, at: &str, value: &Value) {
    findings.object(at, value, ASM);
}

fn groups_to_display(findings: &mut Findings, at: &str, value: &Value) {
    findings.list(at, value, 0, 25, Findings::whole_number);
}

fn mail_settings(findings: &mut Findings, at: &str, value: &Value) {
    findings.object(at, value, MAIL_SETTINGS);
}

fn tracking_settings(findings: &mut Findings, at: &str, value: &Value) {
    findings.object(at, value, TRACKING_SETTINGS);
}

fn switch(findings: &mut Findings, at: &str, value: &Value) {
    findings.object(at, value, SWITCH);
}
