//! Mails: whatever comes is read or refused, lies within the mail, and leaves nothing behind that could break a line.

use bytes::Bytes;
use encodify::base64;
use sidepost::message::{Content, Message};
use sidepost::mime::{Limits, Part, split};

use super::address;

/// The input is a mail.
pub fn holds(input: &[u8]) {
    let raw = Bytes::copy_from_slice(input);
    let tight = Limits { depth: 3, parts: 10, header_bytes: 400, header_fields: 12, boundary: 20 };
    for limits in [Limits::default(), tight] {
        if let Ok(parts) = split(&raw, &limits) {
            are_nested(&parts, raw.len());
            assert!(parts.len() <= limits.parts + 1);
        }
    }
    match Message::parse(raw.clone()) {
        Ok(message) => {
            assert_eq!(message.raw, raw);
            is_clean(&message);
            message.attachments.iter().for_each(|attachment| is_base64(&attachment.content));
        }
        Err(malformed) => assert!(!malformed.to_string().is_empty()),
    }
}

/// Parts are in the order of the mail, within it, and within those that hold them.
pub fn are_nested(parts: &[Part], len: usize) {
    assert_eq!(parts[0].end, parts.len());
    for (i, part) in parts.iter().enumerate() {
        assert!(part.header.start <= part.header.end && part.header.end <= part.body.start);
        assert!(part.body.start <= part.body.end && part.body.end <= len);
        assert!(i < part.end && part.end <= parts.len());
        for inner in parts[i + 1..part.end].iter().filter(|inner| !inner.body.is_empty()) {
            assert!(inner.end <= part.end);
            assert!(part.body.start <= inner.header.start && inner.body.end <= part.body.end);
        }
        for after in &parts[part.end..] {
            assert!(part.body.end <= after.header.start);
        }
    }
}

/// What becomes a header, a name or a field of JSON is one line; a file name is no path; addresses are canonical.
pub fn is_clean(message: &Message) {
    let boxes = [&message.from, &message.reply_to, &message.to, &message.cc];
    let mailboxes: Vec<_> = boxes.into_iter().flatten().chain(message.sender.as_slice()).collect();
    for mailbox in &mailboxes {
        address::canonical(&mailbox.address);
    }
    let names = mailboxes.iter().filter_map(|mailbox| mailbox.name.as_deref());
    let attachments = message.attachments.iter().flat_map(|attachment| {
        [attachment.filename.as_str(), &attachment.content_type].into_iter().chain(attachment.content_id.as_deref())
    });
    let headers = message.headers.iter().flat_map(|(name, value)| [name.as_str(), value]);
    let single = names.chain(attachments).chain(headers).chain(message.subject.as_deref());
    for text in single.chain(message.message_id.as_deref()) {
        assert!(!text.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')), "{text:?}");
    }
    for attachment in &message.attachments {
        let name = &attachment.filename;
        assert!(!name.is_empty() && !name.contains(['/', '\\']) && name != "..", "{name:?}");
    }
    for body in [&message.text, &message.html].into_iter().flatten() {
        assert!(!body.contains(['\0', '\r']), "{body:?}");
    }
}

/// The base64 of a content in one piece.
fn base64_of(content: &Content) -> Vec<u8> {
    let chunks: Vec<Bytes> = content.base64_chunks().collect();
    assert!(chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= 64 * 1024));
    chunks.concat()
}

/// What is sent as base64 is what the content decodes to, as long as was said, each time.
pub fn is_base64(content: &Content) {
    let once = base64_of(content);
    assert_eq!(String::from_utf8_lossy(&once), base64::STANDARD.encode(content.decode()));
    assert_eq!(once.len(), content.base64_len());
    assert_eq!(base64_of(content), once, "a retry sends the same");
}
