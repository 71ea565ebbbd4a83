//! One line to one command: verbs, paths and ESMTP parameters, read strictly.
//!
//! The addresses go into the JSON of an API that has a parser of its own, so nothing doubtful may pass: the path is
//! RFC 5321's grammar to the letter, and only its canonical form leaves this file.

use std::borrow::Cow;

use crate::address::{Address, AddressError, Alphabet};
use crate::reply::{Enhanced, Reply};
use crate::secret::Secret;

/// Longest argument of EHLO and HELO, in octets (RFC 5321 §4.5.3.1.2).
const MAX_NAME: usize = 255;

/// A command that can be obeyed if it comes in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// EHLO, with what the client calls itself.
    Ehlo(String),
    /// HELO, with what the client calls itself.
    Helo(String),
    /// LHLO, with what the client calls itself.
    Lhlo(String),
    /// MAIL FROM.
    Mail(Mail),
    /// RCPT TO.
    Rcpt(Address),
    /// DATA.
    Data,
    /// BDAT.
    Bdat(Chunk),
    /// BDAT whose size cannot be read: where the next command begins is unknown.
    BadBdat,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY.
    Vrfy,
    /// EXPN.
    Expn,
    /// HELP.
    Help,
    /// AUTH.
    Auth(Auth),
    /// STARTTLS.
    StartTls,
    /// QUIT.
    Quit,
    /// A line of HTTP, or of a message that came out of step: whoever talks here does not speak SMTP, and may be a
    /// browser that was made to send it (cross-protocol attack).
    Http,
}

/// What MAIL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The reverse-path; `None` is `<>`.
    pub reverse_path: Option<Address>,
    /// SIZE: how many octets the client means to send (RFC 1870), 0 if it did not say.
    pub size: u64,
    /// Whether AUTH= was given (RFC 4954 §5). Who first sent the mail is nothing that the API could be told: the value
    /// is read and dropped.
    pub auth: bool,
    /// Whether SMTPUTF8 was given (RFC 6531 §3.4): this transaction's paths may be UTF-8.
    pub utf8: bool,
}

/// How far client and relay are with SMTPUTF8 (RFC 6531).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Utf8 {
    /// The mail API takes ASCII addresses only, so it is not offered.
    NotOffered,
    /// MAIL can ask for it.
    Offered,
    /// This transaction's MAIL did.
    InUse,
}

/// What BDAT says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// How many octets follow the line.
    pub size: u64,
    /// Whether the message ends with them.
    pub last: bool,
}

/// What AUTH says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The mechanism's name.
    pub mechanism: String,
    /// The initial response, in base64.
    pub initial: Option<Secret>,
}

/// The verbs, and those that other servers know.
#[derive(Clone, Copy)]
enum Verb {
    Ehlo,
    Helo,
    Lhlo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    Quit,
    Auth,
    StartTls,
    Http,
    NotHere,
}

const VERBS: &[(&str, Verb)] = &[
    ("MAIL", Verb::Mail),
    ("RCPT", Verb::Rcpt),
    ("DATA", Verb::Data),
    ("EHLO", Verb::Ehlo),
    ("QUIT", Verb::Quit),
    ("RSET", Verb::Rset),
    ("NOOP", Verb::Noop),
    ("HELO", Verb::Helo),
    ("VRFY", Verb::Vrfy),
    ("EXPN", Verb::Expn),
    ("HELP", Verb::Help),
    ("STARTTLS", Verb::StartTls),
    ("AUTH", Verb::Auth),
    ("BDAT", Verb::Bdat),
    ("LHLO", Verb::Lhlo),
    ("ETRN", Verb::NotHere),
    ("SEND", Verb::NotHere),
    ("SOML", Verb::NotHere),
    ("SAML", Verb::NotHere),
    ("TURN", Verb::NotHere),
    ("GET", Verb::Http),
    ("POST", Verb::Http),
    ("PUT", Verb::Http),
    ("CONNECT", Verb::Http),
    ("HEAD", Verb::Http),
    ("OPTIONS", Verb::Http),
    ("DELETE", Verb::Http),
    ("PATCH", Verb::Http),
    ("TRACE", Verb::Http),
];

/// Reads one line, given without its CRLF. `hostname` completes `<postmaster>`; `utf8` says which paths are taken.
///
/// # Errors
/// The reply that refuses the line. A refused line changes nothing.
pub fn parse(line: &[u8], hostname: &str, utf8: Utf8) -> Result<Command, Reply> {
    let line = line.trim_ascii_end(); // RFC 5321 §4.1.1: trailing white space is tolerated.
    let space = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
    let (verb, argument) = line.split_at(space);
    match VERBS.iter().find(|(name, _)| verb.eq_ignore_ascii_case(name.as_bytes())) {
        Some((_, Verb::Mail)) => mail(argument, utf8),
        Some((_, Verb::Rcpt)) => rcpt(argument, hostname, utf8),
        Some((_, Verb::Bdat)) => Ok(bdat(argument).map_or(Command::BadBdat, Command::Bdat)),
        Some((_, Verb::Http)) => Ok(Command::Http),
        Some((_, Verb::Ehlo)) => client_name(argument).map(Command::Ehlo),
        Some((_, Verb::Helo)) => client_name(argument).map(Command::Helo),
        Some((_, Verb::Lhlo)) => client_name(argument).map(Command::Lhlo),
        // RFC 6531 §3.7.4.2: what is asked for may be UTF-8; the parameter is about the reply, which is ASCII here.
        Some((name, verb @ (Verb::Vrfy | Verb::Expn))) if utf8 != Utf8::NotOffered && is_printable_utf8(argument) => {
            simple(name, *verb, argument)
        }
        _ if !line.iter().all(|b| is_printable(*b)) => {
            Err(syntax("Commands are printable ASCII; the line holds other octets"))
        }
        Some((name, verb)) => simple(name, *verb, argument),
        None if is_header_like(line) => Ok(Command::Http),
        None => Err(Reply::new(500, Enhanced(5, 5, 1), "Command not recognized; HELP lists the commands")),
    }
}

/// The verbs without a path.
fn simple(name: &str, verb: Verb, argument: &[u8]) -> Result<Command, Reply> {
    let alone = |command| {
        let text = || format!("{name} takes no argument; send {name} alone");
        if argument.is_empty() { Ok(command) } else { Err(argument_error(text())) }
    };
    match verb {
        Verb::Data => alone(Command::Data),
        Verb::Rset => alone(Command::Rset),
        Verb::StartTls => alone(Command::StartTls),
        Verb::Quit => alone(Command::Quit),
        Verb::Noop => Ok(Command::Noop), // RFC 5321 §4.1.1.9: the parameter is ignored.
        Verb::Help => Ok(Command::Help),
        Verb::Expn => Ok(Command::Expn),
        Verb::Vrfy if argument.is_empty() => Err(argument_error("VRFY needs an address: VRFY name@example.com")),
        Verb::Vrfy => Ok(Command::Vrfy),
        Verb::Auth => auth(argument),
        _ => Err(not_offered(name)),
    }
}

/// EHLO's and HELO's argument. RFC 5321 §4.1.4 forbids to refuse mail for a wrong name, and odd host names are common:
/// anything printable will do. The refusals carry no enhanced code (RFC 2034 §4).
fn client_name(argument: &[u8]) -> Result<String, Reply> {
    let name = argument.trim_ascii_start();
    if name.is_empty() {
        return Err(Reply::plain(501, "Say who you are: EHLO host.example.com"));
    }
    if name.len() > MAX_NAME || !name.iter().all(|b| is_printable(*b)) {
        return Err(Reply::plain(501, "The name must be printable ASCII of at most 255 octets: EHLO host.example.com"));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// RFC 3030 §2: `chunk-size ::= 1*DIGIT`, decimal whatever it begins with, and perhaps LAST.
fn bdat(argument: &[u8]) -> Option<Chunk> {
    let mut words = argument.split(|b| *b == b' ').filter(|word| !word.is_empty());
    let digits = words.next().filter(|word| word.iter().all(u8::is_ascii_digit))?;
    let add = |n: u64, digit: &u8| n.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    let size = digits.iter().try_fold(0, add)?;
    let last = words.next().map(|word| word.eq_ignore_ascii_case(b"LAST"));
    (last != Some(false) && words.next().is_none()).then_some(Chunk { size, last: last.is_some() })
}

/// RFC 4954 §4: a mechanism, and at most one response.
fn auth(argument: &[u8]) -> Result<Command, Reply> {
    let words = String::from_utf8_lossy(argument);
    let mut words = words.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => {
            Ok(Command::Auth(Auth { mechanism: mechanism.to_owned(), initial: initial.map(Secret::new) }))
        }
        _ => Err(argument_error("Write AUTH PLAIN, or AUTH PLAIN and the response in base64")),
    }
}

// === MAIL and RCPT ===

fn mail(argument: &[u8], offer: Utf8) -> Result<Command, Reply> {
    const USAGE: &str = "Write MAIL FROM:<name@example.com>, or MAIL FROM:<> for no return address";
    let path = after_keyword(argument, b"FROM:").ok_or_else(|| syntax_501(USAGE))?;
    // Whether UTF-8 is asked for stands behind the path.
    let alphabet = if offer == Utf8::NotOffered { Alphabet::Ascii } else { Alphabet::Utf8 };
    let (reverse_path, rest) = match path.strip_prefix(b">") {
        Some(rest) => (None, rest),
        None => address(path, alphabet).map(|(a, rest)| (Some(a), rest)).map_err(|e| sender_error(e, offer))?,
    };
    let mut size = None;
    let mut body = None;
    let mut auth = None;
    let mut utf8 = None;
    for parameter in parameters(rest)? {
        let (keyword, value) = parameter?;
        if keyword.eq_ignore_ascii_case(b"SIZE") {
            once(&mut size, "SIZE", octets(value))?;
        } else if keyword.eq_ignore_ascii_case(b"BODY") {
            once(&mut body, "BODY", body_type(value))?;
        } else if keyword.eq_ignore_ascii_case(b"AUTH") {
            once(&mut auth, "AUTH", mailbox_or_none(value))?;
        } else if keyword.eq_ignore_ascii_case(b"SMTPUTF8") && offer != Utf8::NotOffered {
            once(&mut utf8, "SMTPUTF8", no_value(value))?;
        } else {
            // SMTPUTF8 too where it is not offered (RFC 5321 §4.1.1.11): clients send it only if it is, and one that needs
            // it must not believe that it has it.
            return Err(unknown_parameter(keyword, "MAIL"));
        }
    }
    if utf8.is_none() && !argument.is_ascii() {
        return Err(sender_error(AddressError::NotAscii, offer));
    }
    Ok(Command::Mail(Mail { reverse_path, size: size.unwrap_or(0), auth: auth.is_some(), utf8: utf8.is_some() }))
}

fn rcpt(argument: &[u8], hostname: &str, utf8: Utf8) -> Result<Command, Reply> {
    const USAGE: &str = "Write RCPT TO:<name@example.com>";
    let path = after_keyword(argument, b"TO:").ok_or_else(|| syntax_501(USAGE))?;
    let alphabet = if utf8 == Utf8::InUse { Alphabet::Utf8 } else { Alphabet::Ascii };
    let refused = |error| recipient_error(error, utf8);
    let (address, rest) = match postmaster(path) {
        Some(rest) => (Address::parse(&format!("postmaster@{hostname}")).map_err(refused)?, rest),
        None => address(path, alphabet).map_err(refused)?,
    };
    match parameters(rest)?.next() {
        None => Ok(Command::Rcpt(address)),
        Some(parameter) => Err(unknown_parameter(parameter?.0, "RCPT")),
    }
}

/// What follows `FROM:<` or `TO:<`. A space before the bracket is against RFC 5321 §3.3, but harmless and seen.
fn after_keyword<'a>(argument: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = argument.trim_ascii_start().split_at_checked(keyword.len())?;
    if head.eq_ignore_ascii_case(keyword) { rest.trim_ascii_start().strip_prefix(b"<") } else { None }
}

/// The mailbox before `>`, and what follows it.
fn address(path: &[u8], alphabet: Alphabet) -> Result<(Address, &[u8]), AddressError> {
    let path = after_route(path);
    let (address, used) = Address::parse_prefix(alphabet, path)?;
    let rest = path.get(used..).unwrap_or_default();
    rest.strip_prefix(b">").map(|rest| (address, rest)).ok_or(AddressError::Domain)
}

/// Skips a source route `@a,@b:`, which is understood and ignored (RFC 5321 §4.1.1.3, appendix C). What is not wholly
/// one is left to fail as an address.
fn after_route(path: &[u8]) -> &[u8] {
    let hop = |hop: &[u8]| match hop.strip_prefix(b"@") {
        Some(d) => !d.is_empty() && d.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')),
        None => false,
    };
    match path.iter().position(|b| *b == b':').and_then(|colon| path.split_at_checked(colon)) {
        Some((route, rest)) if route.split(|b| *b == b',').all(hop) => rest.get(1..).unwrap_or_default(),
        _ => path,
    }
}

/// What follows `<postmaster>`, the one recipient that needs no domain (RFC 5321 §4.5.1).
fn postmaster(path: &[u8]) -> Option<&[u8]> {
    let (head, rest) = path.split_at_checked(b"postmaster>".len())?;
    head.eq_ignore_ascii_case(b"postmaster>").then_some(rest)
}

// === Parameters (RFC 5321 §4.1.2, esmtp-param) ===

type Parameter<'a> = (&'a [u8], Option<&'a [u8]>);

/// The parameters after a path. A space separates them from it and from each other.
fn parameters(rest: &[u8]) -> Result<impl Iterator<Item = Result<Parameter<'_>, Reply>>, Reply> {
    if !matches!(rest.first(), None | Some(b' ')) {
        return Err(argument_error("Put a space between the path's closing bracket and what follows"));
    }
    Ok(rest.split(|b| *b == b' ').filter(|word| !word.is_empty()).map(parameter))
}

fn parameter(word: &[u8]) -> Result<Parameter<'_>, Reply> {
    let malformed = || argument_error("A parameter is malformed; write KEYWORD or KEYWORD=value");
    let (keyword, value) = match word.iter().position(|b| *b == b'=') {
        Some(equals) => (word.get(..equals).unwrap_or_default(), word.get(equals + 1..)),
        None => (word, None),
    };
    let keyword_fits = keyword.first().is_some_and(u8::is_ascii_alphanumeric)
        && keyword.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    let value_fits = value.is_none_or(|v| !v.is_empty() && v.iter().all(|b| b.is_ascii_graphic() && *b != b'='));
    if keyword_fits && value_fits { Ok((keyword, value)) } else { Err(malformed()) }
}

/// Sets what may be set once: of two sizes, two programs could believe different ones.
fn once<T>(slot: &mut Option<T>, name: &str, value: Result<T, Reply>) -> Result<(), Reply> {
    match slot.replace(value?) {
        None => Ok(()),
        Some(_) => Err(argument_error(format!("{name} is given twice"))),
    }
}

/// RFC 1870 §3: one to twenty digits. What exceeds 64 bits is larger than any limit, never small by wrapping round.
fn octets(value: Option<&[u8]>) -> Result<u64, Reply> {
    let digits = value.filter(|v| v.len() <= 20 && v.iter().all(u8::is_ascii_digit));
    let digits = digits.ok_or_else(|| argument_error("SIZE needs a number of octets: SIZE=12345"))?;
    let add = |n: u64, digit: &u8| n.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    Ok(digits.iter().try_fold(0, add).unwrap_or(u64::MAX))
}

/// RFC 6152 §2. Both are taken alike: the API gets octets.
fn body_type(value: Option<&[u8]>) -> Result<(), Reply> {
    match value {
        Some(v) if v.eq_ignore_ascii_case(b"7BIT") || v.eq_ignore_ascii_case(b"8BITMIME") => Ok(()),
        _ => Err(argument_error("BODY is 7BIT or 8BITMIME")),
    }
}

/// RFC 6531 §3.4.
fn no_value(value: Option<&[u8]>) -> Result<(), Reply> {
    match value {
        None => Ok(()),
        Some(_) => Err(argument_error("SMTPUTF8 takes no value; write it alone")),
    }
}

/// RFC 4954 §5: `<>`, or a mailbox in xtext (RFC 3461 §4: `+` and two hexadecimal digits stand for an octet). What it
/// stands for is never decoded, so no line end can hide in it.
fn mailbox_or_none(value: Option<&[u8]>) -> Result<(), Reply> {
    let is_hex = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b));
    let text = value.unwrap_or_default();
    let whole = |(at, b): (usize, &u8)| *b != b'+' || (is_hex(text.get(at + 1)) && is_hex(text.get(at + 2)));
    if !text.is_empty() && text.iter().enumerate().all(whole) {
        Ok(())
    } else {
        Err(argument_error("AUTH is <> or a mailbox in xtext: AUTH=<>"))
    }
}

// === Refusals ===

fn syntax(text: impl Into<Cow<'static, str>>) -> Reply {
    Reply::new(500, Enhanced(5, 5, 2), text)
}

fn syntax_501(text: &'static str) -> Reply {
    Reply::new(501, Enhanced(5, 5, 2), text)
}

fn argument_error(text: impl Into<Cow<'static, str>>) -> Reply {
    Reply::new(501, Enhanced(5, 5, 4), text)
}

/// The refusal of a command that others know.
pub fn not_offered(name: &str) -> Reply {
    Reply::new(502, Enhanced(5, 5, 1), format!("{name} is not offered here; HELP lists the commands"))
}

/// RFC 5321 §4.1.1.11.
pub fn unknown_parameter(keyword: &[u8], verb: &str) -> Reply {
    let keyword = String::from_utf8_lossy(keyword);
    Reply::new(555, Enhanced(5, 5, 4), format!("{verb} does not know the parameter {keyword:.40}; leave it out"))
}

fn sender_error(error: AddressError, utf8: Utf8) -> Reply {
    match error {
        AddressError::NotAscii => not_ascii("sender", 550, utf8),
        _ => Reply::new(501, Enhanced(5, 1, 7), format!("The sender's address is refused: {error}")),
    }
}

fn recipient_error(error: AddressError, utf8: Utf8) -> Reply {
    match error {
        AddressError::NotAscii => not_ascii("recipient", 553, utf8),
        _ => Reply::new(553, Enhanced(5, 1, 3), format!("The recipient's address is refused: {error}")),
    }
}

/// RFC 6531 §3.5: 550 for MAIL, 553 ("mailbox name not allowed") for RCPT. Where no parameter would help, because the API
/// is not known to carry such addresses, it is 550 for both: the mailbox is out of reach, whatever MAIL says.
fn not_ascii(whose: &str, code: u16, utf8: Utf8) -> Reply {
    let (code, why) = match utf8 {
        Utf8::NotOffered => (550, ", and SMTPUTF8 is not offered here (a domain can be written as xn--)"),
        Utf8::Offered | Utf8::InUse => (code, "; say SMTPUTF8 in MAIL"),
    };
    let text = format!("The {whose}'s address is refused: {}{why}", AddressError::NotAscii);
    Reply::new(code, Enhanced(5, 6, 7), text)
}

fn is_printable(octet: u8) -> bool {
    octet == b' ' || octet.is_ascii_graphic()
}

fn is_printable_utf8(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| !text.contains(char::is_control))
}

/// `Name: value`, as in HTTP requests and in messages.
fn is_header_like(line: &[u8]) -> bool {
    let name = line.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count();
    name > 0 && line.get(name) == Some(&b':') && line.get(name + 1).is_none_or(|b| *b == b' ')
}
