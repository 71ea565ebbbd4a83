//! sidepost: mail comes in by SMTP, goes out through a REST API, and the true reply comes back.
//!
//! ```text
//! client ─bytes→ smtp: codec, session, connection ─Transaction→ relay: submit
//!    message (mime) → controls → sender → plan → provider.render → limiter, breaker → http → provider.classify
//!    outcome::settle → Reply ─→ smtp ─→ client
//! ```
//!
//! The promises: 250 means the API took it. The envelope decides who gets mail. Nothing is dropped silently. What may
//! have been sent is never blindly sent again. The reply comes within one deadline. Everything a client can grow has a
//! limit. No open relay by accident, no secret in a log. A bug is temporary: 451, never a bounce.
//!
//! Rooms, high to low; each imports only from below (`tests/it/house.rs` checks it):
//! `main` · `cli` · `app` · `users` · `smtp`, `web`, `sandbox` · `relay` · `plan`, `report` · `provider` · `config` ·
//! `controls`, `sender`, `access`, `route` · `outcome`, `store` · `suppression` · `feedback` · `message`, `envelope`,
//! `pattern` · `seats` · `mime`, `address`, `reply`, `secret`, `password`, `recent`, `span`, `network`, `files`, `metrics`.

pub mod access;
pub mod address;
pub mod app;
pub mod cli;
pub mod config;
pub mod controls;
pub mod envelope;
pub mod feedback;
pub mod files;
pub mod message;
pub mod metrics;
pub mod mime;
pub mod network;
pub mod outcome;
pub mod password;
pub mod pattern;
pub mod plan;
pub mod provider;
pub mod recent;
pub mod relay;
pub mod reply;
pub mod report;
pub mod route;
pub mod sandbox;
pub mod seats;
pub mod secret;
pub mod sender;
pub mod smtp;
pub mod span;
pub mod store;
pub mod suppression;
pub mod users;
pub mod web;
