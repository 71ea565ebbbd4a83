//! One strict parser for RFC 5321 mailboxes: what it lets through is sent to the API, nothing else is.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest path without its angle brackets, in octets (RFC 5321 §4.5.3.1.3: 256 with punctuation).
const MAX_ADDRESS: usize = 254;
/// Longest local part, in octets (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL: usize = 64;
/// Longest label of a domain, in octets (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// A mailbox `local@domain` in canonical form: the domain folded to lower case, the local part exactly as it was
/// written, quoted only where RFC 5321 §4.1.2 needs the quotes. Two addresses are equal if they are the same mailbox.
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
    /// Octets outside of ASCII (RFC 6531 would be needed).
    #[error("the address is not ASCII and this relay does not offer SMTPUTF8")]
    NotAscii,
}

impl Address {
    /// Parses a whole text as one mailbox.
    ///
    /// # Errors
    /// [`AddressError`], also when something follows the mailbox.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match Self::parse_prefix(text.as_bytes())? {
            (address, used) if used == text.len() => Ok(address),
            _ => Err(AddressError::Domain),
        }
    }

    /// Parses the mailbox that `input` begins with; returns it and how many octets it took. What may follow (`>` in a
    /// path) is the caller's rule.
    ///
    /// # Errors
    /// [`AddressError`] for the first rule broken.
    pub fn parse_prefix(input: &[u8]) -> Result<(Self, usize), AddressError> {
        let (local, after_local) = local_part(input)?;
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
        let domain_len = domain(domain_input)?;
        let domain = domain_input.get(..domain_len).unwrap_or_default();
        let used = after_local + 1 + domain_len;
        if local.len() > MAX_LOCAL || used > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        let at = local.len();
        let text = format!("{local}@{}", String::from_utf8_lossy(domain).to_ascii_lowercase());
        Ok((Self { text: text.into(), at }, used))
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
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

/// The canonical local part at the start of `input` and how many octets it took there.
fn local_part(input: &[u8]) -> Result<(String, usize), AddressError> {
    if input.first() == Some(&b'"') {
        return quoted_string(input);
    }
    let len = input.iter().take_while(|b| is_atext(**b) || **b == b'.').count();
    let local = input.get(..len).unwrap_or_default();
    if is_dot_string(local) || local.is_empty() {
        Ok((String::from_utf8_lossy(local).into_owned(), len))
    } else {
        Err(AddressError::LocalPart)
    }
}

/// RFC 5321 §4.1.2 Quoted-string. The quotes are dropped where the content is a Dot-string: `"ann"@x` is `ann@x`.
fn quoted_string(input: &[u8]) -> Result<(String, usize), AddressError> {
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
            (Some(b), _) if !b.is_ascii() => return Err(AddressError::NotAscii),
            _ => return Err(AddressError::LocalPart),
        }
    }
    let used = i + 1;
    if is_dot_string(&content) {
        return Ok((String::from_utf8_lossy(&content).into_owned(), used));
    }
    let mut local = String::from('"');
    for b in content {
        if matches!(b, b'"' | b'\\') {
            local.push('\\');
        }
        local.push(char::from(b));
    }
    local.push('"');
    Ok((local, used))
}

/// The length of the domain or address literal at the start of `input`.
fn domain(input: &[u8]) -> Result<usize, AddressError> {
    if input.first() == Some(&b'[') {
        return address_literal(input);
    }
    // An underscore is not RFC 5321's, but container names have it (root@web_app_1) and no parser takes it for syntax.
    let len = input.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')).count();
    let domain = input.get(..len).unwrap_or_default();
    let label = |l: &[u8]| !l.is_empty() && l.len() <= MAX_LABEL && l.first() != Some(&b'-') && l.last() != Some(&b'-');
    if input.get(len).is_some_and(|b| !b.is_ascii()) {
        Err(AddressError::NotAscii)
    } else if domain.split(|b| *b == b'.').all(label) {
        Ok(len)
    } else {
        Err(AddressError::Domain)
    }
}

/// RFC 5321 §4.1.3.
fn address_literal(input: &[u8]) -> Result<usize, AddressError> {
    let end = memchr::memchr(b']', input).ok_or(AddressError::Literal)?;
    let inner = std::str::from_utf8(input.get(1..end).unwrap_or_default()).map_err(|_| AddressError::Literal)?;
    let valid = match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner.get(5..).is_some_and(|a| a.parse::<Ipv6Addr>().is_ok()),
        _ => inner.parse::<Ipv4Addr>().is_ok(),
    };
    if valid { Ok(end + 1) } else { Err(AddressError::Literal) }
}

/// RFC 5322 §3.2.3 atext.
fn is_atext(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b)
}

fn is_dot_string(local: &[u8]) -> bool {
    local.split(|b| *b == b'.').all(|atom| !atom.is_empty() && atom.iter().all(|b| is_atext(*b)))
}
