//! SMTP replies: code, enhanced code and text, and their bytes on the wire.

use std::borrow::Cow;
use std::fmt;

/// Longest reply line in octets, CRLF included (RFC 5321 §4.5.3.1.5).
const MAX_LINE: usize = 512;

/// An enhanced status code `class.subject.detail` (RFC 3463). Its class always equals the first digit of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Enhanced(pub u8, pub u8, pub u8);

impl Enhanced {
    /// The enhanced code whose class is the first digit of `code`.
    #[allow(clippy::cast_possible_truncation)] // A reply code has three digits.
    pub const fn of(code: u16, subject: u8, detail: u8) -> Self {
        Self((code / 100) as u8, subject, detail)
    }
}

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// One reply to one command. Replies of class 2, 4 and 5 carry an enhanced code (RFC 2034 §4) but for the greeting and
/// the answers to EHLO and HELO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three-digit code.
    pub code: u16,
    /// The enhanced code, where the reply has one.
    pub enhanced: Option<Enhanced>,
    /// The text, one element a line; never empty.
    pub lines: Vec<Cow<'static, str>>,
}

impl Reply {
    /// A one-line reply with an enhanced code.
    pub fn new(code: u16, enhanced: Enhanced, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: Some(enhanced), lines: vec![text.into()] }
    }

    /// A one-line reply without an enhanced code: the greeting, EHLO, HELO, 354.
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: None, lines: vec![text.into()] }
    }

    /// A reply of several lines without an enhanced code: EHLO.
    pub fn multiline(code: u16, lines: Vec<Cow<'static, str>>) -> Self {
        Self { code, enhanced: None, lines }
    }

    /// The first digit: 2 done, 3 go on, 4 not now, 5 never.
    pub fn class(&self) -> u16 {
        self.code / 100
    }

    /// Whether it refuses for a reason of policy: X.7.Z (RFC 3463 §3.8), the sender's or recipient's among them.
    pub fn is_policy(&self) -> bool {
        self.code >= 400 && self.enhanced.is_some_and(|enhanced| enhanced.1 == 7)
    }

    /// Appends the bytes of the reply: every line within 512 octets, printable ASCII only, CRLF nowhere but at the end.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (i, line) in self.lines.iter().enumerate() {
            let start = out.len();
            out.extend_from_slice(self.code.to_string().as_bytes());
            out.push(if i == last { b' ' } else { b'-' });
            if let Some(enhanced) = self.enhanced {
                out.extend_from_slice(format!("{enhanced} ").as_bytes());
            }
            out.extend(line.bytes().map(|b| if b == b' ' || b.is_ascii_graphic() { b } else { b'?' }));
            out.truncate(start + MAX_LINE - 2);
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    /// As a person reads it: `550 5.7.1 text`, lines separated by ` / `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.lines.join(" / "))
    }
}

/// What of foreign text moves a terminal's cursor, or turns the order of what is read: control characters, and those that
/// set a direction (UAX #9).
pub fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Makes foreign text fit for a reply or a log line: one line, printable ASCII, white space runs folded, at most `max`
/// octets. Upstream answers and header values go through here before anybody sees them (SECURITY: response confusion).
pub fn printable(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }));
        if out.len() >= max {
            break;
        }
    }
    out.truncate(max);
    out
}
