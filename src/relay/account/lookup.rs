//! Whether the API has a mail whose outcome is not known: it is asked for the marker that the mail carries.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::{Account, Mail, is_open, leaves_doubt};
use crate::address::Address;
use crate::metrics::LookupLabel;
use crate::outcome::{Outcome, Verdict};
use crate::provider::{Batch, Found, Personalization, Request, Search};

/// How long after the first look there is another one: the API may show a mail later than it takes it.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// Most questions about one mail: an answer may always name another page.
const MOST_QUESTIONS: usize = 12;
/// Questions of one batch that are under way at a time.
const AT_A_TIME: usize = 8;
/// How long nothing is asked after a question that was not answered, so that an API in trouble is not asked for each mail
/// that it fails; shorter than [`SECOND_LOOK`].
const FAILED: Duration = Duration::from_secs(1);
/// How long nothing is asked after the key was found to lack the right to.
const FORBIDDEN: Duration = Duration::from_mins(10);

/// Whether questions of one sort are asked at the moment.
#[derive(Debug)]
pub(super) struct Questions {
    paused_until: Mutex<Option<Instant>>,
    longest: Duration,
    /// Whether the log has heard that they cannot be asked.
    pub(super) is_told: AtomicBool,
}

impl Questions {
    /// None is paused; no pause that the API asks for is longer than this.
    pub(super) fn new(longest: Duration) -> Self {
        Self { paused_until: Mutex::default(), longest, is_told: AtomicBool::default() }
    }

    fn paused_until(&self) -> Option<Instant> {
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn are_paused(&self) -> bool {
        self.paused_until().is_some_and(|until| Instant::now() < until)
    }

    /// At least for so long, if that is not longer than any pause may be.
    pub(super) fn pause(&self, wait: Duration) {
        let wait = wait.clamp(FAILED, self.longest.max(FAILED));
        let mut paused_until = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused_until = (*paused_until).max(Some(Instant::now() + wait));
    }
}

impl Account {
    /// The same outcomes, but whose mail is in doubt and found at the API is accepted: it is looked for at once, and once
    /// more a little later. What stays in doubt counts as `delivery.ambiguous` says.
    pub(super) async fn clear_up(
        &self,
        mail: Mail<'_>,
        batch: &Batch,
        mut outcomes: Vec<Outcome>,
        deadline: Instant,
    ) -> Vec<Outcome> {
        let since = SystemTime::now();
        if outcomes.iter().any(leaves_doubt) {
            let noted: Vec<Verdict> = self.verdicts(batch, outcomes.clone(), true).collect();
            mail.ledger.note(mail.transaction, &noted, deadline).await;
        }
        for pause in [Duration::ZERO, SECOND_LOOK] {
            let in_doubt: HashSet<Address> = batch
                .recipients()
                .zip(&outcomes)
                .filter(|(_, outcome)| leaves_doubt(outcome))
                .map(|(recipient, _)| recipient.clone())
                .collect();
            let at = Instant::now() + pause;
            // Where the operator wants another attempt, that has a pause of its own.
            let is_over = !pause.is_zero() && outcomes.iter().any(is_open);
            if in_doubt.is_empty() || is_over || !self.provider.marks() || at >= deadline {
                break;
            }
            if self.questions.paused_until().is_some_and(|until| at < until) {
                continue;
            }
            sleep(pause).await;
            let mut part = batch.clone();
            part.retain(|recipient| in_doubt.contains(recipient));
            let taken = self.look_for(mail, &part, since, deadline).await;
            for (recipient, outcome) in batch.recipients().zip(&mut outcomes) {
                if let Some(verdict) = taken.iter().find(|verdict| verdict.recipient == *recipient) {
                    outcome.clone_from(&verdict.outcome);
                }
            }
        }
        outcomes.into_iter().map(|outcome| self.weigh_ambiguous(outcome)).collect()
    }

    /// The same for what an earlier try of the client left in doubt, before it is sent again: worth waiting for the end of a
    /// pause.
    pub(in crate::relay) async fn look_again(
        &self,
        mail: Mail<'_>,
        batch: &Batch,
        since: SystemTime,
        deadline: Instant,
    ) -> Vec<Verdict> {
        let by = self.start_by(deadline);
        if let Some(until) = self.questions.paused_until().filter(|until| *until < by) {
            sleep_until(until).await;
        }
        self.look_for(mail, batch, since, by).await
    }

    /// Those of a batch whose mail the API shows. Nobody else was proved not to have got it.
    async fn look_for(&self, mail: Mail<'_>, batch: &Batch, since: SystemTime, by: Instant) -> Vec<Verdict> {
        let Some(marker) = batch.marker.as_deref() else { return Vec::new() };
        // Who reads like another recipient may be taken for that one.
        let is_one = |group: &&Personalization| {
            let all = &mail.transaction.envelope.recipients;
            group.to.iter().all(|to| all.iter().filter(|other| other.reads_like(&to.address)).count() < 2)
        };
        let Mail { message, controls, .. } = mail;
        let groups = batch.personalizations.iter().filter(is_one);
        let looks = groups.map(|group| self.look(mail, Search { marker, group, message, controls, since }, by));
        let looks: Vec<_> = looks.collect();
        let found: Vec<_> = futures_util::stream::iter(looks).buffer_unordered(AT_A_TIME).collect().await;
        let mut verdicts = Vec::new();
        for (group, id) in found.into_iter().flatten() {
            verdicts.extend(group.mailboxes().map(|mailbox| Verdict {
                recipient: mailbox.address.clone(),
                account: Arc::clone(&self.name),
                outcome: Outcome::Accepted { id: Some(id.clone()) },
            }));
        }
        verdicts
    }

    /// The group, and the API's id for its mail, if the API shows that.
    async fn look<'a>(&self, mail: Mail<'_>, search: Search<'a>, by: Instant) -> Option<(&'a Personalization, String)> {
        let mut questions: VecDeque<Request> = self.provider.lookup(&search).into_iter().collect();
        for _ in 0..MOST_QUESTIONS {
            let question = questions.pop_front()?;
            match self.ask(mail, question, &search, by).await {
                Found::Taken(id) => {
                    let transaction = mail.transaction.id;
                    info!(id = %transaction, account = %self.name, provider_id = id, "the API has the mail whose answer was lost");
                    return Some((search.group, id));
                }
                Found::Perhaps(more) => questions.extend(more),
                Found::Nothing | Found::Forbidden(_) | Found::Failed(..) => {}
            }
        }
        None
    }

    /// One question. It keeps to rate and concurrency like any request, and says nothing to the breaker: the API may send
    /// well and answer no questions, or the other way round.
    async fn ask(&self, mail: Mail<'_>, request: Request, search: &Search<'_>, by: Instant) -> Found {
        if self.questions.are_paused() || self.limiter.acquire(1, by).await.is_err() {
            return Found::Nothing;
        }
        let Some(_slot) = self.slot(by).await else { return Found::Nothing };
        let own = mail.transaction.origin.api_key.clone();
        let is_own = own.is_some();
        let request = Request { api_key: own, ..request };
        let until = by.min(Instant::now() + self.retry.attempt_timeout);
        let found = match self.transport.send(&request, until).await {
            Ok(response) => self.provider.found(search, &response),
            Err(error) => Found::Failed(error.to_string(), None),
        };
        self.learn(&found, is_own);
        found
    }

    fn learn(&self, found: &Found, is_own: bool) {
        let result = match found {
            Found::Taken(_) => "found",
            Found::Perhaps(_) => "unclear",
            Found::Nothing => "not-found",
            Found::Forbidden(_) => "forbidden",
            Found::Failed(..) => "failed",
        };
        self.metrics.lookups.get_or_create(&LookupLabel { account: self.name.to_string(), result }).inc();
        match found {
            // What a client's own key may do is that client's affair.
            Found::Forbidden(_) | Found::Failed(..) if is_own => {}
            Found::Forbidden(words) => {
                self.questions.pause(FORBIDDEN);
                if !self.questions.is_told.swap(true, Ordering::Relaxed) {
                    warn!(
                        account = %self.name,
                        words = self.journal.hide_addresses(words),
                        "the key may not read messages (GET /v3/messages): mails whose answer is lost stay unknown; \
                         give it that scope, or set lookup = \"off\""
                    );
                }
            }
            Found::Failed(why, pause) => {
                let why = self.journal.hide_addresses(why);
                info!(account = %self.name, why, "asked for a mail whose answer was lost, in vain");
                self.questions.pause(pause.unwrap_or_default());
            }
            Found::Taken(_) | Found::Perhaps(_) | Found::Nothing => {}
        }
    }
}
