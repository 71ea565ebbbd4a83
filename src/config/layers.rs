//! The layers of the configuration.
