//! A request body in pieces: what was serialized, and what becomes JSON only while the request is sent.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;

use crate::message::{Attachment, Content};

/// A text up to this length is escaped at once, in octets. A longer one is escaped while it is sent, in pieces of about this
/// length: as JSON it can be six times as long.
const PIECE: usize = 32 * 1024;

/// A JSON text in pieces. It can be produced again for each attempt without keeping a copy of bodies and attachments.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    segments: Vec<Segment>,
}

/// A piece of a [`Payload`].
#[derive(Debug, Clone)]
enum Segment {
    Json(Bytes),
    /// The inside of a JSON string, and its length when it is escaped.
    Text(Arc<String>, usize),
    Base64(Content),
}

impl Payload {
    /// A payload that is serialized whole.
    pub fn json(text: Vec<u8>) -> Self {
        Self { segments: vec![Segment::Json(text.into())] }
    }

    /// Its length in octets, exactly.
    pub fn len(&self) -> usize {
        self.segments.iter().map(Segment::len).sum()
    }

    /// Whether it has no octet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The octets from the start, in chunks.
    pub fn chunks(&self) -> impl Iterator<Item = Bytes> + Send + Sync + 'static {
        self.segments.clone().into_iter().flat_map(Segment::chunks)
    }

    /// The octets in one piece, for printing and tests.
    pub fn to_vec(&self) -> Vec<u8> {
        self.chunks().fold(Vec::with_capacity(self.len()), |mut all, chunk| {
            all.extend_from_slice(&chunk);
            all
        })
    }
}

impl Segment {
    fn len(&self) -> usize {
        match self {
            Self::Json(text) => text.len(),
            Self::Text(_, escaped) => *escaped,
            Self::Base64(content) => content.base64_len(),
        }
    }

    fn chunks(self) -> Box<dyn Iterator<Item = Bytes> + Send + Sync> {
        match self {
            Self::Json(text) => Box::new(std::iter::once(text)),
            Self::Text(text, _) => Box::new(Escaped { text, at: 0 }),
            Self::Base64(content) => Box::new(content.base64_chunks()),
        }
    }
}

/// Builds a payload: a serialized object, and members behind those that it has.
#[derive(Debug)]
pub struct Pieces {
    segments: Vec<Segment>,
    json: Vec<u8>,
}

impl Pieces {
    /// Begins with an object that has a member at least.
    pub fn of(mut object: Vec<u8>) -> Self {
        object.pop();
        Self { segments: Vec::new(), json: object }
    }

    /// JSON as it is.
    pub fn raw(&mut self, json: &str) -> &mut Self {
        self.json.extend_from_slice(json.as_bytes());
        self
    }

    /// The inside of a string.
    pub fn text(&mut self, text: &Arc<String>) -> &mut Self {
        if text.len() <= PIECE {
            escape(text, &mut self.json);
            return self;
        }
        let mut counter = Counter(0);
        escape(text, &mut counter);
        self.segments.push(Segment::Json(std::mem::take(&mut self.json).into()));
        self.segments.push(Segment::Text(Arc::clone(text), counter.0));
        self
    }

    /// A member "attachments"; each is the JSON object that `describe` gives, with a member "content" of base64 added. The
    /// base64 is never serialized: a serializer would scan every octet of it for escapes.
    pub fn attachments(&mut self, attachments: &[Attachment], describe: impl Fn(&Attachment) -> Vec<u8>) -> &mut Self {
        for (i, attachment) in attachments.iter().enumerate() {
            self.raw(if i == 0 { ",\"attachments\":[" } else { "," });
            self.json.append(&mut describe(attachment));
            self.json.pop();
            self.raw(",\"content\":\"");
            self.segments.push(Segment::Json(std::mem::take(&mut self.json).into()));
            self.segments.push(Segment::Base64(attachment.content.clone()));
            self.raw("\"}");
        }
        if attachments.is_empty() { self } else { self.raw("]") }
    }

    /// Ends the object.
    pub fn end(mut self) -> Payload {
        self.raw("}");
        self.segments.push(Segment::Json(self.json.into()));
        Payload { segments: self.segments }
    }
}

/// A text's inside of a JSON string, piece by piece.
struct Escaped {
    text: Arc<String>,
    at: usize,
}

impl Iterator for Escaped {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let piece = rest.get(..rest.ceil_char_boundary(PIECE)).unwrap_or(rest);
        let mut json = Vec::with_capacity(piece.len() + piece.len() / 8);
        escape(piece, &mut json);
        self.at += piece.len();
        Some(json.into())
    }
}

/// Writes the inside of the JSON string that `text` becomes. Each character is escaped for itself, so that a text may be
/// escaped in pieces.
fn escape(text: &str, to: &mut impl Write) {
    // The writers here do not fail.
    let _ = serde_json::to_writer(Inside(to), text);
}

/// Leaves the quotes of a serialized string out: the serializer writes each of them alone.
struct Inside<'a, W>(&'a mut W);

impl<W: Write> Write for Inside<'_, W> {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        if octets != b"\"" {
            self.0.write_all(octets)?;
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Counts octets.
struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0 += octets.len();
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
