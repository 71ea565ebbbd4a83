//! Attachments: names, types, whether they belong into the HTML. Their octets are only pointed at.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Attachment, Content, Message, TransferEncoding, charsets, uuencode, words};
use crate::mime::{Part, parameter};

impl Message {
    /// Adds the parts `list` as attachments; the HTML must be known.
    pub(super) fn read_attachments(&mut self, parts: &[Part], list: &[usize]) {
        if list.is_empty() {
            return;
        }
        let listed = || list.iter().filter_map(|i| parts.get(*i));
        let ids = listed().filter_map(|part| content_id(&self.raw, part)).map(|id| unescaped(id.as_bytes())).collect();
        let referred = self.html.as_deref().map(|html| references(html, &ids)).unwrap_or_default();
        for (i, part) in listed().enumerate() {
            let content_id = content_id(&self.raw, part);
            let in_html = content_id.as_ref().is_some_and(|id| referred.contains(&unescaped(id.as_bytes())));
            self.attachments.push(Attachment {
                filename: file_name(&self.raw, part).unwrap_or_else(|| invented_name(&part.media, i + 1)),
                content_type: content_type(&self.raw, part),
                inline: in_html || disposition(&self.raw, part) == Some("inline"),
                content_id,
                content: content(&self.raw, part),
            });
        }
    }
}

/// The octets of `part`.
pub(super) fn content(raw: &Bytes, part: &Part) -> Content {
    let encoding = parameter::main_value(Part::value(raw, part.encoding.as_ref()));
    let is = |word: &str| encoding.eq_ignore_ascii_case(word.as_bytes());
    let encoding = match () {
        () if is("base64") => TransferEncoding::Base64,
        () if is("quoted-printable") => TransferEncoding::QuotedPrintable,
        () => TransferEncoding::Identity,
    };
    // RFC 2045 §6.4: the parts of a multipart are encoded, it is not. This one is shown as it is.
    let encoding = if part.is_multipart() { TransferEncoding::Identity } else { encoding };
    let body = raw.slice(part.body.start.min(raw.len())..part.body.end.min(raw.len()));
    let is_uuencode = ["x-uuencode", "uuencode", "x-uue", "uue"].iter().any(|word| is(word));
    match is_uuencode.then(|| uuencode::decode(&body)).flatten() {
        Some(octets) => Content::new(octets.into(), TransferEncoding::Identity),
        None => Content::new(body, encoding),
    }
}

/// `inline` or `attachment`, as RFC 2183 §2.8 reads every other word; `None` if the mail does not say.
pub(super) fn disposition(raw: &[u8], part: &Part) -> Option<&'static str> {
    let value = parameter::main_value(Part::value(raw, part.disposition.as_ref()));
    match value {
        b"" => None,
        _ if value.eq_ignore_ascii_case(b"inline") => Some("inline"),
        _ => Some("attachment"),
    }
}

/// The name of a part as the mail has it, if any.
pub(super) fn raw_name(raw: &[u8], part: &Part) -> Option<parameter::Parameter> {
    let find = |field: Option<&_>, name| parameter::find(Part::value(raw, field), name);
    find(part.disposition.as_ref(), "filename")
        .filter(|name| !name.octets.is_empty())
        .or_else(|| find(part.content_type.as_ref(), "name"))
        .filter(|name| !name.octets.is_empty())
}

/// The name of a part, fit for a file: decoded (RFC 2231; RFC 2047 although it is not allowed there), without
/// directories and controls.
fn file_name(raw: &[u8], part: &Part) -> Option<String> {
    let name = raw_name(raw, part)?;
    let name = match name.charset {
        Some(charset) => words::one_line(&charsets::decode(Some(&charset), &name.octets)),
        None => words::unstructured(&name.octets),
    };
    let visible: String = name.chars().filter(|c| !turns_direction(*c)).collect();
    let last = visible.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    (!matches!(last, "" | "." | "..")).then(|| last.to_owned())
}

/// Characters that show `exe.pdf` for what ends with `fdp.exe` (Unicode UAX #9 §2).
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn invented_name(media: &str, number: usize) -> String {
    let extension = match media {
        "message/rfc822" | "message/global" => "eml",
        "text/plain" | "message/delivery-status" | "text/rfc822-headers" => "txt",
        "text/calendar" | "application/ics" => "ics",
        "text/html" | "text/x-amp-html" => "html",
        "text/vcard" | "text/x-vcard" => "vcf",
        "text/markdown" => "md",
        "image/jpeg" => "jpg",
        "image/svg+xml" => "svg",
        "audio/mpeg" => "mp3",
        "application/pgp-signature" => "asc",
        "application/pkcs7-signature" | "application/x-pkcs7-signature" => "p7s",
        "application/pkcs7-mime" | "application/x-pkcs7-mime" => "p7m",
        "application/ms-tnef" => "dat",
        "application/octet-stream" => "bin",
        // Types whose subtype is the usual extension: pdf, zip, png, gif, csv, xml, json, mp4 …
        _ => media
            .rsplit('/')
            .next()
            .filter(|sub| sub.len() <= 4 && sub.bytes().all(|b| b.is_ascii_alphanumeric()))
            .unwrap_or("bin"),
    };
    format!("attachment-{number}.{extension}")
}

/// The media type with what a reader needs of its parameters: what to do with an invitation (RFC 5546 `method`), and the
/// charset, as attachments are not transcoded.
fn content_type(raw: &[u8], part: &Part) -> String {
    let value = Part::value(raw, part.content_type.as_ref());
    let mut out = part.media.clone();
    let text = part.media.starts_with("text/") || part.media == "application/ics";
    for name in ["method", "charset"].into_iter().filter(|name| *name == "method" || text) {
        let token = parameter::find(value, name).map(parameter::Parameter::first_token_or_quoted).unwrap_or_default();
        if !token.is_empty() && token.iter().all(|b| parameter::is_token(*b)) {
            out.push_str(&format!("; {name}={}", String::from_utf8_lossy(&token)));
        }
    }
    out
}

/// Content-ID without its brackets.
pub(super) fn content_id(raw: &[u8], part: &Part) -> Option<String> {
    Some(bare_id(Part::value(raw, part.id.as_ref()))).filter(|id| !id.is_empty())
}

/// The identifier in `<…>`, or all of the value if there are none.
pub(super) fn bare_id(value: &[u8]) -> String {
    let value = value.trim_ascii();
    let open = memchr::memchr(b'<', value).map_or(0, |open| open + 1);
    let inner = value.get(open..).unwrap_or_default();
    let inner = inner.get(..memchr::memchr(b'>', inner).unwrap_or(inner.len())).unwrap_or_default();
    let id = words::unstructured(inner);
    // Where encoded words are in an identifier, they do not stand apart from the rest.
    if memchr::memmem::find(inner, b"=?").is_some() { id.replace(' ', "") } else { id }
}

/// Those of `ids` that `html` refers to (RFC 2392); both as [`unescaped`] gives them. A colon ends a reference, too:
/// unescaped it is in no identifier that software makes, and so no octet is looked at twice.
fn references(html: &str, ids: &HashSet<Vec<u8>>) -> HashSet<Vec<u8>> {
    if ids.is_empty() {
        return HashSet::new();
    }
    let html = html.as_bytes();
    let scheme = |colon: usize| colon.checked_sub(3).and_then(|at| html.get(at..colon)).unwrap_or_default();
    let ends = |b: &u8| b.is_ascii_whitespace() || b"\"'<>():".contains(b);
    memchr::memchr_iter(b':', html)
        .filter(|colon| scheme(*colon).eq_ignore_ascii_case(b"cid"))
        .map(|colon| {
            let rest = html.get(colon + 1..).unwrap_or_default();
            let len = rest.iter().position(ends).unwrap_or(rest.len());
            unescaped(rest.get(..len).unwrap_or_default())
        })
        .filter(|id| ids.contains(id))
        .collect()
}

/// An identifier so that the forms of one compare equal: lower case, no percent signs.
fn unescaped(id: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(id.len());
    parameter::unescape_percent(id, &mut out);
    out.make_ascii_lowercase();
    out
}
