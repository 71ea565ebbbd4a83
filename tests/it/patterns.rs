//! Patterns for addresses: what they mean, and what they must not mean.

use sidepost::address::{Address, Alphabet};
use sidepost::pattern::Pattern;

fn matches(pattern: &str, address: &str) -> bool {
    let address = Address::parse_in(Alphabet::Utf8, address).unwrap();
    pattern.parse::<Pattern>().unwrap().matches(Some(&address))
}

#[test]
fn each_side_of_the_at_is_matched_by_itself() {
    let table = [
        ("*@example.com", "ann@example.com", true),
        ("*@example.com", "ANN@Example.COM", true),
        ("*@example.com", "ann@sub.example.com", false),
        ("*@*.example.com", "ann@sub.example.com", true),
        ("*@*.example.com", "ann@example.com", false),
        ("app-?@example.com", "app-7@example.com", true),
        ("*@example.*", "\"x@example.com\"@evil.org", false),
        ("*@example.com", "\"x@example.com\"@evil.org", false),
        ("*", "\"x@example.com\"@evil.org", true),
        ("*@bücher.example", "ann@bücher.example", true),
        ("*@Bücher.example", "ann@xn--bcher-kva.example", true),
        ("*@*.bücher.example", "ann@shop.bücher.example", true),
        ("*@xn--bcher-kva.example", "ann@bücher.example", true),
    ];
    for (pattern, address, expected) in table {
        assert_eq!(matches(pattern, address), expected, "{pattern} {address}");
    }
}

#[test]
fn the_null_sender_is_no_address() {
    let null: Pattern = "<>".parse().unwrap();
    assert!(null.matches(None) && !null.matches(Address::parse("a@b.example").ok().as_ref()));
    assert!(!"*".parse::<Pattern>().unwrap().matches(None));
}

#[test]
fn what_could_never_match_is_refused() {
    for text in
        ["", "example.com", "@example.com", "ann@", "a@b.example, c@d.example", "<a@b.example>", "*@b\u{fc}*.example"]
    {
        assert!(text.parse::<Pattern>().is_err(), "{text}");
    }
}
