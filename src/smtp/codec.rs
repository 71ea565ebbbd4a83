//! Bytes to frames: command lines, and the message between DATA and its dot. Strict, bounded, without I/O.
//!
//! What two programs split differently one of them can be made to misread (SMTP smuggling). So CRLF alone ends a line,
//! CRLF.CRLF alone ends a message (RFC 5321 §2.3.8, §4.1.1.4), and whatever holds a lonely CR or LF is refused whole.

use bytes::Bytes;
use memchr::{memchr_iter, memchr2, memchr2_iter};

/// Longest command line that is looked at, in octets without its CRLF. RFC 5321 §4.5.3.1.4 asks for 512 with CRLF;
/// extensions add to it, and nothing honest comes near this.
pub const MAX_LINE: usize = 2048;

/// Longest line of an authentication, in octets without its CRLF (RFC 4954 §4.5 asks for 12288 with CRLF).
pub const MAX_AUTH_LINE: usize = 12_288;

const CR: u8 = b'\r';
const LF: u8 = b'\n';

// === Command lines ===

/// Splits what the client sends into command lines. Keeps no octets itself: the caller holds them until a line is
/// whole, which is never more than the longest line and its CRLF.
#[derive(Debug, Default)]
pub struct LineReader {
    /// The line was found wrong and said to be so; the rest of it goes, up to its CRLF.
    skipping: bool,
}

/// One line, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// A command: the first `len` octets of the input.
    Command {
        /// Its length without CRLF.
        len: usize,
    },
    /// A line with a lonely CR or LF in it. It is one line all the same and gets one reply: what stands after the
    /// lonely octet must never become a second command. It is told at once and not at its CRLF, which a client that
    /// ends its lines with LF never sends.
    Garble,
    /// Over [`MAX_LINE`], or [`MAX_AUTH_LINE`] where that is the limit.
    TooLong,
}

/// What [`LineReader::scan`] found. No line and nothing used: it needs more octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// The line, if there is one.
    pub line: Option<Line>,
    /// How many octets the caller drops (after looking at the line).
    pub used: usize,
}

impl LineReader {
    /// Looks for a line at the start of `input`: all octets received and not yet used. What begins like AUTH may be
    /// longer than other commands.
    pub fn scan(&mut self, input: &[u8]) -> Scan {
        let is_auth = input.get(..5).is_some_and(|head| head.eq_ignore_ascii_case(b"AUTH "));
        self.scan_within(input, if is_auth { MAX_AUTH_LINE } else { MAX_LINE })
    }

    /// The same for a response within an authentication, where every line may be long.
    pub fn scan_response(&mut self, input: &[u8]) -> Scan {
        self.scan_within(input, MAX_AUTH_LINE)
    }

    fn scan_within(&mut self, input: &[u8], limit: usize) -> Scan {
        if self.skipping {
            return self.skip(input);
        }
        let head = input.get(..=limit).unwrap_or(input);
        match memchr2(CR, LF, head) {
            Some(at) => match (input.get(at), input.get(at + 1)) {
                (Some(&CR), Some(&LF)) => Scan { line: Some(Line::Command { len: at }), used: at + 2 },
                (Some(&CR), None) => Scan { line: None, used: 0 },
                _ => self.wrong(Line::Garble, at + 1),
            },
            None if head.len() > limit => self.wrong(Line::TooLong, head.len()),
            None => Scan { line: None, used: 0 },
        }
    }

    fn wrong(&mut self, line: Line, used: usize) -> Scan {
        self.skipping = true;
        Scan { line: Some(line), used }
    }

    fn skip(&mut self, input: &[u8]) -> Scan {
        let end = find_crlf(input);
        self.skipping = end.is_none();
        let half_crlf = usize::from(input.last() == Some(&CR));
        Scan { line: None, used: end.map_or(input.len() - half_crlf, |end| end + 2) }
    }
}

/// Where the first CRLF stands.
fn find_crlf(input: &[u8]) -> Option<usize> {
    memchr_iter(LF, input).filter_map(|lf| lf.checked_sub(1)).find(|cr| input.get(*cr) == Some(&CR))
}

// === Message data ===

/// Why a message was not kept. The reader goes on to its end all the same, so that no line of it is ever taken for a
/// command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// There was no memory for it.
    NoRoom,
    /// Over the limit.
    TooLarge,
    /// A CR without LF, or a LF without CR.
    LineEnds,
}

/// What is kept of a message.
#[derive(Debug)]
pub struct Content {
    octets: Vec<u8>,
    limit: usize,
    flaw: Option<Flaw>,
}

impl Content {
    fn new(limit: usize) -> Self {
        Self { octets: Vec::new(), limit, flaw: None }
    }

    fn keep(&mut self, octets: &[u8]) {
        if self.flaw.is_none() && self.octets.len() + octets.len() <= self.limit {
            self.octets.extend_from_slice(octets);
        } else if !octets.is_empty() && self.flaw.is_none() {
            self.flawed(Flaw::TooLarge);
        }
    }

    /// Notes a flaw and drops the content, which nobody will read. Of several flaws the most lasting one speaks: there
    /// is no use in asking a client to try again later with what will be refused then.
    fn flawed(&mut self, flaw: Flaw) {
        self.flaw = self.flaw.max(Some(flaw));
        self.octets = Vec::new();
    }

    fn finish(self) -> Result<Bytes, Flaw> {
        match self.flaw {
            None => Ok(Bytes::from(self.octets)),
            Some(flaw) => Err(flaw),
        }
    }
}

/// Takes a message, or a part of it, off the stream.
pub trait Decode {
    /// Takes octets; says after how many of them it ended, or `None` if it took them all and goes on.
    fn decode(&mut self, input: &[u8]) -> Option<usize>;

    /// What is kept.
    fn content(&self) -> &Content;

    /// The same, to be changed.
    fn content_mut(&mut self) -> &mut Content;

    /// How many octets are held.
    fn held(&self) -> usize {
        self.content().octets.len()
    }

    /// Whether the message is known to be refused, so that nothing more of it is held.
    fn is_flawed(&self) -> bool {
        self.content().flaw.is_some()
    }

    /// Stops keeping content, because there is no memory for it; what is held goes at once.
    fn give_up(&mut self) {
        self.content_mut().flawed(Flaw::NoRoom);
    }
}

// === DATA ===

/// Where the decoder stands within CRLF.CRLF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the beginning of a line. The first line is one: RFC 5321 §4.1.1.4 counts DATA's own CRLF.
    Bol,
    /// After a dot at the beginning of a line.
    Dot,
    /// After such a dot and a CR.
    DotCr,
    /// Within a line.
    Mid,
    /// After a CR.
    Cr,
}

/// Reads one message up to CRLF.CRLF and undoes the dot-stuffing (RFC 5321 §4.5.2). Eight bits clean; a line may have
/// any length.
#[derive(Debug)]
pub struct DataDecoder {
    at: At,
    content: Content,
}

impl DataDecoder {
    /// A decoder that keeps at most `limit` octets.
    pub fn new(limit: usize) -> Self {
        Self { at: At::Bol, content: Content::new(limit) }
    }

    /// The message, once [`Decode::decode`] has said that it ended.
    pub fn finish(self) -> Result<Bytes, Flaw> {
        self.content.finish()
    }

    /// Notes lonely octets; goes on in the state given.
    fn lonely(&mut self, at: At) -> At {
        self.content.flawed(Flaw::LineEnds);
        at
    }
}

impl Decode for DataDecoder {
    fn decode(&mut self, input: &[u8]) -> Option<usize> {
        let mut kept = 0; // What stands from here up to `i` is content not yet copied.
        let mut i = 0;
        while let Some(&octet) = input.get(i) {
            let at = self.at;
            self.at = match (at, octet) {
                (At::DotCr, LF) => return Some(i + 1),
                (At::Bol, b'.') | (At::Dot, CR) => {
                    self.content.keep(input.get(kept..i).unwrap_or_default());
                    kept = i + 1;
                    if at == At::Bol { At::Dot } else { At::DotCr }
                }
                (At::Cr, LF) => At::Bol,
                (At::Cr, CR) => {
                    // s-nail ends the lines of CRLF files with CR CR LF. The CR too many is left out; where the message
                    // ends is not touched by it, and a CR that no LF follows is refused below.
                    self.content.keep(input.get(kept..i).unwrap_or_default());
                    kept = i + 1;
                    At::Cr
                }
                (At::DotCr, CR) => self.lonely(At::Cr),
                (_, CR) => At::Cr,
                (_, LF) | (At::Cr | At::DotCr, _) => self.lonely(At::Mid),
                _ => {
                    i = next_break(input, i);
                    self.at = At::Mid;
                    continue;
                }
            };
            i += 1;
        }
        self.content.keep(input.get(kept..i).unwrap_or_default());
        None
    }

    fn content(&self) -> &Content {
        &self.content
    }

    fn content_mut(&mut self) -> &mut Content {
        &mut self.content
    }
}

/// The next CR or LF from `i` on, or the end.
fn next_break(input: &[u8], i: usize) -> usize {
    let rest = input.get(i..).unwrap_or_default();
    memchr2(CR, LF, rest).map_or(input.len(), |n| i + n)
}

// === BDAT ===

/// Takes the chunks of one message (RFC 3030 §2): so many octets each, just as they are. Where the cuts are means nothing.
/// Lonely CR and LF are refused as in DATA, since BINARYMIME is not offered.
#[derive(Debug)]
pub struct ChunkDecoder {
    /// How many octets of this chunk are still to come.
    left: u64,
    is_last: bool,
    after_cr: bool,
    content: Content,
}

impl ChunkDecoder {
    /// A decoder that keeps at most `limit` octets of all chunks together.
    pub fn new(limit: usize) -> Self {
        Self { left: 0, is_last: false, after_cr: false, content: Content::new(limit) }
    }

    /// Goes on to the next chunk. Nothing is set aside for what is only announced; but what would be too much is not
    /// collected first.
    #[must_use]
    pub fn expect(mut self, size: u64, is_last: bool) -> Self {
        if size.saturating_add(self.held() as u64) > self.content.limit as u64 {
            self.content.flawed(Flaw::TooLarge);
        }
        (self.left, self.is_last) = (size, is_last);
        self
    }

    /// This decoder, unless a flaw was found so far.
    pub fn checked(self) -> Result<Self, Flaw> {
        match self.content.flaw {
            None => Ok(self),
            Some(flaw) => Err(flaw),
        }
    }

    /// The message, once the last chunk has ended.
    pub fn finish(self) -> Result<Bytes, Flaw> {
        self.content.finish()
    }

    /// Whether a CR or LF stands alone in what has come.
    fn has_lonely(&self, octets: &[u8]) -> bool {
        let before = |at: usize| at.checked_sub(1).map_or(self.after_cr, |at| octets.get(at) == Some(&CR));
        let broken = self.after_cr && octets.first().is_some_and(|octet| *octet != LF);
        broken
            || memchr2_iter(CR, LF, octets).any(|at| match octets.get(at) {
                Some(&LF) => !before(at),
                _ => octets.get(at + 1).is_some_and(|next| *next != LF),
            })
    }
}

impl Decode for ChunkDecoder {
    fn decode(&mut self, input: &[u8]) -> Option<usize> {
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let octets = input.get(..taken).unwrap_or_default();
        if self.has_lonely(octets) {
            self.content.flawed(Flaw::LineEnds);
        }
        self.content.keep(octets);
        self.after_cr = octets.last().map_or(self.after_cr, |last| *last == CR);
        self.left -= taken as u64;
        if self.left > 0 {
            return None;
        }
        if self.is_last && self.after_cr {
            self.content.flawed(Flaw::LineEnds);
        }
        Some(taken)
    }

    fn content(&self) -> &Content {
        &self.content
    }

    fn content_mut(&mut self) -> &mut Content {
        &mut self.content
    }
}
