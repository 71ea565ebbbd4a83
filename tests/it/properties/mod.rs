//! What holds for every input, whoever makes it up: `cargo test` runs these over seeds and regression cases, and the fuzz
//! targets of tests/fuzz over all that they can think of.

pub mod address;
pub mod codec;
pub mod command;
pub mod event;
pub mod message;
pub mod reply;
pub mod sasl;
pub mod session;

/// Panics where an input breaks what is stated.
pub type Property = fn(&[u8]);

/// Each fuzz target by its name.
pub const TARGETS: &[(&str, Property)] = &[
    ("address", address::holds),
    ("codec", codec::holds),
    ("command", command::holds),
    ("event", event::holds),
    ("message", message::holds),
    ("sasl", sasl::holds),
    ("session", session::holds),
];

/// The first `N` octets, which steer the test, and the rest, which is the input. Missing ones are 0.
pub fn steered<const N: usize>(input: &[u8]) -> ([u8; N], &[u8]) {
    let (head, rest) = input.split_at(N.min(input.len()));
    let mut steer = [0; N];
    steer[..head.len()].copy_from_slice(head);
    (steer, rest)
}
