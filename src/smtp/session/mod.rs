//! The dialogue without I/O: an [`Event`] goes in, a [`Step`] comes out: the reply, and what has to happen next.
//!
//! The session is who talks; a transaction is one envelope of it, owned by the state that it is in and gone when that
//! state is left. This file says what becomes of each event and command; `transaction` has what a mail goes through,
//! `access` AUTH and STARTTLS, `replies` the words.
//!
//! ```text
//!          MAIL                    accepted              DATA, with a recipient         the dot
//!  Idle ----------> Asking ---------------------> Open -------------------------> Data ---------> Relaying
//!   ^                 |                          ^ |  |                             |                 |
//!   |    refused      |                     RCPT +-+  | RSET, EHLO, HELO            | flawed          | settled
//!   +-----------------+-------------------------------+-----------------------------+-----------------+
//!
//!  Open --RCPT--> Naming --accepted or refused--> Open
//!
//!  Open --BDAT--> Chunk --its octets--> Chunks --BDAT--> Chunk … --the last--> Relaying
//!  Idle --AUTH--> Authenticating --the last response--> Checking --verdict--> Idle
//!  Idle --STARTTLS--> Securing --nothing behind it--> Handshaking --encrypted--> Idle, and all is forgotten
//!  QUIT, HTTP, too many errors, silence, drain: from anywhere to Closed
//! ```

mod access;
mod replies;
mod transaction;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::access::Access;
use crate::address::Address;
use crate::envelope::{Envelope, Login, Origin, Transaction, TransactionId};
use crate::reply::Reply;
use crate::smtp::Protocol;
use crate::smtp::codec::{ChunkDecoder, Flaw};
use crate::smtp::command::{self, Chunk, Command};
use crate::smtp::sasl::{Credentials, Exchange, Verdict};
use replies::{help, is_protocol_error, reply};

pub use replies::{busy, fault, no_room};

/// Whether a client can have something, or has to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// There is none.
    No,
    /// It is there.
    Optional,
    /// No mail without it.
    Required,
}

/// Whether a client may send without a login, be it by AUTH or by a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Open,
    /// Others may; its network is not among them.
    Stranger,
    /// Nobody may.
    LoginOnly,
}

/// What the session promises and demands.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The client's address; `None` on a Unix socket.
    pub client: Option<IpAddr>,
    /// The listener's URL without its options.
    pub listener: Arc<str>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Whether the session began encrypted.
    pub encrypted: bool,
    /// Who the client has shown to be before the session began.
    pub principal: Option<String>,
    /// The relay's name.
    pub hostname: Arc<str>,
    /// Largest message in octets.
    pub max_message_size: usize,
    /// Most recipients of one transaction.
    pub max_recipients: usize,
    /// How many protocol errors end the session. An honest client makes one or two; who makes twenty is out of step.
    pub max_errors: u64,
    /// How many commands without a mail end the session: whoever says so many is in a loop.
    pub max_commands: u64,
    /// Whether this client may send without a login.
    pub admission: Admission,
    /// Whether addresses beyond ASCII can be carried: SMTPUTF8.
    pub utf8_addresses: bool,
    /// STARTTLS.
    pub tls: Offer,
    /// Whether AUTH is there.
    pub auth: bool,
    /// Which envelope addresses are taken.
    pub access: Arc<Access>,
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The client spoke before it was greeted.
    Early,
    /// A command line, or the line that was asked for, came; without its CRLF.
    Line(&'a [u8]),
    /// A line came that holds a lonely CR or LF.
    Garble,
    /// A line came that is too long.
    TooLong,
    /// The answer to [`Next::CheckSender`].
    SenderChecked(Result<(), Reply>),
    /// The answer to [`Next::CheckRecipient`].
    RecipientChecked(Result<(), Reply>),
    /// The answer to [`Next::CheckPassword`].
    PasswordChecked(Verdict),
    /// The answer to [`Next::LookBehind`]: whether there are octets already.
    Behind(bool),
    /// The answer to [`Next::Handshake`], if it succeeded: the principal of the client's certificate, if it has one.
    Encrypted(Option<String>),
    /// The dot came: the name of the transaction, and the message or why it was not kept.
    Data(TransactionId, Result<Bytes, Flaw>),
    /// The answer to [`Next::ReadChunk`]: a name, and what was read so far or why it was not kept.
    Chunk(TransactionId, Result<ChunkDecoder, Flaw>),
    /// The answer to [`Next::Swallow`].
    Swallowed,
    /// The answer to [`Next::Relay`]: the reply, and the one for each recipient where the transaction asked for them.
    Settled(Reply, Vec<Reply>),
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
    /// Read a line of an authentication, which may be longer.
    ReadResponse,
    /// Read up to the dot.
    ReadData,
    /// Read a chunk.
    ReadChunk(ChunkDecoder),
    /// Read so many octets, and drop them.
    Swallow(u64),
    /// Ask whether mail from this sender can be taken now; its client announces so many octets (0: it does not say).
    CheckSender(Origin, Box<Envelope>, u64),
    /// Ask whether mail from this sender to this recipient can be taken.
    CheckRecipient(Origin, Box<Envelope>, Address),
    /// Ask whether these are good.
    CheckPassword(Credentials),
    /// See whether anything came behind the line.
    LookBehind,
    /// Say what is to be said, drop what came behind it, and make the stream an encrypted one.
    Handshake,
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
    /// What to tell it next: LMTP has a reply for each recipient.
    pub more: Vec<Reply>,
    /// What to do next.
    pub next: Next,
}

/// A transaction that is not finished.
#[derive(Debug)]
struct Draft {
    envelope: Envelope,
    /// LMTP: which of the recipients each RCPT named; there is a reply for each in the end (RFC 2033 §4.2).
    told: Vec<usize>,
    /// Whether MAIL said SMTPUTF8.
    utf8: bool,
}

#[derive(Debug)]
enum State {
    /// No transaction. `refused`: the last MAIL was refused, so that a pipelining client's RCPT and DATA, sent before it
    /// could know, are no errors of its own.
    Idle { refused: bool },
    /// An AUTH waits for the client's next response.
    Authenticating(Exchange),
    /// An AUTH waits for the driver's answer.
    Checking,
    /// STARTTLS was understood, and must be the last that came.
    Securing,
    /// 220 was said to STARTTLS.
    Handshaking,
    /// MAIL was understood and waits for the driver's answer.
    Asking(Draft),
    /// Takes recipients.
    Open(Draft),
    /// RCPT was understood and waits for the driver's answer.
    Naming(Draft, Address),
    /// 354 was said.
    Data(Draft),
    /// A chunk is being read.
    Chunk(Draft, Chunk),
    /// Takes another chunk.
    Chunks(Draft, ChunkDecoder),
    /// A chunk that has no place is being read, and refused then.
    Swallowing(Box<State>),
    /// The relay has it. Which recipient each reply will be about, if there is more than one.
    Relaying(Vec<usize>),
    /// The session is over.
    Closed,
}

/// One client's dialogue.
#[derive(Debug)]
pub struct Session {
    terms: Terms,
    helo: Option<String>,
    /// Who the client has shown to be.
    login: Option<Login>,
    encrypted: bool,
    state: State,
    errors: u64,
    /// How many commands there were since the last mail.
    commands: u64,
    /// How many authentications were refused.
    refusals: u8,
}

impl Session {
    /// A session, and the greeting that opens it (RFC 5321 §3.1).
    pub fn begin(terms: Terms) -> (Self, Step) {
        let spoken = if terms.protocol == Protocol::Lmtp { "LMTP" } else { "ESMTP" };
        let greeting = Reply::plain(220, format!("{} {spoken} sidepost", terms.hostname));
        let (login, encrypted) = (terms.principal.clone().map(Login::of), terms.encrypted);
        let state = State::Idle { refused: false };
        let session = Self { terms, helo: None, login, encrypted, state, errors: 0, commands: 0, refusals: 0 };
        (session, Step::new(Some(greeting), Next::ReadLine))
    }

    fn is_lmtp(&self) -> bool {
        self.terms.protocol == Protocol::Lmtp
    }

    /// Whether a transaction is open: one that is may be finished although the relay shuts down.
    pub fn in_transaction(&self) -> bool {
        !matches!(
            self.state,
            State::Idle { .. }
                | State::Authenticating(_)
                | State::Checking
                | State::Securing
                | State::Handshaking
                | State::Closed
        )
    }

    /// Whether octets of a message are held between two events.
    pub fn holds_octets(&self) -> bool {
        matches!(self.state, State::Chunks(..))
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
            (State::Closed, _) => Step::new(None, Next::Close),
            (_, Event::Early) => self.turn_away(),
            (_, Event::Idle) => self.close(reply(421, 4, 2, "No command or data for too long; closing the connection")),
            (_, Event::Drain) => self.close(reply(421, 3, 2, "The relay is shutting down; connect again later")),
            (state @ (State::Idle { .. } | State::Open(_) | State::Chunks(..)), Event::Line(line)) => {
                self.commands += 1;
                if self.commands > self.terms.max_commands {
                    return self.close(reply(421, 7, 0, "Too many commands without a mail; closing the connection"));
                }
                match command::parse(line, &self.terms.hostname, self.utf8(&state)) {
                    Ok(command) => self.obey(state, command),
                    Err(refusal) => self.refuse(state, refusal),
                }
            }
            (State::Authenticating(exchange), Event::Line(line)) => self.turn(exchange.respond(line)),
            (state, Event::Garble) if state.reads_lines() => {
                let text = "A CR or LF stands alone; end lines with CRLF only";
                self.refuse(state.without_exchange(), reply(500, 5, 2, text))
            }
            (state, Event::TooLong) if state.reads_lines() => {
                let text = "Line too long; a command has at most 2048 octets, a response to AUTH 12288";
                self.refuse(state.without_exchange(), reply(500, 5, 2, text))
            }
            (State::Checking, Event::PasswordChecked(verdict)) => self.judge(verdict),
            (State::Securing, Event::Behind(behind)) => self.secure(behind),
            (State::Handshaking, Event::Encrypted(principal)) => self.start_over(principal),
            (State::Asking(draft), Event::SenderChecked(Ok(()))) => {
                self.go(State::Open(draft), reply(250, 1, 0, "Sender ok"))
            }
            (State::Asking(_), Event::SenderChecked(Err(refusal))) => self.go(State::Idle { refused: true }, refusal),
            (State::Naming(draft, address), Event::RecipientChecked(verdict)) => self.named(draft, address, verdict),
            (State::Data(draft), Event::Data(id, Ok(data))) => self.relay(draft, id, data),
            (State::Data(draft), Event::Data(id, Err(flaw))) => {
                self.settled(&draft.told, self.flaw_reply(flaw, id), &[])
            }
            (State::Chunk(draft, chunk), Event::Chunk(id, chunks)) => self.took_chunk(draft, chunk, id, chunks),
            (State::Swallowing(state), Event::Swallowed) => self.swallowed(*state),
            (State::Relaying(told), Event::Settled(reply, each)) => self.settled(&told, reply, &each),
            // Not the client's doing: the driver broke the contract, and a bug is always temporary.
            _ => self.close(fault()),
        }
    }

    /// All commands in all states that take them.
    fn obey(&mut self, state: State, command: Command) -> Step {
        match (state, command) {
            // RFC 2033 §4.1: LHLO instead of the others, and only there.
            (state, Command::Ehlo(_) | Command::Helo(_)) if self.is_lmtp() => {
                self.refuse(state, reply(500, 5, 1, "This is LMTP; say LHLO"))
            }
            (state, Command::Lhlo(_)) if !self.is_lmtp() => self.refuse(state, command::not_offered("LHLO")),
            (_, Command::Ehlo(name) | Command::Lhlo(name)) => {
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
            (state, Command::Help) => {
                let help = help(&self.terms);
                self.go(state, help)
            }
            (state, Command::Bdat(chunk)) => self.bdat(state, chunk),
            (_, Command::BadBdat) => self.lose_step(),
            (state, Command::Auth(auth)) => self.authenticate(state, &auth),
            (state, Command::StartTls) => self.start_tls(state),
            (State::Idle { .. }, Command::Mail(mail)) => self.mail(mail),
            (state, Command::Mail(_)) => {
                self.refuse(state, reply(503, 5, 1, "A transaction is open already; end it with DATA or RSET"))
            }
            (State::Open(draft), Command::Rcpt(address)) => self.rcpt(draft, address),
            (State::Open(draft), Command::Data) => self.data(draft),
            (state @ State::Chunks(..), Command::Rcpt(_) | Command::Data) => self
                .refuse(state, reply(503, 5, 1, "The message has begun with BDAT; end it with BDAT 0 LAST, or RSET")),
            (state, Command::Rcpt(_)) => self.out_of_order(state, "No transaction is open; send MAIL before RCPT"),
            (state, Command::Data) => {
                self.out_of_order(state, "No transaction is open; send MAIL and RCPT before DATA")
            }
        }
    }

    // === How an event ends ===

    fn go(&mut self, state: State, reply: Reply) -> Step {
        self.state = state;
        Step::new(Some(reply), Next::ReadLine)
    }

    fn idle(&mut self, reply: Reply) -> Step {
        self.go(State::Idle { refused: false }, reply)
    }

    /// Waits for the driver's answer before anything is said.
    fn wait(&mut self, state: State, next: Next) -> Step {
        self.state = state;
        Step::new(None, next)
    }

    /// RFC 5321 §4.3.1: a client waits for the greeting. One that does not has a list to work off, or does not know that
    /// this is SMTP.
    fn turn_away(&mut self) -> Step {
        self.errors += 1;
        self.close(Reply::plain(554, "You spoke before the greeting; this is SMTP, and the server speaks first"))
    }

    fn close(&mut self, reply: Reply) -> Step {
        self.state = State::Closed;
        Step::new(Some(reply), Next::Close)
    }

    /// Refuses a line. Protocol errors count; what an address is refused for is a verdict and does not.
    fn refuse(&mut self, state: State, refusal: Reply) -> Step {
        let state = match state {
            State::Idle { .. } if !is_protocol_error(&refusal) => State::Idle { refused: true },
            state => state,
        };
        if is_protocol_error(&refusal) {
            self.errors += 1;
            if self.errors >= self.terms.max_errors {
                return self.close(reply(421, 7, 0, "Too many protocol errors; closing the connection"));
            }
        }
        self.go(state, refusal)
    }

    fn greet_first(&mut self, state: State) -> Step {
        self.out_of_order(state, if self.is_lmtp() { "Say LHLO first" } else { "Say EHLO or HELO first" })
    }

    fn out_of_order(&mut self, state: State, text: &'static str) -> Step {
        let refusal = reply(503, 5, 1, text);
        match state {
            State::Idle { refused: true } if self.helo.is_some() => self.go(state, refusal),
            state => self.refuse(state, refusal),
        }
    }
}

impl Step {
    fn new(reply: Option<Reply>, next: Next) -> Self {
        Self { reply, more: Vec::new(), next }
    }
}

impl State {
    fn reads_lines(&self) -> bool {
        matches!(self, Self::Idle { .. } | Self::Open(_) | Self::Chunks(..) | Self::Authenticating(_))
    }

    /// A response that cannot be read ends its exchange.
    fn without_exchange(self) -> Self {
        match self {
            Self::Authenticating(_) => Self::Idle { refused: false },
            state => state,
        }
    }
}
