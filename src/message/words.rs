//! Octets to text: charsets, encoded words (RFC 2047), and the one place that makes a string fit for a single line.

use std::borrow::Cow;

use encodify::{rfc2047, utf7};
use mail_parser::decoders::charsets::map::charset_decoder;

/// The text of `octets` under a charset label, with the meanings of the WHATWG Encoding standard. Where the label says
/// nothing (missing, us-ascii, unknown), UTF-8 if that is valid, else windows-1252.
pub(super) fn decode<'a>(label: Option<&[u8]>, octets: &'a [u8]) -> Cow<'a, str> {
    let label = label.unwrap_or_default().trim_ascii();
    let label = label.strip_prefix(b"\"").and_then(|l| l.strip_suffix(b"\"")).unwrap_or(label).to_ascii_lowercase();
    if octets.is_ascii() && !is_seven_bit_code(&label) {
        return utf8_or_windows(octets);
    }
    match label.as_slice() {
        b"utf-7" | b"unicode-1-1-utf-7" | b"csutf7" => utf7::MAIL.decode_lossy(octets).into(),
        b"hz-gb-2312" => hz(octets).into(),
        b"iso-2022-jp" | b"csiso2022jp" => iso_2022_jp(octets).into(),
        // Windows-1252 in the standard; what is so labelled in mail and has 8-bit characters is mostly UTF-8.
        b"" | b"us-ascii" | b"ascii" | b"ansi_x3.4-1968" | b"7bit" | b"8bit" => unlabelled(octets),
        _ => match charset_decoder(&label) {
            Some(decoder) => decoder(octets).into(),
            None => unlabelled(octets),
        },
    }
}

/// UTF-16 announces itself; else see [`utf8_or_windows`].
fn unlabelled(octets: &[u8]) -> Cow<'_, str> {
    match octets {
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => {
            charset_decoder(b"utf-16").map_or(Cow::Borrowed(""), |decoder| decoder(octets).into())
        }
        _ => utf8_or_windows(octets),
    }
}

/// UTF-8, even damaged UTF-8 if some character beyond ASCII is whole; else windows-1252.
pub(super) fn utf8_or_windows(octets: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(octets) {
        Ok(text) => text.into(),
        Err(_) if octets.utf8_chunks().any(|chunk| !chunk.valid().is_ascii()) => String::from_utf8_lossy(octets),
        Err(_) => {
            charset_decoder(b"windows-1252").map_or_else(|| String::from_utf8_lossy(octets), |d| d(octets).into())
        }
    }
}

/// Charsets whose text looks like ASCII and is not.
fn is_seven_bit_code(label: &[u8]) -> bool {
    [b"utf-7".as_slice(), b"unicode-1-1-utf-7", b"csutf7", b"hz-gb-2312"].contains(&label)
        || [
            b"iso-2022".as_slice(),
            b"csiso2022",
            b"utf-16",
            b"csutf16",
            b"ucs-2",
            b"unicode",
            b"csunicode",
            b"iso-10646",
        ]
        .iter()
        .any(|prefix| label.starts_with(prefix))
}

/// ISO-2022-JP. Joined encoded words have escape sequences directly after each other, which decoders report as an error
/// (WHATWG Encoding, §12.2.1); the first of the two has no effect.
fn iso_2022_jp(octets: &[u8]) -> String {
    let mut out = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while let [first, after @ ..] = rest {
        if let [0x1b, _, _, escape @ ..] = rest
            && escape.starts_with(b"\x1b")
        {
            rest = escape;
            continue;
        }
        out.push(*first);
        rest = after;
    }
    charset_decoder(b"iso-2022-jp").map_or_else(|| String::from_utf8_lossy(&out).into_owned(), |decoder| decoder(&out))
}

/// RFC 1843: `~{` and `~}` enclose GB 2312 without its high bits.
fn hz(octets: &[u8]) -> String {
    let mut out = Vec::with_capacity(octets.len());
    let (mut shifted, mut rest) = (false, octets);
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'~', [b'{', after @ ..]) => (shifted, rest) = (true, after),
            (b'~', [b'}', after @ ..]) => (shifted, rest) = (false, after),
            (b'~', [b'~', after @ ..]) if !shifted => {
                out.push(b'~');
                rest = after;
            }
            (b'~', [b'\n', after @ ..] | [b'\r', b'\n', after @ ..]) => rest = after,
            (b'\r' | b'\n', _) => {
                shifted = false;
                out.push(*first);
            }
            _ => out.push(if shifted { first | 0x80 } else { *first }),
        }
    }
    charset_decoder(b"gb18030").map_or_else(|| String::from_utf8_lossy(&out).into_owned(), |decoder| decoder(&out))
}

/// The text of an unstructured header value: unfolded, encoded words decoded, raw 8-bit text read as UTF-8 or
/// windows-1252, on one line.
pub(super) fn unstructured(value: &[u8]) -> String {
    let text = utf8_or_windows(value);
    let decoded =
        rfc2047::decode_text(text.as_bytes(), |charset, octets, out| out.push_str(&decode(Some(charset), octets)));
    one_line(&decoded)
}

/// `text` on one line: each run of controls and line separators becomes a blank; none at its ends. Encoded words and
/// RFC 2231 can carry line ends, and what writes a header downstream may not look.
pub fn one_line(text: &str) -> String {
    let text = text.trim();
    if !text.contains(breaks_line) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for piece in text.split(breaks_line).filter(|piece| !piece.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(piece);
    }
    out.trim().to_owned()
}

/// C0, DEL, C1, and the separators that some languages take for line ends.
fn breaks_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}
