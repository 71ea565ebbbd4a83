//! What became of a recipient, and the SMTP reply that many outcomes become.

mod table;

use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::envelope::TransactionId;
use crate::reply::{Enhanced, Reply};

/// For those who know outcomes and no replies.
pub use crate::reply::{printable, steers};

pub use table::{Kind, Loudness, Overrides, Retry, Row, TABLE};

/// The verdict for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The API took the mail; its id for it, where it gave one.
    Accepted {
        /// The provider's message id.
        id: Option<String>,
    },
    /// Not taken; trying again later can help.
    Deferred(Cause),
    /// Not taken, and the same mail will not be taken later.
    Rejected(Cause),
}

impl Outcome {
    /// The outcome that the cause's row gives it.
    pub fn from_cause(cause: Cause) -> Self {
        if cause.row.code < 500 { Self::Deferred(cause) } else { Self::Rejected(cause) }
    }

    /// The same as an account tells it.
    #[must_use]
    pub fn told_by(self, overrides: &Overrides) -> Self {
        match self {
            Self::Deferred(cause) | Self::Rejected(cause) => Self::from_cause(cause.told_by(overrides)),
            accepted @ Self::Accepted { .. } => accepted,
        }
    }

    /// The cause, unless accepted.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Accepted { .. } => None,
            Self::Deferred(cause) | Self::Rejected(cause) => Some(cause),
        }
    }

    /// One word for logs and metrics: `accepted`, or the kind.
    pub fn word(&self) -> &'static str {
        self.cause().map_or("accepted", |cause| cause.row.name)
    }
}

/// Reads the word of an outcome.
///
/// # Errors
/// There is none of that name; which there are.
pub fn word_of(text: &str) -> Result<&'static str, String> {
    let words = || std::iter::once("accepted").chain(TABLE.iter().map(|row| row.name));
    let found = words().find(|word| *word == text);
    found.ok_or_else(|| format!("{text:?} is no outcome; there are {}", words().collect::<Vec<_>>().join(", ")))
}

/// The API's words without the addresses that they may quote.
pub fn without_addresses(words: &str) -> String {
    let hidden = words.split(' ').map(|word| if word.contains('@') { "(address)" } else { word });
    hidden.collect::<Vec<_>>().join(" ")
}

/// Why a recipient was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Which sort of reason.
    pub kind: Kind,
    /// What is told and done about it: the table's row, or what an account's configuration makes of that.
    pub row: Row,
    /// What the reply's reader should know, in printable ASCII.
    pub detail: String,
    /// The HTTP status that said so.
    pub status: Option<u16>,
    /// How long the provider asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Whether the API may have taken the mail all the same, by this attempt or an earlier one of the same transaction.
    pub in_doubt: bool,
    /// The marker of that mail; `None`: there is no doubt, or the API cannot be asked.
    pub marker: Option<Arc<str>>,
}

impl Cause {
    /// A cause with a detail; foreign text in it is made printable.
    pub fn new(kind: Kind, detail: impl AsRef<str>) -> Self {
        let detail = printable(detail.as_ref(), 240);
        Self { kind, row: *kind.row(), detail, status: None, retry_after: None, in_doubt: false, marker: None }
    }

    /// The same as another kind.
    #[must_use]
    pub fn of_kind(self, kind: Kind) -> Self {
        Self { kind, row: *kind.row(), ..self }
    }

    /// The same as an account tells it.
    #[must_use]
    pub fn told_by(self, overrides: &Overrides) -> Self {
        Self { row: overrides.row(self.kind), ..self }
    }

    /// The same with the HTTP status that said so.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// The same about a mail that the API may have taken, under this marker if it has one.
    #[must_use]
    pub fn with_doubt(self, marker: Option<Arc<str>>) -> Self {
        Self { in_doubt: true, marker, ..self }
    }

    /// The same with the pause that the provider asked for.
    #[must_use]
    pub fn with_retry_after(self, pause: Option<Duration>) -> Self {
        Self { retry_after: pause, ..self }
    }
}

/// What one reply to a whole transaction is made from.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The recipient.
    pub recipient: Address,
    /// The account that served it; empty where none did.
    pub account: Arc<str>,
    /// What became of it.
    pub outcome: Outcome,
}

/// Many verdicts, one reply (RFC 5321 §3.3: there is one reply after the dot): any deferred gives 4yz; else any accepted
/// gives 250; else the first rejection speaks. The order of the verdicts matters for the wording only. `id` names the
/// transaction. `strict`: a rejection outweighs acceptance (`partial_failure = "reject"`).
pub fn settle(verdicts: &[Verdict], id: TransactionId, strict: bool) -> Reply {
    let accepted = verdicts.iter().filter(|v| matches!(v.outcome, Outcome::Accepted { .. })).count();
    let first = |pick: fn(&Outcome) -> bool| verdicts.iter().find(|v| pick(&v.outcome));
    if let Some(deferred) = first(|o| matches!(o, Outcome::Deferred(_))) {
        return refusal(deferred, verdicts.len(), id);
    }
    let rejected = first(|o| matches!(o, Outcome::Rejected(_)));
    if accepted > 0 && !(strict && rejected.is_some()) {
        return acceptance(verdicts, accepted, id);
    }
    match rejected {
        Some(rejected) => refusal(rejected, verdicts.len(), id),
        None => fault("no recipient was left to settle", id),
    }
}

/// The reply when the relay itself is at fault: temporary, whatever happened (a bug must not bounce mail).
pub fn fault(what: &str, id: TransactionId) -> Reply {
    let row = Kind::Unexpected.row();
    Reply::new(row.code, row.enhanced, format!("{}: {} id={id}", row.says, printable(what, 200)))
}

/// The reply to MAIL while a cause that outlasts the transaction is known (hold-off, open breaker): the client is told
/// before it uploads the body. `account` is empty where none is to blame.
pub fn early_refusal(cause: &Cause, account: &str) -> Reply {
    let row = cause.row;
    let account = if account.is_empty() { String::new() } else { format!(" ({account})") };
    Reply::new(row.code, row.enhanced, format!("{}: {}{account}", row.says, cause.detail))
}

fn acceptance(verdicts: &[Verdict], accepted: usize, id: TransactionId) -> Reply {
    let mut ids: Vec<&str> = Vec::new();
    for verdict in verdicts {
        if let Outcome::Accepted { id: Some(id) } = &verdict.outcome
            && !ids.contains(&id.as_str())
        {
            ids.push(id);
        }
    }
    let mut text = String::from("Ok");
    // As many ids as leave room for the rest of the line.
    for provider_id in ids {
        let provider_id = printable(provider_id, 120);
        if text.len() + provider_id.len() > 320 {
            text.push_str(" ...");
            break;
        }
        text.push(' ');
        text.push_str(&provider_id);
    }
    text.push_str(&format!(" as {id}"));
    if accepted < verdicts.len() {
        let refused = verdicts.iter().find_map(|v| v.outcome.cause()).map_or("refused", |c| c.row.name);
        text.push_str(&format!(" ({accepted} of {} recipients; others {refused})", verdicts.len()));
    }
    Reply::new(250, Enhanced(2, 0, 0), text)
}

/// `<words of the table>: <detail> (<account> <HTTP status>) id=<transaction>`. The text makes sense without its code:
/// some clients show only one of the two.
fn refusal(verdict: &Verdict, of: usize, id: TransactionId) -> Reply {
    let Some(cause) = verdict.outcome.cause() else { return fault("refusal without a cause", id) };
    let row = cause.row;
    let mut text = String::from(row.says);
    if of > 1 || matches!(cause.kind, Kind::Suppressed | Kind::BadRecipient) {
        text.push_str(&format!(" <{}>", printable(verdict.recipient.as_str(), 100)));
    }
    if !cause.detail.is_empty() {
        text.push_str(&format!(": {}", cause.detail));
    }
    if let Some(pause) = cause.retry_after {
        text.push_str(&format!("; not before {} s", pause.as_secs()));
    }
    match (&*verdict.account, cause.status) {
        ("", _) => {}
        (account, Some(status)) => text.push_str(&format!(" ({account} {status})")),
        (account, None) => text.push_str(&format!(" ({account})")),
    }
    text.push_str(&format!(" id={id}"));
    Reply::new(row.code, row.enhanced, text)
}
