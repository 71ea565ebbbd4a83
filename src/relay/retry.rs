//! Whether a failed attempt is repeated inside the transaction, after which pause, and whether the account can afford it.

use std::time::Duration;

use crate::outcome::{Cause, Kind, Retry};

/// Shortest pause of the backoff.
const BASE: Duration = Duration::from_millis(500);
/// Longest pause of the backoff: a deadline of half a minute leaves no room for more.
const LONGEST: Duration = Duration::from_secs(8);

/// What an account's retries keep to.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Most attempts of one request.
    pub max_attempts: u32,
    /// Time that an attempt may take; it is only begun when that much is left.
    pub attempt_timeout: Duration,
}

/// The attempts of one request so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attempts {
    /// How many were made.
    pub made: u32,
    /// The pause before the last one.
    pub pause: Duration,
}

impl RetryPolicy {
    /// The pause before the next attempt, or `None`: enough. `left` is the time until the deadline, `chance` in 0..1
    /// comes from the caller.
    ///
    /// What the API asks for is kept to exactly. Else the backoff has decorrelated jitter: anything between the shortest
    /// pause and three times the last one, so that clients that failed at one moment do not come back at one.
    pub fn next(&self, attempts: Attempts, cause: &Cause, left: Duration, chance: f64) -> Option<Duration> {
        if attempts.made >= self.max_attempts || cause.row.retry != Retry::Within {
            return None;
        }
        let room = left.checked_sub(self.attempt_timeout)?;
        let wait = match (cause.kind, cause.retry_after) {
            // Nothing to wait for: the API is well, only the request has to be another one.
            (Kind::Unsent, _) => Duration::ZERO,
            (_, Some(asked)) if !asked.is_zero() => asked,
            _ => {
                let most = (attempts.pause.max(BASE) * 3).min(LONGEST);
                let wait = BASE + most.saturating_sub(BASE).mul_f64(chance.clamp(0.0, 1.0));
                // A shorter pause is better than none.
                wait.min(room.max(BASE))
            }
        };
        (wait <= room).then_some(wait)
    }
}

/// How many retries an account can afford: a share of its requests, so that an outage is not multiplied by the number of
/// clients. A first supply is there for an account that has sent little.
#[derive(Debug)]
pub struct RetryBudget {
    /// In fifths of a retry.
    fifths: u32,
}

impl RetryBudget {
    /// Retries at the beginning, and the most that are saved up.
    const MOST: u32 = 100;
    /// What one costs; a request brings one of it.
    const COST: u32 = 5;

    /// A request goes out: a fifth of a retry more.
    pub fn earn(&mut self) {
        self.fifths = (self.fifths + 1).min(Self::MOST * Self::COST);
    }

    /// A retry was not made after all.
    pub fn refund(&mut self) {
        self.fifths = (self.fifths + Self::COST).min(Self::MOST * Self::COST);
    }

    /// Takes one retry, if there is one.
    pub fn spend(&mut self) -> bool {
        let left = self.fifths.checked_sub(Self::COST);
        self.fifths = left.unwrap_or(self.fifths);
        left.is_some()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { fifths: Self::MOST * Self::COST }
    }
}
