//! `health`: one HTTP request to the running relay, for HEALTHCHECK in an image without a shell.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use http::Method;
use tokio::time::Instant;

use super::table::printable;
use super::{ConfigArgs, Failure};
use crate::config::layers::Layers;
use crate::network::reachable;
use crate::provider::{Payload, Request, Response};
use crate::relay::http::{HttpTransport, Transport};

/// Longest wait for the answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Ask the running relay whether it is alive (for HEALTHCHECK in an image without a shell)
///
/// Exit code 0: alive (or ready, with --ready). 1: not.
#[derive(Debug, Args)]
pub struct Health {
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask /readyz instead of /healthz: does the account take mail?
    #[arg(long)]
    ready: bool,
    /// The relay's web address [default: web.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    web: Option<SocketAddr>,
}

impl Health {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let address = match self.web {
            Some(address) => address,
            None => self.configured()?,
        };
        let path = if self.ready { "/readyz" } else { "/healthz" };
        let url = format!("http://{}{path}", reachable(address));
        let answer =
            get(&url).map_err(|e| Failure::new(format!("no answer from {url}: {e}; is the relay running?")))?;
        let said = String::from_utf8_lossy(&answer.body);
        let is_ours = said.trim() == "ok" || said.starts_with("{\"ready\":");
        if !is_ours || !matches!(answer.status, 200 | 503) {
            let status = answer.status;
            return Err(Failure::new(format!(
                "{url} answers {status}, and not like a sidepost; --web names the relay"
            )));
        }
        sayln!("{}", printable(said.trim()));
        if answer.status == 200 { Ok(()) } else { Err(Failure::new(format!("{url} answers 503"))) }
    }

    /// `web.listen` alone: a health check must not depend on the account's key file being readable to it.
    fn configured(&self) -> Result<SocketAddr, Failure> {
        let layers = Layers::of_process(self.config.config.clone(), self.config.set.clone());
        layers.value("web.listen").map_err(|problem| Failure::config(&[problem]))
    }
}

/// One request, over the client that everything else uses.
fn get(url: &str) -> Result<Response, String> {
    let transport = HttpTransport::new(None, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let url = url.to_owned();
    let request = Request { api_key: None, method: Method::GET, url, headers: Vec::new(), body: Payload::default() };
    let answer = runtime.block_on(async { transport.send(&request, Instant::now() + TIMEOUT).await });
    answer.map_err(|e| e.to_string())
}
