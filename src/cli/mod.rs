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
mod completions;
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

use std::fmt::Display;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::address::{Address, Alphabet};
use crate::app::{self, Fault};
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

/// What each does, says its own file: the first line is the list's, the rest its `--help`.
#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Sandbox(sandbox::Sandbox),
    Check(check::Check),
    Render(render::Render),
    Send(send::Send),
    Replies(replies::Replies),
    Controls(controls::Controls),
    Health(health::Health),
    Suppressions(admin::suppressions::Suppressions),
    Messages(admin::messages::Messages),
    Events(admin::events::Events),
    Webhooks(setup::webhooks::Webhooks),
    Domains(setup::domains::Domains),
    Keys(setup::keys::Keys),
    Stats(setup::stats::Stats),
    HashPassword(hash_password::HashPassword),
    Completions(completions::Completions),
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
        Self::mistakes(problems)
    }

    fn mistakes(mistakes: &[impl Display]) -> Self {
        let lines: Vec<String> = mistakes.iter().map(|mistake| format!("  {mistake}")).collect();
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
        load(&self.layers())
    }
}

/// A configuration that a relay can run with.
fn load(layers: &Layers) -> Result<Loaded, Failure> {
    let loaded = layers.load().map_err(|problems| Failure::config(&problems))?;
    let unusable = app::unusable(&loaded.config);
    if unusable.is_empty() { Ok(loaded) } else { Err(Failure::mistakes(&unusable)) }
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

/// What is in a file, or comes from standard input (`-`); at most so many octets.
fn read_input(file: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().take(most + 1).read_to_end(&mut octets)?;
    } else {
        std::fs::File::open(file)?.take(most + 1).read_to_end(&mut octets)?;
    }
    if octets.len() as u64 > most {
        let why = format!("it is larger than {} MiB", most >> 20);
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why));
    }
    Ok(octets)
}

/// One of a few words as an argument, which help and completions name.
fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let names = PossibleValuesParser::new(all.iter().map(|one| name(*one)));
    names.try_map(move |text| all.iter().copied().find(|one| name(*one) == text).ok_or("is none of them"))
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
        Command::Completions(command) => command.run(),
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
