//! The API's own lists of suppressed addresses, asked for one recipient.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::warn;

use super::Account;
use crate::address::Address;
use crate::provider::{Listed, Request, Unanswered};
use crate::suppression::Reason;

/// How long nothing is asked after lists that did not answer, if the API does not say: the client waits for each of them.
const FAILED: Duration = Duration::from_secs(30);

impl Account {
    /// Whether the API's own lists are to be asked.
    pub fn asks_lists(&self) -> bool {
        self.asks_lists
    }

    /// The API's lists that have this address; `None`: they could not be asked before `by`, or lately.
    pub async fn ask_lists(&self, recipient: &Address, by: Instant) -> Option<Vec<(Reason, Listed)>> {
        let answer = if self.list_questions.are_paused() { None } else { self.ask_all_lists(recipient, by).await };
        self.metrics.lists_unasked.inc_by(u64::from(answer.is_none()));
        answer
    }

    async fn ask_all_lists(&self, recipient: &Address, by: Instant) -> Option<Vec<(Reason, Listed)>> {
        let questions = self.provider.lists(recipient).into_iter();
        let asked = questions.map(async |(reason, request)| {
            let listed = self.ask_list(recipient, &request, by).await?;
            Ok(listed.map(|listed| (reason, listed)))
        });
        let answers: Result<Vec<_>, Unanswered> = join_all(asked).await.into_iter().collect();
        match answers {
            Ok(found) => {
                self.list_questions.is_told.store(false, Ordering::Relaxed);
                Some(found.into_iter().flatten().collect())
            }
            Err(Unanswered { why, pause }) => {
                self.list_questions.pause(pause.unwrap_or(FAILED));
                if !self.list_questions.is_told.swap(true, Ordering::Relaxed) {
                    let error = self.journal.hide_addresses(&why);
                    warn!(account = %self.name, error, "the API's lists of suppressed addresses cannot be asked; the key needs the scope suppressions.read");
                }
                None
            }
        }
    }

    /// One question. It keeps to rate and concurrency like any request.
    async fn ask_list(
        &self,
        recipient: &Address,
        request: &Request,
        by: Instant,
    ) -> Result<Option<Listed>, Unanswered> {
        let no_turn = || Unanswered { why: "the rate limit leaves no room for questions".to_owned(), pause: None };
        self.limiter.acquire(1, by).await.map_err(|_| no_turn())?;
        let _slot = self.slot(by).await.ok_or_else(no_turn)?;
        let response = self.transport.send(request, by).await;
        let response = response.map_err(|error| Unanswered { why: error.to_string(), pause: None })?;
        self.provider.listed(recipient, &response)
    }
}
