//! The PROXY protocol, versions 1 and 2: whom a trusted proxy speaks for.

use std::io;
use std::net::IpAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// The shortest header of version 1: `PROXY UNKNOWN` and its line end.
const SHORTEST: usize = 15;
/// The longest header of version 1.
const LONGEST: usize = 107;
/// Version 2 up to and with its length.
const FIXED: usize = 16;
/// The longest header of version 2 that is read: addresses, and what proxies add in TLVs.
const MOST: usize = 4096;

/// Reads a header and not one octet more. The client's address; `None` where the proxy speaks for itself (LOCAL, its
/// health checks) or does not know (UNKNOWN), and the socket's own address stands.
///
/// # Errors
/// `InvalidData` for anything else than a header; whatever reading says.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<IpAddr>> {
    let mut header = Vec::with_capacity(LONGEST);
    loop {
        match missing(&header) {
            Some(0) => return client(&header),
            Some(octets) => {
                let held = header.len();
                header.resize(held + octets, 0);
                stream.read_exact(header.get_mut(held..).unwrap_or_default()).await?;
            }
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// How many octets the header has yet at least; `None` if it is none.
fn missing(header: &[u8]) -> Option<usize> {
    let begins = |with: &[u8]| header.iter().zip(with).all(|(a, b)| a == b);
    if begins(WORD) {
        return match header.len() {
            len if len < WORD.len() => Some(WORD.len() - len),
            len if len < SHORTEST => Some(SHORTEST - len),
            _ if header.ends_with(b"\r\n") => Some(0),
            len if header.ends_with(b"\r") => (len < LONGEST).then_some(1),
            len => (len + 2 <= LONGEST).then_some(2),
        };
    }
    if !begins(SIGNATURE) {
        return None;
    }
    match (header.len(), header.get(FIXED - 2..FIXED)) {
        (len, Some(&[high, low])) => {
            let whole = FIXED + usize::from(u16::from_be_bytes([high, low]));
            (whole <= MOST).then_some(whole.saturating_sub(len))
        }
        (len, _) => Some(FIXED - len),
    }
}

fn client(header: &[u8]) -> io::Result<Option<IpAddr>> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let (parsed, octets) = ProxyHeader::parse(header, ParseConfig::default()).map_err(|_| wrong())?;
    // Where the crate is lenient: a sign before a port, letters behind UNKNOWN, a datagram's address.
    let lenient = header.starts_with(WORD) && (header.contains(&b'+') || lax_unknown(header));
    let datagram = parsed.proxied_address().is_some_and(|address| address.protocol != Protocol::Stream);
    if octets != header.len() || lenient || datagram {
        return Err(wrong());
    }
    Ok(parsed.proxied_address().map(|address| address.source.ip().to_canonical()))
}

fn lax_unknown(header: &[u8]) -> bool {
    let rest = header.strip_prefix(b"PROXY UNKNOWN").and_then(<[u8]>::first);
    rest.is_some_and(|octet| !matches!(octet, b' ' | b'\r'))
}
