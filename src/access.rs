//! Which envelope addresses are taken: the lists that MAIL and RCPT are held against.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::address::Address;
use crate::pattern::Patterns;

/// An address has to match `allow`, unless that is empty, and must not match `deny`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Lists {
    /// The addresses that are taken; empty: all.
    #[serde(default)]
    pub allow: Patterns,
    /// The addresses that are not, although `allow` may have them.
    #[serde(default)]
    pub deny: Patterns,
}

/// The lists for MAIL: those for everybody, and one for each principal that has its own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Senders {
    /// As in [`Lists`].
    #[serde(default)]
    pub allow: Patterns,
    /// As in [`Lists`].
    #[serde(default)]
    pub deny: Patterns,
    /// What a principal may send as, besides; one that is not named is bound by the lists for everybody alone.
    #[serde(default)]
    pub principals: BTreeMap<String, Patterns>,
}

/// Both ends of the envelope.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `[smtp.senders]`.
    pub senders: Senders,
    /// `[smtp.recipients]`.
    pub recipients: Lists,
}

/// Why an address is not taken. Displays as the end of the sentence in the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// `deny` has it.
    #[error("it is on the list \"deny\"")]
    Listed,
    /// `allow` does not have it.
    #[error("it is not on the list \"allow\"")]
    NotListed,
    /// The principal's own list does not have it.
    #[error("it is not among the addresses of this login")]
    NotOfPrincipal,
}

impl Access {
    /// Whether this client may send as `reverse_path`; `None` is the null reverse-path.
    ///
    /// # Errors
    /// Why not.
    pub fn sender(&self, principal: Option<&str>, reverse_path: Option<&Address>) -> Result<(), Denied> {
        judge(&self.senders.allow, &self.senders.deny, reverse_path)?;
        match principal.and_then(|principal| self.senders.principals.get(principal)) {
            Some(own) if !own.has(reverse_path) => Err(Denied::NotOfPrincipal),
            _ => Ok(()),
        }
    }

    /// Whether mail for `recipient` is taken.
    ///
    /// # Errors
    /// Why not.
    pub fn recipient(&self, recipient: &Address) -> Result<(), Denied> {
        judge(&self.recipients.allow, &self.recipients.deny, Some(recipient))
    }
}

fn judge(allow: &Patterns, deny: &Patterns, address: Option<&Address>) -> Result<(), Denied> {
    if deny.has(address) {
        Err(Denied::Listed)
    } else if allow.allows(address) {
        Ok(())
    } else {
        Err(Denied::NotListed)
    }
}
