//! Replies: lawful, and clean on the wire.

use sidepost::reply::{Reply, printable};

/// The laws of every reply: one class in both codes, lines of at most 512 octets, printable, CRLF at their end only.
pub fn is_lawful(reply: &Reply) {
    assert!((200..600).contains(&reply.code), "{reply}");
    if let Some(enhanced) = reply.enhanced {
        assert_eq!(u16::from(enhanced.0), reply.class(), "{reply}");
    }
    let mut octets = Vec::new();
    reply.write_to(&mut octets);
    let text = String::from_utf8(octets).unwrap();
    let lines: Vec<&str> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
    assert_eq!(lines.len(), reply.lines.len(), "{text}");
    for (i, line) in lines.iter().enumerate() {
        assert!(line.len() <= 510, "{line}");
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line}");
        assert!(line.starts_with(&format!("{}{}", reply.code, if i + 1 == lines.len() { ' ' } else { '-' })), "{line}");
    }
}

/// A refusal for ever: what a line gets that is no good.
pub fn is_refusal(reply: &Reply) {
    is_lawful(reply);
    assert_eq!(reply.class(), 5, "{reply}");
}

/// Whatever foreign text goes into a reply, the reply is lawful; and what was made printable fits and stays as it is.
pub fn holds(text: &str, max: usize) {
    let lines = text.split('\0').map(|line| line.to_owned().into()).collect();
    is_lawful(&Reply { lines, ..Reply::new(550, sidepost::reply::Enhanced(5, 0, 0), "") });
    let clean = printable(text, max);
    assert!(clean.len() <= max && clean.bytes().all(|b| (b' '..=b'~').contains(&b)), "{clean:?}");
    assert_eq!(printable(&clean, max), clean.trim_end());
}
