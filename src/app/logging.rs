//! The log: where it goes, and in which form.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};

/// Logs go to standard error: text on a terminal, JSON otherwise, unless the configuration says which.
pub(super) fn start(log: &Log) -> Result<(), String> {
    let json = match log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let level = match log.level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    // Only our own events: the HTTP client's would show headers and bodies at the lower levels.
    let filter = Targets::new().with_target("sidepost", level);
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        registry.with(format.json().flatten_event(true).with_current_span(false)).try_init()
    } else {
        registry.with(format.with_ansi(std::io::stderr().is_terminal())).try_init()
    };
    started.map_err(|e| format!("the log cannot be set up: {e}"))
}
