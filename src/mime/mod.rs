//! Splits a mail into its parts (RFC 2046): offsets only, nothing is decoded or copied, and every input costs linear time.
//!
//! Delimiters count as whole lines only; a delimiter of an outer multipart ends the inner ones; the end of the mail ends
//! everything; `message/rfc822` stays closed. What software really sends is read as its author meant it: blank lines or
//! an mbox line before the header, a missing blank line after it, a header without body.

pub mod field;
pub mod parameter;

use std::collections::HashMap;
use std::ops::Range;

use memchr::memmem::Finder;

use field::{Fields, line_after};

/// How far after a header delimiters are looked for when its boundary ends with a blank, in octets.
const NEAR: usize = 64 * 1024;

/// How much structure a mail may have. Beyond it the mail is refused: no person writes such a thing.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Multiparts inside each other.
    pub depth: usize,
    /// Parts altogether, without the mail itself.
    pub parts: usize,
    /// Octets of one header.
    pub header_bytes: usize,
    /// Fields of one header.
    pub header_fields: usize,
    /// Octets of a boundary; RFC 2046 §5.1.1 allows 70.
    pub boundary: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 128, parts: 1000, header_bytes: 256 * 1024, header_fields: 1000, boundary: 256 }
    }
}

/// Which limit a mail exceeds. Displays as the sentence for the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// [`Limits::depth`].
    #[error("the message has multiparts nested more than {0} deep")]
    Depth(usize),
    /// [`Limits::parts`].
    #[error("the message has more than {0} parts")]
    Parts(usize),
    /// [`Limits::header_bytes`].
    #[error("a header of the message is larger than {0} bytes")]
    HeaderBytes(usize),
    /// [`Limits::header_fields`].
    #[error("a header of the message has more than {0} fields")]
    HeaderFields(usize),
    /// [`Limits::boundary`].
    #[error("a multipart boundary of the message is longer than {0} bytes")]
    Boundary(usize),
}

/// One part of a mail, as offsets into it.
#[derive(Debug, Clone)]
pub struct Part {
    /// The index after its last descendant: its children are the parts from its own index + 1 up to here, each followed
    /// by its own descendants.
    pub end: usize,
    /// The header, without the blank line.
    pub header: Range<usize>,
    /// The body, without the line end before the delimiter.
    pub body: Range<usize>,
    /// Media type in lower case, `type/subtype`; the default of RFC 2045 §5.2 or RFC 2046 §5.1.5 where the part has none
    /// that can be read.
    pub media: String,
    /// The first Content-Type.
    pub content_type: Option<Range<usize>>,
    /// The first Content-Disposition.
    pub disposition: Option<Range<usize>>,
    /// The first Content-Transfer-Encoding.
    pub encoding: Option<Range<usize>>,
    /// The first Content-ID.
    pub id: Option<Range<usize>>,
}

impl Part {
    /// Whether it is a multipart.
    pub fn is_multipart(&self) -> bool {
        self.media.starts_with("multipart/")
    }

    /// The text of one of its fields in `raw`; empty for none.
    pub fn value<'a>(raw: &'a [u8], field: Option<&Range<usize>>) -> &'a [u8] {
        field.and_then(|range| raw.get(range.clone())).unwrap_or_default()
    }
}

/// The parts of a mail in document order, the mail itself first.
///
/// # Errors
/// [`Excess`] if the mail has more structure than `limits` allow.
pub fn split(raw: &[u8], limits: &Limits) -> Result<Vec<Part>, Excess> {
    let mut splitter =
        Splitter { raw, limits, parts: Vec::new(), open: Vec::new(), levels: HashMap::new(), leaf: None };
    let mut at = splitter.begin(field::mail_start(raw), "text/plain")?;
    let delimiter = Finder::new(b"\n--");
    while !splitter.open.is_empty() {
        // `at` is the start of a line; its line end may be the one of the delimiter.
        let from = at.saturating_sub(1);
        let Some(found) = raw.get(from..).and_then(|rest| delimiter.find(rest)) else { break };
        let line = from + found + 1;
        at = line_after(raw, line);
        if let Some((level, closes)) = splitter.delimiter(raw.get(line..at).unwrap_or_default()) {
            splitter.close_inner(level + 1, line);
            if closes {
                splitter.close_inner(level, line);
            } else {
                let default = splitter.default_media(level);
                at = splitter.begin(at, default)?;
            }
        }
    }
    splitter.close_inner(0, raw.len() + 1);
    Ok(splitter.parts)
}

struct Splitter<'a> {
    raw: &'a [u8],
    limits: &'a Limits,
    parts: Vec<Part>,
    /// The multiparts that are open, outermost first, with their boundaries.
    open: Vec<(usize, Vec<u8>)>,
    /// Boundary -> where in `open`; a boundary used twice means the inner multipart.
    levels: HashMap<Vec<u8>, Vec<usize>>,
    /// The leaf whose body is being read.
    leaf: Option<usize>,
}

impl Splitter<'_> {
    /// Reads the header at `at`, adds the part and returns where its body starts.
    fn begin(&mut self, at: usize, default_media: &str) -> Result<usize, Excess> {
        if self.parts.len() > self.limits.parts {
            return Err(Excess::Parts(self.limits.parts));
        }
        let (part, body) = self.header(at, default_media)?;
        let index = self.parts.len();
        self.leaf = Some(index);
        if part.is_multipart() {
            let boundary = self.boundary(Part::value(self.raw, part.content_type.as_ref()), body);
            if let Some(boundary) = boundary.filter(|boundary| !boundary.is_empty()) {
                self.enter(index, boundary)?;
            }
        }
        self.parts.push(part);
        Ok(body)
    }

    /// The boundary that a Content-Type names. None may end with a blank (RFC 2046 §5.1.1), and what adds one on the way
    /// adds it to a parameter or to a line only: it counts where the delimiters soon after `body` have it, too.
    fn boundary(&self, content_type: &[u8], body: usize) -> Option<Vec<u8>> {
        let boundary = parameter::find(content_type, "boundary")?;
        if boundary.octets.ends_with(b" ") && boundary.octets.len() <= self.limits.boundary {
            let near = self.raw.get(body..self.raw.len().min(body + NEAR)).unwrap_or_default();
            let delimiter = [b"\n--", boundary.octets.as_slice()].concat();
            if memchr::memmem::find(near, &delimiter).is_some() {
                return Some(boundary.octets);
            }
        }
        Some(boundary.first_token_or_quoted())
    }

    /// The part whose header is at `at`, still without the end of its body, and where that starts.
    fn header(&self, at: usize, default_media: &str) -> Result<(Part, usize), Excess> {
        let mut fields = Fields::new(self.raw, at, |line: &[u8]| self.delimiter(line).is_some());
        let (mut count, mut content_type, mut disposition, mut encoding, mut id) = (0, None, None, None, None);
        for field in fields.by_ref() {
            count += 1;
            if count > self.limits.header_fields {
                return Err(Excess::HeaderFields(self.limits.header_fields));
            }
            if field.value.end - at > self.limits.header_bytes {
                return Err(Excess::HeaderBytes(self.limits.header_bytes));
            }
            let name = self.raw.get(field.name).unwrap_or_default();
            // The first of several is what the author's software wrote; later ones were added on the way.
            let slot = match name.len() {
                12 if name.eq_ignore_ascii_case(b"content-type") => &mut content_type,
                19 if name.eq_ignore_ascii_case(b"content-disposition") => &mut disposition,
                25 if name.eq_ignore_ascii_case(b"content-transfer-encoding") => &mut encoding,
                10 if name.eq_ignore_ascii_case(b"content-id") => &mut id,
                _ => continue,
            };
            slot.get_or_insert(field.value);
        }
        let (header_end, body) = (fields.end(), fields.body());
        let media = content_type.as_ref().map_or_else(
            || default_media.to_owned(),
            |range| {
                parameter::media_type(Part::value(self.raw, Some(range))).unwrap_or_else(|| "text/plain".to_owned())
            },
        );
        let part =
            Part { end: 0, header: at..header_end, body: body..body, media, content_type, disposition, encoding, id };
        Ok((part, body))
    }

    fn enter(&mut self, index: usize, boundary: Vec<u8>) -> Result<(), Excess> {
        if self.open.len() >= self.limits.depth {
            return Err(Excess::Depth(self.limits.depth));
        }
        if boundary.len() > self.limits.boundary {
            return Err(Excess::Boundary(self.limits.boundary));
        }
        self.levels.entry(boundary.clone()).or_default().push(self.open.len());
        self.open.push((index, boundary));
        self.leaf = None;
        Ok(())
    }

    /// If `line` is a delimiter of an open multipart: which one, and whether it is the closing one.
    fn delimiter(&self, line: &[u8]) -> Option<(usize, bool)> {
        let line = line.strip_prefix(b"--")?;
        let trimmed = line.trim_ascii_end();
        if self.open.is_empty() || trimmed.len() > self.limits.boundary + 2 {
            return None;
        }
        let level = |boundary: &[u8]| self.levels.get(boundary).and_then(|levels| levels.last().copied());
        let whole = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        match level(trimmed).or_else(|| level(whole)) {
            Some(found) => Some((found, false)),
            None => trimmed.strip_suffix(b"--").and_then(level).map(|found| (found, true)),
        }
    }

    /// Ends the leaf and every multipart from `level` inwards; the line at `line` is not theirs.
    fn close_inner(&mut self, level: usize, line: usize) {
        let end = self.before_line(line);
        self.close_leaf(end);
        while self.open.len() > level {
            let Some((index, boundary)) = self.open.pop() else { break };
            if let Some(levels) = self.levels.get_mut(&boundary) {
                levels.pop();
            }
            self.close(index, end);
        }
    }

    fn close_leaf(&mut self, end: usize) {
        if let Some(index) = self.leaf.take() {
            self.close(index, end);
        }
    }

    fn close(&mut self, index: usize, end: usize) {
        let after = self.parts.len();
        if let Some(part) = self.parts.get_mut(index) {
            part.body.end = end.max(part.body.start);
            part.end = after;
        }
    }

    /// The end of the content before `line`: the line end before a delimiter belongs to it (RFC 2046 §5.1.1).
    fn before_line(&self, line: usize) -> usize {
        match self.raw.get(..line) {
            Some([.., b'\r', b'\n']) => line - 2,
            Some([.., b'\n']) => line - 1,
            _ => line.min(self.raw.len()),
        }
    }

    /// What a part without Content-Type is: RFC 2046 §5.1.5 for digests.
    fn default_media(&self, level: usize) -> &'static str {
        let parent = self.open.get(level).and_then(|(index, _)| self.parts.get(*index));
        if parent.is_some_and(|part| part.media == "multipart/digest") { "message/rfc822" } else { "text/plain" }
    }
}
