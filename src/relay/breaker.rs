//! When an account is left alone: hold-off by Retry-After, breaker by repeated failure. Pure: time comes in.

use std::time::{Duration, Instant};

use crate::outcome::{Cause, Kind, without_addresses};

/// Failed requests in a row that open the breaker.
const FAILURES: u32 = 5;

/// How often those look again that wait for a probe.
const PROBE_POLL: Duration = Duration::from_millis(50);

/// The state of one account.
///
/// ```text
///            5 failures, or one of credentials, quota, address
///   Closed ────────────────────────────────────────────────────▶ Open
///     ▲                                                           │ probe_interval
///     │ the probe is answered                                     ▼
///     └──────────────────────────────────────────────────────── Probing ──▶ Open again
/// ```
/// A hold-off stands beside it: it only says when the next request may go.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    hold_off: Option<(Instant, Cause)>,
    probe_interval: Duration,
    max_hold_off: Duration,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, cause: Cause },
    Probing { since: Instant, cause: Cause },
}

/// Whether a request may go.
#[derive(Debug, PartialEq, Eq)]
pub enum Pass {
    /// Now.
    Now,
    /// At that time, and not before.
    At(Instant),
    /// Not within the deadline.
    Never(Cause),
}

/// What a report changed, for the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The breaker opened.
    Opened,
    /// The account takes mail again.
    Closed,
}

impl Breaker {
    /// A closed one.
    pub fn new(probe_interval: Duration, max_hold_off: Duration) -> Self {
        Self { state: State::Closed { failures: 0 }, hold_off: None, probe_interval, max_hold_off }
    }

    /// Whether a request may go before `deadline`. A `Now` from an open breaker makes the caller the probe: one at a
    /// time, and a probe that never reports is replaced after another interval.
    pub fn enter(&mut self, now: Instant, deadline: Instant) -> Pass {
        match self.look(now, deadline) {
            Pass::Now => {
                if let State::Open { cause, .. } | State::Probing { cause, .. } = &self.state {
                    self.state = State::Probing { since: now, cause: cause.clone() };
                }
                Pass::Now
            }
            other => other,
        }
    }

    /// As [`Breaker::enter`], without becoming the probe: for MAIL, where nothing is sent yet. While a probe runs the
    /// others wait for what it finds, rather than be refused for what was the matter before.
    pub fn look(&self, now: Instant, deadline: Instant) -> Pass {
        let next = match &self.state {
            State::Open { until, cause } if *until > now => return Pass::Never(paused(cause, *until - now)),
            State::Probing { since, .. } if *since + self.probe_interval > now => Some(now + PROBE_POLL),
            _ => None,
        };
        match (next, &self.hold_off) {
            (_, Some((until, cause))) if *until > deadline => Pass::Never(paused(cause, *until - now)),
            (_, Some((until, _))) if *until > now => Pass::At(*until),
            (Some(then), _) if then > deadline => Pass::Never(Cause::new(Kind::Unavailable, "waiting for a probe")),
            (Some(then), _) => Pass::At(then),
            (None, _) => Pass::Now,
        }
    }

    /// The API answered in a way that shows it well, whatever it said of the mail.
    pub fn answered(&mut self) -> Change {
        match std::mem::replace(&mut self.state, State::Closed { failures: 0 }) {
            State::Closed { .. } => Change::None,
            State::Open { .. } | State::Probing { .. } => Change::Closed,
        }
    }

    /// A request failed by `cause`.
    pub fn failed(&mut self, cause: &Cause, now: Instant) -> Change {
        if let Some(pause) = cause.retry_after.filter(|_| is_about_the_account(cause.kind)) {
            let until = now + pause.min(self.max_hold_off);
            // Answers overtake each other: the longest pause asked for counts.
            if self.hold_off.as_ref().is_none_or(|(held, _)| until > *held) {
                self.hold_off = Some((until, cause.clone()));
            }
        }
        let failures = match (&self.state, weight(cause.kind)) {
            (_, Weight::None) => return self.answered(),
            (State::Closed { failures }, Weight::One) if failures + 1 < FAILURES => failures + 1,
            // Of a request that had begun before: what opened the breaker is still the reason.
            (State::Open { .. }, Weight::One) => return Change::None,
            (was, _) => {
                let change = if matches!(was, State::Closed { .. }) { Change::Opened } else { Change::None };
                self.state = State::Open { until: now + self.probe_interval, cause: cause.clone() };
                return change;
            }
        };
        self.state = State::Closed { failures };
        Change::None
    }

    /// Why the account takes no mail that has to be sent by `deadline`; `None` when it does. When the pause is over it does:
    /// the next mail finds out, and where readiness decides who gets mail there would never be one.
    pub fn trouble(&self, now: Instant, deadline: Instant) -> Option<Cause> {
        match (&self.state, &self.hold_off) {
            (State::Open { until, cause }, _) if *until > now => Some(cause.clone()),
            (State::Probing { since, cause }, _) if *since + self.probe_interval > now => Some(cause.clone()),
            (_, Some((until, cause))) if *until > deadline => Some(paused(cause, *until - now)),
            _ => None,
        }
    }
}

/// How much a kind says about the account.
enum Weight {
    /// The API is well: the mail, the recipient or the rate was at fault.
    None,
    /// One more failure.
    One,
    /// No request can succeed until somebody acts.
    All,
}

fn weight(kind: Kind) -> Weight {
    match kind {
        Kind::Credentials | Kind::Quota | Kind::Misconfigured => Weight::All,
        Kind::Unavailable
        | Kind::ServerError
        | Kind::Gateway
        | Kind::Unreachable
        | Kind::Dns
        | Kind::Tls
        | Kind::Interrupted
        | Kind::Ambiguous => Weight::One,
        _ => Weight::None,
    }
}

/// Whether a pause that comes with it is for all mails: a conflict, say, is one mail's.
fn is_about_the_account(kind: Kind) -> bool {
    kind == Kind::Throttled || !matches!(weight(kind), Weight::None)
}

/// What those are told that meet the pause. Nothing of theirs was sent: what happened to another mail (its answer was lost,
/// say) did not happen to them, and what the API said of it is not theirs to read; of the account, it is.
fn paused(cause: &Cause, left: Duration) -> Cause {
    let kind = match cause.kind {
        Kind::Credentials | Kind::Quota | Kind::Misconfigured | Kind::Throttled => cause.kind,
        _ => Kind::Unavailable,
    };
    let is_theirs = matches!(weight(cause.kind), Weight::All) || cause.kind == Kind::Throttled;
    let why = if is_theirs && !cause.detail.is_empty() {
        without_addresses(&cause.detail)
    } else {
        cause.row.name.to_owned()
    };
    Cause::new(kind, format!("paused, next try in {} s: {why}", left.as_secs() + 1))
}
