//! sidepost: mail comes in by SMTP, goes out through a REST API, and the true reply comes back.
pub mod address;
pub mod config;
pub mod envelope;
pub mod message;
pub mod metrics;
pub mod outcome;
pub mod relay;
pub mod reply;
pub mod sandbox;
pub mod secret;
pub mod web;
