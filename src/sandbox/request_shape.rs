//! Strict validation of send requests against their documented shape: the words to say it in, and NexusProMail's shape.

use serde_json::{Map, Value};

use super::v3_shape;
use crate::address::{Address, Alphabet};
use crate::config::ProviderKind;

/// More findings than this help nobody.
const MAX_FINDINGS: usize = 20;
/// Most entries of a list of addresses.
const MAX_ADDRESSES: usize = 1000;

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where: `personalizations.0.to.1.email`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Checks the body of a send call. No findings: it has the documented shape. Which addresses are taken is not documented:
/// `alphabet` says it.
pub fn check(api: ProviderKind, alphabet: Alphabet, payload: &Value) -> Vec<Finding> {
    let mut findings = Findings { api, alphabet, list: Vec::new() };
    match api {
        ProviderKind::NexusProMail => findings.object("", payload, NEXUSPROMAIL),
        ProviderKind::ScaiSend | ProviderKind::SendGrid => v3_shape::check(&mut findings, payload),
    }
    findings.list
}

/// What NexusProMail's pages document, and nothing else.
const NEXUSPROMAIL: &[Field] = &[
    required("to", Findings::mailbox),
    required("from", Findings::mailbox),
    required("subject", Findings::line),
    required("html", Findings::text),
    optional("text", Findings::text),
    optional("reply_to", Findings::mailbox),
];

const MAILBOX: &[Field] = &[required("email", Findings::email), optional("name", Findings::line)];

/// A rule for one value; the text is its place.
pub(super) type Check = fn(&mut Findings, &str, &Value);

/// One field of an object.
pub(super) struct Field {
    name: &'static str,
    required: bool,
    check: Check,
}

pub(super) const fn required(name: &'static str, check: Check) -> Field {
    Field { name, required: true, check }
}

pub(super) const fn optional(name: &'static str, check: Check) -> Field {
    Field { name, required: false, check }
}

/// What was found so far.
pub(super) struct Findings {
    pub(super) api: ProviderKind,
    alphabet: Alphabet,
    list: Vec<Finding>,
}

impl Findings {
    pub(super) fn say(&mut self, at: &str, message: impl Into<String>) {
        if self.list.len() < MAX_FINDINGS {
            self.list.push(Finding { field: at.to_owned(), message: message.into() });
        }
    }

    /// An object with exactly these fields.
    pub(super) fn object(&mut self, at: &str, value: &Value, fields: &[Field]) {
        let Some(object) = self.map(at, value) else { return };
        for name in object.keys().filter(|name| fields.iter().all(|field| field.name != name.as_str())) {
            self.say(&within(at, name), "is not a documented field");
        }
        for field in fields {
            match object.get(field.name) {
                Some(value) => (field.check)(self, &within(at, field.name), value),
                None if field.required => self.say(&within(at, field.name), "is required"),
                None => {}
            }
        }
    }

    /// A list of `least` to `most` entries that keep one rule.
    pub(super) fn list(&mut self, at: &str, value: &Value, least: usize, most: usize, check: Check) {
        let Some(list) = value.as_array() else { return self.say(at, "must be an array") };
        if !(least..=most).contains(&list.len()) {
            self.say(at, format!("must have {least} to {most} entries, not {}", list.len()));
        }
        for (index, entry) in list.iter().enumerate() {
            check(self, &within(at, index), entry);
        }
    }

    pub(super) fn map<'v>(&mut self, at: &str, value: &'v Value) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.say(at, "must be an object");
        }
        object
    }

    pub(super) fn string<'v>(&mut self, at: &str, value: &'v Value) -> Option<&'v str> {
        let text = value.as_str();
        if text.is_none() {
            self.say(at, "must be a string");
        }
        text
    }

    pub(super) fn text(&mut self, at: &str, value: &Value) {
        // SendGrid says "at least one character"; the other two are silent about it.
        if self.string(at, value) == Some("") && self.api == ProviderKind::SendGrid {
            self.say(at, "must have at least one character");
        }
    }

    /// A string that ends up in a header: a line break in it would begin another header.
    pub(super) fn line(&mut self, at: &str, value: &Value) {
        if self.string(at, value).is_some_and(|text| text.contains(['\r', '\n', '\0'])) {
            self.say(at, "must not contain line breaks or NUL");
        }
    }

    pub(super) fn flag(&mut self, at: &str, value: &Value) {
        if !value.is_boolean() {
            self.say(at, "must be true or false");
        }
    }

    pub(super) fn whole_number(&mut self, at: &str, value: &Value) {
        if !value.is_u64() {
            self.say(at, "must be a whole number");
        }
    }

    pub(super) fn any_object(&mut self, at: &str, value: &Value) {
        self.map(at, value);
    }

    /// `{"email", "name"}`.
    pub(super) fn mailbox(&mut self, at: &str, value: &Value) {
        self.object(at, value, MAILBOX);
    }

    pub(super) fn mailboxes(&mut self, at: &str, value: &Value) {
        self.list(at, value, 1, MAX_ADDRESSES, Self::mailbox);
    }

    fn email(&mut self, at: &str, value: &Value) {
        let Some(text) = self.string(at, value) else { return };
        match Address::parse_in(self.alphabet, text) {
            Err(error) => self.say(at, format!("is not a valid address: {error}")),
            // Mail to `root@localhost` never leaves a provider.
            Ok(address) if !address.domain().contains('.') => self.say(at, "is not a valid address: no such domain"),
            Ok(_) => {}
        }
    }
}

/// The place of a member of the value at `at`.
pub(super) fn within(at: &str, member: impl std::fmt::Display) -> String {
    if at.is_empty() { member.to_string() } else { format!("{at}.{member}") }
}

/// Whether a text is base64 as RFC 4648 §3 wants it: the alphabet of §4, padded, no line breaks, unused bits zero.
pub fn is_canonical_base64(text: &str) -> bool {
    let data = text.trim_end_matches('=');
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let unused_bits = match (text.len() % 4, text.len() - data.len()) {
        (0, 0) => 0,
        (0, 1) => 0b11,
        (0, 2) => 0b1111,
        _ => return false,
    };
    let last = data.bytes().last().and_then(value).unwrap_or(0);
    data.bytes().all(|byte| value(byte).is_some()) && last & unused_bits == 0
}
