//! Text of a header: encoded words (RFC 2047), and the one place that makes a string fit for a single line.

use encodify::rfc2047;

use super::charsets;

/// The text of an unstructured header value: unfolded, encoded words decoded, raw 8-bit text read as UTF-8 or
/// windows-1252, on one line.
pub(super) fn unstructured(value: &[u8]) -> String {
    let text = charsets::utf8_or_windows(value);
    let decoded = rfc2047::decode_text(text.as_bytes(), |charset, octets, out| {
        out.push_str(&charsets::decode(Some(charset), octets));
    });
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
