//! The dialogue without I/O: an [`Event`] goes in, a [`Step`] comes out: the reply, and what has to happen next.
//!
//! Every transition stands in this file. The session is who talks; a transaction is one envelope of it, owned by the
//! state that it is in and gone when that state is left.
//!
//! ```text
//!          MAIL                    accepted              DATA, with a recipient         the dot
//!  Idle ----------> Asking ---------------------> Open -------------------------> Data ---------> Relaying
//!   ^                 |                          ^ |  |                             |                 |
//!   |    refused      |                     RCPT +-+  | RSET, EHLO, HELO            | flawed          | settled
//!   +-----------------+-------------------------------+-----------------------------+-----------------+
//!
//!  QUIT, HTTP, too many errors, silence, drain: from anywhere to Closed
//! ```

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::address::Address;
use crate::envelope::{Envelope, Transaction, TransactionId};
use crate::reply::{Enhanced, Reply};
use crate::smtp::codec::Flaw;
use crate::smtp::command::{self, Command, Mail};

/// How many protocol errors end a session. An honest client makes one or two; who makes twenty is out of step.
const MAX_ERRORS: u64 = 20;

/// What the session promises and demands.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The client's address; `None` on a Unix socket.
    pub client: Option<IpAddr>,
    /// The relay's name.
    pub hostname: Arc<str>,
    /// Largest message in octets.
    pub max_message_size: usize,
    /// Most recipients of one transaction.
    pub max_recipients: usize,
    /// Whether this client may send at all.
    pub may_relay: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A command line came; without its CRLF.
    Line(&'a [u8]),
    /// A line came that holds a lonely CR or LF.
    Garble,
    /// A line came that is too long.
    TooLong,
    /// The answer to [`Next::CheckSender`].
    SenderChecked(Result<(), Reply>),
    /// The dot came: the name of the transaction, and the message or why it was not kept.
    Data(TransactionId, Result<Bytes, Flaw>),
    /// The answer to [`Next::Relay`].
    Settled(Reply),
    /// The client was silent, or too slow, for too long.
    Idle,
    /// The relay shuts down.
    Drain,
}

/// What the driver does next.
#[derive(Debug)]
pub enum Next {
    /// Read a line.
    ReadLine,
    /// Read up to the dot.
    ReadData,
    /// Ask whether mail can be taken now.
    CheckSender,
    /// Relay this.
    Relay(Transaction),
    /// Say what is to be said, and close.
    Close,
}

/// The outcome of one event.
#[derive(Debug)]
#[must_use = "a step not taken leaves the client without its reply"]
pub struct Step {
    /// What to tell the client.
    pub reply: Option<Reply>,
    /// What to do next.
    pub next: Next,
}

#[derive(Debug)]
enum State {
    /// No transaction. `refused`: the last MAIL was refused, so that a pipelining client's RCPT and DATA, sent before it
    /// could know, are no errors of its own.
    Idle { refused: bool },
    /// MAIL was understood and waits for the driver's answer.
    Asking(Envelope),
    /// Takes recipients.
    Open(Envelope),
    /// 354 was said.
    Data(Envelope),
    /// The relay has it.
    Relaying,
    /// The session is over.
    Closed,
}

/// One client's dialogue.
#[derive(Debug)]
pub struct Session {
    terms: Terms,
    helo: Option<String>,
    state: State,
    errors: u64,
}

impl Session {
    /// A session, and the greeting that opens it (RFC 5321 §3.1).
    pub fn begin(terms: Terms) -> (Self, Step) {
        let greeting = Reply::plain(220, format!("{} ESMTP sidepost", terms.hostname));
        let session = Self { terms, helo: None, state: State::Idle { refused: false }, errors: 0 };
        (session, Step { reply: Some(greeting), next: Next::ReadLine })
    }

    /// Whether a transaction is open: one that is may be finished although the relay shuts down.
    pub fn in_transaction(&self) -> bool {
        !matches!(self.state, State::Idle { .. } | State::Closed)
    }

    /// The largest message in octets that was promised.
    pub fn max_message_size(&self) -> usize {
        self.terms.max_message_size
    }

    /// How many protocol errors the client has made.
    pub fn protocol_errors(&self) -> u64 {
        self.errors
    }

    /// Takes one event.
    pub fn step(&mut self, event: Event<'_>) -> Step {
        // While an event is worked on the session is closed; each arm says which state comes after it.
        let state = std::mem::replace(&mut self.state, State::Closed);
        match (state, event) {
            (State::Closed, _) => Step { reply: None, next: Next::Close },
            (_, Event::Idle) => self.close(reply(421, 4, 2, "No command or data for too long; closing the connection")),
            (_, Event::Drain) => self.close(reply(421, 3, 2, "The relay is shutting down; connect again later")),
            (state @ (State::Idle { .. } | State::Open(_)), Event::Line(line)) => {
                match command::parse(line, &self.terms.hostname) {
                    Ok(command) => self.obey(state, command),
                    Err(refusal) => self.refuse(state, refusal),
                }
            }
            (state @ (State::Idle { .. } | State::Open(_)), Event::Garble) => {
                self.refuse(state, reply(500, 5, 2, "A CR or LF stands alone; end lines with CRLF only"))
            }
            (state @ (State::Idle { .. } | State::Open(_)), Event::TooLong) => {
                self.refuse(state, reply(500, 5, 2, "Line too long; a command has at most 2048 octets"))
            }
            (State::Asking(envelope), Event::SenderChecked(Ok(()))) => {
                self.go(State::Open(envelope), reply(250, 1, 0, "Sender ok"))
            }
            (State::Asking(_), Event::SenderChecked(Err(refusal))) => self.go(State::Idle { refused: true }, refusal),
            (State::Data(envelope), Event::Data(id, Ok(data))) => {
                self.state = State::Relaying;
                let transaction = Transaction { id, client: self.terms.client, envelope, data };
                Step { reply: None, next: Next::Relay(transaction) }
            }
            (State::Data(_), Event::Data(id, Err(flaw))) => self.idle(self.flaw_reply(flaw, id)),
            (State::Relaying, Event::Settled(settled)) => self.idle(settled),
            // Not the client's doing: the driver broke the contract, and a bug is always temporary.
            _ => self.close(fault()),
        }
    }

    /// All commands in all states that take them.
    fn obey(&mut self, state: State, command: Command) -> Step {
        match (state, command) {
            (_, Command::Ehlo(name)) => {
                self.helo = Some(name);
                let reply = self.ehlo_reply();
                self.idle(reply) // RFC 5321 §4.1.4: EHLO resets like RSET.
            }
            (_, Command::Helo(name)) => {
                self.helo = Some(name);
                let reply = Reply::plain(250, self.terms.hostname.to_string());
                self.idle(reply)
            }
            (_, Command::Rset) => self.idle(reply(250, 0, 0, "Ok, nothing pending")),
            (_, Command::Quit) => self.close(reply(221, 0, 0, "Bye")),
            (_, Command::Http) => {
                self.close(reply(421, 7, 0, "This is SMTP, and that was not; closing the connection"))
            }
            (state, Command::Noop) => self.go(state, reply(250, 0, 0, "Ok")),
            (state, Command::Vrfy) => {
                self.go(state, reply(252, 0, 0, "Addresses are not looked up here; send the mail and see"))
            }
            (state, Command::Expn) => {
                self.refuse(state, reply(502, 5, 1, "There are no lists here; name each recipient with RCPT"))
            }
            (state, Command::Help) => self.go(state, help()),
            (State::Idle { .. }, Command::Mail(mail)) => self.mail(mail),
            (state, Command::Mail(_)) => {
                self.refuse(state, reply(503, 5, 1, "A transaction is open already; end it with DATA or RSET"))
            }
            (State::Open(envelope), Command::Rcpt(address)) => self.rcpt(envelope, address),
            (State::Open(envelope), Command::Data) => self.data(envelope),
            (state, Command::Rcpt(_)) => self.out_of_order(state, "No transaction is open; send MAIL before RCPT"),
            (state, Command::Data) => {
                self.out_of_order(state, "No transaction is open; send MAIL and RCPT before DATA")
            }
        }
    }

    fn mail(&mut self, mail: Mail) -> Step {
        // RFC 5321 §4.1.4: a session must be initialised before it takes mail.
        let Some(helo) = self.helo.clone() else {
            return self.out_of_order(State::Idle { refused: false }, "Say EHLO or HELO first");
        };
        let refused = State::Idle { refused: true };
        if !self.terms.may_relay {
            let text = "This client may not send here; the operator can add its network to smtp.allow";
            return self.go(refused, reply(550, 7, 1, text));
        }
        if mail.size > self.terms.max_message_size as u64 {
            return self.go(refused, self.too_large(None)); // RFC 1870 §6.1
        }
        let reverse_path = mail.reverse_path;
        self.state = State::Asking(Envelope { helo, principal: None, reverse_path, recipients: Vec::new() });
        Step { reply: None, next: Next::CheckSender }
    }

    fn rcpt(&mut self, mut envelope: Envelope, address: Address) -> Step {
        let known = envelope.recipients.contains(&address);
        if !known && envelope.recipients.len() >= self.terms.max_recipients {
            // RFC 5321 §4.5.3.1.10: 452, and the transaction goes on with those accepted.
            let text = "Too many recipients in one transaction; send the rest in another one";
            return self.go(State::Open(envelope), reply(452, 5, 3, text));
        }
        if !known {
            envelope.recipients.push(address);
        }
        self.go(State::Open(envelope), reply(250, 1, 5, "Recipient ok"))
    }

    fn data(&mut self, envelope: Envelope) -> Step {
        if envelope.recipients.is_empty() {
            return self.go(State::Open(envelope), reply(554, 5, 1, "No valid recipient; send RCPT before DATA"));
        }
        self.state = State::Data(envelope);
        Step { reply: Some(Reply::plain(354, "Send the message, end it with <CRLF>.<CRLF>")), next: Next::ReadData }
    }

    // === How an event ends ===

    fn go(&mut self, state: State, reply: Reply) -> Step {
        self.state = state;
        Step { reply: Some(reply), next: Next::ReadLine }
    }

    fn idle(&mut self, reply: Reply) -> Step {
        self.go(State::Idle { refused: false }, reply)
    }

    fn close(&mut self, reply: Reply) -> Step {
        self.state = State::Closed;
        Step { reply: Some(reply), next: Next::Close }
    }

    /// Refuses a line. Protocol errors count; what an address is refused for is a verdict and does not.
    fn refuse(&mut self, state: State, refusal: Reply) -> Step {
        let state = match state {
            State::Idle { .. } if !is_protocol_error(&refusal) => State::Idle { refused: true },
            state => state,
        };
        if is_protocol_error(&refusal) {
            self.errors += 1;
            if self.errors >= MAX_ERRORS {
                return self.close(reply(421, 7, 0, "Too many protocol errors; closing the connection"));
            }
        }
        self.go(state, refusal)
    }

    fn out_of_order(&mut self, state: State, text: &'static str) -> Step {
        let refusal = reply(503, 5, 1, text);
        match state {
            State::Idle { refused: true } if self.helo.is_some() => self.go(state, refusal),
            state => self.refuse(state, refusal),
        }
    }

    // === Replies that depend on the terms ===

    fn ehlo_reply(&self) -> Reply {
        let size = format!("SIZE {}", self.terms.max_message_size);
        let lines: Vec<Cow<'static, str>> = vec![
            self.terms.hostname.to_string().into(),
            "PIPELINING".into(),
            size.into(),
            "8BITMIME".into(),
            "ENHANCEDSTATUSCODES".into(),
        ];
        Reply::multiline(250, lines)
    }

    fn flaw_reply(&self, flaw: Flaw, id: TransactionId) -> Reply {
        match flaw {
            Flaw::TooLarge => self.too_large(Some(id)),
            Flaw::NoRoom => {
                reply(452, 3, 1, format!("The relay holds as much mail as it may; send this one again later id={id}"))
            }
            Flaw::LineEnds => {
                let text = "The message holds a CR or LF alone; its lines must end with CRLF, and only they may";
                reply(550, 6, 0, format!("{text} id={id}"))
            }
        }
    }

    fn too_large(&self, id: Option<TransactionId>) -> Reply {
        let limit = self.terms.max_message_size;
        let id = id.map(|id| format!(" id={id}")).unwrap_or_default();
        reply(552, 3, 4, format!("The message is too large; this relay takes at most {limit} octets{id}"))
    }
}

/// The reply when the relay itself is at fault.
pub fn fault() -> Reply {
    reply(421, 3, 0, "Internal error of the relay; connect again later")
}

/// The reply to a client that finds all places taken.
pub fn busy(whose: &'static str) -> Reply {
    reply(421, 7, 0, format!("Too many connections {whose}; try again later"))
}

/// 500 to 504 and 555 are about the protocol (RFC 5321 §4.2.2), unless the subject says that it is the address.
fn is_protocol_error(reply: &Reply) -> bool {
    matches!(reply.code, 500..=504 | 555) && reply.enhanced.is_none_or(|e| e.1 == 5)
}

fn help() -> Reply {
    let commands = "Commands: EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT";
    let purpose = "Mail is sent on through an HTTP API; 250 after the dot means that the API has taken it";
    Reply { code: 214, enhanced: Some(Enhanced(2, 0, 0)), lines: vec![commands.into(), purpose.into()] }
}

fn reply(code: u16, subject: u8, detail: u8, text: impl Into<Cow<'static, str>>) -> Reply {
    Reply::new(code, Enhanced::of(code, subject, detail), text)
}
