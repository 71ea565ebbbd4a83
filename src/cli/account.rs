//! Options of the commands that show what one account does: by the defaults, or as a configuration has it.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, USAGE, one_of};
use crate::config::layers::Layers;
use crate::config::{Config, Provider, ProviderKind};

/// Which account, of which configuration.
#[derive(Debug, Args)]
pub(super) struct AccountArgs {
    /// For which API [default: that of the configuration, or scaisend]
    #[arg(long, value_name = "KIND", value_parser = one_of(&ProviderKind::ALL, ProviderKind::name))]
    provider: Option<ProviderKind>,
    /// For which account of the configuration, if it has several
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// As this configuration file has it [default: none, and no environment]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key: --set sender.rewrite=always
    #[arg(long, short, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl AccountArgs {
    /// The configuration, and the account.
    pub(super) fn load(&self) -> Result<(Config, Provider), Failure> {
        let config = self.configuration()?;
        let account = self.pick(&config)?;
        Ok((config, account))
    }

    /// The file that was named; without one no file and no environment, so that the same command prints the same
    /// everywhere.
    fn configuration(&self) -> Result<Config, Failure> {
        let layers = if self.config.is_some() {
            Layers::of_process(self.config.clone(), self.set.clone())
        } else {
            let kind = self.provider.unwrap_or(ProviderKind::ScaiSend);
            let mut flags =
                vec![format!("providers.main.kind={}", kind.name()), "providers.main.api_key=none".to_owned()];
            flags.extend(self.set.iter().cloned());
            Layers { file: None, environment: Vec::new(), flags }
        };
        layers.load().map(|loaded| loaded.config).map_err(|problems| Failure::config(&problems))
    }

    fn pick(&self, config: &Config) -> Result<Provider, Failure> {
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
