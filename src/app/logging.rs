//! The log: where it goes, and in which form.

use std::io::IsTerminal;

use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};

/// Most lines that wait to be written: some 10 MB.
const MOST_LINES: usize = 20_000;

/// The log, as long as it is kept: dropped, it writes what waits, for a second at most.
pub(super) struct Logging {
    lost: ErrorCounter,
    _writer: WorkerGuard,
}

impl Logging {
    /// How many lines were lost. Whoever reads the log slowly, or not at all, holds up no mail.
    pub(super) fn lost(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let lost = self.lost.clone();
        move || lost.dropped_lines() as u64
    }
}

/// Logs go to standard error: text on a terminal, JSON otherwise, unless the configuration says which.
pub(super) fn start(log: &Log) -> Result<Logging, String> {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MOST_LINES).thread_name("log").finish(std::io::stderr());
    let logging = Logging { lost: writer.error_counter(), _writer: guard };
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
    let format = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        registry.with(format.json().flatten_event(true).with_current_span(false)).try_init()
    } else {
        registry.with(format.with_ansi(std::io::stderr().is_terminal())).try_init()
    };
    started.map(|()| logging).map_err(|e| format!("the log cannot be set up: {e}"))
}
