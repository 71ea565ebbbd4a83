//! One strict parser for RFC 5321 mailboxes, and RFC 6531 ones where they are wanted: what it lets through is sent to the
//! API, nothing else is.

mod unicode;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest path without its angle brackets, in octets (RFC 5321 §4.5.3.1.3: 256 with punctuation).
const MAX_ADDRESS: usize = 254;
/// Longest local part, in octets (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL: usize = 64;
/// Longest label of a domain, in octets (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// Which characters a mailbox may be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// RFC 5321: ASCII.
    Ascii,
    /// RFC 6531 §3.3: UTF-8 as well, in the local part and in the domain.
    Utf8,
}

/// A mailbox `local@domain` in canonical form: the domain in ASCII (A-labels for what was written in U-labels) and lower
/// case, the local part exactly as it was written, quoted only where RFC 5321 §4.1.2 needs the quotes. Two addresses are
/// equal if they are the same mailbox.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    text: Box<str>,
    at: usize,
}

/// Why a text is no mailbox. Displays as the sentence that goes into the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing between the brackets.
    #[error("the address is empty")]
    Empty,
    /// No `@domain`.
    #[error("the address has no @domain")]
    NoDomain,
    /// The part before the @ breaks the grammar.
    #[error("the part before @ is not a valid local part")]
    LocalPart,
    /// The part after the @ breaks the grammar.
    #[error("the part after @ is not a valid domain")]
    Domain,
    /// `[...]` holds no IP address.
    #[error("the address literal is not an IP address")]
    Literal,
    /// Over 254 octets, or over 64 before the @.
    #[error("the address is too long")]
    TooLong,
    /// Octets outside of ASCII where only that is taken.
    #[error("the address is not ASCII")]
    NotAscii,
    /// Octets that are no UTF-8 (RFC 3629).
    #[error("the address is not UTF-8")]
    NotUtf8,
    /// Letters in pieces: a look-alike of the address that has them whole.
    #[error("the part before @ is not in the Unicode normal form NFC")]
    NotNormal,
    /// Invisible characters, and look-alikes of the syntax.
    #[error("the part before @ holds a character that cannot be seen or that looks like punctuation")]
    Character,
}

impl Address {
    /// Parses a whole text as one ASCII mailbox.
    ///
    /// # Errors
    /// [`AddressError`], also when something follows the mailbox.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        Self::parse_in(Alphabet::Ascii, text)
    }

    /// Parses a whole text as one mailbox.
    ///
    /// # Errors
    /// [`AddressError`], also when something follows the mailbox.
    pub fn parse_in(alphabet: Alphabet, text: &str) -> Result<Self, AddressError> {
        match Self::parse_prefix(alphabet, text.as_bytes())? {
            (address, used) if used == text.len() => Ok(address),
            _ => Err(AddressError::Domain),
        }
    }

    /// Parses an address as people and programs outside of SMTP write it: also in a name's angle brackets, with the root's dot
    /// behind the domain, and in whichever normal form.
    ///
    /// # Errors
    /// [`AddressError`], if it is none even so.
    pub fn from_words(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let inner = text.rsplit_once('<').and_then(|(_, inner)| inner.strip_suffix('>')).unwrap_or(text).trim();
        Self::parse_in(Alphabet::Utf8, &unicode::composed(inner.strip_suffix('.').unwrap_or(inner)))
    }

    /// Parses the mailbox that `input` begins with; returns it and how many octets it took. What may follow (`>` in a
    /// path) is the caller's rule.
    ///
    /// # Errors
    /// [`AddressError`] for the first rule broken.
    pub fn parse_prefix(alphabet: Alphabet, input: &[u8]) -> Result<(Self, usize), AddressError> {
        let (local, after_local) = local_part(alphabet, input)?;
        let rest = input.get(after_local..).unwrap_or_default();
        if rest.first() != Some(&b'@') {
            return Err(if rest.first().is_some_and(|b| !b.is_ascii()) {
                AddressError::NotAscii
            } else if after_local == 0 {
                AddressError::Empty
            } else if rest.first().is_none_or(|b| matches!(b, b'>' | b' ')) {
                AddressError::NoDomain
            } else {
                AddressError::LocalPart
            });
        }
        if local.is_empty() {
            return Err(AddressError::LocalPart);
        }
        let domain_input = rest.get(1..).unwrap_or_default();
        let (domain, domain_len) = domain(alphabet, domain_input)?;
        let used = after_local + 1 + domain_len;
        let (at, text) = (local.len(), format!("{local}@{domain}"));
        // A-labels may be longer than what they were written as.
        if at > MAX_LOCAL || used.max(text.len()) > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        Ok((Self { text: text.into(), at }, used))
    }

    /// Whether every API can take it. The domain always is ASCII; the local part need not be.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// The mailbox as the API gets it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the @, with quotes if it needs them.
    pub fn local(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// The part after the @, in lower case.
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }

    /// Whether a person would read both as the same mailbox: as equality, but the local part without regard to case.
    /// Used to find an envelope recipient among the header's; never to decide who gets mail.
    pub fn reads_like(&self, other: &Self) -> bool {
        self.text.eq_ignore_ascii_case(&other.text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

/// The canonical local part at the start of `input` and how many octets it took there.
fn local_part(alphabet: Alphabet, input: &[u8]) -> Result<(String, usize), AddressError> {
    if input.first() == Some(&b'"') {
        return quoted_string(alphabet, input);
    }
    let fits = |b: u8| is_atext(b) || b == b'.' || (alphabet == Alphabet::Utf8 && !b.is_ascii());
    let len = input.iter().take_while(|b| fits(**b)).count();
    let local = std::str::from_utf8(input.get(..len).unwrap_or_default()).map_err(|_| AddressError::NotUtf8)?;
    if !is_dot_string(local) && !local.is_empty() {
        return Err(AddressError::LocalPart);
    }
    unicode::check_local(local)?;
    Ok((local.to_owned(), len))
}

/// RFC 5321 §4.1.2 Quoted-string. The quotes are dropped where the content is a Dot-string: `"ann"@x` is `ann@x`.
/// RFC 6531 §3.3 lets UTF-8 stand in it, but not behind a backslash.
fn quoted_string(alphabet: Alphabet, input: &[u8]) -> Result<(String, usize), AddressError> {
    let mut content = Vec::new();
    let mut i = 1;
    loop {
        match (input.get(i), input.get(i + 1)) {
            (Some(b'"'), _) => break,
            (Some(b'\\'), Some(&b)) if (0x20..0x7f).contains(&b) => {
                content.push(b);
                i += 2;
            }
            (Some(&b), _) if (0x20..0x7f).contains(&b) && b != b'\\' => {
                content.push(b);
                i += 1;
            }
            (Some(&b), _) if !b.is_ascii() && alphabet == Alphabet::Utf8 => {
                content.push(b);
                i += 1;
            }
            (Some(b), _) if !b.is_ascii() => return Err(AddressError::NotAscii),
            _ => return Err(AddressError::LocalPart),
        }
    }
    let used = i + 1;
    let content = String::from_utf8(content).map_err(|_| AddressError::NotUtf8)?;
    unicode::check_local(&content)?;
    if is_dot_string(&content) {
        return Ok((content, used));
    }
    let mut local = String::from('"');
    for c in content.chars() {
        if matches!(c, '"' | '\\') {
            local.push('\\');
        }
        local.push(c);
    }
    local.push('"');
    Ok((local, used))
}

/// The domain or address literal at the start of `input` in lower case and ASCII, and how many octets it took there.
fn domain(alphabet: Alphabet, input: &[u8]) -> Result<(String, usize), AddressError> {
    if input.first() == Some(&b'[') {
        return address_literal(input);
    }
    // An underscore is not RFC 5321's, but container names have it (root@web_app_1) and no parser takes it for syntax.
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_') || !b.is_ascii();
    let len = input.iter().take_while(|b| fits(**b)).count();
    let domain = input.get(..len).unwrap_or_default();
    if !domain.is_ascii() && alphabet == Alphabet::Ascii {
        return Err(AddressError::NotAscii);
    }
    let domain = std::str::from_utf8(domain).map_err(|_| AddressError::NotUtf8)?;
    if !domain.is_ascii() {
        return Ok((unicode::ascii_domain(domain)?, len));
    }
    let label = |l: &str| !l.is_empty() && l.len() <= MAX_LABEL && !l.starts_with('-') && !l.ends_with('-');
    if domain.split('.').all(label) { Ok((domain.to_ascii_lowercase(), len)) } else { Err(AddressError::Domain) }
}

/// RFC 5321 §4.1.3.
fn address_literal(input: &[u8]) -> Result<(String, usize), AddressError> {
    let end = memchr::memchr(b']', input).ok_or(AddressError::Literal)?;
    let inner = std::str::from_utf8(input.get(1..end).unwrap_or_default()).map_err(|_| AddressError::Literal)?;
    let valid = match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner.get(5..).is_some_and(|a| a.parse::<Ipv6Addr>().is_ok()),
        _ => inner.parse::<Ipv4Addr>().is_ok(),
    };
    if valid { Ok((format!("[{}]", inner.to_ascii_lowercase()), end + 1)) } else { Err(AddressError::Literal) }
}

/// RFC 5322 §3.2.3 atext.
fn is_atext(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b)
}

/// Characters beyond ASCII are atext (RFC 6531 §3.3); where they may not stand, they have been refused before.
fn is_dot_string(local: &str) -> bool {
    local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(|b| is_atext(b) || !b.is_ascii()))
}
