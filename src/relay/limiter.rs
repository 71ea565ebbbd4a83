//! The token bucket: governor on tokio's clock, behind a gate that keeps the order of arrival.

use std::num::NonZeroU32;
use std::ops::Add;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::values::Rate;

/// Lets API requests of one account pass at a rate, in their order of arrival.
pub struct Limiter {
    bucket: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>,
    // governor wakes waiters in any order; one of them at a time may ask.
    gate: Semaphore,
}

/// The turn would come after the deadline.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLate;

impl Limiter {
    /// A full bucket of `burst` tokens, refilled at `rate`.
    pub fn new(rate: Rate, burst: NonZeroU32) -> Self {
        let per_token = rate.per / rate.count.get();
        let quota = Quota::with_period(per_token.max(Duration::from_nanos(1)))
            .unwrap_or(Quota::per_second(rate.count))
            .allow_burst(burst);
        Self { bucket: RateLimiter::direct_with_clock(quota, TokioClock), gate: Semaphore::new(1) }
    }

    /// Waits for one token, at most until `deadline`; says how long that took.
    ///
    /// # Errors
    /// [`TooLate`] as soon as it is clear that the token comes after the deadline.
    pub async fn acquire(&self, deadline: Instant) -> Result<Duration, TooLate> {
        let start = Instant::now();
        let Ok(Ok(_turn)) = timeout_at(deadline, self.gate.acquire()).await else { return Err(TooLate) };
        while let Err(not_yet) = self.bucket.check() {
            let wait = not_yet.wait_time_from(TokioClock.now());
            if Instant::now() + wait > deadline {
                return Err(TooLate);
            }
            sleep(wait).await;
        }
        Ok(start.elapsed())
    }
}

/// governor's clock over tokio's, so that tests can pause time.
#[derive(Debug, Clone, Copy)]
struct TokioClock;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TokioInstant(Instant);

impl Clock for TokioClock {
    type Instant = TokioInstant;
    fn now(&self) -> TokioInstant {
        TokioInstant(Instant::now())
    }
}

impl Reference for TokioInstant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }
    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl Add<Nanos> for TokioInstant {
    type Output = Self;
    fn add(self, nanos: Nanos) -> Self {
        Self(self.0 + Duration::from(nanos))
    }
}
