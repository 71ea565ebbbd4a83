//! Which parts are the bodies (RFC 8621 §4.1.4, with three deviations), and their text.

use std::sync::Arc;

use mail_parser::decoders::html::html_to_text;

use super::{Message, attachments, charsets};
use crate::mime::{Part, parameter};

/// The parts of a mail by what they are for; each list in document order.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Shown to readers of plain text.
    text: Vec<usize>,
    /// Shown to readers of HTML.
    html: Vec<usize>,
    /// Everything else.
    pub attachments: Vec<usize>,
}

/// What a leaf can be in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Html,
    Other,
}

/// The lists that the parts of one multipart go to.
#[derive(Debug, Clone, Copy)]
struct Course {
    text: bool,
    html: bool,
    in_alternative: bool,
}

/// Sorts the parts of a mail.
pub(super) fn select(raw: &[u8], parts: &[Part]) -> Selection {
    let mut selection = Selection::default();
    let walk = Walk { raw, parts };
    if parts.len() > 1 {
        walk.multipart(0, Course::all(), &mut selection);
    } else {
        walk.leaf(0, "multipart/mixed", true, Course::all(), &mut selection);
    }
    selection.attachments.sort_unstable();
    selection
}

impl Course {
    fn all() -> Self {
        Self { text: true, html: true, in_alternative: false }
    }
}

struct Walk<'a> {
    raw: &'a [u8],
    parts: &'a [Part],
}

impl Walk<'_> {
    fn children(&self, parent: usize) -> Vec<usize> {
        let end = self.parts.get(parent).map_or(0, |part| part.end);
        std::iter::successors(Some(parent + 1), |child| self.parts.get(*child).map(|part| part.end.max(child + 1)))
            .take_while(|child| *child < end)
            .collect()
    }

    /// RFC 8621's parseStructure. It recurses as deep as `mime::Limits::depth`.
    fn multipart(&self, parent: usize, outer: Course, selection: &mut Selection) {
        let Some(part) = self.parts.get(parent) else { return };
        let children = self.children(parent);
        let alternative = part.media == "multipart/alternative";
        let related = part.media == "multipart/related";
        let first = if related { self.root(part, &children) } else { children.first().copied() };
        let mut course = Course { in_alternative: outer.in_alternative || alternative, ..outer };
        let (text_before, html_before) = (selection.text.len(), selection.html.len());
        for child in children {
            if self.children(child).is_empty() {
                course = self.leaf(child, &part.media, Some(child) == first, course, selection);
            } else {
                self.multipart(child, course, selection);
            }
        }
        if alternative && course.text && course.html {
            // Only one rendering was found: it is the other one, too.
            if selection.text.len() == text_before {
                selection.text.extend_from_slice(selection.html.get(html_before..).unwrap_or_default());
            } else if selection.html.len() == html_before {
                selection.html.extend_from_slice(selection.text.get(text_before..).unwrap_or_default());
            }
        }
    }

    fn leaf(&self, leaf: usize, parent: &str, first: bool, course: Course, selection: &mut Selection) -> Course {
        let Some(part) = self.parts.get(leaf) else { return course };
        let kind = kind(part);
        let alternative = parent == "multipart/alternative";
        // A named text that is not the first is an attachment; so is all of a multipart/related but its root. Deviation:
        // in multipart/alternative a name changes nothing.
        let in_place =
            first || alternative || parent != "multipart/related" && attachments::raw_name(self.raw, part).is_none();
        if kind == Kind::Other || !in_place || attachments::disposition(self.raw, part) == Some("attachment") {
            if kind == Kind::Other || !self.says_nothing(part) {
                selection.attachments.push(leaf);
            }
            return course;
        }
        let mut course = course;
        if alternative {
            let list = if kind == Kind::Text { &mut selection.text } else { &mut selection.html };
            list.push(leaf);
            return course;
        }
        if course.in_alternative {
            // One branch of an alternative further out is of one kind.
            course.html &= kind != Kind::Text;
            course.text &= kind != Kind::Html;
        }
        if course.text {
            selection.text.push(leaf);
        }
        if course.html {
            selection.html.push(leaf);
        }
        if !course.text && !course.html {
            // A branch with both kinds has become of neither. RFC 8621 forgets such parts.
            selection.attachments.push(leaf);
        }
        course
    }

    /// Whether a part is blank, nameless and not marked: what a delimiter too many leaves.
    fn says_nothing(&self, part: &Part) -> bool {
        let blank = self.raw.get(part.body.clone()).is_none_or(|body| body.trim_ascii().is_empty());
        blank && part.disposition.is_none() && attachments::raw_name(self.raw, part).is_none()
    }

    /// The root of a multipart/related (RFC 2387 §3.2: `start`, else the first). Deviation: the first multipart or text
    /// part, as software puts images before it.
    fn root(&self, related: &Part, children: &[usize]) -> Option<usize> {
        let content_type = Part::value(self.raw, related.content_type.as_ref());
        let start = parameter::find(content_type, "start").map(|start| attachments::bare_id(&start.octets));
        let id = |child: &usize| self.parts.get(*child).and_then(|part| attachments::content_id(self.raw, part));
        let shown =
            |child: &usize| self.parts.get(*child).is_some_and(|part| kind(part) != Kind::Other || part.is_multipart());
        let named = start.and_then(|start| children.iter().find(|child| id(child).as_deref() == Some(start.as_str())));
        named.or_else(|| children.iter().find(|child| shown(child))).or(children.first()).copied()
    }
}

/// A multipart without parts (no boundary, or one that never occurs) is shown as it is rather than lost. Deviation from
/// RFC 8621: images, audio and video are attachments always.
fn kind(part: &Part) -> Kind {
    match part.media.as_str() {
        "text/html" => Kind::Html,
        "text/plain" => Kind::Text,
        _ if part.is_multipart() => Kind::Text,
        _ => Kind::Other,
    }
}

impl Message {
    /// Joins the bodies. A rendering that the mail does not have stays `None`; in one that it has, loose parts of the
    /// other kind have their place, too.
    pub(super) fn read_bodies(&mut self, parts: &[Part], selection: &Selection) {
        self.text = self.join(parts, &selection.text, Kind::Text).map(Arc::new);
        self.html = self.join(parts, &selection.html, Kind::Html).map(Arc::new);
    }

    fn join(&self, parts: &[Part], list: &[usize], wanted: Kind) -> Option<String> {
        let list = || list.iter().filter_map(|i| parts.get(*i));
        // A mail of plain text alone is in both lists; it is not decoded for the one that it has nothing for.
        if !list().any(|part| kind(part) == wanted) {
            return None;
        }
        let bodies: Vec<(Kind, String)> =
            list().map(|part| (kind(part), self.body(part))).filter(|(_, text)| !text.trim().is_empty()).collect();
        if !bodies.iter().any(|(kind, _)| *kind == wanted) {
            return None;
        }
        let mut joined = String::new();
        for (kind, text) in bodies {
            if !joined.is_empty() && !joined.ends_with('\n') {
                joined.push('\n');
            }
            let text = match (wanted, kind) {
                (Kind::Html, Kind::Text) => html_from_text(&text),
                (Kind::Text, Kind::Html) => html_to_text(&text),
                _ => text,
            };
            if joined.is_empty() {
                joined = text;
            } else {
                joined.push_str(&text);
            }
        }
        Some(joined)
    }

    /// The text of one body: lines end with LF, no byte order mark, no NUL. `format=flowed` (RFC 3676) is left as it is, as
    /// it reads well without being unwrapped; only with `delsp` words may be cut at the line end, and are joined.
    fn body(&self, part: &Part) -> String {
        let content = attachments::content(&self.raw, part);
        let octets = content.octets();
        let parameter = |name| {
            let found = parameter::find(Part::value(&self.raw, part.content_type.as_ref()), name);
            found.map(parameter::Parameter::first_token_or_quoted)
        };
        let is = |name, value: &[u8]| parameter(name).is_some_and(|found| found.eq_ignore_ascii_case(value));
        let named = parameter("charset").filter(|label| !label.is_empty());
        let label = named.or_else(|| charsets::of_html(&octets).filter(|_| kind(part) == Kind::Html));
        let text = charsets::decode(label.as_deref(), &octets);
        let text = with_lf(text.strip_prefix('\u{feff}').unwrap_or(&text));
        if is("delsp", b"yes") && is("format", b"flowed") { without_soft_breaks(&text) } else { text }
    }
}

/// RFC 3676 §4.3 with DelSp: a blank at the line end is the soft break and goes with it. Quoted lines keep their ends and
/// their marks, and so does the line above a signature.
fn without_soft_breaks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n').peekable();
    let mut flows = false;
    while let Some(line) = lines.next() {
        // Space-stuffing (§4.4).
        let line = if flows { line.strip_prefix(' ').unwrap_or(line) } else { line };
        let goes_on = lines.peek().is_some_and(|next| !next.starts_with('>') && next.trim_end() != "--");
        flows = goes_on && !line.starts_with('>') && line.ends_with(" \n") && line != "-- \n";
        out.push_str(if flows { line.strip_suffix(" \n").unwrap_or(line) } else { line });
    }
    out
}

/// Lines that end with LF, and no NUL. A lone CR is a line end, too: of old Macs.
fn with_lf(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'\r', 0, rest.as_bytes()) {
        let (line, tail) = rest.split_at(at);
        out.push_str(line);
        rest = tail.get(1..).unwrap_or_default();
        if tail.starts_with('\r') && !rest.starts_with('\n') {
            out.push('\n');
        }
    }
    out.push_str(rest);
    out
}

/// Plain text as HTML that looks like it: escaped, with its line ends and columns kept.
pub fn html_from_text(text: &str) -> String {
    let text = text.trim_end();
    let mut out = String::with_capacity(text.len() + text.len() / 8 + 80);
    out.push_str("<pre style=\"white-space: pre-wrap; font-family: inherit\">");
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            _ => out.push(c),
        }
    }
    out.push_str("</pre>\n");
    out
}
