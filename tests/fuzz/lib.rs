//! What the targets hold their inputs to: the same files that `cargo test` runs over the seeds and regression cases.

#[path = "../it/properties/mod.rs"]
pub mod properties;
