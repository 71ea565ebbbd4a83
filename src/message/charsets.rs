//! Octets to text: charsets and what is meant by their labels.

use std::borrow::Cow;

use encodify::utf7;
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
        b"iso-2022-kr" | b"csiso2022kr" => iso_2022_kr(octets).into(),
        b"ibm437" | b"cp437" | b"437" | b"cspc8codepage437" => ibm437(octets).into(),
        // Windows-1252 in the standard; what is so labelled in mail and has 8-bit characters is mostly UTF-8.
        b"" | b"us-ascii" | b"ascii" | b"ansi_x3.4-1968" | b"7bit" | b"8bit" => unlabelled(octets),
        _ => match charset_decoder(&label).or_else(|| charset_decoder(other_name(&label)?.as_bytes())) {
            Some(decoder) => decoder(octets).into(),
            None => unlabelled(octets),
        },
    }
}

/// A field without encoded words as UTF-8: what is not UTF-8 already is read in the charset of the mail's text, where
/// that explains every octet. Programs that know nothing of RFC 2047 write both with the same function.
pub(super) fn raw_field<'a>(octets: &'a [u8], text_charset: Option<&[u8]>) -> Cow<'a, [u8]> {
    if std::str::from_utf8(octets).is_ok() || text_charset.is_none() {
        return octets.into();
    }
    match decode(text_charset, octets) {
        Cow::Owned(text) if !text.contains('\u{fffd}') => text.into_bytes().into(),
        _ => octets.into(),
    }
}

/// The charset that an HTML text which is not UTF-8 names itself, `<meta charset=…>`: browsers look for it in the first
/// 1,024 octets (WHATWG HTML §4.2.5.4).
pub(super) fn of_html(octets: &[u8]) -> Option<Vec<u8>> {
    if std::str::from_utf8(octets).is_ok() {
        return None;
    }
    let start = octets.get(..octets.len().min(1024)).unwrap_or_default().to_ascii_lowercase();
    let meta = memchr::memmem::find(&start, b"<meta")?;
    let after = start.get(meta + memchr::memmem::find(start.get(meta..)?, b"charset=")? + 8..)?;
    let label = after.trim_ascii_start().iter().skip_while(|b| matches!(b, b'"' | b'\''));
    Some(label.copied().take_while(|b| b.is_ascii_alphanumeric() || b"-_:.".contains(b)).collect())
}

/// The name by which a charset is known here, for names that Python, Java and Windows programs write.
fn other_name(label: &[u8]) -> Option<&'static str> {
    let plain: String = label.iter().filter(|b| b.is_ascii_alphanumeric()).map(|b| char::from(*b)).collect();
    let plain = plain.strip_prefix('x').unwrap_or(&plain);
    let number = ["windows", "win", "mswin", "ms", "cp"].iter().find_map(|prefix| plain.strip_prefix(prefix));
    Some(match (number.unwrap_or_default(), plain) {
        ("1250", _) => "windows-1250",
        ("1251", _) => "windows-1251",
        ("1252", _) => "windows-1252",
        ("1253", _) => "windows-1253",
        ("1254", _) => "windows-1254",
        ("1255", _) => "windows-1255",
        ("1256", _) => "windows-1256",
        ("1257", _) => "windows-1257",
        ("1258", _) => "windows-1258",
        ("874", _) | (_, "ibm874") => "windows-874",
        ("932" | "31j", _) | (_, "shiftjis" | "mscp932") => "shift_jis",
        ("936", _) | (_, "euccn" | "gb23121980") => "gbk",
        ("949", _) | (_, "uhc" | "euckr") => "euc-kr",
        ("950", _) => "big5",
        ("858", _) | (_, "ibm858" | "ibm00858") => "cp850",
        (_, "eucjp" | "ujis") => "euc-jp",
        (_, "koi8r") => "koi8-r",
        (_, "koi8u") => "koi8-u",
        (_, "latin9" | "latin0") => "iso-8859-15",
        (_, "macroman") => "macintosh",
        _ => return None,
    })
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

/// Japanese in its seven-bit code, which programs of the time before MIME do not label; UTF-8, even damaged UTF-8 if some
/// character beyond ASCII is whole; else windows-1252.
pub(super) fn utf8_or_windows(octets: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(octets) {
        Ok(_) if has_japanese_escape(octets) => iso_2022_jp(octets).into(),
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

/// `ESC $ B` or `ESC $ @`, which begin kanji in ISO-2022-JP (RFC 1468), with the escape that ends them.
fn has_japanese_escape(octets: &[u8]) -> bool {
    memchr::memchr(0x1b, octets).is_some()
        && [&b"\x1b$B"[..], b"\x1b$@"].iter().any(|start| memchr::memmem::find(octets, start).is_some())
        && [&b"\x1b(B"[..], b"\x1b(J"].iter().any(|end| memchr::memmem::find(octets, end).is_some())
}

/// RFC 1557: shift out and shift in enclose KS X 1001 without its high bits.
fn iso_2022_kr(octets: &[u8]) -> String {
    let mut shifted = false;
    let mut out = Vec::with_capacity(octets.len());
    // The designator `ESC $ ) C` stands once, at the start of a line.
    let mut rest = octets;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (0x1b, [b'$', b')', b'C', after @ ..]) => after,
            (0x0e, _) => {
                shifted = true;
                after
            }
            (0x0f, _) => {
                shifted = false;
                after
            }
            _ => {
                out.push(if shifted && first.is_ascii_graphic() { first | 0x80 } else { *first });
                after
            }
        };
    }
    charset_decoder(b"euc-kr").map_or_else(|| String::from_utf8_lossy(&out).into_owned(), |decoder| decoder(&out))
}

/// The code page of DOS, in which consoles and old reports still write.
fn ibm437(octets: &[u8]) -> String {
    const UPPER: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
                         αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";
    let upper: Vec<char> = UPPER.chars().collect();
    octets.iter().map(|b| upper.get(usize::from(*b).wrapping_sub(0x80)).copied().unwrap_or(char::from(*b))).collect()
}
