//! Values with parameters (RFC 2045 §5.1, RFC 2231): `type/subtype; name=value`, read leniently and in linear time.

/// The octets of one parameter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameter {
    /// The octets: quotes, escapes, percent signs and continuations (RFC 2231 §3) resolved.
    pub octets: Vec<u8>,
    /// The charset that RFC 2231 §4 names; `None` for a plain parameter.
    pub charset: Option<Vec<u8>>,
    /// Whether it stood in quotes.
    quoted: bool,
}

impl Parameter {
    /// The octets of a value that has no blanks by definition: what follows an unquoted one is a comment or a mistake.
    pub fn first_token_or_quoted(self) -> Vec<u8> {
        if self.quoted {
            return self.octets.trim_ascii_end().to_vec();
        }
        self.octets.split(u8::is_ascii_whitespace).next().unwrap_or_default().to_vec()
    }
}

/// The first parameter `name` (in lower case) of a field. Its extended form goes before the plain one wherever they
/// stand: it is the better of the two (RFC 2231 §4.1 exists to replace the other).
pub fn find(value: &[u8], name: &str) -> Option<Parameter> {
    let (mut plain, mut extended, mut segments) = (None, None, Vec::new());
    for (key, octets, quoted) in parameters(value) {
        let Some((base, rest)) = key.split_at_checked(name.len()) else { continue };
        if !base.eq_ignore_ascii_case(name.as_bytes()) {
            continue;
        }
        match rest {
            [] => _ = plain.get_or_insert(Parameter { octets, charset: None, quoted }),
            [b'*'] => _ = extended.get_or_insert(octets),
            [b'*', segment @ ..] => segments.extend(segment_number(segment).map(|(n, encoded)| (n, encoded, octets))),
            _ => {}
        }
    }
    if let Some(octets) = extended {
        return Some(join(vec![(0, true, octets)]));
    }
    if segments.is_empty() { plain } else { Some(join(segments)) }
}

/// The media type of a Content-Type, `None` if it has no `type/subtype` (RFC 2045 §5.2: then it is plain text).
pub fn media_type(value: &[u8]) -> Option<String> {
    let main = main_value(value);
    let slash = memchr::memchr(b'/', main)?;
    let token = |octets: &[u8]| -> String {
        octets.iter().take_while(|b| is_token(**b)).map(|b| char::from(b.to_ascii_lowercase())).collect()
    };
    let (kind, subtype) = (token(main.get(..slash)?), token(main.get(slash + 1..)?));
    (!kind.is_empty() && !subtype.is_empty()).then(|| format!("{kind}/{subtype}"))
}

/// What stands before the parameters, without comments and quotes: a disposition, an encoding, a media type.
pub fn main_value(value: &[u8]) -> &[u8] {
    let start = skip_blank(value, 0);
    let rest = value.get(start..).unwrap_or_default();
    let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
    let len = rest.iter().take_while(|b| !matches!(b, b';' | b'(' | b'"') && !b.is_ascii_whitespace()).count();
    let main = rest.get(..len).unwrap_or_default();
    // `Content-Disposition: filename="x"`: no main value at all.
    if main.contains(&b'=') { b"" } else { main }
}

/// RFC 2045 §5.1 token.
pub fn is_token(b: u8) -> bool {
    b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b)
}

/// The parameters one after the other: name, octets, whether quoted.
fn parameters(value: &[u8]) -> impl Iterator<Item = (&[u8], Vec<u8>, bool)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at = skip_blank(value, at);
            let rest = value.get(at..).filter(|rest| !rest.is_empty())?;
            let len = rest.iter().take_while(|b| !matches!(b, b'=' | b';') && !b.is_ascii_whitespace()).count();
            let name = rest.get(..len).unwrap_or_default();
            at = skip_blank(value, at + len);
            match value.get(at) {
                Some(b'=') if len > 0 => {
                    let (octets, quoted, after) = parameter_value(value, skip_space(value, at + 1));
                    at = after;
                    return Some((name, octets, quoted));
                }
                Some(b';' | b'=') => at += 1,
                _ => {}
            }
        }
    })
}

/// The value at `at`, whether it was quoted, and the offset after it. Unquoted ones go on to the semicolon: software
/// forgets the quotes around names with blanks.
fn parameter_value(value: &[u8], at: usize) -> (Vec<u8>, bool, usize) {
    let rest = value.get(at..).unwrap_or_default();
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let (octets, used) = quoted_string(quoted);
        return (octets, true, at + 1 + used);
    }
    let len = memchr::memchr(b';', rest).unwrap_or(rest.len());
    let text = rest.get(..len).unwrap_or_default().trim_ascii();
    // The opening quote was forgotten.
    let text = text.strip_suffix(b"\"").filter(|text| !text.contains(&b'"')).unwrap_or(text);
    (text.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect(), false, at + len)
}

/// The octets up to the closing quote and how many were used with it. A backslash escapes quotes and backslashes only:
/// others come from software that puts Windows paths there.
fn quoted_string(input: &[u8]) -> (Vec<u8>, usize) {
    let mut octets = Vec::new();
    let mut i = 0;
    while let Some(&b) = input.get(i) {
        i += 1;
        match (b, input.get(i)) {
            (b'"', _) => break,
            (b'\\', Some(&escaped @ (b'"' | b'\\'))) => {
                octets.push(escaped);
                i += 1;
            }
            (b'\r' | b'\n', _) => {}
            _ => octets.push(b),
        }
    }
    (octets, i)
}

/// `0`, `0*`, `12*`: the number of a segment and whether it is percent-encoded (RFC 2231 §4.1).
fn segment_number(text: &[u8]) -> Option<(u32, bool)> {
    let (digits, encoded) = text.strip_suffix(b"*").map_or((text, false), |digits| (digits, true));
    std::str::from_utf8(digits).ok()?.parse().ok().map(|number| (number, encoded))
}

/// Joins segments by their numbers. Octets are joined before any charset is looked at: characters may be cut anywhere.
fn join(mut segments: Vec<(u32, bool, Vec<u8>)>) -> Parameter {
    segments.sort_by_key(|(number, ..)| *number);
    segments.dedup_by_key(|(number, ..)| *number);
    let mut joined = Parameter { quoted: true, ..Parameter::default() };
    for (i, (_, encoded, octets)) in segments.into_iter().enumerate() {
        if !encoded {
            joined.octets.extend(octets);
            continue;
        }
        let mut text = octets.as_slice();
        // charset'language'value
        let mut fields = octets.splitn(3, |b| *b == b'\'');
        if let (0, Some(charset), Some(_), Some(rest)) = (i, fields.next(), fields.next(), fields.next()) {
            joined.charset = Some(charset.to_vec());
            text = rest;
        }
        unescape_percent(text, &mut joined.octets);
    }
    joined
}

/// Appends `text` with its `%XX` resolved; what is no such escape stays as it is.
pub fn unescape_percent(mut text: &[u8], out: &mut Vec<u8>) {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    while let [first, rest @ ..] = text {
        if let ([b'%', high, low, after @ ..], true) = (text, *first == b'%')
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            out.push(high << 4 | low);
            text = after;
        } else {
            out.push(*first);
            text = rest;
        }
    }
}

/// The offset of the next octet that is neither white space nor in a comment (RFC 5322 §3.2.2).
fn skip_blank(value: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(b) = value.get(at) {
        match b {
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b'\\' if depth > 0 => at += 1,
            _ if depth > 0 || b.is_ascii_whitespace() => {}
            _ => break,
        }
        at += 1;
    }
    at
}

fn skip_space(value: &[u8], at: usize) -> usize {
    at + value.get(at..).unwrap_or_default().iter().take_while(|b| b.is_ascii_whitespace()).count()
}
