//! One configured API account: its provider, credential, limiter, breaker and concurrency.

mod keys;
mod lists;
mod lookup;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{error, info, warn};

use super::breaker::{Breaker, Change, Pass};
use super::http::{Transport, TransportError};
use super::journal::Journal;
use super::ledger::Ledger;
use super::limiter::{Limiter, Shares};
use super::retry::{Attempts, RetryBudget, RetryPolicy};
use crate::address::Address;
use crate::config::{Ambiguous, Delivery, Fanout, Provider as Settings, RateCounts, Unsupported};
use crate::controls::Controls;
use crate::envelope::Transaction;
use crate::message::Message;
use crate::metrics::{AccountLabel, Gauge, Metrics, RequestLabel};
use crate::outcome::{Cause, Kind, Outcome, Overrides, Retry, Verdict};
use crate::plan::Terms;
use crate::provider::{self, Batch, Limits, Provider, Request};
use crate::secret::Secret;
use keys::Keys;
use lookup::Questions;

/// What a mail may have spent of its deadline when an attempt is still in time, for who sets attempt_timeout to the whole of
/// it: the reply may come so much later.
const AT_ONCE: Duration = Duration::from_secs(1);

/// One account.
pub struct Account {
    name: Arc<str>,
    provider: Box<dyn Provider>,
    limits: Limits,
    fanout: Fanout,
    unsupported: Unsupported,
    utf8_addresses: bool,
    ambiguous: Ambiguous,
    replies: Overrides,
    transport: Arc<dyn Transport>,
    limiter: Limiter,
    rate_counts: RateCounts,
    shares: Shares,
    in_flight: Semaphore,
    breaker: Mutex<Breaker>,
    retry: RetryPolicy,
    budget: Mutex<RetryBudget>,
    asks_lists: bool,
    list_questions: Questions,
    questions: Questions,
    own_keys: Keys,
    journal: Journal,
    metrics: Arc<Metrics>,
}

/// What is to be sent, in batches.
#[derive(Clone, Copy)]
pub struct Mail<'a> {
    /// Where it came from.
    pub transaction: &'a Transaction,
    /// What it says.
    pub message: &'a Message,
    /// What its headers ask for.
    pub controls: &'a Controls,
    /// Where it is noted what became of it before it is waited for.
    pub ledger: &'a Ledger,
}

/// What became of one batch.
#[derive(Debug, Default)]
pub struct Delivered {
    /// One verdict for each recipient of the batch.
    pub verdicts: Vec<Verdict>,
    /// Requests made.
    pub attempts: u32,
    /// The last HTTP status.
    pub status: Option<u16>,
    /// What the mail asked for.
    pub controls: Controls,
}

impl Delivered {
    /// Adds what became of other recipients of the same transaction.
    pub fn absorb(&mut self, other: Self) {
        self.verdicts.extend(other.verdicts);
        self.attempts += other.attempts;
        self.status = other.status.or(self.status);
        if other.controls != Controls::default() {
            self.controls = other.controls;
        }
    }
}

/// A request's place among those under way; given back when this is dropped.
struct Slot<'a> {
    _permit: SemaphorePermit<'a>,
    gauge: Gauge,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// One try at a batch.
enum Attempt {
    /// The request went out; an outcome for each recipient.
    Made(Option<u16>, Vec<Outcome>),
    /// Limiter, breaker or renderer said no before anything was sent.
    Blocked(Cause),
}

impl Account {
    /// An account from its settings, on a transport that has its credential.
    pub fn new(
        name: &str,
        settings: &Settings,
        delivery: &Delivery,
        transport: Arc<dyn Transport>,
        journal: Journal,
        metrics: Arc<Metrics>,
    ) -> Self {
        let provider = provider::build(settings);
        metrics.accounts_ready.get_or_create(&AccountLabel { account: name.to_owned() }).set(1);
        Self {
            name: name.into(),
            limits: provider.limits(),
            provider,
            fanout: settings.fanout,
            unsupported: settings.unsupported,
            utf8_addresses: settings.utf8_addresses,
            ambiguous: delivery.ambiguous,
            replies: settings.replies.clone(),
            transport,
            limiter: Limiter::new(settings.rate, NonZeroU32::new(settings.burst).unwrap_or(NonZeroU32::MIN)),
            rate_counts: settings.rate_counts,
            shares: Shares::new(settings),
            in_flight: Semaphore::new(settings.max_in_flight),
            breaker: Mutex::new(Breaker::new(settings.probe_interval, settings.max_hold_off)),
            retry: RetryPolicy { max_attempts: delivery.max_attempts, attempt_timeout: settings.attempt_timeout },
            budget: Mutex::default(),
            asks_lists: settings.ask_suppressions,
            list_questions: Questions::new(settings.max_hold_off),
            questions: Questions::new(settings.max_hold_off),
            own_keys: Keys::new(settings.max_hold_off),
            journal,
            metrics,
        }
    }

    /// The operator's name for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Longest wait for one answer.
    pub fn attempt_timeout(&self) -> Duration {
        self.retry.attempt_timeout
    }

    /// What a call can carry.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether it takes addresses beyond ASCII, as far as the operator knows.
    pub fn utf8_addresses(&self) -> bool {
        self.utf8_addresses
    }

    /// The cause as this account tells it (`replies`).
    pub fn told(&self, cause: Cause) -> Cause {
        cause.told_by(&self.replies)
    }

    /// What planning has to keep to; `apart` as in [`Terms`].
    pub fn terms(&self, apart: bool) -> Terms<'_> {
        let (fanout, unsupported) = (self.fanout, self.unsupported);
        Terms { limits: &self.limits, fanout, unsupported, utf8_addresses: self.utf8_addresses, apart }
    }

    /// Whether a mail that comes now can go before `deadline`, as far as breaker and hold-off know; `key` is the client's own.
    ///
    /// # Errors
    /// The cause of the pause.
    pub fn admit(&self, key: Option<&Secret>, deadline: Instant) -> Result<(), Cause> {
        if let Some(key) = key {
            self.own_keys.free_at(key, self.start_by(deadline)).map_err(|cause| self.told(cause))?;
        }
        match self.breaker().look(Instant::now().into_std(), self.start_by(deadline).into_std()) {
            Pass::Never(cause) => Err(self.told(cause)),
            Pass::Now | Pass::At(_) => Ok(()),
        }
    }

    /// Why the account takes no mail that has to be done by `deadline`, if it takes none.
    pub fn trouble(&self, deadline: Instant) -> Option<Cause> {
        self.breaker().trouble(Instant::now().into_std(), self.start_by(deadline).into_std())
    }

    /// Sends one batch of a transaction and repeats what may be repeated; returns before `deadline`.
    pub async fn deliver(&self, mail: Mail<'_>, mut batch: Batch, deadline: Instant) -> Delivered {
        self.budget().earn();
        if self.provider.marks() && batch.marker.is_none() {
            batch.marker = Some(mail.transaction.id.to_string().into());
        }
        let mut delivered = Delivered { verdicts: Vec::with_capacity(batch.len()), ..Delivered::default() };
        // Once one attempt has left a doubt, no later refusal takes it away.
        let mut in_doubt = false;
        // A round in which the API only sorted recipients out is no failure, and each makes the batch smaller: whom it was
        // about is done, whatever is told to them.
        let mut attempts = Attempts::default();
        loop {
            let outcomes = match self.attempt(mail, &batch, deadline).await {
                Attempt::Made(status, outcomes) => {
                    delivered.attempts += 1;
                    delivered.status = status;
                    attempts.made += u32::from(!sorts_out(&outcomes));
                    let outcomes = self.clear_up(mail, &batch, outcomes, deadline).await;
                    in_doubt |= outcomes.iter().any(leaves_doubt);
                    outcomes
                }
                Attempt::Blocked(cause) => {
                    if attempts.pause > Duration::ZERO {
                        self.budget().refund();
                    }
                    let told = vec![Outcome::from_cause(self.told(cause)); batch.len()];
                    delivered.verdicts.extend(self.verdicts(&batch, told, in_doubt));
                    return delivered;
                }
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let sorts_out = sorts_out(&outcomes);
            let goes_on = |outcome: &Outcome| if sorts_out { is_unsent(outcome) } else { is_open(outcome) };
            let cause = outcomes.iter().filter(|outcome| goes_on(outcome)).find_map(Outcome::cause);
            let wait = cause.and_then(|cause| self.retry.next(attempts, cause, left, fastrand::f64()));
            let Some(wait) = wait.filter(|_| sorts_out || self.afford_retry()) else {
                delivered.verdicts.extend(self.verdicts(&batch, outcomes, in_doubt));
                return delivered;
            };
            let (open, done): (Vec<Verdict>, Vec<Verdict>) =
                self.verdicts(&batch, outcomes, in_doubt).partition(|v| goes_on(&v.outcome));
            mail.ledger.note(mail.transaction, open.iter().chain(&done), deadline).await;
            delivered.verdicts.extend(done);
            let open: HashSet<Address> = open.into_iter().map(|v| v.recipient).collect();
            batch.retain(|recipient| open.contains(recipient));
            attempts.pause = wait;
            sleep(wait).await;
        }
    }

    /// Whether the account has a retry left.
    fn afford_retry(&self) -> bool {
        let affords = self.budget().spend();
        self.metrics.retries_refused.inc_by(u64::from(!affords));
        affords
    }

    /// `in_doubt`: whoever was not taken may have been, under the batch's marker.
    fn verdicts(&self, batch: &Batch, outcomes: Vec<Outcome>, in_doubt: bool) -> impl Iterator<Item = Verdict> {
        let account = Arc::clone(&self.name);
        let marker = batch.marker.clone();
        let outcomes = batch.recipients().cloned().zip(outcomes).collect::<Vec<_>>();
        outcomes.into_iter().map(move |(recipient, outcome)| Verdict {
            recipient,
            account: Arc::clone(&account),
            outcome: match outcome {
                Outcome::Deferred(cause) if in_doubt => Outcome::Deferred(cause.with_doubt(marker.clone())),
                other => other,
            },
        })
    }

    /// Whether there is time for an attempt that has to end by then.
    pub fn has_time(&self, deadline: Instant) -> bool {
        Instant::now() <= self.start_by(deadline) + AT_ONCE
    }

    /// No attempt waits longer than this to begin: one that the deadline cuts short ends as an unknown outcome.
    fn start_by(&self, deadline: Instant) -> Instant {
        deadline.checked_sub(self.retry.attempt_timeout).unwrap_or(deadline)
    }

    /// Its turn first, the request then: what waits for the limiter holds no rendered copy of the mail.
    async fn attempt(&self, mail: Mail<'_>, batch: &Batch, deadline: Instant) -> Attempt {
        let start_by = self.start_by(deadline);
        if !self.has_time(deadline) {
            return Attempt::Blocked(Cause::new(Kind::Overloaded, "the deadline leaves no time for an attempt"));
        }
        if let Err(cause) = self.wait_for_turn(mail.transaction, batch, start_by).await {
            return Attempt::Blocked(cause);
        }
        let Some(_slot) = self.slot(start_by).await else {
            return Attempt::Blocked(Cause::new(Kind::Overloaded, "too many requests are under way (max_in_flight)"));
        };
        let request = match self.provider.request(mail.message, mail.controls, batch) {
            Ok(request) => Request { api_key: mail.transaction.origin.api_key.clone(), ..request },
            Err(cause) => return Attempt::Blocked(cause),
        };
        if let Err(cause) = self.pass_breaker(start_by, Breaker::enter).await {
            return Attempt::Blocked(cause);
        }
        let (status, outcomes) = self.exchange(&request, batch, deadline).await;
        Attempt::Made(status, outcomes)
    }

    /// One of the requests that may be under way at a time.
    async fn slot(&self, by: Instant) -> Option<Slot<'_>> {
        let permit = timeout_at(by, self.in_flight.acquire()).await.ok()?.ok()?;
        let label = AccountLabel { account: self.name.to_string() };
        let gauge = self.metrics.requests_in_flight.get_or_create(&label).clone();
        gauge.inc();
        Some(Slot { _permit: permit, gauge })
    }

    /// One request, and what its answer means.
    async fn exchange(&self, request: &Request, batch: &Batch, deadline: Instant) -> (Option<u16>, Vec<Outcome>) {
        let begun = Instant::now();
        let until = (deadline + AT_ONCE).min(begun + self.retry.attempt_timeout);
        let answer = self.transport.send(request, until).await;
        self.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
        let (status, outcomes) = match answer {
            Ok(response) => (Some(response.status), self.provider.classify(batch, &response)),
            Err(TransportError::NotSent { kind, detail }) => {
                (None, vec![Outcome::from_cause(Cause::new(kind, detail)); batch.len()])
            }
            Err(TransportError::Lost { detail }) => {
                (None, vec![Outcome::from_cause(Cause::new(Kind::Ambiguous, detail)); batch.len()])
            }
        };
        let label = RequestLabel { account: self.name.to_string(), status: status.unwrap_or(0) };
        self.metrics.requests.get_or_create(&label).inc();
        let cause = outcomes.iter().find_map(Outcome::cause);
        // What the API has against a client's own key is that client's affair: nobody else is paused for it.
        let own = request.api_key.is_some();
        let about_the_key = cause.filter(|cause| own && is_about_the_key(cause.kind));
        if let (Some(key), Some(pause)) = (&request.api_key, about_the_key.and_then(|cause| cause.retry_after)) {
            self.own_keys.hold_off(key, pause);
        }
        let cause = cause.filter(|_| about_the_key.is_none());
        if let Some(cause) = cause {
            self.keep_pace(cause);
        }
        self.report(cause);
        let outcomes = outcomes.into_iter().map(|outcome| {
            let outcome = if own { of_own_key(outcome) } else { outcome };
            outcome.told_by(&self.replies)
        });
        (status, outcomes.collect())
    }

    /// `delivery.ambiguous = "accept"`: rather never than twice.
    fn weigh_ambiguous(&self, outcome: Outcome) -> Outcome {
        match outcome.cause() {
            Some(cause) if is_answer_lost(cause.kind) && self.ambiguous == Ambiguous::Accept => {
                warn!(account = %self.name, cause = self.journal.hide_addresses(&cause.detail), "unknown outcome counted as accepted");
                Outcome::Accepted { id: None }
            }
            _ => outcome,
        }
    }

    /// Waits a hold-off out, then for a token: in that order, or all that waited would go at one moment after the pause.
    async fn wait_for_turn(&self, transaction: &Transaction, batch: &Batch, start_by: Instant) -> Result<(), Cause> {
        let no_room = |whose: &str| {
            Cause::new(Kind::Throttled, format!("the rate limit {whose} leaves no room before the deadline"))
        };
        self.pass_breaker(start_by, |breaker, now, by| breaker.look(now, by)).await?;
        if let Some(key) = &transaction.origin.api_key
            && let Some(until) = self.own_keys.free_at(key, start_by)?
        {
            sleep_until(until).await;
        }
        let tokens = match self.rate_counts {
            RateCounts::Requests => 1,
            RateCounts::Recipients => u32::try_from(batch.len()).unwrap_or(u32::MAX),
        };
        self.shares.acquire(transaction, tokens, start_by).await.map_err(no_room)?;
        let waited = self.limiter.acquire(tokens, start_by).await.map_err(|_| no_room("of the account"))?;
        self.metrics.limiter_wait_seconds.inc_by(waited.as_secs_f64());
        Ok(())
    }

    /// Waits until the breaker says now, if that is in time.
    async fn pass_breaker(
        &self,
        start_by: Instant,
        ask: impl Fn(&mut Breaker, std::time::Instant, std::time::Instant) -> Pass,
    ) -> Result<(), Cause> {
        loop {
            let pass = ask(&mut self.breaker(), Instant::now().into_std(), start_by.into_std());
            match pass {
                Pass::Now => return Ok(()),
                Pass::At(when) => sleep_until(Instant::from_std(when)).await,
                Pass::Never(cause) => return Err(cause),
            }
        }
    }

    /// Goes slower when the API says that it is too fast.
    fn keep_pace(&self, cause: &Cause) {
        if cause.kind == Kind::Throttled
            && let Some(part) = self.limiter.slow_down()
        {
            let percent = (part * 100.0).round();
            info!(account = %self.name, percent, "429: the rate is a part of the configured one, and rises again");
        }
    }

    /// Tells the breaker, and the log when something changed.
    fn report(&self, cause: Option<&Cause>) {
        let change = match cause {
            None => self.breaker().answered(),
            Some(cause) => self.breaker().failed(cause, Instant::now().into_std()),
        };
        match (change, cause) {
            (Change::Opened, Some(cause)) => {
                self.show_ready(0);
                error!(
                    account = %self.name,
                    cause = cause.row.name,
                    status = cause.status,
                    detail = self.journal.hide_addresses(&cause.detail),
                    "account paused: mail is answered {} until a probe succeeds",
                    cause.row.code
                );
            }
            (Change::Closed, _) => {
                self.show_ready(1);
                info!(account = %self.name, "account takes mail again");
            }
            _ => {}
        }
    }

    fn show_ready(&self, ready: i64) {
        self.metrics.accounts_ready.get_or_create(&AccountLabel { account: self.name.to_string() }).set(ready);
    }

    fn budget(&self) -> MutexGuard<'_, RetryBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this outcome may be another one after the next attempt.
fn is_open(outcome: &Outcome) -> bool {
    outcome.cause().is_some_and(|cause| cause.row.retry == Retry::Within)
}

fn is_about_the_key(kind: Kind) -> bool {
    matches!(kind, Kind::Credentials | Kind::Quota | Kind::Throttled)
}

/// The client logged in with the key that the API refused: it is told that, and no operator is called.
fn of_own_key(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Deferred(cause) | Outcome::Rejected(cause) if cause.kind == Kind::Credentials => {
            Outcome::from_cause(cause.of_kind(Kind::BadLogin))
        }
        outcome => outcome,
    }
}

/// Whether the answer was lost, to us or to the API's own gateway. A 500 is the API's word that it failed.
fn is_answer_lost(kind: Kind) -> bool {
    matches!(kind, Kind::Ambiguous | Kind::Gateway)
}

/// Also a success with an error in it: who was taken, it does not say.
fn leaves_doubt(outcome: &Outcome) -> bool {
    let is_torn = |cause: &Cause| cause.kind == Kind::Unexpected && matches!(cause.status, Some(200..=299));
    outcome.cause().is_some_and(|cause| cause.kind.leaves_doubt() || is_torn(cause))
}

/// Whether the request was refused for some of its recipients alone.
fn sorts_out(outcomes: &[Outcome]) -> bool {
    outcomes.iter().any(is_unsent)
}

fn is_unsent(outcome: &Outcome) -> bool {
    outcome.cause().is_some_and(|cause| cause.kind == Kind::Unsent)
}

/// The longest time that one transaction can take on this account, for `check`: every attempt at its slowest, and every
/// backoff in between.
pub fn worst_case(attempt_timeout: Duration, max_attempts: u32) -> Duration {
    let policy = RetryPolicy { max_attempts, attempt_timeout };
    let unavailable = Cause::new(Kind::Unavailable, "");
    let longest = |attempts: &Attempts| {
        let pause = policy.next(*attempts, &unavailable, Duration::MAX, 1.0)?;
        Some(Attempts { made: attempts.made + 1, pause })
    };
    let first = Attempts { made: 1, pause: Duration::ZERO };
    let pauses = std::iter::successors(Some(first), longest).map(|attempts| attempts.pause);
    attempt_timeout * max_attempts + pauses.sum::<Duration>()
}
