//! What became of a recipient, and the one table that turns it into an SMTP reply.

use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::envelope::TransactionId;
use crate::reply::{Enhanced, Reply, printable};

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
    /// The outcome that the table gives to a cause.
    pub fn from_cause(cause: Cause) -> Self {
        if cause.kind.row().code < 500 { Self::Deferred(cause) } else { Self::Rejected(cause) }
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
        self.cause().map_or("accepted", |cause| cause.kind.row().name)
    }
}

/// Why a recipient was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Which sort of reason.
    pub kind: Kind,
    /// What the reply's reader should know, in printable ASCII.
    pub detail: String,
    /// The HTTP status that said so.
    pub status: Option<u16>,
    /// How long the provider asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl Cause {
    /// A cause with a detail; foreign text in it is made printable.
    pub fn new(kind: Kind, detail: impl AsRef<str>) -> Self {
        Self { kind, detail: printable(detail.as_ref(), 240), status: None, retry_after: None }
    }

    /// The same with the HTTP status that said so.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// The same with the pause that the provider asked for.
    #[must_use]
    pub fn with_retry_after(self, pause: Option<Duration>) -> Self {
        Self { retry_after: pause, ..self }
    }
}

/// Whether a failed attempt may be repeated inside the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The API did not take the mail for sure: again, while deadline and attempts last.
    Within,
    /// The same, but it would be no other the next time; another account may be tried.
    Elsewhere,
    /// The mail is at fault, or may have been taken: the client decides.
    Never,
}

/// How loud a cause is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loudness {
    /// The client's business.
    Info,
    /// Somebody should look if it lasts.
    Warn,
    /// An operator has to act, or mail stays undelivered.
    Error,
}

/// One row of the outcome table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The kind.
    pub kind: Kind,
    /// Its name in logs, metrics and the configuration.
    pub name: &'static str,
    /// Tried again inside the transaction?
    pub retry: Retry,
    /// SMTP code after the dot.
    pub code: u16,
    /// Enhanced code.
    pub enhanced: Enhanced,
    /// Log level.
    pub loudness: Loudness,
    /// What the API did.
    pub when: &'static str,
    /// First words of the reply.
    pub says: &'static str,
}

macro_rules! table {
    ($($kind:ident $name:literal $retry:ident $code:literal $subject:literal $detail:literal $loud:ident, $when:literal => $says:literal;)*) => {
        /// The sorts of reasons, one row of [`TABLE`] each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $(#[doc = $when] $kind),* }

        /// Outcome → reply: the only place that knows. Printed by `sidepost replies` and repeated in the README
        /// (RFC 5321 §4.3.2 for the codes, RFC 3463 and RFC 5248 for the enhanced ones).
        pub const TABLE: &[Row] = &[$(Row {
            kind: Kind::$kind, name: $name, retry: Retry::$retry, code: $code, enhanced: Enhanced::of($code, $subject, $detail),
            loudness: Loudness::$loud, when: $when, says: $says,
        }),*];
    };
}

table! {
    Throttled     "throttled"     Within 451 4 5 Warn,  "429, and Retry-After does not fit into the deadline" => "The mail API limits the rate; try again later";
    Unavailable   "unavailable"   Within 451 3 2 Warn,  "503, 408, 421, 425; a breaker or hold-off is on" => "The mail API is not available; try again later";
    ServerError   "server-error"  Never  451 3 0 Warn,  "500 and other 5xx: it may have been processed" => "The mail API failed; try again later";
    Gateway       "gateway"       Never  451 4 2 Warn,  "502, 504: what is behind it may have processed it" => "The mail API's gateway failed; try again later";
    Unreachable   "unreachable"   Within 451 4 1 Warn,  "connection refused, unreachable, connect timeout" => "The mail API cannot be reached; try again later";
    Dns           "dns"           Within 451 4 3 Warn,  "the API's host name does not resolve" => "The mail API's host name does not resolve; try again later";
    Tls           "tls"           Elsewhere  451 7 5 Error, "TLS handshake or certificate failure" => "No secure connection to the mail API; try again later";
    Interrupted   "interrupted"   Within 451 4 2 Warn,  "connection lost before the request was sent whole" => "The connection to the mail API broke; try again later";
    Unsent        "unsent"        Within 451 3 0 Info,  "the request was refused because of another recipient in it" => "Not sent; try again";
    Ambiguous     "ambiguous"     Never  451 4 2 Error, "request sent whole, no answer: it may have been taken" => "No answer from the mail API, outcome unknown";
    Credentials   "credentials"   Elsewhere  451 3 5 Error, "401, 403: the API key is wrong or lacks a right" => "The relay's API key was refused; the operator has to act";
    BadLogin      "bad-login"     Never  554 7 8 Info,  "401, 403 for the key that the client logged in with (smtp.auth.passthrough)" => "The mail API refuses the key that you logged in with";
    Quota         "quota"         Elsewhere  451 3 2 Error, "402, quota or credits used up, account suspended" => "The mail account's quota is used up or it is suspended; try again later";
    Misconfigured "misconfigured" Elsewhere  451 3 5 Error, "404, 405, 406, 410, 415, 3xx, or 2xx that is not the API's" => "The relay's API address is wrong; the operator has to act";
    Pending       "pending"       Never  451 3 0 Info,  "the same mail of the same client is under way, and has no outcome yet" => "The same mail is under way; try again later";
    Unexpected    "unexpected"    Never  451 3 0 Error, "an answer nobody knows, or a fault of the relay" => "Unexpected answer; try again later";
    BadSender     "bad-sender"    Never  550 7 1 Info,  "the sender's address or domain is not allowed or not verified" => "The sender is refused";
    BadRecipient  "bad-recipient" Never  550 1 3 Info,  "the recipient's address is not valid" => "The recipient's address is refused";
    Suppressed    "suppressed"    Never  550 7 1 Info,  "the recipient is on a suppression list" => "The recipient is suppressed";
    TooLarge      "too-large"     Never  552 3 4 Info,  "413, or larger than the API takes" => "The message is too large";
    BadContent    "bad-content"   Never  554 6 0 Info,  "400, 422: the API refuses content or fields; or MIME or a control header that cannot be read" => "The message is refused";
    Unsupported   "unsupported"   Never  554 6 3 Info,  "the API has no field for a part of the message (policy refuse)" => "The mail API cannot carry this message";
    NotAscii      "not-ascii"     Never  550 6 7 Info,  "an address is outside ASCII, and the API is not known to take it" => "The mail API takes ASCII addresses only";
    Refused       "refused"       Never  554 0 0 Info,  "any other 4xx" => "The mail API refused the message";
    Overloaded    "overloaded"    Elsewhere  452 3 1 Warn,  "the relay's own limits are reached" => "The relay is at its limit; try again later";
}

impl Kind {
    /// The row of this kind.
    #[allow(clippy::indexing_slicing)] // Variants and rows come from the same lines, in the same order.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
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
    let row = cause.kind.row();
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
        let refused = verdicts.iter().find_map(|v| v.outcome.cause()).map_or("refused", |c| c.kind.row().name);
        text.push_str(&format!(" ({accepted} of {} recipients; others {refused})", verdicts.len()));
    }
    Reply::new(250, Enhanced(2, 0, 0), text)
}

/// `<words of the table>: <detail> (<account> <HTTP status>) id=<transaction>`. The text makes sense without its code:
/// some clients show only one of the two.
fn refusal(verdict: &Verdict, of: usize, id: TransactionId) -> Reply {
    let Some(cause) = verdict.outcome.cause() else { return fault("refusal without a cause", id) };
    let row = cause.kind.row();
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
