//! Mailbox lists (RFC 5322 §3.4, also the obsolete forms of §4.4): every valid address with its name, nothing guessed.

use encodify::rfc2047::EncodedWord;

use super::{Mailbox, charsets, words};
use crate::address::{Address, Alphabet};

/// What a header value names, in its order.
#[derive(Debug, Default)]
pub(super) struct Mailboxes {
    /// The valid ones.
    pub whole: Vec<Mailbox>,
    /// Those without `@domain`: name, local part, and how many valid ones stand before it.
    pub bare: Vec<(Option<String>, String, usize)>,
}

/// The mailboxes of a header value. Groups are flattened, what is no address is dropped. An address may be UTF-8 (RFC 6532
/// §3.2), whatever the envelope said about that; where the value is not, a charset can be guessed for names, but not for
/// addresses.
pub(super) fn parse(value: &[u8]) -> Mailboxes {
    let text = charsets::utf8_or_windows(value);
    let alphabet = if std::str::from_utf8(value).is_ok() { Alphabet::Utf8 } else { Alphabet::Ascii };
    let found = Mailboxes::default();
    let mut list = List { input: text.as_bytes(), alphabet, at: 0, entry: Entry::default(), found };
    list.read();
    list.found
}

/// What stands between two commas.
#[derive(Default)]
struct Entry {
    words: Vec<Word>,
    /// The text in angle brackets.
    angle: Option<Vec<u8>>,
    comment: Vec<u8>,
}

/// How far the second half of a name with a comma is looked for, in octets.
const LOOK_AHEAD: usize = 100;

/// A run of text without blanks, or a quoted string.
struct Word {
    /// As it is read: without the quotes.
    text: Vec<u8>,
    /// As it is written: what an address needs.
    written: Vec<u8>,
    /// Whether a blank or comment stands before it.
    apart: bool,
}

impl Word {
    /// The comma in a name that should have been quoted.
    fn comma() -> Self {
        Self { text: b",".to_vec(), written: b",".to_vec(), apart: false }
    }
}

struct List<'a> {
    input: &'a [u8],
    alphabet: Alphabet,
    at: usize,
    entry: Entry,
    found: Mailboxes,
}

impl List<'_> {
    fn read(&mut self) {
        let mut apart = true;
        while let Some(b) = self.input.get(self.at).copied() {
            let before = self.at;
            self.at += 1;
            match b {
                b',' if self.is_half_a_name() => self.entry.words.push(Word::comma()),
                b',' | b';' => self.finish(),
                // The name of a group.
                b':' if self.entry.angle.is_none() => self.entry = Entry::default(),
                b'<' => {
                    let angle = self.angle();
                    self.entry.angle.get_or_insert(angle);
                }
                b'(' => self.comment(),
                b'"' => self.quoted(apart),
                _ if b.is_ascii_whitespace() || matches!(b, b'>' | b':') => {}
                _ => {
                    self.at = before;
                    self.atom(apart);
                }
            }
            apart = b.is_ascii_whitespace() || b == b'(';
        }
        self.finish();
    }

    /// Whether the entry before this comma is the first half of an unquoted `Smith, John <js@example.com>`: it has no
    /// address and is written as names are (`root` is a user of the machine), and up to the next comma there is a name
    /// with an address in angle brackets.
    fn is_half_a_name(&self) -> bool {
        let entry = &self.entry;
        let is_address = |word: &Word| word.written.first() == Some(&b'"') || word.written.contains(&b'@');
        let rest = self.input.get(self.at..).unwrap_or_default();
        let next = rest.get(..rest.len().min(LOOK_AHEAD)).unwrap_or_default();
        let name = next.split(|b| b",;:\"(@".contains(b)).next().unwrap_or_default();
        let angle = memchr::memchr(b'<', name).and_then(|at| name.get(..at));
        let as_names =
            |word: &Word| word.text.first().is_some_and(|b| b.is_ascii_uppercase() || !b.is_ascii() || *b == b'=');
        let plain = entry.angle.is_none() && entry.comment.is_empty() && entry.words.iter().any(as_names);
        plain && !entry.words.iter().any(is_address) && angle.is_some_and(|name| !name.trim_ascii().is_empty())
    }

    fn finish(&mut self) {
        let entry = std::mem::take(&mut self.entry);
        if let Some(several) = entry.only_addresses(self.alphabet) {
            self.found.whole.extend(several);
            return;
        }
        match entry.mailbox(self.alphabet) {
            Some(Ok(mailbox)) => self.found.whole.push(mailbox),
            Some(Err((name, local))) => self.found.bare.push((name, local, self.found.whole.len())),
            None => {}
        }
    }

    /// A run of other characters; an encoded word is one whatever is in it.
    fn atom(&mut self, apart: bool) {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let encoded = EncodedWord::parse(rest).filter(|(word, _)| !word.payload.contains(&b' ')).map(|(_, len)| len);
        let len = encoded.unwrap_or_else(|| {
            let ends = |b: u8| b.is_ascii_whitespace() || b",;:<>(\"".contains(&b);
            let plain = rest.iter().skip(1).position(|b| ends(*b)).map_or(rest.len(), |n| n + 1);
            // A domain literal has colons.
            let literal = rest.get(..plain).is_some_and(|atom| atom.contains(&b'['));
            let close = if literal { memchr::memchr(b']', rest.get(..300).unwrap_or(rest)) } else { None };
            close.map_or(plain, |close| plain.max(close + 1))
        });
        let text = rest.get(..len).unwrap_or_default().to_vec();
        self.at += len;
        self.entry.words.push(Word { written: text.clone(), text, apart });
    }

    /// A quoted string after its opening quote.
    fn quoted(&mut self, apart: bool) {
        let (mut text, mut written) = (Vec::new(), vec![b'"']);
        while let Some(b) = self.input.get(self.at).copied() {
            self.at += 1;
            written.push(b);
            match b {
                b'"' => break,
                b'\\' => {
                    if let Some(escaped) = self.input.get(self.at).copied() {
                        self.at += 1;
                        written.push(escaped);
                        text.push(escaped);
                    }
                }
                b'\r' | b'\n' => _ = written.pop(),
                _ => text.push(b),
            }
        }
        self.entry.words.push(Word { text, written, apart });
    }

    /// The text up to the closing bracket without blanks and comments (RFC 5322 §4.4 allows them around dots).
    fn angle(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut quoted = false;
        while let Some(b) = self.input.get(self.at).copied() {
            self.at += 1;
            match b {
                b'>' if !quoted => break,
                b'(' if !quoted => {
                    let comment = std::mem::take(&mut self.entry.comment);
                    self.comment();
                    self.entry.comment = comment;
                }
                b'"' => {
                    quoted = !quoted;
                    text.push(b);
                }
                b'\\' if quoted => {
                    text.push(b);
                    text.extend(self.input.get(self.at));
                    self.at += 1;
                }
                b' ' if quoted => text.push(b),
                _ if b.is_ascii_whitespace() => {}
                _ => text.push(b),
            }
        }
        text
    }

    /// A comment after its opening parenthesis; comments may be nested (RFC 5322 §3.2.2).
    fn comment(&mut self) {
        let mut depth = 1_usize;
        if !self.entry.comment.is_empty() {
            self.entry.comment.push(b' ');
        }
        while let Some(b) = self.input.get(self.at).copied() {
            self.at += 1;
            match b {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' => {
                    self.entry.comment.extend(self.input.get(self.at));
                    self.at += 1;
                    continue;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
            self.entry.comment.push(b);
        }
    }
}

impl Entry {
    /// Two and more addresses with nothing but blanks between them: their commas were forgotten.
    fn only_addresses(&self, alphabet: Alphabet) -> Option<Vec<Mailbox>> {
        let several = self.angle.is_none() && self.words.len() > 1 && self.words.iter().skip(1).all(|word| word.apart);
        if !several {
            return None;
        }
        let address = |word: &Word| Address::parse_in(alphabet, std::str::from_utf8(&word.written).ok()?).ok();
        self.words.iter().map(|word| Some(Mailbox { name: None, address: address(word)? })).collect()
    }

    /// The mailbox, or name and local part of one without `@domain`.
    fn mailbox(self, alphabet: Alphabet) -> Option<Result<Mailbox, (Option<String>, String)>> {
        let (name, address) = match self.angle {
            Some(angle) => (join(&self.words), angle),
            None => unbracketed(&self.words)?,
        };
        let address = address.strip_prefix(b"mailto:").unwrap_or(&address);
        // Outlook writes 'ann@example.com'.
        let address = address.strip_prefix(b"'").and_then(|a| a.strip_suffix(b"'")).unwrap_or(address);
        let written = std::str::from_utf8(without_route(address)).ok()?;
        // The comment after an address is where the name stood before RFC 822 (RFC 5322 §3.4 note).
        let name = Some(display(&name)).filter(|name| !name.is_empty()).unwrap_or_else(|| display(&self.comment));
        let address = Address::parse_in(alphabet, written);
        // The address once more is no name.
        let canonical = address.as_ref().map_or(written, Address::as_str);
        let is_address = [written, canonical].iter().any(|text| name.eq_ignore_ascii_case(text));
        let name = Some(name).filter(|name| !name.is_empty() && !is_address);
        match address {
            Ok(address) => Some(Ok(Mailbox { name, address })),
            Err(_) if Address::parse(&format!("{written}@localhost")).is_ok() => Some(Err((name, written.to_owned()))),
            Err(_) => None,
        }
    }
}

/// Words without blanks between them, or with those that RFC 5322 §4.4 allows inside of an address.
struct Run<'a> {
    words: Vec<&'a Word>,
    /// Whether one of them has an @ outside of quotes.
    is_address: bool,
}

impl Run<'_> {
    /// Whether `word` goes on with this run although a blank stands before it.
    fn goes_on_with(&self, word: &Word) -> bool {
        let open = self.words.last().is_some_and(|last| matches!(last.written.last(), Some(b'.' | b'@')));
        match word.written.first() {
            Some(b'@') => true,
            Some(b'.') => self.is_address,
            _ => open && self.is_address,
        }
    }
}

/// Name and address of an entry without angle brackets: the one word with an @ is the address, the others are the name.
/// A lone word without one is a local part (`root (Cron Daemon)`).
fn unbracketed(words: &[Word]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut runs: Vec<Run> = Vec::new();
    for word in words {
        let is_address = word.written.first() != Some(&b'"') && word.written.contains(&b'@');
        match runs.last_mut().filter(|run| !word.apart || run.goes_on_with(word)) {
            Some(run) => {
                run.words.push(word);
                run.is_address |= is_address;
            }
            None => runs.push(Run { words: vec![word], is_address }),
        }
    }
    let (addresses, names): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.is_address);
    let [address] = addresses.as_slice() else {
        let lone = words.first().filter(|word| words.len() == 1 && word.written.first() != Some(&b'"'))?;
        return Some((Vec::new(), lone.written.clone()));
    };
    let written = address.words.iter().flat_map(|word| word.written.iter().copied()).collect();
    let mut name = Vec::new();
    for word in names.into_iter().flat_map(|run| run.words) {
        append(&mut name, word);
    }
    Some((name, written))
}

fn join(words: &[Word]) -> Vec<u8> {
    let mut text = Vec::new();
    for word in words {
        append(&mut text, word);
    }
    text
}

fn append(text: &mut Vec<u8>, word: &Word) {
    if word.apart && !text.is_empty() {
        text.push(b' ');
    }
    text.extend_from_slice(&word.text);
}

fn display(text: &[u8]) -> String {
    words::unstructured(text)
}

/// `@a,@b:user@host`: the route means nothing any more (RFC 5321 §4.1.1.3, appendix C).
fn without_route(address: &[u8]) -> &[u8] {
    match address.first() {
        Some(b'@') => {
            address.iter().position(|b| *b == b':').and_then(|colon| address.get(colon + 1..)).unwrap_or(address)
        }
        _ => address,
    }
}
