//! The token buckets: governor on tokio's clock, behind a gate that keeps the order of arrival, and a pace that gives way
//! when the API says 429.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Provider;
use crate::config::values::Rate;
use crate::envelope::Transaction;
use crate::network::client_network;

/// The pace is halved at most this often: many answers to one burst are one hint.
const HALVE: Duration = Duration::from_secs(1);
/// In so much time without a 429 the pace rises by a quarter.
const RAISE: Duration = Duration::from_secs(10);
/// The slowest pace, as a part of the configured rate.
const SLOWEST: f64 = 1.0 / 64.0;
/// So many names of a [`KeyedLimiter`] are kept; beyond it the idle ones are forgotten, this often at most.
const NAMES: usize = 10_000;
/// See [`NAMES`].
const SWEEP: Duration = Duration::from_secs(1);

type Tokens = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>;

/// Lets API requests of one account pass at a rate, in their order of arrival.
pub struct Limiter {
    rate: Rate,
    burst: NonZeroU32,
    bucket: ArcSwap<Tokens>,
    // governor wakes waiters in any order; one of them at a time may ask.
    gate: Semaphore,
    pace: Mutex<Pace>,
}

/// The part of the configured rate that was left by the last 429, and when that came.
#[derive(Debug, Clone, Copy)]
struct Pace {
    part: f64,
    since: Instant,
    /// The part that the bucket was made for.
    in_force: f64,
}

impl Pace {
    /// What it has risen to.
    fn now(self) -> f64 {
        let raises = self.since.elapsed().as_secs_f64() / RAISE.as_secs_f64();
        (self.part * 1.25_f64.powf(raises)).min(1.0)
    }
}

/// The turn would come after the deadline.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLate;

impl Limiter {
    /// A full bucket of `burst` tokens, refilled at `rate`.
    pub fn new(rate: Rate, burst: NonZeroU32) -> Self {
        Self {
            rate,
            burst,
            bucket: ArcSwap::from_pointee(bucket(rate, burst, 1.0)),
            gate: Semaphore::new(1),
            pace: Mutex::new(Pace { part: 1.0, since: Instant::now(), in_force: 1.0 }),
        }
    }

    /// Waits for so many tokens, at most until `deadline`; says how long that took. More than the bucket holds are as many
    /// as it holds.
    ///
    /// # Errors
    /// [`TooLate`] as soon as it is clear that they come after the deadline.
    pub async fn acquire(&self, tokens: u32, deadline: Instant) -> Result<Duration, TooLate> {
        let start = Instant::now();
        let Ok(Ok(_turn)) = timeout_at(deadline, self.gate.acquire()).await else { return Err(TooLate) };
        self.recover();
        while let Some(not_yet) = self.ask(tokens) {
            let wait = not_yet.wait_time_from(TokioClock.now());
            if Instant::now() + wait > deadline {
                return Err(TooLate);
            }
            sleep(wait).await;
        }
        Ok(start.elapsed())
    }

    fn ask(&self, tokens: u32) -> Option<NotUntil<TokioInstant>> {
        let tokens = NonZeroU32::new(tokens).unwrap_or(NonZeroU32::MIN).min(self.burst);
        // The outer error is about more tokens than the bucket holds.
        self.bucket.load().check_n(tokens).ok()?.err()
    }

    /// The API said 429: half the pace. `Some` is the part of the configured rate that is left.
    pub fn slow_down(&self) -> Option<f64> {
        let mut pace = self.pace();
        let part = pace.now();
        let is_fresh = pace.part < 1.0 && pace.since.elapsed() < HALVE;
        let less = (part / 2.0).max(SLOWEST);
        if is_fresh || less >= part {
            return None;
        }
        *pace = Pace { part: less, since: Instant::now(), in_force: part };
        self.put_in_force(&mut pace);
        Some(less)
    }

    /// Time without a 429 has raised the pace: a bucket of the new one, once it is worth it.
    fn recover(&self) {
        let mut pace = self.pace();
        let part = pace.now();
        if part > pace.in_force && (part >= 1.0 || part >= pace.in_force * 1.25) {
            self.put_in_force(&mut pace);
        }
    }

    fn put_in_force(&self, pace: &mut Pace) {
        pace.in_force = pace.now();
        let fresh = bucket(self.rate, self.burst, pace.in_force);
        let _ = fresh.check_n(self.burst);
        self.bucket.store(Arc::new(fresh));
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A limiter for each name, of principals, say.
pub struct KeyedLimiter<K> {
    rate: Rate,
    names: Mutex<Names<K>>,
}

struct Names<K> {
    of: HashMap<K, Named>,
    swept: Instant,
}

struct Named {
    limiter: Arc<Limiter>,
    used: Instant,
}

impl<K: Hash + Eq + Clone> KeyedLimiter<K> {
    /// Full buckets of a second's (minute's, hour's) tokens, refilled at `rate`.
    pub fn new(rate: Rate) -> Self {
        Self { rate, names: Mutex::new(Names { of: HashMap::new(), swept: Instant::now() }) }
    }

    /// Waits for so many tokens of this name, at most until `deadline`. More than the bucket holds are as many as it
    /// holds.
    ///
    /// # Errors
    /// [`TooLate`] as soon as it is clear that they come after the deadline, or for a new name if there are more than can
    /// be kept.
    pub async fn acquire(&self, name: &K, tokens: u32, deadline: Instant) -> Result<(), TooLate> {
        let limiter = self.named(name).ok_or(TooLate)?;
        limiter.acquire(tokens, deadline).await.map(drop)
    }

    fn named(&self, name: &K) -> Option<Arc<Limiter>> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.of.get_mut(name) {
            known.used = Instant::now();
            return Some(Arc::clone(&known.limiter));
        }
        if names.of.len() >= NAMES {
            names.sweep(self.rate.per);
        }
        if names.of.len() >= NAMES {
            return None;
        }
        let limiter = Arc::new(Limiter::new(self.rate, self.rate.count));
        names.of.insert(name.clone(), Named { limiter: Arc::clone(&limiter), used: Instant::now() });
        Some(limiter)
    }
}

impl<K> Names<K> {
    /// Forgets those whose bucket is full again, and for whom nobody waits.
    fn sweep(&mut self, refilled_in: Duration) {
        if self.swept.elapsed() >= SWEEP {
            self.of.retain(|_, named| Arc::strong_count(&named.limiter) > 1 || named.used.elapsed() < refilled_in * 2);
            self.swept = Instant::now();
        }
    }
}

/// The buckets of those whose mail it is: principals, domains of senders, client addresses.
pub struct Shares {
    principals: Option<KeyedLimiter<String>>,
    sender_domains: Option<KeyedLimiter<String>>,
    clients: Option<KeyedLimiter<IpAddr>>,
}

impl Shares {
    /// From the rates of an account.
    pub fn new(settings: &Provider) -> Self {
        Self {
            principals: settings.rate_per_principal.0.map(KeyedLimiter::new),
            sender_domains: settings.rate_per_sender_domain.0.map(KeyedLimiter::new),
            clients: settings.rate_per_client.0.map(KeyedLimiter::new),
        }
    }

    /// Waits until everybody whose mail it is has so many tokens, at most until `deadline`.
    ///
    /// # Errors
    /// Whose share leaves no room before the deadline, in words.
    pub async fn acquire(&self, transaction: &Transaction, tokens: u32, deadline: Instant) -> Result<(), &'static str> {
        let envelope = &transaction.envelope;
        let domain = envelope.reverse_path.as_ref().map(|sender| sender.domain().to_owned());
        let wait = async |name: Option<String>, limiter: &Option<KeyedLimiter<String>>| match (limiter, name) {
            (Some(limiter), Some(name)) => limiter.acquire(&name, tokens, deadline).await,
            _ => Ok(()),
        };
        wait(envelope.principal.clone(), &self.principals).await.map_err(|TooLate| "of this login")?;
        wait(domain, &self.sender_domains).await.map_err(|TooLate| "of this sender's domain")?;
        match (&self.clients, transaction.origin.client.map(client_network)) {
            (Some(limiter), Some(client)) => {
                limiter.acquire(&client, tokens, deadline).await.map_err(|TooLate| "of this client")
            }
            _ => Ok(()),
        }
    }
}

/// A bucket for a part of the rate. One that takes another's place begins empty, or each change would let a burst pass.
fn bucket(rate: Rate, burst: NonZeroU32, part: f64) -> Tokens {
    RateLimiter::direct_with_clock(quota(rate, burst, part), TokioClock)
}

fn quota(rate: Rate, burst: NonZeroU32, part: f64) -> Quota {
    let per_token = (rate.per / rate.count.get()).div_f64(part).max(Duration::from_nanos(1));
    Quota::with_period(per_token).unwrap_or(Quota::per_second(rate.count)).allow_burst(burst)
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
