//! `sandbox`: the relay and a stand-in for the API in one process.

use std::net::SocketAddr;

use clap::Args;
use uuid::Uuid;

use super::Failure;
use crate::app;
use crate::config::ProviderKind;
use crate::config::layers::Layers;
use crate::config::listen::Listen;

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
    #[arg(long, value_name = "KIND", default_value = "scaisend", value_parser = super::account::kind)]
    provider: ProviderKind,
    /// Set one key of the configuration: --set providers.sandbox.unsupported=degrade
    #[arg(long, short, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Sandbox {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let loaded = super::load(&self.layers())?;
        app::sandbox(loaded.config).map_err(Failure::from)
    }

    /// The sandbox is the same on every machine: no file and no environment, only its own flags.
    fn layers(&self) -> Layers {
        let mut flags = vec![
            format!("smtp.listen=[\"{}\"]", Listen::smtp(self.smtp)),
            format!("web.listen={}", self.web),
            format!("providers.sandbox.kind={}", self.provider.name()),
            // A tried-out pause must not stop the next try.
            "providers.sandbox.max_hold_off=100ms".to_owned(),
            "providers.sandbox.probe_interval=100ms".to_owned(),
        ];
        if !self.set.iter().any(|set| set == "smtp.auth.passthrough=true") {
            flags.push("providers.sandbox.api_key=sandbox".to_owned());
        }
        // The stand-in does not sign as SendGrid does.
        if self.provider != ProviderKind::SendGrid {
            let secret = || Uuid::new_v4().simple();
            flags.push("webhooks.listen=127.0.0.1:0".to_owned());
            flags.push(format!("providers.sandbox.webhook_secrets=[\"whsec_{}{}\"]", secret(), secret()));
        }
        flags.extend(self.set.iter().cloned());
        Layers { file: None, environment: Vec::new(), flags }
    }
}
