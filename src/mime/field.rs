//! Header fields (RFC 5322 §2.2) as offsets, read the way real mail is written.

use std::ops::Range;

use super::parameter::is_token;

/// How many lines that are no fields a header may have in a row.
const LOOK_AHEAD: usize = 16;
/// Fields by which a line is recognised as part of a header and not as text like `Note: …`.
const USUAL: &[&str] = &[
    "received",
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "reply-to",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "x-mailer",
];

/// One header field: where its name and its still folded value are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name, without the colon.
    pub name: Range<usize>,
    /// The value, folded as it was, without the last line end.
    pub value: Range<usize>,
}

/// The fields of the header that starts at an offset. Once it is through, [`Fields::body`] is where the body starts.
#[derive(Debug)]
pub struct Fields<'a, D> {
    raw: &'a [u8],
    at: usize,
    seen: bool,
    ended: Option<Range<usize>>,
    is_delimiter: D,
}

impl<'a, D: Fn(&[u8]) -> bool> Fields<'a, D> {
    /// Reads from `at`; a line that `is_delimiter` ends the header, as a blank line does.
    pub fn new(raw: &'a [u8], at: usize, is_delimiter: D) -> Self {
        Self { raw, at, seen: false, ended: None, is_delimiter }
    }

    /// The end of the header, before its blank line; known once all fields were read.
    pub fn end(&self) -> usize {
        self.ended.as_ref().map_or(self.at, |ended| ended.start)
    }

    /// Where the body starts; known once all fields were read.
    pub fn body(&self) -> usize {
        self.ended.as_ref().map_or(self.at, |ended| ended.end)
    }

    fn line(&self, at: usize) -> &'a [u8] {
        self.raw.get(at..line_after(self.raw, at)).unwrap_or_default()
    }

    /// The end of the field whose first line ends at `at`: its continuation lines start with white space. One of white
    /// space alone continues, too (RFC 5322 §4.2).
    fn skip_continuations(&self, mut at: usize) -> usize {
        while self.raw.get(at).is_some_and(|b| is_wsp(*b)) {
            at = line_after(self.raw, at);
        }
        at
    }

    /// The end of the field that starts at `start` and whose first line ends at `at`. Parameters after a semicolon go on
    /// with it although the blank before them is missing: some software loses it when it folds.
    fn field_end(&self, start: usize, at: usize) -> usize {
        let mut at = self.skip_continuations(at);
        while self.raw.get(start..at).is_some_and(|field| field.trim_ascii_end().ends_with(b";"))
            && is_parameter(self.line(at))
        {
            at = self.skip_continuations(line_after(self.raw, at));
        }
        at
    }

    /// Whether the header goes on after the line `at` that is no field: a field that every header has follows soon, or
    /// the line is like a field but for its name and only fields follow. Else the blank line was forgotten and the text
    /// of the body has begun; sendmail and Postfix read it so, too.
    fn is_junk(&self, mut at: usize) -> bool {
        let first = self.line(at);
        let like_field = is_like_field(first);
        // Before any field: a continuation whose first line was lost. Other text there is a mail without a header.
        let begun = self.seen || first.first().is_some_and(|b| is_wsp(*b));
        let mut only_fields = false;
        for n in 0..LOOK_AHEAD {
            at = line_after(self.raw, at);
            let line = self.line(at);
            if !begun || (self.is_delimiter)(line) {
                return false;
            }
            if line.trim_ascii().is_empty() {
                return like_field && only_fields;
            }
            let name = field_name(line).and_then(|(name, _)| line.get(name)).unwrap_or_default();
            if USUAL.iter().any(|usual| name.eq_ignore_ascii_case(usual.as_bytes())) {
                return true;
            }
            only_fields = !name.is_empty() && (only_fields || n == 0);
        }
        false
    }
}

impl<D: Fn(&[u8]) -> bool> Iterator for Fields<'_, D> {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        while self.ended.is_none() {
            let (start, line) = (self.at, self.line(self.at));
            let after = start + line.len();
            if matches!(line, b"" | b"\n" | b"\r\n") {
                self.ended = Some(start..after);
            } else if (self.is_delimiter)(line) {
                self.ended = Some(start..start);
            } else if let Some((name, colon)) = field_name(line) {
                self.seen = true;
                self.at = self.field_end(start, after);
                let end = start + self.raw.get(start..self.at).unwrap_or_default().trim_ascii_end().len();
                let value = start + colon + 1;
                return Some(Field { name: start + name.start..start + name.end, value: value..end.max(value) });
            } else if self.is_junk(start) {
                self.at = self.skip_continuations(after);
            } else {
                self.ended = Some(start..start);
            }
        }
        None
    }
}

/// Where the header of a mail starts: after the byte order mark, the blank lines and the mbox line that some software
/// leaves in front of it.
pub fn mail_start(raw: &[u8]) -> usize {
    let mut at = if raw.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    loop {
        let after = line_after(raw, at);
        let line = raw.get(at..after).unwrap_or_default();
        let mbox = line.starts_with(b"From ") || line.starts_with(b">From ");
        if after == at || !(line.trim_ascii().is_empty() || mbox && field_name(line).is_none()) {
            break;
        }
        at = after;
    }
    // Blank lines and no header after them: all of it is the body.
    if at < raw.len() && field_name(raw.get(at..line_after(raw, at)).unwrap_or_default()).is_some() { at } else { 0 }
}

/// The offset after the line that starts at `at`.
pub fn line_after(raw: &[u8], at: usize) -> usize {
    raw.get(at..).and_then(|rest| memchr::memchr(b'\n', rest)).map_or(raw.len(), |end| at + end + 1)
}

/// Where in `line` the field name is and the colon after it. White space before the colon is RFC 5322 §4.5; white space
/// before the name can only be a mistake, as continuation lines do not get here.
fn field_name(line: &[u8]) -> Option<(Range<usize>, usize)> {
    let start = line.iter().take_while(|b| is_wsp(**b)).count();
    let len = line.iter().skip(start).take_while(|b| b.is_ascii_graphic() && **b != b':').count();
    let end = start + len;
    let colon = end + line.iter().skip(end).take_while(|b| is_wsp(**b)).count();
    (len > 0 && line.get(colon) == Some(&b':')).then_some((start..end, colon))
}

/// Whether `line` is `name: …` with a name that has characters beyond ASCII: not allowed, but meant as a field.
fn is_like_field(line: &[u8]) -> bool {
    let len = line.iter().take_while(|b| !b.is_ascii_whitespace() && **b != b':').count();
    line.get(len) == Some(&b':') && !line.get(..len).unwrap_or_default().is_ascii()
}

/// Whether `line` starts as a parameter does: `boundary=`.
fn is_parameter(line: &[u8]) -> bool {
    let len = line.iter().take_while(|b| is_token(**b)).count();
    len > 0 && line.get(len) == Some(&b'=')
}

fn is_wsp(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}
