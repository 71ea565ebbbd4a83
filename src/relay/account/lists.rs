//! The API's own lists of suppressed addresses, asked for one recipient.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::warn;

use super::Account;
use crate::address::Address;
use crate::provider::Listed;
use crate::suppression::Reason;

impl Account {
    /// Whether the API's own lists are to be asked.
    pub fn asks_lists(&self) -> bool {
        self.asks_lists
    }

    /// The API's lists that have this address; `None`: they could not be asked before `by`.
    pub async fn ask_lists(&self, recipient: &Address, by: Instant) -> Option<Vec<(Reason, Listed)>> {
        let questions = self.provider.lists(recipient).into_iter();
        let asked = questions.map(async |(reason, request)| {
            let response = self.transport.send(&request, by).await.map_err(|error| error.to_string())?;
            Ok(self.provider.listed(recipient, &response)?.map(|listed| (reason, listed)))
        });
        let answers: Result<Vec<_>, String> = join_all(asked).await.into_iter().collect();
        match answers {
            Ok(found) => {
                self.is_list_lost.store(false, Ordering::Relaxed);
                Some(found.into_iter().flatten().collect())
            }
            Err(error) => {
                if !self.is_list_lost.swap(true, Ordering::Relaxed) {
                    warn!(account = %self.name, error, "the API's lists of suppressed addresses cannot be asked; the key needs the scope suppressions.read");
                }
                self.metrics.lists_unasked.inc();
                None
            }
        }
    }
}
