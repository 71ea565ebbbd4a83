//! Addresses beyond ASCII (RFC 6531): one canonical form each, and nothing that two parsers read as two addresses.

use proptest::collection::vec;
use proptest::prelude::*;
use sidepost::address::{Address, AddressError, Alphabet};

fn parse(text: &str) -> Result<Address, AddressError> {
    Address::parse_in(Alphabet::Utf8, text)
}

#[test]
fn an_address_has_one_form() {
    let table = [
        ("jörg@example.com", "jörg@example.com"),
        ("Jörg@EXAMPLE.com", "Jörg@example.com"),
        ("\"jörg\"@example.com", "jörg@example.com"),
        ("\"jö rg\"@example.com", "\"jö rg\"@example.com"),
        ("\"jö\\ rg\\\"\"@example.com", "\"jö rg\\\"\"@example.com"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@BÜCHER.Example", "ann@xn--bcher-kva.example"),
        ("ann@XN--BCHER-kva.example", "ann@xn--bcher-kva.example"),
        ("ann@xn--bcher-kva.bücher", "ann@xn--bcher-kva.xn--bcher-kva"),
        ("ann@straße.example", "ann@xn--strae-oqa.example"),
        ("ΑΝΝΑ@ΣΟΦΟΣ.example", "ΑΝΝΑ@xn--0xaakcn.example"),
        ("джо@пример.example", "джо@xn--e1afmkfd.example"),
        ("用户@例え.テスト", "用户@xn--r8jz45g.xn--zckzah"),
        ("पाल@उदाहरण.परीक्षा", "पाल@xn--p1b6ci4b4b3a.xn--11b5bs3a9aj6g"),
        ("משה@דוגמה.example", "משה@xn--6dbbec0c.example"),
        ("x\u{323}y@example.com", "x\u{323}y@example.com"),
        ("ann@[127.0.0.1]", "ann@[127.0.0.1]"),
        ("root@web_app_1", "root@web_app_1"),
    ];
    for (written, canonical) in table {
        let address = parse(written).unwrap_or_else(|e| panic!("{written}: {e}"));
        assert_eq!(address.as_str(), canonical);
        assert_eq!(address.is_ascii(), canonical.is_ascii());
    }
}

#[test]
fn what_is_doubtful_is_refused() {
    use AddressError::{Character, Domain, Literal, LocalPart, NoDomain, NotNormal, TooLong};
    let table = [
        ("jo\u{308}rg@example.com", NotNormal),
        ("\u{212b}@example.com", NotNormal),   // the Ångström sign
        ("a\u{37e}b@example.com", NotNormal),  // the Greek question mark, a semicolon in NFC
        ("\u{301}a@example.com", Character),   // a mark on what stands before the address
        ("a.\u{301}b@example.com", Character), // and on the dot
        ("\"\u{338}\"@example.com", Character),
        ("a\u{80}@example.com", Character),
        ("a\u{ad}b@example.com", Character),   // soft hyphen
        ("a\u{200d}b@example.com", Character), // zero-width joiner
        ("a\u{202e}b@example.com", Character), // right-to-left override
        ("a\u{2066}b@example.com", Character),
        ("a\u{2028}b@example.com", Character),
        ("a\u{3000}b@example.com", Character),
        ("a\u{feff}b@example.com", Character),
        ("a\u{fe0f}b@example.com", Character), // a variation selector
        ("a\u{3164}b@example.com", Character), // Hangul filler: a letter that nobody sees
        ("a\u{e0041}b@example.com", Character),
        ("a\u{f8ff}b@example.com", Character),
        ("a\u{fffe}b@example.com", Character),
        ("a\u{378}b@example.com", Character),  // unassigned
        ("a\u{ff20}b@example.com", Character), // full-width @
        ("a\u{fe6b}b@example.com", Character), // small @
        ("a\u{ff0e}b@example.com", Character),
        ("a\u{2024}b@example.com", Character), // one dot leader
        ("a\u{3002}b@example.com", Character),
        ("a\u{ff1e}b@example.com", Character), // full-width >
        ("a\u{2100}b@example.com", Character), // a/c in one character
        ("a..ö@example.com", LocalPart),
        ("ö.@example.com", LocalPart),
        ("\"\\ö\"@example.com", LocalPart),
        ("jörg", NoDomain),
        ("a@bu\u{308}cher.example", Domain),
        ("a@\u{ff42}cher.example", Domain),
        ("a@bücher\u{3002}example", Domain),
        ("a@bücher\u{ff0e}example", Domain),
        ("a@b\u{fc}\u{200b}.example", Domain),
        ("a@b\u{fc}\u{ad}cher.example", Domain),
        ("a@\u{2460}ü.example", Domain),
        ("a@ü\u{ff20}x.example", Domain),
        ("a@אa.example", Domain), // RFC 5893: one direction a label
        ("a@xn--zzzzzz99999.ü", Domain),
        ("a@ü..example", Domain),
        ("a@ü.example.", Domain),
        ("a@ü_x.example", Domain),
        ("a@ü@x.example", Domain),
        ("a@[ü]", Literal),
        ("a@[127.0.0.\u{661}]", Literal),
    ];
    for (written, error) in table {
        assert_eq!(parse(written), Err(error), "{}", written.escape_unicode());
    }
    assert!(parse(&format!("{}@example.com", "ö".repeat(32))).is_ok());
    assert_eq!(parse(&format!("{}@example.com", "ö".repeat(33))), Err(TooLong), "octets count");
    // A-labels may be longer than what they stand for.
    let domain = |labels| vec!["ö"; labels].join(".");
    assert!(parse(&format!("ann@{}", domain(31))).is_ok());
    assert_eq!(parse(&format!("anna.anna@{}", domain(31))), Err(TooLong), "257 octets as it would be sent");
    assert_eq!(parse(&format!("a@{}", domain(32))), Err(Domain), "and 255 in the domain alone");
}

#[test]
fn what_is_not_utf8_is_refused() {
    for local in [
        &b"\xff"[..],
        b"a\xc3",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\"\xe9\"",
        b"\xf4\x90\x80\x80",
    ] {
        let path = [local, b"@example.com>"].concat();
        assert_eq!(Address::parse_prefix(Alphabet::Utf8, &path), Err(AddressError::NotUtf8));
        assert_eq!(Address::parse_prefix(Alphabet::Ascii, &path), Err(AddressError::NotAscii));
    }
    assert_eq!(Address::parse_prefix(Alphabet::Utf8, b"a@b\xfc>"), Err(AddressError::NotUtf8));
    assert_eq!(Address::parse_prefix(Alphabet::Ascii, b"a@b\xfc>"), Err(AddressError::NotAscii));
}

/// Text of letters of many scripts, marks, syntax, its look-alikes, and anything else.
fn a_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select("aZ0öÖñßςΣдשع用户ééपाल\u{301}\u{308}\u{323}😀".chars().collect::<Vec<_>>()),
        3 => prop::sample::select(".-_\"\\@ <>,;:[]".chars().collect::<Vec<_>>()),
        1 => prop::sample::select("\u{ff20}\u{ff0e}\u{3002}\u{200d}\u{200b}\u{202e}\u{ad}\u{85}\u{338}".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
    ];
    vec(piece, 0..10).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// What is sent on reads as the address that it was, in the mode that it needs.
    #[test]
    fn the_canonical_form_is_canonical(local in a_text(), domain in a_text(), quote in any::<bool>()) {
        let local = if quote { format!("\"{}\"", local.replace(['"', '\\'], "")) } else { local };
        let Ok(address) = parse(&format!("{local}@{domain}.example")) else { return Ok(()) };
        let text = address.as_str();
        prop_assert_eq!(&parse(text), &Ok(address.clone()));
        prop_assert_eq!(address.is_ascii(), Address::parse(text).is_ok());
        prop_assert!(address.domain().is_ascii() && !address.domain().contains(char::is_uppercase));
        prop_assert!(text.len() <= 254 && address.local().len() <= 66);
        prop_assert_eq!(&format!("{}@{}", address.local(), address.domain()), text);
        // Nothing to be seen as another address: no controls, and no second @ outside of quotes, however it is mapped.
        prop_assert!(!text.contains(char::is_control));
        let ats = text.matches(['@', '\u{ff20}', '\u{fe6b}']).count();
        prop_assert!(text.starts_with('"') || ats == 1);
    }

    /// ASCII is read alike in both modes.
    #[test]
    fn utf8_only_adds(text in "[ -~]{0,8}@[ -~]{0,8}") {
        prop_assert_eq!(parse(&text), Address::parse(&text));
    }

    /// No octets make it panic, and what it took of them is what it read.
    #[test]
    fn any_octets_are_answered(octets in vec(prop_oneof![any::<u8>(), Just(b'@'), Just(b'a'), Just(0xc3), Just(0xb6)], 0..30)) {
        for alphabet in [Alphabet::Ascii, Alphabet::Utf8] {
            if let Ok((address, used)) = Address::parse_prefix(alphabet, &octets) {
                prop_assert_eq!(Address::parse_in(alphabet, std::str::from_utf8(&octets[..used]).unwrap()), Ok(address));
            }
        }
    }
}
