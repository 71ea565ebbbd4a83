//! The faults, as data: what the API does on the wire, and what the client is told.

use super::api::Step::{self, *};

/// Where the API seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Http,
    /// `https://`; the steps begin below TLS.
    Https,
    /// Nobody listens.
    Refused,
    /// The host name does not exist.
    NoName,
}

/// A fault that lasts.
#[derive(Clone, Copy)]
pub struct Fault {
    pub name: &'static str,
    pub door: Door,
    /// What happens on each connection; it is closed behind the last step.
    pub steps: &'static [Step],
    /// Whether the mail is so large that it does not fit into the sockets' buffers.
    pub large: bool,
    /// The reply, and how many requests it took. More than one: had the fault been gone by the second, it were 250.
    pub reply: (&'static str, usize),
    /// The same for NexusProMail, where it differs.
    pub nexus: Option<(&'static str, usize)>,
}

const fn fault(name: &'static str, steps: &'static [Step], reply: &'static str, attempts: usize) -> Fault {
    Fault { name, door: Door::Http, steps, large: false, reply: (reply, attempts), nexus: None }
}

const fn at(door: Door, fault: Fault) -> Fault {
    Fault { door, ..fault }
}

const fn large(fault: Fault) -> Fault {
    Fault { large: true, ..fault }
}

const fn nexus(reply: &'static str, attempts: usize, fault: Fault) -> Fault {
    Fault { nexus: Some((reply, attempts)), ..fault }
}

pub const OK: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 19\r\n\r\n{\"message_id\":\"m1\"}";

pub const FAULTS: &[Fault] = &[
    fault("none", &[Read, Take, Say(OK)], "250 2.0.0", 1),
    // === No connection ===
    at(Door::Refused, fault("connection refused", &[], "451 4.4.1", 4)),
    at(Door::NoName, fault("host name does not resolve", &[], "451 4.4.3", 4)),
    at(Door::Https, fault("TLS: a certificate that nobody signed", &[Handshake], "451 4.7.5", 1)),
    at(Door::Https, fault("TLS: HTTP in the clear", &[Say("HTTP/1.1 400 Bad\r\n\r\n")], "451 4.7.5", 1)),
    at(Door::Https, fault("TLS: closed in the handshake", &[], "451 4.4.1", 4)),
    at(Door::Https, fault("TLS: reset in the handshake", &[Reset], "451 4.4.1", 4)),
    at(Door::Https, fault("TLS: silence in the handshake", &[Silence], "451 4.4.1", 3)),
    // === Before the request has left whole ===
    large(fault("closed within the request", &[ReadHead], "451 4.4.2", 4)),
    large(fault("reset within the request", &[ReadHead, Reset], "451 4.4.2", 4)),
    large(fault("silence within the request", &[ReadHead, Silence], "451 4.4.2", 2)),
    large(fault(
        "413 within the request",
        &[ReadHead, Say("HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n"), Drain],
        "552 5.3.4",
        1,
    )),
    // === After it, and before the answer ===
    fault("closed after the request", &[Read], "451 4.4.2", 1),
    fault("closed after the request, taken", &[Read, Take], "451 4.4.2", 1),
    fault("reset after the request", &[Read, Reset], "451 4.4.2", 1),
    fault("reset after the request, taken", &[Read, Take, Reset], "451 4.4.2", 1),
    fault("silence after the request", &[Read, Silence], "451 4.4.2", 1),
    fault("silence after the request, taken", &[Read, Take, Silence], "451 4.4.2", 1),
    fault("closed in the status line", &[Read, Say("HTTP/1.1 20")], "451 4.4.2", 1),
    fault("closed in the header, taken", &[Read, Take, Say("HTTP/1.1 202 Accepted\r\nserver: x\r\n")], "451 4.4.2", 1),
    fault("slow drip of the status line, taken", &[Read, Take, Drip(OK)], "451 4.4.2", 1),
    fault("not HTTP", &[Read, Say("SSH-2.0-OpenSSH_9.9\r\n")], "451 4.4.2", 1),
    fault("endless header, taken", &[Read, Take, Say("HTTP/1.1 202 Accepted\r\nx: "), Flood], "451 4.4.2", 1),
    // === 1xx and redirects ===
    fault("100 and 103 before the answer", &[Read, Say(HINTS), Take, Say(OK)], "250 2.0.0", 1),
    fault("103 and silence", &[Read, Say(HINTS), Silence], "451 4.4.2", 1),
    fault("101", &[Read, Say("HTTP/1.1 101 Other\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")], "451 4.3.0", 1),
    fault("301", &[Read, Say("HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:9/\r\n\r\n")], "451 4.3.5", 1),
    fault("302", &[Read, Say("HTTP/1.1 302 Moved\r\nlocation: http://127.0.0.1:9/\r\n\r\n")], "451 4.3.5", 1),
    fault("307", &[Read, Say("HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:9/\r\n\r\n")], "451 4.3.5", 1),
    fault("308", &[Read, Say("HTTP/1.1 308 Moved\r\nlocation: http://127.0.0.1:9/\r\n\r\n")], "451 4.3.5", 1),
    // === Success, in a way ===
    fault("202, nothing in it", &[Read, Take, Say("HTTP/1.1 202 A\r\ncontent-length: 0\r\n\r\n")], "250 2.0.0", 1),
    fault("202, closed in the body", &[Read, Take, Say(CUT)], "250 2.0.0", 1),
    fault("202, reset in the body", &[Read, Take, Say(CUT), Reset], "250 2.0.0", 1),
    fault("202, closed in a chunk", &[Read, Take, Say(CHUNK)], "250 2.0.0", 1),
    fault("202, silence in the body", &[Read, Take, Say(CUT), Silence], "250 2.0.0", 1),
    fault("202, slow drip of the body", &[Read, Take, Say(LONG), Drip("{\"message_id\":\"m1\"}")], "250 2.0.0", 1),
    fault("202, endless JSON", &[Read, Take, Say("HTTP/1.1 202 A\r\n\r\n{\"message_id\":\""), Flood], "250 2.0.0", 1),
    fault("200, endless page", &[Read, Say("HTTP/1.1 200 Ok\r\n\r\n<html>"), Flood], "451 4.3.5", 1),
    fault("200, a page", &[Read, Say("HTTP/1.1 200 Ok\r\n\r\n<html></html>")], "451 4.3.5", 1),
    fault("200, an error in it", &[Read, Say(ERROR)], "451 4.3.0", 1),
    // === Too many requests, and not now ===
    nexus("451 4.4.5", 1, fault("429", &[Read, Say("HTTP/1.1 429 Slow\r\n\r\n")], "451 4.4.5", 4)),
    fault("429, 2 s", &[Read, Say("HTTP/1.1 429 Slow\r\nretry-after: 2\r\n\r\n")], "451 4.4.5", 4),
    fault("429, 10 min", &[Read, Say("HTTP/1.1 429 Slow\r\nretry-after: 600\r\n\r\n")], "451 4.4.5", 1),
    nexus("451 4.4.5", 1, fault("429, soon", &[Read, Say(SOON)], "451 4.4.5", 4)),
    fault("503", &[Read, Say("HTTP/1.1 503 No\r\n\r\n")], "451 4.3.2", 4),
    fault("503, 2 s", &[Read, Say("HTTP/1.1 503 No\r\nretry-after: 2\r\n\r\n")], "451 4.3.2", 4),
    fault("503, 10 min", &[Read, Say("HTTP/1.1 503 No\r\nretry-after: 600\r\n\r\n")], "451 4.3.2", 1),
    fault("503, closed in the body", &[Read, Say("HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\n{")], "451 4.3.2", 4),
    fault("408", &[Read, Say("HTTP/1.1 408 No\r\n\r\n")], "451 4.3.2", 4),
    fault("421", &[Read, Say("HTTP/1.1 421 No\r\n\r\n")], "451 4.3.2", 4),
    fault("425", &[Read, Say("HTTP/1.1 425 No\r\n\r\n")], "451 4.3.2", 4),
    // === It failed, and may have taken it ===
    fault("500", &[Read, Say("HTTP/1.1 500 No\r\n\r\n")], "451 4.3.0", 1),
    fault("500, taken", &[Read, Take, Say("HTTP/1.1 500 No\r\n\r\n")], "451 4.3.0", 1),
    fault("501", &[Read, Say("HTTP/1.1 501 No\r\n\r\n")], "451 4.3.0", 1),
    fault("502, taken", &[Read, Take, Say("HTTP/1.1 502 No\r\n\r\n")], "451 4.4.2", 1),
    fault("504, taken", &[Read, Take, Say("HTTP/1.1 504 No\r\n\r\n")], "451 4.4.2", 1),
    fault("409", &[Read, Say("HTTP/1.1 409 No\r\n\r\n")], "451 4.3.0", 1),
    fault("299, a number nobody knows", &[Read, Take, Say("HTTP/1.1 299 X\r\n\r\n")], "250 2.0.0", 1),
    fault("600, a number nobody knows", &[Read, Say("HTTP/1.1 600 X\r\n\r\n")], "451 4.3.0", 1),
    // === The operator has to act ===
    fault("401", &[Read, Say("HTTP/1.1 401 No\r\n\r\n")], "451 4.3.5", 1),
    fault("403", &[Read, Say("HTTP/1.1 403 No\r\n\r\n")], "451 4.3.5", 1),
    fault("402", &[Read, Say("HTTP/1.1 402 No\r\n\r\n")], "451 4.3.2", 1),
    fault("404", &[Read, Say("HTTP/1.1 404 No\r\n\r\n")], "451 4.3.5", 1),
    fault("405", &[Read, Say("HTTP/1.1 405 No\r\n\r\n")], "451 4.3.5", 1),
    fault("410", &[Read, Say("HTTP/1.1 410 No\r\n\r\n")], "451 4.3.5", 1),
    fault("415", &[Read, Say("HTTP/1.1 415 No\r\n\r\n")], "451 4.3.5", 1),
    // === The mail is at fault ===
    fault("400", &[Read, Say("HTTP/1.1 400 No\r\n\r\n")], "554 5.6.0", 1),
    fault("422", &[Read, Say("HTTP/1.1 422 No\r\n\r\n")], "554 5.6.0", 1),
    fault("413", &[Read, Say("HTTP/1.1 413 No\r\nretry-after: 600\r\n\r\n")], "552 5.3.4", 1),
    fault("418", &[Read, Say("HTTP/1.1 418 No\r\n\r\n")], "554 5.0.0", 1),
];

const HINTS: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
const CUT: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n{\"message_";
const CHUNK: &str = "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n40\r\n{\"message_";
const LONG: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 19\r\n\r\n";
const SOON: &str = "HTTP/1.1 429 Slow\r\nretry-after: soon\r\nx-ratelimit-reset: 1\r\n\r\n";
const ERROR: &str = "HTTP/1.1 200 Ok\r\n\r\n{\"error\":\"e\",\"message\":\"m\",\"errors\":[{\"message\":\"m\"}]}";
