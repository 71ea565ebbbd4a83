//! Patterns for addresses, as operators write them: `*@example.com`, `noreply-*@example.com`, `<>`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use wildmatch::WildMatch;

use crate::address::Address;

/// What an address may look like: `*` stands for any text, `?` for one character, `<>` for the null reverse-path. Case does
/// not matter: an address that is refused must not pass because somebody wrote it in capitals.
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
    Addresses(WildMatch),
}

impl Pattern {
    /// Whether it means this address; `None` is the null reverse-path.
    pub fn matches(&self, address: Option<&Address>) -> bool {
        match (&self.of, address) {
            (Of::Null, None) => true,
            (Of::Addresses(pattern), Some(address)) => pattern.matches(address.as_str()),
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
        let of = match text {
            "<>" => Of::Null,
            "*" => Of::Addresses(WildMatch::new("*")),
            _ if text.contains(char::is_whitespace) || text.contains(['<', '>', ',']) => {
                return Err(format!("{text:?} is not a pattern for one address; write a list of patterns"));
            }
            _ if text.contains('@') => Of::Addresses(WildMatch::new_case_insensitive(text)),
            _ => return Err(format!("{text:?} is not a pattern for addresses; a domain's are \"*@{text}\"")),
        };
        Ok(Self { text: text.to_owned(), of })
    }
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
