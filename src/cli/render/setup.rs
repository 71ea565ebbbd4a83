//! What `render` renders with: the defaults, a configuration, and what its own options say.

use super::{Allowed, Render};
use crate::cli::{Failure, USAGE};
use crate::config::layers::Layers;
use crate::config::{Config, Provider, ProviderKind};
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
        let config = self.configuration()?;
        let mut account = self.pick_account(&config)?;
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

    /// The file that was named; without one no file and no environment, so that the same command prints the same
    /// everywhere.
    fn configuration(&self) -> Result<Config, Failure> {
        let layers = if self.config.is_some() {
            Layers::of_process(self.config.clone(), self.set.clone())
        } else {
            let kind = self.provider.unwrap_or(ProviderKind::ScaiSend);
            let mut flags =
                vec![format!("providers.render.kind={}", kind.name()), "providers.render.api_key=none".to_owned()];
            flags.extend(self.set.iter().cloned());
            Layers { file: None, environment: Vec::new(), flags }
        };
        layers.load().map(|loaded| loaded.config).map_err(|problems| Failure::config(&problems))
    }

    fn pick_account(&self, config: &Config) -> Result<Provider, Failure> {
        let fits = |(name, account): &(&String, &Provider)| {
            self.account.as_ref().is_none_or(|wanted| wanted == *name)
                && self.provider.is_none_or(|kind| kind == account.kind)
        };
        let found: Vec<(&String, &Provider)> = config.providers.iter().filter(fits).collect();
        if let [(_, account)] = found.as_slice() {
            return Ok((*account).clone());
        }
        let names: Vec<&str> = config.providers.keys().map(String::as_str).collect();
        let text = format!("name one account of the configuration with --account: {}", names.join(", "));
        Err(Failure::new(text).with_code(USAGE))
    }
}
