//! Every test of the project, in one binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod binary;
mod binary_controls;
mod binary_door;
mod config;
mod controls;
mod corpus;
mod faults;
mod fuzz;
mod house;
mod http_client;
mod laws;
mod laws_of_mail;
mod losses;
mod messages;
mod mime_limits;
mod properties;
mod providers;
mod raw_http;
mod readme;
mod routes;
mod sandbox;
mod smtp_codec;
mod smtp_command;
mod smtp_connection;
mod smtp_door;
mod smtp_edge;
mod smtp_proxy;
mod smtp_session;
mod smtp_world;
mod transcripts;
mod users;
mod utf8_addresses;
mod web;
mod world;
