//! Does what stored events ask for, and keeps the store in order.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::address::{Address, Alphabet};
use crate::metrics::Metrics;
use crate::relay::journal::Journal;
use crate::store::{Acted, Answer, Changed, Store};
use crate::suppression::Policy;

/// Most events at a time: other writers wait no longer than for these.
const MOST: usize = 256;
/// The pauses after a failure, the first and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Nobody should have to ring; should somebody not have, this is how long events wait.
const IDLE: Duration = Duration::from_mins(1);
/// How often what is too old is dropped.
const UPKEEP: Duration = Duration::from_hours(1);

/// Wakes those who wait for events: to be rung when some were stored, or are to be acted on again.
#[derive(Debug, Clone, Default)]
pub struct Bell {
    worker: Arc<Notify>,
    forwarder: Arc<Notify>,
}

impl Bell {
    /// Rings. Whoever is busy hears it when he is done.
    pub fn ring(&self) {
        self.worker.notify_one();
        self.forwarder.notify_one();
    }

    /// For the forwarder.
    pub(super) async fn forwarder(&self) {
        self.forwarder.notified().await;
    }
}

/// The one who acts on events.
pub struct Worker {
    /// Where they are.
    pub store: Store,
    /// What they do.
    pub policy: Policy,
    /// Rung when there are some.
    pub bell: Bell,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How addresses are shown in the log.
    pub journal: Journal,
}

impl Worker {
    /// Works until `shutdown`. Begins with the events that a crash has left over; what is left at the end is there at the
    /// next start.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut pause = PAUSE.0;
        let mut upkeep = Instant::now();
        while !shutdown.is_cancelled() {
            let wait = match self.act(&shutdown).await {
                Ok(()) => {
                    pause = PAUSE.0;
                    IDLE
                }
                Err(error) => {
                    tracing::warn!(%error, "events wait: the store cannot be written to");
                    let longer = (pause * 2).min(PAUSE.1);
                    std::mem::replace(&mut pause, longer)
                }
            };
            if upkeep <= Instant::now() || self.store.trouble().is_some() {
                self.prune().await;
                upkeep = Instant::now() + UPKEEP;
            }
            // A bell does not mend the store.
            let rung =
                async { if wait == IDLE { self.bell.worker.notified().await } else { std::future::pending().await } };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = rung => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Acts on all that wait.
    async fn act(&self, shutdown: &CancellationToken) -> Answer<()> {
        while !shutdown.is_cancelled() {
            let acted = self.store.act(&self.policy, MOST).await?;
            self.tell(&acted);
            if acted.events < MOST {
                break;
            }
        }
        Ok(())
    }

    fn tell(&self, acted: &Acted) {
        self.metrics.suppressions_added.inc_by(acted.suppressed as u64);
        self.metrics.suppressions_lifted.inc_by(acted.lifted as u64);
        self.metrics.events_unaddressed.inc_by(acted.unaddressed.len() as u64);
        for Changed { account, kind, event_id, .. } in &acted.unaddressed {
            let kind = kind.name();
            tracing::warn!(
                account,
                event = kind,
                event_id,
                "the event names no recipient that can be read, and has no effect"
            );
        }
        for Changed { address, lifted, account, kind, event_id, reason } in &acted.changes {
            let address =
                Address::parse_in(Alphabet::Utf8, address).map(|it| self.journal.show(&it)).unwrap_or_default();
            let reason = reason.as_ref().map(|reason| self.journal.hide_addresses(reason));
            let said = if *lifted { "no longer suppressed" } else { "suppressed" };
            tracing::info!(address, account, event = kind.name(), event_id, reason, "{said}");
        }
    }

    /// Also the try that finds out whether the store can be written to again.
    async fn prune(&self) {
        match self.store.prune(SystemTime::now()).await {
            Ok(rows) if rows > 0 => tracing::info!(rows, "dropped from the store what was old, or too much"),
            Ok(_) => {}
            // Said already, by those whose events wait.
            Err(error) if self.store.trouble().as_ref() == Some(&error) => {}
            Err(error) => tracing::warn!(%error, "the store cannot be kept in order"),
        }
    }
}
