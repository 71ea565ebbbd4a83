//! What the store says, and what the log hears of it: that it begins to fail, and that it works again.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::store::{Answer, StoreError};

/// Longest wait for the store: the client waits as well, and has a deadline of its own.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same once it has failed: each mail would wait again for what it most likely does not get.
const SHORT_PATIENCE: Duration = Duration::from_millis(20);

/// One use of the store. Mail flows without it.
#[derive(Debug)]
pub(super) struct Heard {
    what: &'static str,
    is_failing: AtomicBool,
}

impl Heard {
    /// `what`: what it is used for, for the log.
    pub(super) fn of(what: &'static str) -> Self {
        Self { what, is_failing: AtomicBool::default() }
    }

    /// The answer, if it is one and comes soon. What is asked for is done all the same when nobody waits any more.
    // No future of its own, here and below: each would hold room for the one within once more.
    pub(super) fn answer<T>(&self, asked: impl Future<Output = Answer<T>>) -> impl Future<Output = Option<T>> {
        self.within(PATIENCE, asked)
    }

    /// The same of what is asked for a transaction that has to end by then; it may take a moment longer.
    pub(super) fn answer_by<T>(
        &self,
        by: Instant,
        asked: impl Future<Output = Answer<T>>,
    ) -> impl Future<Output = Option<T>> {
        let left = by.saturating_duration_since(Instant::now());
        self.within(left.clamp(SHORT_PATIENCE, PATIENCE), asked)
    }

    async fn within<T>(&self, patience: Duration, asked: impl Future<Output = Answer<T>>) -> Option<T> {
        let patience = if self.is_failing.load(Ordering::Relaxed) { SHORT_PATIENCE } else { patience };
        let answer = timeout(patience, asked).await;
        let answer =
            answer.unwrap_or_else(|_| Err(StoreError(format!("no answer within {patience:?}; is the disk slow?"))));
        let was_failing = self.is_failing.swap(answer.is_err(), Ordering::Relaxed);
        match &answer {
            Err(error) if !was_failing => warn!(%error, "{} cannot be used; mail goes on without", self.what),
            Ok(_) if was_failing => info!("{} can be used again", self.what),
            _ => {}
        }
        answer.ok()
    }
}
