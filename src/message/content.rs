//! The octets of an attachment, from the transfer encoding of the mail to the base64 of a JSON payload.

use std::borrow::Cow;
use std::sync::OnceLock;

use bytes::Bytes;
use encodify::{base64, qp};

/// Most octets that one chunk of base64 has: a multiple of 4.
const CHUNK: usize = 64 * 1024;
/// The octets that make such a chunk.
const PLAIN: usize = CHUNK / 4 * 3;

/// The octets of an attachment, still in the transfer encoding they came in; a slice of the mail, never a copy.
#[derive(Debug, Clone)]
pub struct Content {
    /// The encoded octets.
    pub encoded: Bytes,
    /// How they are encoded.
    pub encoding: TransferEncoding,
    measure: OnceLock<Measure>,
}

/// Content-Transfer-Encoding (RFC 2045 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferEncoding {
    /// 7bit, 8bit, binary, or unknown.
    Identity,
    /// base64.
    Base64,
    /// quoted-printable.
    QuotedPrintable,
}

/// What one look at all the octets tells.
#[derive(Debug, Clone, Copy)]
struct Measure {
    /// The length as canonical base64.
    base64_len: usize,
    /// Whether the octets are canonical base64 but for their line ends.
    canonical: bool,
}

impl Content {
    /// Octets in a transfer encoding.
    pub fn new(encoded: Bytes, encoding: TransferEncoding) -> Self {
        Self { encoded, encoding, measure: OnceLock::new() }
    }

    /// The exact length of what [`Content::base64_chunks`] yields.
    pub fn base64_len(&self) -> usize {
        self.measure().base64_len
    }

    /// Canonical base64 without line ends in chunks of at most 64 KiB. Base64 that is one already is not decoded.
    pub fn base64_chunks(&self) -> Base64Chunks {
        let source = self.source();
        let rest = match source {
            Source::Symbols => self.encoded.slice(..self.encoded.trim_ascii_end().len()),
            _ => self.encoded.clone(),
        };
        Base64Chunks { source, rest, plain: Vec::new() }
    }

    /// The octets as they were before the transfer encoding, as far as they can be read: missing padding and foreign
    /// characters do no harm.
    pub fn decode(&self) -> Vec<u8> {
        self.octets().into_owned()
    }

    /// [`Content::decode`] without a copy where there was no encoding.
    pub(super) fn octets(&self) -> Cow<'_, [u8]> {
        match self.encoding {
            TransferEncoding::Identity => Cow::Borrowed(&self.encoded),
            TransferEncoding::QuotedPrintable => {
                qp::BODY.decode(&*self.encoded).unwrap_or(Cow::Borrowed(&*self.encoded))
            }
            TransferEncoding::Base64 if self.measure().canonical => {
                Cow::Owned(base64::LENIENT.decode(&self.encoded).unwrap_or_default())
            }
            TransferEncoding::Base64 => {
                let mut plain = Vec::with_capacity(base64::STANDARD.decoded_len_estimate(self.encoded.len()));
                let (mut source, mut rest) = (Source::lenient(), self.encoded.clone());
                while source.pull(&mut rest, &mut plain) {}
                Cow::Owned(plain)
            }
        }
    }

    fn source(&self) -> Source {
        match self.encoding {
            TransferEncoding::Identity => Source::Octets,
            TransferEncoding::QuotedPrintable => Source::Lines,
            TransferEncoding::Base64 if self.measure().canonical => Source::Symbols,
            TransferEncoding::Base64 => Source::lenient(),
        }
    }

    fn measure(&self) -> Measure {
        *self.measure.get_or_init(|| match (self.encoding, canonical_len(&self.encoded)) {
            (TransferEncoding::Identity, _) => {
                Measure { base64_len: base64::STANDARD.encoded_len(self.encoded.len()), canonical: false }
            }
            (TransferEncoding::Base64, Some(base64_len)) => Measure { base64_len, canonical: true },
            _ => Measure { base64_len: base64::STANDARD.encoded_len(self.decoded_len()), canonical: false },
        })
    }

    fn decoded_len(&self) -> usize {
        let mut source = match self.encoding {
            TransferEncoding::Base64 => Source::lenient(),
            _ => Source::Lines,
        };
        let (mut rest, mut plain, mut len) = (self.encoded.clone(), Vec::new(), 0);
        while source.pull(&mut rest, &mut plain) {
            len += plain.len();
            plain.clear();
        }
        len + plain.len()
    }
}

/// Canonical base64, chunk by chunk.
#[derive(Debug)]
pub struct Base64Chunks {
    source: Source,
    rest: Bytes,
    /// Decoded octets that wait for a full chunk.
    plain: Vec<u8>,
}

impl Iterator for Base64Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        match self.source {
            Source::Symbols => strip_line_ends(&mut self.rest),
            Source::Octets => {
                let chunk = self.rest.split_to(PLAIN.min(self.rest.len()));
                (!chunk.is_empty()).then(|| base64::STANDARD.encode(&chunk).into())
            }
            Source::Lines | Source::Lenient(..) => {
                while self.plain.len() < PLAIN && self.source.pull(&mut self.rest, &mut self.plain) {}
                let chunk = self.plain.get(..PLAIN.min(self.plain.len())).filter(|chunk| !chunk.is_empty())?;
                let encoded = base64::STANDARD.encode(chunk);
                self.plain.drain(..chunk.len());
                Some(encoded.into())
            }
        }
    }
}

/// How to get from the encoded octets to base64.
#[derive(Debug)]
enum Source {
    /// Canonical base64 but for line ends.
    Symbols,
    /// Plain octets.
    Octets,
    /// Quoted-printable.
    Lines,
    /// Base64 with faults; and whether padding was found not to be the end of it.
    Lenient(base64::Decoder, bool),
}

impl Source {
    fn lenient() -> Self {
        Self::Lenient(base64::STANDARD.decoder(), false)
    }

    /// Decodes the next piece of `rest` into `plain`; false at the end.
    fn pull(&mut self, rest: &mut Bytes, plain: &mut Vec<u8>) -> bool {
        if rest.is_empty() {
            return false;
        }
        match self {
            Self::Symbols | Self::Octets => plain.extend_from_slice(&rest.split_off(0)),
            Self::Lines => {
                // Quoted-printable may be cut after any line end.
                let from = CHUNK.min(rest.len());
                let cut =
                    rest.get(from..).and_then(|tail| memchr::memchr(b'\n', tail)).map_or(rest.len(), |n| from + n + 1);
                // The lenient engine has no errors; if it had, the text as it is would be the best answer.
                let piece = rest.split_to(cut);
                if qp::BODY.decode_append(&*piece, plain).is_err() {
                    plain.extend_from_slice(&piece);
                }
            }
            Self::Lenient(decoder, goes_on) => decode_piece(decoder, goes_on, rest, plain),
        }
        true
    }
}

/// Decodes the next piece of base64, skipping what does not belong there (RFC 2045 §6.8).
fn decode_piece(decoder: &mut base64::Decoder, goes_on: &mut bool, rest: &mut Bytes, plain: &mut Vec<u8>) {
    let mut piece = rest.split_to(CHUNK.min(rest.len()));
    loop {
        let used = decoder.decode_symbols(&piece, plain);
        match piece.get(used) {
            // Padding ends the data. Only if nothing but base64 follows, the author's software padded every line.
            Some(b'=') if !decoder.is_aligned() => {
                decoder.pad(plain);
                let follows = |octets: &[u8]| octets.iter().all(|b| is_symbol(*b) || matches!(b, b'=' | b'\r' | b'\n'));
                *goes_on = *goes_on || follows(piece.get(used..).unwrap_or_default()) && follows(rest);
                if !*goes_on {
                    rest.clear();
                    break;
                }
            }
            Some(_) => {}
            None => {
                if rest.is_empty() {
                    decoder.pad(plain);
                }
                break;
            }
        }
        piece = piece.slice(used + 1..);
    }
}

/// The length of `encoded` without line ends, if the rest is canonical base64: nothing else in it, padded, the unused
/// bits of the last symbol zero.
fn canonical_len(encoded: &[u8]) -> Option<usize> {
    let symbols = encoded.trim_ascii_end();
    let unpadded = symbols.strip_suffix(b"==").or_else(|| symbols.strip_suffix(b"=")).unwrap_or(symbols);
    let mut len = symbols.len();
    for block in unpadded.chunks(4096) {
        // No branch and no early end inside a block: the compiler makes vector code of it.
        let (mut foreign, mut breaks) = (false, 0_u16);
        for b in block {
            let is_break = matches!(b, b'\r' | b'\n');
            foreign |= !(is_symbol(*b) | is_break);
            breaks += u16::from(is_break);
        }
        if foreign {
            return None;
        }
        len -= usize::from(breaks);
    }
    let last: Vec<u8> = symbols.iter().rev().filter(|b| !matches!(b, b'\r' | b'\n')).take(4).copied().collect();
    let last: Vec<u8> = last.into_iter().rev().collect();
    (len.is_multiple_of(4) && base64::STANDARD.decode(last).is_ok()).then_some(len)
}

/// The next chunk of `rest` without its line ends.
fn strip_line_ends(rest: &mut Bytes) -> Option<Bytes> {
    let mut out = Vec::with_capacity(CHUNK.min(rest.len()));
    let mut at = 0;
    while out.len() < CHUNK
        && let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty())
    {
        let line_end = memchr::memchr2(b'\r', b'\n', tail).unwrap_or(tail.len());
        let take = line_end.min(CHUNK - out.len());
        out.extend_from_slice(tail.get(..take).unwrap_or_default());
        at += take + usize::from(take == line_end && take < tail.len());
    }
    *rest = rest.slice(at..);
    (!out.is_empty()).then(|| out.into())
}

/// RFC 4648 §4.
#[allow(clippy::manual_is_ascii_check)] // Written so that it becomes vector code.
const fn is_symbol(b: u8) -> bool {
    (b | 0x20).wrapping_sub(b'a') < 26 || b.wrapping_sub(b'0') < 10 || b == b'+' || b == b'/'
}
