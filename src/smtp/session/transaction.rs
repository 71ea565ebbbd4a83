//! What a mail goes through: MAIL, RCPT, and the message.

use std::sync::Arc;

use bytes::Bytes;

use super::{Draft, Next, Session, State, Step, reply};
use crate::address::Address;
use crate::envelope::{Envelope, Origin, Transaction, TransactionId};
use crate::reply::Reply;
use crate::smtp::Protocol;
use crate::smtp::codec::{ChunkDecoder, Decode, Flaw};
use crate::smtp::command::{self, Chunk, Mail, Utf8};

impl Session {
    pub(super) fn mail(&mut self, mail: Mail) -> Step {
        // RFC 5321 §4.1.4: a session must be initialised before it takes mail.
        let Some(helo) = self.helo.clone() else {
            return self.greet_first(State::Idle { refused: false });
        };
        let refused = State::Idle { refused: true };
        if mail.auth && !self.terms.auth {
            return self.refuse(refused, command::unknown_parameter(b"AUTH", "MAIL"));
        }
        if let Some(refusal) = self.denial() {
            return self.go(refused, refusal);
        }
        let principal = self.login.as_ref().map(|login| login.principal.clone());
        if let Err(why) = self.terms.access.sender(principal.as_deref(), mail.reverse_path.as_ref()) {
            let sender = mail.reverse_path.as_ref().map(Address::as_str).unwrap_or_default();
            return self.go(refused, reply(550, 7, 1, format!("The sender <{sender}> is refused: {why}")));
        }
        if mail.size > self.terms.max_message_size as u64 {
            return self.go(refused, self.too_large(None)); // RFC 1870 §6.1
        }
        let envelope = Envelope { helo, principal, reverse_path: mail.reverse_path, recipients: Vec::new() };
        let asked = Next::CheckSender(self.origin(), Box::new(envelope.clone()), mail.size);
        self.wait(State::Asking(Draft { envelope, told: Vec::new(), utf8: mail.utf8 }), asked)
    }

    /// RFC 6531 §3.4: MAIL asks for UTF-8, and for its own transaction only.
    pub(super) fn utf8(&self, state: &State) -> Utf8 {
        match state {
            _ if !self.terms.utf8_addresses => Utf8::NotOffered,
            State::Open(Draft { utf8: true, .. }) => Utf8::InUse,
            _ => Utf8::Offered,
        }
    }

    pub(super) fn rcpt(&mut self, draft: Draft, address: Address) -> Step {
        if let Err(why) = self.terms.access.recipient(&address) {
            return self
                .go(State::Open(draft), reply(550, 7, 1, format!("The recipient <{address}> is refused: {why}")));
        }
        let Draft { envelope, told, .. } = &draft;
        let is_known = envelope.recipients.contains(&address);
        let most = self.terms.max_recipients;
        if (!is_known && envelope.recipients.len() >= most) || told.len() >= most {
            // RFC 5321 §4.5.3.1.10: 452, and the transaction goes on with those accepted.
            let text = "Too many recipients in one transaction; send the rest in another one";
            return self.go(State::Open(draft), reply(452, 5, 3, text));
        }
        if is_known {
            return self.named(draft, address, Ok(()));
        }
        let sender = Envelope {
            helo: String::new(),
            principal: envelope.principal.clone(),
            reverse_path: envelope.reverse_path.clone(),
            recipients: Vec::new(),
        };
        let asked = Next::CheckRecipient(self.origin(), Box::new(sender), address.clone());
        self.wait(State::Naming(draft, address), asked)
    }

    /// A recipient that is refused is no recipient of this transaction; the others are not concerned.
    pub(super) fn named(&mut self, mut draft: Draft, address: Address, verdict: Result<(), Reply>) -> Step {
        if let Err(refusal) = verdict {
            return self.go(State::Open(draft), refusal);
        }
        let Draft { envelope, told, .. } = &mut draft;
        let known = envelope.recipients.iter().position(|recipient| *recipient == address);
        if self.terms.protocol == Protocol::Lmtp {
            told.push(known.unwrap_or(envelope.recipients.len()));
        }
        if known.is_none() {
            envelope.recipients.push(address);
            self.commands = self.commands.saturating_sub(1); // It is part of a mail, like the chunks.
        }
        self.go(State::Open(draft), reply(250, 1, 5, "Recipient ok"))
    }

    pub(super) fn data(&mut self, draft: Draft) -> Step {
        if draft.envelope.recipients.is_empty() {
            return self.no_recipient(draft);
        }
        self.state = State::Data(draft);
        Step::new(Some(Reply::plain(354, "Send the message, end it with <CRLF>.<CRLF>")), Next::ReadData)
    }

    fn no_recipient(&mut self, draft: Draft) -> Step {
        let code = if self.is_lmtp() { 503 } else { 554 }; // RFC 2033 §4.2.
        self.go(State::Open(draft), reply(code, 5, 1, "No valid recipient; send RCPT before the message"))
    }

    // === BDAT ===

    /// A chunk is read wherever it comes: its octets must never be taken for commands (RFC 3030 §2).
    pub(super) fn bdat(&mut self, state: State, chunk: Chunk) -> Step {
        let (draft, decoder) = match state {
            State::Open(draft) if !draft.envelope.recipients.is_empty() => {
                (draft, ChunkDecoder::new(self.terms.max_message_size))
            }
            State::Chunks(draft, decoder) => (draft, decoder),
            state => return self.wait(State::Swallowing(Box::new(state)), Next::Swallow(chunk.size)),
        };
        self.wait(State::Chunk(draft, chunk), Next::ReadChunk(decoder.expect(chunk.size, chunk.last)))
    }

    pub(super) fn took_chunk(
        &mut self,
        draft: Draft,
        chunk: Chunk,
        id: TransactionId,
        chunks: Result<ChunkDecoder, Flaw>,
    ) -> Step {
        match chunks {
            Ok(chunks) if chunk.last => match chunks.finish() {
                Ok(data) => self.relay(draft, id, data),
                Err(flaw) => self.settled(&draft.told, self.flaw_reply(flaw, id), &[]),
            },
            Ok(chunks) => {
                self.commands = self.commands.saturating_sub(chunk.size.min(1));
                let held = chunks.held();
                self.go(State::Chunks(draft, chunks), reply(250, 0, 0, format!("Ok, {held} octets so far")))
            }
            Err(flaw) if chunk.last => self.settled(&draft.told, self.flaw_reply(flaw, id), &[]),
            // The chunks that are under way already are refused as well, and are no errors of the client's own.
            Err(flaw) => self.go(State::Idle { refused: true }, self.flaw_reply(flaw, id)),
        }
    }

    pub(super) fn swallowed(&mut self, state: State) -> Step {
        match state {
            State::Open(draft) => self.no_recipient(draft),
            state => self.out_of_order(state, "No transaction is open; send MAIL and RCPT before BDAT"),
        }
    }

    /// What follows cannot be told from commands, so there is no going on.
    pub(super) fn lose_step(&mut self) -> Step {
        let text = "Write BDAT 1234, or BDAT 1234 LAST; without the size we are out of step; closing the connection";
        self.close(reply(501, 5, 4, text))
    }

    // === The end of both ===

    pub(super) fn relay(&mut self, draft: Draft, id: TransactionId, data: Bytes) -> Step {
        let Draft { envelope, told, .. } = draft;
        self.commands = 0;
        let transaction = Transaction { id, origin: self.origin(), envelope, data, each: self.is_lmtp() };
        self.wait(State::Relaying(told), Next::Relay(transaction))
    }

    fn origin(&self) -> Origin {
        let api_key = self.login.as_ref().and_then(|login| login.api_key.clone());
        Origin { client: self.terms.client, listener: Arc::clone(&self.terms.listener), api_key }
    }

    /// The replies to a whole message: one; or in LMTP one for each RCPT that was accepted, in their order.
    pub(super) fn settled(&mut self, told: &[usize], reply: Reply, each: &[Reply]) -> Step {
        let mut replies = told.iter().map(|at| each.get(*at).unwrap_or(&reply).clone());
        let first = replies.next();
        let more = replies.collect();
        Step { more, ..self.idle(first.unwrap_or(reply)) }
    }
}
