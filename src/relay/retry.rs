//! Whether a failed attempt is repeated inside the transaction, and after which pause.

use std::time::Duration;

use crate::outcome::{Cause, Kind, Retry};

/// First pause of the backoff; it doubles with each attempt (the vendors' own clients: 1, 2, 4 s).
const BASE: Duration = Duration::from_secs(1);
/// Longest random addition to a pause, so that many clients do not come back at the same moment.
const JITTER: Duration = Duration::from_millis(500);

/// What an account's retries keep to.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Most attempts of one request.
    pub max_attempts: u32,
    /// Time that an attempt may take; it is only begun when that much is left.
    pub attempt_timeout: Duration,
}

impl RetryPolicy {
    /// The pause before the next attempt, or `None`: enough. `attempt` counts those made, `left` is the time until the
    /// deadline, `chance` in 0..1 comes from the caller.
    pub fn next(&self, attempt: u32, cause: &Cause, left: Duration, chance: f64) -> Option<Duration> {
        if attempt >= self.max_attempts || cause.kind.row().retry == Retry::Never {
            return None;
        }
        let wait = match (cause.kind, cause.retry_after) {
            // Nothing to wait for: the API is well, only the request has to be another one.
            (Kind::Unsent, _) => Duration::ZERO,
            (_, Some(asked)) if !asked.is_zero() => asked,
            _ => {
                BASE * 2_u32.saturating_pow(attempt.saturating_sub(1)).min(60) + JITTER.mul_f64(chance.clamp(0.0, 1.0))
            }
        };
        (wait + self.attempt_timeout <= left).then_some(wait)
    }
}
