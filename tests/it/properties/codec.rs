//! The codec: the cut of the stream never matters, and what ends a line or a message is what a slow reader of the RFC
//! says.

use bytes::Bytes;
use sidepost::smtp::codec::{ChunkDecoder, DataDecoder, Decode, Flaw, Line, LineReader, MAX_AUTH_LINE, MAX_LINE, Scan};

use super::{reply, steered};

/// Reads the input as lines, as responses, as a message, as chunks and as a reply's text. Of the first octets three say
/// how long the pieces are, one how much is kept.
pub fn holds(input: &[u8]) {
    let ([a, b, c, limit], input) = steered(input);
    // Large inputs are not cut small: what is not a line yet is looked at again with each piece.
    let grain = 1 + input.len() / 512;
    let lengths = [a, b, c].map(|n| (usize::from(n) + 1) * grain);
    let limit = if limit == u8::MAX { usize::MAX } else { usize::from(limit) * 4 };
    lines_hold(input, &lengths, LineReader::scan, |line| {
        if line.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH ")) { MAX_AUTH_LINE } else { MAX_LINE }
    });
    lines_hold(input, &lengths, LineReader::scan_response, |_| MAX_AUTH_LINE);
    data_holds(input, &lengths, limit);
    chunks_hold(input, &lengths, &[lengths[0], 1, 7], limit);
    reply::holds(&String::from_utf8_lossy(input), limit.min(600));
}

// === Lines ===

/// A line as a test sees it.
#[derive(Debug, PartialEq)]
pub enum Seen {
    Command(Vec<u8>),
    Garble,
    TooLong,
}

pub type Scanner = fn(&mut LineReader, &[u8]) -> Scan;

/// Feeds the pieces one after the other, as a connection would; returns the lines, and the most octets ever held.
pub fn lines(pieces: &[&[u8]], scan: Scanner) -> (Vec<Seen>, usize) {
    let (mut reader, mut held, mut most, mut seen) = (LineReader::default(), Vec::new(), 0, Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let mut used = 0;
        loop {
            let input = &held[used..];
            let scan = scan(&mut reader, input);
            if let Some(line) = scan.line {
                seen.push(match line {
                    Line::Command { len } => Seen::Command(input[..len].to_vec()),
                    Line::Garble => Seen::Garble,
                    Line::TooLong => Seen::TooLong,
                });
            }
            used += scan.used;
            if scan.line.is_none() && scan.used == 0 {
                break;
            }
        }
        held.drain(..used);
        most = most.max(held.len());
    }
    (seen, most)
}

/// Lines do not depend on the cut, hold no CR or LF, are no longer than they may be, and each CRLF ends at most one.
fn lines_hold(input: &[u8], lengths: &[usize], scan: Scanner, longest: fn(&[u8]) -> usize) {
    let (seen, most) = lines(&cut(input, lengths), scan);
    assert_eq!(seen, lines(&[input], scan).0);
    assert!(most <= MAX_AUTH_LINE + 1, "{most} octets held");
    for line in &seen {
        let Seen::Command(line) = line else { continue };
        assert!(line.len() <= longest(line));
        assert!(!line.contains(&b'\r') && !line.contains(&b'\n'));
    }
    let ends = input.windows(2).filter(|w| w == b"\r\n").count();
    assert!(seen.len() <= ends + 1, "more lines than line ends, and one that is wrong already");
}

// === Data ===

/// What became of a message, and the octets behind it.
pub type Message = (Result<Bytes, Flaw>, Vec<u8>);

/// Decodes the pieces; the octets that follow the dot come back.
pub fn decode(pieces: &[&[u8]], limit: usize) -> Option<Message> {
    let mut decoder = DataDecoder::new(limit);
    for (i, piece) in pieces.iter().enumerate() {
        let end = decoder.decode(piece);
        assert!(decoder.held() <= limit);
        assert!(!decoder.is_flawed() || decoder.held() == 0, "what is refused is not held");
        if let Some(end) = end {
            let rest = [&piece[end..], &pieces[i + 1..].concat()].concat();
            return Some((decoder.finish(), rest));
        }
    }
    None
}

/// One octet at a time, as the RFC words it. Of several flaws the line ends speak.
pub fn reference(input: &[u8]) -> Option<Message> {
    let mut start = 0;
    let mut content = Vec::new();
    let mut flawed = false;
    loop {
        let end = start + input[start..].windows(2).position(|w| w == b"\r\n")? + 2;
        let line = &input[start..end];
        if line == b".\r\n" {
            let content = if flawed { Err(Flaw::LineEnds) } else { Ok(Bytes::from(content)) };
            return Some((content, input[end..].to_vec()));
        }
        // A CR too many before the line end is left out, but not behind a dot that is alone.
        let crs = line.iter().rev().skip(1).take_while(|octet| **octet == b'\r').count();
        let text = &line[..line.len() - 1 - crs];
        flawed |= text.contains(&b'\r') || text.contains(&b'\n') || (text == b"." && crs > 1);
        content.extend_from_slice(text.strip_prefix(b".").unwrap_or(text));
        content.extend_from_slice(b"\r\n");
        start = end;
    }
}

/// Whether a CR or a LF stands alone.
pub fn has_lonely(octets: &[u8]) -> bool {
    let pairs = octets.windows(2).filter(|w| w == b"\r\n").count();
    [b'\r', b'\n'].iter().any(|octet| memchr::memchr_iter(*octet, octets).count() != pairs)
}

/// Dot-stuffs, and adds the dot.
pub fn stuff(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::new();
    for line in content.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

fn data_holds(input: &[u8], lengths: &[usize], limit: usize) {
    let whole = decode(&[input], usize::MAX);
    assert_eq!(whole, reference(input));
    let bounded = decode(&cut(input, lengths), limit);
    assert_eq!(bounded, decode(&[input], limit));
    let Some((content, rest)) = whole else { return assert_eq!(bounded, None) };
    let expected = content.clone().and_then(|c| if c.len() > limit { Err(Flaw::TooLarge) } else { Ok(c) });
    assert_eq!(bounded, Some((expected, rest)));
    if let Ok(content) = content {
        assert!(!has_lonely(&content));
        assert_eq!(decode(&[&stuff(&content)], usize::MAX), Some((Ok(content), Vec::new())));
    }
}

// === Chunks ===

/// Gives each chunk in pieces with the next command behind it: nothing of that is taken.
pub fn chunked(chunks: &[&[u8]], lengths: &[usize], limit: usize) -> Result<Bytes, Flaw> {
    let mut decoder = ChunkDecoder::new(limit);
    for (i, chunk) in chunks.iter().enumerate() {
        decoder = decoder.expect(chunk.len() as u64, i + 1 == chunks.len());
        let sent = [chunk, &b"BDAT"[..]].concat();
        let mut given = 0;
        // An empty chunk has ended before anything came.
        let mut end = decoder.decode(b"");
        for piece in cut(&sent, lengths) {
            if end.is_some() {
                break;
            }
            end = decoder.decode(piece).map(|end| given + end);
            given += piece.len();
        }
        assert_eq!(end, Some(chunk.len()), "a chunk ends where it was said to end");
        assert!(decoder.held() <= limit);
        assert!(!decoder.is_flawed() || decoder.held() == 0);
        decoder = decoder.checked()?;
    }
    decoder.finish()
}

/// The cut into chunks and pieces does not change the message, nor does which of its flaws is found first let it pass.
pub fn chunks_hold(content: &[u8], chunks: &[usize], lengths: &[usize], limit: usize) {
    let is_lonely = has_lonely(content);
    let good = content.len() <= limit && !is_lonely;
    let flaw = if is_lonely { Flaw::LineEnds } else { Flaw::TooLarge };
    let expected = if good { Ok(Bytes::copy_from_slice(content)) } else { Err(flaw) };
    assert_eq!(chunked(&[content], &[usize::MAX], limit), expected);
    let mut chunks = cut(content, chunks);
    chunks.push(b"");
    let many = chunked(&chunks, lengths, limit);
    // Which flaw speaks may depend on which chunk it was found in.
    assert_eq!(many.ok(), expected.ok());
}

/// Cuts into pieces of these lengths, round and round.
pub fn cut<'a>(mut input: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if input.is_empty() {
            break;
        }
        let (piece, rest) = input.split_at((*length).min(input.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces
}
