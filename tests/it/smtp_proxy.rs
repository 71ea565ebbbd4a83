//! The PROXY header: what is one, whom it names, and that not an octet of the mail goes with it.

use std::io;
use std::net::IpAddr;

use proptest::prelude::*;
use sidepost::smtp::proxy;
use tokio::io::AsyncReadExt;

/// What is read, and what is left.
fn read(octets: &[u8]) -> (io::Result<Option<IpAddr>>, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut stream = octets;
        let found = proxy::read(&mut stream).await;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        (found, rest)
    })
}

fn version_2(version_and_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([version_and_command, family]);
    header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    header.extend(body);
    header
}

const FOUR: &[u8] = &[192, 0, 2, 10, 127, 0, 0, 1, 0x9c, 0x40, 0, 25];

fn six() -> Vec<u8> {
    let of = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    [&of("2001:db8::1")[..], &of("::1"), &[0x9c, 0x40, 0, 25]].concat()
}

#[test]
fn a_header_names_the_client_and_takes_nothing_else() {
    let with_tlvs = [FOUR, b"\x04\x00\x03abc\x01\x00\x02h2"].concat();
    for (header, client) in [
        (b"PROXY TCP4 192.0.2.10 127.0.0.1 40000 25\r\n".to_vec(), Some("192.0.2.10")),
        (b"PROXY TCP6 2001:db8::1 ::1 40000 25\r\n".to_vec(), Some("2001:db8::1")),
        (b"PROXY TCP6 ::ffff:192.0.2.10 ::1 40000 25\r\n".to_vec(), Some("192.0.2.10")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":")).into_bytes(), None),
        (version_2(0x21, 0x11, FOUR), Some("192.0.2.10")),
        (version_2(0x21, 0x21, &six()), Some("2001:db8::1")),
        (version_2(0x21, 0x11, &with_tlvs), Some("192.0.2.10")),
        (version_2(0x20, 0x00, b""), None),
        (version_2(0x20, 0x11, FOUR), None),
        (version_2(0x21, 0x00, b""), None),
    ] {
        let shown = header.escape_ascii().to_string();
        let (found, rest) = read(&[&header[..], b"EHLO a\r\n"].concat());
        assert_eq!(found.expect(&shown), client.map(|ip| ip.parse().unwrap()), "{shown}");
        assert_eq!(rest, b"EHLO a\r\n", "{shown}");
        for end in 0..header.len() {
            assert_eq!(read(&header[..end]).0.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{shown} {end}");
        }
    }
}

#[test]
fn anything_else_is_refused() {
    let long = format!("PROXY TCP4 192.0.2.10 127.0.0.1 40000 25 {}\r\n", "x".repeat(200));
    let endless = format!("PROXY TCP4 {}", "1".repeat(300));
    for header in [
        &b"EHLO x\r\n"[..],
        b"\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY\r\n",
        b"proxy TCP4 192.0.2.10 127.0.0.1 1 2\r\n",
        b"PROXY TCP4 999.0.2.10 127.0.0.1 40000 25\r\n",
        b"PROXY TCP4 192.0.2.10 127.0.0.1 70000 25\r\n",
        b"PROXY TCP4 192.0.2.10 127.0.0.1 40000\r\n",
        b"PROXY TCP4 192.0.2.10 127.0.0.1 +1 25\r\n",
        b"PROXY TCP4 -1.2.3.4 127.0.0.1 -5 25\r\n",
        b"PROXY TCP6 192.0.2.10 127.0.0.1 1 2\r\n",
        b"PROXY TCP5 a b 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4 192.0.2.10 127.0.0.1 40000 25\n\r\n",
        long.as_bytes(),
        endless.as_bytes(),
        &version_2(0x11, 0x11, FOUR),
        &version_2(0x22, 0x11, FOUR),
        &version_2(0x21, 0x12, FOUR),
        &version_2(0x21, 0x11, &FOUR[..11]),
        &version_2(0x21, 0x21, FOUR),
        &version_2(0x21, 0x11, &[0; 5000]),
    ] {
        let shown = header.escape_ascii().to_string();
        let (found, _) = read(&[header, b"EHLO a\r\nMAIL FROM:<a@example.com>\r\n"].concat());
        assert_eq!(found.expect_err(&shown).kind(), io::ErrorKind::InvalidData, "{shown}");
    }
}

proptest! {
    #[test]
    fn no_octets_are_too_much(begin in 0_usize..3, octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let begin = [&b""[..], b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"][begin];
        let _ = read(&[begin, &octets].concat());
    }
}
