//! Values of control headers, from the way each vendor writes them to one way.

use serde_json::{Map, Value};

use super::Setting;
use super::table::{Form, Row};
use crate::address::{Address, Alphabet};
use crate::message::{one_line, unix_seconds};

/// Later than any mail can be meant to go (the end of 9999): milliseconds, taken for seconds.
const FAR: u64 = 253_402_300_799;
/// Longest idempotency key (Resend's limit).
const MAX_TOKEN: usize = 256;
/// Most sections of an X-SMTPAPI, and most octets that its substitutions have with them: a small header must not become
/// a large mail.
const MAX_SECTIONS: usize = 100;
const MAX_EXPANDED: usize = 1 << 20;

/// What `row` reads out of a value; `root` is the whole JSON of the header, `name` the header as the mail writes it,
/// `everybody` the envelope's recipients.
/// Nothing: there is nothing asked for. The error says what is wrong with it, without its content.
pub(super) fn read(
    row: &Row,
    name: &str,
    value: &Value,
    root: &Value,
    everybody: &[Address],
) -> Result<Option<Setting>, &'static str> {
    let setting = match row.form {
        Form::Text => Setting::Text(text(value)?),
        Form::BeforeBar => Setting::Text(one_line(text(value)?.split('|').next().unwrap_or_default())),
        Form::Token => token(&text(value)?).map(Setting::Text)?,
        Form::Texts => Setting::Texts(texts(value)?),
        Form::List => Setting::Texts(text(value)?.split(',').map(one_line).collect()),
        Form::Entry => Setting::Map(Map::from_iter([(one_line(row.entry(name)), text(value)?.into())])),
        Form::Pairs => Setting::Map(pairs(&text(value)?)?),
        Form::Strings => Setting::Map(strings(&for_everybody(object(value)?, everybody)?)),
        Form::Object => Setting::Map(for_everybody(object(value)?, everybody)?),
        Form::Switch => Setting::Switch(switch(value)?),
        Form::Listed(word) => {
            let list = text(value)?.to_ascii_lowercase();
            Setting::Switch(list.split(',').any(|item| item.trim().starts_with(word)))
        }
        Form::Filter => Setting::Switch(enabled(value)?),
        Form::TemplateFilter if !enabled(value)? => return Ok(None),
        Form::TemplateFilter => {
            Setting::Text(text(value.pointer("/settings/template_id").ok_or("has no template_id")?)?)
        }
        Form::Time => Setting::Number(time(value)?),
        Form::Number => Setting::Number(number(value)?),
        Form::Substitutions => Setting::Map(substitutions(object(value)?, root, everybody)?),
        Form::ByRecipient => Setting::Map(by_recipient(object(value)?, everybody)?),
        Form::Opaque => return Ok(None),
    };
    Ok(Some(setting).filter(|setting| !setting.is_empty()))
}

/// The addresses that a value names, however it is built; what cannot be read as one is `None`.
pub(super) fn addresses(value: &Value) -> Vec<Option<Address>> {
    match value {
        Value::Array(list) => list.iter().flat_map(addresses).collect(),
        // A filter of X-SMTPAPI that is switched off.
        filter if enabled(filter) == Ok(false) => Vec::new(),
        Value::Object(members) => {
            let nested = ["email", "address", "settings"].iter().filter_map(|name| members.get(*name));
            nested.flat_map(addresses).collect()
        }
        Value::String(text) if text.trim().is_empty() => Vec::new(),
        Value::String(text) => {
            let address =
                text.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(text.as_str(), |a| a.0);
            vec![Address::parse_in(Alphabet::Utf8, address.trim()).ok()]
        }
        _ => vec![None],
    }
}

fn text(value: &Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(one_line(text)),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Ok(String::new()),
        _ => Err("is not a text"),
    }
}

fn texts(value: &Value) -> Result<Vec<String>, &'static str> {
    match value {
        Value::Array(list) => list.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

/// One day this goes into an HTTP header: nothing in it may end a line.
fn token(text: &str) -> Result<String, &'static str> {
    let fits = text.len() <= MAX_TOKEN && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("is not 1 to 256 visible ASCII characters") }
}

fn object(value: &Value) -> Result<&Map<String, Value>, &'static str> {
    value.as_object().ok_or("is not a JSON object")
}

/// Values are texts wherever they come back (webhooks); what is none is kept as its JSON.
fn strings(object: &Map<String, Value>) -> Map<String, Value> {
    let entry = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => one_line(text),
            other => other.to_string(),
        };
        (one_line(name), Value::from(text))
    };
    object.iter().map(entry).filter(|(name, _)| !name.is_empty()).collect()
}

/// Mandrill can name the recipient that the values are for. Here they are for all of a mail.
fn for_everybody(object: &Map<String, Value>, everybody: &[Address]) -> Result<Map<String, Value>, &'static str> {
    let mut values = object.clone();
    match (values.remove("_rcpt"), everybody) {
        (None, _) => Ok(values),
        (Some(Value::String(one)), [only]) if is_of(&one, only) => Ok(values),
        _ => Err("has values for one recipient (_rcpt) of several"),
    }
}

/// Whether a text is this recipient's address, written the plain way: another way of writing it is refused, not guessed.
fn is_of(text: &str, recipient: &Address) -> bool {
    text.trim().eq_ignore_ascii_case(recipient.as_str())
}

fn pairs(text: &str) -> Result<Map<String, Value>, &'static str> {
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().into())),
        _ => Err("is not name=value, name=value"),
    };
    pairs.map(pair).collect()
}

/// The words of all vendors for yes and no. Postmark says which parts of a mail have their links tracked; the API
/// has one switch for it.
fn switch(value: &Value) -> Result<bool, &'static str> {
    let word = match value {
        Value::Bool(on) => return Ok(*on),
        other => text(other)?.to_ascii_lowercase(),
    };
    match word.as_str() {
        "true" | "yes" | "y" | "on" | "1" | "enabled" | "htmlandtext" | "htmlonly" | "textonly" => Ok(true),
        "false" | "no" | "n" | "off" | "0" | "disabled" | "none" => Ok(false),
        _ => Err("is neither yes nor no"),
    }
}

fn enabled(filter: &Value) -> Result<bool, &'static str> {
    filter.pointer("/settings/enable").map_or(Err("has no settings.enable"), switch)
}

fn number(value: &Value) -> Result<u64, &'static str> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    number.ok_or("is not a whole number")
}

/// Neither the past nor how far ahead it may be is judged here: the APIs do (ScaiSend sends at once what is due,
/// SendGrid takes 72 hours), and their refusal is the client's.
fn time(value: &Value) -> Result<u64, &'static str> {
    let seconds = number(value).ok().or_else(|| unix_seconds(value.as_str()?));
    seconds.filter(|seconds| *seconds <= FAR).ok_or("is no date (RFC 3339, RFC 5322) and no Unix time in seconds")
}

/// `sub` maps a mark in the text to a value for each recipient of `to`; a value may name a `section`, which stands for
/// a longer text.
fn substitutions(
    sub: &Map<String, Value>,
    root: &Value,
    everybody: &[Address],
) -> Result<Map<String, Value>, &'static str> {
    let none = Map::new();
    let sections = root.get("section").and_then(Value::as_object).unwrap_or(&none);
    if sections.len() > MAX_SECTIONS {
        return Err("has more than 100 sections");
    }
    let places = places(root.get("to"), everybody);
    let (mut all, mut octets) = (Map::new(), 0);
    for (mark, values) in sub {
        let one = std::slice::from_ref(values);
        let values = values.as_array().map_or(one, Vec::as_slice);
        let mut expanded = Vec::new();
        for value in places.iter().map(|place| values.get((*place)?)) {
            let value = value.map(|value| expand(value, sections)).transpose()?;
            octets += value.as_ref().map_or(0, String::len);
            if octets > MAX_EXPANDED {
                return Err("grows beyond 1 MiB by its sections");
            }
            expanded.push(value);
        }
        if !values.is_empty() {
            all.insert(mark.clone(), for_all(expanded));
        }
    }
    Ok(all)
}

/// Where in lists that run parallel to `to` each recipient of the envelope is. Without `to`, RCPT is the list.
fn places(to: Option<&Value>, everybody: &[Address]) -> Vec<Option<usize>> {
    let listed = to.map(addresses).unwrap_or_default();
    if listed.is_empty() {
        return (0..everybody.len()).map(Some).collect();
    }
    let place = |recipient: &Address| listed.iter().position(|a| a.as_ref().is_some_and(|a| a.reads_like(recipient)));
    everybody.iter().map(place).collect()
}

/// The one value that all recipients have. Where they differ, or one has none, a list: no field fits it, and nobody may
/// read what is meant for another.
fn for_all(values: Vec<Option<String>>) -> Value {
    match values.split_first() {
        Some((Some(first), rest)) if rest.iter().all(|value| value.as_ref() == Some(first)) => first.as_str().into(),
        _ => values.into_iter().flatten().collect(),
    }
}

/// A substitution's text with the sections that it names in their places.
fn expand(value: &Value, sections: &Map<String, Value>) -> Result<String, &'static str> {
    let mut text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err("has values that are no texts"),
    };
    for (mark, section) in sections.iter().filter(|(mark, _)| !mark.is_empty()) {
        if let Some(section) = section.as_str().filter(|_| text.contains(mark.as_str())) {
            text = text.replacen(mark.as_str(), section, 1);
        }
    }
    Ok(text)
}

/// Variables of each recipient as substitutions; those of others than the envelope's are nobody's here.
fn by_recipient(variables: &Map<String, Value>, everybody: &[Address]) -> Result<Map<String, Value>, &'static str> {
    let none = Map::new();
    let of = |recipient: &Address| {
        let own = variables.iter().find(|(address, _)| is_of(address, recipient));
        own.map_or(Ok(&none), |(_, own)| object(own))
    };
    let each = everybody.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    let mut all = Map::new();
    for name in each.iter().flat_map(|own| own.keys()) {
        let mark = format!("%recipient.{name}%");
        if !all.contains_key(&mark) {
            let values = each.iter().map(|own| own.get(name).map(|value| expand(value, &none)).transpose());
            all.insert(mark, for_all(values.collect::<Result<_, _>>()?));
        }
    }
    Ok(all)
}
