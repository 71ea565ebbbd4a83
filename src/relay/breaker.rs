//! When an account is left alone: hold-off by Retry-After, breaker by repeated failure. Pure: time comes in.

use std::time::{Duration, Instant};

use crate::outcome::{Cause, Kind};

/// Failed requests in a row that open the breaker.
const FAILURES: u32 = 5;

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

    /// As [`Breaker::enter`], without becoming the probe: for MAIL, where nothing is sent yet, and for readiness.
    pub fn look(&self, now: Instant, deadline: Instant) -> Pass {
        let closed_until = match &self.state {
            State::Closed { .. } => None,
            State::Open { until, cause } => Some((*until, cause)),
            State::Probing { since, cause } => Some((*since + self.probe_interval, cause)),
        };
        match (closed_until, &self.hold_off) {
            (Some((until, cause)), _) if until > now => Pass::Never(paused(cause, until - now)),
            (_, Some((until, cause))) if *until > deadline => Pass::Never(paused(cause, *until - now)),
            (_, Some((until, _))) if *until > now => Pass::At(*until),
            _ => Pass::Now,
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
        if let Some(pause) = cause.retry_after {
            self.hold_off = Some((now + pause.min(self.max_hold_off), cause.clone()));
        }
        let failures = match (&self.state, weight(cause.kind)) {
            (_, Weight::None) => return self.answered(),
            (State::Closed { failures }, Weight::One) if failures + 1 < FAILURES => failures + 1,
            (was, _) => {
                let change = if matches!(was, State::Closed { .. }) { Change::Opened } else { Change::None };
                self.state = State::Open { until: now + self.probe_interval, cause: cause.clone() };
                return change;
            }
        };
        self.state = State::Closed { failures };
        Change::None
    }

    /// Why the account is not ready; `None` when it is.
    pub fn trouble(&self) -> Option<&Cause> {
        match &self.state {
            State::Closed { .. } => None,
            State::Open { cause, .. } | State::Probing { cause, .. } => Some(cause),
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

/// The cause as it is told to those that meet the pause.
fn paused(cause: &Cause, left: Duration) -> Cause {
    let seconds = left.as_secs() + 1;
    let why = if cause.detail.is_empty() { cause.kind.row().name } else { &cause.detail };
    Cause { detail: format!("paused, next try in {seconds} s: {why}"), retry_after: Some(left), ..cause.clone() }
}
