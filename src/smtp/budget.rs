//! How many message octets may be held at a time, over all connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Metrics;

/// Octets are taken in steps of this, so that a long message does not touch the shared counter with every read.
const STEP: usize = 16 * 1024;

/// The octets that are left.
#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Budget {
    /// A budget of so many octets; `in_flight_bytes` shows how many are held.
    pub fn new(octets: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(octets), metrics })
    }

    /// A share of nothing yet.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), octets: 0 }
    }

    /// Whether a message that is announced to be so long would fit in now: its client need not send it to hear that it does
    /// not.
    pub fn has_room(&self, octets: u64) -> bool {
        usize::try_from(octets).is_ok_and(|octets| octets <= self.left.load(Ordering::Acquire))
    }

    fn take(&self, octets: usize) -> bool {
        let taken =
            self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(octets)).is_ok();
        if taken {
            self.metrics.in_flight_bytes.inc_by(signed(octets));
        }
        taken
    }
}

/// What one transaction holds of the budget; it goes back when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    octets: usize,
}

impl Share {
    /// Makes sure that the share covers `octets`; says whether it does. What was announced is never taken, only what
    /// has come.
    pub fn cover(&mut self, octets: usize) -> bool {
        let missing = octets.saturating_sub(self.octets).next_multiple_of(STEP);
        let covered = missing == 0 || self.budget.take(missing);
        if covered {
            self.octets += missing;
        }
        covered
    }

    /// Gives everything back.
    pub fn release(&mut self) {
        let octets = std::mem::take(&mut self.octets);
        if octets == 0 {
            return; // Asked with every line, and nearly always so.
        }
        self.budget.left.fetch_add(octets, Ordering::AcqRel);
        self.budget.metrics.in_flight_bytes.dec_by(signed(octets));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release();
    }
}

fn signed(octets: usize) -> i64 {
    i64::try_from(octets).unwrap_or(i64::MAX)
}
