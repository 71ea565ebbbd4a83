//! See tests/it/properties/sasl.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sidepost_fuzz::properties::sasl::holds(input));
