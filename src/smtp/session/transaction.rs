//! What a mail goes through: MAIL, RCPT, and the message.

use bytes::Bytes;

use super::{Next, Offer, Session, State, Step, reply};
use crate::address::Address;
use crate::envelope::{Envelope, Transaction, TransactionId};
use crate::reply::Reply;
use crate::smtp::command::{self, Mail};

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
            return self.go(State::Open(envelope), reply(554, 5, 1, "No valid recipient; send RCPT before DATA"));
        }
        self.state = State::Data(envelope);
        Step { reply: Some(Reply::plain(354, "Send the message, end it with <CRLF>.<CRLF>")), next: Next::ReadData }
    }

    pub(super) fn relay(&mut self, envelope: Envelope, id: TransactionId, data: Bytes) -> Step {
        let transaction = Transaction { id, client: self.terms.client, envelope, data };
        self.wait(State::Relaying, Next::Relay(transaction))
    }
}
