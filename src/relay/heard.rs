//! What the store says, and what the log hears of it: that it begins to fail, and that it works again.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};

use crate::store::Answer;

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

    /// The answer, if it is one.
    pub(super) fn answer<T>(&self, answer: Answer<T>) -> Option<T> {
        let was_failing = self.is_failing.swap(answer.is_err(), Ordering::Relaxed);
        match &answer {
            Err(error) if !was_failing => warn!(%error, "{} cannot be used; mail goes on without", self.what),
            Ok(_) if was_failing => info!("{} can be used again", self.what),
            _ => {}
        }
        answer.ok()
    }
}
