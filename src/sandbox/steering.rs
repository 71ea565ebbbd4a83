//! What a recipient's local part makes the sandbox do: addresses to try an application's error handling with.

use std::time::Duration;

use serde::Serialize;

/// Longest delay that `slow-MS` can ask for.
const MAX_DELAY: Duration = Duration::from_mins(10);

/// One line of the help page.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rule {
    /// An address to try it with. Whatever follows the rule's own words in the local part is free.
    pub address: &'static str,
    /// What it does.
    pub does: &'static str,
}

/// All rules, as people read them.
pub const RULES: &[Rule] = &[
    Rule { address: "anyone@example.com", does: "Taken. A delivered event goes to the registered webhooks." },
    Rule {
        address: "suppressed@example.com",
        does: "Refused: the recipient is on the suppression list. (The real ScaiSend and SendGrid answer 202 and drop the mail later; here it is said at once.)",
    },
    Rule { address: "invalid@example.com", does: "Refused: the recipient's address is not valid." },
    Rule {
        address: "rate-2-1@example.com",
        does: "429 with Retry-After: 1 for the first 2 tries at this address, then taken.",
    },
    Rule { address: "fail-2@example.com", does: "503 for the first 2 tries at this address, then taken." },
    Rule { address: "fail-inf@example.com", does: "503 always." },
    Rule { address: "slow-3000@example.com", does: "Taken at once, answered after 3000 milliseconds." },
    Rule { address: "hang@example.com", does: "Never answered, not taken." },
    Rule { address: "reset@example.com", does: "Not taken, connection closed without an answer." },
    Rule {
        address: "acceptreset@example.com",
        does: "Taken, but the connection is closed without an answer: the ambiguous case. (ScaiSend is asked for the mail then, and shows it.)",
    },
    Rule { address: "garbage@example.com", does: "Not taken; 200 with HTML, as a wrong URL or a proxy answers." },
    Rule { address: "unauth@example.com", does: "401, as for a wrong key." },
    Rule { address: "toolarge@example.com", does: "413." },
    Rule { address: "status-418@example.com", does: "That HTTP status (200 to 599)." },
    Rule { address: "bounce@example.com", does: "Taken, then a hard bounce event." },
    Rule { address: "complain@example.com", does: "Taken and delivered, then a spam complaint event." },
    Rule { address: "unsubscribe@example.com", does: "Taken and delivered, then an unsubscribe event." },
];

/// What happens to a send call because of one of its recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refused as suppressed.
    Suppressed,
    /// Refused as an invalid recipient.
    Invalid,
    /// 429 for so many tries.
    RateLimited {
        /// The tries that are refused.
        tries: u32,
        /// Seconds of Retry-After.
        retry_after: u32,
    },
    /// 503 for so many tries; `None` is always.
    Unavailable(Option<u32>),
    /// Taken at once, answered later.
    Slow(Duration),
    /// No answer, ever.
    Hang,
    /// Not taken, closed without an answer.
    Reset,
    /// Taken, closed without an answer.
    AcceptReset,
    /// 200 with HTML, not taken.
    Garbage,
    /// 401.
    Unauthorized,
    /// 413.
    TooLarge,
    /// This status.
    Status(u16),
}

/// What becomes of a taken mail at one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Delivered,
    /// The mailbox does not exist.
    Bounced,
    /// It arrives, and the recipient calls it spam.
    Complained,
    /// It arrives, and the recipient unsubscribes.
    Unsubscribed,
}

/// Words that need no number. No word is the beginning of another one.
const WORDS: &[(&str, Fault)] = &[
    ("suppressed", Fault::Suppressed),
    ("invalid", Fault::Invalid),
    ("hang", Fault::Hang),
    ("reset", Fault::Reset),
    ("acceptreset", Fault::AcceptReset),
    ("garbage", Fault::Garbage),
    ("unauth", Fault::Unauthorized),
    ("toolarge", Fault::TooLarge),
];

/// The fault that an address asks for.
pub fn fault(address: &str) -> Option<Fault> {
    let local = local_part(address);
    let word = WORDS.iter().find(|(word, _)| local.starts_with(word));
    word.map(|(_, fault)| *fault).or_else(|| numbered(&local))
}

/// What becomes of a mail to an address, once taken.
pub fn fate(address: &str) -> Fate {
    let local = local_part(address);
    match () {
        () if local.starts_with("bounce") => Fate::Bounced,
        () if local.starts_with("complain") => Fate::Complained,
        () if local.starts_with("unsubscribe") => Fate::Unsubscribed,
        () => Fate::Delivered,
    }
}

fn local_part(address: &str) -> String {
    address.rsplit_once('@').map_or(address, |(local, _)| local).to_ascii_lowercase()
}

/// `rate-N-S`, `fail-N`, `fail-inf`, `slow-MS`, `status-CODE`; without their numbers they are ordinary addresses.
fn numbered(local: &str) -> Option<Fault> {
    let (word, rest) = local.split_once('-')?;
    if word == "fail" && rest.starts_with("inf") {
        return Some(Fault::Unavailable(None));
    }
    let (first, rest) = leading_number(rest)?;
    match word {
        "rate" => {
            let (retry_after, _) = leading_number(rest.strip_prefix('-')?)?;
            Some(Fault::RateLimited { tries: first, retry_after })
        }
        "fail" => Some(Fault::Unavailable(Some(first))),
        "slow" => Some(Fault::Slow(Duration::from_millis(first.into()).min(MAX_DELAY))),
        "status" => u16::try_from(first).ok().filter(|code| (200..600).contains(code)).map(Fault::Status),
        _ => None,
    }
}

fn leading_number(text: &str) -> Option<(u32, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}
