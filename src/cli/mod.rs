//! The commands, one file each; thin.

/// `print!` for a reader that may leave: `sidepost check | head` is no bug.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::write_out(format_args!($($words)*)) };
}
/// The same with a line end.
macro_rules! sayln {
    ($($words:tt)*) => { say!("{}\n", format_args!($($words)*)) };
}

mod account;
mod admin;
mod check;
mod controls;
mod hash_password;
mod health;
mod render;
mod replies;
mod sandbox;
mod send;
mod serve;
mod setup;
mod table;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Parser, Subcommand};

use crate::address::{Address, Alphabet};
use crate::app::Fault;
use crate::config::layers::{Layers, Loaded, Problem};

/// Exit code for a wrong command line (sysexits.h EX_USAGE).
const USAGE: u8 = 64;
/// Exit code for a mail that would be refused (EX_DATAERR).
const REFUSED: u8 = 65;
/// Exit code for a wrong configuration (EX_CONFIG).
const CONFIG: u8 = 78;

/// Takes mail by SMTP, sends it through a REST API, and answers with the reply that says what really happened.
#[derive(Debug, Parser)]
#[command(
    name = "sidepost",
    version,
    max_term_width = 100,
    after_help = "Start here: `sidepost sandbox` needs no account and no file.\nWith an account: NEXUSPROMAIL_API_KEY=… or SCAISEND_API_KEY=… sidepost serve"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay with your account
    Serve(serve::Serve),
    /// Run the relay with a built-in stand-in for the API, and a page that shows what it was sent
    Sandbox(sandbox::Sandbox),
    /// Validate the configuration and print what is in force, where it came from, and the time budget
    Check(check::Check),
    /// Print the exact API requests that a mail becomes, who gets it as what, and what is lost
    Render(render::Render),
    /// Send a test mail through the running relay and show the dialogue
    Send(send::Send),
    /// Print the table of outcomes and SMTP replies
    Replies(replies::Replies),
    /// Print which headers of a mail ask the API for what: templates, tags, metadata, tracking
    Controls(controls::Controls),
    /// Ask the running relay whether it is alive (for HEALTHCHECK in an image without a shell)
    Health(health::Health),
    /// List, add, remove, import and export the addresses that are not sent to
    Suppressions(admin::suppressions::Suppressions),
    /// Tell what became of a mail
    Messages(admin::messages::Messages),
    /// List what the providers reported, and work through it again
    Events(admin::events::Events),
    /// Register, list and renew the provider's webhooks, whose events tell what became of mails
    Webhooks(setup::webhooks::Webhooks),
    /// Add the domains that you send from, with their DNS records, and have them verified (ScaiSend)
    Domains(setup::domains::Domains),
    /// Make an API key that can send and no more (ScaiSend)
    Keys(setup::keys::Keys),
    /// Print the provider's daily numbers: delivered, bounced, called spam (ScaiSend)
    Stats(setup::stats::Stats),
    /// Hash a password (from standard input) for smtp.auth.users or the users file
    HashPassword(hash_password::HashPassword),
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
struct ConfigArgs {
    /// Configuration file [default: $SIDEPOST_CONFIG, else /etc/sidepost/sidepost.toml if it is there]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, above file and environment: --set smtp.max_recipients=50
    #[arg(long, short, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// A failed command: what to print, and the exit code.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    fn config(problems: &[Problem]) -> Self {
        let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
        let count = if lines.len() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", lines.len()) };
        Self { message: format!("the configuration has {count}:\n{}", lines.join("\n")), code: CONFIG }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let failure = Self::new(fault.message);
        if fault.is_config { failure.with_code(CONFIG) } else { failure }
    }
}

impl ConfigArgs {
    fn layers(&self) -> Layers {
        Layers::of_process(self.config.clone(), self.set.clone())
    }

    fn load(&self) -> Result<Loaded, Failure> {
        self.layers().load().map_err(|problems| Failure::config(&problems))
    }
}

/// Whether the command does more than print, so that it goes on without a reader.
static ACTS: AtomicBool = AtomicBool::new(false);
/// Whether the reader of its output has left.
static IS_UNREAD: AtomicBool = AtomicBool::new(false);

/// Says that what begins now is to be ended also when nobody reads the output any more: the exit code says how it ended.
fn acts() {
    ACTS.store(true, Ordering::Relaxed);
}

/// For what is printed once: an error if nobody can have read it.
fn was_read(what: &str) -> Result<(), Failure> {
    let is_unread = std::io::stdout().flush().is_err() || IS_UNREAD.load(Ordering::Relaxed);
    if is_unread { Err(Failure::new(format!("nobody read the output: {what}"))) } else { Ok(()) }
}

/// Writes to standard output. A reader that has enough ends the command, if it only prints; a disk that is full is an error.
fn write_out(words: std::fmt::Arguments<'_>) {
    if let Err(error) = std::io::stdout().write_fmt(words) {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            IS_UNREAD.store(true, Ordering::Relaxed);
            if ACTS.load(Ordering::Relaxed) {
                return;
            }
            std::process::exit(0);
        }
        let _ = writeln!(std::io::stderr(), "sidepost: the output cannot be written: {error}");
        std::process::exit(1);
    }
}

/// Something to know that is not the output: for people, also where the output is for a script.
fn note(text: &str) {
    // Nobody may listen there, which is no reason to leave the work half done.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A mail address as an argument, as SMTP would take it.
fn address(text: &str) -> Result<Address, String> {
    Address::parse_in(Alphabet::Utf8, text).map_err(|e| e.to_string())
}

/// A mail address as an argument, however it is written.
fn any_address(text: &str) -> Result<Address, String> {
    Address::from_words(text).map_err(|e| e.to_string())
}

/// Parses the command line, runs the command, and says the exit code.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Serve(command) => command.run(),
        Command::Sandbox(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Render(command) => command.run(),
        Command::Send(command) => command.run(),
        Command::Replies(command) => command.run(),
        Command::Controls(command) => command.run(),
        Command::Health(command) => command.run(),
        Command::Suppressions(command) => command.run(),
        Command::Messages(command) => command.run(),
        Command::Events(command) => command.run(),
        Command::Webhooks(command) => command.run(),
        Command::Domains(command) => command.run(),
        Command::Keys(command) => command.run(),
        Command::Stats(command) => command.run(),
        Command::HashPassword(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                note(&format!("sidepost: {}", failure.message));
            }
            ExitCode::from(failure.code)
        }
    }
}
