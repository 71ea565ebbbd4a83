//! Recipients whom nobody may see, and the header fields that would show them.

use std::collections::HashSet;

use super::Message;
use crate::address::{Address, Alphabet};
use crate::mime::parameter::unescape_percent;

/// How often percent signs are resolved: a link that passes through another one is written twice so.
const UNESCAPED: usize = 3;
/// As long as a local part and a domain can be in characters: no more is looked at around each sign.
const MAX_LOCAL: usize = 66;
const MAX_DOMAIN: usize = 255;

impl Message {
    /// Removes the fields that name one of `hidden`, whatever the fields are called: programs note the envelope in fields
    /// of their own making (`X-Receiver`) and in links (`List-Unsubscribe`), and nobody may learn of a blind recipient.
    pub fn hide<'a>(&mut self, hidden: impl IntoIterator<Item = &'a Address>) {
        let hidden = Hidden::new(hidden);
        if !hidden.addresses.is_empty() {
            self.headers.retain(|(name, value)| !hidden.is_named_in(name) && !hidden.is_named_in(value));
        }
    }
}

/// Addresses, and their domains; in lower case.
struct Hidden {
    addresses: HashSet<String>,
    domains: HashSet<String>,
}

impl Hidden {
    fn new<'a>(hidden: impl IntoIterator<Item = &'a Address>) -> Self {
        let (addresses, domains) = hidden
            .into_iter()
            .map(|address| (address.as_str().to_ascii_lowercase(), address.domain().to_owned()))
            .unzip();
        Self { addresses, domains }
    }

    /// Whether `text` has one of them: alone, in brackets, or in a URL, as it is or with percent signs (RFC 3986 §2.1).
    fn is_named_in(&self, text: &str) -> bool {
        let mut text = text.to_ascii_lowercase();
        for _ in 0..UNESCAPED {
            if self.is_plainly_in(&text) {
                return true;
            }
            let mut octets = Vec::new();
            unescape_percent(text.as_bytes(), &mut octets);
            let plain = String::from_utf8_lossy(&octets).to_ascii_lowercase();
            if plain == text {
                return false;
            }
            text = plain;
        }
        self.is_plainly_in(&text)
    }

    /// As `ann@example.com`, and as `ann=example.com`, the form in which return paths of mailing lists have it (VERP).
    fn is_plainly_in(&self, text: &str) -> bool {
        memchr::memchr2_iter(b'@', b'=', text.as_bytes()).any(|at| {
            let (before, after) = text.split_at(at);
            // mary-ann@ is somebody else than ann@; list-ann=example.com@ is not.
            let inside = if after.starts_with('@') { "+-_." } else { "" };
            let mut domains = domains_at(after.get(1..).unwrap_or_default());
            domains.retain(|domain| self.domains.contains(domain));
            domains.iter().any(|domain| {
                let locals = locals_before(before, inside);
                locals.iter().any(|local| self.addresses.contains(&format!("{local}@{domain}")))
            })
        })
    }
}

/// What may be the domain that `text` begins with, in ASCII (RFC 5890 A-labels), without the dot at its end. Marks are no
/// letters, and belong to some domains; so do quotes, to the rules of IDNA.
fn domains_at(text: &str) -> Vec<String> {
    if text.starts_with('[') {
        return text.split_inclusive(']').next().map(str::to_owned).into_iter().collect();
    }
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    let taken = |is_domain: &dyn Fn(char) -> bool| {
        let domain: String = text.chars().take(MAX_DOMAIN).take_while(|c| is_domain(*c)).collect();
        domain.trim_end_matches('.').to_owned()
    };
    let (letters, with_marks) = (taken(&is_plain), taken(&|c| is_plain(c) || !c.is_ascii()));
    let in_ascii = |domain: &String| {
        let address = Address::parse_in(Alphabet::Utf8, &format!("a@{domain}"));
        address.ok().map(|address| address.domain().to_owned())
    };
    let found: Vec<String> =
        [&letters, &with_marks].into_iter().filter(|d| !d.is_ascii()).filter_map(in_ascii).collect();
    if letters.is_ascii() { std::iter::once(letters).chain(found).collect() } else { found }
}

/// What may be the local part at the end of `text`: all of it, and what follows each sign (`?e=`, `'`, `“`) that is not
/// one of those that are `inside` of names.
fn locals_before(text: &str, inside: &str) -> Vec<String> {
    if let Some(quoted) = text.strip_suffix('"') {
        let content = quoted.rsplit('"').next().unwrap_or_default();
        return vec![content.to_owned(), format!("\"{content}\"")];
    }
    let is_local = |c: &char| !c.is_whitespace() && !"<>(),;:@\"[]".contains(*c);
    let is_sign = |c: char| !c.is_alphanumeric() && !inside.contains(c);
    let mut local: Vec<char> = text.chars().rev().take(MAX_LOCAL).take_while(is_local).collect();
    local.reverse();
    let starts = local.iter().enumerate().filter(|(_, c)| is_sign(**c)).map(|(at, _)| at + 1);
    std::iter::once(0).chain(starts).filter_map(|at| local.get(at..)).map(|rest| rest.iter().collect()).collect()
}
