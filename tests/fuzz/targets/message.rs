//! See tests/it/properties/message.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sidepost_fuzz::properties::message::holds(input));
