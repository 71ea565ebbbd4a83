//! The session, driven over a stream as a connection drives it, and watched by a witness who believes only what was said:
//! what is relayed is what the witness heard to be accepted, and nothing else.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use sidepost::address::Address;
use sidepost::envelope::{Login, Transaction, TransactionId};
use sidepost::reply::{Enhanced, Reply};
use sidepost::smtp::Protocol;
use sidepost::smtp::codec::{ChunkDecoder, DataDecoder, Decode, Flaw, Line, LineReader};
use sidepost::smtp::command::{self, Command, Mail, Utf8};
use sidepost::smtp::sasl::{Credentials, Verdict};
use sidepost::smtp::session::{Admission, Event, Next, Offer, Session, Step, Terms};

use super::reply::{is_lawful, is_refusal};
use super::{address, steered};

const HOSTNAME: &str = "relay.test";
/// How many octets of an input steer the test: two for the terms, the others are answers.
pub const STEER: usize = 10;
/// Answers that are no answers: silence, a shutdown, and an event that nobody asked for.
const IDLE: u8 = 0xff;
const DRAIN: u8 = 0xfe;
const STRAY: u8 = 0xfd;

/// Plays the input as what a client sends. An answer of 0 is always yes.
pub fn holds(input: &[u8]) {
    let (steer, wire) = steered::<STEER>(input);
    let terms = terms(steer[0], steer[1]);
    let witness = Witness::new(terms.clone());
    let (session, step) = Session::begin(terms);
    assert_eq!(step.reply.as_ref().map(|greeting| greeting.code), Some(220));
    let answers = steer[2..].to_vec();
    Dialogue { session, wire, lines: LineReader::default(), answers, asked: 0, ids: 0, witness }.converse(step.next);
}

fn terms(who: u8, offers: u8) -> Terms {
    let offer = |n: u8| match n & 3 {
        0 => Offer::No,
        2 => Offer::Required,
        _ => Offer::Optional,
    };
    let client: Option<IpAddr> = match who >> 2 & 3 {
        0 => Some([10, 0, 0, 1].into()),
        1 => Some([127, 0, 0, 1].into()),
        _ => None,
    };
    Terms {
        client,
        protocol: if who & 1 == 0 { Protocol::Smtp } else { Protocol::Lmtp },
        encrypted: who & 2 != 0,
        principal: (who & 32 != 0).then(|| "CN=first".to_owned()),
        hostname: Arc::from(HOSTNAME),
        max_message_size: 1000,
        max_recipients: 3,
        listener: Arc::from("smtp://127.0.0.1:25"),
        max_errors: 20,
        max_commands: 1_000_000,
        utf8_addresses: who & 64 != 0,
        admission: match (offer(offers >> 2), who & 16) {
            (Offer::Required, _) => Admission::LoginOnly,
            (_, 0) => Admission::Open,
            _ => Admission::Stranger,
        },
        tls: offer(offers),
        auth: offer(offers >> 2) != Offer::No,
        access: Arc::default(),
    }
}

/// What came of one line.
#[derive(Default)]
struct Turn {
    /// All that was said, but for 354.
    said: Vec<Reply>,
    /// Who was let in.
    welcome: Option<String>,
    /// Whether the relay has seen that nothing came behind the line.
    alone: bool,
    /// Whether a message came to its end.
    ended: bool,
    /// The octets of a chunk that was read.
    chunk: Option<Vec<u8>>,
    /// What must be said, since the relay said it.
    settled: Option<Vec<Reply>>,
}

// === The driver ===

struct Dialogue<'a> {
    session: Session,
    wire: &'a [u8],
    lines: LineReader,
    answers: Vec<u8>,
    asked: usize,
    ids: u128,
    witness: Witness,
}

impl<'a> Dialogue<'a> {
    /// Goes on until the session says that it is over, or the client has no more to say.
    fn converse(mut self, mut next: Next) {
        loop {
            let is_response = matches!(next, Next::ReadResponse);
            let before = self.session.protocol_errors();
            let (line, event) = match self.answer() {
                IDLE => (None, Event::Idle),
                DRAIN => (None, Event::Drain),
                STRAY => (None, Event::Swallowed),
                _ => match self.line(is_response) {
                    Some((Line::Command { len }, line)) => (Some(&line[..len]), Event::Line(&line[..len])),
                    Some((Line::Garble, _)) => (None, Event::Garble),
                    Some((Line::TooLong, _)) => (None, Event::TooLong),
                    None => return,
                },
            };
            let utf8 = self.witness.utf8();
            let must_close = matches!(event, Event::Idle | Event::Drain | Event::Swallowed);
            let step = self.session.step(event);
            let mut turn = Turn::default();
            let Some(after) = self.finish(step, &mut turn) else { return };
            assert!(!must_close || (matches!(after, Next::Close) && turn.said[0].code == 421));
            let command = line.filter(|_| !is_response).map(|line| command::parse(line, HOSTNAME, utf8));
            if let Some(Ok(Command::Bdat(chunk))) = &command {
                turn.ended |= chunk.last && turn.chunk.is_some();
            }
            self.witness.hear(line.unwrap_or_default(), command.as_ref(), &turn, &after);
            let errors = self.session.protocol_errors();
            assert!(errors - before <= 1 && errors <= 20, "one line is at most one error");
            if matches!(after, Next::Close) {
                return self.stays_closed();
            }
            assert_eq!(self.session.in_transaction(), self.witness.sender.is_some());
            assert_eq!(self.session.holds_octets(), self.witness.chunks.is_some());
            next = after;
        }
    }

    /// After the end nothing is said, whatever comes.
    fn stays_closed(mut self) {
        for event in [Event::Line(b"NOOP"), Event::Idle, Event::Swallowed, Event::SenderChecked(Ok(()))] {
            let step = self.session.step(event);
            assert!(step.reply.is_none() && step.more.is_empty() && matches!(step.next, Next::Close));
        }
    }

    fn answer(&mut self) -> u8 {
        self.asked += 1;
        self.answers[self.asked % self.answers.len()]
    }

    fn id(&mut self) -> TransactionId {
        self.ids += 1;
        TransactionId::new(uuid::Uuid::from_u128(self.ids))
    }

    /// The next line, if there is one, and the octets that begin with it.
    fn line(&mut self, is_response: bool) -> Option<(Line, &'a [u8])> {
        loop {
            let wire = self.wire;
            let scan = if is_response { self.lines.scan_response(wire) } else { self.lines.scan(wire) };
            self.wire = &wire[scan.used..];
            match scan.line {
                Some(line) => return Some((line, wire)),
                None if scan.used == 0 => return None,
                None => {}
            }
        }
    }

    /// Does what each step asks for, until a line is to be read. `None`: the client went away.
    fn finish(&mut self, mut step: Step, turn: &mut Turn) -> Option<Next> {
        loop {
            let mut said: Vec<Reply> = step.reply.into_iter().chain(step.more).inspect(is_lawful).collect();
            if matches!(step.next, Next::ReadData) {
                assert!(said.len() == 1 && said[0].code == 354, "{said:?}");
                said.clear();
            }
            turn.said.append(&mut said);
            let event = match step.next {
                Next::ReadLine | Next::ReadResponse | Next::Close => return Some(step.next),
                Next::ReadData => self.read_data(turn)?,
                Next::ReadChunk(decoder) => self.read_chunk(decoder, turn)?,
                Next::Swallow(octets) => {
                    let octets = usize::try_from(octets).ok()?;
                    self.wire = self.wire.get(octets..)?;
                    Event::Swallowed
                }
                Next::CheckSender(..) if self.answer() & 3 == 3 => {
                    Event::SenderChecked(Err(Reply::new(451, Enhanced(4, 3, 2), "Not now")))
                }
                Next::CheckSender(..) => Event::SenderChecked(Ok(())),
                Next::CheckRecipient(..) if self.answer() & 3 == 3 => {
                    Event::RecipientChecked(Err(Reply::new(550, Enhanced(5, 7, 1), "suppressed")))
                }
                Next::CheckRecipient(..) => Event::RecipientChecked(Ok(())),
                Next::CheckPassword(credentials) => self.check(credentials, turn),
                Next::LookBehind => {
                    // What comes later than the line is not behind it.
                    turn.alone = self.wire.is_empty() || self.answer() & 1 == 1;
                    Event::Behind(!turn.alone)
                }
                Next::Handshake => self.shake_hands(turn),
                Next::Relay(transaction) => self.relay(&transaction, turn),
            };
            step = self.session.step(event);
        }
    }

    fn read_data(&mut self, turn: &mut Turn) -> Option<Event<'static>> {
        assert!(turn.said.is_empty(), "354 is all that is said before the message");
        self.witness.may_send_data();
        let mut decoder = DataDecoder::new(self.session.max_message_size());
        match self.answer() {
            IDLE => return Some(Event::Idle),
            DRAIN => return Some(Event::Drain),
            answer if answer & 3 == 3 => decoder.give_up(),
            _ => {}
        }
        let end = decoder.decode(self.wire)?;
        self.wire = &self.wire[end..];
        turn.ended = true;
        let read = decoder.finish();
        self.witness.read(&read);
        Some(Event::Data(self.id(), read))
    }

    fn read_chunk(&mut self, mut decoder: ChunkDecoder, turn: &mut Turn) -> Option<Event<'static>> {
        assert!(turn.said.is_empty(), "nothing is said before a chunk");
        self.witness.may_send_data();
        match self.answer() {
            IDLE => return Some(Event::Idle),
            DRAIN => return Some(Event::Drain),
            answer if answer & 3 == 3 => decoder.give_up(),
            _ => {}
        }
        let end = decoder.decode(self.wire)?;
        turn.chunk = Some(self.wire[..end].to_vec());
        self.wire = &self.wire[end..];
        assert!(decoder.held() <= self.session.max_message_size());
        Some(Event::Chunk(self.id(), decoder.checked()))
    }

    fn check(&mut self, credentials: Credentials, turn: &mut Turn) -> Event<'static> {
        self.witness.may_authenticate();
        Event::PasswordChecked(match self.answer() & 3 {
            2 => Verdict::Refused,
            3 => Verdict::TooMany,
            _ => {
                turn.welcome = Some(credentials.user.clone());
                Verdict::Welcome(Login::of(credentials.user))
            }
        })
    }

    fn shake_hands(&mut self, turn: &mut Turn) -> Event<'static> {
        assert!(turn.alone && turn.said.len() == 1 && turn.said[0].code == 220);
        let principal = (self.answer() & 1 == 1).then(|| "CN=later".to_owned());
        self.lines = LineReader::default();
        self.witness.encrypted(principal.clone());
        Event::Encrypted(principal)
    }

    fn relay(&mut self, transaction: &Transaction, turn: &mut Turn) -> Event<'static> {
        assert!(turn.said.is_empty(), "nothing is said before it is settled");
        assert!(turn.settled.is_none(), "one message, one transaction");
        assert_eq!(transaction.id, TransactionId::new(uuid::Uuid::from_u128(self.ids)));
        let verdict = |n: u8| match n & 3 {
            1 => Reply::new(451, Enhanced(4, 0, 0), "Later"),
            2 => Reply::new(554, Enhanced(5, 0, 0), "Never"),
            _ => Reply::new(250, Enhanced(2, 0, 0), "Ok"),
        };
        let choice = self.answer();
        let reply = verdict(choice);
        // A relay that fails says nothing of each recipient.
        let told = if transaction.each && choice & 4 == 0 { transaction.envelope.recipients.len() } else { 0 };
        let each: Vec<Reply> = (0..told).map(|_| verdict(self.answer())).collect();
        turn.ended = true;
        turn.settled = Some(self.witness.relayed(transaction, turn.chunk.as_deref(), &reply, &each));
        Event::Settled(reply, each)
    }
}

// === The witness ===

/// What a client may believe of the session after all that it was told.
struct Witness {
    terms: Terms,
    encrypted: bool,
    principal: Option<String>,
    helo: Option<String>,
    /// MAIL, if it was accepted.
    sender: Option<Mail>,
    /// RCPT's arguments that were accepted, as often as they were.
    recipients: Vec<Address>,
    /// The octets of the chunks that were accepted.
    chunks: Option<Vec<u8>>,
    /// The message between 354 and the dot.
    data: Option<Bytes>,
}

impl Witness {
    fn new(terms: Terms) -> Self {
        let (principal, encrypted) = (terms.principal.clone(), terms.encrypted);
        Self { terms, encrypted, principal, helo: None, sender: None, recipients: Vec::new(), chunks: None, data: None }
    }

    /// Notes what a line led to. `command` is what it says, if it is no response.
    fn hear(&mut self, line: &[u8], command: Option<&Result<Command, Reply>>, turn: &Turn, next: &Next) {
        self.counts(turn, next);
        for reply in &turn.said {
            is_fit(line, reply, turn, next);
        }
        let Some(first) = turn.said.first() else { return };
        let accepted = first.code == 250;
        if turn.ended || matches!(next, Next::Close) {
            return self.reset();
        }
        if let Some(Err(refusal)) = command {
            assert_eq!(first, refusal, "the refusal of the parser is what is said");
        }
        match command {
            Some(Ok(Command::Ehlo(name) | Command::Helo(name) | Command::Lhlo(name))) if accepted => {
                self.greeted(name, first);
            }
            Some(Ok(Command::Rset)) if accepted => self.reset(),
            Some(Ok(Command::Mail(mail))) if accepted => {
                assert!(self.helo.is_some() && self.may_send() && self.sender.is_none());
                assert!(mail.size <= self.terms.max_message_size as u64);
                self.sender = Some(mail.clone());
            }
            Some(Ok(Command::Rcpt(recipient))) if accepted => {
                assert!(self.sender.is_some() && self.chunks.is_none());
                address::canonical(recipient);
                self.recipients.push(recipient.clone());
            }
            Some(Ok(Command::Bdat(chunk))) => self.chunk(accepted, chunk.last, turn),
            _ => {}
        }
        if first.code == 235 {
            self.principal.clone_from(&turn.welcome);
        }
    }

    /// One line, one reply; but LMTP has one for each recipient after a message (RFC 2033 §4.2).
    fn counts(&self, turn: &Turn, next: &Next) {
        let closed = matches!(next, Next::Close);
        let several = turn.ended && !closed && self.terms.protocol == Protocol::Lmtp;
        assert_eq!(turn.said.len(), if several { self.recipients.len() } else { 1 }, "{:?}", turn.said);
        match &turn.settled {
            Some(settled) => assert_eq!(&turn.said, settled, "what the relay said is what is said"),
            None => assert!(!turn.ended || turn.said.iter().all(|reply| reply.class() >= 4), "250 means it was taken"),
        }
    }

    fn reset(&mut self) {
        (self.sender, self.chunks, self.data) = (None, None, None);
        self.recipients.clear();
    }

    fn greeted(&mut self, name: &str, reply: &Reply) {
        self.reset();
        self.helo = Some(name.to_owned());
        let offers = |word: &str| reply.lines.iter().any(|line| line.split(' ').next() == Some(word));
        assert!(!offers("STARTTLS") || (self.terms.tls != Offer::No && !self.encrypted));
        assert!(!offers("AUTH") || self.is_private());
    }

    fn encrypted(&mut self, principal: Option<String>) {
        assert!(!self.encrypted && self.terms.tls != Offer::No && self.sender.is_none());
        self.reset();
        (self.helo, self.encrypted, self.principal) = (None, true, principal);
    }

    /// Whether addresses beyond ASCII are agreed on: offered, and asked for by MAIL for its own transaction.
    fn utf8(&self) -> Utf8 {
        match &self.sender {
            _ if !self.terms.utf8_addresses => Utf8::NotOffered,
            Some(mail) if mail.utf8 && self.chunks.is_none() => Utf8::InUse,
            _ => Utf8::Offered,
        }
    }

    /// Whether passwords can be read on the way.
    fn is_private(&self) -> bool {
        self.encrypted || self.terms.client.is_none_or(|client| client.is_loopback())
    }

    fn may_send(&self) -> bool {
        let in_the_clear = !self.encrypted && self.terms.client.is_some();
        let known = self.principal.is_some() || self.terms.admission == Admission::Open;
        known && !(self.terms.tls == Offer::Required && in_the_clear)
    }

    fn may_authenticate(&self) {
        assert!(self.terms.auth && self.is_private() && self.helo.is_some());
        assert!(self.sender.is_none() && self.principal.is_none());
    }

    fn may_send_data(&self) {
        assert!(self.sender.is_some() && !self.recipients.is_empty(), "no message without MAIL and RCPT");
    }

    fn read(&mut self, read: &Result<Bytes, Flaw>) {
        assert!(self.chunks.is_none(), "a message comes in chunks or not");
        self.data = read.as_ref().ok().cloned();
    }

    /// A chunk that is not the last: it is kept, or the transaction is gone; or it had no place and changes nothing.
    fn chunk(&mut self, accepted: bool, last: bool, turn: &Turn) {
        assert!(!accepted || turn.chunk.is_some(), "no chunk is accepted without its octets");
        match &turn.chunk {
            Some(octets) if accepted && !last => self.chunks.get_or_insert_default().extend_from_slice(octets),
            Some(_) => self.reset(),
            None => {}
        }
    }

    /// The transaction is what was accepted. Returns what must be said when it is settled.
    fn relayed(&self, transaction: &Transaction, chunk: Option<&[u8]>, reply: &Reply, each: &[Reply]) -> Vec<Reply> {
        self.may_send_data();
        assert!(self.may_send());
        let envelope = &transaction.envelope;
        let mut once: Vec<&Address> = Vec::new();
        for recipient in &self.recipients {
            if !once.contains(&recipient) {
                once.push(recipient);
            }
        }
        assert!(once.len() <= self.terms.max_recipients);
        assert_eq!(envelope.recipients.iter().collect::<Vec<_>>(), once);
        assert_eq!(Some(&envelope.reverse_path), self.sender.as_ref().map(|mail| &mail.reverse_path));
        assert_eq!(Some(&envelope.helo), self.helo.as_ref());
        assert_eq!(envelope.principal, self.principal);
        assert_eq!(transaction.origin.client, self.terms.client);
        let is_lmtp = self.terms.protocol == Protocol::Lmtp;
        assert_eq!(transaction.each, is_lmtp);
        assert!(transaction.data.len() <= self.terms.max_message_size);
        match chunk {
            Some(last) => {
                assert_eq!(transaction.data, [self.chunks.as_deref().unwrap_or_default(), last].concat());
            }
            None => assert_eq!(Some(&transaction.data), self.data.as_ref()),
        }
        let of = |recipient| once.iter().position(|other| *other == recipient).and_then(|at| each.get(at));
        if !is_lmtp {
            return vec![reply.clone()];
        }
        self.recipients.iter().map(|recipient| of(recipient).unwrap_or(reply).clone()).collect()
    }
}

/// What one reply may say.
fn is_fit(line: &[u8], reply: &Reply, turn: &Turn, next: &Next) {
    let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
    let is_greeting = [b"EHLO", b"HELO", b"LHLO"].iter().any(|greeting| verb == *greeting);
    assert!(reply.enhanced.is_some() || is_greeting || reply.code == 334, "{reply}");
    assert_eq!(reply.code == 235, turn.welcome.is_some(), "who is let in was known, and is told so: {reply}");
    assert_eq!(reply.code == 334, matches!(next, Next::ReadResponse), "{reply}");
    assert_eq!(reply.code == 220, turn.alone, "{reply}");
    assert!(reply.code != 354, "354 asks for a message");
    assert_eq!(reply.code == 421 || reply.code == 221, matches!(next, Next::Close) && !matches!(reply.code, 501 | 503));
    if turn.said.len() == 1 && reply.class() == 5 && turn.settled.is_none() {
        is_refusal(reply);
    }
}
