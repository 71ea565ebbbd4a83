//! Which addresses are one client.

use std::net::{IpAddr, Ipv6Addr};

/// The client that an address stands for when clients are counted: of IPv6 the network, since whoever has one address has
/// all of its /64 (RFC 4291 §2.5.4); an IPv4 address in IPv6's clothes is that one.
pub fn client_network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

/// Whether the host of a URL is this machine: `localhost`, or a loopback address (an IPv6 one in brackets, RFC 3986 §3.2.2).
pub fn is_to_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
