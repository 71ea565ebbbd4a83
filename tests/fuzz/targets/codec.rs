//! See tests/it/properties/codec.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sidepost_fuzz::properties::codec::holds(input));
