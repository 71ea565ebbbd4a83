//! Patterns for addresses, as operators write them: `*@example.com`, `noreply-*@example.com`, `<>`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use wildmatch::WildMatch;

use crate::address::{Address, Alphabet};

/// What an address may look like: `*` stands for any text, `?` for one character, on each side of the @ by itself; `<>` is
/// the null reverse-path. Case does not matter: an address that is refused must not pass because somebody wrote it in
/// capitals. A domain in any script means its ASCII form, which is the one that addresses have.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern {
    text: String,
    of: Of,
}

#[derive(Debug, Clone, PartialEq)]
enum Of {
    /// `<>`.
    Null,
    /// `*`.
    Any,
    /// Local part and domain.
    Addresses(WildMatch, WildMatch),
}

impl Pattern {
    /// Whether it means this address; `None` is the null reverse-path.
    pub fn matches(&self, address: Option<&Address>) -> bool {
        match (&self.of, address) {
            (Of::Null, None) | (Of::Any, Some(_)) => true,
            // A quoted local part may hold an @ of its own, so the two are never looked at as one text.
            (Of::Addresses(local, domain), Some(address)) => {
                local.matches(address.local()) && domain.matches(address.domain())
            }
            _ => false,
        }
    }
}

/// A list of patterns, as a key of the configuration has it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Patterns(pub Vec<Pattern>);

impl Patterns {
    /// Whether one of them means this address; `None` is the null reverse-path.
    pub fn has(&self, address: Option<&Address>) -> bool {
        self.0.iter().any(|pattern| pattern.matches(address))
    }

    /// The same for a list that limits: an empty one lets all pass.
    pub fn allows(&self, address: Option<&Address>) -> bool {
        self.0.is_empty() || self.has(address)
    }
}

impl FromStr for Pattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let of = match (text, text.rsplit_once('@')) {
            ("<>", _) => Of::Null,
            ("*", _) => Of::Any,
            _ if text.contains(char::is_whitespace) || text.contains(['<', '>', ',']) => {
                return Err(format!("{text:?} is not a pattern for one address; write a list of patterns"));
            }
            (_, Some((local, domain))) if !local.is_empty() && !domain.is_empty() => {
                let domain = ascii_domain(domain).ok_or_else(|| format!("{text:?} has no valid domain"))?;
                Of::Addresses(WildMatch::new_case_insensitive(local), WildMatch::new_case_insensitive(&domain))
            }
            (_, Some((_, domain))) => {
                return Err(format!("{text:?} lacks a side of the @; a domain's are \"*@{domain}\""));
            }
            (_, None) => return Err(format!("{text:?} is not a pattern for addresses; a domain's are \"*@{text}\"")),
        };
        Ok(Self { text: text.to_owned(), of })
    }
}

/// The labels in the form that addresses have; those with a wildcard stay as they are, and have to be ASCII.
fn ascii_domain(domain: &str) -> Option<String> {
    if domain.is_ascii() {
        return Some(domain.to_owned());
    }
    let label = |label: &str| {
        if label.contains(['*', '?']) {
            return label.is_ascii().then(|| label.to_owned());
        }
        let address = Address::parse_in(Alphabet::Utf8, &format!("x@{}", label.to_lowercase())).ok()?;
        Some(address.domain().to_owned())
    };
    Some(domain.split('.').map(label).collect::<Option<Vec<_>>>()?.join("."))
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
