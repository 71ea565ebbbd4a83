//! Command lines: a line is understood or refused, and what is understood can be said again.

use sidepost::address::Address;
use sidepost::smtp::command::{Chunk, Command, Utf8, parse};

use super::{address, reply};

const HOSTNAME: &str = "relay.test";

/// A refusal is a lawful 5yz; a command holds nothing that it could not hold if it were written anew; and neither the
/// verb's case nor white space behind the line changes it.
pub fn holds(line: &[u8]) {
    for utf8 in [Utf8::NotOffered, Utf8::Offered, Utf8::InUse] {
        holds_where(line, utf8);
    }
}

/// The same, where addresses beyond ASCII are so agreed on.
fn holds_where(line: &[u8], utf8: Utf8) {
    let read = parse(line, HOSTNAME, utf8);
    match &read {
        Err(refusal) => reply::is_refusal(refusal),
        Ok(command) => {
            can_be_said_again(command, utf8);
            if let Command::Mail(mail) = command {
                let path = line.iter().position(|b| *b == b':').map(|colon| line[colon + 1..].trim_ascii_start());
                let is_null = path.is_some_and(|path| path.starts_with(b"<>"));
                assert_eq!(mail.reverse_path.is_none(), is_null, "nothing but <> is the null sender");
            }
        }
    }
    assert_eq!(parse(&[line, b" \t "].concat(), HOSTNAME, utf8), read, "trailing white space is tolerated");
    let mut shouted = line.to_vec();
    let verb = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
    shouted[..verb].make_ascii_uppercase();
    assert!(parse(&shouted, HOSTNAME, utf8) == read, "the case of the verb matters: {}", line.escape_ascii());
}

fn can_be_said_again(command: &Command, utf8: Utf8) {
    let parse = |line: &[u8]| parse(line, HOSTNAME, utf8);
    match command {
        Command::Ehlo(name) | Command::Helo(name) | Command::Lhlo(name) => {
            assert!((1..=255).contains(&name.len()) && name.bytes().all(|b| (b' '..=b'~').contains(&b)), "{name:?}");
            assert_eq!(name.trim(), name);
            assert!(matches!(parse(format!("EHLO {name}").as_bytes()), Ok(Command::Ehlo(again)) if again == *name));
        }
        Command::Mail(mail) => {
            assert!(utf8 != Utf8::NotOffered || !mail.utf8, "what is not offered is not taken");
            let parameter = if mail.utf8 { " SMTPUTF8" } else { "" };
            mail.reverse_path.iter().for_each(|sender| is_a_path(sender, "MAIL FROM", parameter, utf8));
            assert!(mail.utf8 || mail.reverse_path.as_ref().is_none_or(Address::is_ascii));
            let sized = parse(format!("MAIL FROM:<> SIZE={}", mail.size).as_bytes());
            assert!(matches!(sized, Ok(Command::Mail(again)) if again.size == mail.size));
        }
        Command::Rcpt(recipient) => {
            is_a_path(recipient, "RCPT TO", "", utf8);
            assert!(utf8 == Utf8::InUse || recipient.is_ascii());
        }
        Command::Bdat(chunk) => {
            let Chunk { size, last } = chunk;
            let again = format!("BDAT {size}{}", if *last { " LAST" } else { "" });
            assert_eq!(parse(again.as_bytes()).as_ref(), Ok(command));
        }
        Command::Auth(auth) => {
            let initial = auth.initial.as_ref().map_or("", |initial| initial.expose());
            let again = format!("AUTH {} {initial}", auth.mechanism);
            assert_eq!(parse(again.as_bytes()).as_ref(), Ok(command));
        }
        _ => {}
    }
}

/// The address is canonical, and names the same mailbox if it is said again.
fn is_a_path(address: &Address, verb: &str, parameter: &str, utf8: Utf8) {
    address::canonical(address);
    let said = match parse(format!("{verb}:<{address}>{parameter}").as_bytes(), HOSTNAME, utf8) {
        Ok(Command::Mail(mail)) => mail.reverse_path,
        Ok(Command::Rcpt(recipient)) => Some(recipient),
        other => panic!("{address} is refused the second time: {other:?}"),
    };
    assert_eq!(said.as_ref(), Some(address));
}
