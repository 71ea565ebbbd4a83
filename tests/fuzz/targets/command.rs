//! See tests/it/properties/command.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sidepost_fuzz::properties::command::holds(input));
