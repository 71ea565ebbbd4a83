//! Which accounts serve a mail, and in which order: the operator's `[[routes]]`.

use std::collections::BTreeMap;

use serde::Deserialize;
use wildmatch::WildMatch;

use crate::address::Address;
use crate::envelope::Envelope;
use crate::pattern::Patterns;

/// One route: the accounts for mails that meet all of its conditions. A condition that is not given is met.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Route {
    /// The reverse-path is one of these.
    #[serde(default)]
    pub sender: Patterns,
    /// The recipient is one of these: each recipient of a mail finds its own route.
    #[serde(default)]
    pub recipient: Patterns,
    /// Who logged in is one of these; `*` stands for any text.
    #[serde(default)]
    pub principal: Vec<String>,
    /// The listener, as `smtp.listen` writes it without what follows a `?`.
    #[serde(default)]
    pub listener: Vec<String>,
    /// Header fields and what they say; `*` stands for any text.
    #[serde(default)]
    pub header: BTreeMap<String, String>,
    /// Whether its mail also goes to those who only unsubscribed.
    #[serde(default)]
    pub transactional: bool,
    /// The accounts: the first, and those that follow where one could certainly not send.
    #[serde(rename = "use")]
    pub accounts: Vec<String>,
}

/// All routes in their order.
#[derive(Debug, Clone, Default)]
pub struct Routes(pub Vec<Route>);

/// What is known of a mail.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Sender and principal.
    pub envelope: &'a Envelope,
    /// The listener's URL without options.
    pub listener: &'a str,
    /// The header fields; none at MAIL.
    pub headers: &'a [(String, String)],
}

impl Routes {
    /// Whether any route asks for a header field, so that one has to look.
    pub fn look_at_headers(&self) -> bool {
        self.0.iter().any(|route| !route.header.is_empty())
    }

    /// The route of one recipient: the first one whose conditions are all met.
    pub fn route(&self, facts: Facts<'_>, recipient: &Address) -> Option<&Route> {
        self.0.iter().find(|route| {
            route.is_met_at_mail(facts) && route.recipient.allows(Some(recipient)) && route.has_headers(facts)
        })
    }

    /// The routes that may serve this recipient of a mail of which the headers are not known: up to the first one that does
    /// not look at them.
    pub fn for_recipient<'a>(&'a self, facts: Facts<'_>, recipient: &Address) -> impl Iterator<Item = &'a Route> {
        let met = |route: &&Route| route.is_met_at_mail(facts) && route.recipient.allows(Some(recipient));
        let met: Vec<&Route> = self.0.iter().filter(met).collect();
        let enough = met.iter().position(|route| route.header.is_empty()).map_or(met.len(), |last| last + 1);
        met.into_iter().take(enough)
    }

    /// The accounts that may serve a mail of which only the sender is known: up to the first route that waits for nothing
    /// more.
    pub fn candidates(&self, facts: Facts<'_>) -> Vec<&str> {
        let mut candidates = Vec::new();
        for route in self.0.iter().filter(|route| route.is_met_at_mail(facts)) {
            candidates.extend(route.accounts.iter().map(String::as_str));
            if route.recipient.0.is_empty() && route.header.is_empty() {
                break;
            }
        }
        candidates
    }
}

impl Route {
    /// The names of its keys in the configuration.
    pub const KEYS: [&str; 7] = ["sender", "recipient", "principal", "listener", "header", "transactional", "use"];

    /// Whether it has no condition.
    pub fn takes_all(&self) -> bool {
        let of_envelope = self.sender.0.is_empty() && self.recipient.0.is_empty();
        of_envelope && self.principal.is_empty() && self.listener.is_empty() && self.header.is_empty()
    }

    fn is_met_at_mail(&self, facts: Facts<'_>) -> bool {
        let principal = facts.envelope.principal.as_deref();
        let is_named = |name: &String| principal.is_some_and(|principal| WildMatch::new(name).matches(principal));
        self.sender.allows(facts.envelope.reverse_path.as_ref())
            && (self.principal.is_empty() || self.principal.iter().any(is_named))
            && (self.listener.is_empty() || self.listener.iter().any(|listener| listener == facts.listener))
    }

    fn has_headers(&self, facts: Facts<'_>) -> bool {
        self.header.iter().all(|(name, value)| {
            let pattern = WildMatch::new_case_insensitive(value);
            facts.headers.iter().any(|(field, text)| field.eq_ignore_ascii_case(name) && pattern.matches(text))
        })
    }
}
