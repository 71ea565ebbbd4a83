//! `sandbox`: the relay and a stand-in for the API in one process.

use std::net::SocketAddr;

use clap::Args;
use uuid::Uuid;

use super::Failure;
use crate::app;
use crate::config::ProviderKind;
use crate::config::layers::Layers;
use crate::config::listen::Listen;
use crate::sandbox::curve;
use crate::secret::Secret;

/// Run the relay with a built-in stand-in for the API, and a page that shows what it was sent
///
/// Needs no account, no file and no network. Recipients steer the stand-in: ok@, suppressed@, invalid@, rate-1-1@,
/// fail-1@, fail-inf@, slow-500@, hang@, reset@, unauth@, toolarge@ … at any domain; the page lists them all.
#[derive(Debug, Args)]
pub struct Sandbox {
    /// Where SMTP listens; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:2525")]
    smtp: SocketAddr,
    /// Where the page listens; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8025")]
    web: SocketAddr,
    /// Which API the stand-in speaks
    #[arg(long, value_name = "KIND", default_value = "scaisend", value_parser = super::one_of(&ProviderKind::ALL, ProviderKind::name))]
    provider: ProviderKind,
    /// Set one key of the configuration: --set providers.sandbox.unsupported=degrade
    #[arg(long, short, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Sandbox {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (shown, private) = self.webhook_key()?;
        let loaded = super::load(&self.layers(&shown))?;
        app::sandbox(loaded.config, private).map_err(Failure::from)
    }

    /// What the relay verifies the stand-in's events with, new each time; and what they are signed with, if that is not
    /// the same.
    fn webhook_key(&self) -> Result<(String, Option<Secret>), Failure> {
        if self.provider == ProviderKind::SendGrid {
            let pair = curve::pair().ok_or_else(|| Failure::new("the machine has no random numbers for a key"))?;
            return Ok((pair.1, Some(pair.0)));
        }
        let half = || Uuid::new_v4().simple();
        Ok((format!("whsec_{}{}", half(), half()), None))
    }

    /// The sandbox is the same on every machine: no file and no environment, only its own flags.
    fn layers(&self, webhook_secret: &str) -> Layers {
        let mut flags = vec![
            format!("smtp.listen=[\"{}\"]", Listen::smtp(self.smtp)),
            format!("web.listen={}", self.web),
            format!("providers.sandbox.kind={}", self.provider.name()),
            // A tried-out pause must not stop the next try.
            "providers.sandbox.max_hold_off=100ms".to_owned(),
            "providers.sandbox.probe_interval=100ms".to_owned(),
            "webhooks.listen=127.0.0.1:0".to_owned(),
            format!("providers.sandbox.webhook_secrets=[\"{webhook_secret}\"]"),
        ];
        if !self.set.iter().any(|set| set == "smtp.auth.passthrough=true") {
            // By its key the stand-in knows which API is meant.
            let key = if self.provider == ProviderKind::SendGrid { "SG.sandbox" } else { "sandbox" };
            flags.push(format!("providers.sandbox.api_key={key}"));
        }
        flags.extend(self.set.iter().cloned());
        Layers { file: None, environment: Vec::new(), flags }
    }
}
