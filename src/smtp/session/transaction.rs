//! What a mail goes through: MAIL, RCPT, and the message.

use bytes::Bytes;

use super::{Next, Offer, Session, State, Step, reply};
use crate::address::Address;
use crate::envelope::{Envelope, Transaction, TransactionId};
use crate::reply::Reply;
use crate::smtp::codec::{ChunkDecoder, Decode, Flaw};
use crate::smtp::command::{self, Chunk, Mail};

impl Session {
    pub(super) fn mail(&mut self, mail: Mail) -> Step {
        // RFC 5321 §4.1.4: a session must be initialised before it takes mail.
        let Some(helo) = self.helo.clone() else {
            return self.out_of_order(State::Idle { refused: false }, "Say EHLO or HELO first");
        };
        let refused = State::Idle { refused: true };
        if mail.auth && self.terms.auth == Offer::No {
            return self.refuse(refused, command::unknown_parameter(b"AUTH", "MAIL"));
        }
        if let Some(refusal) = self.denial() {
            return self.go(refused, refusal);
        }
        if mail.size > self.terms.max_message_size as u64 {
            return self.go(refused, self.too_large(None)); // RFC 1870 §6.1
        }
        let (principal, reverse_path) = (self.principal.clone(), mail.reverse_path);
        let envelope = Envelope { helo, principal, reverse_path, recipients: Vec::new() };
        self.wait(State::Asking(envelope), Next::CheckSender)
    }

    pub(super) fn rcpt(&mut self, mut envelope: Envelope, address: Address) -> Step {
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

    pub(super) fn data(&mut self, envelope: Envelope) -> Step {
        if envelope.recipients.is_empty() {
            return self.no_recipient(envelope);
        }
        self.state = State::Data(envelope);
        Step { reply: Some(Reply::plain(354, "Send the message, end it with <CRLF>.<CRLF>")), next: Next::ReadData }
    }

    fn no_recipient(&mut self, envelope: Envelope) -> Step {
        self.go(State::Open(envelope), reply(554, 5, 1, "No valid recipient; send RCPT before the message"))
    }

    // === BDAT ===

    /// A chunk is read wherever it comes: its octets must never be taken for commands (RFC 3030 §2).
    pub(super) fn bdat(&mut self, state: State, chunk: Chunk) -> Step {
        let (envelope, decoder) = match state {
            State::Open(envelope) if !envelope.recipients.is_empty() => {
                (envelope, ChunkDecoder::new(self.terms.max_message_size))
            }
            State::Chunks(envelope, decoder) => (envelope, decoder),
            state => return self.wait(State::Swallowing(Box::new(state)), Next::Swallow(chunk.size)),
        };
        self.wait(State::Chunk(envelope), Next::ReadChunk(decoder.expect(chunk.size, chunk.last)))
    }

    pub(super) fn took_chunk(
        &mut self,
        envelope: Envelope,
        id: TransactionId,
        chunks: Result<ChunkDecoder, Flaw>,
    ) -> Step {
        match chunks {
            Ok(chunks) if chunks.is_last() => match chunks.finish() {
                Ok(data) => self.relay(envelope, id, data),
                Err(flaw) => self.idle(self.flaw_reply(flaw, id)),
            },
            Ok(chunks) => {
                let held = chunks.held();
                self.go(State::Chunks(envelope, chunks), reply(250, 0, 0, format!("Ok, {held} octets so far")))
            }
            // The chunks that are under way already are refused as well, and are no errors of the client's own.
            Err(flaw) => self.go(State::Idle { refused: true }, self.flaw_reply(flaw, id)),
        }
    }

    pub(super) fn swallowed(&mut self, state: State) -> Step {
        match state {
            State::Open(envelope) => self.no_recipient(envelope),
            state => self.out_of_order(state, "No transaction is open; send MAIL and RCPT before BDAT"),
        }
    }

    /// What follows cannot be told from commands, so there is no going on.
    pub(super) fn lose_step(&mut self) -> Step {
        let text = "Write BDAT 1234, or BDAT 1234 LAST; without the size we are out of step; closing the connection";
        self.close(reply(501, 5, 4, text))
    }

    // === The end of both ===

    pub(super) fn relay(&mut self, envelope: Envelope, id: TransactionId, data: Bytes) -> Step {
        let transaction = Transaction { id, client: self.terms.client, envelope, data };
        self.wait(State::Relaying, Next::Relay(transaction))
    }
}
