//! What `render` renders with: the defaults, a configuration, and what its own options say.

use super::{Allowed, Render};
use crate::cli::{Failure, USAGE};
use crate::config::Provider;
use crate::plan::Policies;
use crate::sender::SenderPolicy;

/// The settings of one account, and the policies for every mail.
pub(super) struct Setup {
    pub(super) account: Provider,
    pub(super) policies: Policies,
}

impl Render {
    /// From the configuration; what an option says wins.
    pub(super) fn setup(&self) -> Result<Setup, Failure> {
        let (config, mut account) = self.of.load()?;
        account.unsupported = self.unsupported.unwrap_or(account.unsupported);
        account.utf8_addresses |= self.utf8_addresses;
        let default_from = self.default_from.as_ref().unwrap_or(&config.sender.default);
        let sender = SenderPolicy::new(default_from, &config.sender.allowed, config.sender.rewrite)
            .map_err(|e| Failure::new(e).with_code(USAGE))?
            .with_principals(&config.smtp.senders.principals);
        let mut controls = config.controls;
        if let Some(Allowed(names)) = &self.controls {
            controls.allow.clone_from(names);
        }
        Ok(Setup { account, policies: Policies { sender, controls } })
    }
}
