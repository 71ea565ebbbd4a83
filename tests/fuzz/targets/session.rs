//! See tests/it/properties/session.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sidepost_fuzz::properties::session::holds(input));
