//! What the log of messages keeps of a transaction: a line for each recipient.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::address::Address;
use crate::envelope::{Envelope, Origin, Transaction, TransactionId};
use crate::outcome::{Kind, Outcome, Verdict};
use crate::reply::Reply;
use crate::store::MessageRecord;

/// The lines of a transaction.
pub(super) fn of(transaction: &Transaction, verdicts: &[Verdict], reply: &Reply) -> Vec<MessageRecord> {
    let mut blank = blank(&transaction.origin, &transaction.envelope, transaction.id, reply);
    blank.bytes = transaction.data.len() as u64;
    let line = |verdict: &Verdict| MessageRecord {
        recipient: verdict.recipient.to_string(),
        account: verdict.account.to_string(),
        provider_id: match &verdict.outcome {
            Outcome::Accepted { id } => id.clone(),
            _ => None,
        },
        outcome: verdict.outcome.word().to_owned(),
        ..blank.clone()
    };
    verdicts.iter().map(line).collect()
}

/// The line of a recipient that was refused at RCPT. A day's refusals of mail from one domain to it are one line, the
/// latest: a program that tries for ever, with a sender of its own for each mail or not, must not push out what became of
/// real mails.
pub(super) fn of_refused(origin: &Origin, envelope: &Envelope, recipient: &Address, reply: &Reply) -> MessageRecord {
    let at = SystemTime::now();
    let day = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    let mut digest = Sha256::new_with_prefix(day.to_be_bytes());
    for part in [envelope.principal.as_deref(), envelope.reverse_path.as_ref().map(Address::domain)] {
        digest.update([u8::from(part.is_some())]);
        digest.update(part.unwrap_or_default());
        digest.update([0]);
    }
    let id = digest.finalize().first_chunk::<16>().map_or_else(Uuid::now_v7, |id| Uuid::new_v8(*id));
    MessageRecord {
        recipient: recipient.to_string(),
        outcome: Kind::Suppressed.row().name.to_owned(),
        ..blank(origin, envelope, TransactionId::new(id), reply)
    }
}

fn blank(origin: &Origin, envelope: &Envelope, id: TransactionId, reply: &Reply) -> MessageRecord {
    MessageRecord {
        id: id.to_string(),
        at: SystemTime::now(),
        client: origin.client.map(|ip| ip.to_string()),
        principal: envelope.principal.clone(),
        sender: envelope.reverse_path.as_ref().map(Address::to_string),
        recipient: String::new(),
        account: String::new(),
        provider_id: None,
        outcome: String::new(),
        reply: reply.to_string(),
        bytes: 0,
        last_event: None,
    }
}
