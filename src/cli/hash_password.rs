//! `hash-password`: a password becomes what `smtp.auth.users` and the users file hold.

use std::io::{IsTerminal, Read};

use clap::Args;

use super::{Failure, USAGE};
use crate::password::Hash;

/// The longest password: one line of AUTH holds no more.
const LONGEST: u64 = 4096;

/// Hash a password (from standard input) for smtp.auth.users or the users file
///
/// One line; its line end does not count. Prints its argon2id hash:
///
/// printf %s 'the password' | sidepost hash-password
#[derive(Debug, Args)]
pub struct HashPassword {}

impl HashPassword {
    // A command is run with what it was given, and this one is given nothing.
    #[allow(clippy::unused_self)]
    pub(super) fn run(&self) -> Result<(), Failure> {
        let wrong = |message: &str| Err(Failure::new(message).with_code(USAGE));
        if std::io::stdin().is_terminal() {
            super::note("The password, which will be seen, and Enter; then Ctrl-D:");
        }
        let mut octets = Vec::new();
        let read = std::io::stdin().take(LONGEST + 1).read_to_end(&mut octets);
        read.map_err(|e| Failure::new(format!("standard input cannot be read: {e}")))?;
        if octets.len() as u64 > LONGEST {
            return wrong("the password is longer than a client could send");
        }
        let password = octets.strip_suffix(b"\n").unwrap_or(&octets);
        let password = password.strip_suffix(b"\r").unwrap_or(password);
        if password.is_empty() {
            return wrong("no password on standard input");
        }
        if password.iter().any(|octet| matches!(octet, b'\n' | b'\r' | 0)) {
            return wrong("standard input holds more than one line, or a NUL, which no client can send");
        }
        let hash = Hash::of(password).map_err(Failure::new)?;
        sayln!("{}", hash.expose());
        Ok(())
    }
}
