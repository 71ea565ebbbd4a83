//! Addresses: what is let through is canonical, and nobody can read it as something else.

use sidepost::address::{Address, Alphabet};

/// A mailbox is read the same alone and before other octets; whatever is read is [`canonical`].
pub fn holds(input: &[u8]) {
    holds_in(Alphabet::Ascii, input);
    holds_in(Alphabet::Utf8, input);
}

fn holds_in(alphabet: Alphabet, input: &[u8]) {
    let prefix = Address::parse_prefix(alphabet, input);
    if let Ok((address, used)) = &prefix {
        canonical(address);
        assert!(alphabet == Alphabet::Utf8 || address.is_ascii());
        assert_eq!(Address::parse_prefix(alphabet, &input[..*used]), prefix, "what follows a mailbox is no part of it");
    }
    let Ok(text) = str::from_utf8(input) else { return };
    match (Address::parse_in(alphabet, text), prefix) {
        (Ok(whole), prefix) => assert_eq!(prefix, Ok((whole, input.len()))),
        (Err(_), Ok((_, used))) => assert!(used < input.len()),
        (Err(whole), Err(prefix)) => assert_eq!(whole, prefix),
    }
}

/// An address reads back as itself, within the lengths of RFC 5321 §4.5.3.1, and holds no octet that could end a path, a
/// header or a line anywhere but within quotes.
pub fn canonical(address: &Address) {
    let text = address.as_str();
    let (local, domain) = (address.local(), address.domain());
    let parse = |text: &str| Address::parse_in(Alphabet::Utf8, text);
    assert_eq!(parse(text).as_ref(), Ok(address));
    assert!(domain.is_ascii(), "every API gets an ASCII domain");
    assert_eq!(parse(&address.to_string()).as_ref(), Ok(address));
    assert_eq!(parse(&format!("{local}@{}", domain.to_ascii_uppercase())).as_ref(), Ok(address));
    assert_eq!(format!("{local}@{domain}"), text);
    assert!(address.reads_like(address));
    assert!(text.len() <= 254 && local.len() <= 64, "{text}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(!domain.bytes().any(|b| b.is_ascii_uppercase() || b" \"(),;<>@\\".contains(&b)), "{text}");
    let literal = domain.starts_with('[') && domain.ends_with(']');
    assert!(literal || !domain.contains(['[', ']', ':']), "{text}");
    match local.strip_prefix('"') {
        Some(quoted) => assert!(ends_its_quotes(quoted), "{text}"),
        None => assert!(!local.contains([' ', '"', '(', ')', ',', ':', ';', '<', '>', '@', '[', '\\', ']']), "{text}"),
    }
}

/// Whether the first quote that stands alone is the last octet.
fn ends_its_quotes(quoted: &str) -> bool {
    let mut octets = quoted.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'\\' => assert!(matches!(octets.next(), Some(b'\\' | b'"')), "only what needs it is escaped: {quoted}"),
            b'"' => return octets.next().is_none(),
            _ => {}
        }
    }
    false
}
