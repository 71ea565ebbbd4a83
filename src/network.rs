//! Which addresses are one client, and which are this machine's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// Whether the `Host` of a request (RFC 9110 §7.2), with its port or without, is this machine. A page in a browser on this
/// machine whose name was made to point here (DNS rebinding) says its own name there.
pub fn is_for_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    is_to_this_machine(name)
}

/// Where a listener is reached from this machine: one of all addresses on loopback.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
