//! The one table that turns an outcome into an SMTP reply, and what operators change in it.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;

use crate::reply::Enhanced;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

impl Kind {
    /// Whether the API may have taken the mail all the same. Not only without an answer: a 500 may come after the mail was
    /// put into the queue, and a 502 or 504 is the word of a gateway that does not know.
    pub fn leaves_doubt(self) -> bool {
        matches!(self, Self::Ambiguous | Self::ServerError | Self::Gateway)
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // In the environment a key has no hyphen.
        let name = text.replace('_', "-");
        if let Some(row) = TABLE.iter().find(|row| row.name == name) {
            return Ok(row.kind);
        }
        let near = |row: &&Row| strsim::jaro_winkler(row.name, &name);
        let best = TABLE.iter().max_by(|a, b| near(a).total_cmp(&near(b))).filter(|best| near(best) > 0.7);
        let hint = best.map(|row| format!("; did you mean {:?}?", row.name)).unwrap_or_default();
        Err(format!("{text:?} is no outcome{hint} (`sidepost replies` lists them)"))
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

// === What operators change ===

/// The codes that may be said after the dot (RFC 5321 §4.3.2); 250 is said by success alone.
const CODES: [u16; 6] = [450, 451, 452, 550, 552, 554];

/// `providers.*.replies`: other codes, and other retries, for some kinds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Overrides(pub BTreeMap<Kind, Told>);

/// What is told and done instead, written `"450 4.7.1"`, `"554 5.7.1 no"`, `"yes"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Told {
    /// The SMTP code.
    pub code: Option<u16>,
    /// The enhanced code; without one the table's, in the class of the code.
    pub enhanced: Option<Enhanced>,
    /// Whether it is tried again.
    pub retry: Option<Retry>,
}

impl Overrides {
    /// The row of a kind, as changed.
    pub fn row(&self, kind: Kind) -> Row {
        let row = *kind.row();
        let Some(told) = self.0.get(&kind) else { return row };
        let code = told.code.unwrap_or(row.code);
        let enhanced = told.enhanced.unwrap_or(Enhanced::of(code, row.enhanced.1, row.enhanced.2));
        Row { code, enhanced, retry: told.retry.unwrap_or(row.retry), ..row }
    }

    /// What must not be changed: a request that may have been taken is not sent again blindly.
    ///
    /// # Errors
    /// The sentence for the operator.
    pub fn check(&self) -> Result<(), String> {
        let told = self.0.get(&Kind::Ambiguous).and_then(|told| told.retry);
        match told {
            Some(Retry::Within | Retry::Elsewhere) => {
                Err("what may have been taken is never sent again by sidepost; see delivery.ambiguous".into())
            }
            _ => Ok(()),
        }
    }
}

impl Retry {
    /// The word in `sidepost replies` and in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Within => "yes",
            Self::Elsewhere => "elsewhere",
            Self::Never => "no",
        }
    }
}

impl FromStr for Told {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{text:?} {what}; write like \"450 4.7.1\" or \"451 4.3.0 yes\"");
        let mut told = Self::default();
        for word in text.split_whitespace() {
            if let Some(retry) = [Retry::Within, Retry::Elsewhere, Retry::Never].into_iter().find(|r| r.word() == word)
            {
                told.retry = Some(retry);
            } else if let Some(enhanced) = enhanced(word) {
                told.enhanced = Some(enhanced);
            } else {
                let code = word.parse().ok().filter(|code| CODES.contains(code));
                told.code = Some(code.ok_or_else(|| wrong("has a code that is none of 450, 451, 452, 550, 552, 554"))?);
            }
        }
        match (told.code, told.enhanced) {
            _ if told == Self::default() => Err(wrong("says nothing")),
            (None, Some(_)) => Err(wrong("has an enhanced code without a code")),
            (Some(code), Some(enhanced)) if u16::from(enhanced.0) != code / 100 => {
                Err(wrong("has two codes of different classes"))
            }
            _ => Ok(told),
        }
    }
}

impl TryFrom<String> for Told {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// `4.7.1` (RFC 3463 §2).
fn enhanced(word: &str) -> Option<Enhanced> {
    let numbers: Vec<u8> = word.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    match numbers.as_slice() {
        [class @ (4 | 5), subject, detail] => Some(Enhanced(*class, *subject, *detail)),
        _ => None,
    }
}
