//! The send calls that came in, newest first, within bounds.

use std::collections::VecDeque;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::steering::{self, Fate};
use super::summary::Summary;
use crate::config::ProviderKind;

/// One mail that an API call asked for, taken or not.
#[derive(Debug, Clone, Serialize)]
pub struct Mail {
    /// The API's id for it; a refused one has an id for the page only.
    pub id: String,
    /// When the call came.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// Which API was spoken.
    #[serde(serialize_with = "name")]
    pub provider: ProviderKind,
    /// Whether the mail was taken.
    pub taken: bool,
    /// The answer, in words.
    pub answer: String,
    /// Which personalization of the call it is.
    pub personalization: usize,
    /// Sent with a test key or in sandbox mode: no events follow.
    pub test: bool,
    /// Who, to whom, what.
    #[serde(flatten)]
    pub summary: Summary,
    /// The request's body, exactly; shared by all mails of a call.
    #[serde(skip)]
    pub payload: Bytes,
    /// This mail's share of the payload, in octets.
    #[serde(skip)]
    pub share: usize,
}

impl Mail {
    /// A fresh id with the prefix that the APIs use.
    pub fn fresh_id() -> String {
        format!("msg_{}", Uuid::now_v7().simple())
    }

    /// ScaiSend's word for where the mail is.
    pub fn status(&self) -> &'static str {
        match self.fate() {
            _ if self.test => "sandbox",
            Fate::Bounced => "bounced",
            Fate::Delivered | Fate::Complained | Fate::Unsubscribed => "delivered",
        }
    }

    /// What becomes of it at its first recipient.
    pub fn fate(&self) -> Fate {
        self.summary.to.first().map_or(Fate::Delivered, |party| steering::fate(&party.email))
    }

    fn octets(&self) -> usize {
        self.share + self.summary.octets()
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants a reference.
fn name<S: Serializer>(provider: &ProviderKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(provider.name())
}

/// The newest mails; the oldest go when there are too many or they are too large.
#[derive(Debug)]
pub struct Mailbox {
    mails: VecDeque<Mail>,
    octets: usize,
    revision: u64,
    most_mails: usize,
    most_octets: usize,
}

impl Mailbox {
    /// An empty one with its bounds.
    pub fn new(most_mails: usize, most_octets: usize) -> Self {
        Self { mails: VecDeque::new(), octets: 0, revision: 0, most_mails, most_octets }
    }

    /// Puts in one mail.
    pub fn push(&mut self, mail: Mail) {
        self.revision += 1;
        self.octets += mail.octets();
        self.mails.push_front(mail);
        while self.mails.len() > self.most_mails || self.octets > self.most_octets {
            let Some(oldest) = self.mails.pop_back() else { break };
            self.octets -= oldest.octets();
        }
    }

    /// Puts in some, oldest first.
    pub fn extend(&mut self, mails: Vec<Mail>) {
        for mail in mails {
            self.push(mail);
        }
    }

    /// Throws all away.
    pub fn clear(&mut self) {
        self.revision += 1;
        self.octets = 0;
        self.mails.clear();
    }

    /// All mails, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Mail> {
        self.mails.iter()
    }

    /// One mail.
    pub fn get(&self, id: &str) -> Option<&Mail> {
        self.mails.iter().find(|mail| mail.id == id)
    }

    /// Changes whenever the content does, so that a reader need not compare.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}
